"""Upright textured panels: facades, walls, fences, hedges. Every sample's position on the panel is found exactly."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.streets.camera import NEAR, Floats
from gffnet.streets.canvas import Canvas, Mask
from gffnet.streets.mesh import box_of

Ends = tuple[tuple[float, float], tuple[float, float]]


class Texels(NamedTuple):
    """Appearance of N points: colour (N, 3), glow (N,) or 0, which points exist, which show their own colour.

    Points that exist but do not show (the gaps of a fence) take the class and leave the colour.
    """

    rgb: Floats
    glow: NDArray[np.uint8] | int = 0
    exists: Mask | None = None
    shows: Mask | None = None


Texture = Callable[[Floats, Floats, Floats], Texels]


def paint_panel(
    canvas: Canvas, ends: Ends, bottom: float, top: float, texture: Texture, label: int, shade: float = 1.0
) -> None:
    """Paint the upright panel above the line between two ground points (X, Z), from `bottom` to `top` metres high.

    `texture(u, v, blur)` gets metres along the panel, metres above `bottom`, and the metres that a sample covers.
    """
    (x0, z0), (x1, z1) = ends
    corners = np.array([(x0, bottom, z0), (x1, bottom, z1), (x1, top, z1), (x0, top, z0)])
    found = box_of(canvas, corners)
    if found is None:
        return
    _, box = found
    long = length(ends)
    ex, ez = (x1 - x0) / long, (z1 - z0) / long
    rx, ry = (ray[box] for ray in canvas.camera.rays)
    speed = rx * np.float32(ez) - np.float32(ex)
    speed = np.where(np.abs(speed) < 1e-6, np.float32(1e-6), speed)
    depth = np.float32(x0 * ez - z0 * ex) / speed
    along = (rx * depth - np.float32(x0)) * np.float32(ex) + (depth - np.float32(z0)) * np.float32(ez)
    above = np.float32(canvas.camera.height - bottom) + ry * depth
    mask = (depth > NEAR) & (along >= 0) & (along <= long) & (above >= 0) & (above <= top - bottom)
    mask = canvas.visible(box, mask, depth)
    if not mask.any():
        return
    near = depth[mask]
    slant = np.maximum(np.abs(speed[mask]), np.float32(0.02))
    texels = texture(along[mask], above[mask], near / np.float32(canvas.camera.focal) / slant)
    rgb = np.clip(texels.rgb * np.float32(shade), 0, 255).astype(np.uint8)
    glow = np.broadcast_to(np.asarray(texels.glow, np.uint8), near.shape)
    places = np.nonzero(mask)
    if texels.exists is not None:
        places = (places[0][texels.exists], places[1][texels.exists])
        near, rgb, glow = near[texels.exists], rgb[texels.exists], glow[texels.exists]
    canvas.label[box][places] = label
    canvas.depth[box][places] = near
    if texels.shows is not None:
        shows = texels.shows if texels.exists is None else texels.shows[texels.exists]
        places, rgb, glow = (places[0][shows], places[1][shows]), rgb[shows], glow[shows]
    canvas.rgb[box][places] = rgb
    canvas.glow[box][places] = glow


def length(ends: Ends) -> float:
    """Metres between the ends."""
    (x0, z0), (x1, z1) = ends
    return float(np.hypot(x1 - x0, z1 - z0))


def facing(ends: Ends) -> tuple[float, float, float]:
    """Unit normal of the panel above these ends, on the side of the camera."""
    (x0, z0), (x1, z1) = ends
    long = length(ends) or 1.0
    nx, nz = (z1 - z0) / long, (x0 - x1) / long
    turn = -1.0 if nx * x0 + nz * z0 > 0 else 1.0
    return nx * turn, 0.0, nz * turn
