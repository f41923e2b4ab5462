"""F of class boundaries at several widths: how near the borders of predicted regions are to those of the labels.

The boundary ∂_k of class k are its pixels with a 4-neighbour of another class. The image's edge is no boundary, nor is
a border with pixels that are ignored or predicted as no class; predictions at ignored pixels do not count. At width w,
over all images of a data set together,

    precision_k = |{p in predicted ∂_k : some q in labelled ∂_k has |p - q| <= w}| / |predicted ∂_k|,
    recall_k the other way round,           F_k = 2 precision_k recall_k / (precision_k + recall_k),

with Euclidean distances between pixel centres. A class with a boundary in the labels or in the predictions alone has
F 0; one with no boundary in either has none, and the mean leaves it out.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.uint8]
Counts = NDArray[np.int64]
_NOTHING = 255
_STEP = 16
"""Offsets that are tried before the pixels that have been reached are set aside."""


def boundary_pixels(labels: Map, classes: int) -> NDArray[np.bool_]:
    """Which pixels (H, W) of a class have a 4-neighbour of another class. Values of `classes` and above are ignored."""
    known = labels < classes
    boundary = np.zeros(labels.shape, np.bool_)
    for here, there in (((slice(1, None),), (slice(-1),)), (np.s_[:, 1:], np.s_[:, :-1])):
        border = labels[here] != labels[there]
        border &= known[here]
        border &= known[there]
        boundary[here] |= border
        boundary[there] |= border
    return boundary


def boundary_hits(labels: Map, predicted: Map, classes: int, widths: Sequence[float]) -> tuple[Counts, Counts]:
    """Boundary pixels of one image (H, W) by class: those near the other map's boundary, and how many there are.

    `widths` ascend. Returns hits (2, widths, classes) and boundary pixels (2, classes), of the predictions first, then
    of the labels. Predictions at ignored pixels must be ignored too.
    """
    reach = math.ceil(max(widths, default=0))
    maps = [_padded(one, classes, reach) for one in (predicted, labels)]
    hits = np.zeros((2, len(widths), classes), np.int64)
    totals = np.zeros((2, classes), np.int64)
    for i, (own, other) in enumerate((maps, maps[::-1])):
        pixels = np.flatnonzero(own != _NOTHING)
        kinds = own.ravel()[pixels]
        totals[i] = np.bincount(kinds, minlength=classes)
        hits[i] = _reached(pixels, kinds, other, classes, tuple(widths))
    return hits, totals


def f_scores(hits: Counts, totals: Counts) -> tuple[float | None, ...]:
    """F of every class at one width, of hits (2, classes) and boundary pixels (2, classes)."""
    shares = (hits / np.maximum(totals, 1)).tolist()
    return tuple(
        (2 * precision * recall / (precision + recall) if precision + recall else 0.0) if there_is else None
        for precision, recall, there_is in zip(*shares, (totals.sum(0) > 0).tolist(), strict=True)
    )


def _padded(labels: Map, classes: int, reach: int) -> Map:
    """The classes of boundary pixels, 255 elsewhere, with a border as wide as the largest distance."""
    kept = np.where(boundary_pixels(labels, classes), labels, np.uint8(_NOTHING))
    padded = cv2.copyMakeBorder(kept, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=(_NOTHING,))
    return padded.astype(np.uint8, copy=False)


def _reached(pixels: NDArray[np.intp], kinds: Map, other: Map, classes: int, widths: tuple[float, ...]) -> Counts:
    """Of pixels (flat places and classes), how many find their class in `other` within each width: (widths, classes).

    Offsets are tried from near to far, and pixels leave when they are reached: the cost follows the length of the
    boundaries, not the size of the image nor the number of classes.
    """
    hits = np.zeros((len(widths), classes), np.int64)
    flat, stride = other.ravel(), other.shape[1]
    for ring, offsets in enumerate(_rings(widths)):
        for some in _parts(offsets, _STEP):
            if not len(pixels):
                break
            found = np.zeros(len(pixels), np.bool_)
            for dy, dx in some:
                found |= flat.take(pixels + (dy * stride + dx)) == kinds
            hits[ring] += np.bincount(kinds[found], minlength=classes)
            left = ~found
            pixels, kinds = pixels[left], kinds[left]
    return hits.cumsum(0)


@cache
def _rings(widths: tuple[float, ...]) -> list[list[tuple[int, int]]]:
    """For each width, the offsets (dy, dx) that it reaches and the one before does not, from near to far."""
    reach = range(-math.ceil(max(widths, default=0)), math.ceil(max(widths, default=0)) + 1)
    offsets = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda at: (math.hypot(*at), at))
    edges = (-1.0, *widths)
    return [[at for at in offsets if low < math.hypot(*at) <= high] for low, high in zip(edges, widths, strict=False)]


def _parts(offsets: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for i in range(0, len(offsets), size):
        yield offsets[i : i + size]
