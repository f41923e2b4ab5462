"""All scores of a data set in one pass over its label maps: by class, at boundaries, by distance to them, by size.

What each score is stands in `confusion`, `boundary`, `distance` and `objects`. All follow from counts that add up over
images, so that any number of processes may count their part of a data set.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gffnet.metrics.boundary import boundary_hits, f_scores
from gffnet.metrics.confusion import MOST_CLASSES, Absent, ConfusionMatrix, Labels, mean_of, ratios, scores_of
from gffnet.metrics.distance import band_counts
from gffnet.metrics.objects import size_counts

State = dict[str, NDArray[np.int64]]
WIDTHS = (1, 3, 5, 9)
"""Distances in pixels within which boundaries are said to meet."""
BANDS = (2, 4, 8, 16, 32)
"""Edges of the bands of distance to a boundary, in pixels."""
SIZES = (32**2, 96**2)
"""Edges of the bins of object sizes, in pixels, as those of COCO."""


class Scoring:
    """Counts of a data set, and the scores that follow from them."""

    def __init__(
        self,
        classes: int,
        widths: Sequence[float] = WIDTHS,
        bands: Sequence[float] = BANDS,
        sizes: Sequence[int] = SIZES,
        details: bool = True,
    ) -> None:
        """`details`: count boundaries, distances and sizes too, not the confusion matrix alone.

        Raises:
            ValueError: widths, bands or sizes do not ascend from above 0, or details of more than 254 classes.
        """
        for what, edges in (("widths", widths), ("bands", bands), ("sizes", sizes)):
            if any(low >= high for low, high in pairwise((0, *edges))):
                raise ValueError(f"{what} must ascend from above 0, and are {tuple(edges)}")
        if details and classes > MOST_CLASSES:
            raise ValueError(f"details are of {MOST_CLASSES} classes at most, not {classes}: give details=False")
        self.classes, self.details = classes, details
        self.widths, self.bands, self.sizes = tuple(widths), tuple(bands), tuple(sizes)
        shapes: dict[str, tuple[int, ...]] = {"confusion": (classes, classes + 1)}
        if details:
            shapes["boundary_hits"] = (2, len(widths), classes)  # of predictions, of labels
            shapes["boundary_pixels"] = (2, classes)
            shapes["distance"] = (len(bands) + 1, classes, classes + 1)
            shapes["size"] = (len(sizes) + 1, classes, 3)  # TP, FN, FP
            shapes["objects"] = (len(sizes) + 1, classes)
        self._counts: State = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}

    def update(self, labels: Labels, predicted: Labels) -> None:
        """Add one image (H, W). Labels of `classes` and above, such as 255, are ignored; such predictions miss.

        Raises:
            ValueError: the maps are no two of one size, or a label, or the prediction at a labelled pixel, is below 0.
        """
        if self.details and len(labels.shape) != 2:
            raise ValueError(f"labels are {tuple(labels.shape)}, not (height, width)")
        matrix = ConfusionMatrix(self.classes)
        matrix.update(labels, predicted)
        counted = {"confusion": matrix.counts.numpy()}
        if self.details and matrix.counts.any():
            k, (truth, answers) = self.classes, _clipped(labels, predicted, self.classes)
            counted["boundary_hits"], counted["boundary_pixels"] = boundary_hits(truth, answers, k, self.widths)
            counted["distance"] = band_counts(truth, answers, k, self.bands)
            counted["size"], counted["objects"] = size_counts(truth, answers, k, self.sizes)
        for name, counts in counted.items():
            self._counts[name] += counts

    def state(self) -> State:
        """Copies of the counts by name. Those of parts of a data set add up to those of the whole."""
        return {name: counts.copy() for name, counts in self._counts.items()}

    def add(self, state: State) -> None:
        """Add the counts of another part of the data set.

        Raises:
            ValueError: they were counted with other classes, widths, bands, sizes or details.
        """
        given, own = ({name: counts.shape for name, counts in one.items()} for one in (state, self._counts))
        if given != own:
            raise ValueError(f"these are counts of another scoring: {given}, not {own}")
        for name, counts in state.items():
            self._counts[name] += counts

    def report(self, names: Sequence[str], absent: Absent = "left out") -> dict[str, Any]:
        """The scores as plain values, fractions of 1; `None` where there is nothing to score.

        `absent`: how classes that occur nowhere enter the means over all pixels. Means of the details leave out what
        does not occur in their part.
        """
        scores = scores_of(torch.from_numpy(self._counts["confusion"]), absent)
        some = scores.pixels > 0
        report: dict[str, Any] = {
            "miou": scores.miou if some else None,
            "pixel_accuracy": scores.pixel_accuracy if some else None,
            "mean_accuracy": scores.mean_accuracy if some else None,
            "frequency_weighted_iou": scores.frequency_weighted_iou if some else None,
            "per_class": dict(zip(names, scores.iou, strict=True)),
            "per_class_accuracy": dict(zip(names, scores.accuracy, strict=True)),
            "absent": [name for name, iou in zip(names, scores.iou, strict=True) if iou is None],
            "pixels": scores.pixels,
        }
        if self.details:
            report["boundary_f"] = self._boundaries(names)
            report["iou_by_distance"] = self._distances(names)
            report["iou_by_size"] = self._sizes(names)
        return report

    def _boundaries(self, names: Sequence[str]) -> dict[str, Any]:
        report = {}
        for i, width in enumerate(self.widths):
            values = f_scores(self._counts["boundary_hits"][:, i], self._counts["boundary_pixels"])
            report[f"{width:g}"] = {"mean": mean_of(values), "per_class": dict(zip(names, values, strict=True))}
        return report

    def _distances(self, names: Sequence[str]) -> list[dict[str, Any]]:
        report = []
        for (low, high), counts in zip(_steps(self.bands), self._counts["distance"], strict=True):
            scores = scores_of(torch.from_numpy(counts))
            some = scores.pixels > 0
            report.append(
                {
                    "from": low,
                    "to": high,
                    "miou": scores.miou if some else None,
                    "pixel_accuracy": scores.pixel_accuracy if some else None,
                    "pixels": scores.pixels,
                    "per_class": dict(zip(names, scores.iou, strict=True)),
                }
            )
        return report

    def _sizes(self, names: Sequence[str]) -> list[dict[str, Any]]:
        steps = _steps(self.sizes)
        called = ["small", "medium", "large"]
        if len(steps) != len(called):
            called = [f"{low}-{'' if high is None else high}" for low, high in steps]
        report = []
        for i, (low, high) in enumerate(steps):
            counts = torch.from_numpy(self._counts["size"][i])
            iou = ratios(counts[:, 0], counts.sum(1))
            report.append(
                {
                    "name": called[i],
                    "from": low,
                    "to": high,
                    "objects": int(self._counts["objects"][i].sum()),
                    "miou": mean_of(iou),
                    "per_class": dict(zip(names, iou, strict=True)),
                }
            )
        return report


def _steps(edges: Sequence[float]) -> list[tuple[float, float | None]]:
    """From where to where each part reaches; `None` for no end."""
    return list(zip((0, *edges), (*edges, None), strict=True))


def _clipped(labels: Labels, predicted: Labels, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both maps in eight bits, with `classes` for no class, and for predictions at ignored pixels."""
    maps = [one.cpu().numpy() if isinstance(one, Tensor) else one for one in (labels, predicted)]
    truth, answers = (np.clip(one, 0, classes).astype(np.uint8, copy=False) for one in maps)
    return truth, np.where(truth == classes, truth, answers)
