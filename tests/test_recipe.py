"""The recipe's types, checks and files: what is refused, and in which words."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gffnet.errors import UserError
from gffnet.recipe import (
    DataSize,
    ModelRecipe,
    Recipe,
    from_mapping,
    load_recipe,
    load_unresolved,
    recipe_from_mapping,
    recipe_names,
    resolve_auto,
)

NAME = "cityscapes/gffnet_r101"


def refusal(*overrides: str, recipe: str | Path = NAME) -> str:
    """The error that loading `recipe` with `overrides` raises."""
    with pytest.raises(UserError) as raised:
        load_recipe(recipe, overrides)
    message = str(raised.value)
    assert "\n" not in message
    assert "<class" not in message
    assert "typing." not in message
    return message


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# What is read


def test_a_recipe_file_starts_from_its_base(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, f"base: {NAME}\ntraining: {{batch: 4}}\n"))
    base = load_recipe(NAME)
    assert recipe == dataclasses.replace(base, training=dataclasses.replace(base.training, batch=4))


def test_a_base_file_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    written(tmp_path, "seed: 7\n", "first.yaml")
    written(tmp_path, "base: ../first.yaml\nprecision: float32\n", "deeper/second.yaml")
    recipe = load_recipe(tmp_path / "deeper/second.yaml")
    assert recipe == Recipe(seed=7, precision="float32")


def test_a_list_replaces_the_list_of_the_base(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, f"base: {NAME}\nevaluation: {{scales: [0.5]}}\n"))
    assert recipe.evaluation.scales == (0.5,)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.iterations=2000", "training.iterations", 2000),
        ("training.iterations=2_000", "training.iterations", 2000),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=1.0e-3", "training.learning_rate", 1e-3),
        ("training.new_layers_multiplier=1", "training.new_layers_multiplier", 1.0),
        ("training.crop=[512, 256]", "training.crop", [512, 256]),
        ("training.flip=false", "training.flip", False),
        ("training.init_from=runs/a=b", "training.init_from", "runs/a=b"),
        ("training.init_from=null", "training.init_from", None),
        ("training.init_from=", "training.init_from", None),
        ("data.train_split=train+val", "data.train_split", "train+val"),
        ("model.backbone.name=resnet18", "model.backbone.name", "resnet18"),
        ("model.backbone.weights=none", "model.backbone.weights", "none"),
        ("model.backbone.output_stride=null", "model.backbone.output_stride", None),
        ("model.pyramid_kernel=3", "model.pyramid_kernel", 3),
        ("evaluation.crop=null", "evaluation.crop", None),
        ("evaluation.overlap=0", "evaluation.overlap", 0.0),
        ("evaluation.scales=[1]", "evaluation.scales", [1.0]),
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
    assert load_recipe(NAME, [override]).to_mapping() == expected


def test_the_last_override_wins() -> None:
    assert load_recipe(NAME, ["seed=1", "seed=2"]).seed == 2


def test_numbers_take_the_type_of_their_key() -> None:
    training = load_recipe(NAME, ["training.learning_rate=1e-3", "training.scales=[1, 2]"]).training
    assert type(training.learning_rate) is float
    assert training.scales == (1.0, 2.0)
    assert all(type(scale) is float for scale in training.scales)


def test_a_recipe_survives_its_yaml(tmp_path: Path) -> None:
    recipe = load_recipe(NAME, ["training.crop=[96, 64]", "evaluation.flip=true", "training.weight_decay=5e-5"])
    mapping = recipe.to_mapping()
    assert recipe_from_mapping(mapping, "copy") == recipe
    assert load_recipe(written(tmp_path, yaml.safe_dump(mapping))) == recipe
    assert list(mapping) == ["model", "data", "training", "evaluation", "seed", "precision"]


def test_a_part_can_be_read_alone() -> None:
    model = load_recipe(NAME).model
    assert from_mapping(ModelRecipe, load_recipe(NAME).to_mapping()["model"], "config.json") == model
    with pytest.raises(UserError, match=r"^config\.json: fusio is unknown\. Did you mean 'fusion'\?"):
        from_mapping(ModelRecipe, {"fusio": "gff"}, "config.json")


def test_a_recipe_is_frozen_and_hashable() -> None:
    recipe = load_recipe(NAME)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.training.batch = 1  # type: ignore[misc]
    assert len({recipe, load_recipe(NAME)}) == 1


def test_reading_recipes_needs_no_torch() -> None:
    code = "import sys, gffnet.recipe as r; r.load_recipe('camvid/gffnet_r18'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Names and files


def test_an_unknown_recipe_names_the_nearest() -> None:
    message = refusal(recipe="cityscape/gffnet_r101")
    assert message.startswith("recipe 'cityscape/gffnet_r101' is unknown. Did you mean 'cityscapes/gffnet_r101'?")
    assert all(name in message for name in recipe_names())


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert refusal(recipe=path).startswith(f"recipe file {path} does not exist.")
    assert "without .yaml" in refusal(recipe="cityscapes/gffnet_r101.yaml")


@pytest.mark.parametrize("text", ["model: [", "a: b: c", "\t- x", "seed: 1\nbatch"])
def test_a_file_that_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert refusal(recipe=path).startswith(f"recipe {path}: not valid YAML: ")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    assert refusal(recipe=path).startswith(f"recipe {path}: not valid YAML: ")


@pytest.mark.parametrize(("text", "got"), [("- 1\n- 2", "[1, 2]"), ("resnet101", "'resnet101'"), ("", "None")])
def test_a_file_that_holds_no_keys(tmp_path: Path, text: str, got: str) -> None:
    path = written(tmp_path, text)
    assert refusal(recipe=path) == f"recipe {path}: the file must hold `key: value` lines, got {got}."


def test_a_key_written_twice(tmp_path: Path) -> None:
    message = refusal(recipe=written(tmp_path, "training:\n  batch: 8\n  crop: [64, 64]\n  batch: 4\n"))
    assert "'batch' twice" in message
    assert "line 2" in message


def test_an_unknown_base(tmp_path: Path) -> None:
    assert "Did you mean 'cityscapes/gffnet_r18'?" in refusal(recipe=written(tmp_path, "base: cityscapes/gffnet_18\n"))


@pytest.mark.parametrize("base", ["3", "[a, b]", "null"])
def test_a_base_that_is_no_name(tmp_path: Path, base: str) -> None:
    path = written(tmp_path, f"base: {base}\n")
    expected = f"recipe {path}: base: expected the name of a recipe or a .yaml file, got {yaml.safe_load(base)!r}."
    assert refusal(recipe=path) == expected


def test_bases_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    first = written(tmp_path, "base: deeper/second.yaml\n", "first.yaml")
    written(tmp_path, "base: ../first.yaml\n", "deeper/second.yaml")
    message = refusal(recipe=first)
    assert "its bases form a cycle" in message
    assert message.count(" -> ") == 2


def test_a_file_that_is_its_own_base(tmp_path: Path) -> None:
    assert "cycle" in refusal(recipe=written(tmp_path, "base: mine.yaml\n"))


# Keys


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sead=1", "sead is unknown. Did you mean 'seed'? Allowed: model, data, training, "),
        ("trainig.batch=1", "trainig is unknown. Did you mean 'training'? Allowed: model, "),
        ("training.iteration=1", "training.iteration is unknown. Did you mean 'iterations'? Allowed: iterations, "),
        ("model.backbone.wieghts=none", "model.backbone.wieghts is unknown. Did you mean 'weights'? Allowed: name, "),
        ("zzz=1", "zzz is unknown. Allowed: model, data, training, evaluation, seed, precision."),
    ],
)
def test_an_unknown_key_names_the_nearest(override: str, expected: str) -> None:
    assert refusal(override).startswith(f"recipe {NAME}: {expected}")


def test_a_nested_typo_in_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {backbone: {nam: resnet18}}\n")
    expected = "model.backbone.nam is unknown. Did you mean 'name'? Allowed: name, weights, output_stride, in_channels."
    assert refusal(recipe=path) == f"recipe {path}: {expected}"


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    assert "1 is unknown" in refusal(recipe=written(tmp_path, "training: {1: 2}\n"))


@pytest.mark.parametrize(("override", "got"), [("training=5", "5"), ("training=null", "None"), ("model=[]", "[]")])
def test_a_value_in_the_place_of_a_section(override: str, got: str) -> None:
    section = override.partition("=")[0]
    assert refusal(override) == f"recipe {NAME}: {section} must hold `key: value` lines, got {got}."


@pytest.mark.parametrize("override", ["training.batch", "=4", "batch: 4", ""])
def test_an_override_of_another_form(override: str) -> None:
    expected = f"--set {override!r} must have the form section.key=value, such as training.iterations=2000."
    assert refusal(override) == expected


def test_an_override_that_is_no_yaml() -> None:
    assert refusal("training.crop=[1, 2") == "--set 'training.crop=[1, 2': the value '[1, 2' is not valid YAML."


def test_an_override_below_a_value() -> None:
    assert refusal("training.batch.size=4") == "--set 'training.batch.size=4': 'batch' is a value, not a section."


# Values

FUSIONS = "one of none, concat, addition, fpn, gated_fpn, gff"
CROP = "a list of two integers of at least 16"
SCALES = "a list of numbers above 0, at least one"
RANGE = "a list of two numbers above 0, the smaller first"
SHARE = "a number of at least 0 and below 1"


@pytest.mark.parametrize(
    ("override", "expected", "got"),
    [
        # another type
        ("training.iterations=x", "an integer of at least 1", "'x'"),
        ("training.iterations=1.5", "an integer of at least 1", "1.5"),
        ("training.iterations=2e3", "an integer of at least 1", "'2e3'"),
        ("training.batch=true", "an integer of at least 1", "True"),
        ("training.batch=null", "an integer of at least 1", "None"),
        ("training.batch=[8]", "an integer of at least 1", "[8]"),
        ("training.learning_rate=fast", "a number above 0", "'fast'"),
        ("training.learning_rate=true", "a number above 0", "True"),
        ("training.learning_rate=[1]", "a number above 0", "[1]"),
        ("training.flip=3", "true or false", "3"),
        ("training.flip='yes'", "true or false", "'yes'"),
        ("training.init_from=3", "text or null", "3"),
        ("model.backbone.name=null", "text", "None"),
        ("model.mean=[a, b, c]", "a list of numbers", "['a', 'b', 'c']"),
        ("model.mean=120", "a list of numbers", "120"),
        ("training.crop=512", CROP, "512"),
        ("training.crop=[1, 2, 3]", CROP, "[1, 2, 3]"),
        ("training.crop=[64.0, 64]", CROP, "[64.0, 64]"),
        ("training.crop='64'", CROP, "'64'"),
        ("evaluation.crop=512", f"{CROP} or null", "512"),
        # not among the choices
        ("model.fusion=sum", FUSIONS, "'sum'"),
        ("model.fusion=false", FUSIONS, "False"),
        ("model.backbone.output_stride=12", "one of 8, 16, 32 or null", "12"),
        ("model.pyramid_kernel=2", "one of 1, 3", "2"),
        ("model.pyramid_kernel=true", "one of 1, 3", "True"),
        ("model.pyramid_kernel=1.0", "one of 1, 3", "1.0"),
        # out of range
        ("training.iterations=0", "an integer of at least 1", "0"),
        ("training.batch=-8", "an integer of at least 1", "-8"),
        ("training.validate_every=0", "an integer of at least 1", "0"),
        ("training.workers=-1", "an integer of at least 0", "-1"),
        ("training.jitter=-1", "an integer of at least 0", "-1"),
        ("training.crop=[512, 8]", CROP, "[512, 8]"),
        ("training.scales=[2.0, 0.75]", RANGE, "[2.0, 0.75]"),
        ("training.scales=[0, 1]", "a list of two numbers above 0", "[0, 1]"),
        ("training.learning_rate=0", "a number above 0", "0"),
        ("training.learning_rate=.nan", "a number above 0", "nan"),
        ("training.learning_rate=.inf", "a number above 0", "inf"),
        ("training.learning_rate=1e999", "a number above 0", "'1e999'"),
        ("training.new_layers_multiplier=0", "a number above 0", "0"),
        ("training.momentum=1", SHARE, "1"),
        ("training.momentum=-0.1", SHARE, "-0.1"),
        ("training.weight_decay=-1e-4", "a number of at least 0", "'-1e-4'"),
        ("training.power=-1", "a number of at least 0", "-1"),
        ("training.auxiliary_weight=-0.4", "a number of at least 0", "-0.4"),
        ("evaluation.crop=[15, 15]", f"{CROP} or null", "[15, 15]"),
        ("evaluation.overlap=1.0", SHARE, "1.0"),
        ("evaluation.overlap=-0.1", SHARE, "-0.1"),
        ("evaluation.scales=[]", SCALES, "[]"),
        ("evaluation.scales=[1, 0]", SCALES, "[1, 0]"),
        ("model.dropout=1", SHARE, "1"),
        ("model.std=[1, 1, 0]", SCALES, "[1, 1, 0]"),
        ("model.backbone.in_channels=0", "an integer of at least 1", "0"),
        ("seed=-1", "an integer of at least 0", "-1"),
    ],
)
def test_a_value_that_does_not_fit_its_key(override: str, expected: str, got: str) -> None:
    key = override.partition("=")[0]
    assert refusal(override) == f"recipe {NAME}: {key}: expected {expected}, got {got}."


def test_a_huge_integer_is_no_number() -> None:
    assert "training.learning_rate: expected a number above 0" in refusal(f"training.learning_rate={10**400}")


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("model.fusion=gf", "gff"),
        ("model.fusion=gated-fpn", "gated_fpn"),
        ("model.context=pyramid", "pyramid_pooling"),
        ("data.name=cityscape", "cityscapes"),
        ("training.init=backbone", "backbone_and_context"),
        ("precision=bf16", "bfloat16"),
    ],
)
def test_a_choice_that_is_misspelt_names_the_nearest(override: str, nearest: str) -> None:
    assert refusal(override).endswith(f" Did you mean {nearest!r}?")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.mean=[1, 2, 3, 4]"],
        ["model.std=[1, 2]"],
        ["model.backbone.in_channels=4"],
        ["model.mean=[0]", "model.std=[1]"],
    ],
)
def test_one_mean_and_std_per_input_channel(overrides: list[str]) -> None:
    message = refusal(*overrides)
    assert message.startswith(f"recipe {NAME}: model.mean has ")
    assert "one per input channel, and model.backbone.in_channels is " in message


def test_other_channels_with_their_mean_and_std() -> None:
    model = load_recipe(NAME, ["model.backbone.in_channels=1", "model.mean=[128]", "model.std=[64]"]).model
    assert (model.mean, model.std) == ((128.0,), (64.0,))


def test_a_dense_pyramid_needs_a_fusion() -> None:
    message = refusal("model.fusion=none")
    assert message.startswith(f"recipe {NAME}: model.dense_pyramid 'dense' works on fused maps")
    with pytest.raises(UserError, match="name a fusion, or set"):
        ModelRecipe(dense_pyramid="literal")
    assert load_recipe(NAME, ["model.fusion=none", "model.dense_pyramid=none"]).model.fusion == "none"


# What is left to the data

OWN = "folder/gffnet_r18"


@pytest.mark.parametrize(
    ("images", "batch", "iterations"),
    [
        (1, 8, 1000),
        (80, 8, 1000),
        (81, 8, 1100),  # 100 passes are 1012.5 iterations
        (400, 8, 5000),
        (400, 3, 13_400),
        (3200, 8, 40_000),
        (10**6, 8, 40_000),
    ],
)
def test_iterations_by_the_number_of_images(images: int, batch: int, iterations: int) -> None:
    recipe = load_recipe(OWN, [f"training.batch={batch}"], DataSize(images, 100, 100))
    assert recipe.training.iterations == iterations
    assert 9 <= iterations / recipe.training.validate_every <= 10
    assert iterations * batch >= 100 * images or iterations == 40_000


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [
        (128, 256, (128, 256)),
        (129, 250, (160, 256)),
        (20, 33, (32, 64)),
        (375, 500, (384, 512)),
        (1080, 1920, (512, 512)),
    ],
)
def test_crops_by_the_size_of_images(height: int, width: int, crop: tuple[int, int]) -> None:
    recipe = load_recipe(OWN, size=DataSize(40, height, width))
    assert recipe.training.crop == recipe.evaluation.crop == crop


def test_what_is_said_is_not_left_to_the_data() -> None:
    small = DataSize(40, 128, 256)
    said = ["training.iterations=7", "training.crop=[64, 64]", "evaluation.crop=null", "training.validate_every=3"]
    recipe = load_recipe(OWN, said, small)
    assert (recipe.training.iterations, recipe.training.crop, recipe.training.validate_every) == (7, (64, 64), 3)
    assert recipe.evaluation.crop is None
    assert load_recipe(OWN, ["training.iterations=7"], small).training.validate_every == 1
    assert load_recipe(OWN, ["training.crop=[64, 96]"], small).evaluation.crop == (64, 96)
    assert load_recipe(NAME, size=small) == load_recipe(NAME)
    assert load_recipe(NAME, ["training.iterations=auto"], small).training.iterations == 1000


def test_where_there_are_no_data_all_is_a_number_too() -> None:
    recipe, autos = load_unresolved(OWN)
    assert autos == ["training.iterations", "training.crop", "training.validate_every", "evaluation.crop"]
    assert load_unresolved(NAME)[1] == []
    assert resolve_auto(recipe, [], DataSize(1, 1, 1)) == recipe
    assert recipe_from_mapping(load_recipe(OWN).to_mapping(), "tests") == load_recipe(OWN)


@pytest.mark.parametrize("key", ["training.batch", "training.learning_rate", "evaluation.overlap", "seed"])
def test_only_four_values_are_left_to_the_data(key: str) -> None:
    assert "got 'auto'" in refusal(f"{key}=auto")
    assert "got 'Auto'" in refusal("training.iterations=Auto")
