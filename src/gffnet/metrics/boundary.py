"""Boundaries of regions: how well predictions meet them (boundary F), and how far pixels are from them.

The boundary ∂_k of class k are its pixels with a 4-neighbour of another class. The image's edge is no boundary, nor is
a border with pixels that are ignored or predicted as no class. Everything here that asks what is near a boundary starts
from it, but for `boundary_rings`.

**Boundary F.** With tolerance t, over all images of a data set together,

    precision_k = |{p in predicted ∂_k : some q in labelled ∂_k has |p - q| <= t}| / |predicted ∂_k|,
    recall_k the other way round,           F_k = 2 precision_k recall_k / (precision_k + recall_k),

with Euclidean distances between pixel centres; predictions at ignored pixels do not count. A class with a boundary in
the labels or in the predictions alone has F 0; one with a boundary in neither has none, and the mean leaves it out.

**Bands of distance.** With d(p) = min |p - q| over all q in the labels' ∂ = ∪_k ∂_k, edges e_1 < ... < e_n divide the
labelled pixels into bands

    d <= e_1,   e_1 < d <= e_2,   ...,   e_n < d,

the last of which also holds the pixels of an image of one class. d is 0 on both sides of a boundary, 1 beside them, and
so on inwards. The bands' confusion matrices add up to that of the image.
"""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from numpy.typing import NDArray

from gffnet.metrics.confusion import joint_counts

Map = NDArray[np.uint8]
Counts = NDArray[np.int64]

RINGS = (2, 5, 10)
"""Chessboard distances to another class, in pixels, that separate the rings."""

RING_NAMES = ("1-2", "3-5", "6-10", "over 10")

_IGNORED = 255
_NO_BOUNDARY = 255
_OFFSETS_A_STEP = 16
"""Offsets that are tried before the pixels that were matched are dropped."""


def boundary_pixels(labels: Map, num_classes: int) -> NDArray[np.bool_]:
    """Mark the pixels (H, W) with a 4-neighbour of another class. Values of `num_classes` and above are ignored."""
    known = labels < num_classes
    boundary = np.zeros(labels.shape, np.bool_)
    for here, there in (((slice(1, None),), (slice(-1),)), (np.s_[:, 1:], np.s_[:, :-1])):
        border = labels[here] != labels[there]
        border &= known[here]
        border &= known[there]
        boundary[here] |= border
        boundary[there] |= border
    return boundary


def boundary_hits(labels: Map, predicted: Map, num_classes: int, tolerances: Sequence[float]) -> tuple[Counts, Counts]:
    """Count one image's boundary pixels by class: those within each tolerance of the other map's boundary, and all.

    `tolerances` ascend. Returns hits (2, tolerances, num_classes) and boundary pixels (2, num_classes), of the
    predictions first, then of the labels. Predictions at ignored pixels must be ignored, too.
    """
    margin = math.ceil(max(tolerances, default=0))
    maps = [_boundary_classes(one, num_classes, margin) for one in (predicted, labels)]
    hits = np.zeros((2, len(tolerances), num_classes), np.int64)
    totals = np.zeros((2, num_classes), np.int64)
    for i, (own, other) in enumerate((maps, maps[::-1])):
        pixels = np.flatnonzero(own != _NO_BOUNDARY)
        classes = own.ravel()[pixels]
        totals[i] = np.bincount(classes, minlength=num_classes)
        hits[i] = _matched(pixels, classes, other, num_classes, tuple(tolerances))
    return hits, totals


def f_scores(hits: Counts, totals: Counts) -> tuple[float | None, ...]:
    """Compute F of every class at one tolerance from hits (2, num_classes) and boundary pixels (2, num_classes)."""
    precisions, recalls = (hits / np.maximum(totals, 1)).tolist()
    return tuple(
        (2 * precision * recall / (precision + recall) if precision + recall else 0.0) if present else None
        for precision, recall, present in zip(precisions, recalls, (totals.sum(0) > 0).tolist(), strict=True)
    )


def distance_to_boundary(labels: Map, num_classes: int) -> NDArray[np.float32]:
    """Compute the Euclidean distance (H, W) of every pixel to the nearest boundary; infinite if there is none."""
    boundary = boundary_pixels(labels, num_classes)
    if not boundary.any():
        return np.full(labels.shape, np.inf, np.float32)
    inside = (~boundary).view(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32, copy=False)


def distance_bands(labels: Map, num_classes: int, edges: Sequence[float]) -> Map:
    """Find the band (H, W) of every pixel, 0 nearest to a boundary; `edges` ascend."""
    distance = distance_to_boundary(labels, num_classes)
    bands = np.zeros(labels.shape, np.uint8)
    for edge in edges:
        bands += distance > edge
    return bands


def band_counts(labels: Map, predicted: Map, num_classes: int, edges: Sequence[float]) -> Counts:
    """Count one image's confusion matrices (bands, num_classes, num_classes + 1) by band of distance to a boundary.

    `edges` ascend. Pixels of no class hold `num_classes`.
    """
    bands = distance_bands(labels, num_classes, edges)
    return joint_counts([bands, labels, predicted], [len(edges) + 1, num_classes, num_classes + 1])


def boundary_rings(labels: UInt8[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """Find the ring, an index into `RING_NAMES`, of every pixel by its chessboard distance to the nearest other class.

    That distance is at most r where the square of 2 r + 1 pixels around the pixel holds more than one class: where its
    maximum exceeds its minimum. Ignored pixels (255) are of no class and make no boundary.
    """
    known = labels != _IGNORED
    highest, lowest = np.where(known, labels, np.uint8(0)), labels  # ignored pixels are never the extreme
    rings = np.zeros(labels.shape, np.int64)
    for radius in RINGS:
        square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        rings += cv2.dilate(highest, square) <= cv2.erode(lowest, square)
    return rings


def _boundary_classes(labels: Map, num_classes: int, margin: int) -> Map:
    """Keep the classes of boundary pixels, 255 elsewhere, with a margin as wide as the largest offset."""
    classes = np.where(boundary_pixels(labels, num_classes), labels, np.uint8(_NO_BOUNDARY))
    padded = cv2.copyMakeBorder(classes, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(_NO_BOUNDARY,))
    return padded.astype(np.uint8, copy=False)


def _matched(
    pixels: NDArray[np.intp], classes: Map, other: Map, num_classes: int, tolerances: tuple[float, ...]
) -> Counts:
    """Count the pixels (flat indices and classes) that find their class in `other` within each tolerance.

    Offsets are tried from near to far, and pixels leave once they are matched: the cost follows the length of the
    boundaries, not the size of the image or the number of classes. Returns (tolerances, num_classes).
    """
    hits = np.zeros((len(tolerances), num_classes), np.int64)
    flat, stride = other.ravel(), other.shape[1]
    for ring, offsets in enumerate(_offsets(tolerances)):
        for i in range(0, len(offsets), _OFFSETS_A_STEP):
            if not len(pixels):
                break
            found = np.zeros(len(pixels), np.bool_)
            for dy, dx in offsets[i : i + _OFFSETS_A_STEP]:
                found |= flat.take(pixels + (dy * stride + dx)) == classes
            hits[ring] += np.bincount(classes[found], minlength=num_classes)
            pixels, classes = pixels[~found], classes[~found]
    return hits.cumsum(0)


@cache
def _offsets(tolerances: tuple[float, ...]) -> list[list[tuple[int, int]]]:
    """List, for each tolerance, the offsets (dy, dx) within it but not within the one before, from near to far."""
    furthest = math.ceil(max(tolerances, default=0))
    reach = range(-furthest, furthest + 1)
    offsets = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda at: (math.hypot(*at), at))
    edges = (-1.0, *tolerances)
    return [
        [at for at in offsets if low < math.hypot(*at) <= high] for low, high in zip(edges, tolerances, strict=False)
    ]
