"""Numbers about gate maps: how open they are, over which classes, how near to a boundary, and what closing them does.

The paper reads off its figures that low levels open at boundaries and high levels over large structures; here are
the same statements as means over pixels, of one image or of many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Integer, UInt8

from gffnet.gates.edit import Closing, GateResult, became

RINGS = (2, 5, 10)
"""Distances to a class boundary, in pixels, that part the rings."""

RING_NAMES = ("1-2", "3-5", "6-10", "over 10")

_IGNORED = 255


class GateStatistics:
    """Means over the pixels of all images that were added.

    By class and by distance: of the prediction with the learned gates; what became wrong or right, of the labels.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Nothing is added yet."""
        self._classes = tuple(classes)
        self._closings: list[tuple[int, ...]] = []
        self._totals: dict[str, _Totals] = {}
        self.pixels = 0

    def add(
        self,
        result: GateResult,
        closings: Sequence[Closing] = (),
        truth: UInt8[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Add an image: its learned gates, and closings, of the same levels for every image; `truth`: 255 is ignored.

        Raises:
            ValueError: the closings are not those of the images before.
        """
        levels = [closing.levels for closing in closings]
        if self._totals and levels != self._closings:
            raise ValueError(f"these are closings {levels}, and those before {self._closings}")
        self._closings = levels
        self.pixels += result.prediction.size
        rings = boundary_rings(result.prediction)
        for level, gate in enumerate(result.maps, start=1):
            self._count(f"gate {level}", gate, result.prediction, rings)
            self._count(f"open {level}", gate > 0.5, result.prediction, rings)
        for i, closing in enumerate(closings):
            self._count(f"changed {i}", closing.changed, result.prediction, rings)
        if truth is not None:
            self._judge(result, closings, truth)

    def merge(self, other: "GateStatistics") -> None:
        """Add the images of another."""
        self._closings = other._closings or self._closings
        self.pixels += other.pixels
        for name, totals in other._totals.items():
            self._totals.setdefault(name, _Totals(len(self._classes))).merge(totals)

    def levels(self) -> list[dict[str, Any]]:
        """For every level: `level`, `mean`, `share_above_half`, and the means `by_class` and `by_distance`.

        `by_class` has the classes that are predicted somewhere; `by_distance` is of rings around predicted boundaries,
        in pixels, with `None` for an empty ring.
        """
        count = sum(name.startswith("gate") for name in self._totals)
        return [
            {
                "level": level,
                "mean": self._totals[f"gate {level}"].mean(),
                "share_above_half": self._totals[f"open {level}"].mean(),
                **self._parts(f"gate {level}"),
            }
            for level in range(1, count + 1)
        ]

    def closings(self) -> list[dict[str, Any]]:
        """For every closing: its `levels`, and which share of the pixels it changed.

        Keys: `changed_share`, `by_class`, `by_distance`. With labels, of the labelled pixels: `pixel_accuracy`, and
        `became_wrong` and `became_right` with `share`, `by_class` and `by_distance` each.
        """
        reports = []
        for i, levels in enumerate(self._closings):
            changed = {"changed_share": self._totals[f"changed {i}"].mean(), **self._parts(f"changed {i}")}
            judged: dict[str, Any] = {}
            if f"correct {i}" in self._totals:
                judged["pixel_accuracy"] = self._totals[f"correct {i}"].mean()
                for what in ("wrong", "right"):
                    name = f"{what} {i}"
                    judged[f"became_{what}"] = {"share": self._totals[name].mean(), **self._parts(name)}
            reports.append({"levels": list(levels), **changed, **judged})
        return reports

    def pixel_accuracy(self) -> float | None:
        """With the learned gates; `None` without labels."""
        return self._totals["correct"].mean() if "correct" in self._totals else None

    def _judge(self, result: GateResult, closings: Sequence[Closing], truth: np.ndarray) -> None:
        """Count what is right, and what became wrong or right."""
        rings = boundary_rings(truth)
        self._count("correct", result.prediction == truth, truth, rings)
        for i, closing in enumerate(closings):
            self._count(f"correct {i}", closing.prediction == truth, truth, rings)
            for what, mask in became(result, closing, truth)._asdict().items():
                self._count(f"{what} {i}", mask, truth, rings)

    def _count(self, name: str, values: np.ndarray, labels: np.ndarray, rings: np.ndarray) -> None:
        self._totals.setdefault(name, _Totals(len(self._classes))).add(values, labels, rings)

    def _parts(self, name: str) -> dict[str, Any]:
        totals = self._totals[name]
        by_class = zip(self._classes, means_of(totals.by_class), strict=True)
        return {
            "by_class": {label: mean for label, mean in by_class if mean is not None},
            "by_distance": dict(zip(RING_NAMES, means_of(totals.by_ring), strict=True)),
        }


def gate_rows(
    images: Sequence[tuple[np.ndarray, Sequence[np.ndarray], Sequence[tuple[int, np.ndarray, float]]]],
) -> list[dict[str, Any]]:
    """One row a level over several images of (prediction, gate maps, (level, changed pixels, share) of every closing).

    Keys: `level`; `gate`: its mean, near (the first ring) and far (the last) from boundaries; `open`: the share of
    pixels above one half; `changed`: the share that closing it alone changes, near, far. `None`: nothing to count.
    """
    rows = []
    rings = [boundary_rings(prediction) for prediction, _, _ in images]
    for level in range(1, max((len(maps) for _, maps, _ in images), default=0) + 1):
        gates = [(m[level - 1], ring) for (_, m, _), ring in zip(images, rings, strict=True) if level <= len(m)]
        changed = [
            (c, ring) for (_, _, all_), ring in zip(images, rings, strict=True) for k, c, _ in all_ if k == level
        ]
        rows.append(
            {
                "level": level,
                "gate": _all_near_far(gates),
                "open": _all_near_far([(gate > 0.5, ring) for gate, ring in gates])[0],
                "changed": _all_near_far(changed),
            }
        )
    return rows


def boundary_rings(labels: UInt8[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """The ring, an index into `RING_NAMES`, of every pixel: by its chessboard distance to the nearest other class.

    That distance is at most `r` where the square of `2 r + 1` pixels around the pixel holds more than one class: where
    the greatest label in it is above the smallest. Both are running maxima, of rows and columns one after the other.
    Ignored pixels (255) are of no class, and make no boundary.
    """
    x = torch.from_numpy(labels.astype(np.float32))[None, None]
    known = x != _IGNORED
    highest, lowest = torch.where(known, x, -1.0), torch.where(known, -x, -256.0)
    ring = torch.zeros(labels.shape, dtype=torch.int64)
    for radius in RINGS:
        ring += (_greatest(highest, radius) <= -_greatest(lowest, radius))[0, 0]
    return ring.numpy()


def totals_of(values: np.ndarray, groups: Integer[np.ndarray, "..."], count: int) -> Float64[np.ndarray, "2 count"]:
    """The sum of `values` over the pixels of each group `0..count-1`, and how many pixels there are; others are left
    out."""
    flat = np.minimum(groups.ravel(), count)
    sums = np.bincount(flat, values.ravel().astype(np.float64), count + 1)
    return np.stack([sums, np.bincount(flat, minlength=count + 1)])[:, :count]


def means_of(totals: Float64[np.ndarray, "2 count"]) -> list[float | None]:
    """The mean of every group; `None` for a group without pixels."""
    return [float(total / pixels) if pixels else None for total, pixels in totals.T]


class _Totals:
    """Sums of the values of pixels, and their number, by class and by ring."""

    def __init__(self, classes: int) -> None:
        self.by_class = np.zeros((2, classes))
        self.by_ring = np.zeros((2, len(RING_NAMES)))

    def add(self, values: np.ndarray, labels: np.ndarray, rings: np.ndarray) -> None:
        """Add a map; pixels whose label is no class are left out."""
        self.by_class += totals_of(values, labels.astype(np.int64), self.by_class.shape[1])
        known = labels < self.by_class.shape[1]
        self.by_ring += totals_of(values[known], rings[known], self.by_ring.shape[1])

    def merge(self, other: "_Totals") -> None:
        """Add those of other images."""
        self.by_class += other.by_class
        self.by_ring += other.by_ring

    def mean(self) -> float | None:
        """Over all pixels; `None` if there are none."""
        total, pixels = self.by_ring.sum(1)
        return float(total / pixels) if pixels else None


def _all_near_far(maps: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float | None]:
    """Mean over all pixels of maps with their rings, over the first ring, and over the last."""
    if not maps:
        return [None] * 3
    values, rings = (np.concatenate([pair[i].ravel() for pair in maps]) for i in (0, 1))
    by_ring = means_of(totals_of(values, rings, len(RING_NAMES)))
    return [float(values.mean(dtype=np.float64)), by_ring[0], by_ring[-1]]


def _greatest(x: Float[torch.Tensor, "1 1 h w"], radius: int) -> Float[torch.Tensor, "1 1 h w"]:
    """The greatest value within `radius` of every position, by row and column."""
    rows = F.max_pool2d(x, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
