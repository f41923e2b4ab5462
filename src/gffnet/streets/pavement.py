"""Textures of the ground: asphalt and cobbles, paving slabs, grass and gravel, painted markings."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Floats
from gffnet.streets.canvas import Mask
from gffnet.streets.layout import Layout
from gffnet.streets.noise import floats, hashed, sample, smooth, tile

Triple = tuple[float, float, float]


class Spot(NamedTuple):
    """Points of the ground (N,): X, Z, distance across, and the metres of depth that a sample covers."""

    x: Floats
    z: Floats
    t: Floats
    blur: Floats

    def at(self, mask: Mask) -> "Spot":
        """The points of a mask."""
        return Spot(*(values[mask] for values in self))

    def sharp(self, size: float) -> Floats:
        """How much of a pattern of this size (metres) is still seen, 0..1."""
        return np.asarray(np.clip(size / self.blur, 0, 1), dtype=np.float32)


class Materials(NamedTuple):
    """Colours and patterns of a scene's ground."""

    road: Triple
    road_kind: str  # asphalt | cobbles | concrete
    worn: float
    patches: float
    walk: Triple
    slab: tuple[float, float] | None  # None: asphalt
    kerb: Triple
    grass: Triple
    dry: float
    paint: float
    yellow: bool
    dash: tuple[float, float]
    cycle: Triple | None  # colour of the cycle lane's surface
    key: int


def draw_materials(rng: Generator) -> Materials:
    """Draw the materials of a scene."""
    kind = str(rng.choice(["asphalt", "cobbles", "concrete"], p=[0.8, 0.1, 0.1]))
    level = float(rng.uniform(62, 132)) + (25 if kind == "concrete" else 0)
    warm = float(rng.normal(0, 4))
    stone = float(rng.uniform(95, 175))
    red = float(rng.choice([0, 8, 30], p=[0.5, 0.35, 0.15]))
    plain = bool(rng.random() < 0.3)  # sidewalks of asphalt, as the road
    if plain:
        stone, red = level + float(rng.normal(8, 10)), 0.0
    green = np.array([88, 106, 52]) * rng.uniform(0.65, 1.25) + rng.normal(0, 7, 3)
    tints = [(150.0, 62.0, 50.0), (62.0, 118.0, 84.0), (150.0, 110.0, 100.0)]
    return Materials(
        road=(level + warm, level, level - warm + 3),
        road_kind=kind,
        worn=float(rng.uniform(0, 1)),
        patches=float(rng.uniform(0, 1)),
        walk=(stone + red, stone - red * 0.2, stone - 4 - red * 0.6),
        slab=None if plain else (float(rng.choice([0.3, 0.5, 1.0])), float(rng.choice([0.3, 0.5, 0.75]))),
        kerb=(stone + 25, stone + 24, stone + 20),
        grass=(float(green[0]), float(green[1]), float(green[2])),
        dry=float(rng.uniform(-1.2, 0.9)),
        paint=float(rng.uniform(0.25, 1)),
        yellow=bool(rng.random() < 0.18),
        dash=(float(rng.uniform(2, 6)), float(rng.uniform(4, 12))),
        cycle=tints[int(rng.integers(3))] if rng.random() < 0.2 else None,
        key=int(rng.integers(1 << 16)),
    )


def road(spot: Spot, materials: Materials) -> Floats:
    """Colour (N, 3) of the road's surface."""
    fine = sample(tile(0.4), spot.x * 60, spot.z * 60) * spot.sharp(0.03)
    coarse = smooth(tile(1.3), spot.x * 9 + materials.key, spot.z * 9)
    broad = sample(tile(1.6, 2), spot.t * 22, spot.z * 2.5)
    value = 1 + 0.06 * fine + 0.05 * coarse + 0.06 * broad
    if materials.road_kind == "cobbles":
        value = value * _bricks(spot, 0.16, 0.12, materials.key, 0.13)
    if materials.road_kind == "concrete":
        seam = (np.abs(spot.z % 6 - 3) > 2.96) & (spot.blur < 0.3)
        value = np.where(seam, value * 0.6, value)
    crack = np.abs(smooth(tile(1.3, 3), spot.x * 14, spot.z * 14 + materials.key)) < 0.035 * materials.worn
    value = np.where(crack & (spot.blur < 0.12), value * 0.75, value)
    cell_x = np.floor(spot.t / 2.3)
    cell_z = np.floor(spot.z / 7 + hashed(cell_x.astype(np.int64), cell_x.astype(np.int64), 5))
    lid = np.hypot(spot.t / 2.3 - cell_x - 0.5, (spot.z / 7 - np.floor(spot.z / 7) - 0.5) * 3) < 0.15
    lid &= hashed(cell_x.astype(np.int64), np.floor(spot.z / 7).astype(np.int64), materials.key + 1) < 0.035
    value = np.where(lid, value * 0.62, value)
    patch = hashed(cell_x.astype(np.int64), cell_z.astype(np.int64), materials.key)
    value = np.where(patch < 0.22 * materials.patches, value * (0.78 + 1.6 * patch), value)
    return floats(value[:, None] * floats(materials.road))


def _bricks(spot: Spot, long: float, deep: float, key: int, spread: float) -> Floats:
    """Brightness (N,) of a brick pattern with dark joints, fading with distance."""
    row = np.floor(spot.z / deep)
    along = spot.t / long + 0.5 * (row % 2)
    cell = np.floor(along)
    joint = (along - cell < 0.1) | (spot.z / deep - row < 0.1)
    tone = (hashed(cell.astype(np.int64), row.astype(np.int64), key) - 0.5) * 2 * spread
    return np.asarray(1 + (tone - 0.3 * joint) * spot.sharp(deep * 0.4), dtype=np.float32)


def paving(spot: Spot, materials: Materials) -> Floats:
    """Colour (N, 3) of sidewalks: slabs with joints, stains."""
    value = np.ones(spot.t.shape, np.float32)
    if materials.slab:
        value = _bricks(spot, *materials.slab, materials.key, 0.07)
    stain = smooth(tile(1.5, 4), spot.x * 12, spot.z * 12 + materials.key)
    fine = sample(tile(0.5, 1), spot.x * 50, spot.z * 50) * spot.sharp(0.04)
    value = value + 0.06 * stain + 0.04 * fine
    return floats(value[:, None] * floats(materials.walk))


def grass(spot: Spot, materials: Materials) -> Floats:
    """Colour (N, 3) of lawns, dry grass, soil and gravel."""
    fine = sample(tile(0.2, 5), spot.x * 45, spot.z * 14) * spot.sharp(0.1)
    broad = smooth(tile(1.4, 6), spot.x * 7 + materials.key, spot.z * 7)
    green = floats(materials.grass) * (1 + 0.17 * fine + 0.08 * broad)[:, None]
    soil = floats([128, 112, 88]) * (1 + 0.1 * fine + 0.08 * broad)[:, None]
    mix = np.clip(0.5 + 0.6 * (broad + materials.dry), 0, 1)[:, None]
    return np.asarray(green + (soil - green) * mix, dtype=np.float32)


def markings(colour: Floats, spot: Spot, layout: Layout, materials: Materials) -> Floats:
    """The road's colour (N, 3) with lines between lanes, edge lines, stop lines and zebra crossings, rails."""
    on = np.zeros(spot.t.shape, bool)
    clear = np.ones(spot.t.shape, bool)
    for z0, z1 in layout.crossings:
        clear &= (spot.z < z0 - 1) | (spot.z > z1 + 1)
        half = layout.sides[0].kerb, layout.sides[1].kerb
        for near, far in ((z0 - 4.4, z0 - 1.6), (z1 + 1.6, z1 + 4.4)):
            band = (spot.z > near) & (spot.z < far)
            clear &= ~band
            on |= band & (spot.t % 1.0 < 0.5) & (spot.t > -half[0] + 0.2) & (spot.t < half[1] - 0.2)
        on |= (spot.z > z0 - 6.2) & (spot.z < z0 - 5.8) & (spot.t > 0) & (spot.t < half[1])
    dash, gap = materials.dash
    edges = sorted({lane.t for lane in layout.lanes})
    for one, two in pairwise(edges):
        line = np.abs(spot.t - (one + two) / 2) < 0.07
        solid = one * two < 0 and materials.yellow
        on |= clear & line & (solid | (spot.z % (dash + gap) < dash))
    for side in layout.sides:
        if side.parking:
            on |= clear & (np.abs(spot.t * side.sign - (side.kerb - side.parking)) < 0.06)
    if materials.cycle:
        band = np.zeros(spot.t.shape, bool)
        for side in layout.sides:
            inwards = side.kerb - side.parking - spot.t * side.sign
            band |= clear & (np.abs(inwards - 0.85) < 0.75)
            on |= clear & (np.abs(inwards - 1.6) < 0.06)
        level = colour[band].mean(1, keepdims=True) / 110
        colour[band] = colour[band] * 0.35 + floats(materials.cycle) * level * 0.65
    worn = smooth(tile(0.9, 7), spot.x * 25, spot.z * 25)
    strength = np.clip(materials.paint * (0.9 + 0.35 * worn), 0, 1) * on
    white = floats([214, 190, 96] if materials.yellow else [222, 222, 218])
    colour = colour + (white - colour) * strength[:, None]
    for middle in layout.rails:
        rail = np.abs(np.abs(spot.t - middle) - 0.72) < 0.06
        colour[rail] = colour[rail] * 0.5 + floats([60, 58, 56]) * 0.5 + 25
    return colour
