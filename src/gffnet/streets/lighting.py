"""Light on the finished surfaces, found from every pixel's position: shadows, lamps, reflections, haze."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from gffnet.streets.camera import Camera, Floats
from gffnet.streets.canvas import SAMPLES, Bytes, Mask
from gffnet.streets.labels import Label
from gffnet.streets.layout import END, Layout, Side
from gffnet.streets.light import Light
from gffnet.streets.noise import floats, smooth, tile
from gffnet.streets.shadows import Shadows

GROUND = (Label.ROAD, Label.SIDEWALK, Label.TERRAIN)
Lamp = tuple[float, float, float]


@dataclass
class Surfaces:
    """Per pixel: colour (H, W, 3), class, depth, glow (H, W), and the world position X, Y (H, W)."""

    colour: Floats
    label: Bytes
    depth: Floats
    glow: Floats
    x: Floats
    y: Floats
    slope: Floats  # of the ray, upwards

    @classmethod
    def of(cls, camera: Camera, colour: Floats, label: Bytes, nearness: Floats, glow: Floats) -> "Surfaces":
        """Surfaces as the canvas gives them."""
        rx, ry = (ray[::SAMPLES, ::SAMPLES] for ray in camera.rays)
        depth = floats(1 / np.maximum(nearness, 1e-4))
        return cls(colour, label, depth, glow, floats(rx * depth), floats(camera.height + ry * depth), ry)

    @property
    def ground(self) -> Mask:
        """Where the ground is seen."""
        return np.isin(self.label, GROUND)

    @property
    def sky(self) -> Mask:
        """Where the sky is seen."""
        return np.asarray(self.label == Label.SKY)


def illuminate(
    surfaces: Surfaces, camera: Camera, layout: Layout, light: Light, shadows: Shadows, lamps: Sequence[Lamp]
) -> Floats:
    """Colour (H, W, 3) of the surfaces as they reach the lens."""
    colour, ground = surfaces.colour, surfaces.ground
    dappled = shadows.leaves * np.clip(0.75 + 0.5 * smooth(tile(1.2, 12), surfaces.x * 9, surfaces.depth * 9), 0, 1)
    blocked = np.where(ground, np.maximum(shadows.sun, dappled), 0)
    if light.strength > 0.05:
        for side in layout.sides:
            blocked = np.maximum(blocked, _row_shadow(surfaces, layout, side, light))
    factor = 1 - np.float32(light.strength * light.sun[1] * 0.9) * blocked
    factor = factor * np.where(ground, 1 - np.float32(0.8) * shadows.close, 1)
    colour = colour * factor[..., None]
    if light.dark:
        night = light.weather == "night"
        level = floats((0.2, 0.21, 0.26) if night else (0.62, 0.63, 0.7))
        extra = _lamplight(surfaces, lamps, night)
        colour = colour * np.maximum(surfaces.glow[..., None], np.minimum(level + extra, 1.1))
    if light.wet:
        colour = _reflect(surfaces, camera, colour, ground, light.wet)
    clear = np.exp(-surfaces.depth / np.float32(light.haze))[..., None]
    veil = floats(light.horizon) * np.float32(0.97)
    hazy = veil + (colour - veil) * np.maximum(clear, np.float32(0.02))
    return np.asarray(np.where(surfaces.sky[..., None], colour, hazy), dtype=np.float32)


def _row_shadow(surfaces: Surfaces, layout: Layout, side: Side, light: Light) -> Floats:
    """Where (H, W; 0..1) the buildings of one side keep the sun off everything between the two rows."""
    bins = np.arange(-60, int(END) + 60, dtype=np.float32)
    tall = np.zeros(len(bins), np.float32)
    for lot in side.lots:
        if lot.kind == "building":
            tall[(bins >= lot.z0) & (bins < lot.z1)] = lot.height
    depth = surfaces.depth
    t = surfaces.x - floats(layout.centre(np.minimum(depth, 300).astype(np.float64)))
    bend = floats(layout.slope) + 2 * np.float32(layout.bend) * np.minimum(depth, 300)
    speed = np.float32(light.sun[0]) - bend * np.float32(light.sun[2])
    gap = np.float32(side.sign * side.frontage) - t
    with np.errstate(divide="ignore", invalid="ignore"):
        run = gap / speed
    run = np.where((gap * side.sign > 0.4) & (run > 0), run, np.float32(np.inf))
    known = np.isfinite(run) & ~surfaces.sky
    run = np.where(known, run, 0)
    place = np.clip(depth + run * np.float32(light.sun[2]) + 60, 0, len(bins) - 1).astype(np.int32)
    above = tall[place] - (surfaces.y + run * np.float32(light.sun[1]))
    return np.where(known, np.clip(above * 3, 0, 1), 0).astype(np.float32)


def _lamplight(surfaces: Surfaces, lamps: Sequence[Lamp], night: bool) -> Floats:
    """Light (H, W, 3) of the street lamps around and of the own headlamps."""
    sum_ = np.zeros(surfaces.depth.shape, np.float32)
    for x, y, z in lamps:
        away = np.square(surfaces.x - x) + np.square(surfaces.y - y) + np.square(surfaces.depth - z)
        sum_ += np.float32(18) / (away + np.float32(8))
    warm = np.minimum(sum_, 1.2)[..., None] * floats((0.62, 0.5, 0.32))
    beam = np.exp(-np.square(surfaces.x) / (4 + 0.05 * np.square(surfaces.depth)) - surfaces.depth / 22)
    beam = beam * np.exp(-np.maximum(surfaces.y - 0.9, 0) * 1.1)
    own = beam[..., None] * floats((0.75, 0.72, 0.66))
    return np.asarray((warm + own) if night else 0.35 * warm, dtype=np.float32)


def _reflect(surfaces: Surfaces, camera: Camera, colour: Floats, ground: Mask, wet: float) -> Floats:
    """Mirror what stands above the horizon in the wet ground, drawn out and broken by its roughness."""
    rows, columns = ground.shape
    small = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).resize((columns // 2, rows // 8))
    blurred = np.asarray(small.filter(ImageFilter.GaussianBlur(1.2)).resize((columns, rows)), np.float32)
    horizon = rows / 2 - camera.focal / SAMPLES * np.tan(camera.pitch)
    mirrored = np.clip((2 * horizon - np.arange(rows)) * 1.0, 0, rows - 1).astype(np.int32)
    rough = 0.6 + 0.4 * smooth(tile(1.3, 13), surfaces.x * 7, surfaces.depth * 7)
    grazing = np.clip(1 + surfaces.slope * 2.2, 0.1, 1)
    share = np.where(ground, np.clip(rough, 0, 1) * grazing * np.float32(0.6 * wet), 0)[..., None]
    share = share * np.where(surfaces.label == Label.TERRAIN, 0.15, 1)[..., None]
    damp = colour * np.where(ground, 1 - 0.35 * wet, 1)[..., None]
    return np.asarray(damp + (blurred[mirrored] - damp) * share, dtype=np.float32)
