"""The ground: the class of every point of it, and its materials: asphalt, paving, grass, painted markings."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.layout import END, Scene, Side, StreetLayout
from gffnet.streets.noise import Floats, choose, floats, hashed, nearest_noise, noise
from gffnet.streets.render import Bytes, Canvas, Label, Mask

REACH, HILLY_REACH = 900.0, 260.0
KERB = 0.16  # width of the kerb stone


def paint_ground(canvas: Canvas, scene: Scene) -> None:
    """Paint the ground wherever a ray meets it within reach."""
    materials, layout = Materials(scene.texture_rng), scene.layout
    depth = canvas.camera.ground_depth
    hit = depth < (HILLY_REACH if canvas.camera.hill > 0 else REACH)
    z = depth[hit]
    x = canvas.camera.rays[0][hit] * z
    t = floats(x - layout.center(z.astype(np.float64)))
    points = GroundPoints(x, z, t, z * z / np.float32(canvas.camera.focal * canvas.camera.height))
    label, kerb = classify(layout, t, z)
    color = np.zeros((len(z), 3), np.float32)
    for ground, texture in (
        (Label.ROAD, materials.road),
        (Label.SIDEWALK, materials.sidewalk),
        (Label.TERRAIN, materials.terrain),
    ):
        mask = label == ground
        if mask.any():
            color[mask] = texture(points.at(mask))
    road = label == Label.ROAD
    if road.any():
        color[road] = materials.markings(color[road], points.at(road), layout)
    color[kerb] = color[kerb] * 0.4 + floats(materials.kerb_color) * 0.6
    canvas.rgb[hit] = np.clip(color, 0, 255).astype(np.uint8)
    canvas.label[hit], canvas.depth[hit], canvas.glow[hit] = label, z, 0


def classify(layout: StreetLayout, t: Floats, z: Floats) -> tuple[Bytes, Mask]:
    """Class of the ground points at t across and depth z (any equal shapes), and whether they are on a kerb stone."""
    label = np.full(t.shape, Label.ROAD, np.uint8)
    kerb = np.zeros(t.shape, bool)
    for side in layout.sides:
        out = t * side.sign
        label[out > side.kerb] = Label.SIDEWALK
        kerb |= (out > side.kerb) & (out < side.kerb + KERB)
        if side.strip and side.strip_grass:
            label[(out > side.kerb + KERB) & (out < side.kerb + side.strip)] = Label.TERRAIN
        beyond = out > side.frontage
        label[beyond] = _lot_ground(side, z[beyond])
    if layout.median:
        center, half, grass = layout.median
        away = np.abs(t - center)
        label[away < half] = Label.TERRAIN if grass else Label.SIDEWALK
        edge = (away < half) & (away > half - KERB)
        label[edge] = Label.SIDEWALK
        kerb |= edge
    left, right = layout.sides
    outside = (t < -left.kerb) | (t > right.kerb)
    for z0, z1 in layout.crossings:
        label[outside & (z > z0 - 2.6) & (z < z1 + 2.6)] = Label.SIDEWALK
        road = (z > z0) & (z < z1)
        label[road] = Label.ROAD
        kerb &= ~road
        kerb |= outside & (((z > z0 - KERB) & (z <= z0)) | ((z >= z1) & (z < z1 + KERB)))
    if layout.stop is not None:
        end = layout.crossings[-1][1]
        label[z > end] = Label.SIDEWALK
        kerb |= (z > end) & (z < end + KERB)
    return label, kerb


def _lot_ground(side: Side, z: Floats) -> Bytes:
    """Class of points beyond the sidewalk."""
    starts = np.array([lot.z0 for lot in side.lots])
    green = [lot.kind in ("trees", "garden", "hedge") or lot.grass for lot in side.lots]
    labels = np.where(green, Label.TERRAIN, Label.SIDEWALK).astype(np.uint8)
    found = labels[np.clip(np.searchsorted(starts, z, "right") - 1, 0, len(starts) - 1)]
    return np.where(z > END, np.uint8(Label.TERRAIN), found)


class GroundPoints(NamedTuple):
    """Points of the ground (N,): X, Z, t across the street, and the metres of depth that a sample covers."""

    x: Floats
    z: Floats
    t: Floats
    spacing: Floats

    def at(self, mask: Mask) -> "GroundPoints":
        """The points in a mask."""
        return GroundPoints(*(values[mask] for values in self))

    def sharpness(self, size: float) -> Floats:
        """How much of a pattern of this size, in metres, is still visible, 0..1."""
        return floats(np.clip(size / self.spacing, 0, 1))


class Materials:
    """Colors and patterns of a scene's ground. The textures take N points and return colors (N, 3)."""

    def __init__(self, rng: Generator) -> None:
        self.surface = choose(rng, ("asphalt", "cobbles", "concrete"), (0.8, 0.1, 0.1))
        level = rng.uniform(62, 132) + (25 if self.surface == "concrete" else 0)
        warm = rng.normal(0, 4)
        stone = rng.uniform(95, 175)
        red = choose(rng, (0.0, 8.0, 30.0), (0.5, 0.35, 0.15))
        plain = rng.random() < 0.3  # sidewalks of asphalt, like the road
        if plain:
            stone, red = level + rng.normal(8, 10), 0.0
        self.grass_color = np.array([88, 106, 52]) * rng.uniform(0.65, 1.25) + rng.normal(0, 7, 3)
        self.road_color = (level + warm, level, level - warm + 3)
        self.worn, self.patched = rng.uniform(0, 1), rng.uniform(0, 1)
        self.sidewalk_color = (stone + red, stone - red * 0.2, stone - 4 - red * 0.6)
        self.slab = None if plain else (choose(rng, (0.3, 0.5, 1.0)), choose(rng, (0.3, 0.5, 0.75)))
        self.kerb_color = (stone + 25, stone + 24, stone + 20)
        self.dry = rng.uniform(-1.2, 0.9)
        self.paint = rng.uniform(0.25, 1)
        self.yellow = rng.random() < 0.18
        self.dash = (rng.uniform(2, 6), rng.uniform(4, 12))
        tints = ((150.0, 62.0, 50.0), (62.0, 118.0, 84.0), (150.0, 110.0, 100.0))
        self.cycle_lane = choose(rng, tints) if rng.random() < 0.2 else None
        self.key = int(rng.integers(1 << 16))

    def road(self, points: GroundPoints) -> Floats:
        """Asphalt, cobbles or concrete, with cracks, manhole covers and patches."""
        x, z, t, spacing = points
        fine = nearest_noise(x * 60, z * 60, 0.4) * points.sharpness(0.03)
        value = (
            1 + 0.06 * fine + 0.05 * noise(x * 9 + self.key, z * 9, 1.3) + 0.06 * nearest_noise(t * 22, z * 2.5, 1.6, 2)
        )
        if self.surface == "cobbles":
            value = value * self._bricks(points, 0.16, 0.12, 0.13)
        if self.surface == "concrete":
            value = np.where((np.abs(z % 6 - 3) > 2.96) & (spacing < 0.3), value * 0.6, value)
        crack = np.abs(noise(x * 14, z * 14 + self.key, 1.3, 3)) < 0.035 * self.worn
        value = np.where(crack & (spacing < 0.12), value * 0.75, value)
        across, along = t / 2.3, z / 7
        column, row = np.floor(across), np.floor(along)
        cover = np.hypot(across - column - 0.5, (along - row - 0.5) * 3) < 0.15
        cover &= hashed(column, row, self.key + 1) < 0.035
        value = np.where(cover, value * 0.62, value)
        patch = hashed(column, along + hashed(column, column, 5), self.key)
        value = np.where(patch < 0.22 * self.patched, value * (0.78 + 1.6 * patch), value)
        return floats(value[:, None] * floats(self.road_color))

    def _bricks(self, points: GroundPoints, long: float, deep: float, spread: float) -> Floats:
        """Brightness (N,) of bricks with dark joints, fading with distance."""
        row = np.floor(points.z / deep)
        along = points.t / long + 0.5 * (row % 2)
        joint = (along - np.floor(along) < 0.1) | (points.z / deep - row < 0.1)
        tone = (hashed(along, row, self.key) - 0.5) * 2 * spread
        return floats(1 + (tone - 0.3 * joint) * points.sharpness(deep * 0.4))

    def sidewalk(self, points: GroundPoints) -> Floats:
        """Slabs with joints, or asphalt, with stains."""
        x, z, t, _ = points
        value = self._bricks(points, *self.slab, 0.07) if self.slab else np.ones(t.shape, np.float32)
        stain = noise(x * 12, z * 12 + self.key, 1.5, 4)
        fine = nearest_noise(x * 50, z * 50, 0.5, 1) * points.sharpness(0.04)
        value = value + 0.06 * stain + 0.04 * fine
        return floats(value[:, None] * floats(self.sidewalk_color))

    def terrain(self, points: GroundPoints) -> Floats:
        """Lawns, dry grass, soil and gravel."""
        fine = nearest_noise(points.x * 45, points.z * 14, 0.2, 5) * points.sharpness(0.1)
        broad = noise(points.x * 7 + self.key, points.z * 7, 1.4, 6)
        green = floats(self.grass_color) * (1 + 0.17 * fine + 0.08 * broad)[:, None]
        soil = floats([128, 112, 88]) * (1 + 0.1 * fine + 0.08 * broad)[:, None]
        mix = np.clip(0.5 + 0.6 * (broad + self.dry), 0, 1)[:, None]
        return floats(green + (soil - green) * mix)

    def markings(self, color: Floats, points: GroundPoints, layout: StreetLayout) -> Floats:
        """The road's color with lines between and beside lanes, stop lines, zebra crossings, cycle lanes and rails."""
        x, z, t, _ = points
        left, right = layout.sides
        on, clear = np.zeros(t.shape, bool), np.ones(t.shape, bool)
        for z0, z1 in layout.crossings:
            clear &= (z < z0 - 1) | (z > z1 + 1)
            for near, far in ((z0 - 4.4, z0 - 1.6), (z1 + 1.6, z1 + 4.4)):
                band = (z > near) & (z < far)
                clear &= ~band
                on |= band & (t % 1.0 < 0.5) & (t > -left.kerb + 0.2) & (t < right.kerb - 0.2)
            on |= (z > z0 - 6.2) & (z < z0 - 5.8) & (t > 0) & (t < right.kerb)
        dash, gap = self.dash
        for one, two in pairwise(sorted({lane.t for lane in layout.lanes})):
            line = clear & (np.abs(t - (one + two) / 2) < 0.07)
            solid = one * two < 0 and self.yellow
            on |= line & (solid | (z % (dash + gap) < dash))
        cycle_lane = np.zeros(t.shape, bool)
        for side in layout.sides:
            inwards = side.kerb - side.parking - t * side.sign
            if side.parking:
                on |= clear & (np.abs(inwards) < 0.06)
            if self.cycle_lane:
                cycle_lane |= clear & (np.abs(inwards - 0.85) < 0.75)
                on |= clear & (np.abs(inwards - 1.6) < 0.06)
        if self.cycle_lane:
            level = color[cycle_lane].mean(1, keepdims=True) / 110
            color[cycle_lane] = color[cycle_lane] * 0.35 + floats(self.cycle_lane) * level * 0.65
        strength = np.clip(self.paint * (0.9 + 0.35 * noise(x * 25, z * 25, 0.9, 7)), 0, 1) * on
        paint = floats([214, 190, 96] if self.yellow else [222, 222, 218])
        color = color + (paint - color) * strength[:, None]
        for center in layout.rails:
            rail = np.abs(np.abs(t - center) - 0.72) < 0.06
            color[rail] = color[rail] * 0.5 + floats([60, 58, 56]) * 0.5 + 25
        return color
