"""True and false pixels by the size of the object they lie in: small things do not drown in large ones.

An object is a connected region of pixels of one class, neighbours at corners included; its size is its pixels, and
edges e_1 < ... < e_n divide sizes into bins: size < e_1, e_1 <= size < e_2, ..., e_n <= size. For class k and bin s

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
Counts = NDArray[np.int64]
Ints = NDArray[np.int64]


def size_counts(labels: Map, predicted: Map, classes: int, edges: Sequence[int]) -> tuple[Counts, Counts]:
    """TP, FN and FP pixels (bins, classes, 3) of one image, and its labelled objects (bins, classes).

    Values of `classes` stand for no class; predictions at ignored pixels must be that too.
    """
    bins, objects = _size_bins(labels, classes, edges)
    others, _ = _size_bins(predicted, classes, edges)
    sizes = [len(edges) + 1, classes]
    right = labels == predicted
    hits = joint_counts([bins, labels], sizes, right)
    misses = joint_counts([bins, labels], sizes) - hits
    false = joint_counts([others, predicted], sizes, ~right & (labels < classes))
    return np.stack([hits, misses, false], -1), objects


def _size_bins(labels: Map, classes: int, edges: Sequence[int]) -> tuple[Map, Counts]:
    """The bin (H, W) of the object that each pixel lies in, and the number of objects (bins, classes)."""
    starts, lengths = runs(labels)
    kinds = labels.ravel()[starts]
    roots = joined(starts, lengths, kinds, labels.shape[1])
    areas = np.bincount(roots, lengths, len(starts)).astype(np.int64)  # of each run that stands for an object
    bins = np.searchsorted(np.asarray(edges), areas, side="right").astype(np.uint8)
    first = (roots == np.arange(len(roots))) & (kinds < classes)
    objects = np.zeros((len(edges) + 1, classes), np.int64)
    np.add.at(objects, (bins[first], kinds[first]), 1)
    return np.repeat(bins[roots], lengths).reshape(labels.shape), objects


def runs(labels: Map) -> tuple[Ints, Ints]:
    """Flat starts and lengths of the runs of equal values in the rows of a map (H, W), in reading order."""
    begins = np.ones(labels.shape, np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=labels.size)


def joined(starts: Ints, lengths: Ints, kinds: Map, width: int) -> Ints:
    """For every run, the first run of its object: runs of a class join where they touch, at corners too."""
    upper, lower = _touching(starts, lengths, width)
    same = kinds[upper] == kinds[lower]
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
    """All pairs of runs in adjacent rows that share an edge or a corner: the upper and the lower ones."""
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
