"""The ground: which class every point of it has, and its textures, markings and covers."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gffnet.streets.camera import Floats
from gffnet.streets.canvas import Canvas, Mask
from gffnet.streets.labels import Label
from gffnet.streets.layout import END, Layout, Side
from gffnet.streets.noise import floats
from gffnet.streets.pavement import Spot, draw_materials, grass, markings, paving, road

REACH, HILLY_REACH = 900.0, 260.0


class Zones(NamedTuple):
    """For every ground point: its class and whether it is the kerb's edge."""

    label: NDArray[np.uint8]
    kerb: Mask


def paint_ground(canvas: Canvas, layout: Layout, rng: Generator) -> None:
    """Paint the ground wherever a ray meets it within reach."""
    materials = draw_materials(rng)
    depth = canvas.camera.ground_depth
    hit = depth < (HILLY_REACH if canvas.camera.hill > 0 else REACH)
    z = depth[hit]
    x = canvas.camera.rays[0][hit] * z
    t = (x - layout.centre(z.astype(np.float64))).astype(np.float32)
    blur = z * z / np.float32(canvas.camera.focal * canvas.camera.height)  # metres of depth a sample covers
    zones = classify(layout, t, z)
    spot = Spot(x, z, t, blur)
    colour = np.zeros((len(z), 3), np.float32)
    for label, texture in ((Label.ROAD, road), (Label.SIDEWALK, paving), (Label.TERRAIN, grass)):
        mask = zones.label == label
        if mask.any():
            colour[mask] = texture(spot.at(mask), materials)
    on_road = zones.label == Label.ROAD
    if on_road.any():
        colour[on_road] = markings(colour[on_road], spot.at(on_road), layout, materials)
    colour[zones.kerb] = colour[zones.kerb] * 0.4 + floats(materials.kerb) * 0.6
    canvas.rgb[hit] = np.clip(colour, 0, 255).astype(np.uint8)
    canvas.label[hit] = zones.label
    canvas.depth[hit] = z
    canvas.glow[hit] = 0


def classify(layout: Layout, t: Floats, z: Floats) -> Zones:
    """Class of the ground points at distance t across and depth z (any equal shapes)."""
    label = np.full(t.shape, Label.ROAD, np.uint8)
    kerb = np.zeros(t.shape, bool)
    for side in layout.sides:
        out = t * side.sign
        label[out > side.kerb] = Label.SIDEWALK
        kerb |= (out > side.kerb) & (out < side.kerb + 0.16)
        if side.strip and side.strip_grass:
            label[(out > side.kerb + 0.16) & (out < side.kerb + side.strip)] = Label.TERRAIN
        beyond = out > side.frontage
        label[beyond] = _lot_ground(side, z[beyond])
    if layout.median:
        middle, half, green = layout.median
        away = np.abs(t - middle)
        label[away < half] = Label.TERRAIN if green else Label.SIDEWALK
        kerb |= (away < half) & (away > half - 0.16)
        label[(away < half) & (away > half - 0.16)] = Label.SIDEWALK
    for z0, z1 in layout.crossings:
        _cross_street(layout, label, kerb, t, z, z0, z1)
    if layout.stop is not None:
        end = layout.crossings[-1][1]
        label[z > end] = Label.SIDEWALK
        kerb |= (z > end) & (z < end + 0.16)
    return Zones(label, kerb)


def _lot_ground(side: Side, z: Floats) -> NDArray[np.uint8]:
    """Class of points beyond the sidewalk: their lot's."""
    starts = np.array([lot.z0 for lot in side.lots])
    green = [lot.kind in ("trees", "garden", "hedge") or lot.grass for lot in side.lots]
    kinds = np.array([Label.TERRAIN if g else Label.SIDEWALK for g in green], np.uint8)
    found = kinds[np.clip(np.searchsorted(starts, z, "right") - 1, 0, len(starts) - 1)]
    return np.asarray(np.where(z > END, np.uint8(Label.TERRAIN), found), dtype=np.uint8)


def _cross_street(
    layout: Layout, label: NDArray[np.uint8], kerb: Mask, t: Floats, z: Floats, z0: float, z1: float
) -> None:
    """Open the side of the road from z0 to z1, with a sidewalk along both edges."""
    left, right = layout.sides
    outside = (t < -left.kerb) | (t > right.kerb)
    beside = outside & (z > z0 - 2.6) & (z < z1 + 2.6)
    label[beside] = Label.SIDEWALK
    lane = (z > z0) & (z < z1)
    label[lane] = Label.ROAD
    kerb &= ~lane
    kerb |= outside & (((z > z0 - 0.16) & (z <= z0)) | ((z >= z1) & (z < z1 + 0.16)))
