"""Trees and bushes: a trunk, branches, and a crown of leaf clumps with a ragged outline and holes."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gffnet.streets.canvas import Canvas
from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.mesh import Face, Footprint, Pose, Thing, paint_thing
from gffnet.streets.noise import floats, smooth, tile

Triple = tuple[float, float, float]


@dataclass
class Tree:
    """A tree. `blobs` (N, 4): each clump's offset right and up from the foot, its radii, in metres."""

    pose: Pose
    height: float
    trunk: Thing
    blobs: np.ndarray
    green: Triple
    ragged: float
    key: float
    sunlit: float
    solid: float = 0.9

    @property
    def depth(self) -> float:
        """Depth of its foot."""
        return self.pose.z

    @property
    def footprint(self) -> Footprint:
        """The crown's extent on the ground."""
        wide = float(self.blobs[:, 2].max()) if len(self.blobs) else 0.4
        return self.pose.footprint(wide, wide)

    def paint(self, canvas: Canvas) -> None:
        """Paint trunk and crown."""
        paint_thing(canvas, self.trunk)
        if len(self.blobs):
            self._crown(canvas)

    def _crown(self, canvas: Canvas) -> None:
        pose, blobs = self.pose, self.blobs
        z = pose.z - 0.1
        if z < 2.5:
            return
        low, high = blobs[:, :2] - blobs[:, 2:] * 1.3, blobs[:, :2] + blobs[:, 2:] * 1.3
        (left, bottom), (right, top) = low.min(0), high.max(0)
        corners = [(left, bottom), (right, bottom), (left, top), (right, top)]
        outline = canvas.camera.project(np.array([(pose.x + a, pose.y + b, z) for a, b in corners]))
        box = canvas.box(*outline.min(0), *outline.max(0))
        if box is None:
            return
        rx, ry = (ray[box] for ray in canvas.camera.rays)
        a = rx * np.float32(z) - np.float32(pose.x)
        b = np.float32(canvas.camera.height - pose.y) + ry * np.float32(z)
        field = np.full(a.shape, -9, np.float32)
        for x, y, wide, tall in blobs.astype(np.float32):
            field = np.maximum(field, 1 - np.square((a - x) / wide) - np.square((b - y) / tall))
        clump = smooth(tile(1.1, 10), a * 26 + self.key, b * 26)
        leaf = smooth(tile(0.6, 11), a * 60 + self.key, b * 60)
        mask = field + self.ragged * (0.5 * clump + 0.35 * leaf) > 0.18
        mask = canvas.visible(box, mask, z)
        if not mask.any():
            return
        size = 0.05 * canvas.camera.focal / z
        lit = 0.45 + 0.55 * np.clip((b - bottom) / (top - bottom), 0, 1) + self.sunlit * (a / (right - left))
        value = lit * (1 + 0.17 * clump + min(1.0, size) * 0.2 * leaf)
        colour = floats(self.green) * value[..., None]
        colour[..., 0] += 9 * clump
        canvas.paint(box, mask, np.clip(colour, 0, 255).astype(np.uint8), Label.VEGETATION, z)


def tree(rng: Generator, light: Light, pose: Pose, height: float, bare: bool, bush: bool = False) -> Tree:
    """Draw a tree of this height; `bare` has no leaves, `bush` no trunk."""
    bark = np.array([86, 74, 62]) * rng.uniform(0.6, 1.25) * light.shade((0, 0, -1))
    colour = (int(bark[0]), int(bark[1]), int(bark[2]))
    fork = 0.0 if bush else height * float(rng.uniform(0.22, 0.4))
    faces = [] if bush else _branches(rng, pose, height, fork, colour, bare)
    count = int(rng.integers(3, 9))
    spread = height * float(rng.uniform(0.2, 0.36)) * (1.7 if bush else 1)
    middle = (height + fork) / 2
    blobs = np.zeros((0 if bare else count, 4))
    conifer = not bush and rng.random() < 0.15
    for i in range(len(blobs)):
        angle, out = rng.uniform(0, 6.28), np.sqrt(rng.uniform(0, 1)) * 0.75
        x, y = spread * out * np.cos(angle), middle + (height - fork) * 0.36 * out * np.sin(angle)
        wide = spread * rng.uniform(0.4, 0.75)
        if conifer:
            share = (i + 0.5) / count
            x, y, wide = 0, fork + (height - fork) * share, spread * 0.8 * (1.05 - share)
        blobs[i] = x, y, wide, (height - fork) * rng.uniform(0.2, 0.34)
    shade = 0.55 + 0.45 * light.shade((-0.3 if light.sun[0] < 0 else 0.3, 0.6, -0.7))
    autumn = np.array([1.5, 1.0, 0.55]) if rng.random() < 0.1 else np.ones(3)
    green = np.array([74, 98, 44]) * autumn * rng.uniform(0.55, 1.35) * shade + rng.normal(0, 7, 3)
    green = np.clip(green, 12, 220)
    trunk = Thing(faces, pose.footprint(0.2, 0.2), height)
    return Tree(
        pose, height, trunk, blobs, (float(green[0]), float(green[1]), float(green[2])),
        float(rng.uniform(0.25, 0.75)), float(rng.uniform(0, 512)), 0.5 * light.strength * light.sun[0],
        0.45 if bare else 0.9,
    )  # fmt: skip


def _branches(
    rng: Generator, pose: Pose, height: float, fork: float, colour: tuple[int, int, int], bare: bool
) -> list[Face]:
    """The trunk and its branches, as strokes."""
    thick = height * float(rng.uniform(0.014, 0.026))
    lean = float(rng.normal(0, 0.03)) * height
    top = height * (0.9 if bare else 0.7)
    spine = pose.world([(0, -0.1, 0), (lean * 0.4, fork, 0)])
    faces = [Face(spine, colour, Label.VEGETATION, 0, thick)]
    tips = [((lean * 0.4, fork), (lean, top), thick * 0.7)]
    for _ in range(3 if bare else 1):
        grown = []
        for (x0, y0), (x1, y1), wide in tips:
            points = pose.world([(x0, y0, 0), (x1, y1, 0)])
            faces.append(Face(points, colour, Label.VEGETATION, 0, max(wide, 0.012)))
            for _ in range(4 if bare else 3):
                share = rng.uniform(0.15, 0.95)
                sx, sy = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
                reach = np.hypot(x1 - x0, y1 - y0) * rng.uniform(0.4, 0.75)
                angle = np.arctan2(x1 - x0, y1 - y0) + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
                grown.append(((sx, sy), (sx + reach * np.sin(angle), sy + reach * np.cos(angle)), wide * 0.5))
        tips = grown
    return faces
