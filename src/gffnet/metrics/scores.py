"""All scores of a data set in one pass over its label maps: by class, at boundaries, by distance, by object size.

`confusion`, `boundary` and `objects` define the scores. All of them follow from counts that add up over images, so any
number of processes can count a part of a data set each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from gffnet.metrics.boundary import band_counts, boundary_hits, f_scores
from gffnet.metrics.confusion import (
    Absent,
    ConfusionMatrix,
    LabelMap,
    class_scores,
    mean_of,
    ratios,
)
from gffnet.metrics.objects import size_counts
from gffnet.palette import MAX_CLASSES

NamedCounts = dict[str, NDArray[np.int64]]
"""Counts by name."""

ByClass = Mapping[str, float | None]
"""A score for every class; `None` where it is undefined."""

TOLERANCES = (1, 3, 5, 9)
"""Of the boundary F, in pixels."""
BANDS = (2, 4, 8, 16, 32)
"""Edges of the bands of distance to a boundary, in pixels."""
SIZES = (32**2, 96**2)
"""Edges of the bins of object size, in pixels, as COCO's."""


@dataclass(frozen=True)
class BoundaryF:
    """Boundary F at one tolerance."""

    mean: float | None
    per_class: ByClass


@dataclass(frozen=True)
class DistanceBand:
    """Scores of the pixels that lie between two distances to a boundary of the labels."""

    start: float
    end: float | None
    """In pixels; `None`: no end."""
    miou: float | None
    pixel_accuracy: float | None
    pixels: int
    per_class: ByClass


@dataclass(frozen=True)
class SizeBin:
    """Scores of the objects between two sizes."""

    name: str
    start: int
    end: int | None
    """In pixels; `None`: no end."""
    objects: int
    miou: float | None
    per_class: ByClass


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a data set as `scores.json` holds them: fractions of 1, `None` where a score is undefined."""

    miou: float | None
    pixel_accuracy: float | None = None
    mean_accuracy: float | None = None
    frequency_weighted_iou: float | None = None
    per_class: ByClass
    """IoU."""
    per_class_accuracy: ByClass = field(default_factory=dict)
    absent: Sequence[str] = ()
    """Classes that occur in neither labels nor predictions."""
    pixels: int | None = None
    """Labelled ones."""
    boundary_f: Mapping[str, BoundaryF] = field(default_factory=dict)
    """By tolerance in pixels, such as `"3"`; this and the next two are empty without details."""
    iou_by_distance: Sequence[DistanceBand] = ()
    iou_by_size: Sequence[SizeBin] = ()
    images: int | None = None
    """Images scored; this and the next two belong to an evaluation."""
    images_per_second: float | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    """What was scored, by which model, and how."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the fields that do not apply."""
        values = asdict(self)
        for name in ("iou_by_distance", "iou_by_size"):
            values[name] = [{_TO_JSON.get(key, key): v for key, v in part.items()} for part in values[name]]
        optional = ("boundary_f", "iou_by_distance", "iou_by_size", "images", "images_per_second", "protocol")
        return {name: value for name, value in values.items() if name not in optional or value not in ({}, [], None)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Scores":
        """Read what `to_json` returned; files of earlier versions may lack fields, unknown keys are ignored.

        Raises:
            LookupError, TypeError, AttributeError, pydantic.ValidationError: these are no scores.
        """
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        for name in ("iou_by_distance", "iou_by_size"):
            known[name] = [{_FROM_JSON.get(key, key): v for key, v in part.items()} for part in known.get(name, [])]
        return TypeAdapter(cls).validate_python(known)


_TO_JSON = {"start": "from", "end": "to"}
_FROM_JSON = {there: here for here, there in _TO_JSON.items()}


class ScoreAccumulator:
    """Counts of a data set, from which its scores are computed."""

    def __init__(
        self,
        num_classes: int,
        tolerances: Sequence[float] = TOLERANCES,
        bands: Sequence[float] = BANDS,
        sizes: Sequence[int] = SIZES,
        details: bool = True,
    ) -> None:
        """`details`: count boundaries, distances and sizes as well as the confusion matrix.

        Raises:
            ValueError: tolerances, bands or sizes do not ascend from above 0, or details of more than 254 classes.
        """
        for what, edges in (("tolerances", tolerances), ("bands", bands), ("sizes", sizes)):
            if any(low >= high for low, high in pairwise((0, *edges))):
                raise ValueError(f"{what} must ascend from above 0, and are {tuple(edges)}")
        if details and num_classes > MAX_CLASSES:
            raise ValueError(f"details are of {MAX_CLASSES} classes at most, not {num_classes}: give details=False")
        self.num_classes, self.details = num_classes, details
        self.tolerances, self.bands, self.sizes = tuple(tolerances), tuple(bands), tuple(sizes)
        shapes: dict[str, tuple[int, ...]] = {"confusion": (num_classes, num_classes + 1)}
        if details:
            shapes["boundary_hits"] = (2, len(tolerances), num_classes)  # of predictions, of labels
            shapes["boundary_pixels"] = (2, num_classes)
            shapes["distance"] = (len(bands) + 1, num_classes, num_classes + 1)
            shapes["size"] = (len(sizes) + 1, num_classes, 3)  # TP, FN, FP
            shapes["objects"] = (len(sizes) + 1, num_classes)
        self.counts: NamedCounts = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}

    def update(self, labels: LabelMap, predicted: LabelMap) -> NamedCounts:
        """Add one image (H, W) and return its own counts.

        Labels of `num_classes` and above, such as 255, are ignored; such predictions are misses.

        Raises:
            ValueError: the maps are not of one size, or a label, or the prediction at a labelled pixel, is negative.
        """
        if self.details and len(labels.shape) != 2:
            raise ValueError(f"labels are {tuple(labels.shape)}, not (height, width)")
        matrix = ConfusionMatrix(self.num_classes)
        matrix.update(labels, predicted)
        counts = {name: np.zeros_like(total) for name, total in self.counts.items()}
        counts["confusion"] = matrix.counts.numpy()
        if self.details and matrix.counts.any():
            k, (truth, answers) = self.num_classes, _clipped(labels, predicted, self.num_classes)
            counts["boundary_hits"], counts["boundary_pixels"] = boundary_hits(truth, answers, k, self.tolerances)
            counts["distance"] = band_counts(truth, answers, k, self.bands)
            counts["size"], counts["objects"] = size_counts(truth, answers, k, self.sizes)
        self.merge(counts)
        return counts

    def merge(self, counts: NamedCounts) -> None:
        """Add the counts of another part of the data set.

        Raises:
            ValueError: they were counted with other classes, tolerances, bands, sizes or details.
        """
        given, own = ({name: one.shape for name, one in state.items()} for state in (counts, self.counts))
        if given != own:
            raise ValueError(f"these are counts of other scores: {given}, not {own}")
        for name, count in counts.items():
            self.counts[name] += count

    def compute(self, names: Sequence[str], absent: Absent = "left out") -> Scores:
        """Compute the scores; `names` are the classes.

        `absent`: how classes that occur nowhere enter the means over all pixels. Means of the details always leave out
        what does not occur in their part.
        """
        whole = class_scores(torch.from_numpy(self.counts["confusion"]), absent)
        defined = whole.pixels > 0
        return Scores(
            miou=whole.miou if defined else None,
            pixel_accuracy=whole.pixel_accuracy if defined else None,
            mean_accuracy=whole.mean_accuracy if defined else None,
            frequency_weighted_iou=whole.frequency_weighted_iou if defined else None,
            per_class=dict(zip(names, whole.iou, strict=True)),
            per_class_accuracy=dict(zip(names, whole.accuracy, strict=True)),
            absent=[name for name, iou in zip(names, whole.iou, strict=True) if iou is None],
            pixels=whole.pixels,
            boundary_f=self._boundary_f(names) if self.details else {},
            iou_by_distance=self._distance_bands(names) if self.details else [],
            iou_by_size=self._size_bins(names) if self.details else [],
        )

    def _boundary_f(self, names: Sequence[str]) -> dict[str, BoundaryF]:
        scores = {}
        for i, tolerance in enumerate(self.tolerances):
            values = f_scores(self.counts["boundary_hits"][:, i], self.counts["boundary_pixels"])
            scores[f"{tolerance:g}"] = BoundaryF(mean_of(values), dict(zip(names, values, strict=True)))
        return scores

    def _distance_bands(self, names: Sequence[str]) -> list[DistanceBand]:
        bands = []
        for (start, end), counts in zip(_parts(self.bands), self.counts["distance"], strict=True):
            scores = class_scores(torch.from_numpy(counts))
            miou, accuracy = (scores.miou, scores.pixel_accuracy) if scores.pixels else (None, None)
            per_class = dict(zip(names, scores.iou, strict=True))
            bands.append(DistanceBand(start, end, miou, accuracy, scores.pixels, per_class))
        return bands

    def _size_bins(self, names: Sequence[str]) -> list[SizeBin]:
        parts = _parts(self.sizes)
        labels = ["small", "medium", "large"]
        if len(parts) != len(labels):
            labels = [f"{start}-{'' if end is None else end}" for start, end in parts]
        bins = []
        for label, (start, end), counts, objects in zip(
            labels, parts, self.counts["size"], self.counts["objects"], strict=True
        ):
            iou = ratios(torch.from_numpy(counts[:, 0]), torch.from_numpy(counts.sum(1)))
            per_class = dict(zip(names, iou, strict=True))
            bins.append(SizeBin(label, start, end, int(objects.sum()), mean_of(iou), per_class))
        return bins


def _parts(edges: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of start and end of the parts that `edges` separate; the last has no end (`None`)."""
    return list(zip((0, *edges), (*edges, None), strict=True))


def _clipped(labels: LabelMap, predicted: LabelMap, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Convert both maps to uint8, with `num_classes` for no class and for predictions at ignored pixels."""
    maps = [one.cpu().numpy() if isinstance(one, Tensor) else one for one in (labels, predicted)]
    truth, answers = (np.clip(one, 0, num_classes).astype(np.uint8, copy=False) for one in maps)
    return truth, np.where(truth == num_classes, truth, answers)
