"""Scores as a report shows them."""

from typing import Any

import numpy as np
import pytest

from gffnet.metrics.scores import ScoreAccumulator
from gffnet.reports.report import class_bars, detail_bars, differences, key_figures, paper_remark, protocol_rows, signed
from tests.evaluation.test_paper import protocol

NAMES = ("road", "sky", "car")
PALETTE = ((1, 2, 3), (4, 5, 6), (255, 0, 16))


def scores(shift: int, **other: Any) -> dict[str, Any]:
    """Of one image that is predicted some pixels to the right; no car."""
    counts = ScoreAccumulator(3)
    labels = np.zeros((60, 120), np.uint8)
    labels[:, 40:] = 1
    counts.update(labels, np.roll(labels, shift, axis=1))
    record = {**protocol("camvid/gffnet_r18"), "absent": "left out", **other}
    return {**counts.compute(NAMES).to_json(), "images": 1, "images_per_second": 2.5, "protocol": record}


def test_key_figures_are_the_scores_and_their_gains() -> None:
    ours, theirs = scores(1), scores(8)
    figures = {figure.label: figure for figure in key_figures(ours, theirs, "other")}
    assert figures["mean IoU"].value == f"{100 * ours['miou']:.1f} %"
    assert figures["mean IoU"].gain == pytest.approx(100 * (ours["miou"] - theirs["miou"]))
    assert figures["boundary F, 3 px"].value == f"{100 * ours['boundary_f']['3']['mean']:.1f} %"
    assert figures["images per second"].value == "2.5"
    alone = key_figures(ours, {}, "")
    assert all(figure.gain is None for figure in alone)
    assert key_figures({"miou": None}, theirs, "other") == []


def test_classes_have_their_colours_and_the_baselines_score() -> None:
    ours, theirs = scores(1), scores(8)
    bars = class_bars(ours, theirs, PALETTE)
    assert bars is not None
    assert [bar.label for bar in bars.rows] == list(NAMES)
    road, _, car = bars.rows
    assert (road.value, road.other) == (ours["per_class"]["road"], theirs["per_class"]["road"])
    assert road.gain == pytest.approx(100 * (road.value - road.other))  # type: ignore[operator]
    assert (car.value, car.gain, car.colour) == (None, None, "#ff0010")
    assert bars.note.startswith("A dash")
    assert class_bars({}, theirs, PALETTE) is None


def test_details_are_matched_by_what_they_are_of() -> None:
    ours, theirs = scores(1), scores(8)
    distance, size, boundary = detail_bars(ours, theirs)
    assert [bar.value for bar in distance.rows] == [band["miou"] for band in ours["iou_by_distance"]]
    assert [bar.other for bar in distance.rows] == [band["miou"] for band in theirs["iou_by_distance"]]
    assert distance.rows[0].label == "to 2\N{NO-BREAK SPACE}px"
    assert distance.rows[-1].label == "over 32\N{NO-BREAK SPACE}px"
    assert sum(int(bar.amount.replace(",", "")) for bar in distance.rows) == 60 * 120
    assert [bar.label for bar in size.rows] == ["small", "medium", "large"]
    assert "medium 1,024–9,216\N{NO-BREAK SPACE}px" in size.note
    assert [bar.value for bar in boundary.rows] == [of["mean"] for of in ours["boundary_f"].values()]
    theirs["iou_by_distance"].pop(0)
    assert [bar.other is None for bar in detail_bars(ours, theirs)[0].rows] == [True, *[False] * 5]
    assert detail_bars({"miou": 0.5}, theirs) == []


def test_protocols_that_differ_are_told() -> None:
    assert differences(scores(1), scores(8, precision="float32", device="cuda:0", recipe="other")) == []
    assert differences(scores(1), scores(8, scales=(1.0,))) == differences(scores(1), scores(8))
    told = differences(scores(1), {**scores(8, flip=True, scales=[0.5, 1.0], crop=[64, 128]), "images": 2})
    assert "flip: no here, yes there" in told
    assert "scales: 1.0 here, 0.5, 1.0 there" in told
    assert "crop: none: the whole image at once here, 64 x 128 pixels there" in told
    assert "images: 1 here, 2 there" in told


def test_the_protocol_in_words() -> None:
    rows = dict(protocol_rows(scores(1)))
    assert rows["crop"] == "none: the whole image at once"
    assert "overlap" not in rows
    assert rows["pixels"] == "7,200"
    assert dict(protocol_rows(scores(1, crop=[64, 128], overlap=1 / 3)))["overlap"] == "0.333"


def test_the_papers_figure_stands_beside_its_own_protocol_only() -> None:
    paper = protocol("cityscapes/gffnet_r101")
    assert "81.2 %" in str(paper_remark({"protocol": paper}))
    assert paper_remark({"protocol": {**paper, "flip": True}}) is None


@pytest.mark.parametrize(("gain", "text"), [(1.26, "+1.3"), (-1.26, "−1.3"), (0.04, "0.0"), (-0.04, "0.0")])
def test_gains_have_signs(gain: float, text: str) -> None:
    assert signed(gain) == text
