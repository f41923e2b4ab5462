"""Randomness: weighted choices, tileable noise, hashes of grid cells."""

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

T = TypeVar("T")
Floats = NDArray[np.float32]

SIDE = 512


def floats(values: NDArray[np.generic] | Sequence[float] | float) -> Floats:
    """Convert to float32."""
    return np.asarray(values, dtype=np.float32)


def choose(rng: Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Pick one of the options at random, in proportion to its weight."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    return options[int(rng.choice(len(options), p=np.array(weights) / np.sum(weights)))]


@cache
def tile(roughness: float, key: int) -> Floats:
    """Tileable noise (512, 512), mean 0, variance 1, whose amplitude falls as frequency^-roughness (0: white)."""
    white = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7919, key)))).standard_normal((SIDE, SIDE))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]) * SIDE
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(white) * np.maximum(frequency, 2.0) ** -roughness, s=(SIDE, SIDE))
    return floats(field / field.std())


def nearest_noise(x: Floats, y: Floats, roughness: float, key: int = 0) -> Floats:
    """Look up the tile of this roughness and key at x, y (equal shapes, in texels, wrapping), without interpolation."""
    return floats(tile(roughness, key)[y.astype(np.int32) & (SIDE - 1), x.astype(np.int32) & (SIDE - 1)])


def noise(x: Floats, y: Floats, roughness: float, key: int = 0) -> Floats:
    """Look up the tile of this roughness and key at x, y (equal shapes, in texels, wrapping), bilinearly."""
    field = tile(roughness, key)
    left, top = np.floor(x), np.floor(y)
    fx, fy = x - left, y - top
    i, j = left.astype(np.int32) & (SIDE - 1), top.astype(np.int32) & (SIDE - 1)
    i2, j2 = (i + 1) & (SIDE - 1), (j + 1) & (SIDE - 1)
    upper = field[j, i] * (1 - fx) + field[j, i2] * fx
    return floats(upper * (1 - fy) + (field[j2, i] * (1 - fx) + field[j2, i2] * fx) * fy)


def hashed(a: NDArray[np.generic], b: NDArray[np.generic] | int, key: int) -> Floats:
    """Hash the grid cells (floor(a), floor(b)) to values in [0, 1)."""
    a, b = (np.floor(values).astype(np.int64) for values in (a, b))
    mixed = (a * 73856093) ^ (b * 19349663) ^ np.int64(key * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return floats(((mixed ^ (mixed >> 16)) & 0xFFFF) / 65536)
