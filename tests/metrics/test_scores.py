"""All scores of a data set: the same in any parts and order, those of the modules that define them, and their JSON."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from gffnet.metrics.boundary import band_counts, boundary_hits, f_scores
from gffnet.metrics.confusion import ConfusionMatrix, class_scores
from gffnet.metrics.objects import size_counts
from gffnet.metrics.scores import ScoreAccumulator, Scores
from tests.metrics.maps import Case, Map, cases, cleaned

EDGES: dict[str, Any] = {"tolerances": (1, 2.5), "bands": (1, 2), "sizes": (3, 8)}
NAMES = ("road", "pole", "sign", "sky", "tree", "car")


def accumulated(classes: int, maps: list[tuple[Map, Map]], **options: Any) -> ScoreAccumulator:
    accumulator = ScoreAccumulator(classes, **{**EDGES, **options})
    for pair in maps:
        accumulator.update(*pair)
    return accumulator


def mean(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


@given(cases())
def test_scores_are_those_of_the_parts(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    scores = accumulated(classes, maps).compute(names)
    matrix = ConfusionMatrix(classes)
    for pair in maps:
        matrix.update(*pair)
    expected = matrix.scores()
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert getattr(scores, key) == (getattr(expected, key) if expected.pixels else None)
    assert scores.per_class == dict(zip(names, expected.iou, strict=True))
    assert scores.per_class_accuracy == dict(zip(names, expected.accuracy, strict=True))
    assert scores.absent == [name for name, iou in scores.per_class.items() if iou is None]
    assert scores.pixels == expected.pixels
    pairs = [cleaned(classes, *pair) for pair in maps]
    hits, totals = (
        sum(found) for found in zip(*(boundary_hits(*pair, classes, (1, 2.5)) for pair in pairs), strict=True)
    )
    assert list(scores.boundary_f) == ["1", "2.5"]
    for i, part in enumerate(scores.boundary_f.values()):
        assert tuple(part.per_class.values()) == f_scores(hits[:, i], totals)
        assert part.mean == mean(part.per_class.values())


@given(cases())
def test_scores_by_distance_and_size(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    scores = accumulated(classes, maps).compute(names)
    pairs = [cleaned(classes, *pair) for pair in maps]
    bands = sum(band_counts(*pair, classes, (1, 2)) for pair in pairs)
    assert [(part.start, part.end) for part in scores.iou_by_distance] == [(0, 1), (1, 2), (2, None)]
    for part, counts in zip(scores.iou_by_distance, bands, strict=True):
        expected = class_scores(torch.from_numpy(counts))
        assert part.per_class == dict(zip(names, expected.iou, strict=True))
        assert part.pixels == expected.pixels
        assert part.miou == mean(expected.iou)
        assert part.pixel_accuracy == (expected.pixel_accuracy if expected.pixels else None)
    pixels, objects = (
        sum(found) for found in zip(*(size_counts(*pair, classes, (3, 8)) for pair in pairs), strict=True)
    )
    sizes = [(part.name, part.start, part.end) for part in scores.iou_by_size]
    assert sizes == [("small", 0, 3), ("medium", 3, 8), ("large", 8, None)]
    for part, counts, found in zip(scores.iou_by_size, pixels, objects, strict=True):
        assert part.objects == found.sum()
        for (hit, missed, false), iou in zip(counts.tolist(), part.per_class.values(), strict=True):
            assert iou == (hit / (hit + missed + false) if hit + missed + false else None)
        assert part.miou == mean(part.per_class.values())


@given(cases())
def test_parts_of_a_data_set_add_up_to_the_whole(given: Case) -> None:
    classes, maps = given
    whole, merged = accumulated(classes, maps), ScoreAccumulator(classes, **EDGES)
    for pair in reversed(maps):
        merged.merge(ScoreAccumulator(classes, **EDGES).update(*pair))
    for name, counts in whole.counts.items():
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, merged.counts[name])
    assert whole.compute(NAMES[:classes]) == merged.compute(NAMES[:classes])


@given(cases(images=1))
def test_tensors_and_numbers_of_any_kind_score_the_same(given: Case) -> None:
    classes, maps = given
    expected = accumulated(classes, maps).counts
    for dtype in (torch.uint8, torch.int64):
        tensors = [tuple(torch.from_numpy(one).to(dtype) for one in pair) for pair in maps]
        for name, counts in accumulated(classes, tensors).counts.items():
            np.testing.assert_array_equal(counts, expected[name])


@given(cases())
def test_json_holds_plain_values_and_is_read_back(given: Case) -> None:
    classes, maps = given
    scores = accumulated(classes, maps).compute(NAMES[:classes])
    values = scores.to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert Scores.from_json(values) == scores
    keys = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "per_class", "per_class_accuracy")
    assert list(values) == [*keys, "absent", "pixels", "boundary_f", "iou_by_distance", "iou_by_size"]
    assert list(values["boundary_f"]["1"]) == ["mean", "per_class"]
    band, size = values["iou_by_distance"][0], values["iou_by_size"][0]
    assert list(band) == ["from", "to", "miou", "pixel_accuracy", "pixels", "per_class"]
    assert list(size) == ["name", "from", "to", "objects", "miou", "per_class"]
    kinds: set[type] = set()

    def look(value: Any) -> None:
        kinds.add(type(value))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    look(values)
    assert kinds <= {dict, list, str, int, float, type(None)}


@given(cases())
def test_without_details_the_matrix_alone_is_counted(given: Case) -> None:
    classes, maps = given
    names = NAMES[:classes]
    bare, full = accumulated(classes, maps, details=False), accumulated(classes, maps)
    assert list(bare.counts) == ["confusion"]
    values, some = full.compute(names).to_json(), bare.compute(names).to_json()
    assert some == {key: values[key] for key in some}
    assert values.keys() - some.keys() == {"boundary_f", "iou_by_distance", "iou_by_size"}


@given(cases(images=1))
def test_a_perfect_prediction_scores_one(given: Case) -> None:
    classes, ((labels, _),) = given
    scores = accumulated(classes, [(labels, labels)]).compute(NAMES[:classes])
    found = [scores.miou, *(part.mean for part in scores.boundary_f.values())]
    found += [part.miou for part in [*scores.iou_by_distance, *scores.iou_by_size]]
    assert set(found) <= {1.0, None}


@given(cases(images=1))
def test_what_is_predicted_at_ignored_pixels_does_not_matter(given: Case) -> None:
    classes, ((labels, predicted),) = given
    other = np.where(labels < classes, predicted, (predicted + 1) % (classes + 1)).astype(np.uint8)
    one, same = (accumulated(classes, [(labels, answers)]).compute(NAMES[:classes]) for answers in (predicted, other))
    assert one == same


def test_absent_classes_enter_the_means_as_asked() -> None:
    accumulator = accumulated(4, [(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))])
    left_out, zero = (accumulator.compute(NAMES[:4], absent) for absent in ("left out", "zero"))
    assert (left_out.miou, left_out.mean_accuracy) == (1.0, 1.0)
    assert (zero.miou, zero.mean_accuracy) == (0.25, 0.25)
    assert zero.absent == ["pole", "sign", "sky"]
    assert zero.iou_by_size == left_out.iou_by_size


def test_nothing_has_no_score() -> None:
    scores = ScoreAccumulator(2).compute(("road", "sky"))
    assert (scores.miou, scores.pixel_accuracy, scores.pixels) == (None, None, 0)
    assert [part.miou for part in scores.iou_by_distance] == [None] * 6
    assert [part.objects for part in scores.iou_by_size] == [0, 0, 0]
    ignored = np.full((3, 4), 255, np.uint8)
    assert accumulated(2, [(ignored, ignored * 0)], tolerances=(1, 3, 5, 9)).compute(("road", "sky")).miou is None


def test_bins_of_sizes_that_have_no_names() -> None:
    scores = accumulated(1, [], sizes=(4, 16, 64)).compute(("road",))
    assert [part.name for part in scores.iou_by_size] == ["0-4", "4-16", "16-64", "64-"]


# What cannot be scored is an error, and not counted in part.


@pytest.mark.parametrize("what", ["tolerances", "bands", "sizes"])
@pytest.mark.parametrize("edges", [(0, 2), (2, 2), (3, 2), (-1,)])
def test_edges_that_do_not_ascend(what: str, edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{what} must ascend from above 0"):
        ScoreAccumulator(3, **{what: edges})


def test_more_classes_than_eight_bits_hold() -> None:
    with pytest.raises(ValueError, match="254 classes at most, not 255: give details=False"):
        ScoreAccumulator(255)
    ScoreAccumulator(255, details=False).update(np.array([[0, 254]]), np.array([[0, 300]]))


def test_counts_of_other_scores_are_refused() -> None:
    for other in (ScoreAccumulator(4), ScoreAccumulator(3, tolerances=(1,)), ScoreAccumulator(3, details=False)):
        with pytest.raises(ValueError, match="counts of other scores"):
            ScoreAccumulator(3).merge(other.counts)


def test_maps_that_are_no_image() -> None:
    accumulator = ScoreAccumulator(3)
    with pytest.raises(ValueError, match=r"labels are \(2, 3, 4\), not \(height, width\)"):
        accumulator.update(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="a label is below 0"):
        accumulator.update(np.array([[-1]]), np.array([[0]]))
    assert not any(counts.any() for counts in accumulator.counts.values())
