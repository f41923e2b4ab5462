"""The confusion matrix of a data set, and the scores that follow from it.

Intersection over union of class k, over all pixels of all images together (not averaged per image):

    IoU_k = n_kk / (Σ_j n_kj + Σ_{j≠k} n_jk),        n_ij = pixels of class i that were predicted as j

Column K holds the pixels predicted as no class: they are missed by their class, and no class has them too much, as in
the official code of Cityscapes. A class that neither the labels nor the predictions hold has no IoU; `scores_of` says
how it enters the mean.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Int, Integer
from numpy.typing import NDArray
from torch import Tensor

Labels = Integer[Tensor, "..."] | NDArray[np.integer]
"""Classes of pixels; a label of no class is ignored."""

Absent = Literal["left out", "zero"]
"""How a class that occurs nowhere enters a mean."""

MOST_CLASSES = 254
"""That eight bits tell apart, with one number for pixels of no class and 255 for those of no boundary."""

_CHUNK = 2**23
"""Pixels a call of OpenCV's histogram, which counts in float32: exactly, below 2^24."""


@dataclass(frozen=True)
class Scores:
    """Scores in fractions of 1; `None` for a class that occurs nowhere."""

    miou: float
    pixel_accuracy: float
    iou: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    pixels: int
    """Labelled pixels, ignored ones not counted."""
    mean_accuracy: float = 0.0
    frequency_weighted_iou: float = 0.0
    """Mean of the IoUs, each weighted by the labelled pixels of its class."""


class ConfusionMatrix:
    """Counts of pixels by their class (rows) and predicted class (columns, the last for no class), over a data set."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: Int[Tensor, "k k_and_none"] = torch.zeros(classes, classes + 1, dtype=torch.int64)

    def update(self, labels: Labels, predicted: Labels) -> None:
        """Add the pixels of one image or batch. Labels of `classes` and above, such as 255, are ignored.

        Raises:
            ValueError: the shapes differ, or a label, or the prediction at a labelled pixel, is below 0.
        """
        if tuple(labels.shape) != tuple(predicted.shape):
            raise ValueError(f"labels are {tuple(labels.shape)}, but predictions are {tuple(predicted.shape)}")
        if _eight_bits(labels) and _eight_bits(predicted):
            self.counts += torch.from_numpy(pair_counts(np.asarray(labels), np.asarray(predicted), self.classes))
        else:
            counted = _bincount(_tensor(labels), _tensor(predicted), self.classes)
            self.counts += counted.to(self.counts.device)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add what another matrix of as many classes has counted."""
        self.counts += other.counts

    def scores(self, absent: Absent = "left out") -> Scores:
        """The scores of all that was added."""
        return scores_of(self.counts, absent)


def scores_of(counts: Int[Tensor, "k columns"], absent: Absent = "left out") -> Scores:
    """The scores of a matrix of counts: rows are labels, columns predictions, a further column those of no class.

    Means leave out the classes that have no score, or count them as 0. A class that was predicted but never labelled
    has an IoU of 0, and no accuracy. Scores of no pixels are 0.
    """
    exact = counts.to(torch.float64)
    hits, labelled, predicted = exact.diagonal(), exact.sum(1), exact[:, : len(exact)].sum(0)
    iou, accuracy = ratios(hits, labelled + predicted - hits), ratios(hits, labelled)
    pixels = int(labelled.sum())
    weighted = sum(w * (value or 0.0) for w, value in zip(labelled.tolist(), iou, strict=True))
    return Scores(
        miou=mean_of(iou, absent) or 0.0,
        pixel_accuracy=float(hits.sum() / pixels) if pixels else 0.0,
        iou=iou,
        accuracy=accuracy,
        pixels=pixels,
        mean_accuracy=mean_of(accuracy, absent) or 0.0,
        frequency_weighted_iou=weighted / pixels if pixels else 0.0,
    )


def mean_of(values: tuple[float | None, ...], absent: Absent = "left out") -> float | None:
    """The mean over classes; `None` where none has a value."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return sum(present) / (len(values) if absent == "zero" else len(present))


def ratios(part: Tensor, whole: Tensor) -> tuple[float | None, ...]:
    """`part / whole` element by element; `None` where the whole is nothing."""
    return tuple(p / w if w else None for p, w in zip(part.tolist(), whole.tolist(), strict=True))


def pair_counts(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """The matrix (classes, classes + 1) of one image or batch in eight bits.

    Neighbours are mostly alike in both maps, so that runs of pixels are counted, with their lengths, and not pixels one
    by one; unless the runs are short.
    """
    one, other = (np.ascontiguousarray(values).ravel() for values in (labels, predicted))
    begins = np.zeros(-(-one.size // 8) * 8, np.bool_)
    begins[:1] = one.size > 0
    np.not_equal(one[1:], one[:-1], out=begins[1 : one.size])
    begins[1 : one.size] |= other[1:] != other[:-1]
    if classes <= MOST_CLASSES and 8 * np.count_nonzero(begins) > one.size:
        return joint_counts([one, np.minimum(other, classes)], [classes, classes + 1])
    eights = begins.view(np.uint64)
    some = np.flatnonzero(eights != 0)  # few, so that this and the next line are faster than flatnonzero(begins)
    within = np.flatnonzero(eights[some].view(np.bool_))
    starts = (some[within >> 3] << 3) | (within & 7)
    k, j = (np.minimum(row.take(starts).astype(np.int64), classes) for row in (one, other))
    counts = np.bincount(k * (classes + 1) + j, np.diff(starts, append=one.size), (classes + 1) ** 2)
    return counts.astype(np.int64).reshape(classes + 1, classes + 1)[:classes]  # float64 is exact below 2^53


def joint_counts(
    maps: list[NDArray[np.uint8]], sizes: list[int], where: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """In how many pixels the maps hold the values (i, j, ...), as an array of `sizes`; larger values do not count.

    `where`: the pixels to count, if not all.
    """
    counts = np.zeros(sizes, np.int64)
    rows = [np.ascontiguousarray(one).reshape(1, -1) for one in maps]
    chosen = None if where is None else np.ascontiguousarray(where).view(np.uint8).reshape(1, -1)
    ranges = [float(edge) for size in sizes for edge in (0, size)]
    for i in range(0, rows[0].size, _CHUNK):
        parts = [row[:, i : i + _CHUNK] for row in rows]
        mask = None if chosen is None else chosen[:, i : i + _CHUNK]
        counts += cv2.calcHist(parts, list(range(len(parts))), mask, sizes, ranges).astype(np.int64)
    return counts


def _bincount(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """The matrix of one image or batch, of whole numbers of any kind on any device."""
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError("a label is below 0; pixels to ignore are 255")
    valid = labels < classes
    pairs = labels[valid].to(torch.int64) * (classes + 1)
    answers = predicted.to(labels.device)[valid].to(torch.int64)
    if answers.numel() and int(answers.min()) < 0:
        raise ValueError("a prediction is below 0")
    counted = torch.bincount(pairs + answers.clamp(max=classes), minlength=classes * (classes + 1))
    return counted.view(classes, classes + 1)


def _eight_bits(labels: Labels) -> bool:
    if isinstance(labels, Tensor):
        return labels.dtype == torch.uint8 and labels.device.type == "cpu"
    return labels.dtype == np.uint8


def _tensor(labels: Labels) -> Tensor:
    if isinstance(labels, Tensor):
        return labels
    return torch.from_numpy(labels.astype(np.int64))
