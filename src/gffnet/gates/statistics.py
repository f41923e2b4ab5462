"""Means over gate maps: how open gates are, by class and by distance to a boundary, and what closing them changes.

The paper reads off its figures that low levels open at boundaries and high levels over large structures; these are the
same statements as means over the pixels of one image or of many.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer, UInt8

from gffnet.gates.edit import Closing, GateResult, became
from gffnet.metrics.boundary import RING_NAMES, boundary_rings


class GateStatistics:
    """Means over the pixels of all images that were added.

    By class and distance of the prediction with the learned gates; what became wrong or right, of the labels.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._closings: list[tuple[int, ...]] = []
        self._by_class: dict[str, Float64[np.ndarray, "2 classes"]] = {}
        self._by_ring: dict[str, Float64[np.ndarray, "2 rings"]] = {}
        """By name of a quantity: the sum of its values over the pixels of each class or ring, and their number."""
        self.pixels = 0

    def add(
        self,
        result: GateResult,
        closings: Sequence[Closing] = (),
        truth: UInt8[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Add an image: its learned gates, and closings of the same levels for every image; 255 in `truth` is ignored.

        Raises:
            ValueError: the closings are not those of the images before.
        """
        levels = [closing.levels for closing in closings]
        if self._by_class and levels != self._closings:
            raise ValueError(f"these are closings {levels}, and those before {self._closings}")
        self._closings = levels
        self.pixels += result.prediction.size
        rings = boundary_rings(result.prediction)
        for level, gate in enumerate(result.maps, start=1):
            self._count(f"gate {level}", gate, result.prediction, rings)
            self._count(f"open {level}", gate > 0.5, result.prediction, rings)
        for i, closing in enumerate(closings):
            self._count(f"changed {i}", closing.changed, result.prediction, rings)
        if truth is None:
            return
        rings = boundary_rings(truth)
        self._count("correct", result.prediction == truth, truth, rings)
        for i, closing in enumerate(closings):
            self._count(f"correct {i}", closing.prediction == truth, truth, rings)
            for change, mask in became(result, closing, truth)._asdict().items():
                self._count(f"{change} {i}", mask, truth, rings)

    def merge(self, other: "GateStatistics") -> None:
        """Add the images of another."""
        self._closings = other._closings or self._closings
        self.pixels += other.pixels
        for own, sums in ((self._by_class, other._by_class), (self._by_ring, other._by_ring)):
            for name, values in sums.items():
                own[name] = own.get(name, 0) + values

    def levels(self) -> list[dict[str, Any]]:
        """Return for every level: `level`, `mean`, `share_above_half`, and the means `by_class` and `by_distance`.

        `by_class` has the classes that are predicted somewhere; `by_distance` is of rings around predicted boundaries,
        in pixels, with `None` for an empty ring.
        """
        count = sum(name.startswith("gate") for name in self._by_class)
        return [
            {
                "level": level,
                "mean": self._mean(f"gate {level}"),
                "share_above_half": self._mean(f"open {level}"),
                **self._parts(f"gate {level}"),
            }
            for level in range(1, count + 1)
        ]

    def closings(self) -> list[dict[str, Any]]:
        """Return for every closing: its `levels`, and which share of the pixels it changed.

        Keys: `changed_share`, `by_class`, `by_distance`. With labels, of the labelled pixels: `pixel_accuracy`, and
        `became_wrong` and `became_right` with `share`, `by_class` and `by_distance` each.
        """
        reports = []
        for i, levels in enumerate(self._closings):
            changed = f"changed {i}"
            report = {"levels": list(levels), "changed_share": self._mean(changed), **self._parts(changed)}
            if f"correct {i}" in self._by_class:
                report["pixel_accuracy"] = self._mean(f"correct {i}")
                for change in ("wrong", "right"):
                    name = f"{change} {i}"
                    report[f"became_{change}"] = {"share": self._mean(name), **self._parts(name)}
            reports.append(report)
        return reports

    def pixel_accuracy(self) -> float | None:
        """Return the accuracy with the learned gates; `None` without labels."""
        return self._mean("correct") if "correct" in self._by_class else None

    def _count(self, name: str, values: np.ndarray, labels: np.ndarray, rings: np.ndarray) -> None:
        """Add a map; pixels of no class are left out."""
        known = labels < len(self._classes)
        by_class = group_sums(values[known], labels[known], len(self._classes))
        by_ring = group_sums(values[known], rings[known], len(RING_NAMES))
        self._by_class[name] = self._by_class.get(name, 0) + by_class
        self._by_ring[name] = self._by_ring.get(name, 0) + by_ring

    def _mean(self, name: str) -> float | None:
        total, pixels = self._by_ring[name].sum(1)
        return float(total / pixels) if pixels else None

    def _parts(self, name: str) -> dict[str, Any]:
        by_class = zip(self._classes, group_means(self._by_class[name]), strict=True)
        return {
            "by_class": {label: mean for label, mean in by_class if mean is not None},
            "by_distance": dict(zip(RING_NAMES, group_means(self._by_ring[name]), strict=True)),
        }


def near_and_far(numbers: Mapping[str, Any]) -> list[float | None]:
    """Return the means near boundaries (the first ring) and far from them (the last), of a level or a closing."""
    rings = list(numbers["by_distance"].values())
    return [rings[0], rings[-1]]


def group_sums(values: np.ndarray, groups: Integer[np.ndarray, "..."], count: int) -> Float64[np.ndarray, "2 count"]:
    """Sum `values` over the pixels of each group `0..count-1`, and count the pixels."""
    sums = np.bincount(groups.ravel(), values.ravel().astype(np.float64), count)
    return np.stack([sums, np.bincount(groups.ravel(), minlength=count)])


def group_means(sums: Float64[np.ndarray, "2 count"]) -> list[float | None]:
    """Return the mean of every group; `None` for a group without pixels."""
    return [float(total / pixels) if pixels else None for total, pixels in sums.T]
