"""What closes the view: buildings and woods behind the lots, across the street's end and on the horizon."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Floats
from gffnet.streets.canvas import Canvas
from gffnet.streets.facades import draw_facade
from gffnet.streets.labels import Label
from gffnet.streets.layout import END, Layout
from gffnet.streets.light import Light
from gffnet.streets.noise import floats, sample, smooth, tile
from gffnet.streets.panels import Ends, Texels, Texture, facing, length, paint_panel


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


def paint_end(canvas: Canvas, layout: Layout, light: Light, rng: Generator) -> None:
    """Houses and trees along the street across, where the street ends there."""
    if layout.stop is None:
        return
    x = layout.x(0, layout.stop) - 90
    while x < layout.x(0, layout.stop) + 90:
        wide = float(rng.uniform(8, 24))
        ends = ((x, layout.stop + float(rng.uniform(0, 1.5))), (x + wide, layout.stop + float(rng.uniform(0, 1.5))))
        _background(canvas, ends, 0.75, float(rng.uniform(6, 20)), light, rng)
        x += wide * float(rng.uniform(1.0, 1.1))


def _background(canvas: Canvas, ends: Ends, share: float, height: float, light: Light, rng: Generator) -> None:
    """One facade (with this probability) or a row of trees between two ground points."""
    base = float(canvas.camera.ground(max(ends[0][1], 0.0))) - 0.3
    shade = light.shade(facing(ends))
    if rng.random() < share:
        facade = draw_facade(rng, height, height > 9, light.dark)
        paint_panel(canvas, ends, base, base + height, facade, Label.BUILDING, shade)
    else:
        paint_panel(
            canvas, ends, base, base + height, _wood(rng, height, length(ends)), Label.VEGETATION, 0.4 + 0.6 * shade
        )


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
