"""docs/camvid.md shows what the kept scores say."""

import json
from pathlib import Path
from statistics import fmean

import pytest
from huggingface_hub import ModelCard

from gffnet.data.datasets import thin_classes
from gffnet.inference.model_io import shipped_model
from gffnet.reports.tables import find_scores, make_dataset_tables, to_markdown

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/camvid.md").read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_runs() -> None:
    runs = find_scores([ROOT / "benchmarks/camvid/reduced"])
    assert sorted((run.name.rpartition("/")[2], run.seed) for run in runs) == sorted(
        (path.stem, seed) for path in (ROOT / "src/gffnet/recipes/camvid/reduced").glob("*.yaml") for seed in range(3)
    )
    rows = [line for line in to_markdown(make_dataset_tables(runs)).splitlines() if line.startswith("|")]
    assert "\n".join(rows[:10]) in PAGE
    assert "\n".join(rows[10:]) in PAGE


TRIALS = sorted((ROOT / "benchmarks/camvid/trials").iterdir())
CHANGED = {
    "base": "their square roots",
    "half": "5e-4",
    "lr2": "2e-3",
    "ohem": "ohem=0.7",
    "ema": "ema=0.99",
    "b2250": "2250",
    "enetcb": "ENet",
}
"""What the row of a trial says."""


@pytest.mark.parametrize("run", TRIALS, ids=lambda path: path.name)
def test_its_trials_are_those_of_the_kept_runs(run: Path) -> None:
    scores = json.loads((run / "scores/scores.json").read_text(encoding="utf-8"))
    thin = fmean(scores["per_class"][name] for name in thin_classes("camvid"))
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    (row,) = [line for line in rows if f"{100 * scores['miou']:.1f} ({100 * thin:.1f})" in line]
    assert CHANGED[run.name.rpartition("-")[2]] in row


def test_the_model_that_ships_has_the_score_of_its_card() -> None:
    (miou,) = [
        result.metric_value
        for result in ModelCard.load(shipped_model() / "README.md").data.eval_results
        if result.metric_name == "mIoU"
    ]
    assert f"**{100 * miou:.1f} %** mIoU on val" in PAGE


@pytest.mark.parametrize(
    "run", sorted((ROOT / "benchmarks/camvid").rglob("run.json")), ids=lambda path: path.parent.name
)
def test_records_name_no_folder_of_the_machine(run: Path) -> None:
    assert "/tmp" not in run.read_text(encoding="utf-8")
