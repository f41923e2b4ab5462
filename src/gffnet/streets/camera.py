"""A pinhole camera over a gently curved ground.

World axes: X right, Y up, Z forward along the street, metres; the camera stands at (0, height, 0). The depth of a
point is its Z. Every pixel's ray is stored as (rx, ry), so that the point at depth Z is (rx Z, height + ry Z, Z).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]

NEAR = 0.6


@dataclass(frozen=True)
class Camera:
    """Pinhole camera.

    `size` (rows, columns) in samples, `focal` in samples, `height` in metres, `pitch` (positive looks down) and `roll`
    in radians; `hill` is k of the ground's height k Z^2.
    """

    size: tuple[int, int]
    focal: float
    height: float
    pitch: float
    roll: float
    hill: float

    def project(self, points: Points) -> Points:
        """World points (N, 3) with Z > 0 to sample coordinates (N, 2), x right and y down."""
        right, down, ahead = points[:, 0], self.height - points[:, 1], points[:, 2]
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        y, z = down * cos - ahead * sin, down * sin + ahead * cos
        z = np.maximum(z, 1e-3)
        x, y = right / z * self.focal, y / z * self.focal
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        rows, columns = self.size
        found = np.empty((len(points), 2))
        found[:, 0], found[:, 1] = columns / 2 + x * cos - y * sin, rows / 2 + x * sin + y * cos
        return found

    @cached_property
    def rays(self) -> tuple[Floats, Floats]:
        """Slopes (rx, ry), each (rows, columns): the point at depth Z is (rx Z, height + ry Z, Z)."""
        rows, columns = self.size
        u = ((np.arange(columns) + 0.5 - columns / 2) / self.focal)[None, :]
        v = ((np.arange(rows) + 0.5 - rows / 2) / self.focal)[:, None]
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        x, y = u * cos + v * sin, v * cos - u * sin
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        ahead = np.maximum(cos - y * sin, 1e-2)
        return (x / ahead).astype(np.float32), (-(y * cos + sin) / ahead).astype(np.float32)

    @cached_property
    def ground_depth(self) -> Floats:
        """Depth (rows, columns) at which each ray meets the ground y = k Z^2; inf where it never does."""
        _, ry = self.rays
        root = ry * ry + np.float32(4 * self.hill * self.height)
        below = np.sqrt(np.maximum(root, 0)) - ry
        with np.errstate(divide="ignore"):
            depth = np.float32(2 * self.height) / below
        return np.where((root >= 0) & (below > 1e-5), depth, np.inf).astype(np.float32)

    def ground(self, z: Points | float) -> Points:
        """Height of the ground at depth z."""
        return np.asarray(self.hill * np.square(z))


def clip_near(points: Points, near: float = NEAR) -> Points:
    """The part of a convex polygon (N, 3) with Z >= near; (0, 3) when there is none."""
    inside = points[:, 2] >= near
    if inside.all():
        return points
    if not inside.any():
        return points[:0]
    kept: list[Points] = []
    for i in range(len(points)):
        j = (i + 1) % len(points)
        if inside[i]:
            kept.append(points[i])
        if inside[i] != inside[j]:
            share = (near - points[i, 2]) / (points[j, 2] - points[i, 2])
            kept.append(points[i] + share * (points[j] - points[i]))
    return np.array(kept)
