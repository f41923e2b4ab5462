"""docs/results.md and benchmarks/camvid/README.md show what the records in benchmarks/camvid say."""

import json
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from huggingface_hub import ModelCard

from gffnet.console import signed
from gffnet.data.datasets import thin_classes
from gffnet.models.model_io import shipped_model
from gffnet.recipe import load_recipe
from gffnet.recipe.describe import method_name
from gffnet.reports.tables import find_scores, make_dataset_tables, to_markdown
from tests.docs.pages import read_page

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "benchmarks/camvid"
PAGE = read_page("results.md")
NOTES = (RECORDS / "README.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_runs() -> None:
    runs = find_scores([RECORDS / "reduced"])
    assert sorted((run.name.rpartition("/")[2], run.seed) for run in runs) == sorted(
        (path.stem, seed) for path in (ROOT / "src/gffnet/recipes/camvid/reduced").glob("*.yaml") for seed in range(3)
    )
    rows = [line for line in to_markdown(make_dataset_tables(runs)).splitlines() if line.startswith("|")]
    assert "\n".join(rows[:10]) in PAGE
    assert "\n".join(rows[10:]) in NOTES


TRIALS = sorted((RECORDS / "trials").iterdir())
CHANGED = {
    "base": "their square roots",
    "half": "5e-4",
    "lr2": "2e-3",
    "ohem": "ohem=0.7",
    "ema": "ema=0.99",
    "b2250": "2250",
    "enetcb": "ENet",
}
"""In the row of each trial."""


@pytest.mark.parametrize("run", TRIALS, ids=lambda path: path.name)
def test_the_trials_are_those_of_the_records(run: Path) -> None:
    scores = json.loads((run / "scores/scores.json").read_text(encoding="utf-8"))
    thin = fmean(scores["per_class"][name] for name in thin_classes("camvid"))
    rows = [line for line in NOTES.splitlines() if line.startswith("|")]
    (row,) = [line for line in rows if f"{100 * scores['miou']:.1f} ({100 * thin:.1f})" in line]
    assert CHANGED[run.name.rpartition("-")[2]] in row


def test_the_model_that_ships_has_the_score_of_its_card() -> None:
    (miou,) = [
        result.metric_value
        for result in ModelCard.load(shipped_model() / "README.md").data.eval_results
        if result.metric_name == "mIoU"
    ]
    assert f"# {100 * miou:.2f}\n" in PAGE


DRIVES = ("0006R0", "0001TP")
FOLDS = {
    path.name: {
        drive: json.loads(file.read_text())
        for drive in DRIVES
        if (file := path / f"without_{drive}/scores/scores.json").is_file()
    }
    for path in (RECORDS / "folds").iterdir()
}


@pytest.mark.parametrize("trial", FOLDS)
def test_the_trials_on_left_out_drives_are_those_of_the_records(trial: str) -> None:
    mious = [100 * FOLDS[trial][drive]["miou"] if drive in FOLDS[trial] else None for drive in DRIVES]
    mean = [fmean(mious)] if None not in mious else [None]
    cells = " | ".join("—" if miou is None else f"{miou:.1f}" for miou in (*mious, *mean))
    assert f"| `{trial}/` | {cells} |\n" in NOTES


def test_the_trials_of_augmentations_are_compared_with_the_run_of_the_ablation() -> None:
    runs = [RECORDS / f"ablation/without_{drive}/camvid/gffnet_lite0/seed_0/scores/scores.json" for drive in DRIVES]
    mious = [100 * json.loads(run.read_text())["miou"] for run in runs]
    cells = " | ".join(f"{miou:.1f}" for miou in (*mious, fmean(mious)))
    assert f"| all of them | `ablation/` | {cells} |\n" in NOTES


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("trial", ["long3000", "long"])
def test_the_model_that_ships_is_shown_with_the_scores_on_left_out_drives(trial: str, drive: str) -> None:
    scores = FOLDS[trial][drive]
    cells = " | ".join(f"{100 * iou:.1f}" for iou in scores["per_class"].values())
    for page in (PAGE, ModelCard.load(shipped_model() / "README.md").text):
        (row,) = [line for line in page.splitlines() if line.endswith(f" | {cells} |")]
        assert drive in row or "the same" in row
        assert f"{100 * scores['miou']:.1f}" in row.replace("*", "").split(" | ")


ABLATION = [
    f"camvid/{name}"
    for name in (
        *("pspnet_lite0", "pspnet_lite0_concat", "pspnet_lite0_addition", "pspnet_lite0_fpn", "pspnet_lite0_gated_fpn"),
        *("pspnet_lite0_gff", "gffnet_lite0", "gffnet_lite0_literal"),
    )
]
METHODS = {method_name(load_recipe(recipe).model): recipe for recipe in ABLATION}
COMPARED = [
    *(("PSPNet + GFF", other) for other in ("PSPNet + Addition", "PSPNet + Concat", "PSPNet + FPN")),
    ("PSPNet + Gated FPN", "PSPNet + FPN"),
    ("PSPNet + GFF + DFP", "PSPNet + GFF"),
    ("PSPNet + GFF + literal DFP", "PSPNet + GFF"),
]
THIN = thin_classes("camvid")


def scores_from_imagenet(recipe: str, runs: str = "ablation") -> dict[tuple[str, str], list[float]]:
    """Scores of a method in percent, as the page's columns have them, by drive and seed."""
    found = {}
    for file in sorted((RECORDS / runs).glob(f"without_*/{recipe}/seed_*/scores/scores.json")):
        of = json.loads(file.read_text(encoding="utf-8"))
        thin, bands = fmean(of["per_class"][name] for name in THIN), of["iou_by_distance"]
        near, far = (bands[end]["pixel_accuracy"] for end in (0, -1))
        values = [of["miou"], thin, of["boundary_f"]["3"]["mean"], of["iou_by_size"][0]["miou"], near, far]
        drive, seed = of["protocol"]["split"].removeprefix("only_"), file.parts[-3].removeprefix("seed_")
        found[drive, seed] = [100 * value for value in values]
    return found


def ablation_from_imagenet() -> list[str]:
    """The rows of the page: means over the seeds of each drive, then over the drives; ± deviation over the seeds."""
    rows = []
    for method, recipe in METHODS.items():
        found = scores_from_imagenet(recipe)
        seeds = sorted({seed for _, seed in found})
        drives = [[fmean(each) for each in zip(*(found[d, seed] for seed in seeds), strict=True)] for d in DRIVES]
        cells = [
            f"{x:.1f}" for x in [drive[0] for drive in drives] + [fmean(each) for each in zip(*drives, strict=True)]
        ]
        if len(seeds) > 1:
            cells[2] += f" ± {stdev(fmean(found[drive, seed][0] for drive in DRIVES) for seed in seeds):.1f}"
        rows.append(f"| {method} | {' | '.join(cells)} | {', '.join(seeds)} |")
    return rows


def difference(one: str, other: str) -> str:
    """The first cell of a row."""
    first, second = (name.removeprefix("PSPNet + ") for name in (one, other))
    return f"{first} minus {second}"


def mean_differences(one: str, other: str, runs: str = "ablation") -> str:
    """The cells of the page: mean of the differences between runs of one drive and seed ± its standard error, pairs."""
    ours, theirs = (scores_from_imagenet(METHODS[name], runs) for name in (one, other))
    pairs = sorted(ours.keys() & theirs.keys())
    columns = zip(*([x - y for x, y in zip(ours[p], theirs[p], strict=True)] for p in pairs), strict=True)
    cells = [f"{signed(fmean(each), 1)} ± {stdev(each) / sqrt(len(pairs)):.1f}" for each in columns]
    return f"{' | '.join(cells)} | {len(pairs)}"


def differences_from_imagenet() -> list[str]:
    """The rows of the page."""
    return [f"| {difference(*pair)} | {mean_differences(*pair)} |" for pair in COMPARED]


def test_the_ablation_from_imagenet_is_that_of_the_records() -> None:
    rows = ablation_from_imagenet()
    assert "\n".join(rows) in PAGE
    assert "\n".join(differences_from_imagenet()) in PAGE
    first = [[cell.strip(" *") for cell in line.split("|")] for line in PAGE.splitlines() if line.startswith("|")][2:5]
    of = {cells[1]: cells for cells in ([cell.strip() for cell in row.split("|")] for row in rows)}
    methods = [
        of[name] for name in ("PSPNet", "PSPNet + Concat", "PSPNet + Addition", "PSPNet + GFF", "PSPNet + GFF + DFP")
    ]
    for line, column in zip(first, (4, 5, 6), strict=True):  # mIoU, thin classes, boundary F
        assert line[2:-1] == [method[column] for method in methods]


@pytest.mark.parametrize("baseline", sorted({other for _, other in COMPARED}))
def test_the_command_prints_the_same_as_the_page(baseline: str) -> None:
    table = make_dataset_tables(find_scores([RECORDS / "ablation"]), METHODS[baseline])[0]
    keys = ("miou_0006R0", "miou_0001TP", "miou", "thin", "boundary_f", "small", "near_accuracy", "far_accuracy")
    found = {row.method: row for row in table.rows}
    assert [*found] == [*METHODS]
    for line in ablation_from_imagenet():
        method, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        values = [found[method].ours[key] for key in keys]
        expected = [f"{of.mean:.1f}" for of in values]
        expected[2] += f" ± {values[2].deviation:.1f}"
        assert cells == [*expected, ", ".join(map(str, found[method].seeds))]
    for (one, other), line in zip(COMPARED, differences_from_imagenet(), strict=True):
        if other == baseline:
            row = found[one]
            gains = [f"{signed(row.ours_gain[key], 1)} ± {row.gain_error[key]:.1f}" for key in keys[2:]]
            assert [cell.strip() for cell in line.strip("|").split("|")][1:-1] == gains


CONDITIONS = {"strides 4 8 8 8": "stride8", "2000 iterations": "iterations2000", "two stages": "two_stages"}
"""The folders of the runs in which one thing differs from the ablation."""


def other_conditions() -> list[str]:
    """The rows of the page: mIoU and boundary F of each drive, and what each has over the ablation with those seeds."""
    rows = []
    for condition, folder in CONDITIONS.items():
        for method in ("PSPNet", "PSPNet + Addition", "PSPNet + GFF", "PSPNet + GFF + DFP"):
            found, usual = scores_from_imagenet(METHODS[method], folder), scores_from_imagenet(METHODS[method])
            cells = ["—"] * 4
            for number, drive in enumerate(DRIVES):
                if seeds := [seed for of, seed in found if of == drive]:
                    ours, theirs = ([fmean(of[drive, s][k] for s in seeds) for k in (0, 2)] for of in (found, usual))
                    cells[2 * number : 2 * number + 2] = [
                        f"{x:.1f} ({signed(x - y, 1)})" for x, y in zip(ours, theirs, strict=True)
                    ]
            if found:
                trained = ", ".join(sorted({seed for _, seed in found}))
                rows.append(f"| {condition} | {method} | {' | '.join(cells)} | {trained} |")
    return rows


def differences_elsewhere() -> list[str]:
    """The rows of the page: differences under each condition in which both methods were trained on both drives."""
    rows = []
    for pair in (("PSPNet + GFF", "PSPNet + Addition"), ("PSPNet + GFF + DFP", "PSPNet + GFF")):
        for condition, folder in {"as above": "ablation", **CONDITIONS}.items():
            if len({drive for drive, _ in scores_from_imagenet(METHODS[pair[0]], folder)}) == 2:
                rows.append(f"| {difference(*pair)} | {condition} | {mean_differences(*pair, folder)} |")
    return rows


def test_other_conditions_are_those_of_the_records() -> None:
    assert "\n".join(other_conditions()) in PAGE
    assert "\n".join(differences_elsewhere()) in PAGE
    for condition, folder in CONDITIONS.items():
        recipes = [yaml.safe_load(file.read_text()) for file in (RECORDS / folder).rglob("recipe.yaml")]
        for recipe in recipes:
            training, stride = recipe["training"], recipe["model"]["backbone"]["output_stride"]
            assert (stride == 8) == (condition == "strides 4 8 8 8")
            assert training["iterations"] == (2000 if condition == "2000 iterations" else 500)
            assert (training["init_from"] is not None) == (condition == "two stages")


def test_gates_of_every_channel_are_those_of_the_records() -> None:
    each, one = (scores_from_imagenet("camvid/pspnet_lite0_gff", runs) for runs in ("gate_each", "ablation"))
    assert sorted(each) == [("0001TP", "0"), ("0006R0", "0")]
    (miou, thin, boundary), ours = (
        [fmean(of[drive, "0"][column] for drive in DRIVES) for column in range(3)] for of in (each, one)
    )
    assert (
        f"{miou:.1f} % mIoU instead of {ours[0]:.1f}, {thin:.1f} on thin classes instead of {ours[1]:.1f}, and "
        f"{boundary:.1f} of boundary F instead of {ours[2]:.1f}"
    ) in " ".join(PAGE.split())


def test_the_networks_beside_are_those_of_the_records() -> None:
    record = json.loads((RECORDS / "peers/peers.json").read_text(encoding="utf-8"))
    assert "\n".join(record["table"]) in PAGE
    assert (ROOT / "docs/peers.svg").read_bytes() == (RECORDS / "peers/peers.svg").read_bytes()
    for row in record["networks"]:
        if row["peer"]:
            files = (RECORDS / "peers" / row["network"].removesuffix(" (smp)")).glob("seed_*/scores.json")
            mious = [100 * json.loads(file.read_text(encoding="utf-8"))["miou"] for file in files]
        else:
            found = scores_from_imagenet(METHODS[row["network"]])
            mious = [scores[0] for (drive, _), scores in found.items() if drive == record["drive"]]
        assert row["miou"] == pytest.approx(fmean(mious))


def test_the_gates_of_left_out_drives_are_those_of_the_records() -> None:
    def rows(drive: str) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for line in (RECORDS / f"gates/{drive}.md").read_text(encoding="utf-8").splitlines():
            name, *cells = [cell.strip() for cell in line.strip("| ").split("|")]
            found.setdefault(name, []).append(cells)
        return found

    page = read_page("gates.md")
    for name in ("as learned", "G1", "G2", "G3", "G4"):
        cells = [name]
        for of in map(rows, DRIVES):
            closed = of[name][0]
            cells += [closed[0], closed[4], ""] if name == "as learned" else [closed[1], closed[5], of[name][1][-1]]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in page


@pytest.mark.parametrize("run", sorted(RECORDS.rglob("run.json")), ids=lambda path: path.parent.name)
def test_records_name_no_folder_of_the_machine(run: Path) -> None:
    assert "/tmp" not in run.read_text(encoding="utf-8")
