"""The renderer: a pinhole camera, a canvas with a depth buffer, things made of flat faces.

World axes: X right, Y up, Z ahead along the street, in metres. The camera stands at (0, height, 0) above a ground of
height k Z²; the depth of a point is its Z. The ray of a sample has the slopes (rx, ry): at depth Z it is at
(rx Z, height + ry Z, Z).

The canvas holds 2 x 2 samples a pixel. A pixel's color is their mean, its class that of most of them: image and labels
come from the same samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gffnet.streets.noise import Floats, floats, noise

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Box = tuple[slice, slice]
Color = tuple[int, int, int]
Triple = tuple[float, float, float]

SUPERSAMPLING = 2
NEAR = 0.6
FAR = 1e9
NO_CLASS = 63  # label of faces that change the color only, such as wires


class Label(IntEnum):
    """Cityscapes label ids: the 19 evaluated classes and the void ids that occur in a scene."""

    UNLABELED = 0
    EGO_VEHICLE = 1
    STATIC = 4
    ROAD = 7
    SIDEWALK = 8
    BUILDING = 11
    WALL = 12
    FENCE = 13
    POLE = 17
    TRAFFIC_LIGHT = 19
    TRAFFIC_SIGN = 20
    VEGETATION = 21
    TERRAIN = 22
    SKY = 23
    PERSON = 24
    RIDER = 25
    CAR = 26
    TRUCK = 27
    BUS = 28
    TRAIN = 31
    MOTORCYCLE = 32
    BICYCLE = 33


@dataclass(frozen=True)
class Camera:
    """Pinhole camera.

    `size` (rows, columns) and `focal` in samples, `height` in metres, `pitch` (positive looks down) and `roll` in
    radians; `hill` is the k of the ground's height k Z².
    """

    size: tuple[int, int]
    focal: float
    height: float
    pitch: float
    roll: float
    hill: float

    def project(self, points: Points) -> Points:
        """Project world points (N, 3) with Z > 0 to sample coordinates (N, 2), x right and y down."""
        right, down, ahead = points[:, 0], self.height - points[:, 1], points[:, 2]
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        y, z = down * cos - ahead * sin, np.maximum(down * sin + ahead * cos, 1e-3)
        x, y = right / z * self.focal, y / z * self.focal
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        rows, columns = self.size
        return np.stack([columns / 2 + x * cos - y * sin, rows / 2 + x * sin + y * cos], axis=1)

    @cached_property
    def rays(self) -> tuple[Floats, Floats]:
        """Slopes (rx, ry) of the samples' rays, each (rows, columns)."""
        rows, columns = self.size
        u = ((np.arange(columns) + 0.5 - columns / 2) / self.focal)[None, :]
        v = ((np.arange(rows) + 0.5 - rows / 2) / self.focal)[:, None]
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        x, y = u * cos + v * sin, v * cos - u * sin
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        ahead = np.maximum(cos - y * sin, 1e-2)
        return floats(x / ahead), floats(-(y * cos + sin) / ahead)

    @cached_property
    def ground_depth(self) -> Floats:
        """Depth (rows, columns) at which each ray meets the ground; inf where it never does."""
        _, ry = self.rays
        root = ry * ry + np.float32(4 * self.hill * self.height)
        below = np.sqrt(np.maximum(root, 0)) - ry
        with np.errstate(divide="ignore"):
            depth = np.float32(2 * self.height) / below
        return floats(np.where((root >= 0) & (below > 1e-5), depth, np.inf))

    def ground(self, z: Points | float) -> Points:
        """Height of the ground at depth z."""
        return np.asarray(self.hill * np.square(z))


class Canvas:
    """Buffers of samples: `rgb` (rows, columns, 3) and `label`, `depth` in metres and `glow` (rows, columns).

    `glow` (0..255) is the share of its color that a sample keeps in the dark; 255 is a lamp. An empty canvas is black,
    unlabelled and infinitely far.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.rgb = np.zeros((*camera.size, 3), np.uint8)
        self.label, self.glow = np.zeros(camera.size, np.uint8), np.zeros(camera.size, np.uint8)
        self.depth = np.full(camera.size, FAR, np.float32)

    def box(self, left: float, top: float, right: float, bottom: float) -> Box | None:
        """Return the part of the canvas within these coordinates; None if it is empty."""
        rows, columns = self.camera.size
        x0, x1 = max(int(np.floor(left)), 0), min(int(np.ceil(right)) + 1, columns)
        y0, y1 = max(int(np.floor(top)), 0), min(int(np.ceil(bottom)) + 1, rows)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def write(
        self, box: Box, mask: Mask, rgb: Bytes, label: Bytes | int, depth: Floats | float, glow: Bytes | int = 0
    ) -> None:
        """Write the mask's samples in the box, whatever their depth. Arrays have the box's shape."""
        for buffer, value in ((self.rgb, rgb), (self.label, label), (self.depth, depth), (self.glow, glow)):
            buffer[box][mask] = value[mask] if isinstance(value, np.ndarray) else value

    def pixels(self) -> tuple[Floats, Bytes, Floats, Floats]:
        """Return per pixel: mean color (H, W, 3); class, mean inverse depth, mean glow in 0..1, each (H, W)."""
        return (
            reduce_mean(floats(self.rgb)),
            reduce_labels(self.label),
            reduce_mean(floats(1 / self.depth)),
            reduce_mean(floats(self.glow) / np.float32(255)),
        )


def reduce_mean(samples: Floats) -> Floats:
    """Average each block of 2 x 2 samples."""
    return floats((samples[::2, ::2] + samples[::2, 1::2] + samples[1::2, ::2] + samples[1::2, 1::2]) / np.float32(4))


def reduce_labels(samples: Bytes) -> Bytes:
    """Return the commonest class of each block of 2 x 2 samples; of tied classes, the topmost, then leftmost."""
    a, b, c, d = samples[::2, ::2], samples[::2, 1::2], samples[1::2, ::2], samples[1::2, 1::2]
    rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    first = (a == b) | (a == c) | (a == d)
    return np.where(first & ~((b == c) & (c == d)), a, rest)


def clip_near(points: Points, near: float = NEAR) -> Points:
    """Clip a convex polygon (N, 3) to Z >= near; (0, 3) where nothing of it is left."""
    inside = points[:, 2] >= near
    if inside.all():
        return points
    clipped: list[Points] = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= near:
            clipped.append(a)
        if (a[2] >= near) != (b[2] >= near):
            clipped.append(a + (near - a[2]) / (b[2] - a[2]) * (b - a))
    return np.array(clipped).reshape(-1, 3)


def shaded(color: Sequence[float] | NDArray[np.generic], factor: float = 1.0) -> Color:
    """Multiply a color by a factor, clip it to 0..255 and truncate it to integers."""
    r, g, b = (int(min(255.0, max(0.0, value * factor))) for value in color)
    return r, g, b


class Footprint(NamedTuple):
    """A rectangle on the ground: centre, half length along `heading` (0 is +Z) and half width."""

    x: float
    z: float
    length: float
    width: float
    heading: float = 0.0

    def corners(self) -> Points:
        """The four corners (4, 2) as X, Z."""
        signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)], float)
        ahead = np.array([np.sin(self.heading), np.cos(self.heading)])
        right = np.array([np.cos(self.heading), -np.sin(self.heading)])
        center = np.array([self.x, self.z])
        return np.asarray(center + signs[:, :1] * self.length * ahead + signs[:, 1:] * self.width * right)


class Pose(NamedTuple):
    """Position of a thing (Y is the ground's height) and its heading, radians from +Z towards +X."""

    x: float
    y: float
    z: float
    heading: float = 0.0

    def world(self, points: Points | Sequence[Triple]) -> Points:
        """Transform local points (N, 3), given as (right, up, ahead), to world points (N, 3)."""
        right, up, ahead = np.asarray(points, float).T
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.stack([self.x + right * cos + ahead * sin, self.y + up, self.z - right * sin + ahead * cos], axis=1)

    def footprint(self, length: float, width: float) -> Footprint:
        """The rectangle of this half length and half width around the pose."""
        return Footprint(self.x, self.z, length, width, self.heading)


class Face(NamedTuple):
    """A polygon (N, 3); with a radius, a stroke along the polyline (N, 3), or a ball if N is 1."""

    points: Points
    color: Color
    label: int
    glow: int = 0  # 0..3, in thirds
    radius: float = 0.0


class Mesh:
    """Collect faces in painting order, given in the local coordinates (right, up, ahead) of a pose."""

    def __init__(self, pose: Pose, label: int) -> None:
        self.pose, self.label = pose, label
        self.faces: list[Face] = []

    def polygon(self, points: Points | Sequence[Triple], color: Color, glow: int = 0, label: int | None = None) -> None:
        """Add a polygon."""
        self.faces.append(Face(self.pose.world(points), color, self.label if label is None else label, glow))

    def stroke(self, points: Points | Sequence[Triple], color: Color, radius: float, glow: int = 0) -> None:
        """Add a stroke along a polyline, or a ball around a single point."""
        self.faces.append(Face(self.pose.world(points), color, self.label, glow, radius))


@dataclass
class Thing:
    """Faces in painting order, and the upright box that gives their depth and shadow."""

    faces: list[Face]
    footprint: Footprint
    height: float
    opacity: float = 1.0  # of its shadow
    gloss: float = 0.06  # how strongly folds, dirt and reflections vary its brightness

    def paint(self, canvas: Canvas) -> None:
        """Paint the faces where the thing is nearer than what is on the canvas."""
        camera, faces = canvas.camera, list(_in_front(self.faces))
        if not faces:
            return
        outline = camera.project(np.concatenate([face.points for face in faces]))
        outlines = np.split(outline, np.cumsum([len(face.points) for face in faces])[:-1])
        radii = [camera.focal * face.radius / float(face.points[len(face.points) // 2, 2]) for face in faces]
        (left, top), (right, bottom) = outline.min(0) - max(radii), outline.max(0) + max(radii)
        box = canvas.box(left, top, right, bottom)
        if box is None:
            return
        rows, columns = box
        patch = Image.new("RGBA", (columns.stop - columns.start, rows.stop - rows.start))
        draw, corner = ImageDraw.Draw(patch), np.array([columns.start, rows.start]) + 0.5
        for face, points, radius in zip(faces, outlines, radii, strict=True):
            _draw(draw, points - corner, radius, (*face.color, face.label | face.glow << 6))
        texels = np.asarray(patch)
        rgb, code = texels[..., :3], texels[..., 3]
        depth = self._depth(camera.rays[0][box])
        mask = (code > 0) & (depth < canvas.depth[box])
        if not mask.any():
            return
        if bottom - top > 12:
            rgb = self._weathered(rgb, box, camera)
        label = code & np.uint8(63)
        unclassified = mask & (label == NO_CLASS)
        canvas.rgb[box][unclassified] = rgb[unclassified]
        canvas.write(box, mask & ~unclassified, rgb, label, depth, np.asarray((code >> 6) * 85, np.uint8))

    def _depth(self, rx: Floats) -> Floats | float:
        """Depth at which rays of slope rx enter the box (slab method), or else that of its nearest corner."""
        box = self.footprint
        if max(box.length, box.width) < 0.5:
            return box.z
        sin, cos = np.sin(box.heading), np.cos(box.heading)
        enter, leave = np.full(rx.shape, NEAR, np.float32), np.full(rx.shape, np.inf, np.float32)
        for ax, az, half in ((sin, cos, box.length), (cos, -sin, box.width)):
            center = box.x * ax + box.z * az
            speed = rx * np.float32(ax) + np.float32(az)
            speed = np.where(np.abs(speed) < 1e-5, np.float32(1e-5), speed)
            one, two = (center - half) / speed, (center + half) / speed
            enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
        nearest = max(float(box.corners()[:, 1].min()), NEAR)
        return floats(np.where(enter <= leave, enter, nearest))

    def _weathered(self, rgb: Bytes, box: Box, camera: Camera) -> Bytes:
        """Add folds, dirt and reflections that stick to the thing, and darken its lower parts."""
        texel = np.float32(max(self.footprint.corners()[:, 1].min(), 1.0) / camera.focal)  # metres a sample
        y, x = (np.arange(part.start, part.stop, dtype=np.float32) * texel for part in box)
        key = np.float32(17 * self.footprint.x + 5 * self.height)
        u, v = np.meshgrid(x * 22 + key, y * 40)
        spots = noise(u, v, 1.2, 14)
        rise = np.clip((y[-1] - y[:, None]) / max(self.height, 0.5), 0, 1)
        factor = floats(1 + self.gloss * spots + (rise - 0.55) * 0.24)
        return np.asarray(np.clip(rgb * factor[..., None], 0, 255), np.uint8)


def _in_front(faces: Sequence[Face]) -> Iterator[Face]:
    """Clip polygons at the near plane; leave out strokes that cross it."""
    for face in faces:
        if face.points[:, 2].min() >= NEAR:
            yield face
        elif not face.radius and len(points := clip_near(face.points)) > 2:
            yield face._replace(points=points)


def _draw(draw: ImageDraw.ImageDraw, outline: Points, radius: float, ink: tuple[int, int, int, int]) -> None:
    """Draw the outline (N, 2) of a polygon (radius 0), of a stroke or of a ball (N = 1)."""
    points = [(x, y) for x, y in outline.tolist()]
    if radius == 0:
        draw.polygon(points, fill=ink)
    elif len(points) == 1:
        draw.circle(points[0], radius, fill=ink)
    else:
        half = max(radius - 0.5, 0.0)  # the rasterizer includes the boundary's samples
        for (x0, y0), (x1, y1) in pairwise(points):
            length = float(np.hypot(x1 - x0, y1 - y0))
            if length < 1e-6:
                continue
            nx, ny = (y0 - y1) / length * half, (x1 - x0) / length * half
            draw.polygon([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], fill=ink)
            if radius > 3:
                draw.circle((x0, y0), half, fill=ink)
                draw.circle((x1, y1), half, fill=ink)
