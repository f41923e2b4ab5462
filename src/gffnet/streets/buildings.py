"""Buildings: boxes with textured facades on both visible sides, flat or pitched roofs."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import clip_near
from gffnet.streets.canvas import Canvas
from gffnet.streets.facades import draw_facade
from gffnet.streets.labels import Label
from gffnet.streets.layout import Layout, Lot, Side
from gffnet.streets.light import Light
from gffnet.streets.mesh import Face, Footprint, Thing, paint_thing
from gffnet.streets.panels import Ends, facing, paint_panel


def paint_building(canvas: Canvas, layout: Layout, side: Side, lot: Lot, light: Light, rng: Generator) -> None:
    """Paint a lot's building: front along the street, both ends, and the roof."""
    front = side.sign * (side.frontage + lot.setback)
    deep = side.sign * float(rng.uniform(9, 16))
    garden = lot.kind == "garden"
    inset = float(rng.uniform(1.5, 4)) if garden else 0.0
    z0, z1 = lot.z0 + inset, lot.z1 - inset
    if z1 - z0 < 3:
        return
    height = min(lot.height, 8.0) if garden else lot.height
    base = float(canvas.camera.ground(max(z0, 0.0)))
    a, b = (layout.x(front, z0), z0), (layout.x(front, z1), z1)
    c, d = (layout.x(front + deep, z1), z1), (layout.x(front + deep, z0), z0)
    facade = draw_facade(rng, height, not garden and layout.district == "city", light.dark)
    ends: list[Ends] = [(a, b), (a, d), (b, c)]
    blank = rng.random() < 0.5
    for index, pair in enumerate(ends):
        texture = replace(facade, window=(0.0, 0.0), ground=0.0, balcony=0.0) if blank and index else facade
        paint_panel(canvas, pair, base - 1, base, facade, Label.BUILDING, 0.7 * light.shade(facing(pair)))
        paint_panel(canvas, pair, base, base + height, texture, Label.BUILDING, light.shade(facing(pair)))
    if garden or rng.random() < 0.45:
        _roof(canvas, (a, b, c, d), base + height, float(rng.uniform(1.5, 4.5)), light, rng)


def _roof(
    canvas: Canvas, corners: tuple[tuple[float, float], ...], eaves: float, rise: float, light: Light, rng: Generator
) -> None:
    """A pitched roof with its ridge along the street, and a chimney."""
    a, b, c, d = (np.array([x, eaves, z]) for x, z in corners)
    up = np.array([0, rise, 0])
    r0, r1 = (a + d) / 2 + up, (b + c) / 2 + up
    colours = [(122, 62, 46), (96, 52, 44), (84, 84, 90), (110, 104, 98), (66, 66, 72)]
    tone = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.8, 1.15)
    out = (a - d) / max(float(np.linalg.norm(a - d)), 1e-6)
    normal = out * rise + np.array([0, float(np.linalg.norm(a - d)) / 2, 0])
    shade = light.shade(normal / np.linalg.norm(normal))
    slope = _colour(tone * shade)
    gable = _colour(tone * 1.3 * light.shade((0, 0, -1)))
    faces = [Face(np.array([d, a, r0]), gable, Label.BUILDING), Face(np.array([a, b, r1, r0]), slope, Label.BUILDING)]
    faces = [face for face in faces if len(clip_near(face.points)) > 2]
    if not faces:
        return
    middle = (a + b + c + d) / 4
    long, wide = float(np.linalg.norm(b - a)) / 2, float(np.linalg.norm(a - d)) / 2
    heading = float(np.arctan2(b[0] - a[0], b[2] - a[2]))
    paint_thing(canvas, Thing(faces, Footprint(float(middle[0]), float(middle[2]), long, wide, heading), eaves))


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    r, g, b = np.clip(values, 0, 255).astype(int).tolist()
    return (r, g, b)
