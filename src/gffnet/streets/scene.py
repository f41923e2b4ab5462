"""One street scene: sampled from a seed, painted, illuminated, photographed."""

from typing import NamedTuple

import numpy as np

from gffnet.streets.buildings import paint_buildings
from gffnet.streets.ground import paint_ground
from gffnet.streets.layout import Scene
from gffnet.streets.lighting import Surfaces, cast_shadows, illuminate, paint_sky, photograph
from gffnet.streets.noise import floats
from gffnet.streets.population import populate
from gffnet.streets.render import Bytes, Canvas, Label

MIN_SIZE = (64, 128)
MAX_SIDE = 8192


class Street(NamedTuple):
    """An RGB image (H, W, 3) and its Cityscapes label ids (H, W), both uint8."""

    image: Bytes
    label_ids: Bytes


def render_street(seed: int | tuple[int, ...], size: tuple[int, int] = (512, 1024)) -> Street:
    """Render the street scene of a seed at `size` (rows, columns).

    The same seed and size give the same bytes; another size shows the same street. Raises `ValueError` for a negative
    seed or a size outside 64 x 128 to 8192 x 8192.
    """
    check_size(size)
    parts = seed if isinstance(seed, tuple) else (seed,)
    if any(part < 0 for part in parts):
        raise ValueError(f"seed is {seed!r}: every part must be 0 or more")
    scene = Scene(parts, size)
    things = populate(scene)
    canvas = Canvas(scene.camera)
    paint_sky(canvas, scene)
    paint_ground(canvas, scene)
    paint_buildings(canvas, scene)
    for thing in things:
        thing.paint(canvas)
    if scene.rng.random() < 0.35:
        _paint_hood(canvas, scene)
    surfaces = Surfaces(canvas)
    color = illuminate(surfaces, scene, cast_shadows(scene, things))
    return Street(photograph(color, scene), surfaces.label)


def check_size(size: tuple[int, int]) -> None:
    """Raise `ValueError` if a size (rows, columns) is too small or too large."""
    if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1] or max(size) > MAX_SIDE:
        raise ValueError(
            f"size is {size[0]}x{size[1]} (rows x columns): allowed are at least {MIN_SIZE[0]}x{MIN_SIZE[1]}, and at "
            f"most {MAX_SIDE}x{MAX_SIDE}"
        )


def _paint_hood(canvas: Canvas, scene: Scene) -> None:
    """Paint the hood of the camera's own car at the lower edge."""
    rng, (rows, columns) = scene.rng, canvas.camera.size
    high, flat, aside, tone = (
        rng.uniform(0.015, 0.07),
        rng.uniform(1.5, 5),
        rng.uniform(-0.15, 0.15),
        rng.uniform(15, 190),
    )
    x = np.arange(columns) / columns - 0.5 - aside
    edge = rows * (1 - high * np.clip(1 - flat * x**2, 0, 1))
    below = np.arange(rows)[:, None] + 0.5 - edge[None, :]
    depth = np.clip(below / (rows * high), 0, 1)[..., None]
    sheen = floats(scene.light.horizon) * (0.15 + 0.35 * (1 - depth)) + tone * (0.4 + 0.3 * depth)
    box = (slice(0, rows), slice(0, columns))
    canvas.write(box, below > 0, np.clip(sheen, 0, 255).astype(np.uint8), Label.EGO_VEHICLE, 1.2)
