"""The picture in the making: colour, class, depth and glow of every sample, filled with a depth test.

Samples are finer than pixels (2 x 2 a pixel), so that colours are antialiased and a pixel's class is the one that
covers most of it: image and labels come from the same samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gffnet.streets.camera import Camera, Floats

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice]

SAMPLES = 2
FAR = 1e9


@dataclass
class Canvas:
    """Buffers of (rows, columns) samples: `rgb` (..., 3) uint8, `label` uint8, `depth` float32 metres, `glow` uint8.

    `glow` is the share of its colour that a sample keeps in the dark (255: a lamp).
    """

    camera: Camera
    rgb: Bytes
    label: Bytes
    depth: Floats
    glow: Bytes

    @classmethod
    def empty(cls, camera: Camera) -> "Canvas":
        """A canvas with nothing on it: black, unlabelled, infinitely far."""
        rgb = np.zeros((*camera.size, 3), np.uint8)
        depth = np.full(camera.size, FAR, np.float32)
        return cls(camera, rgb, np.zeros(camera.size, np.uint8), depth, np.zeros(camera.size, np.uint8))

    def box(self, left: float, top: float, right: float, bottom: float) -> Box | None:
        """The samples within these coordinates, clipped to the canvas; None when there are none."""
        rows, columns = self.camera.size
        x0, x1 = max(int(np.floor(left)), 0), min(int(np.ceil(right)) + 1, columns)
        y0, y1 = max(int(np.floor(top)), 0), min(int(np.ceil(bottom)) + 1, rows)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def visible(self, box: Box, mask: Mask, depth: Floats | float) -> Mask:
        """Which samples of the mask (the box's shape) are nearer than what is painted there."""
        return np.asarray(mask & (depth < self.depth[box]))

    def paint(
        self,
        box: Box,
        mask: Mask,
        rgb: NDArray[np.generic] | tuple[int, int, int],
        label: Bytes | int,
        depth: Floats | float,
        glow: Bytes | int = 0,
    ) -> None:
        """Write the mask's samples in the box; arrays have the box's shape. The caller has tested the depth."""
        for buffer, value in ((self.rgb, rgb), (self.label, label), (self.depth, depth), (self.glow, glow)):
            target = buffer[box]
            flat = np.asarray(value)
            full = flat.ndim == target.ndim and flat.ndim > 1
            target[mask] = flat[mask] if full else flat

    def pixels(self) -> tuple[Floats, Bytes, Floats, Floats]:
        """Per pixel: mean colour (H, W, 3) float32, class (H, W), mean inverse depth and mean glow (0..1), (H, W)."""
        nearness = np.asarray(1 / np.minimum(self.depth, np.float32(FAR)), dtype=np.float32)
        return (
            reduce_mean(self.rgb.astype(np.float32)),
            reduce_labels(self.label),
            reduce_mean(nearness),
            reduce_mean(self.glow.astype(np.float32) / np.float32(255)),
        )


def reduce_mean(samples: Floats) -> Floats:
    """Mean of every block of samples: (H s, W s, ...) to (H, W, ...)."""
    total = samples[0::2, 0::2] + samples[0::2, 1::2] + samples[1::2, 0::2] + samples[1::2, 1::2]
    return np.asarray(total / np.float32(4))


def reduce_labels(samples: Bytes) -> Bytes:
    """The commonest class of every block of 2 x 2 samples; a tie goes to the topmost, then leftmost, tied sample."""
    a, b, c, d = samples[0::2, 0::2], samples[0::2, 1::2], samples[1::2, 0::2], samples[1::2, 1::2]
    rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    first = (a == b) | (a == c) | (a == d)
    return np.where(first & ~((b == c) & (c == d)), a, rest)
