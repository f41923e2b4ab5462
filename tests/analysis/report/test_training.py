"""Curves and record of a run."""

import pytest

from gffnet.reports.report import amount, last_validation, minutes, record_facts, sessions_of, training_charts
from tests.analysis.runs import HISTORY, RECORD

CLASSES = [f"c{i}" for i in range(11)]


def test_every_curve_is_drawn_with_where_the_run_went_on() -> None:
    loss, validation, rate = training_charts(HISTORY, RECORD)
    assert [curve.name for curve in loss.curves] == ["loss", "auxiliary loss"]
    assert loss.description == "Training loss over iterations, up to 4: loss from 2 to 1; auxiliary loss from 3 to 2."
    assert [curve.last for curve in validation.curves] == ["25", "50"]
    assert rate.curves[0].last == "0.05"
    assert loss.marks == [loss.x_ticks[-1].place], "iteration 4 is the last that is drawn"
    assert training_charts(HISTORY, {})[0].marks == []


def test_what_was_not_measured_is_not_drawn() -> None:
    assert training_charts([], RECORD) == []
    lines = [{"iteration": 1, "loss": float("nan"), "auxiliary_loss": 0.0}, {"iteration": 2, "loss": 1.0}]
    (chart,) = training_charts(lines, {})
    assert chart.description == "Training loss over iterations, up to 2: loss from 1 to 1."
    drawn = training_charts([{"iteration": 1, "gradient_norm": 2.5}], {})
    assert [chart.title for chart in drawn] == ["Gradient"]


def test_the_last_validation_stands_in_for_scores() -> None:
    scores = last_validation(HISTORY, CLASSES)
    assert scores["miou"] == 0.25
    assert scores["iteration"] == 4
    assert scores["per_class"]["c0"] == 0.5
    assert scores["per_class"]["c1"] is None
    assert last_validation(HISTORY, CLASSES[:3])["per_class"] == {}, "of other classes"
    assert last_validation(HISTORY[:2], CLASSES) == {}


def test_sessions_in_words() -> None:
    first, second = sessions_of(RECORD)
    assert first == ("2026-01-02 03:04", "1 h 05 min", "0 to 4", "interrupted", "12.3", "3.2 GB")
    assert second == ("2026-01-03 03:04", "", "from 4", "not ended, or killed", "", "")
    assert sessions_of({}) == []


def test_facts_of_sessions_are_told_once_where_they_agree() -> None:
    facts = dict(record_facts(RECORD))
    assert facts["Machine"] == "A CPU, 8 cores, 16.0 GB, 2 x A GPU (80.0 GB), 2 processes; then Another CPU, 4 cores"
    assert facts["Precision"] == "bfloat16: the GPU has it"
    assert facts["Versions"] == "python 3.12.1, torch 2.8.0"
    assert facts["Commit"] == "0123456789ab, with changes"
    assert facts["Data"] == "camvid, images: train 5"
    assert facts["Parameters"] == "1,234,567"
    assert record_facts({}) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(42.4, "42 s"), (59.6, "1 min 00 s"), (372, "6 min 12 s"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_amounts_of_memory() -> None:
    assert [amount(1.66e9), amount(5e7)] == ["1.7 GB", "50 MB"]
