"""Things made of flat faces, strokes and balls in world space, painted with exact occlusion.

A thing is painted onto a small patch, its shapes in the order given, and the patch onto the canvas where the thing's
footprint (an upright box) is nearer than what is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gffnet.streets.camera import NEAR, Camera, Floats, Points, clip_near
from gffnet.streets.canvas import Box, Bytes, Canvas
from gffnet.streets.noise import floats, smooth, tile

Colour = tuple[int, int, int]
KEEP = 63  # label of faces that give colour only, such as wires


class Face(NamedTuple):
    """A polygon (N, 3); or, with a radius, a stroke along the polyline (N, 3); one point and a radius: a ball."""

    points: Points
    colour: Colour
    label: int
    glow: int = 0  # 0..3, thirds of full
    radius: float = 0.0


class Shape(NamedTuple):
    """A face in the picture: its outline (N, 2) in samples and its half width in samples (0: a polygon)."""

    outline: Points
    width: float
    face: Face


class Footprint(NamedTuple):
    """An upright box's rectangle on the ground: centre, half length along `heading`, half width; heading 0 is +Z."""

    x: float
    z: float
    length: float
    width: float
    heading: float = 0.0

    def corners(self) -> Points:
        """The four corners (4, 2) as X, Z."""
        signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)], float)
        ahead = np.array([np.sin(self.heading), np.cos(self.heading)])
        aside = np.array([np.cos(self.heading), -np.sin(self.heading)])
        middle = np.array([self.x, self.z])
        return np.asarray(middle + signs[:, :1] * self.length * ahead + signs[:, 1:] * self.width * aside)


@dataclass
class Thing:
    """Faces to paint in order, where they stand and how tall they are (for depth and shadow)."""

    faces: list[Face]
    footprint: Footprint
    height: float
    solid: float = 1.0  # how dark its shadow is, 0..1
    gloss: float = 0.06  # how strongly folds, dirt or reflections vary its brightness

    @property
    def depth(self) -> float:
        """Depth of its centre, for painting far things first."""
        return self.footprint.z

    def paint(self, canvas: Canvas) -> None:
        """Paint it where it is nearer than what is on the canvas."""
        paint_thing(canvas, self)


class Pose(NamedTuple):
    """Where a thing stands: X, height of the ground, Z, and its heading (0 looks along +Z)."""

    x: float
    y: float
    z: float
    heading: float = 0.0

    def world(self, points: Points | Sequence[tuple[float, float, float]]) -> Points:
        """Local points (N, 3) as (right, up, ahead) to world points (N, 3)."""
        right, up, ahead = np.asarray(points, float).T
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.stack([self.x + right * cos + ahead * sin, self.y + up, self.z - right * sin + ahead * cos], axis=1)

    def footprint(self, length: float, width: float) -> Footprint:
        """The rectangle of this half length and half width around it."""
        return Footprint(self.x, self.z, length, width, self.heading)

    def viewer(self, height: float) -> Points:
        """The camera's position (3,) in local coordinates, for a camera at this height."""
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.array([-self.x * cos + self.z * sin, height - self.y, -self.x * sin - self.z * cos])


def paint_thing(canvas: Canvas, thing: Thing) -> None:
    """Paint a thing's faces where they are nearer than what is on the canvas."""
    shapes = _shapes(canvas.camera, thing.faces)
    if not shapes:
        return
    everything = np.concatenate([shape.outline for shape in shapes])
    pad = max(shape.width for shape in shapes)
    (left, top), (right, bottom) = everything.min(0) - pad, everything.max(0) + pad
    box = canvas.box(left, top, right, bottom)
    if box is None:
        return
    rows, columns = box
    patch = Image.new("RGBA", (columns.stop - columns.start, rows.stop - rows.start))
    draw = ImageDraw.Draw(patch)
    offset = np.array([columns.start, rows.start], float) + 0.5
    for outline, width, face in shapes:
        _draw(draw, outline - offset, width, (*face.colour, face.label | face.glow << 6))
    texels = np.asarray(patch)
    code = texels[..., 3]
    depth = _box_depth(canvas.camera.rays[0][box], thing.footprint)
    mask = canvas.visible(box, code > 0, depth)
    if not mask.any():
        return
    kept = code & KEEP == KEEP
    rgb = _worn(texels[..., :3], box, thing, canvas.camera) if bottom - top > 12 else texels[..., :3]
    if kept.any():
        canvas.rgb[box][mask & kept] = rgb[mask & kept]
        mask &= ~kept
    canvas.paint(box, mask, rgb, code & np.uint8(KEEP), depth, np.asarray((code >> 6) * 85, np.uint8))


def _worn(rgb: Bytes, box: Box, thing: Thing, camera: Camera) -> Bytes:
    """Colours (h, w, 3) with folds, dirt and reflections that stick to the thing, and its lower parts darker."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in box)
    z = max(thing.footprint.corners()[:, 1].min(), 1.0)
    texel = np.float32(z / camera.focal)  # metres a sample
    x, y = columns[None, :] * texel, rows[:, None] * texel
    key = np.float32(17 * thing.footprint.x + 5 * thing.height)
    spots = smooth(tile(1.2, 14), x * 22 + y * 0 + key, y * 40 + x * 0)
    rise = (y[-1] - y) / max(thing.height, 0.5)
    value = 1 + thing.gloss * spots + (np.clip(rise, 0, 1) - 0.55) * 0.24
    return np.asarray(np.clip(rgb * floats(value)[..., None], 0, 255), dtype=np.uint8)


def _shapes(camera: Camera, faces: Sequence[Face]) -> list[Shape]:
    """The faces in view, in order."""
    if not faces:
        return []
    everything = np.concatenate([face.points for face in faces])
    if everything[:, 2].min() < NEAR:
        return [shape for face in faces if (shape := _clipped(camera, face)) is not None]
    outlines = np.split(camera.project(everything), np.cumsum([len(face.points) for face in faces])[:-1])
    return [Shape(outline, _width(camera, face), face) for outline, face in zip(outlines, faces, strict=True)]


def _clipped(camera: Camera, face: Face) -> Shape | None:
    """A face that may reach behind the camera; None when nothing of it is ahead."""
    if face.radius:
        return (
            None if face.points[:, 2].min() < NEAR else Shape(camera.project(face.points), _width(camera, face), face)
        )
    clipped = clip_near(face.points)
    return Shape(camera.project(clipped), 0.0, face) if len(clipped) > 2 else None


def _width(camera: Camera, face: Face) -> float:
    return camera.focal * face.radius / float(face.points[len(face.points) // 2, 2])


def _draw(draw: ImageDraw.ImageDraw, outline: Points, width: float, ink: tuple[int, int, int, int]) -> None:
    """A polygon, a stroke with half width `width`, or a ball (one point), in patch coordinates."""
    if width == 0:
        draw.polygon([(x, y) for x, y in outline.tolist()], fill=ink)
    elif len(outline) == 1:
        x, y = outline[0].tolist()
        draw.ellipse((x - width, y - width, x + width, y + width), fill=ink)
    else:
        for (x0, y0), (x1, y1) in pairwise(outline.tolist()):
            _stroke(draw, x0, y0, x1, y1, width, ink)


def _stroke(
    draw: ImageDraw.ImageDraw, x0: float, y0: float, x1: float, y1: float, width: float, ink: tuple[int, int, int, int]
) -> None:
    length = float(np.hypot(x1 - x0, y1 - y0))
    if length < 1e-6:
        return
    nx, ny = (y0 - y1) / length, (x1 - x0) / length
    half = max(width - 0.5, 0.0)  # the rasteriser includes the boundary's samples
    nx, ny = nx * half, ny * half
    draw.polygon([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], fill=ink)
    if width > 3:
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)


def _box_depth(rx: Floats, footprint: Footprint) -> Floats | float:
    """Depth at which rays with slope rx enter the footprint; where they miss it, the depth of its nearest corner."""
    nearest = float(footprint.corners()[:, 1].min())
    if max(footprint.length, footprint.width) < 0.5:
        return footprint.z
    sin, cos = np.sin(footprint.heading), np.cos(footprint.heading)
    enter = np.full(rx.shape, NEAR, np.float32)
    leave = np.full(rx.shape, np.inf, np.float32)
    for ax, az, half in ((sin, cos, footprint.length), (cos, -sin, footprint.width)):
        middle = footprint.x * ax + footprint.z * az
        speed = rx * np.float32(ax) + np.float32(az)
        speed = np.where(np.abs(speed) < 1e-5, np.float32(1e-5), speed)
        one, two = (middle - half) / speed, (middle + half) / speed
        enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
    return np.where(enter <= leave, enter, max(nearest, NEAR)).astype(np.float32)


def box_of(canvas: Canvas, points: Points) -> tuple[Points, Box] | None:
    """Outline in samples and the box of a polygon (N, 3); None when nothing of it is in view."""
    clipped = clip_near(points)
    if len(clipped) < 3:
        return None
    outline = canvas.camera.project(clipped)
    (left, top), (right, bottom) = outline.min(0), outline.max(0)
    box = canvas.box(left, top, right, bottom)
    return (outline, box) if box else None
