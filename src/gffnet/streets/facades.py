"""Textures of facades: plaster, brick, glass, panels; windows, doors, shop fronts, balconies, lit rooms."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Floats
from gffnet.streets.canvas import Bytes, Mask
from gffnet.streets.noise import floats, hashed, sample, smooth, tile
from gffnet.streets.panels import Texels

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Facade:
    """A facade's look; lengths in metres, colours 0..255. Called as a panel's texture."""

    base: Triple
    trim: Triple
    frame: Triple
    pane: Triple
    storey: float
    bay: float
    window: tuple[float, float]  # width and height as shares of bay and storey
    ground: float  # height of the shop floor, 0 for none
    shop: Triple
    brick: float
    glass: bool
    balcony: float
    lit: float  # share of lit windows
    height: float
    key: int

    def __call__(self, u: Floats, v: Floats, blur: Floats) -> Texels:
        """Appearance at u metres along and v metres up; blur is the metres that a sample covers."""
        colour = self._wall(u, v, blur)
        glow = np.zeros(u.shape, np.uint8)
        if self.window[0]:
            self._openings(colour, glow, u, v)
        if self.ground:
            self._shops(colour, glow, u, v)
        return Texels(colour, glow)

    def _openings(self, colour: Floats, glow: Bytes, u: Floats, v: Floats) -> None:
        """Paint windows, doors and balconies, in place."""
        above = v - self.ground
        column, level = np.floor(u / self.bay), np.floor(above / self.storey)
        a, b = u / self.bay - column, above / self.storey - level
        pick = hashed(column.astype(np.int64), level.astype(np.int64), self.key)
        wide, tall = self.window
        across, up = np.abs(a - 0.5) / (wide / 2), np.abs(b - 0.52) / (tall / 2)
        roof_gap = v < self.height - 0.5
        inside = (across < 1) & (up < 1) & (above > 0) & roof_gap
        rim = (across < 1 + 0.16 / wide / self.bay * 2) & (up < 1 + 0.2 / tall / self.storey) & (above > 0) & roof_gap
        colour[rim & ~inside] = self.trim
        edge = inside & ((across > 1 - 0.14 / (wide * self.bay)) | (up > 1 - 0.16 / (tall * self.storey)))
        bars = inside & (across < 0.05) & (pick < 0.7)
        colour[inside] = self._panes(u[inside], v[inside], pick[inside], up[inside])
        colour[edge | bars] = self.frame
        door = (level == 0) & (above < 2.3) & (np.abs(a - 0.5) * self.bay < 0.55) & (pick < 0.3) & (self.ground == 0)
        colour[door] = floats(self.trim)[None] * (0.35 + 0.5 * pick[door, None])
        lit = inside & ~door & ~edge & ~bars & ((pick * 7919) % 1 < self.lit)
        glow[lit] = 230
        colour[lit] = floats([255, 214, 150]) * (0.55 + 0.45 * pick[lit])[:, None]
        if self.balcony:
            rail = (b < 0.3) & (np.abs(a - 0.5) < 0.46) & (above > self.storey) & roof_gap
            rail &= hashed(column.astype(np.int64), column.astype(np.int64), self.key + 3) < self.balcony
            rail &= ((u * 7) % 1 < 0.45) | (b > 0.27) | (b < 0.05)
            colour[rail] = floats(self.trim) * 0.5
            glow[rail] = 0

    def _wall(self, u: Floats, v: Floats, blur: Floats) -> Floats:
        """Colour (N, 3) of the bare wall: plaster, brick courses, streaks of rain, a plinth."""
        fine = sample(tile(0.5), u * 30, v * 30) * np.clip(0.05 / blur, 0, 1)
        streak = sample(tile(1.2, 1), u * 14 + self.key, v * 1.5 + self.key)
        value = 1 + 0.035 * fine + 0.045 * streak
        if self.brick:
            row = np.floor(v / 0.09)
            along = u / 0.26 + 0.5 * (row % 2)
            tone = hashed(np.floor(along).astype(np.int64), row.astype(np.int64), 11) - 0.5
            joint = (v / 0.09 - row < 0.2).astype(np.float32)
            value = value + (self.brick * tone + 0.22 * joint) * np.clip(0.05 / blur, 0, 1)
        band = (np.abs((v - self.ground) % self.storey) < 0.14) & (self.key % 3 == 0)
        value = np.where(band, value * 1.12, value)
        value = np.where(v < 0.6, value * 0.8, value)
        value = np.where(v > self.height - 0.45, value * 0.86, value)
        return floats(value[:, None] * floats(self.base))

    def _panes(self, u: Floats, v: Floats, pick: Floats, up: Floats) -> Floats:
        """Colour (N, 3) of window panes: dark rooms, curtains, blinds, the reflected sky."""
        reflected = smooth(tile(1.5, 2), u * 5 + 40 * pick, v * 5)
        colour = floats(self.pane) * (0.8 + 0.5 * pick + 0.14 * reflected)[:, None]
        curtain = (pick * 977 % 1 < 0.28) & ((v * 3 + pick * 5) % 3 > 1.2)
        return np.where(curtain[:, None], floats([190, 186, 176]) * (0.7 + 0.3 * pick[:, None]), colour)

    def _shops(self, colour: Floats, glow: Bytes, u: Floats, v: Floats) -> None:
        """Paint shop windows, doors and name boards onto the ground floor, in place."""
        shop = np.floor(u / (2 * self.bay))
        pick = hashed(shop.astype(np.int64), shop.astype(np.int64), self.key + 9)
        floor = v < self.ground
        within = np.abs(u / (2 * self.bay) - shop - 0.5) < 0.44
        board: Mask = floor & within & (v > self.ground - 0.75) & (v < self.ground - 0.15)
        pane: Mask = floor & within & (v > 0.5) & (v < self.ground - 0.85) & ((u * 0.8 + pick) % 1 > 0.06)
        turn = np.stack([pick, (pick * 3.7) % 1, (pick * 9.1) % 1], axis=-1)
        colour[board] = (floats(self.shop) * (0.4 + turn))[board]
        letters = board & (hashed(np.floor(u * 4).astype(np.int64), np.floor(v * 5).astype(np.int64), self.key) < 0.4)
        letters &= (np.abs(v - self.ground + 0.45) < 0.16) & (np.abs(u / (2 * self.bay) - shop - 0.5) < 0.25)
        colour[letters] = floats([238, 236, 228])
        shelf = hashed(np.floor(u * 2.2).astype(np.int64), np.floor(v * 1.6).astype(np.int64), self.key + 1)
        goods = np.stack([shelf, (shelf * 7.3) % 1, (shelf * 13.7) % 1], axis=-1) * (0.4 + 0.6 * pick[:, None])
        mirrored = smooth(tile(1.5, 3), u * 6, v * 6)[:, None]
        inside = floats(self.pane) * (0.8 + 0.2 * mirrored) + 55 * goods * (shelf > 0.35)[:, None] * (v < 2.2)[:, None]
        colour[pane] = inside[pane]
        if self.lit:
            shining = pane & (pick < 0.4 + self.lit)
            colour[shining] = (floats((215, 186, 140)) * (0.5 + 0.6 * goods))[shining]
            glow[shining | (board & (pick > 0.5))] = 210


def draw_facade(rng: Generator, height: float, city: bool, lit: bool) -> Facade:
    """Draw a facade's look for a building of this height."""
    palettes = np.array(
        [(198, 186, 160), (214, 208, 196), (168, 92, 70), (142, 84, 66), (186, 160, 118), (150, 148, 144),
         (122, 124, 130), (226, 218, 202), (196, 150, 120), (108, 98, 90), (160, 172, 178), (214, 184, 120)], float,
    )  # fmt: skip
    pick = int(rng.integers(len(palettes)))
    base = np.clip(palettes[pick] * rng.uniform(0.6, 1.12) + rng.normal(0, 8, 3), 30, 240)
    glass = bool(city and rng.random() < 0.16)
    window = (float(rng.uniform(0.3, 0.62)), float(rng.uniform(0.42, 0.68)))
    if glass:
        window = (float(rng.uniform(0.86, 0.95)), float(rng.uniform(0.7, 0.9)))
    light = rng.random() < 0.6
    trim = np.clip(base * (1.2 if light else 0.75) + rng.normal(0, 6, 3), 20, 245)
    frame = np.array([225, 224, 220]) if rng.random() < 0.6 else np.array([70, 60, 52])
    pane = np.array([62, 70, 78]) * rng.uniform(0.5, 1.5) + rng.normal(0, 5, 3)
    return Facade(
        _triple(base), _triple(trim), _triple(frame), _triple(pane),
        float(rng.uniform(2.7, 3.9)), float(rng.uniform(1.6, 3.8)), window,
        float(rng.uniform(3.2, 4.4)) if city and rng.random() < 0.65 and height > 7 else 0.0,
        _triple(rng.uniform(60, 190, 3)),
        float(rng.uniform(0.15, 0.35)) if pick in (2, 3, 8) or rng.random() < 0.15 else 0.0,
        glass, float(rng.uniform(0.3, 0.8)) if rng.random() < 0.3 else 0.0,
        float(rng.uniform(0.15, 0.5)) if lit else 0.0, height, int(rng.integers(1 << 16)),
    )  # fmt: skip


def _triple(values: np.ndarray) -> Triple:
    r, g, b = np.clip(values, 0, 255).tolist()
    return (r, g, b)
