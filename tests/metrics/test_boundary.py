"""Boundaries, their F, and distances to them, against loops over pixels and scipy's distances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from gffnet.metrics.boundary import (
    band_counts,
    boundary_hits,
    boundary_pixels,
    boundary_rings,
    distance_bands,
    distance_to_boundary,
    f_scores,
)
from gffnet.metrics.confusion import ConfusionMatrix
from tests.metrics.maps import Case, Map, cases, cleaned, real_pairs

TOLERANCES = (1, 1.5, 3, 5, 9)


def looped_boundary(labels: Map, classes: int) -> NDArray[np.bool_]:
    height, width = labels.shape
    boundary = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and max(labels[y, x], labels[v, u]) < classes:
                    boundary[y, x] |= bool(labels[y, x] != labels[v, u])
    return boundary


def by_distance_transform(labels: Map, predicted: Map, classes: int) -> tuple[NDArray, NDArray]:
    """Hits and boundary pixels, class by class, by scipy's distances to the other map's boundary."""
    maps = [np.where(looped_boundary(one, classes), one, 255) for one in (predicted, labels)]
    hits, totals = np.zeros((2, len(TOLERANCES), classes), np.int64), np.zeros((2, classes), np.int64)
    for i, (own, other) in enumerate((maps, maps[::-1])):
        for k in range(classes):
            totals[i, k] = (own == k).sum()
            if (other == k).any():
                far = distance_transform_edt(other != k)[own == k]
                hits[i, :, k] = [(far <= width).sum() for width in TOLERANCES]
    return hits, totals


@given(cases())
def test_boundary_pixels_are_those_of_a_loop_over_pixels(given: Case) -> None:
    classes, maps = given
    for labels in maps[0]:
        np.testing.assert_array_equal(boundary_pixels(labels, classes), looped_boundary(labels, classes))


@given(cases(largest=30))
def test_hits_are_those_by_scipys_distances(given: Case) -> None:
    classes, maps = given
    for pair in maps:
        truth, answers = cleaned(classes, *pair)
        hits, totals = boundary_hits(truth, answers, classes, TOLERANCES)
        expected, boundaries = by_distance_transform(truth, answers, classes)
        np.testing.assert_array_equal(hits, expected)
        np.testing.assert_array_equal(totals, boundaries)


def test_hits_of_real_maps_are_those_by_scipys_distances() -> None:
    for pair in real_pairs(1):
        maps = [one[100:260, 100:300] for one in cleaned(11, *pair)]
        for found, expected in zip(boundary_hits(*maps, 11, TOLERANCES), by_distance_transform(*maps, 11), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.sum() > 1000


@given(cases(images=1), st.sampled_from(TOLERANCES))
def test_f_is_the_harmonic_mean_of_precision_and_recall(given: Case, width: float) -> None:
    classes, maps = given
    hits, totals = boundary_hits(*cleaned(classes, *maps[0]), classes, (width,))
    for k, value in enumerate(f_scores(hits[:, 0], totals)):
        if not totals[:, k].any():
            assert value is None
        elif not totals[:, k].all() or not hits[:, 0, k].any():
            assert value == 0
        else:
            precision, recall = hits[:, 0, k] / totals[:, k]
            assert value == pytest.approx(2 / (1 / precision + 1 / recall), abs=1e-12)


@pytest.mark.parametrize("offset", range(7))
def test_a_shifted_edge_is_found_within_its_shift(offset: int) -> None:
    labels, predicted = np.zeros((2, 20, 40), np.uint8)
    labels[:, 20:], predicted[:, 20 + offset :] = 1, 1
    hits, totals = boundary_hits(labels, predicted, 2, (1, 3, 5, 9))
    np.testing.assert_array_equal(totals, 20)
    for i, width in enumerate((1, 3, 5, 9)):
        assert f_scores(hits[:, i], totals) == ((1.0, 1.0) if offset <= width else (0.0, 0.0))


@pytest.mark.parametrize("at", [(0, 3), (2, 2), (3, 3), (4, 5), (6, 6), (0, 9), (7, 7)])
def test_distances_are_euclidean(at: tuple[int, int]) -> None:
    """A single pixel of class 1, predicted elsewhere."""
    labels, predicted = np.zeros((2, 30, 30), np.uint8)
    labels[10, 10], predicted[10 + at[0], 10 + at[1]] = 1, 1
    tolerances = (1, 2, 2.8, 2.83, 4.25, 6.4, 6.41, 8, 9, 9.9)
    hits, _ = boundary_hits(labels, predicted, 2, tolerances)
    assert hits[:, :, 1].tolist() == [[int(math.hypot(*at) <= width) for width in tolerances]] * 2


def test_neither_the_edge_of_the_image_nor_ignored_pixels_are_a_boundary() -> None:
    labels = np.array([[0, 0, 5, 1, 1]], np.uint8)
    assert not boundary_pixels(labels, 2).any()
    labels[0, 2] = 0
    assert boundary_pixels(labels, 2).tolist() == [[False, False, True, True, False]]


def test_nothing_to_find_has_no_score() -> None:
    labels = np.zeros((4, 5), np.uint8)
    hits, totals = boundary_hits(labels, labels, 3, (1, 3))
    assert not hits.any()
    assert f_scores(hits[:, 0], totals) == (None, None, None)


# Distances to boundaries


EDGES = (0.5, 1, 2, 4)


@given(cases(largest=40))
def test_distances_are_scipys(given: Case) -> None:
    classes, maps = given
    for labels in maps[0]:
        boundary = boundary_pixels(labels, classes)
        far = distance_to_boundary(labels, classes)
        if boundary.any():
            np.testing.assert_allclose(far, distance_transform_edt(~boundary), rtol=1e-6)
        else:
            assert np.isinf(far).all()


def test_distances_in_real_maps_are_scipys() -> None:
    ((labels, _),) = real_pairs(1)
    expected = distance_transform_edt(~boundary_pixels(labels, 11))
    np.testing.assert_allclose(distance_to_boundary(labels, 11), expected, rtol=1e-6)
    bands = np.searchsorted((2, 4, 8, 16, 32), expected)
    np.testing.assert_array_equal(distance_bands(labels, 11, (2, 4, 8, 16, 32)), bands)


@given(cases(largest=40))
def test_counts_of_a_band_are_those_of_its_pixels(given: Case) -> None:
    classes, maps = given
    for pair in maps:
        truth, answers = cleaned(classes, *pair)
        boundary = boundary_pixels(truth, classes)
        far = distance_transform_edt(~boundary) if boundary.any() else np.full(truth.shape, np.inf)
        counts = band_counts(truth, answers, classes, EDGES)
        for band, (low, high) in enumerate(zip((-1, *EDGES), (*EDGES, np.inf), strict=True)):
            inside = (far > low) & (far <= high)
            expected = ConfusionMatrix(classes)
            expected.update(truth[inside].astype(np.int64), answers[inside].astype(np.int64))
            np.testing.assert_array_equal(counts[band], expected.counts)


@given(cases())
def test_bands_add_up_to_the_confusion_matrix(given: Case) -> None:
    classes, maps = given
    whole = ConfusionMatrix(classes)
    whole.update(*maps[0])
    counts = band_counts(*cleaned(classes, *maps[0]), classes, EDGES)
    np.testing.assert_array_equal(counts.sum(0), whole.counts)


@pytest.mark.parametrize("vertical", [False, True])
def test_both_sides_of_an_edge_are_at_nought(vertical: bool) -> None:
    labels = np.array([[0, 0, 0, 1, 1, 1, 1]], np.uint8)
    labels = labels.T if vertical else labels
    assert distance_to_boundary(labels, 2).ravel().tolist() == [2, 1, 0, 0, 1, 2, 3]
    assert distance_bands(labels, 2, (1, 2)).ravel().tolist() == [1, 0, 0, 0, 0, 1, 2]


def test_a_map_of_one_class_is_far_from_any_boundary() -> None:
    assert (distance_bands(np.zeros((3, 4), np.uint8), 2, (2, 4)) == 2).all()
    assert (distance_bands(np.array([[0, 255, 1]], np.uint8), 2, (2, 4)) == 2).all()


# Rings by chessboard distance to another class


def naive_rings(labels: Map) -> NDArray[np.int64]:
    """Find the nearest pixel of another class over all pairs."""
    height, width = labels.shape
    rings = np.zeros(labels.shape, np.int64)
    for y in range(height):
        for x in range(width):
            other = (labels != labels[y, x]) & (labels != 255) & (labels[y, x] != 255)
            ys, xs = np.nonzero(other)
            distance = np.maximum(abs(ys - y), abs(xs - x)).min() if len(ys) else np.inf
            rings[y, x] = sum(distance > limit for limit in (2, 5, 10))
    return rings


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (17, 29), (26, 5)])
def test_rings_are_distances_to_another_class(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    labels = np.zeros(size, np.uint8)
    for _ in range(3):
        labels[random.integers(size[0]), random.integers(size[1])] = random.integers(255)
    assert np.array_equal(boundary_rings(labels), naive_rings(labels))


def test_ignored_pixels_make_no_boundary() -> None:
    labels = np.zeros((15, 40), np.uint8)
    labels[:, 18:] = 3
    labels[:, 14:18] = labels[4:9, 30:33] = 255
    known = labels != 255
    assert np.array_equal(boundary_rings(labels)[known], naive_rings(labels)[known])
    assert set(boundary_rings(labels)[known]) == {1, 2, 3}, "4 ignored pixels lie between the classes"
    labels[labels == 3] = 0
    assert (boundary_rings(labels) == 3).all()


def test_rings_of_halves() -> None:
    labels = np.repeat(np.array([[0] * 12 + [200] * 12], np.uint8), 3, axis=0)
    assert boundary_rings(labels)[1].tolist() == [3, 3, *[2] * 5, *[1] * 3, *[0] * 4, *[1] * 3, *[2] * 5, 3, 3]


def test_an_image_of_one_class_is_far_from_every_boundary() -> None:
    assert (boundary_rings(np.full((4, 4), 9, np.uint8)) == 3).all()
