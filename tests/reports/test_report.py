"""The report's parts: charts, confusions, training curves, example images."""

import base64
import dataclasses
import io
import math
import re
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.data.datasets import open_dataset
from gffnet.evaluation.results import ImageScore
from gffnet.gates.edit import Closing, GateResult
from gffnet.gates.figures import color_table
from gffnet.metrics.scores import Scores
from gffnet.recipe import EvaluationRecipe
from gffnet.reports.report import (
    MAX_CELLS,
    MAX_POINTS,
    Choice,
    Example,
    Line,
    choose,
    confusion_of,
    example_rows,
    gate_rows,
    image_chart,
    last_validation,
    line_chart,
    make_example,
    minutes,
    record_facts,
    row_shares,
    seen_classes,
    sessions_of,
    thin,
    training_charts,
    worst_pairs,
)
from tests import tiny
from tests.data.trees import camvid_tree
from tests.reports.runs import HISTORY, RECORD


def test_a_chart_is_an_inline_drawing_in_the_colors_of_its_page():
    chart = line_chart(
        "Loss <1>", "iteration", "cross-entropy & more", [Line("a", [(0, 0), (10, 4)], dots=True)], marks=[5]
    )
    assert chart.svg.startswith("<svg")
    assert set(re.findall(r"#[0-9a-f]{6}", chart.svg)) <= {"#000000"}
    assert {"var(--one)", "var(--text)", "var(--soft)", "var(--rule)"} <= set(re.findall(r"var\(--\w+\)", chart.svg))
    assert "cross-entropy &amp; more" in chart.svg
    assert chart.description == "Loss <1> over iterations, up to 10: a from 0 to 4."
    assert chart.legend == [("a", "4")]
    assert chart == line_chart(
        "Loss <1>", "iteration", "cross-entropy & more", [Line("a", [(0, 0), (10, 4)], dots=True)], marks=[5]
    )


def test_what_is_not_finite_is_left_out():
    assert line_chart("t", "x", "y", []) is None
    assert line_chart("t", "x", "y", [Line("a", []), Line("b", [(1, nan), (2, inf)])]) is None
    chart = line_chart("t", "x", "y", [Line("a", [(1, nan), (2, 1)]), Line("b", [])])
    assert [name for name, _ in chart.legend] == ["a"]


def test_long_curves_are_averaged():
    points = [(i, i % 2) for i in range(1, 10 * MAX_POINTS + 1)]
    thinned = thin(points)
    assert len(thinned) == MAX_POINTS
    assert thinned[0] == (10, 0.5)
    assert thinned[-1] == (10 * MAX_POINTS, 0.5)
    assert thin(points[:MAX_POINTS]) == points[:MAX_POINTS]
    assert thin([]) == []


@pytest.mark.parametrize("last", [True, False])
def test_the_last_value_stands_in_the_legend_where_it_means_something(last):
    chart = line_chart("t", "x", "y", [Line("a", [(0, 0), (1, 3)], last=last)])
    assert chart.legend == [("a", "3")] * last


def test_axes_start_at_zero_and_end_where_they_are_told():
    ticks = re.findall(r">(\d+)</text>", line_chart("t", "x", "y", [Line("a", [(5, 40)])], top=100, end=60).svg)
    assert {"0", "60", "100"} <= set(ticks)


NAMES = ("road", "sky", "a class of a very long name")
COUNTS = np.array([[90, 10, 0, 0], [30, 60, 6, 4], [0, 0, 0, 0]], np.int64)


def test_rows_are_shares_of_the_labelled_class() -> None:
    assert np.allclose(row_shares(COUNTS), [[0.9, 0.1, 0, 0], [0.3, 0.6, 0.06, 0.04], [0, 0, 0, 0]])


def test_the_worst_pairs_come_first_and_hits_not_at_all() -> None:
    pairs = worst_pairs(COUNTS, NAMES)
    assert [(pair.label, pair.predicted, pair.pixels) for pair in pairs] == [
        ("sky", "road", 30),
        ("road", "sky", 10),
        ("sky", NAMES[2], 6),
        ("sky", "no class", 4),
    ]
    assert pairs[0].share == pytest.approx(0.3)
    assert len(worst_pairs(COUNTS, NAMES, most=2)) == 2
    assert worst_pairs(np.diag([1, 2, 3]).astype(np.int64)[:, [0, 1, 2, 2]] * [1, 1, 1, 0], NAMES) == []


def test_few_classes_are_cells() -> None:
    shown = confusion_of(COUNTS, NAMES)
    assert shown is not None
    assert shown.picture is None
    assert np.allclose(shown.shares, row_shares(COUNTS))
    assert (shown.labels, shown.answers) == (NAMES, [*NAMES, "no class"])
    assert "30% of sky as road" in shown.description


def test_no_column_for_no_class_where_nothing_was_predicted_as_none() -> None:
    shown = confusion_of(COUNTS * [1, 1, 1, 0], NAMES)
    assert shown is not None
    assert shown.answers == NAMES
    assert np.shape(shown.shares) == (3, 3)


def test_many_classes_make_a_picture() -> None:
    k = MAX_CELLS + 1
    counts = np.zeros((k, k + 1), np.int64)
    counts[:, 0], counts[np.arange(k), np.arange(k)] = 3, 1
    drawn = confusion_of(counts, [f"c{i}" for i in range(k)])
    assert drawn is not None
    assert drawn.picture is not None
    assert (drawn.picture.width, drawn.picture.height) == (k, k)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn.picture.uri.split(",")[1]))).convert("RGB"))
    assert np.array_equal(pixels[5, 5], color_table()[round(255 * 0.5)])
    assert np.array_equal(pixels[5, 7], color_table()[0])
    assert drawn.pairs[0].predicted == "c0"


def test_nothing_was_counted() -> None:
    assert confusion_of(None, NAMES) is None
    assert confusion_of(COUNTS * 0, NAMES) is None


CLASSES = [f"c{i}" for i in range(11)]


def test_every_curve_is_drawn_with_where_the_run_went_on() -> None:
    loss, validation, rate = training_charts(HISTORY, RECORD)
    assert [name for name, _ in loss.legend] == ["loss", "auxiliary loss"]
    assert loss.description == "Training loss over iterations, up to 4: loss from 2 to 1; auxiliary loss from 3 to 2."
    assert [last for _, last in validation.legend] == ["25", "50"]
    assert rate.legend == [("rate", "0.05")]
    assert loss.svg != training_charts(HISTORY, {})[0].svg, "the restart is marked"


def test_what_was_not_measured_is_not_drawn() -> None:
    assert training_charts([], RECORD) == []
    lines = [{"iteration": 1, "loss": float("nan"), "auxiliary_loss": 0.0}, {"iteration": 2, "loss": 1.0}]
    (chart,) = training_charts(lines, {})
    assert chart.description == "Training loss over iterations, up to 2: loss from 1 to 1."
    drawn = training_charts([{"iteration": 1, "gradient_norm": 2.5}], {})
    assert [chart.title for chart in drawn] == ["Gradient"]


def test_the_last_validation_stands_in_for_scores() -> None:
    iteration, scores = last_validation(HISTORY, CLASSES)
    assert (iteration, scores.miou, scores.pixel_accuracy) == (4, 0.25, 0.5)
    assert (scores.per_class["c0"], scores.per_class["c1"]) == (0.5, None)
    assert last_validation(HISTORY, CLASSES[:3])[1].per_class == {}, "of other classes"
    assert last_validation(HISTORY[:2], CLASSES) == (None, Scores(miou=None, per_class={}))


def test_sessions_in_words() -> None:
    first, second = sessions_of(RECORD)
    assert first == ("2026-01-02 03:04", "1 h 05 min", "0 to 4", "interrupted", "12.3", "3.21 GB")
    assert second == ("2026-01-03 03:04", "", "from 4", "not ended, or killed", "", "")
    assert sessions_of({}) == []


def test_facts_of_sessions_are_told_once_where_they_agree() -> None:
    facts = dict(record_facts(RECORD))
    assert facts["Hardware"] == "A CPU, 8 cores, 16.00 GB, 2 x A GPU (80.00 GB), 2 processes; then Another CPU, 4 cores"
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


NOT_SCORED = ImageScore(0, 0, math.nan)
PALETTE = ((10, 20, 30), (40, 50, 60))


def images(scores: list[float]) -> list[tuple[str, ImageScore]]:
    return [(f"image {i}", ImageScore(10, 5, score)) for i, score in enumerate(scores)]


def test_the_worst_and_the_best_are_chosen_and_some_between() -> None:
    scores = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.55, 0.05, 0.95]
    chosen = choose([*images(scores), ("void", NOT_SCORED)], 8)
    ranked = sorted(range(12), key=lambda i: scores[i])
    places = [choice.sample for choice in chosen]
    assert places[:3] == ranked[:3]
    assert places[-3:] == ranked[-3:]
    assert all(ranked.index(place) in range(3, 9) for place in places[3:5])
    assert [choice.why for choice in chosen][:3] == ["worst of 12", "second worst of 12", "third worst of 12"]
    assert [choice.why for choice in chosen][-2:] == ["second best of 12", "best of 12"]
    assert chosen[3].why == f"typical: number {ranked.index(places[3]) + 1} of 12"
    assert [choice.miou for choice in chosen] == sorted(scores[place] for place in places)


@pytest.mark.parametrize("count", range(12))
def test_any_number_can_be_chosen(count: int) -> None:
    scores = np.random.default_rng(0).random(9).tolist()
    chosen = choose(images(scores), count)
    places = [choice.sample for choice in chosen]
    assert len(places) == len(set(places)) == min(count, 9)
    assert [choice.miou for choice in chosen] == sorted(scores[place] for place in places)


def test_places_beyond_the_third_are_numbers() -> None:
    whys = [choice.why for choice in choose(images(np.arange(60).tolist()), 60)]
    assert whys[20] == "number 21 from the worst, of 60"
    assert whys[-4] == "number 4 from the best, of 60"


def test_no_image_with_labels_is_chosen() -> None:
    assert choose([("void", NOT_SCORED)], 3) == []


def test_images_from_the_worst_to_the_best() -> None:
    chart = image_chart([*images([0.75, 0.25]), ("void", NOT_SCORED)])
    assert chart is not None
    assert "up to 2: mean IoU from 25 to 75" in chart.description


@pytest.mark.parametrize("protocol", [EvaluationRecipe(), EvaluationRecipe(scales=(1.0, 1.5), flip=True)])
def test_the_prediction_shown_is_the_one_that_was_scored(protocol: EvaluationRecipe, tmp_path: Path) -> None:
    predictor = tiny.predictor(tiny.recipe(tiny.GFFNET))
    sample = open_dataset("camvid", camvid_tree(tmp_path), "val")[1]
    example = make_example(predictor, sample, protocol, Choice(1, "worst of 3", 0.125))
    image = sample.image.permute(1, 2, 0).numpy()
    assert np.array_equal(example.prediction, predictor.predict(image, protocol))
    assert example.gates is not None
    assert [gate.shape for gate in example.gates.maps] == [image.shape[:2]] * 4
    assert [closing.levels for closing in example.closings] == [(1,), (2,), (3,), (4,)]
    plain = make_example(tiny.predictor(), sample, protocol, Choice(1, "", None))
    assert (plain.gates, plain.closings) == (None, [])


def example() -> Example:
    """Half of the labelled pixels right."""
    labels = np.array([[0, 0, 1, 1], [255, 255, 255, 255]], np.uint8)
    prediction = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], np.uint8)
    rgb = np.full((2, 4, 3), 90, np.uint8)
    gates = GateResult((np.full((2, 4), 0.25, np.float32),), prediction)
    return Example("x", rgb, labels, prediction, gates, [Closing((1,), labels, labels == 1)], "worst of 1", 0.3)


def test_wrong_pixels_are_those_that_are_labelled() -> None:
    seen, gates, closed = example_rows(example(), PALETTE)
    assert [shown.caption for shown in seen] == ["image", "ground truth", "prediction", "wrong: 50.0 %"]
    assert [shown.sharp for shown in seen] == [False, True, True, False]
    assert (gates[0].level, gates[0].caption) == (1, ", mean 0.25")
    assert closed[0].alt == "Pixels of x that change with G_1 closed: 25.0 %."


def test_gates_in_numbers() -> None:
    (row,) = gate_rows([example()], ("a", "b"))
    assert row == {"level": 1, "gate": [0.25, 0.25, None], "open": 0.0, "changed": [0.25, 0.25, None]}
    without = dataclasses.replace(example(), closings=[])
    assert gate_rows([without], ("a", "b"))[0]["changed"] == [None] * 3
    assert gate_rows([dataclasses.replace(without, gates=None)], ("a", "b")) == []


def test_only_the_classes_that_are_seen_are_in_the_legend() -> None:
    palette = (*PALETTE, (70, 80, 90))
    assert seen_classes([example()], ("a", "b", "c"), palette) == [("a", "#0a141e"), ("b", "#28323c")]
    assert seen_classes([], ("a", "b", "c"), palette) == []
