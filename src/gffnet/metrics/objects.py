"""True and false positives by the size of the object they lie in, so that small objects do not drown in large ones.

An object is a connected region of pixels of one class, neighbours at corners included; its size is its number of
pixels, and edges e_1 < ... < e_n divide sizes into bins: size < e_1, e_1 <= size < e_2, ..., e_n <= size. For class k
and bin s

    TP_ks = pixels of k in labelled objects of bin s that were predicted as k,
    FN_ks = pixels of k in labelled objects of bin s that were not,
    FP_ks = pixels predicted as k, labelled otherwise, in *predicted* objects of k of bin s,
    IoU_ks = TP_ks / (TP_ks + FN_ks + FP_ks).

Over the bins these add up to those of the confusion matrix. Ignored pixels belong to no object, labelled or predicted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gffnet.metrics.confusion import joint_counts

Map = NDArray[np.uint8]
Ints = NDArray[np.int64]


def size_counts(labels: Map, predicted: Map, num_classes: int, edges: Sequence[int]) -> tuple[Ints, Ints]:
    """Count one image's TP, FN and FP pixels (bins, num_classes, 3) and its labelled objects (bins, num_classes).

    Pixels of no class hold `num_classes`, and so must predictions at ignored pixels.
    """
    bins, objects = _size_bins(labels, num_classes, edges)
    predicted_bins, _ = _size_bins(predicted, num_classes, edges)
    sizes = [len(edges) + 1, num_classes]
    right = labels == predicted
    true_positives = joint_counts([bins, labels], sizes, right)
    false_negatives = joint_counts([bins, labels], sizes) - true_positives
    false_positives = joint_counts([predicted_bins, predicted], sizes, ~right & (labels < num_classes))
    return np.stack([true_positives, false_negatives, false_positives], -1), objects


def _size_bins(labels: Map, num_classes: int, edges: Sequence[int]) -> tuple[Map, Ints]:
    """Find the bin (H, W) of the object of every pixel, and count the objects (bins, num_classes)."""
    starts, lengths = runs(labels)
    classes = labels.ravel()[starts]
    roots = connected(starts, lengths, classes, labels.shape[1])
    areas = np.bincount(roots, lengths, len(starts)).astype(np.int64)  # at the run that stands for an object
    bins = np.searchsorted(np.asarray(edges), areas, side="right").astype(np.uint8)
    first = (roots == np.arange(len(roots))) & (classes < num_classes)
    objects = np.zeros((len(edges) + 1, num_classes), np.int64)
    np.add.at(objects, (bins[first], classes[first]), 1)
    return np.repeat(bins[roots], lengths).reshape(labels.shape), objects


def runs(labels: Map) -> tuple[Ints, Ints]:
    """Find the flat starts and the lengths of runs of equal values in the rows of a map (H, W), in reading order."""
    begins = np.ones(labels.shape, np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=labels.size)


def connected(starts: Ints, lengths: Ints, classes: Map, width: int) -> Ints:
    """Find, for every run, the first run of its object: runs of a class join where they touch, at corners too."""
    upper, lower = _touching(starts, lengths, width)
    same = classes[upper] == classes[lower]
    upper, lower = upper[same], lower[same]
    roots = np.arange(len(starts))
    while len(upper):
        a, b = roots[upper], roots[lower]
        apart = a != b
        upper, lower, a, b = upper[apart], lower[apart], a[apart], b[apart]
        roots[np.maximum(a, b)] = np.minimum(a, b)  # each root that is not the least around joins one less than it
        while True:
            further = roots[roots]
            if np.array_equal(further, roots):
                break
            roots = further
    return roots


def _touching(starts: Ints, lengths: Ints, width: int) -> tuple[Ints, Ints]:
    """Find all pairs of runs in adjacent rows that share an edge or a corner: the upper and the lower ones."""
    ends = starts + lengths
    rows = starts // width
    row_starts = np.searchsorted(rows, np.arange(int(rows[-1]) + 2))  # first run of each row, and the number of runs
    upper = np.arange(row_starts[-2])  # the last row has none below
    below, beyond = row_starts[rows[upper] + 1], row_starts[rows[upper] + 2]
    first = np.maximum(np.searchsorted(ends, starts[upper] + width), below)
    last = np.minimum(np.searchsorted(starts, ends[upper] + width, side="right"), beyond)
    many = last - first
    within = np.arange(int(many.sum())) - np.repeat(many.cumsum() - many, many)
    return np.repeat(upper, many), np.repeat(first, many) + within
