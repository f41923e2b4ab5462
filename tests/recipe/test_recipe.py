"""Recipes: what is read from files, overrides and Python, what is refused, and in which words."""

import dataclasses
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gffnet.errors import UserError
from gffnet.recipe import (
    BackboneRecipe,
    DataSize,
    EvaluationRecipe,
    LossRecipe,
    ModelRecipe,
    Recipe,
    RecipeError,
    StrictLoader,
    TrainingRecipe,
    dump_yaml,
    from_mapping,
    load_recipe,
    load_unresolved,
    recipe_from_mapping,
    recipe_json_schema,
    resolve_auto,
)

NAME = "cityscapes/gffnet_r101"
OWN = "folder/gffnet_r18"


def refusal(*overrides: str, recipe: str | Path = NAME) -> str:
    """The error of loading `recipe` with `overrides`."""
    with pytest.raises(UserError) as raised:
        load_recipe(recipe, overrides)
    message = str(raised.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# Files and overrides


def test_a_file_is_merged_into_its_base(tmp_path: Path) -> None:
    base = load_recipe(NAME)
    recipe = load_recipe(written(tmp_path, f"base: {NAME}\ntraining: {{batch: 4}}\nevaluation: {{scales: [0.5]}}\n"))
    training, evaluation = dataclasses.replace(base.training, batch=4), EvaluationRecipe((864, 864), scales=(0.5,))
    assert recipe == dataclasses.replace(base, training=training, evaluation=evaluation)
    written(tmp_path, "seed: 7\n", "first.yaml")
    written(tmp_path, "base: ../first.yaml\nprecision: float32\n", "deeper/second.yaml")
    assert load_recipe(tmp_path / "deeper/second.yaml") == Recipe(seed=7, precision="float32")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.iterations=2_000", "training.iterations", 2000),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.new_layers_multiplier=1", "training.new_layers_multiplier", 1.0),
        ("training.crop=[512, 256]", "training.crop", [512, 256]),
        ("training.scales=[1, 2]", "training.scales", [1.0, 2.0]),
        ("training.flip=false", "training.flip", False),
        ("training.init_from=runs/a=b", "training.init_from", "runs/a=b"),
        ("training.init_from=null", "training.init_from", None),
        ("training.init_from=", "training.init_from", None),
        ("data.train_split=train+val", "data.train_split", "train+val"),
        ("model.backbone.name=resnet18", "model.backbone.name", "resnet18"),
        ("model.backbone.output_stride=null", "model.backbone.output_stride", None),
        ("model.pyramid_kernel=3", "model.pyramid_kernel", 3),
        ("evaluation.crop=null", "evaluation.crop", None),
        ("evaluation.overlap=0", "evaluation.overlap", 0.0),
        ("seed=3", "seed", 3),
    ],
)
def test_an_override_sets_its_key_and_no_other(override: str, key: str, value: object) -> None:
    expected = load_recipe(NAME).to_mapping()
    *sections, last = key.split(".")
    inner = expected
    for section in sections:
        inner = inner[section]
    inner[last] = value
    mapping = load_recipe(NAME, ["seed=1", "seed=0", override]).to_mapping()  # the last override of a key wins
    assert json.dumps(mapping) == json.dumps(expected)  # which tells 1 from 1.0


RGB_MEAN, RGB_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet


@pytest.mark.parametrize(
    ("in_channels", "mean", "std"),
    [
        (1, (sum(RGB_MEAN) / 3,), (sum(RGB_STD) / 3,)),
        (2, RGB_MEAN[:2], RGB_STD[:2]),
        (3, RGB_MEAN, RGB_STD),
        (8, (*RGB_MEAN, *RGB_MEAN, *RGB_MEAN[:2]), (*RGB_STD, *RGB_STD, *RGB_STD[:2])),
    ],
)
def test_mean_and_std_fit_the_channels(in_channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    model = load_recipe(NAME, [f"model.backbone.in_channels={in_channels}"]).model
    assert (model.mean, model.std) == (mean, std)
    assert load_recipe(NAME, [f"model.backbone.in_channels={in_channels}", "model.mean=null"]).model == model
    assert recipe_from_mapping(Recipe(model=model).to_mapping(), "again").model == model
    given = [float(number) for number in range(in_channels)]
    own = load_recipe(NAME, [f"model.backbone.in_channels={in_channels}", f"model.mean={given}"]).model
    assert (own.mean, own.std) == (tuple(given), std)


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    message = refusal(recipe="cityscape/gffnet_r101")
    assert message.startswith("recipe 'cityscape/gffnet_r101' is unknown. Did you mean 'cityscapes/gffnet_r101'?")
    assert message.count("cityscapes/") > 4
    assert "camvid" not in message
    assert "Did you mean 'cityscapes/gffnet_r18'?" in refusal(recipe=written(tmp_path, "base: cityscapes/gffnet_18\n"))
    path = tmp_path / "none.yaml"
    assert refusal(recipe=path).startswith(f"recipe file {path} does not exist.")
    assert "without .yaml" in refusal(recipe="cityscapes/gffnet_r101.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "not valid YAML: "),
        ("a: b: c", "not valid YAML: "),
        ("\t- x", "not valid YAML: "),
        ("seed: 1\nbatch", "not valid YAML: "),
        ("seed: 2020-13-45", "not valid YAML: month must be in 1..12"),
        ("training:\n  batch: 8\n  crop: [64, 64]\n  batch: 4\n", "not valid YAML: 'batch' twice"),
        ("- 1\n- 2", "the file must hold `key: value` lines, got [1, 2]."),
        ("resnet101", "the file must hold `key: value` lines, got 'resnet101'."),
        ("", "the file must hold `key: value` lines, got None."),
        ("base: 3", "base: expected the name of a recipe or a .yaml file, got 3."),
        ("base: null", "base: expected the name of a recipe or a .yaml file, got None."),
        (
            "model: {backbone: {nam: resnet18}}",
            "model.backbone.nam is unknown. Did you mean model.backbone.name? Allowed: name, ",
        ),
        ("training: {1: 2}", "training.1 is unknown. Allowed: iterations, batch, "),
        ("1: 2", "1 is unknown. Allowed: model, data, training, "),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    assert refusal(recipe=path).startswith(f"recipe {path}: {said}")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("010", 10), ("08", 8), ("-7", -7), ("+3", 3), ("1_000", 1000), ("0x1f", 31), ("0o17", 15)],
        *[("1e-3", 1e-3), ("1.5e3", 1500.0), ("-1.5E3", -1500.0), ("1.5e+3", 1500.0), (".5", 0.5), ("1.", 1.0)],
        *[(".inf", math.inf), ("1:30", "1:30"), ("1-2", "1-2"), (".", "."), ("0b11", "0b11")],
    ],
)
def test_numbers_are_those_of_yaml_1_2(text: str, number: object) -> None:
    found = yaml.load(text, StrictLoader)
    assert (found, type(found)) == (number, type(number))
    assert yaml.load(yaml.safe_dump(number), StrictLoader) == number


@pytest.mark.parametrize(
    "value",
    [
        *["08", "010", "0o17", "1e3", "1.5e3", "1_000", ".5", "1:30", "0b11", "no", "null", "~", "2020-01-01", "", "a"],
        *[8, 1e-05, 1000.0, math.inf, None, True, [0.5, "1e3"]],
    ],
)
def test_what_a_recipe_holds_is_read_back_by_either_version_of_yaml(value: object) -> None:
    text = dump_yaml({"key": value})
    assert yaml.load(text, StrictLoader) == yaml.safe_load(text) == {"key": value}


def test_a_recipe_in_another_encoding(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    file.write_text("seed: 7 # Stra\u00dfe\n", "utf-16")
    assert load_recipe(file).seed == 7
    file.write_text("seed: 7 # Stra\u00dfe\n", "latin-1")
    assert refusal(recipe=file) == f"recipe {file} is not UTF-8 text (line 1). Save it as UTF-8."


def test_bases_that_form_a_cycle(tmp_path: Path) -> None:
    first = written(tmp_path, "base: deeper/second.yaml\n", "first.yaml")
    written(tmp_path, "base: ../first.yaml\n", "deeper/second.yaml")
    assert refusal(recipe=first).count(" -> ") == 2
    assert "its bases form a cycle" in refusal(recipe=written(tmp_path, "base: mine.yaml\n"))


# Keys and values

CROP = "Height and width of a training crop, in pixels."


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sead=1", "sead is unknown. Did you mean seed? Allowed: model, data, training, evaluation, seed, "),
        (
            "training.iteration=1",
            "training.iteration is unknown. Did you mean training.iterations? Allowed: iterations, ",
        ),
        (
            "model.backbone.wieghts=none",
            "model.backbone.wieghts is unknown. Did you mean model.backbone.weights? Allowed: name, ",
        ),
        ("zzz=1", "zzz is unknown. Allowed: model, data, training, evaluation, seed, precision, plugins."),
        ("training=5", "training must hold `key: value` lines, got 5."),
        ("training=null", "training must hold `key: value` lines, got None."),
        ("model=[]", "model must hold `key: value` lines, got []."),
        ("model.mean=[1, 2, 3, 4]", "model.mean has 4 values and model.std 3: allowed is one per input channel, and"),
        ("model.std=[1]", "model.mean has 3 values and model.std 1: allowed is one per input channel, and"),
        ("model.channels=0", "model.channels: must be greater than or equal to 1, got 0."),
        ("model.refinement=-1", "model.refinement: must be greater than or equal to 0, got -1."),
        ("model.fusion=none", "model.dense_pyramid 'dense' works on fused maps, but model.fusion is 'none': name a "),
        ("training.crop=[64]", f"training.crop[1] is missing. {CROP}"),
        ("training.batch.size=4", None),
        ("training.batch", None),
        ("=4", None),
        ("", None),
        ("training.crop=[1, 2", None),
    ],
)
def test_a_wrong_override(override: str, said: str | None) -> None:
    assert refusal(override).startswith(f"--set {override!r}" if said is None else f"recipe {NAME}: {said}")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # another type
        ("training.iterations=x", "a valid integer, got 'x'. Optimiser steps."),
        ("training.iterations=1.0", "a valid integer, got 1.0."),
        ("training.iterations=2e3", "a valid integer, got 2000.0."),
        ("training.iterations='8'", "a valid integer, got '8'."),
        ("training.batch=true", "a valid integer, got True. Images per iteration, over all devices."),
        ("training.batch=null", "a valid integer, got None."),
        ("training.learning_rate=fast", "a valid number, got 'fast'. Initial learning rate."),
        ("training.learning_rate=true", "a valid number, got True."),
        ("training.learning_rate=[1]", "a valid number, got [1]."),
        (f"training.learning_rate={10**400}", "a valid number, got 1000"),
        ("training.flip=1", "a valid boolean, got 1."),
        ("training.flip=1.0", "a valid boolean, got 1.0. Did you mean true?"),
        ("training.init_from=3", "a valid string, got 3. A run folder to initialise from."),
        ("model.backbone.name=null", "a valid string, got None."),
        ("model.mean=120", "a valid list, got 120."),
        ("training.crop='64'", f"a valid list, got '64'. Did you mean [64, 64]? {CROP}"),
        (
            "evaluation.crop=512",
            "a valid list, got 512. Did you mean [512, 512]? Height and width of the sliding window, in pixels; null: ",
        ),
        ("model.fusion=false", "a valid string, got False."),
        # out of range
        ("model.backbone.output_stride=12", "8, 16 or 32, got 12. Stride of `X_4`; null: the model's own."),
        ("model.pyramid_kernel=2", "1 or 3, got 2."),
        ("training.iterations=0", "greater than or equal to 1, got 0."),
        ("training.workers=-1", "greater than or equal to 0, got -1."),
        ("training.learning_rate=0", "greater than 0, got 0."),
        ("training.learning_rate=.nan", "a finite number, got nan."),
        ("training.learning_rate=.inf", "a finite number, got inf."),
        ("training.momentum=1", "less than 1, got 1."),
        ("training.weight_decay=-1e-4", "greater than or equal to 0, got -0.0001."),
        ("training.ema=1.5", "less than or equal to 1, got 1.5."),
        ("training.class_balance=-1", "greater than or equal to 0, got -1."),
        ("evaluation.overlap=1.0", "less than 1, got 1.0."),
        # another word
        (
            "model.fusion=gated-fpn",
            "one of 'none', 'concat', 'addition', 'fpn', 'gated_fpn', 'gff', got 'gated-fpn'. Did",
        ),
        (
            "model.context=aspp",
            "one of 'pyramid_pooling', 'dense_aspp', 'none', got 'aspp'. Did you mean 'dense_aspp'?",
        ),
        ("model.dense_pyramid=thick", "one of 'none', 'dense', 'literal', got 'thick'."),
        ("data.name=cityscape", "one of "),
        ("training.optimizer=adamv", "'sgd', 'nesterov', 'adam', 'adamw', 'lion' or 'lamb', got 'adamv'. Did you mean"),
        # `auto` stands in four places only
        ("training.batch=auto", "a valid integer, got 'auto'."),
        ("evaluation.overlap=auto", "a valid number, got 'auto'."),
        ("training.iterations=Auto", "a valid integer, got 'Auto'."),
    ],
)
def test_a_value_that_does_not_fit_its_key(override: str, expected: str) -> None:
    key = override.partition("=")[0]
    assert refusal(override).startswith(f"recipe {NAME}: {key}: must be {expected}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.mean=[1, b, 3]", "model.mean[1]: must be a valid number, got 'b'."),
        ("training.crop=[64.0, 64]", "training.crop[0]: must be a valid integer, got 64.0."),
        ("training.crop=[512, 8]", "training.crop[1]: must be greater than or equal to 16, got 8."),
        ("training.crop=[1, 2, 3]", "training.crop: must have at most 2 items"),
        ("training.scales=[2.0, 0.75]", "training.scales: must have the smaller first, got [2.0, 0.75]."),
        ("evaluation.scales=[]", "evaluation.scales: must have at least 1 item"),
        ("model.std=[1, 1, 0]", "model.std[2]: must be greater than 0, got 0."),
    ],
)
def test_a_list_that_does_not_fit_its_key(override: str, said: str) -> None:
    assert refusal(override).startswith(f"recipe {NAME}: {said}")


# In Python


@pytest.mark.parametrize(
    ("construct", "said"),
    [
        (lambda: TrainingRecipe(iterations="a"), "TrainingRecipe: iterations: must be a valid integer, got 'a'. "),
        (lambda: BackboneRecipe("r", "none", 12), "BackboneRecipe: output_stride: must be 8, 16 or 32, got 12. "),
        (lambda: ModelRecipe(fusio="gff"), "ModelRecipe: fusio is unknown. Did you mean fusion? Allowed: backbone, "),
        (lambda: ModelRecipe(dense_pyramid="dense"), "ModelRecipe: model.dense_pyramid 'dense' works on fused maps"),
        (lambda: LossRecipe(class_weighting="enet", class_weights=[1]), "LossRecipe: training.loss.class_weights are"),
        (lambda: TrainingRecipe(optimizer="nesterov", momentum=0), "TrainingRecipe: training.momentum is 0.0, and"),
        (lambda: dataclasses.replace(Recipe(), seed=-1), "Recipe: seed: must be greater than or equal to 0, got -1. "),
        (
            lambda: Recipe(training={"crop": [8, 8]}),
            f"Recipe: training.crop[0]: must be greater than or equal to 16, got 8. {CROP}",
        ),
        (lambda: Recipe(training=BackboneRecipe()), "Recipe: training must hold `key: value` lines, got Backbone"),
        (lambda: BackboneRecipe("r", "none", 8, 3, 1), "BackboneRecipe: 4: Unexpected positional argument"),  # type: ignore[call-arg]
        (lambda: from_mapping(ModelRecipe, {"fusio": 1}, "config.json"), "config.json: fusio is unknown. Did you mean"),
    ],
)
def test_python_is_refused_in_the_same_words(construct: Callable[[], object], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        construct()
    assert str(raised.value).startswith(said)
    assert isinstance(raised.value, UserError)
    assert isinstance(raised.value, ValueError)


def test_a_recipe_is_a_frozen_dataclass() -> None:
    recipe = load_recipe(NAME)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.training.batch = 1  # type: ignore[misc]
    assert len({recipe, load_recipe(NAME), pickle.loads(pickle.dumps(recipe))}) == 1
    assert EvaluationRecipe([32, 48], scales=[1]) == EvaluationRecipe((32, 48), 1 / 3, (1.0,), False)  # type: ignore[arg-type]
    assert recipe.model.without_weights().backbone == BackboneRecipe(weights="none")


def test_a_recipe_survives_its_yaml(tmp_path: Path) -> None:
    recipe = load_recipe(NAME, ["training.crop=[96, 64]", "evaluation.flip=true", "training.weight_decay=5e-5"])
    mapping = recipe.to_mapping()
    assert list(mapping) == ["model", "data", "training", "evaluation", "seed", "precision", "plugins"]
    assert load_recipe(written(tmp_path, yaml.safe_dump(mapping))) == recipe
    assert from_mapping(ModelRecipe, mapping["model"], "config.json") == recipe.model


# `auto` values


@pytest.mark.parametrize(
    ("images", "batch", "iterations"),
    [
        (1, 8, 1000),
        (80, 8, 1000),
        (81, 8, 1100),  # 100 epochs are 1012.5 iterations
        (400, 3, 13_400),
        (3200, 8, 40_000),
        (10**6, 8, 40_000),
    ],
)
def test_iterations_by_the_number_of_images(images: int, batch: int, iterations: int) -> None:
    recipe = load_recipe(OWN, [f"training.batch={batch}"], DataSize(images, 100, 100))
    assert recipe.training.iterations == iterations
    assert recipe.training.validate_every == iterations // 10


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(128, 256, (128, 256)), (129, 250, (160, 256)), (20, 33, (32, 64)), (375, 1920, (384, 512))],
)
def test_crops_by_the_size_of_images(height: int, width: int, crop: tuple[int, int]) -> None:
    recipe = load_recipe(OWN, size=DataSize(40, height, width))
    assert recipe.training.crop == recipe.evaluation.crop == crop


def test_only_auto_values_depend_on_the_data() -> None:
    small = DataSize(40, 128, 256)
    given = ["training.iterations=7", "training.crop=[64, 96]", "evaluation.crop=null", "training.validate_every=3"]
    recipe = load_recipe(OWN, given, small)
    assert (recipe.training.iterations, recipe.training.crop, recipe.training.validate_every) == (7, (64, 96), 3)
    assert recipe.evaluation.crop is None
    assert load_recipe(OWN, given[:1], small).training.validate_every == 1
    assert load_recipe(OWN, given[1:2], small).evaluation.crop == (64, 96)
    assert load_recipe(NAME, size=small) == load_recipe(NAME)
    assert load_recipe(NAME, ["training.iterations=auto"], small).training.iterations == 1000


def test_unresolved_recipes_name_their_auto_keys() -> None:
    recipe, auto = load_unresolved(OWN)
    assert auto == ["training.iterations", "training.crop", "training.validate_every", "evaluation.crop"]
    assert load_unresolved(NAME) == (load_recipe(NAME), [])
    assert resolve_auto(recipe, [], DataSize(1, 1, 1)) == recipe
    resumed = load_recipe(OWN, ["seed=1"], DataSize(3200, 90, 70))
    assert resolve_auto(recipe, auto, resumed) == dataclasses.replace(resumed, seed=0)
    assert resolve_auto(recipe, auto[:1], resumed).training == dataclasses.replace(recipe.training, iterations=40_000)
    assert recipe_from_mapping(load_recipe(OWN).to_mapping(), "tests") == load_recipe(OWN)


# The JSON schema


def test_every_key_has_a_meaning_and_a_range() -> None:
    schema = recipe_json_schema()
    keys = [(name, key, of) for name, each in schema["$defs"].items() for key, of in each["properties"].items()]
    assert [(name, key) for name, key, of in keys if not of.get("description")] == []
    training = schema["$defs"]["TrainingRecipe"]["properties"]
    assert training["iterations"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"const": "auto"}]
    assert training["learning_rate"].items() >= {"type": "number", "exclusiveMinimum": 0, "default": 0.01}.items()
    assert "gff" in schema["$defs"]["ModelRecipe"]["properties"]["fusion"]["enum"]


def test_weights_from_a_file_are_normalised_as_those_of_timm(tmp_path: Path) -> None:
    """The same weights: a file is the remedy where they cannot be downloaded."""
    mean = {
        weights: load_recipe("folder/gffnet_lite0", [f"model.backbone.weights={weights}"]).model.mean
        for weights in ("imagenet", str(tmp_path / "lite0.pth"), "none")
    }
    assert mean[str(tmp_path / "lite0.pth")] == mean["imagenet"] == pytest.approx((127.5,) * 3)
    assert mean["none"] == pytest.approx((123.675, 116.28, 103.53))
