"""The confusion matrix of a data set, and the scores that follow from it.

Intersection over union of class k, over all pixels of all images together (not averaged per image):

    IoU_k = n_kk / (Σ_j n_kj + Σ_{j≠k} n_jk),        n_ij = pixels of class i that were predicted as j

Column K counts the pixels that were predicted as no class: they are false negatives of their class and false positives
of none, as in the official code of Cityscapes. A class that occurs in neither labels nor predictions has no IoU;
`class_scores` says how it enters the mean.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Int, Integer
from numpy.typing import NDArray
from torch import Tensor

from gffnet.palette import MAX_CLASSES

LabelMap = Integer[Tensor, "..."] | NDArray[np.integer]
"""Class indices; labels of `num_classes` and above, such as 255, are ignored."""

Absent = Literal["left out", "zero"]
"""How a class that occurs nowhere enters a mean."""

_CHUNK = 2**23
"""Pixels per call of OpenCV's histogram: it counts in float32, which is exact below 2^24."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of a confusion matrix, fractions of 1; `None` for a class that occurs nowhere."""

    miou: float
    pixel_accuracy: float
    iou: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    pixels: int
    """Labelled pixels; ignored ones do not count."""
    mean_accuracy: float = 0.0
    frequency_weighted_iou: float = 0.0
    """Mean of the IoUs, each weighted by the labelled pixels of its class."""


class ConfusionMatrix:
    """Pixels by labelled class (rows) and predicted class (columns; the last one is no class), over a data set."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: Int[Tensor, "k k_and_none"] = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)

    def update(self, labels: LabelMap, predicted: LabelMap) -> None:
        """Add one image or batch. Labels of `num_classes` and above, such as 255, are ignored.

        Raises:
            ValueError: the shapes differ, or a label, or the prediction at a labelled pixel, is negative.
        """
        if tuple(labels.shape) != tuple(predicted.shape):
            raise ValueError(f"labels are {tuple(labels.shape)}, but predictions are {tuple(predicted.shape)}")
        if _is_uint8_on_cpu(labels) and _is_uint8_on_cpu(predicted):
            self.counts += torch.from_numpy(pair_counts(np.asarray(labels), np.asarray(predicted), self.num_classes))
        else:
            self.counts += _bincount(_tensor(labels), _tensor(predicted), self.num_classes).to(self.counts.device)

    def scores(self, absent: Absent = "left out") -> ClassScores:
        """Compute the scores of everything that was added."""
        return class_scores(self.counts, absent)


def class_scores(counts: Int[Tensor, "k columns"], absent: Absent = "left out") -> ClassScores:
    """Compute the scores of a matrix of counts: rows are labels, columns predictions, the last may be no class.

    Means leave out classes that have no score, or count them as 0 (`absent`). A class that was predicted but never
    labelled has an IoU of 0 and no accuracy. Scores of no pixels are 0.
    """
    exact = counts.to(torch.float64)
    hits, labelled, predicted = exact.diagonal(), exact.sum(1), exact[:, : len(exact)].sum(0)
    iou, accuracy = ratios(hits, labelled + predicted - hits), ratios(hits, labelled)
    pixels = int(labelled.sum())
    weighted = sum(weight * (value or 0.0) for weight, value in zip(labelled.tolist(), iou, strict=True))
    return ClassScores(
        miou=mean_of(iou, absent) or 0.0,
        pixel_accuracy=float(hits.sum() / pixels) if pixels else 0.0,
        iou=iou,
        accuracy=accuracy,
        pixels=pixels,
        mean_accuracy=mean_of(accuracy, absent) or 0.0,
        frequency_weighted_iou=weighted / pixels if pixels else 0.0,
    )


def mean_of(values: tuple[float | None, ...], absent: Absent = "left out") -> float | None:
    """Mean over classes; `None` if no class has a value."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return sum(present) / (len(values) if absent == "zero" else len(present))


def ratios(numerator: Tensor, denominator: Tensor) -> tuple[float | None, ...]:
    """Element-wise `numerator / denominator`; `None` where the denominator is 0."""
    return tuple(n / d if d else None for n, d in zip(numerator.tolist(), denominator.tolist(), strict=True))


def pair_counts(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Compute the confusion matrix (num_classes, num_classes + 1) of one uint8 image or batch.

    Neighbouring pixels are mostly equal in both maps, so runs of equal pairs are counted with their lengths rather than
    single pixels, unless the runs are short.
    """
    one, other = (np.ascontiguousarray(values).ravel() for values in (labels, predicted))
    starts_run = np.zeros(-(-one.size // 8) * 8, np.bool_)
    starts_run[:1] = one.size > 0
    np.not_equal(one[1:], one[:-1], out=starts_run[1 : one.size])
    starts_run[1 : one.size] |= other[1:] != other[:-1]
    if num_classes <= MAX_CLASSES and 8 * np.count_nonzero(starts_run) > one.size:
        return joint_counts([one, np.minimum(other, num_classes)], [num_classes, num_classes + 1])
    # Look for runs in words of eight pixels first: few are non-zero, which makes this faster than flatnonzero alone.
    words = starts_run.view(np.uint64)
    nonzero = np.flatnonzero(words != 0)
    within = np.flatnonzero(words[nonzero].view(np.bool_))
    starts = (nonzero[within >> 3] << 3) | (within & 7)
    k, j = (np.minimum(row.take(starts).astype(np.int64), num_classes) for row in (one, other))
    counts = np.bincount(k * (num_classes + 1) + j, np.diff(starts, append=one.size), (num_classes + 1) ** 2)
    return counts.astype(np.int64).reshape(num_classes + 1, num_classes + 1)[:num_classes]  # float64: exact below 2^53


def joint_counts(
    maps: list[NDArray[np.uint8]], sizes: list[int], where: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Count the pixels at which the maps hold the values (i, j, ...), as an array of shape `sizes`.

    Larger values do not count, nor do pixels outside the mask `where`.
    """
    counts = np.zeros(sizes, np.int64)
    rows = [np.ascontiguousarray(one).reshape(1, -1) for one in maps]
    chosen = None if where is None else np.ascontiguousarray(where).view(np.uint8).reshape(1, -1)
    ranges = [float(edge) for size in sizes for edge in (0, size)]
    for i in range(0, rows[0].size, _CHUNK):
        chunk = [row[:, i : i + _CHUNK] for row in rows]
        mask = None if chosen is None else chosen[:, i : i + _CHUNK]
        counts += cv2.calcHist(chunk, list(range(len(chunk))), mask, sizes, ranges).astype(np.int64)
    return counts


def _bincount(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Compute the confusion matrix of integer tensors of any dtype, on the device of the labels."""
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError("a label is below 0; pixels to ignore are 255")
    valid = labels < num_classes
    rows = labels[valid].to(torch.int64) * (num_classes + 1)
    columns = predicted.to(labels.device)[valid].to(torch.int64)
    if columns.numel() and int(columns.min()) < 0:
        raise ValueError("a prediction is below 0")
    counts = torch.bincount(rows + columns.clamp(max=num_classes), minlength=num_classes * (num_classes + 1))
    return counts.view(num_classes, num_classes + 1)


def _is_uint8_on_cpu(labels: LabelMap) -> bool:
    if isinstance(labels, Tensor):
        return labels.dtype == torch.uint8 and labels.device.type == "cpu"
    return labels.dtype == np.uint8


def _tensor(labels: LabelMap) -> Tensor:
    return labels if isinstance(labels, Tensor) else torch.from_numpy(labels.astype(np.int64))
