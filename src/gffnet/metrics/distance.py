"""Bands of pixels by their distance to the boundaries of the labels: what is confused near them, what far away.

    d(p) = min |p - q| over all q in ∂ = ∪_k ∂_k,

the Euclidean distance between the centres of pixel p and of the nearest pixel that has a 4-neighbour of another class
in the labels: d is 0 on both sides of a boundary, 1 beside them, and so on inwards. The image's edge and ignored pixels
make no boundary (see `boundary`). Edges e_1 < ... < e_n divide the labelled pixels into bands

    d <= e_1,   e_1 < d <= e_2,   ...,   e_n < d,

the last of which also holds the pixels of an image of one class. The bands' confusion matrices add up to the whole.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gffnet.metrics.boundary import boundary_pixels
from gffnet.metrics.confusion import joint_counts

Map = NDArray[np.uint8]


def distances(labels: Map, classes: int) -> NDArray[np.float32]:
    """Distance (H, W) of every pixel to the nearest boundary; infinite if there is none."""
    boundary = boundary_pixels(labels, classes)
    if not boundary.any():
        return np.full(labels.shape, np.inf, np.float32)
    inside = (~boundary).view(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32, copy=False)


def bands_of(labels: Map, classes: int, edges: Sequence[float]) -> Map:
    """The number (H, W) of the band that each pixel lies in, 0 nearest to the boundary. `edges` ascend."""
    far = distances(labels, classes)
    bands = np.zeros(labels.shape, np.uint8)
    for edge in edges:
        bands += far > edge
    return bands


def band_counts(labels: Map, predicted: Map, classes: int, edges: Sequence[float]) -> NDArray[np.int64]:
    """Confusion matrices (bands, classes, classes + 1) of one image. Values of `classes` stand for no class."""
    sizes = [len(edges) + 1, classes, classes + 1]
    return joint_counts([bands_of(labels, classes, edges), labels, predicted], sizes)
