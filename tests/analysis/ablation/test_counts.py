"""Counts of parts against loops over pixels, and what is packed and unpacked."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.evaluation.evaluate import Scored
from gffnet.gates.ablation import BAND_COUNT, SIZE_COUNT, ClosingScored
from gffnet.metrics.distance import distances

CLASSES = 3


def pair(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels of a large square and specks, with an ignored column; predictions that are often right."""
    random = np.random.default_rng(seed)
    labels = np.zeros((110, 130), np.uint8)
    labels[5:105, 5:105] = 1
    labels[random.integers(0, 110, 30), random.integers(100, 130, 30)] = 2
    labels[:, 129] = 255
    predicted = np.where(random.random(labels.shape) < 0.7, labels, random.integers(0, 3, labels.shape))
    return labels, np.minimum(predicted, 2).astype(np.uint8)


def scored(indices: list[int]) -> ClosingScored:
    of = ClosingScored(CLASSES)
    for i in indices:
        of.update(i, *pair(i))
    return of


def test_parts_are_right_and_labelled_pixels_by_distance_and_size() -> None:
    labels, predicted = pair(0)
    right, labelled = scored([0]).parts[0]
    far = distances(labels, CLASSES)
    edges = [-1, 2, 4, 8, 16, 32, np.inf]
    for i, (low, high) in enumerate(pairwise(edges)):
        where = (far > low) & (far <= high) & (labels != 255)
        assert (right[i], labelled[i]) == ((where & (labels == predicted)).sum(), where.sum())
    assert labelled[BAND_COUNT - 1] > 0
    square = labels == 1
    small = labels == 2  # specks of a pixel or few; what they leave of the square and around it is large
    large = BAND_COUNT + SIZE_COUNT - 1
    assert labelled[BAND_COUNT] == small.sum()
    assert right[BAND_COUNT] == (small & (predicted == 2)).sum()
    assert labelled[large] == square.sum()
    assert right[large] == (square & (predicted == 1)).sum()


def test_all_that_an_evaluation_counts_is_counted() -> None:
    own, plain = scored([0, 3]), Scored(CLASSES)
    for i in (0, 3):
        plain.update(i, *pair(i))
    assert own.counts.report("abc") == plain.counts.report("abc")
    assert own.images == plain.images


def test_parts_add_up_exactly() -> None:
    whole, together = scored([0, 1, 2]), ClosingScored(CLASSES)
    for part in ([1], [], [2, 0]):
        together.add(scored(part).pack())
    assert together.counts.report("abc") == whole.counts.report("abc")
    assert together.images == whole.images
    assert together.parts.keys() == whole.parts.keys()
    assert all(np.array_equal(together.parts[i], whole.parts[i]) for i in range(3))
    with pytest.raises(ValueError, match="twice"):
        together.add(scored([1]).pack())
