"""Numbers about gate maps: how open they are, over which classes, and how near to a boundary.

The paper reads off its figures that low levels open at boundaries and high levels over large structures; here are
the same statements as means over pixels of the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, UInt8

from gffnet.analysis.gated_image import Closing, GateResult

RINGS = (2, 5, 10)
"""Distances to a class boundary, in pixels, that part the rings."""

RING_NAMES = ("1-2", "3-5", "6-10", "over 10")


def gate_statistics(result: GateResult, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For every level: mean, share of pixels above one half, means by predicted class and by distance to a boundary.

    Keys: `level`, `mean`, `share_above_half`, `by_class` (classes that are predicted somewhere), `by_distance` (rings
    around predicted boundaries, in pixels; `None` for an empty ring).
    """
    rings = boundary_rings(result.prediction)
    return [
        {
            "level": level,
            "mean": float(gate.mean(dtype=np.float64)),
            "share_above_half": float((gate > 0.5).mean()),
            **_by_class_and_distance(gate, result.prediction, rings, classes),
        }
        for level, gate in enumerate(result.maps, start=1)
    ]


def closing_statistics(closing: Closing, learned: GateResult, classes: Sequence[str]) -> dict[str, Any]:
    """Which share of pixels a closing changed: of all, by the class they had, and by distance to a boundary."""
    rings = boundary_rings(learned.prediction)
    return {
        "levels": list(closing.levels),
        "changed_share": closing.share,
        **_by_class_and_distance(closing.changed, learned.prediction, rings, classes),
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
    the greatest label in it is not the smallest. Both are running maxima, of rows and columns one after the other.
    """
    x = torch.from_numpy(labels.astype(np.float32))[None, None]
    ring = torch.zeros(labels.shape, dtype=torch.int64)
    for radius in RINGS:
        ring += (_greatest(x, radius) == -_greatest(-x, radius))[0, 0]
    return ring.numpy()


def means(values: np.ndarray, groups: Integer[np.ndarray, "..."], count: int) -> list[float | None]:
    """Mean of `values` over the pixels of each group `0..count-1`; `None` for a group without pixels."""
    sums = np.bincount(groups.ravel(), values.ravel().astype(np.float64), count)
    pixels = np.bincount(groups.ravel(), minlength=count)
    return [float(s / n) if n else None for s, n in zip(sums, pixels, strict=True)]


def _by_class_and_distance(
    values: np.ndarray, labels: np.ndarray, rings: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    by_class = zip(classes, means(values, labels.astype(np.int64), len(classes)), strict=True)
    return {
        "by_class": {name: mean for name, mean in by_class if mean is not None},
        "by_distance": dict(zip(RING_NAMES, means(values, rings, len(RING_NAMES)), strict=True)),
    }


def _all_near_far(maps: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float | None]:
    """Mean over all pixels of maps with their rings, over the first ring, and over the last."""
    if not maps:
        return [None] * 3
    values, rings = (np.concatenate([pair[i].ravel() for pair in maps]) for i in (0, 1))
    by_ring = means(values, rings, len(RING_NAMES))
    return [float(values.mean(dtype=np.float64)), by_ring[0], by_ring[-1]]


def _greatest(x: Float[torch.Tensor, "1 1 h w"], radius: int) -> Float[torch.Tensor, "1 1 h w"]:
    """The greatest value within `radius` of every position, by row and column."""
    rows = F.max_pool2d(x, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
