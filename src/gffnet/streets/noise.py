"""Tileable noise fields, looked up by position."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 512


def floats(values: NDArray[np.generic] | Sequence[float] | float) -> Floats:
    """Numbers as float32."""
    return np.asarray(values, dtype=np.float32)


@cache
def tile(roughness: float, key: int = 0) -> Floats:
    """Tileable noise (512, 512) of mean 0 and deviation 1 whose amplitude falls as frequency^-roughness (0: white)."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7919, key))))
    white = rng.standard_normal((SIDE, SIDE))
    if roughness == 0:
        return floats(white)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]) * SIDE
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(white) * np.maximum(frequency, 2.0) ** -roughness, s=(SIDE, SIDE))
    return floats(field / field.std())


def sample(field: Floats, x: Floats, y: Floats) -> Floats:
    """Values of a tile at positions x, y (any equal shapes, in texels, wrapping), nearest."""
    return floats(field[y.astype(np.int32) & (SIDE - 1), x.astype(np.int32) & (SIDE - 1)])


def smooth(field: Floats, x: Floats, y: Floats) -> Floats:
    """Values of a tile at positions x, y (any equal shapes, in texels, wrapping), bilinear."""
    left, top = np.floor(x), np.floor(y)
    fx, fy = x - left, y - top
    i, j = left.astype(np.int32) & (SIDE - 1), top.astype(np.int32) & (SIDE - 1)
    i2, j2 = (i + 1) & (SIDE - 1), (j + 1) & (SIDE - 1)
    upper = field[j, i] * (1 - fx) + field[j, i2] * fx
    return floats(upper * (1 - fy) + (field[j2, i] * (1 - fx) + field[j2, i2] * fx) * fy)


def hashed(a: NDArray[np.int64], b: NDArray[np.int64], key: int) -> Floats:
    """A value in [0, 1) for every pair of integers, the same for the same pair and key."""
    mixed = (a * 73856093) ^ (b * 19349663) ^ np.int64(key * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return floats(((mixed ^ (mixed >> 16)) & 0xFFFF) / 65536)
