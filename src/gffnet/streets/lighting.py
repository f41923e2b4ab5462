"""Lighting: the sky, shadows, the light that reaches every pixel, and the camera that takes the picture."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gffnet.streets.layout import END, Scene, Side
from gffnet.streets.noise import Floats, floats, noise
from gffnet.streets.render import SUPERSAMPLING, Bytes, Canvas, Label, Points, Thing, clip_near
from gffnet.streets.things import Tree


def paint_sky(canvas: Canvas, scene: Scene) -> None:
    """Fill the canvas with sky, infinitely far: a gradient, clouds in perspective, the glow around the sun."""
    light, rng = scene.light, scene.texture_rng
    rx, ry = (ray[::2, ::2] for ray in canvas.camera.rays)
    up = np.clip(ry, 0, None)
    climb = (1 - np.exp(-up * np.float32(rng.uniform(1.5, 4))))[..., None]
    horizon = floats(light.horizon)
    color = horizon + (floats(light.zenith) - horizon) * climb
    cover = {"sunny": rng.uniform(-1.6, 0.5), "dusk": rng.uniform(-1, 0.5)}.get(light.weather, 0.3)
    over = floats(90 / (up + np.float32(0.07)))
    shift = floats(rng.uniform(0, 512, 2))
    clouds = noise(rx * over + shift[0], over + shift[1], 1.6) + 0.4 * noise(rx * over * 4, over * 4 + shift[1], 1.1, 1)
    amount = np.clip(0.5 + 0.6 * (clouds + cover), 0, 1)[..., None] * np.clip(up * 8, 0, 1)[..., None]
    gray = light.clouds * floats([1, 0.99, 0.98]) * (0.93 + 0.05 * clouds[..., None])
    color = color + (gray - color) * amount * np.float32(rng.uniform(0.4, 0.95))
    if light.sun[2] > 0.2 and not light.night:
        towards = (rx * light.sun[0] + ry * light.sun[1] + light.sun[2]) / np.sqrt(rx**2 + ry**2 + 1)
        color = color + np.exp((towards[..., None] - 1) * 60) * floats([90, 75, 50])
    canvas.rgb[:] = np.clip(color, 0, 255).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    canvas.label[:] = Label.SKY
    canvas.glow[:] = 255


class Shadows(NamedTuple):
    """Shadows on the ground, per pixel (H, W) in 0..1."""

    sun: Floats  # how much of the sun things block
    leaves: Floats  # how much of it leaves block
    contact: Floats  # how much of the sky is hidden, under and around things


def cast_shadows(scene: Scene, things: Sequence[Thing]) -> Shadows:
    """Cast the shadows of the things onto the ground."""
    light, (rows, columns) = scene.light, scene.camera.size
    masks = [Image.new("L", (columns // SUPERSAMPLING, rows // SUPERSAMPLING)) for _ in range(3)]
    sun, leaves, contact = (ImageDraw.Draw(mask) for mask in masks)
    away = -np.array([light.sun[0], light.sun[2]]) / max(light.sun[1], 0.05)

    def fill(mask: ImageDraw.ImageDraw, corners: Points, value: float) -> None:
        """Fill a polygon of ground points (N, 2), given as X and Z."""
        heights = scene.camera.ground(corners[:, 1])
        points = clip_near(np.stack([corners[:, 0], heights, corners[:, 1]], axis=1), 1.0)
        if len(points) > 2:
            outline = scene.camera.project(points) / SUPERSAMPLING
            mask.polygon([(x, y) for x, y in outline.tolist()], fill=int(value))

    for thing in things:
        corners = thing.footprint.corners()
        if isinstance(thing, Tree):
            corners = thing.pose.footprint(thing.spread, thing.spread).corners()
            fill(contact, _scaled(corners, 0.3), 70)
            if light.strength > 0.05:
                fill(sun, _swept(_scaled(corners, 0.08), away * thing.height * 0.5), 255)
                fill(leaves, _crown_shadow(thing, away), 235 * thing.opacity)
            continue
        if thing.footprint.length > 0.25:
            fill(contact, _scaled(corners, 1.15), 90 * thing.opacity)
            fill(contact, _scaled(corners, 0.98), 190 * thing.opacity)
        elif thing.height < 2.2:
            fill(contact, _scaled(corners, 1.3), 90)
        if light.strength > 0.05:
            fill(sun, _swept(corners, away * thing.height), 255 * thing.opacity)
    blur = ImageFilter.GaussianBlur(columns / 3000)
    return Shadows(*(floats(np.asarray(mask.filter(blur))) / np.float32(255) for mask in masks))


def _scaled(corners: Points, factor: float) -> Points:
    center = corners.mean(0)
    return np.asarray(center + (corners - center) * factor)


def _swept(corners: Points, shift: Points) -> Points:
    """Convex hull of a polygon (N, 2) and its shifted copy."""
    points = np.concatenate([corners, corners + shift])
    return np.asarray(points[cv2.convexHull(floats(points), returnPoints=False)[:, 0]])


def _crown_shadow(tree: Tree, away: Points) -> Points:
    """Outline (N, 2) of a crown's shadow: a ragged ellipse, stretched away from the sun."""
    angle = np.linspace(0, 2 * np.pi, 21)[:-1]
    center = np.array([tree.pose.x, tree.pose.z]) + away * tree.height * 0.65
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (tree.spread * 1.1)
    length = float(np.linalg.norm(away))
    along = away / max(length, 1e-6)
    stretched = circle + np.outer(circle @ along, along) * 0.35 * length
    ragged = 1 + 0.18 * np.sin(angle * 5 + tree.key) + 0.1 * np.sin(angle * 9 + 2 * tree.key)
    return np.asarray(center + stretched * ragged[:, None])


class Surfaces:
    """What the canvas shows, per pixel: color (H, W, 3); class, depth, glow, X, Y, slope of the ray, each (H, W)."""

    def __init__(self, canvas: Canvas) -> None:
        self.color, self.label, nearness, self.glow = canvas.pixels()
        rx, self.slope = (ray[::SUPERSAMPLING, ::SUPERSAMPLING] for ray in canvas.camera.rays)
        self.depth = floats(1 / np.maximum(nearness, 1e-4))
        self.x, self.y = floats(rx * self.depth), floats(canvas.camera.height + self.slope * self.depth)
        self.ground = np.isin(self.label, (Label.ROAD, Label.SIDEWALK, Label.TERRAIN))
        self.sky = self.label == Label.SKY


def illuminate(surfaces: Surfaces, scene: Scene, shadows: Shadows) -> Floats:
    """Color (H, W, 3) that reaches the lens: shadows, lamps, reflections of a wet road, haze."""
    light, ground = scene.light, surfaces.ground
    dapples = np.clip(0.75 + 0.5 * noise(surfaces.x * 9, surfaces.depth * 9, 1.2, 12), 0, 1)
    blocked = np.where(ground, np.maximum(shadows.sun, shadows.leaves * dapples), 0)
    if light.strength > 0.05:
        for side in scene.layout.sides:
            blocked = np.maximum(blocked, _row_shadow(surfaces, scene, side))
    factor = 1 - np.float32(light.strength * light.sun[1] * 0.9) * blocked
    factor = factor * np.where(ground, 1 - np.float32(0.8) * shadows.contact, 1)
    color = surfaces.color * factor[..., None]
    if light.dark:
        level = floats((0.2, 0.21, 0.26) if light.night else (0.62, 0.63, 0.7))
        color = color * np.maximum(surfaces.glow[..., None], np.minimum(level + _lamplight(surfaces, scene), 1.1))
    if light.wet:
        color = _reflect(color, surfaces, scene)
    clear = np.exp(-surfaces.depth / np.float32(light.haze))[..., None]
    veil = floats(light.horizon) * np.float32(0.97)
    hazy = veil + (color - veil) * np.maximum(clear, np.float32(0.02))
    return floats(np.where(surfaces.sky[..., None], color, hazy))


def _row_shadow(surfaces: Surfaces, scene: Scene, side: Side) -> Floats:
    """How much (H, W; 0..1) the buildings of one side keep the sun off everything between the two rows."""
    layout, sun, depth = scene.layout, scene.light.sun, surfaces.depth
    bins = np.arange(-60, int(END) + 60, dtype=np.float32)
    tall = np.zeros(len(bins), np.float32)
    for lot in side.lots:
        if lot.kind == "building":
            tall[(bins >= lot.z0) & (bins < lot.z1)] = lot.height
    near = np.minimum(depth, 300)
    t = surfaces.x - floats(layout.center(near.astype(np.float64)))
    bend = floats(layout.slope) + 2 * np.float32(layout.bend) * near
    gap = np.float32(side.sign * side.frontage) - t
    with np.errstate(divide="ignore", invalid="ignore"):
        run = gap / (np.float32(sun[0]) - bend * np.float32(sun[2]))
    shaded = (gap * side.sign > 0.4) & (run > 0) & np.isfinite(run) & ~surfaces.sky
    run = np.where(shaded, run, 0)
    place = np.clip(depth + run * np.float32(sun[2]) + 60, 0, len(bins) - 1).astype(np.int32)
    above = tall[place] - (surfaces.y + run * np.float32(sun[1]))
    return floats(np.where(shaded, np.clip(above * 3, 0, 1), 0))


def _lamplight(surfaces: Surfaces, scene: Scene) -> Floats:
    """Light (H, W, 3) of the street lamps and of the car's own headlamps."""
    total = np.zeros(surfaces.depth.shape, np.float32)
    for x, y, z in scene.lamps:
        away = np.square(surfaces.x - x) + np.square(surfaces.y - y) + np.square(surfaces.depth - z)
        total += np.float32(18) / (away + np.float32(8))
    warm = np.minimum(total, 1.2)[..., None] * floats((0.62, 0.5, 0.32))
    if not scene.light.night:
        return floats(0.35 * warm)
    beam = np.exp(-np.square(surfaces.x) / (4 + 0.05 * np.square(surfaces.depth)) - surfaces.depth / 22)
    beam = beam * np.exp(-np.maximum(surfaces.y - 0.9, 0) * 1.1)
    return floats(warm + beam[..., None] * floats((0.75, 0.72, 0.66)))


def _reflect(color: Floats, surfaces: Surfaces, scene: Scene) -> Floats:
    """Reflect what stands above the horizon in the wet ground, blurred by its roughness."""
    camera, wet, ground = scene.camera, scene.light.wet, surfaces.ground
    rows, columns = ground.shape
    small = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8)).resize((columns // 2, rows // 8))
    blurred = floats(np.asarray(small.filter(ImageFilter.GaussianBlur(1.2)).resize((columns, rows))))
    horizon = rows / 2 - camera.focal / SUPERSAMPLING * np.tan(camera.pitch)
    flipped = np.clip(2 * horizon - np.arange(rows), 0, rows - 1).astype(np.int32)
    rough = np.clip(0.6 + 0.4 * noise(surfaces.x * 7, surfaces.depth * 7, 1.3, 13), 0, 1)
    grazing = np.clip(1 + surfaces.slope * 2.2, 0.1, 1)
    share = np.where(ground, rough * grazing * np.float32(0.6 * wet), 0)
    share = (share * np.where(surfaces.label == Label.TERRAIN, 0.15, 1))[..., None]
    damp = color * np.where(ground, 1 - 0.35 * wet, 1)[..., None]
    return floats(damp + (blurred[flipped] - damp) * share)


def photograph(color: Floats, scene: Scene) -> Bytes:
    """Take the picture (H, W, 3), uint8, of colors (H, W, 3) in 0..255 and above."""
    light, rng, (rows, columns) = scene.light, scene.sensor_rng, color.shape[:2]
    # The lens: bloom around lamps, vignetting, exposure and white balance, a little blur
    if light.dark:
        bright = np.where(color > 205, np.clip(color, 0, 255), 0).astype(np.uint8)
        halo = Image.fromarray(bright).resize((columns // 2, rows // 2)).filter(ImageFilter.GaussianBlur(columns / 160))
        color = color + np.float32(0.8 if light.night else 0.25) * floats(np.asarray(halo.resize((columns, rows))))
    y, x = ((np.arange(size, dtype=np.float32) / size - 0.5) for size in (rows, columns))
    vignette = 1 - np.float32(rng.uniform(0, 0.6)) * (x[None, :] ** 2 + y[:, None] ** 2)
    metered = np.clip(105 / max(float(np.clip(color, 0, 255).mean()), 1.0), 0.7, 1.7) ** (0.3 if light.dark else 0.75)
    color = color * vignette[..., None] * (floats(light.tint) * np.float32(light.exposure * metered))
    blur = ImageFilter.GaussianBlur(rng.uniform(0, 0.8) * columns / 1024)
    color = floats(np.asarray(Image.fromarray(np.clip(color, 0, 255).astype(np.uint8)).filter(blur)))
    # The sensor: contrast and saturation, noise that grows with the signal and in the dark
    gamma, vivid = float(np.exp(rng.normal(0, 0.1))), rng.uniform(0.55, 1.1)
    gray = color.mean(2, keepdims=True)
    color = np.clip(gray + (color - gray) * np.float32(vivid), 0, 255)
    level = np.float32(255) * np.power(color / np.float32(255), np.float32(gamma))
    strength = rng.uniform(0.8, 4.0) * (1.8 if light.night else 1.0)
    grain = rng.standard_normal(color.shape[:2], dtype=np.float32)[..., None]
    tinge = rng.standard_normal(color.shape, dtype=np.float32)
    level = level + (0.7 * grain + 0.6 * tinge) * np.float32(strength) * np.sqrt(0.3 + level / 160)
    return np.asarray(np.clip(level + 0.5, 0, 255), dtype=np.uint8)
