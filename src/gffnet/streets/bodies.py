"""Vehicle bodies: a side profile extruded across, narrower towards the roof, with windows, wheels and lamps."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gffnet.streets.camera import Points
from gffnet.streets.light import Light
from gffnet.streets.mesh import Colour, Face, Pose

Spot = tuple[float, float]


class Edge(NamedTuple):
    """A corner of the profile: metres ahead, up, half width there; `tone` of the strip that starts here (0 glass)."""

    ahead: float
    up: float
    half: float
    tone: float = 1.0


class Body:
    """Collects a vehicle's faces in painting order for a camera at height `eye`."""

    def __init__(self, pose: Pose, light: Light, label: int, paint: Colour, eye: float) -> None:
        self.pose, self.light, self.label, self.paint = pose, light, label, paint
        self.viewer = pose.viewer(eye)
        self.faces: list[Face] = []

    def shade(self, right: float, up: float, ahead: float) -> float:
        """Brightness of a face with this local normal."""
        sin, cos = np.sin(self.pose.heading), np.cos(self.pose.heading)
        normal = np.array([right * cos + ahead * sin, up, -right * sin + ahead * cos])
        return self.light.shade(normal / max(float(np.linalg.norm(normal)), 1e-6))

    def face(self, points: list[tuple[float, float, float]] | Points, colour: Colour, glow: int = 0) -> None:
        """Add a polygon given in local coordinates (right, up, ahead)."""
        self.faces.append(Face(self.pose.world(points), colour, self.label, glow))

    def extrude(self, profile: list[Edge]) -> None:
        """Add the strips of a profile given clockwise from its rear lower corner, then the visible side."""
        strips: list[tuple[float, list[tuple[float, float, float]], Colour]] = []
        for one, two in pairwise(profile):
            normal = np.array([0.0, two.ahead - one.ahead, one.up - two.up])
            middle = np.array([0.0, (one.up + two.up) / 2, (one.ahead + two.ahead) / 2])
            if float(normal @ (self.viewer - middle)) <= 0:
                continue
            points = [
                (-one.half, one.up, one.ahead), (one.half, one.up, one.ahead),
                (two.half, two.up, two.ahead), (-two.half, two.up, two.ahead),
            ]  # fmt: skip
            shade = self.shade(0.0, float(normal[1]), float(normal[2]))
            colour = tinted(self.paint, one.tone * shade) if one.tone else self.glass(float(normal[1]))
            strips.append((float(np.linalg.norm(self.viewer - middle)), points, colour))
            if not one.tone:  # a pane within its frame
                strips[-1] = (strips[-1][0], points, tinted(self.paint, 0.9 * shade))
                strips.append((strips[-1][0] - 1e-3, _inset(points, 0.1), colour))
        for _, points, colour in sorted(strips, key=lambda strip: -strip[0]):
            self.face(points, colour)
        side = self.side
        if side and abs(self.viewer[0]) > max(edge.half for edge in profile):
            outline = [(side * edge.half, edge.up, edge.ahead) for edge in profile]
            self.face(outline, tinted(self.paint, self.shade(side, 0.1, 0.0)))

    @property
    def side(self) -> int:
        """Which side the camera sees: -1 left, +1 right."""
        return 1 if self.viewer[0] > 0 else -1

    def glass(self, slope: float = 0.0) -> Colour:
        """Window glass, which reflects more sky the more it leans."""
        sky = np.array(self.light.horizon)
        share = 0.12 + 0.25 * min(1.0, max(0.0, slope))
        base = np.array([34, 40, 46]) * (1 - share) + sky * share
        r, g, b = base.astype(int).tolist()
        return (r, g, b)

    def on_side(self, spots: list[Spot], half: float, colour: Colour, glow: int = 0, roof: float = 0.0) -> None:
        """Add a polygon (ahead, up) on the visible side, `half` metres out, leaning in by `roof` a metre above 0.95."""
        if abs(self.viewer[0]) > half:
            lean = [(self.side * (half - roof * max(0.0, up - 0.95)), up, ahead) for ahead, up in spots]
            self.face(lean, colour, glow)

    def on_end(
        self, front: bool, at: float, spots: list[Spot], colour: Colour, glow: int = 0, back: float = 0.0
    ) -> None:
        """Add a polygon (right, up) on the front or rear at `at` metres ahead, leaning by `back` a metre upwards."""
        if (self.viewer[2] > at) if front else (self.viewer[2] < at):
            sign = -1 if front else 1
            self.face([(right, up, at + sign * back * up) for right, up in spots], colour, glow)

    def wheel(self, ahead: float, radius: float, half: float, rim: Colour = (128, 130, 134)) -> None:
        """Add a wheel with its arch on the visible side."""
        angle = np.linspace(0, 2 * np.pi, 15)[:-1]
        for size, colour in ((1.16, (22, 22, 24)), (1.0, (34, 34, 36)), (0.62, rim), (0.2, (50, 50, 54))):
            up = np.maximum(radius * (1 + size * np.sin(angle)), 0.0)
            spots = list(zip((ahead + radius * size * np.cos(angle)).tolist(), up.tolist(), strict=True))
            self.on_side(spots, half, tinted(colour, self.shade(self.side, 0.2, 0)))

    def underside(self, length: float, half: float, up: float) -> None:
        """Add the darkness below the body."""
        for end in (-length, length):
            self.face([(-half, 0.02, end), (half, 0.02, end), (half, up, end), (-half, up, end)], (18, 18, 20))
        side = self.side * half
        self.face([(side, 0.02, -length), (side, 0.02, length), (side, up, length), (side, up, -length)], (18, 18, 20))


def _inset(points: list[tuple[float, float, float]], share: float) -> list[tuple[float, float, float]]:
    """A quadrilateral drawn in towards its middle."""
    corners = np.array(points)
    shrunk = corners + (corners.mean(0) - corners) * share
    return [(float(a), float(b), float(c)) for a, b, c in shrunk]


def tinted(colour: tuple[float, float, float], factor: float) -> Colour:
    """The colour times a factor, within 0..255."""
    r, g, b = (int(min(255.0, max(0.0, value * factor))) for value in colour)
    return (r, g, b)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Spot]:
    """Corners of a rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
