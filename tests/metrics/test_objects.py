"""Objects against scipy's connected regions, and true and false pixels by their size against a loop over pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label as regions

from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.metrics.objects import connected, runs, size_counts
from tests.metrics.maps import Case, Map, cases, cleaned, real_pairs

EDGES = (2, 5, 12)


def objects_of(labels: Map) -> NDArray[np.int64]:
    """The first run of the object of every pixel."""
    starts, lengths = runs(labels)
    roots = connected(starts, lengths, labels.ravel()[starts], labels.shape[1])
    return np.repeat(roots, lengths).reshape(labels.shape)


def scipys_objects(labels: Map) -> NDArray[np.int64]:
    """A number for every connected region of a class, neighbours at corners included."""
    numbers = np.zeros(labels.shape, np.int64)
    for k in np.unique(labels):
        found, _ = regions(labels == k, np.ones((3, 3)))
        numbers[labels == k] = found[labels == k] + numbers.max()
    return numbers


def same_parts(one: NDArray, other: NDArray) -> bool:
    """Whether two maps of numbers divide the pixels the same way."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


@given(cases(largest=40))
def test_objects_are_scipys_regions(given: Case) -> None:
    _, maps = given
    for labels in maps[0]:
        assert same_parts(objects_of(labels), scipys_objects(labels))


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.floats(0.2, 0.8))
def test_objects_of_noise_are_scipys_regions(seed: int, height: int, width: int, share: float) -> None:
    """Winding ones."""
    labels = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    assert same_parts(objects_of(labels), scipys_objects(labels))


def test_a_spiral_is_one_object_and_so_is_what_it_leaves() -> None:
    labels = np.zeros((63, 63), np.uint8)
    at, step = np.array([0, 0]), np.array([0, 1])
    for length in (62, *(n for m in range(62, 1, -2) for n in (m, m))):
        for _ in range(length):
            labels[tuple(at)] = 1
            at += step
        step = np.array([step[1], -step[0]])
    assert len(np.unique(objects_of(labels))) == 2
    assert same_parts(objects_of(labels), scipys_objects(labels))


def test_objects_of_real_maps_are_scipys_regions() -> None:
    for pair in real_pairs(1):
        for labels in pair:
            assert same_parts(objects_of(labels), scipys_objects(labels))


def looped(labels: Map, predicted: Map, classes: int) -> tuple[NDArray, NDArray]:
    """TP, FN, FP and objects by bins of size, pixel by pixel."""
    pixels = np.zeros((len(EDGES) + 1, classes, 3), np.int64)
    objects = np.zeros((len(EDGES) + 1, classes), np.int64)
    numbers = [scipys_objects(one) for one in (labels, predicted)]
    bins = [np.searchsorted(EDGES, np.bincount(one.ravel()), side="right") for one in numbers]
    for y, x in np.ndindex(*labels.shape):
        k, answer = int(labels[y, x]), int(predicted[y, x])
        if k == classes:
            continue
        pixels[bins[0][numbers[0][y, x]], k, 0 if answer == k else 1] += 1
        if answer not in (k, classes):
            pixels[bins[1][numbers[1][y, x]], answer, 2] += 1
    for number in np.unique(numbers[0]):
        k = int(labels[numbers[0] == number][0])
        if k < classes:
            objects[bins[0][number], k] += 1
    return pixels, objects


@given(cases())
def test_counts_are_those_of_a_loop_over_pixels(given: Case) -> None:
    classes, maps = given
    for pair in maps:
        truth, answers = cleaned(classes, *pair)
        found = size_counts(truth, answers, classes, EDGES)
        for ours, theirs in zip(found, looped(truth, answers, classes), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@given(cases(largest=40))
def test_bins_add_up_to_the_confusion_matrix(given: Case) -> None:
    classes, maps = given
    whole = ConfusionMatrix(classes)
    whole.update(*maps[0])
    counts = whole.counts.numpy()
    hits = counts.diagonal()
    hit, missed, false = size_counts(*cleaned(classes, *maps[0]), classes, EDGES)[0].sum(0).T
    np.testing.assert_array_equal(hit, hits)
    np.testing.assert_array_equal(missed, counts.sum(1) - hits)
    np.testing.assert_array_equal(false, counts[:, :classes].sum(0) - hits)


@pytest.mark.parametrize(("side", "expected"), [(31, 0), (32, 1), (95, 1), (96, 2)])
def test_a_square_has_the_size_of_its_pixels(side: int, expected: int) -> None:
    labels = np.zeros((120, 200), np.uint8)
    labels[10 : 10 + side, 20 : 20 + side] = 1
    pixels, objects = size_counts(labels, labels, 2, (32**2, 96**2))
    assert objects.T.tolist() == [[0, 0, 1], [int(i == expected) for i in range(3)]]
    assert pixels[expected, 1].tolist() == [side**2, 0, 0]


def test_a_false_object_counts_in_its_own_size() -> None:
    """A speck predicted in a large field is false among the small, and its pixel is missed among the large."""
    labels, predicted = np.zeros((2, 10, 10), np.uint8)
    predicted[4, 4] = 1
    pixels, objects = size_counts(labels, predicted, 2, (5,))
    assert pixels[0].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert pixels[1].tolist() == [[99, 1, 0], [0, 0, 0]]
    assert objects.tolist() == [[0, 0], [1, 0]]
