"""The confusion matrix of a data set, and the scores that follow from it.

Intersection over union of class k, over all pixels of all images together (not averaged per image):

    IoU_k = n_kk / (Σ_j n_kj + Σ_j n_jk - n_kk),        n_ij = pixels of class i that were labelled j

A class that neither the labels nor the predictions hold has no IoU; the mean leaves it out and `absent` names it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int, Integer
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Scores in fractions of 1; `None` for a class that occurs nowhere."""

    miou: float
    pixel_accuracy: float
    iou: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    pixels: int
    """Labelled pixels, ignored ones not counted."""


class ConfusionMatrix:
    """Counts of pixels by their class (rows) and predicted class (columns), over a data set."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, labels: Integer[Tensor, "..."], predicted: Integer[Tensor, "..."]) -> None:
        """Add the pixels of one image or batch. Labels of `classes` and above, such as 255, are ignored.

        Raises:
            ValueError: the shapes differ, a label is negative, or a prediction at a labelled pixel is no class.
        """
        if labels.shape != predicted.shape:
            raise ValueError(f"labels are {tuple(labels.shape)}, but predictions are {tuple(predicted.shape)}")
        if labels.numel() and int(labels.min()) < 0:
            raise ValueError("a label is below 0; pixels to ignore are 255")
        valid = labels < self.classes
        pairs = labels[valid].to(torch.int64) * self.classes
        answers = predicted[valid].to(torch.int64)
        if answers.numel() and not 0 <= int(answers.min()) <= int(answers.max()) < self.classes:
            raise ValueError(f"a prediction is outside 0..{self.classes - 1}")
        counted = torch.bincount(pairs + answers, minlength=self.classes**2)
        self.counts += counted.view(self.classes, self.classes).to(self.counts.device)

    def scores(self) -> Scores:
        """mIoU, pixel accuracy, and IoU and accuracy per class, of all that was added."""
        return scores_of(self.counts)


def scores_of(counts: Int[Tensor, "k k"]) -> Scores:
    """The scores of a matrix of counts: rows are labels, columns predictions."""
    exact = counts.to(torch.float64)
    hits, labelled, predicted = exact.diagonal(), exact.sum(1), exact.sum(0)
    iou = _ratios(hits, labelled + predicted - hits)
    present = [value for value in iou if value is not None]
    pixels = int(labelled.sum())
    return Scores(
        miou=sum(present) / len(present) if present else 0.0,
        pixel_accuracy=float(hits.sum() / pixels) if pixels else 0.0,
        iou=iou,
        accuracy=_ratios(hits, labelled),
        pixels=pixels,
    )


def _ratios(part: Tensor, whole: Tensor) -> tuple[float | None, ...]:
    """`part / whole` element by element; `None` where the whole is nothing."""
    return tuple(p / w if w else None for p, w in zip(part.tolist(), whole.tolist(), strict=True))
