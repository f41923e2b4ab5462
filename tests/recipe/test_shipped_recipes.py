"""The shipped recipes: each is read, what their headers say, and in what they differ; tests of costs build them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.recipe import RECIPES, load_recipe, recipe_from_mapping, recipe_names

NAMES = recipe_names()
LIGHT = [name for name in NAMES if "_lite0" in name and "/long/" not in name]
"""EfficientNet-Lite0 from ImageNet, in one stage, on any data set."""
PAGE = (Path(__file__).parents[2] / "docs/paper.md").read_text(encoding="utf-8")
# Data sets of the paper: crop, iterations, batch.
SCHEDULES = {
    "cityscapes": (864, 100_000, 8),
    "ade20k": (512, 150_000, 16),
    "pascal_context": (512, 150_000, 16),
    "coco_stuff_10k": (512, 150_000, 16),
}

# Recipe, baseline, and every key in which they differ.
STAGE_2 = {"model.backbone.weights": "none", "training.learning_rate": 1e-3, "training.new_layers_multiplier": 1.0}
GFF = {"model.fusion": "gff"}
GFFNET = {"model.fusion": "gff", "model.dense_pyramid": "dense"}
LITERAL = {"model.fusion": "gff", "model.dense_pyramid": "literal"}
FUSIONS = {f"pspnet_{{}}_{name}": {"model.fusion": name} for name in ("concat", "addition", "fpn", "gated_fpn", "gff")}
DIFFERENCES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "cityscapes/pspnet_r101_continued",
        "cityscapes/pspnet_r101",
        {**STAGE_2, "training.init_from": "runs/cityscapes/pspnet_r101"},
    ),
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
    ("streets/gffnet_r18", "streets/pspnet_r18", GFFNET),
    (
        "camvid/long/gffnet_lite0",
        "camvid/gffnet_lite0",
        {
            "model.channels": 96,
            "data.train_split": "train+val",
            "training.iterations": 3000,
            "training.validate_every": 3000,
        },
    ),
    *[
        (f"cityscapes/{name.format('r101')}", "cityscapes/pspnet_r101_continued", changed)
        for name, changed in {**FUSIONS, "gffnet_r101": GFFNET}.items()
    ],
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
        (f"{folder}/{name.format('r18')}", f"{folder}/pspnet_r18", changed)
        for folder in ("camvid", "camvid/reduced")
        for name, changed in {**FUSIONS, "gffnet_r18": GFFNET, "gffnet_r18_literal": LITERAL}.items()
    ],
    *[
        (f"{folder}/{name.format('lite0')}", f"{folder}/pspnet_lite0", changed)
        for folder in ("ade20k", "camvid", "cityscapes", "folder", "streets")
        for name, changed in {**FUSIONS, "gffnet_lite0": GFFNET, "gffnet_lite0_literal": LITERAL}.items()
    ],
]


def flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys: `training.batch`."""
    out: dict[str, Any] = {}
    for key, value in mapping.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def header(name: str) -> list[str]:
    """The comment lines at the start of a recipe."""
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in lines[: lines.index("")]]


def printed(name: str) -> list[str]:
    """The paper's scores in the header of a recipe."""
    found = [re.match(r"paper (.+) \| ours ", line) for line in header(name)]
    return [line[1] for line in found if line]


def chain(name: str) -> list[str]:
    """The recipes to train for this one, first to last."""
    start = load_recipe(name).training.init_from
    return [*chain(start.removeprefix("runs/")), name] if start else [name]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_read(name: str) -> None:
    recipe, folder = load_recipe(name), name.split("/")[0]
    assert recipe_from_mapping(yaml.safe_load(yaml.safe_dump(recipe.to_mapping())), "tests") == recipe
    assert recipe.data.name == folder
    whole = name in LIGHT or folder in {"camvid", "streets"}
    assert recipe.evaluation.crop == (None if whole else recipe.training.crop)
    assert recipe.evaluation.overlap == pytest.approx(1 / 3)
    assert recipe.evaluation.flip is False
    assert recipe.evaluation.scales == ((0.75, 1.0, 1.25, 1.5, 1.75) if name.endswith("_trainval") else (1.0,))


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_title_commands_cost_and_scores(name: str) -> None:
    title, *rest = header(name)
    cost = next(i for i, line in enumerate(rest) if line.startswith("cost "))
    trained = [line for line in rest[:cost] if not line.startswith("gffnet data streets --out data/streets ")]
    assert trained == [f"gffnet train {link} --root data/{name.split('/')[0]}" for link in chain(name)]
    assert re.fullmatch(r"cost (—|.*\d.*)", rest[cost])
    assert rest[cost + 1].startswith("paper ")
    assert all(len(line) <= 118 for line in [title, *rest])
    scores = [line for line in rest if line.startswith("paper ")]
    for line in scores:  # a measured score comes with its date and commit
        assert re.search(r" \| ours (—|\d+(\.\d+)?( / \d+(\.\d+)?)?.*\d{4}-\d\d-\d\d.*\b[0-9a-f]{7,40}\b.*)$", line)
    assert len(printed(name)) == len(scores)
    assert (re.match(r"Tables? [1-9]", title) is not None) == (printed(name) != ["—"])


@pytest.mark.parametrize(("name", "baseline", "expected"), DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_a_row_differs_from_its_baseline_in_what_it_should(name: str, baseline: str, expected: dict[str, Any]) -> None:
    mine, other = flat(load_recipe(name).to_mapping()), flat(load_recipe(baseline).to_mapping())
    assert {key: value for key, value in mine.items() if value != other[key]} == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("/")[0] in SCHEDULES and name not in LIGHT])
def test_the_papers_recipes_train_as_the_paper_says(name: str) -> None:
    recipe = load_recipe(name)
    training, model = recipe.training, recipe.model
    crop, iterations, batch = SCHEDULES[name.split("/")[0]]
    assert (training.crop, training.iterations, training.batch) == ((crop, crop), iterations, batch)
    assert (training.scales, training.jitter, training.flip) == ((0.75, 2.0), 10, True)
    assert (training.weight_decay, training.momentum, training.power) == (1e-4, 0.9, 0.9)
    assert training.auxiliary_weight == 0.4
    rates = (training.learning_rate, training.new_layers_multiplier)
    if training.init_from is None:
        assert (model.fusion, model.backbone.weights, rates) == ("none", "imagenet", (1e-2, 10.0))
        return
    assert training.init_from.startswith("runs/")
    first = load_recipe(training.init_from.removeprefix("runs/"))
    assert (model.backbone.weights, rates) == ("none", (1e-3, 1.0))
    assert model.backbone.name == first.model.backbone.name
    assert (model.context, recipe.data.name) == (first.model.context, first.data.name)
    assert (first.model.fusion != "none") == (training.init == "all")


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("/")[0] not in SCHEDULES or name in LIGHT])
def test_other_recipes_train_in_one_stage(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.training.init_from is None
    from_imagenet = "_lite0" in name or name.startswith("folder/") or name == "streets/demo"
    assert recipe.model.backbone.weights == ("imagenet" if from_imagenet else "none")


def test_light_recipes_differ_in_what_their_data_sets_demand() -> None:
    """One network and one optimiser: a score of one data set is of the network that another trains."""
    first, *others = (load_recipe(name) for name in LIGHT if name.endswith("/gffnet_lite0"))
    assert len(others) == 4
    for other in others:
        assert other.model == first.model
        for key in ("optimizer", "learning_rate", "backbone_multiplier", "new_layers_multiplier", "weight_decay"):
            assert getattr(other.training, key) == getattr(first.training, key)


def test_the_page_lists_every_recipe_with_the_papers_scores() -> None:
    rows = re.findall(r"^\|[^|]*\|[^|]*\| `([a-z0-9_/]+)`[^|]*\| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    listed: dict[str, list[str]] = {}
    for name, score in rows:
        if score not in listed.setdefault(name, []):  # a row that two tables print is listed in both
            listed[name].append(score)
    assert listed == {name: printed(name) for name in NAMES if name not in LIGHT}
    folders = re.search(r"exists for (.+?), such as", PAGE, re.DOTALL)
    assert folders
    rows = re.findall(r"^\| [0-9.]+ \| [^|]+ \| `(\w+_lite0\w*)` \|$", PAGE, re.MULTILINE)
    assert sorted(f"{folder}/{row}" for folder in re.findall(r"`(\w+)`", folders[1]) for row in rows) == LIGHT
    named = re.findall(r"gffnet (?:train|cost) ([a-z0-9]+(?:_[a-z0-9]+)*/\w+)", PAGE)
    assert named
    assert set(named) <= set(NAMES)
