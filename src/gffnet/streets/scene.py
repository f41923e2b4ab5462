"""One street scene: drawn from a seed, painted, photographed."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.background import paint_end, paint_second_row, paint_skyline
from gffnet.streets.barriers import BARRIERS
from gffnet.streets.buildings import paint_building
from gffnet.streets.camera import Camera
from gffnet.streets.canvas import SAMPLES, Bytes, Canvas
from gffnet.streets.finish import photograph
from gffnet.streets.ground import paint_ground
from gffnet.streets.labels import Label
from gffnet.streets.layout import Layout, plan
from gffnet.streets.light import Light, draw_light
from gffnet.streets.lighting import Surfaces, illuminate
from gffnet.streets.noise import floats
from gffnet.streets.panels import facing, paint_panel
from gffnet.streets.populate import populate
from gffnet.streets.shadows import cast_shadows
from gffnet.streets.site import Site
from gffnet.streets.sky import paint_sky

LEAST = (64, 128)


class Street(NamedTuple):
    """An RGB image (H, W, 3) and its Cityscapes label ids (H, W), both uint8."""

    image: Bytes
    label_ids: Bytes


def render_street(seed: int | tuple[int, ...], size: tuple[int, int] = (512, 1024)) -> Street:
    """Draw and paint the street scene of a seed at `size` (rows, columns).

    The same seed and size give the same bytes; another size shows the same street. Raises `ValueError` for a negative
    seed or a size below 64 x 128.
    """
    check_size(size)
    parts = seed if isinstance(seed, tuple) else (seed,)
    if any(part < 0 for part in parts):
        raise ValueError(f"seed is {seed!r}: every part must be 0 or more")
    plans, looks, marks = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(parts).spawn(3))
    camera = _camera(plans, size)
    layout, light = plan(plans), draw_light(plans)
    canvas = Canvas.empty(camera)
    site = Site(camera, layout, light, plans)
    items = populate(site)
    paint_sky(canvas, light, looks)
    paint_ground(canvas, layout, looks)
    paint_skyline(canvas, layout, light, looks)
    paint_second_row(canvas, layout, light, looks)
    paint_end(canvas, layout, light, looks)
    _paint_lots(canvas, layout, light, looks)
    for item in items:
        item.paint(canvas)
    if plans.random() < 0.35:
        _paint_bonnet(canvas, light, plans)
    surfaces = Surfaces.of(camera, *canvas.pixels())
    colour = illuminate(surfaces, camera, layout, light, cast_shadows(camera, items, light), site.lamps)
    return Street(photograph(colour, light, marks), surfaces.label)


def check_size(size: tuple[int, int]) -> None:
    """Raise `ValueError` when a size (rows, columns) is too small."""
    if size[0] < LEAST[0] or size[1] < LEAST[1]:
        raise ValueError(f"size is {size[0]}x{size[1]} (rows x columns): at least {LEAST[0]}x{LEAST[1]} is needed")


def _camera(rng: Generator, size: tuple[int, int]) -> Camera:
    """Draw a camera: a car's or a van's windscreen, a little tilted."""
    rows, columns = size
    wide = float(rng.uniform(0.75, 1.3)) * (2 * rows * columns) ** 0.5
    height = float(rng.uniform(1.15, 1.7)) if rng.random() < 0.85 else float(rng.uniform(1.8, 2.5))
    pitch, roll = float(rng.normal(0.05, 0.028)), float(rng.normal(0, 0.012))
    hill = float(rng.uniform(-0.00012, 0.00016)) if rng.random() < 0.5 else 0.0
    return Camera((rows * SAMPLES, columns * SAMPLES), wide * SAMPLES, height, pitch, roll, hill)


def _paint_bonnet(canvas: Canvas, light: Light, rng: Generator) -> None:
    """The own car's bonnet at the lower edge."""
    rows, columns = canvas.camera.size
    high, flat, aside = float(rng.uniform(0.015, 0.07)), float(rng.uniform(1.5, 5)), float(rng.uniform(-0.15, 0.15))
    tone = float(rng.uniform(15, 190))
    x = np.arange(columns) / columns - 0.5 - aside
    edge = rows * (1 - high * np.clip(1 - flat * x**2, 0, 1))
    y = np.arange(rows)[:, None] + 0.5
    mask = y > edge[None, :]
    depth = np.clip((y - edge[None, :]) / (rows * high), 0, 1)[..., None]
    sheen = floats(light.horizon) * (0.15 + 0.35 * (1 - depth)) + tone * (0.4 + 0.3 * depth)
    whole = (slice(0, rows), slice(0, columns))
    canvas.paint(whole, mask, np.clip(sheen, 0, 255).astype(np.uint8), Label.EGO_VEHICLE, 1.2)


def _paint_lots(canvas: Canvas, layout: Layout, light: Light, rng: Generator) -> None:
    """Buildings, and the walls, fences and hedges along the sidewalk, far ones first."""
    labels = {"wall": Label.WALL, "fence": Label.FENCE, "hedge": Label.VEGETATION}
    for side, lot in sorted(((s, lot) for s in layout.sides for lot in s.lots), key=lambda pair: -pair[1].z0):
        kind = lot.kind
        if kind == "garden" or kind == "building":
            paint_building(canvas, layout, side, lot, light, rng)
        if kind == "garden" or (kind == "building" and lot.setback > 2):
            kind = ("wall", "fence", "hedge", "open")[int(rng.integers(4))]
        if kind not in BARRIERS:
            continue
        t = side.sign * (side.frontage + 0.1)
        height = float(rng.uniform(0.9, 3.1 if kind == "wall" else 2.5))
        step = np.linspace(lot.z0, lot.z1, max(2, int((lot.z1 - lot.z0) / 8) + 1)).tolist()
        texture = BARRIERS[kind](rng, height)
        for z0, z1 in pairwise(step):
            ends = ((layout.x(t, z0), z0), (layout.x(t, z1), z1))
            base = float(canvas.camera.ground(max(z0, 0.0)))
            paint_panel(canvas, ends, base - 0.1, base + height, texture, labels[kind], light.shade(facing(ends)))
