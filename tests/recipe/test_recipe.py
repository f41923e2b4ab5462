"""Recipes: what is read from files, overrides and Python, what is refused, and in which words."""

import dataclasses
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    TrainingRecipe,
    from_mapping,
    load_recipe,
    load_unresolved,
    recipe_from_mapping,
    recipe_json_schema,
    recipe_names,
    resolve_auto,
)
from gffnet.recipe.loading import RECIPES, StrictLoader

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


def test_reading_recipes_needs_no_torch() -> None:
    code = "import sys, gffnet.recipe as r; r.load_recipe('camvid/gffnet_r18'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    message = refusal(recipe="cityscape/gffnet_r101")
    assert message.startswith("recipe 'cityscape/gffnet_r101' is unknown. Did you mean 'cityscapes/gffnet_r101'?")
    assert all(name in message for name in recipe_names())
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
        (b"\xff\xfe\x00\x81", "not valid YAML: "),
        ("training:\n  batch: 8\n  crop: [64, 64]\n  batch: 4\n", "not valid YAML: 'batch' twice"),
        ("- 1\n- 2", "the file must hold `key: value` lines, got [1, 2]."),
        ("resnet101", "the file must hold `key: value` lines, got 'resnet101'."),
        ("", "the file must hold `key: value` lines, got None."),
        ("base: 3", "base: expected the name of a recipe or a .yaml file, got 3."),
        ("base: null", "base: expected the name of a recipe or a .yaml file, got None."),
        ("model: {backbone: {nam: resnet18}}", "model.backbone.nam is unknown. Did you mean 'name'? Allowed: name, "),
        ("training: {1: 2}", "training.1 is unknown. Allowed: iterations, batch, "),
        ("1: 2", "1 is unknown. Allowed: model, data, training, "),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refusal(recipe=path).startswith(f"recipe {path}: {said}")


def test_bases_that_form_a_cycle(tmp_path: Path) -> None:
    first = written(tmp_path, "base: deeper/second.yaml\n", "first.yaml")
    written(tmp_path, "base: ../first.yaml\n", "deeper/second.yaml")
    assert refusal(recipe=first).count(" -> ") == 2
    assert "its bases form a cycle" in refusal(recipe=written(tmp_path, "base: mine.yaml\n"))


# Keys and values

FUSIONS = "one of none, concat, addition, fpn, gated_fpn, gff"
CROP = "a list of two integers of at least 16"
SCALES = "a list of numbers above 0, at least one"
FRACTION = "a number of at least 0 and below 1"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sead=1", "sead is unknown. Did you mean 'seed'? Allowed: model, data, training, evaluation, seed, "),
        ("training.iteration=1", "training.iteration is unknown. Did you mean 'iterations'? Allowed: iterations, "),
        ("model.backbone.wieghts=none", "model.backbone.wieghts is unknown. Did you mean 'weights'? Allowed: name, "),
        ("zzz=1", "zzz is unknown. Allowed: model, data, training, evaluation, seed, precision."),
        ("training=5", "training must hold `key: value` lines, got 5."),
        ("training=null", "training must hold `key: value` lines, got None."),
        ("model=[]", "model must hold `key: value` lines, got []."),
        ("model.fusion=gated-fpn", f"model.fusion: expected {FUSIONS}, got 'gated-fpn'. Did you mean 'gated_fpn'?"),
        ("model.context=aspp", "model.context: expected one of pyramid_pooling, dense_aspp, none, got 'aspp'. Did you"),
        ("model.dense_pyramid=thick", "model.dense_pyramid: expected one of none, dense, literal, got 'thick'."),
        ("data.name=cityscape", "data.name: expected one of cityscapes, ade20k, "),
        ("training.optimizer=adamv", "training.optimizer: expected one of sgd, nesterov, adam, adamw, lion, lamb, "),
        ("model.mean=[1, 2, 3, 4]", "model.mean has 4 values and model.std 3: allowed is one per input channel, and"),
        ("model.backbone.in_channels=4", "model.mean has 3 values and model.std 3: allowed is one per input channel"),
        ("model.fusion=none", "model.dense_pyramid 'dense' works on fused maps, but model.fusion is 'none': name a "),
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
    ("override", "expected", "got"),
    [
        # another type
        ("training.iterations=x", "an integer of at least 1", "'x'"),
        ("training.iterations=1.5", "an integer of at least 1", "1.5"),
        ("training.iterations=1.0", "an integer of at least 1", "1.0"),
        ("training.iterations=2e3", "an integer of at least 1", "'2e3'"),
        ("training.iterations='8'", "an integer of at least 1", "'8'"),
        ("training.batch=true", "an integer of at least 1", "True"),
        ("training.batch=null", "an integer of at least 1", "None"),
        ("training.batch=[8]", "an integer of at least 1", "[8]"),
        ("training.learning_rate=fast", "a number above 0", "'fast'"),
        ("training.learning_rate=true", "a number above 0", "True"),
        ("training.learning_rate=[1]", "a number above 0", "[1]"),
        ("training.flip=3", "true or false", "3"),
        ("training.flip=1", "true or false", "1"),
        ("training.flip='yes'", "true or false", "'yes'"),
        ("training.init_from=3", "text or null", "3"),
        ("model.backbone.name=null", "text", "None"),
        ("model.mean=[a, b, c]", "a list of numbers", "['a', 'b', 'c']"),
        ("model.mean=120", "a list of numbers", "120"),
        ("training.crop=512", CROP, "512"),
        ("training.crop=[1, 2, 3]", CROP, "[1, 2, 3]"),
        ("training.crop=[64]", CROP, "[64]"),
        ("training.crop=[64.0, 64]", CROP, "[64.0, 64]"),
        ("training.crop='64'", CROP, "'64'"),
        ("training.crop=!!set {32, 48}", CROP, "{32, 48}"),
        ("evaluation.crop=512", f"{CROP} or null", "512"),
        ("model.fusion=false", FUSIONS, "False"),
        ("model.pyramid_kernel=true", "one of 1, 3", "True"),
        ("model.pyramid_kernel=1.0", "one of 1, 3", "1.0"),
        # out of range
        ("model.backbone.output_stride=12", "one of 8, 16, 32 or null", "12"),
        ("model.pyramid_kernel=2", "one of 1, 3", "2"),
        ("training.iterations=0", "an integer of at least 1", "0"),
        ("training.workers=-1", "an integer of at least 0", "-1"),
        ("training.crop=[512, 8]", CROP, "[512, 8]"),
        ("training.scales=[2.0, 0.75]", "a list of two numbers above 0, the smaller first", "[2.0, 0.75]"),
        ("training.scales=[0, 1]", "a list of two numbers above 0", "[0, 1]"),
        ("training.learning_rate=0", "a number above 0", "0"),
        ("training.learning_rate=.nan", "a number above 0", "nan"),
        ("training.learning_rate=.inf", "a number above 0", "inf"),
        ("training.learning_rate=1e999", "a number above 0", "'1e999'"),
        ("training.momentum=1", FRACTION, "1"),
        ("training.weight_decay=-1e-4", "a number of at least 0", "'-1e-4'"),
        ("training.ema=1.5", "a number above 0 and at most 1 or null", "1.5"),
        ("training.class_balance=-1", "a number of at least 0 and at most 1", "-1"),
        ("evaluation.overlap=1.0", FRACTION, "1.0"),
        ("evaluation.overlap=-0.1", FRACTION, "-0.1"),
        ("evaluation.scales=[]", SCALES, "[]"),
        ("evaluation.scales=[1, 0]", SCALES, "[1, 0]"),
        ("model.std=[1, 1, 0]", SCALES, "[1, 1, 0]"),
        # `auto` stands in four places only
        ("training.batch=auto", "an integer of at least 1", "'auto'"),
        ("evaluation.overlap=auto", FRACTION, "'auto'"),
        ("training.iterations=Auto", "an integer of at least 1", "'Auto'"),
    ],
)
def test_a_value_that_does_not_fit_its_key(override: str, expected: str, got: str) -> None:
    key = override.partition("=")[0]
    assert refusal(override) == f"recipe {NAME}: {key}: expected {expected}, got {got}."


def test_a_huge_integer_is_no_number() -> None:
    assert "training.learning_rate: expected a number above 0" in refusal(f"training.learning_rate={10**400}")


# In Python


@pytest.mark.parametrize(
    ("construct", "said"),
    [
        (lambda: TrainingRecipe(iterations="a"), "TrainingRecipe: iterations: expected an integer of at least 1, "),
        (lambda: BackboneRecipe("r", "none", 12), "BackboneRecipe: output_stride: expected one of 8, 16, 32 or null, "),
        (lambda: ModelRecipe(fusio="gff"), "ModelRecipe: fusio is unknown. Did you mean 'fusion'? Allowed: backbone, "),
        (lambda: ModelRecipe(dense_pyramid="dense"), "ModelRecipe: model.dense_pyramid 'dense' works on fused maps"),
        (lambda: LossRecipe(class_weighting="enet", class_weights=[1]), "LossRecipe: training.loss.class_weights are"),
        (lambda: TrainingRecipe(optimizer="nesterov", momentum=0), "TrainingRecipe: training.momentum is 0.0, and"),
        (lambda: dataclasses.replace(Recipe(), seed=-1), "Recipe: seed: expected an integer of at least 0, got -1."),
        (lambda: Recipe(training={"crop": [8, 8]}), f"Recipe: training.crop: expected {CROP}, got [8, 8]."),
        (lambda: Recipe(training=BackboneRecipe()), "Recipe: training must hold `key: value` lines, got Backbone"),
        (lambda: from_mapping(ModelRecipe, {"fusio": 1}, "config.json"), "config.json: fusio is unknown. Did you mean"),
    ],
)
def test_python_is_refused_in_the_same_words(construct: Callable[[], object], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        construct()
    assert str(raised.value).startswith(said)
    assert isinstance(raised.value, UserError)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(TypeError, match="BackboneRecipe takes at most 4 arguments, got 5"):
        BackboneRecipe("resnet18", "none", 8, 3, 1)  # type: ignore[call-arg]


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
    assert list(mapping) == ["model", "data", "training", "evaluation", "seed", "precision"]
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


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_meet_the_json_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(recipe_json_schema())
    mapping: Any = yaml.load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), StrictLoader)
    for key, value in mapping.get("training", {}).items():  # PyYAML reads 1e-3 as text, an editor as a number
        mapping["training"][key] = float(value) if isinstance(value, str) and value[0].isdigit() else value
    assert [error.message for error in validator.iter_errors(mapping)] == []
    assert [error.message for error in validator.iter_errors(load_recipe(name).to_mapping())] == []
