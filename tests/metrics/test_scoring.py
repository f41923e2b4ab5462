"""All scores of a data set: the same in any parts and order, plain, and those of the modules that define them."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from gffnet.metrics.boundary import boundary_hits, f_scores
from gffnet.metrics.confusion import ConfusionMatrix, scores_of
from gffnet.metrics.distance import band_counts
from gffnet.metrics.objects import size_counts
from gffnet.metrics.scoring import Scoring
from tests.metrics.maps import Case, Map, cases, cleaned

EDGES: dict[str, Any] = {"widths": (1, 2.5), "bands": (1, 2), "sizes": (3, 8)}
NAMES = ("road", "pole", "sign", "sky", "tree", "car")


def scored(classes: int, maps: list[tuple[Map, Map]], **options: Any) -> Scoring:
    scoring = Scoring(classes, **{**EDGES, **options})
    for pair in maps:
        scoring.update(*pair)
    return scoring


def mean(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


@given(cases())
def test_scores_are_those_of_the_parts(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    report = scored(classes, maps).report(names)
    matrix = ConfusionMatrix(classes)
    for pair in maps:
        matrix.update(*pair)
    scores = matrix.scores()
    some = scores.pixels > 0
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert report[key] == (getattr(scores, key) if some else None)
    assert report["per_class"] == dict(zip(names, scores.iou, strict=True))
    assert report["per_class_accuracy"] == dict(zip(names, scores.accuracy, strict=True))
    assert report["absent"] == [name for name, iou in report["per_class"].items() if iou is None]
    assert report["pixels"] == scores.pixels
    pairs = [cleaned(classes, *pair) for pair in maps]
    hits, totals = (
        sum(found) for found in zip(*(boundary_hits(*pair, classes, (1, 2.5)) for pair in pairs), strict=True)
    )
    assert list(report["boundary_f"]) == ["1", "2.5"]
    for i, part in enumerate(report["boundary_f"].values()):
        assert tuple(part["per_class"].values()) == f_scores(hits[:, i], totals)
        assert part["mean"] == mean(part["per_class"].values())


@given(cases())
def test_the_lists_by_distance_and_size(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    report = scored(classes, maps).report(names)
    pairs = [cleaned(classes, *pair) for pair in maps]
    bands = sum(band_counts(*pair, classes, (1, 2)) for pair in pairs)
    assert [(part["from"], part["to"]) for part in report["iou_by_distance"]] == [(0, 1), (1, 2), (2, None)]
    for part, counts in zip(report["iou_by_distance"], bands, strict=True):
        scores = scores_of(torch.from_numpy(counts))
        assert part["per_class"] == dict(zip(names, scores.iou, strict=True))
        assert part["pixels"] == scores.pixels
        assert part["miou"] == mean(scores.iou)
        assert part["pixel_accuracy"] == (scores.pixel_accuracy if scores.pixels else None)
    pixels, objects = (
        sum(found) for found in zip(*(size_counts(*pair, classes, (3, 8)) for pair in pairs), strict=True)
    )
    sizes = [(part["name"], part["from"], part["to"]) for part in report["iou_by_size"]]
    assert sizes == [("small", 0, 3), ("medium", 3, 8), ("large", 8, None)]
    for part, counts, found in zip(report["iou_by_size"], pixels, objects, strict=True):
        assert part["objects"] == found.sum()
        for (hit, missed, false), iou in zip(counts.tolist(), part["per_class"].values(), strict=True):
            assert iou == (hit / (hit + missed + false) if hit + missed + false else None)
        assert part["miou"] == mean(part["per_class"].values())


@given(cases())
def test_parts_of_a_data_set_add_up_to_the_whole(given: Case) -> None:
    classes, maps = given
    whole, together = scored(classes, maps), Scoring(classes, **EDGES)
    for pair in reversed(maps):
        together.add(scored(classes, [pair]).state())
    for name, counts in whole.state().items():
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, together.state()[name])
    assert whole.report(NAMES[:classes]) == together.report(NAMES[:classes])


@given(cases(images=1))
def test_tensors_and_numbers_of_any_kind_score_the_same(given: Case) -> None:
    classes, maps = given
    expected = scored(classes, maps).state()
    for dtype in (torch.uint8, torch.int64):
        tensors = [tuple(torch.from_numpy(one).to(dtype) for one in pair) for pair in maps]
        for name, counts in scored(classes, tensors).state().items():
            np.testing.assert_array_equal(counts, expected[name])


@given(cases())
def test_a_report_is_plain(given: Case) -> None:
    classes, maps = given
    report = scored(classes, maps).report(NAMES[:classes])
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    kinds: set[type] = set()

    def look(value: Any) -> None:
        kinds.add(type(value))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    look(report)
    assert kinds <= {dict, list, str, int, float, type(None)}


@given(cases())
def test_without_details_the_matrix_alone_is_counted(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    bare, full = scored(classes, maps, details=False), scored(classes, maps)
    assert list(bare.state()) == ["confusion"]
    report = full.report(names)
    assert bare.report(names) == {key: report[key] for key in bare.report(names)}
    assert report.keys() - bare.report(names).keys() == {"boundary_f", "iou_by_distance", "iou_by_size"}


@given(cases(images=1))
def test_a_perfect_prediction_scores_one(given: Case) -> None:
    classes, ((labels, _),) = given
    report = scored(classes, [(labels, labels)]).report(NAMES[:classes])
    found = [report["miou"], *(part["mean"] for part in report["boundary_f"].values())]
    found += [part["miou"] for part in report["iou_by_distance"] + report["iou_by_size"]]
    assert set(found) <= {1.0, None}


@given(cases(images=1))
def test_what_is_predicted_at_ignored_pixels_does_not_matter(given: Case) -> None:
    classes, ((labels, predicted),) = given
    other = np.where(labels < classes, predicted, (predicted + 1) % (classes + 1)).astype(np.uint8)
    names = NAMES[:classes]
    assert scored(classes, [(labels, predicted)]).report(names) == scored(classes, [(labels, other)]).report(names)


def test_absent_classes_enter_the_means_as_asked() -> None:
    scoring = scored(4, [(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))])
    left_out, zero = (scoring.report(NAMES[:4], absent) for absent in ("left out", "zero"))
    assert (left_out["miou"], left_out["mean_accuracy"]) == (1.0, 1.0)
    assert (zero["miou"], zero["mean_accuracy"]) == (0.25, 0.25)
    assert zero["absent"] == ["pole", "sign", "sky"]
    assert zero["iou_by_size"] == left_out["iou_by_size"]


def test_nothing_has_no_score() -> None:
    report = Scoring(2).report(("road", "sky"))
    assert (report["miou"], report["pixel_accuracy"], report["pixels"]) == (None, None, 0)
    assert [part["miou"] for part in report["iou_by_distance"]] == [None] * 6
    assert [part["objects"] for part in report["iou_by_size"]] == [0, 0, 0]
    ignored = np.full((3, 4), 255, np.uint8)
    assert scored(2, [(ignored, ignored * 0)], widths=(1, 3, 5, 9)).report(("road", "sky"))["miou"] is None


def test_bins_of_sizes_that_have_no_names() -> None:
    report = scored(1, [], sizes=(4, 16, 64)).report(("road",))
    assert [part["name"] for part in report["iou_by_size"]] == ["0-4", "4-16", "16-64", "64-"]


def test_a_state_is_a_copy() -> None:
    scoring = scored(2, [(np.zeros((2, 2), np.uint8),) * 2])
    scoring.state()["confusion"][:] = 7
    assert scoring.report(("road", "sky"))["pixels"] == 4


# What cannot be scored is an error, and not counted in part.


@pytest.mark.parametrize("what", ["widths", "bands", "sizes"])
@pytest.mark.parametrize("edges", [(0, 2), (2, 2), (3, 2), (-1,)])
def test_edges_that_do_not_ascend(what: str, edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{what} must ascend from above 0"):
        Scoring(3, **{what: edges})


def test_more_classes_than_eight_bits_hold() -> None:
    with pytest.raises(ValueError, match="254 classes at most, not 255: give details=False"):
        Scoring(255)
    Scoring(255, details=False).update(np.array([[0, 254]]), np.array([[0, 300]]))


def test_counts_of_another_scoring() -> None:
    for other in (Scoring(4), Scoring(3, widths=(1,)), Scoring(3, details=False)):
        with pytest.raises(ValueError, match="counts of another scoring"):
            Scoring(3).add(other.state())


def test_maps_that_are_no_image() -> None:
    scoring = Scoring(3)
    with pytest.raises(ValueError, match=r"labels are \(2, 3, 4\), not \(height, width\)"):
        scoring.update(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="a label is below 0"):
        scoring.update(np.array([[-1]]), np.array([[0]]))
    assert not any(counts.any() for counts in scoring.state().values())
