"""Walls, fences and hedges along the lots."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Floats
from gffnet.streets.noise import floats, hashed, sample, smooth, tile
from gffnet.streets.panels import Texels, Texture


def draw_wall(rng: Generator, height: float) -> Texture:
    """A garden or factory wall: brick, concrete panels, rubble or plaster, sometimes with graffiti."""
    bases = np.array([(150, 90, 70), (148, 146, 140), (126, 120, 110), (190, 180, 160), (108, 100, 92)])
    base = floats(bases[int(rng.integers(len(bases)))] * rng.uniform(0.7, 1.15) + rng.normal(0, 6, 3))
    tall, long = [(0.09, 0.27), (0.9, 2.5), (0.3, 0.55), (9.0, 9.0)][int(rng.integers(4))]
    key = int(rng.integers(1 << 16))
    sprayed = float(rng.uniform(0.4, 1)) if rng.random() < 0.3 else 0.0
    paint = floats(rng.uniform(30, 230, 3))

    def texture(u: Floats, v: Floats, blur: Floats) -> Texels:
        row = np.floor(v / tall)
        along = u / long + 0.5 * (row % 2)
        tone = hashed(np.floor(along).astype(np.int64), row.astype(np.int64), key) - 0.5
        joint = (v % tall < 0.02 + 0.08 * tall * (tall < 0.2)) | (along % 1 < 0.02 / long)
        fade = np.clip(tall / 2 / blur, 0, 1)
        dirt = smooth(tile(1.3, 4), u * 9 + key, v * 5)
        value = 1 + (0.2 * tone * (tall < 5) - 0.2 * joint) * fade + 0.07 * dirt
        value = np.where(v > height - 0.14, value * 1.12, value) * np.clip(0.75 + v * 0.6, 0, 1)
        colour = value[:, None] * base
        if sprayed:
            marks = (np.abs(smooth(tile(1.6, 5), u * 16 + key, v * 16)) < 0.16) & (v > 0.4) & (v < 1.9)
            marks &= smooth(tile(2.0, 6), u * 2 + key, np.zeros_like(u)) > 1 - sprayed
            colour[marks] = paint
        return Texels(colour)

    return texture


def draw_fence(rng: Generator, height: float) -> Texture:
    """A fence: bars, mesh, planks or a barrier of the road works. Gaps take the class and show what is behind."""
    kind = ["bars", "mesh", "planks", "barrier"][int(rng.choice(4, p=[0.45, 0.25, 0.2, 0.1]))]
    tones: list[tuple[int, int, int]] = [(40, 44, 42), (52, 84, 62), (150, 154, 156), (120, 92, 66), (210, 208, 200)]
    tone = floats(tones[int(rng.integers(len(tones)))])
    pitch = float(rng.uniform(0.1, 0.2))
    post = float(rng.uniform(1.6, 3))

    def texture(u: Floats, v: Floats, blur: Floats) -> Texels:
        posts = (u % post < 0.08) | (v > height - 0.06)
        if kind == "bars":
            shows = posts | (u % pitch < 0.028) | (np.abs(v - 0.2) < 0.03) | (np.abs(v - height + 0.25) < 0.03)
        elif kind == "mesh":
            shows = posts | ((u + v) % 0.12 < 0.014) | ((u - v) % 0.12 < 0.014)
        elif kind == "planks":
            shows = posts | (u % 0.14 < 0.105)
        else:
            shows = (u % post < 0.06) | (np.abs(v % 0.5 - 0.3) < 0.11)
        thin = np.clip(1.3 - 0.03 / blur, 0.7, 1.2)
        colour = np.broadcast_to(tone, (len(u), 3)) * thin[:, None]
        if kind == "planks":
            colour = (
                colour
                * (0.85 + 0.3 * hashed(np.floor(u / 0.14).astype(np.int64), np.zeros(len(u), np.int64), 3))[:, None]
            )
        if kind == "barrier":
            colour = np.where(((u % 0.9) < 0.45)[:, None], floats([196, 44, 36]), floats([232, 230, 226]))
        return Texels(colour.astype(np.float32), 0, None, shows)

    return texture


def draw_hedge(rng: Generator, height: float) -> Texture:
    """A clipped or wild hedge."""
    key = float(rng.uniform(0, 512))
    green = floats(np.array([58, 84, 40]) * rng.uniform(0.6, 1.4) + rng.normal(0, 6, 3))
    wild = float(rng.uniform(0.03, 0.25))

    def texture(u: Floats, v: Floats, blur: Floats) -> Texels:
        edge = height * (1 - wild) + wild * height * 0.5 * smooth(tile(1.0, 7), u * 14 + key, np.zeros_like(u))
        leaves = sample(tile(0.5, 8), u * 26 + key, v * 26) * np.clip(0.1 / blur, 0.3, 1)
        clumps = smooth(tile(1.2, 9), u * 9 + key, v * 9)
        value = (1 + 0.22 * leaves + 0.16 * clumps) * np.clip(0.55 + 0.5 * v / height, 0, 1)
        return Texels(value[:, None] * green, 0, v < edge)

    return texture


BARRIERS: dict[str, Callable[[Generator, float], Texture]] = {
    "wall": draw_wall,
    "fence": draw_fence,
    "hedge": draw_hedge,
}
