"""Cars, trucks, buses and trams: side profiles, extruded across and narrower towards the roof, with panes and lamps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.layout import Scene
from gffnet.streets.noise import choose
from gffnet.streets.render import Color, Label, Mesh, Points, Pose, Thing, shaded

Outline = list[tuple[float, float]]


class Edge(NamedTuple):
    """A corner of a profile: metres ahead, up, half width there; `tone` of the strip that begins here, 0 for glass."""

    ahead: float
    up: float
    half: float
    tone: float = 1.0


class Body(Mesh):
    """The faces of a vehicle that the camera sees, shaded by their normals.

    `end` and `half` are the half length and half width; `lit` tells whether the lamps are on.
    """

    def __init__(
        self, scene: Scene, pose: Pose, label: int, paint: Color, end: float, half: float, lit: bool = False
    ) -> None:
        super().__init__(pose, label)
        self.light, self.paint, self.end, self.half, self.lit = scene.light, paint, end, half, lit
        sin, cos = np.sin(pose.heading), np.cos(pose.heading)
        height = scene.camera.height - pose.y
        self.viewer = np.array([-pose.x * cos + pose.z * sin, height, -pose.x * sin - pose.z * cos])
        self.side = 1 if self.viewer[0] > 0 else -1  # the side that the camera sees: -1 left, +1 right

    def shade(self, right: float, up: float, ahead: float) -> float:
        """Brightness of a face with this local normal."""
        sin, cos = np.sin(self.pose.heading), np.cos(self.pose.heading)
        normal = np.array([right * cos + ahead * sin, up, -right * sin + ahead * cos])
        return self.light.shade(normal / max(float(np.linalg.norm(normal)), 1e-6))

    def glass(self, slope: float = 0.0) -> Color:
        """Color of a pane, which reflects more sky the more it leans back."""
        share = 0.12 + 0.25 * min(1.0, max(0.0, slope))
        return shaded(np.array([34, 40, 46]) * (1 - share) + np.array(self.light.horizon) * share)

    def extrude(self, profile: Sequence[Edge]) -> None:
        """Add the visible strips of a profile given clockwise from its rear lower corner, then its visible side."""
        strips: list[tuple[float, Points, Color]] = []
        for one, two in pairwise(profile):
            normal = np.array([0.0, two.ahead - one.ahead, one.up - two.up])
            center = np.array([0.0, (one.up + two.up) / 2, (one.ahead + two.ahead) / 2])
            if float(normal @ (self.viewer - center)) <= 0:
                continue
            ends = ((one, -1), (one, 1), (two, 1), (two, -1))
            corners = np.array([(sign * edge.half, edge.up, edge.ahead) for edge, sign in ends])
            distance = float(np.linalg.norm(self.viewer - center))
            strips.append((distance, corners, shaded(self.paint, (one.tone or 0.9) * self.shade(*normal))))
            if not one.tone:
                pane = corners + (corners.mean(0) - corners) * 0.1
                strips.append((distance - 1e-3, pane, self.glass(float(normal[1]))))
        for _, corners, color in sorted(strips, key=lambda strip: -strip[0]):
            self.polygon(corners, color)
        if abs(self.viewer[0]) > max(edge.half for edge in profile):
            outline = [(self.side * edge.half, edge.up, edge.ahead) for edge in profile]
            self.polygon(outline, shaded(self.paint, self.shade(self.side, 0.1, 0.0)))

    def on_side(self, points: Outline, color: Color, glow: int = 0, out: float = 0.0, lean: float = 0.0) -> None:
        """Add a polygon (ahead, up) on the visible side, `out` metres off it; above 0.95 m it leans in by `lean`."""
        half = self.half + out
        if abs(self.viewer[0]) > half:
            leaning = [(self.side * (half - lean * max(0.0, up - 0.95)), up, ahead) for ahead, up in points]
            self.polygon(leaning, color, glow)

    def on_end(self, sign: int, points: Outline, color: Color, glow: int = 0, out: float = 0.0) -> None:
        """Add a polygon (right, up), `out` metres off the front (sign 1) or the rear (-1), if the camera sees it."""
        at = sign * (self.end + out)
        if sign * (self.viewer[2] - at) > 0:
            self.polygon([(right, up, at) for right, up in points], color, glow)

    def add_wheel(self, ahead: float, radius: float, out: float = 0.01, rim: Color = (128, 130, 134)) -> None:
        """Add a wheel with its arch on the visible side."""
        angle = np.linspace(0, 2 * np.pi, 15)[:-1]
        for size, color in ((1.16, (22, 22, 24)), (1.0, (34, 34, 36)), (0.62, rim), (0.2, (50, 50, 54))):
            up = np.maximum(radius * (1 + size * np.sin(angle)), 0.0).tolist()
            points = list(zip((ahead + radius * size * np.cos(angle)).tolist(), up, strict=True))
            self.on_side(points, shaded(color, self.shade(self.side, 0.2, 0)), out=out)

    def add_underside(self, end: float, half: float, up: float) -> None:
        """Add the darkness below the body."""
        side, color = self.side * half, (18, 18, 20)
        for at in (-end, end):
            self.polygon([(-half, 0.02, at), (half, 0.02, at), (half, up, at), (-half, up, at)], color)
        self.polygon([(side, 0.02, -end), (side, 0.02, end), (side, up, end), (side, up, -end)], color)

    def thing(self, height: float) -> Thing:
        """Return the finished vehicle."""
        return Thing(self.faces, self.pose.footprint(self.end, self.half), height)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Outline:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


# Cars

CAR_PAINTS: dict[Color, float] = {
    (24, 25, 28): 9, (46, 48, 52): 9, (92, 95, 99): 9, (140, 144, 148): 9, (178, 181, 184): 9, (222, 223, 222): 10,
    (30, 44, 84): 5, (44, 82, 140): 4, (136, 24, 26): 3, (176, 40, 34): 3, (24, 64, 48): 2, (110, 96, 78): 2,
    (196, 178, 140): 2, (214, 164, 30): 1.5, (150, 70, 30): 1, (84, 110, 120): 2, (210, 206, 190): 2,
}  # fmt: skip
CARS = {  # share; length, height, hood, windscreen's run, rear window's run, trunk, waist
    "hatchback": (0.32, (3.9, 1.48, 0.85, 0.75, 0.35, 0.05, 0.92)),
    "saloon": (0.22, (4.6, 1.44, 1.15, 0.8, 0.75, 0.6, 0.93)),
    "estate": (0.16, (4.6, 1.5, 1.1, 0.75, 0.3, 0.05, 0.95)),
    "suv": (0.16, (4.5, 1.72, 1.05, 0.65, 0.3, 0.05, 1.08)),
    "van": (0.1, (4.9, 2.0, 0.55, 0.7, 0.12, 0.03, 1.15)),
    "pickup": (0.04, (5.1, 1.75, 1.2, 0.6, 0.15, 1.6, 1.08)),
}


def car(scene: Scene, pose: Pose, lit: bool) -> Thing:
    """A car; `lit` tells whether its lamps are on."""
    rng = scene.rng
    kind = choose(rng, list(CARS), [share for share, _ in CARS.values()])
    paint = choose(rng, list(CAR_PAINTS), list(CAR_PAINTS.values()))
    paint = shaded(np.array(paint) + rng.normal(0, 6, 3), rng.uniform(0.9, 1.1))
    long, tall, hood, screen, rear, trunk, waist = (np.array(CARS[kind][1]) * rng.uniform(0.93, 1.07, 7)).tolist()
    half = 0.95 if kind == "van" else 0.88
    top = 0.85 if kind == "van" else half * rng.uniform(0.74, 0.82)
    end = long / 2
    body = Body(scene, pose, Label.CAR, paint, end, half, lit)
    roof0, roof1, boot, bonnet = -end + trunk + rear, end - hood - screen, -end + max(trunk, 0.06), end - hood
    body.add_underside(end - 0.15, half - 0.08, 0.35)
    _add_mirrors(body, bonnet - 0.12, waist, False)
    body.extrude([
        Edge(-end + 0.06, 0.28, half - 0.05, 0.75), Edge(-end, 0.45, half), Edge(-end, 0.72, half, 0.95),
        Edge(-end + 0.06, waist, half - 0.03), Edge(boot, waist + 0.03, half - 0.05, 0.0),
        Edge(roof0, tall - 0.05, top), Edge((roof0 + roof1) / 2, tall, top), Edge(roof1, tall - 0.06, top, 0.0),
        Edge(bonnet, waist + 0.03, half - 0.05), Edge(end - 0.14, waist - 0.16, half - 0.05),
        Edge(end - 0.02, 0.6, half, 0.95), Edge(end, 0.45, half, 0.8), Edge(end - 0.05, 0.25, half - 0.06),
    ])  # fmt: skip
    # Side windows, door seams, handle
    lean = (half - top) / max(tall - 0.95, 0.2)
    back, front, center = boot + 0.18, bonnet - 0.12, (roof0 + roof1) / 2 + 0.1
    low, high, glass = waist + 0.05, tall - 0.13, body.glass(0.1)
    if not (kind == "van" and rng.random() < 0.5):
        pane = [(back + 0.08, low), (center - 0.05, low), (center - 0.05, high), (max(roof0, back) + 0.1, high)]
        body.on_side(pane, glass, lean=lean)
    pane = [(center + 0.05, low), (front, low), (roof1 - 0.02, high), (center + 0.05, high)]
    body.on_side(pane, glass, lean=lean)
    shade = body.shade(body.side, 0.1, 0.0)
    seam = shaded(paint, 0.5 * shade)
    body.on_side(_rectangle(-end + 0.12, 0.28, end - 0.12, 0.5), shaded(paint, 0.72 * shade))
    body.on_side(_rectangle(-end + 0.1, waist - 0.06, bonnet, waist - 0.02), shaded(paint, 1.18 * shade))
    for at in (center, front - 0.1, back + 0.3):
        body.on_side(_rectangle(at - 0.015, 0.35, at + 0.015, waist), seam, out=0.005)
    body.on_side(_rectangle(-end + 0.9, 0.22, end - 0.9, 0.34), (22, 22, 24), out=0.005)
    body.on_side(_rectangle(center - 0.3, waist - 0.15, center - 0.12, waist - 0.11), seam, out=0.01)
    for ahead in (-end + 0.75, end - 0.8):
        body.add_wheel(ahead, 0.36 if kind == "suv" else 0.31)
    _add_car_ends(body, rng, waist)
    _add_mirrors(body, bonnet - 0.12, waist, True)
    return body.thing(tall)


def _add_mirrors(body: Body, front: float, waist: float, near: bool) -> None:
    """Add the mirror on the camera's side (`near`), which is painted last, or the others, painted first."""
    for sign in (-1, 1):
        if near == (sign == body.side and abs(body.viewer[0]) > body.half):
            inner, outer = sign * (body.half - 0.02), sign * (body.half + 0.2)
            corners = _rectangle(inner, waist + 0.02, outer, waist + 0.17)
            body.polygon([(right, up, front) for right, up in corners], shaded(body.paint, 0.6))


def _add_car_ends(body: Body, rng: Generator, waist: float) -> None:
    """Add lamps, plates, grille and bumpers."""
    half, glow = body.half, 3 * body.lit
    red: Color = (236, 44, 32) if body.lit else (128, 20, 22)
    white: Color = (255, 250, 226) if body.lit else (206, 212, 216)
    wide, tall, style = rng.uniform(0.16, 0.4), rng.uniform(0.12, 0.2), int(rng.integers(3))
    low = waist - (0.42 if style == 1 else rng.uniform(0.22, 0.3))
    bumper = shaded(body.paint, 0.7 * body.shade(0, 0.2, -1))
    body.on_end(-1, _rectangle(-half + 0.06, 0.3, half - 0.06, 0.48), bumper, out=0.01)
    body.on_end(-1, _rectangle(-half + 0.12, 0.27, half - 0.12, 0.36), (30, 30, 32), out=0.01)
    if style == 2:
        strip = _rectangle(-half + 0.1, waist - 0.2, half - 0.1, waist - 0.13)
        body.on_end(-1, strip, shaded(red, 0.7), glow, out=0.01)
    body.on_end(1, _rectangle(-half + 0.08, 0.26, half - 0.08, 0.42), (36, 36, 38), out=0.01)
    for sign in (-1, 1):
        edge = sign * (half - 0.05)
        inner = edge - sign * (0.16 if style == 1 else wide)
        body.on_end(-1, _rectangle(edge, low, inner, waist - 0.05), red, glow, out=0.01)
        lamp = [(edge, 0.6), (inner, 0.56), (inner, 0.56 + tall), (edge, 0.62 + tall)]
        body.on_end(1, lamp, white, glow, out=0.01)
    plate: Color = (222, 222, 216) if rng.random() < 0.8 else (226, 196, 60)
    body.on_end(-1, _rectangle(-0.26, 0.5, 0.26, 0.61), plate, out=0.02)
    body.on_end(1, _rectangle(-half + 0.42, 0.52, half - 0.42, 0.68), (28, 28, 30), out=0.01)
    body.on_end(1, _rectangle(-half + 0.42, 0.6, half - 0.42, 0.625), (130, 132, 134), out=0.02)
    body.on_end(1, _rectangle(-0.26, 0.34, 0.26, 0.44), plate, out=0.03)


# Trucks, buses, trams

TRUCK_PAINTS = ((214, 214, 210), (170, 36, 30), (36, 70, 130), (226, 150, 30), (60, 62, 66), (40, 100, 60))
BUS_PAINTS = ((190, 30, 30), (222, 190, 40), (226, 226, 222), (40, 90, 150), (60, 130, 80), (200, 110, 40))
TRAM_PAINTS = ((214, 190, 60), (196, 40, 40), (226, 226, 222), (60, 120, 90), (50, 84, 140), (240, 236, 220))


def _box(x0: float, x1: float, low: float, high: float, half: float, slant: float = 0.0) -> list[Edge]:
    """Profile of a box from x0 to x1, its front leaning back by `slant` metres."""
    return [
        Edge(x0, low, half),
        Edge(x0, high, half, 1.1),
        Edge(x1 - slant, high, half, 0.0 if slant else 1.0),
        Edge(x1, (low + high) / 2 if slant else high, half),
        Edge(x1, low, half),
    ]


def truck(scene: Scene, pose: Pose, lit: bool) -> Thing:
    """A truck with a box, a container or a flat bed."""
    rng, half = scene.rng, 1.2
    paint = choose(rng, TRUCK_PAINTS)
    load = shaded(rng.integers(50, 225, 3))
    if rng.random() < 0.45:
        load = (222, 222, 218)
    front, tall = rng.uniform(5.5, 10) / 2, rng.uniform(2.7, 3.7)
    split = front - 1.9
    body = Body(scene, pose, Label.TRUCK, paint, front, half, lit)
    body.add_underside(front - 0.2, half - 0.15, 0.95)
    box = Body(scene, pose, Label.TRUCK, load, front, half)
    flat = rng.random() < 0.2
    box.extrude(_box(-front, split - 0.15, 0.9, 1.4 if flat else tall, half))
    if not flat:
        for at in np.linspace(-front + 0.1, split - 0.3, rng.integers(2, 9)).tolist():
            box.on_side(_rectangle(at, 0.95, at + 0.05, tall - 0.05), shaded(load, 0.78), out=0.01)
        box.on_end(-1, _rectangle(-0.02, 0.95, 0.02, tall - 0.1), shaded(load, 0.5))
        if rng.random() < 0.5:
            ink = shaded(paint, 0.8)
            box.on_side(_rectangle(-front + 1, tall * 0.5, split - 1, tall * 0.7), ink, out=0.02)
            box.on_end(-1, _rectangle(-0.7, tall * 0.55, 0.7, tall * 0.7), ink)
    top = rng.uniform(2.3, 2.9)
    body.extrude(_box(split, front, 0.6, top, half - 0.05, 0.25))
    body.on_side(_rectangle(split + 0.5, top * 0.6, front - 0.3, top - 0.35), body.glass(0.1))
    for ahead in (-front + 1.1, -front + 2.2, front - 0.9):
        body.add_wheel(ahead, 0.48, rim=(110, 110, 112))
    _add_lamps(body, 0.75)
    thing = body.thing(tall)
    thing.faces = box.faces + body.faces if body.viewer[2] > split else body.faces + box.faces
    return thing


def bus(scene: Scene, pose: Pose, lit: bool) -> Thing:
    """A city bus, sometimes with two decks."""
    rng, half = scene.rng, 1.25
    paint, double = choose(rng, BUS_PAINTS), rng.random() < 0.15
    front, tall = rng.uniform(5, 6.3), 4.2 if double else rng.uniform(2.9, 3.2)
    body = Body(scene, pose, Label.BUS, paint, front, half, lit)
    body.add_underside(front - 0.2, half - 0.1, 0.4)
    body.extrude(_box(-front, front, 0.32, tall, half))
    _add_stripe(body, rng, ((230, 230, 226), (60, 60, 64), (40, 60, 110)), 0.6, 0.5, 0.9)
    for low in (1.25, 2.75) if double else (1.25,):
        _add_windows(body, front, low, low + 1.1, 1.45)
        body.on_end(1, _rectangle(-1.1, low - 0.2, 1.1, low + 1.05), body.glass(0.1), out=0.01)
        body.on_end(-1, _rectangle(-0.95, low + 0.1, 0.95, low + 0.95), body.glass(0.1), out=0.01)
    body.on_end(1, _rectangle(-0.9, tall - 0.42, 0.9, tall - 0.12), (20, 20, 22), out=0.02)
    body.on_end(1, _rectangle(-0.7, tall - 0.35, 0.55, tall - 0.2), (255, 176, 40), 3 * lit, out=0.03)
    body.on_end(-1, _rectangle(-0.3, tall - 0.4, 0.3, tall - 0.15), (40, 36, 20), out=0.02)
    for ahead in (-front + 1.9, front - 2.4):
        body.add_wheel(ahead, 0.48, out=0.02)
    _add_lamps(body, 0.6)
    return body.thing(tall)


def tram(scene: Scene, pose: Pose, lit: bool) -> Thing:
    """A tram: a long row of windows between slanted noses, with joints and a pantograph."""
    rng, half, color = scene.rng, 1.22, (50, 50, 52)
    paint, front, tall = choose(rng, TRAM_PAINTS), rng.uniform(8, 15), rng.uniform(3.2, 3.6)
    body = Body(scene, pose, Label.TRAIN, paint, front, half, lit)
    body.add_underside(front - 0.8, half - 0.2, 0.4)
    nose = rng.uniform(0.2, 0.7)
    body.extrude([
        Edge(-front, 0.25, half), Edge(-front, 1.1, half, 0.0), Edge(-front + nose, 2.7, half),
        Edge(-front + nose, tall, half, 0.6), Edge(front - nose, tall, half), Edge(front - nose, 2.7, half, 0.0),
        Edge(front, 1.1, half), Edge(front, 0.25, half),
    ])  # fmt: skip
    _add_stripe(body, rng, ((60, 60, 64), (230, 230, 226), (40, 44, 60)), 0.7, 0.26, 0.7)
    _add_windows(body, front - 0.5, 1.15, 2.5, 1.7)
    for joint in np.arange(-front + 7, front - 5, 7.5).tolist():
        body.on_side(_rectangle(joint, 0.25, joint + 0.5, tall), (44, 44, 46), out=0.02)
    _add_lamps(body, 0.8)
    body.on_end(1, _rectangle(-0.7, 2.75, 0.7, 3.05), (255, 170, 40), 3 * lit, out=0.02 - nose)
    body.stroke([(0.0, tall, -1.0), (0.0, tall + 0.7, 0.0), (0.0, tall + 1.5, -0.8)], color, 0.04)
    body.stroke([(-0.8, tall + 1.5, -0.8), (0.8, tall + 1.5, -0.8)], color, 0.04)
    return body.thing(tall)


def _add_stripe(body: Body, rng: Generator, colors: Sequence[Color], share: float, low: float, high: float) -> None:
    """Add a stripe along the side, with probability `share`."""
    color = choose(rng, colors)
    if rng.random() < share:
        stripe = _rectangle(-body.end, low, body.end, high)
        body.on_side(stripe, shaded(color, body.shade(body.side, 0, 0)), out=0.01)


def _add_windows(body: Body, end: float, low: float, high: float, step: float) -> None:
    """Add a row of side windows and doors."""
    pane: Color = (255, 226, 170) if body.lit else body.glass(0.05)
    for index, left in enumerate(np.arange(-end + 0.3, end - step * 0.8, step).tolist()):
        window = _rectangle(left, 0.45 if index % 4 == 2 else low, left + step - 0.14, high)
        body.on_side(window, pane, 3 * body.lit, out=0.01)


def _add_lamps(body: Body, up: float) -> None:
    """Add head and tail lamps and bumpers."""
    half, glow = body.half, 3 * body.lit
    white: Color = (255, 250, 230) if body.lit else (200, 206, 210)
    red: Color = (230, 40, 30) if body.lit else (150, 26, 24)
    for sign in (-1, 1):
        edge = sign * (half - 0.1)
        body.on_end(1, _rectangle(edge, up, edge - sign * 0.3, up + 0.2), white, glow, out=0.02)
        body.on_end(-1, _rectangle(edge, up, edge - sign * 0.2, up + 0.35), red, glow, out=0.02)
    for sign in (1, -1):
        body.on_end(sign, _rectangle(-half + 0.05, up - 0.3, half - 0.05, up - 0.1), (50, 50, 52), out=0.01)
