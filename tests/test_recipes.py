"""The recipes that ship: what their headers say, and in what they differ from each other."""

import re
from pathlib import Path
from typing import Any

import pytest

from gffnet.recipe import RECIPES, Recipe, load_recipe, recipe_names

# What the paper prints for each recipe, in the order of its header's `# paper` lines.
PAPER = {
    "ade20k/gffnet_r101": ["45.33 / 82.01"],
    "ade20k/pspnet_r101": ["43.29 / 81.39"],
    "camvid/gffnet_r18": ["—"],
    "camvid/gffnet_r18_literal": ["—"],
    "camvid/long/gffnet_r18": ["—"],
    "camvid/pspnet_r18": ["—"],
    "camvid/pspnet_r18_addition": ["—"],
    "camvid/pspnet_r18_concat": ["—"],
    "camvid/pspnet_r18_fpn": ["—"],
    "camvid/pspnet_r18_gated_fpn": ["—"],
    "camvid/pspnet_r18_gff": ["—"],
    "camvid/reduced/gffnet_r18": ["—"],
    "camvid/reduced/gffnet_r18_literal": ["—"],
    "camvid/reduced/pspnet_r18": ["—"],
    "camvid/reduced/pspnet_r18_addition": ["—"],
    "camvid/reduced/pspnet_r18_concat": ["—"],
    "camvid/reduced/pspnet_r18_fpn": ["—"],
    "camvid/reduced/pspnet_r18_gated_fpn": ["—"],
    "camvid/reduced/pspnet_r18_gff": ["—"],
    "cityscapes/denseaspp_d121": ["78.9"],
    "cityscapes/denseaspp_d121_gff": ["80.1"],
    "cityscapes/denseaspp_d121_gffnet": ["80.9"],
    "cityscapes/gffnet_r101": ["81.2", "81.8", "80.9"],
    "cityscapes/gffnet_r101_trainval": ["82.3"],
    "cityscapes/gffnet_r18": ["78.9"],
    "cityscapes/pspnet_r101": ["78.6"],
    "cityscapes/pspnet_r101_addition": ["78.7"],
    "cityscapes/pspnet_r101_concat": ["78.8"],
    "cityscapes/pspnet_r101_continued": ["—"],
    "cityscapes/pspnet_r101_fpn": ["79.3"],
    "cityscapes/pspnet_r101_gated_fpn": ["79.4"],
    "cityscapes/pspnet_r101_gff": ["80.4"],
    "cityscapes/pspnet_r18": ["73.0"],
    "cityscapes/pspnet_r18_gff": ["76.6"],
    "coco_stuff_10k/gffnet_r101": ["39.2"],
    "coco_stuff_10k/pspnet_r101": ["—"],
    "folder/gffnet_r18": ["—"],
    "pascal_context/gffnet_r101": ["54.2"],
    "pascal_context/gffnet_r50": ["51.0"],
    "pascal_context/pspnet_r101": ["47.8"],
    "pascal_context/pspnet_r50": ["—"],
    "streets/demo": ["—"],
    "streets/gffnet_r18": ["—"],
    "streets/pspnet_r18": ["—"],
}

# Recipe, baseline, and every key in which they differ.
STAGE_2 = {
    "model.backbone.weights": "none",
    "training.learning_rate": 1e-3,
    "training.new_layers_multiplier": 1.0,
}
FUSIONS = ("concat", "addition", "fpn", "gated_fpn", "gff")
GFF = {"model.fusion": "gff"}
GFFNET = {"model.fusion": "gff", "model.dense_pyramid": "dense"}
DIFFERENCES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "cityscapes/pspnet_r101_continued",
        "cityscapes/pspnet_r101",
        {**STAGE_2, "training.init_from": "runs/cityscapes/pspnet_r101"},
    ),
    *[
        (f"cityscapes/pspnet_r101_{fusion}", "cityscapes/pspnet_r101_continued", {"model.fusion": fusion})
        for fusion in ("concat", "addition", "fpn", "gated_fpn", "gff")
    ],
    ("cityscapes/gffnet_r101", "cityscapes/pspnet_r101_continued", GFFNET),
    (
        "cityscapes/gffnet_r101_trainval",
        "cityscapes/gffnet_r101",
        {
            "data.train_split": "train+val",
            "training.init_from": "runs/cityscapes/gffnet_r101",
            "training.init": "all",
            "training.validate_every": 100_000,
            "evaluation.scales": [0.75, 1.0, 1.25, 1.5, 1.75],
        },
    ),
    ("cityscapes/pspnet_r18", "cityscapes/pspnet_r101", {"model.backbone.name": "resnet18"}),
    (
        "cityscapes/denseaspp_d121",
        "cityscapes/pspnet_r101",
        {"model.backbone.name": "densenet121", "model.context": "dense_aspp"},
    ),
    ("pascal_context/pspnet_r50", "pascal_context/pspnet_r101", {"model.backbone.name": "resnet50"}),
    *[
        (second, first, {**STAGE_2, **fusion, "training.init_from": f"runs/{first}"})
        for second, first, fusion in [
            ("cityscapes/pspnet_r18_gff", "cityscapes/pspnet_r18", GFF),
            ("cityscapes/gffnet_r18", "cityscapes/pspnet_r18", GFFNET),
            ("cityscapes/denseaspp_d121_gff", "cityscapes/denseaspp_d121", GFF),
            ("cityscapes/denseaspp_d121_gffnet", "cityscapes/denseaspp_d121", GFFNET),
            ("ade20k/gffnet_r101", "ade20k/pspnet_r101", GFFNET),
            ("pascal_context/gffnet_r50", "pascal_context/pspnet_r50", GFFNET),
            ("pascal_context/gffnet_r101", "pascal_context/pspnet_r101", GFFNET),
            ("coco_stuff_10k/gffnet_r101", "coco_stuff_10k/pspnet_r101", GFFNET),
        ]
    ],
    *[
        (f"{folder}/{name}", f"{folder}/pspnet_r18", changed)
        for folder in ("camvid", "camvid/reduced")
        for name, changed in {
            **{f"pspnet_r18_{fusion}": {"model.fusion": fusion} for fusion in FUSIONS},
            "gffnet_r18": GFFNET,
            "gffnet_r18_literal": {"model.fusion": "gff", "model.dense_pyramid": "literal"},
        }.items()
    ],
    ("streets/gffnet_r18", "streets/pspnet_r18", GFFNET),
]

# Data set: crop, iterations, batch, as the paper states them.
SCHEDULES = {
    "cityscapes": (864, 100_000, 8),
    "ade20k": (512, 150_000, 16),
    "pascal_context": (512, 150_000, 16),
    "coco_stuff_10k": (512, 150_000, 16),
}


def flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys: `training.batch`."""
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def header(name: str) -> list[str]:
    """The comment lines that a recipe opens with."""
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in lines[: lines.index("")]]


def chain(name: str) -> list[str]:
    """The recipes to train for this one, first to last."""
    start = load_recipe(name).training.init_from
    return [*chain(start.removeprefix("runs/")), name] if start else [name]


def fuses(recipe: Recipe) -> bool:
    return recipe.model.fusion != "none"


def test_the_recipes_are_those_of_the_table_above() -> None:
    assert recipe_names() == sorted(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_lies_with_its_data_set_and_evaluates_as_the_paper_does(name: str) -> None:
    recipe = load_recipe(name)
    folder = name.split("/")[0]
    assert recipe.data.name == folder
    assert recipe.evaluation.crop == (None if folder in {"camvid", "streets"} else recipe.training.crop)
    assert recipe.evaluation.overlap == pytest.approx(1 / 3)
    assert recipe.evaluation.flip is False
    assert recipe.evaluation.scales == ((0.75, 1.0, 1.25, 1.5, 1.75) if name.endswith("_trainval") else (1.0,))


@pytest.mark.parametrize("name", PAPER)
def test_the_header_says_what_how_and_how_well(name: str) -> None:
    title, *rest = header(name)
    cost = next(i for i, line in enumerate(rest) if line.startswith("cost "))
    root = f"data/{name.split('/')[0]}"
    trained = [line for line in rest[:cost] if not line.startswith("gffnet data streets --out data/streets ")]
    assert trained == [f"gffnet train {link} --root {root}" for link in chain(name)]
    assert re.fullmatch(r"cost (—|.*\d.*)", rest[cost])
    assert rest[cost + 1].startswith("paper ")
    assert all(len(line) <= 118 for line in [title, *rest])


@pytest.mark.parametrize(("name", "printed"), PAPER.items())
def test_the_header_has_the_papers_numbers(name: str, printed: list[str]) -> None:
    scores = [line for line in header(name) if line.startswith("paper ")]
    assert [re.match(r"paper (.+) \| ours ", line).group(1) for line in scores] == printed  # type: ignore[union-attr]
    for line in scores:  # a measured score comes with its date and commit
        assert re.search(r" \| ours (—|\d+(\.\d+)?( / \d+(\.\d+)?)?.*\d{4}-\d\d-\d\d.*\b[0-9a-f]{7,40}\b.*)$", line)
    in_a_table = re.match(r"Tables? [1-9]", header(name)[0]) is not None
    assert in_a_table == (printed != ["—"])


@pytest.mark.parametrize(("name", "baseline", "expected"), DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_a_row_differs_from_its_baseline_in_what_it_should(name: str, baseline: str, expected: dict[str, Any]) -> None:
    mine, other = flat(load_recipe(name).to_mapping()), flat(load_recipe(baseline).to_mapping())
    assert {key: value for key, value in mine.items() if value != other[key]} == expected


@pytest.mark.parametrize(("folder", "schedule"), SCHEDULES.items())
def test_the_papers_recipes_train_as_the_paper_says(folder: str, schedule: tuple[int, int, int]) -> None:
    crop, iterations, batch = schedule
    for name in [name for name in PAPER if name.startswith(folder)]:
        training = load_recipe(name).training
        assert (training.crop, training.iterations, training.batch) == ((crop, crop), iterations, batch), name
        assert (training.scales, training.jitter, training.flip) == ((0.75, 2.0), 10, True), name
        assert (training.weight_decay, training.momentum, training.power) == (1e-4, 0.9, 0.9), name
        assert training.auxiliary_weight == 0.4, name


@pytest.mark.parametrize("name", [name for name in PAPER if name.split("/")[0] in SCHEDULES])
def test_two_stages(name: str) -> None:
    recipe = load_recipe(name)
    training, model = recipe.training, recipe.model
    if training.init_from is None:
        assert not fuses(recipe)
        assert model.backbone.weights == "imagenet"
        assert (training.learning_rate, training.new_layers_multiplier) == (1e-2, 10.0)
        return
    start = training.init_from.removeprefix("runs/")
    assert training.init_from == f"runs/{start}"
    first = load_recipe(start)  # exists
    assert model.backbone.weights == "none"
    assert (training.learning_rate, training.new_layers_multiplier) == (1e-3, 1.0)
    assert model.backbone.name == first.model.backbone.name
    assert (model.context, recipe.data.name) == (first.model.context, first.data.name)
    assert fuses(first) == (training.init == "all")


@pytest.mark.parametrize("name", [name for name in PAPER if name.split("/")[0] not in SCHEDULES])
def test_recipes_beside_the_papers_train_in_one_stage(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.training.init_from is None
    assert recipe.model.backbone.weights == ("imagenet" if name.startswith("folder/") else "none")


# The page about the paper

PAGE = Path(__file__).parents[1] / "docs/paper.md"


def test_the_page_lists_every_recipe_with_the_papers_numbers() -> None:
    rows = re.findall(r"^\|[^|]*\|[^|]*\| `([a-z0-9_/]+)`[^|]*\| ([^|]+) \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    listed: dict[str, list[str]] = {}
    for name, printed in rows:
        if printed not in listed.setdefault(name, []):  # a row that two tables print is listed in both
            listed[name].append(printed)
    assert listed == PAPER


def test_every_recipe_that_the_page_names_exists() -> None:
    named = re.findall(r"gffnet (?:train|cost) ([a-z0-9]+(?:_[a-z0-9]+)*/\w+)", PAGE.read_text())
    assert named
    assert set(named) <= set(recipe_names())
