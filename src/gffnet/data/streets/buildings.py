"""Buildings: boxes with textured facades on both visible sides, flat or pitched roofs, a skyline far away."""

import numpy as np
from numpy.random import Generator

from gffnet.data.streets.camera import Floats, clip_near
from gffnet.data.streets.canvas import Canvas
from gffnet.data.streets.facades import draw_facade
from gffnet.data.streets.labels import Label
from gffnet.data.streets.layout import END, Layout, Lot, Side
from gffnet.data.streets.light import Light
from gffnet.data.streets.mesh import Face, Footprint, Thing, paint_thing
from gffnet.data.streets.noise import floats, sample, smooth, tile
from gffnet.data.streets.panels import Ends, Texels, Texture, facing, length, paint_panel


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
    for pair in ends:
        paint_panel(canvas, pair, base - 1, base, facade, Label.BUILDING, 0.7 * light.shade(facing(pair)))
        paint_panel(canvas, pair, base, base + height, facade, Label.BUILDING, light.shade(facing(pair)))
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


def paint_skyline(canvas: Canvas, layout: Layout, light: Light, rng: Generator) -> None:
    """Close the end of the street with far buildings and woods on the horizon."""
    x = float(layout.centre(END)) - 320
    while x < float(layout.centre(END)) + 320:
        wide = float(rng.uniform(8, 32))
        z = END + float(rng.uniform(12, 160))
        _background(canvas, ((x, z), (x + wide, z)), 0.45, float(rng.uniform(7, 26)), light, rng)
        x += wide * float(rng.uniform(0.7, 1.1))


def paint_second_row(canvas: Canvas, layout: Layout, light: Light, rng: Generator) -> None:
    """Buildings and tall trees behind the lots, and along the cross streets."""
    share = {"city": 0.8, "suburb": 0.4, "park": 0.25, "works": 0.5}[layout.district]
    for side in layout.sides:
        z = END
        while z > 0:
            long = float(rng.uniform(9, 30))
            t = side.sign * (side.frontage + float(rng.uniform(17, 34)))
            if not layout.in_crossing(z, 1) and not layout.in_crossing(z - long, 1) and rng.random() < 0.85:
                ends = ((layout.x(t, z - long), z - long), (layout.x(t, z), z))
                _background(canvas, ends, share, float(rng.uniform(6, 17)), light, rng)
            z -= long * float(rng.uniform(0.9, 1.3))
        for z0, z1 in layout.crossings:
            for z in (z0 - 3, z1 + 3):
                t = side.sign * (side.frontage + 12)
                for _ in range(4):
                    far = t + side.sign * float(rng.uniform(9, 22))
                    ends = ((layout.x(t, z), z), (layout.x(far, z), z))
                    if rng.random() < 0.85:
                        _background(canvas, ends, share, float(rng.uniform(5, 17)), light, rng)
                    t = far


def _background(canvas: Canvas, ends: Ends, share: float, height: float, light: Light, rng: Generator) -> None:
    """One facade (with this probability) or a row of trees between two ground points."""
    base = float(canvas.camera.ground(max(ends[0][1], 0.0))) - 0.3
    shade = light.shade(facing(ends))
    if rng.random() < share:
        facade = draw_facade(rng, height, height > 9, light.dark)
        paint_panel(canvas, ends, base, base + height, facade, Label.BUILDING, shade)
    else:
        paint_panel(canvas, ends, base, base + height, _wood(rng, height, length(ends)), Label.VEGETATION, 0.4 + 0.6 * shade)


def _wood(rng: Generator, height: float, long: float) -> Texture:
    """A row of trees seen from afar."""
    key = float(rng.uniform(0, 512))
    green = np.array([66, 84, 46]) * rng.uniform(0.6, 1.3) + rng.normal(0, 6, 3)

    def texture(u: Floats, v: Floats, blur: Floats) -> Texels:
        crowns = smooth(tile(1.4, 8), u * 5 + key, floats(v) * 0) + 0.5 * smooth(tile(0.8, 8), u * 15 + key, v * 15)
        leaves = sample(tile(0.7, 9), u * 14 + key, v * 14)
        clumps = smooth(tile(1.2, 10), u * 9 + key, v * 9)
        value = (1 + 0.16 * leaves + 0.16 * clumps) * np.clip(0.45 + 0.6 * v / np.float32(height), 0, 1)
        taper = np.sqrt(np.clip(np.minimum(u, np.float32(long) - u) / 2.5 + 0.1 * clumps, 0, 1))
        return Texels(value[:, None] * floats(green), 0, v < height * taper * (0.72 + 0.14 * crowns))

    return texture


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    r, g, b = np.clip(values, 0, 255).astype(int).tolist()
    return (r, g, b)
