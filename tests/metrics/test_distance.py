"""Bands by distance against scipy's distances, and against the confusion matrix that they divide."""

import numpy as np
import pytest
from hypothesis import given
from scipy.ndimage import distance_transform_edt

from gffnet.metrics.boundary import boundary_pixels
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.metrics.distance import band_counts, bands_of, distances
from tests.metrics.maps import Case, cases, cleaned, real_pairs

EDGES = (0.5, 1, 2, 4)


@given(cases(largest=40))
def test_distances_are_scipys(given: Case) -> None:
    classes, maps = given
    for labels in maps[0]:
        boundary = boundary_pixels(labels, classes)
        far = distances(labels, classes)
        if boundary.any():
            np.testing.assert_allclose(far, distance_transform_edt(~boundary), rtol=1e-6)
        else:
            assert np.isinf(far).all()


def test_distances_in_real_maps_are_scipys() -> None:
    ((labels, _),) = real_pairs(1)
    expected = distance_transform_edt(~boundary_pixels(labels, 11))
    np.testing.assert_allclose(distances(labels, 11), expected, rtol=1e-6)
    bands = np.searchsorted((2, 4, 8, 16, 32), expected)
    np.testing.assert_array_equal(bands_of(labels, 11, (2, 4, 8, 16, 32)), bands)


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
    assert distances(labels, 2).ravel().tolist() == [2, 1, 0, 0, 1, 2, 3]
    assert bands_of(labels, 2, (1, 2)).ravel().tolist() == [1, 0, 0, 0, 0, 1, 2]


def test_a_map_of_one_class_is_far_from_any_boundary() -> None:
    assert (bands_of(np.zeros((3, 4), np.uint8), 2, (2, 4)) == 2).all()
    assert (bands_of(np.array([[0, 255, 1]], np.uint8), 2, (2, 4)) == 2).all()
