"""Shadows on the ground: cast by the sun, and the darkness under and around things."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gffnet.data.streets.camera import Points, clip_near
from gffnet.data.streets.canvas import FAR, Canvas
from gffnet.data.streets.labels import Label
from gffnet.data.streets.light import Light
from gffnet.data.streets.populate import Item


def cast_shadows(canvas: Canvas, items: Sequence[Item], light: Light) -> None:
    """Darken the ground (the canvas shows nothing else yet) where items keep off the sun or the sky."""
    rows, columns = canvas.camera.size
    sunny = Image.new("L", (columns // 2, rows // 2))
    close = Image.new("L", (columns // 2, rows // 2))
    for item in items:
        corners = item.footprint.corners()
        if item.footprint.length > 0.25:
            _ground_polygon(canvas, close, _grown(corners, 1.06), int(150 * item.solid))
        if light.strength > 0.05 and light.sun[1] > 0.05:
            shift = -np.array([light.sun[0], light.sun[2]]) / light.sun[1] * item.height
            if item.solid < 0.95 and item.height > 3:
                moved = corners + shift * 0.7
                _ground_polygon(canvas, sunny, _grown(moved, 0.8), int(220 * item.solid))
                shift *= 0.8
                corners = _grown(corners, 0.1)
            _ground_polygon(canvas, sunny, _hull(np.concatenate([corners, corners + shift])), int(255 * item.solid))
    soft = ImageFilter.GaussianBlur(columns / 2200)
    lost = light.strength * light.sun[1]
    shade = 1 - lost * np.asarray(sunny.filter(soft), np.float32) / 255
    shade = shade * (1 - np.asarray(close.filter(soft), np.float32) / 255 * np.float32(0.8))
    fine = np.repeat(np.repeat(shade, 2, 0), 2, 1)
    ground = (canvas.depth < FAR) & (canvas.label != Label.SKY)
    canvas.rgb[ground] = (canvas.rgb[ground] * fine[ground][:, None]).astype(np.uint8)


def _ground_polygon(canvas: Canvas, image: Image.Image, corners: Points, value: int) -> None:
    """Draw a polygon of ground points (N, 2) as X, Z onto a half-size mask."""
    heights = canvas.camera.ground(corners[:, 1])
    points = clip_near(np.stack([corners[:, 0], heights, corners[:, 1]], axis=1), 1.0)
    if len(points) > 2:
        outline = canvas.camera.project(points) / 2
        ImageDraw.Draw(image).polygon([(x, y) for x, y in outline.tolist()], fill=value)


def _grown(corners: Points, factor: float) -> Points:
    middle = corners.mean(0)
    return np.asarray(middle + (corners - middle) * factor)


def _hull(points: Points) -> Points:
    """Convex hull (monotone chain) of points (N, 2)."""
    ordered = sorted(map(tuple, points.tolist()))
    halves = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[tuple[float, ...]] = []
        for point in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves.append(chain[:-1])
    return np.array(halves[0] + halves[1])


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
