"""Cars: hatchbacks, saloons, estates, off-road cars, vans and pick-ups."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.bodies import Body, Edge, rectangle, tinted
from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.mesh import Colour, Pose, Thing

PAINTS: list[Colour] = [
    (24, 25, 28), (46, 48, 52), (92, 95, 99), (140, 144, 148), (178, 181, 184), (222, 223, 222), (30, 44, 84),
    (44, 82, 140), (136, 24, 26), (176, 40, 34), (24, 64, 48), (110, 96, 78), (196, 178, 140), (214, 164, 30),
    (150, 70, 30), (84, 110, 120), (210, 206, 190),
]  # fmt: skip
WEIGHTS = np.array([9, 9, 9, 9, 9, 10, 5, 4, 3, 3, 2, 2, 2, 1.5, 1, 2, 2])

# shape: (length, height, hood, windscreen foot to roof, rear window's run, trunk, waist)
SHAPES = {
    "hatch": (3.9, 1.48, 0.85, 0.75, 0.35, 0.05, 0.92),
    "saloon": (4.6, 1.44, 1.15, 0.8, 0.75, 0.6, 0.93),
    "estate": (4.6, 1.5, 1.1, 0.75, 0.3, 0.05, 0.95),
    "suv": (4.5, 1.72, 1.05, 0.65, 0.3, 0.05, 1.08),
    "van": (4.9, 2.0, 0.55, 0.7, 0.12, 0.03, 1.15),
    "pickup": (5.1, 1.75, 1.2, 0.6, 0.15, 1.6, 1.08),
}


def car(rng: Generator, light: Light, pose: Pose, eye: float, lamps: bool) -> Thing:
    """A car at this place for a camera at height `eye`; `lamps`: its lights are on."""
    names = list(SHAPES)
    name = names[int(rng.choice(len(names), p=[0.32, 0.22, 0.16, 0.16, 0.1, 0.04]))]
    paint = PAINTS[int(rng.choice(len(PAINTS), p=WEIGHTS / WEIGHTS.sum()))]
    jitter = rng.normal(0, 6, 3)
    paint = tinted((paint[0] + jitter[0], paint[1] + jitter[1], paint[2] + jitter[2]), float(rng.uniform(0.9, 1.1)))
    stretch = rng.uniform(0.93, 1.07, 7)
    long, tall, hood, screen, rear, trunk, waist = (a * b for a, b in zip(SHAPES[name], stretch.tolist(), strict=True))
    half = 0.88 if name != "van" else 0.95
    top = half * float(rng.uniform(0.74, 0.82)) if name != "van" else 0.85
    body = Body(pose, light, Label.CAR, paint, eye)
    end, roof0, roof1 = long / 2, -long / 2 + trunk + rear, long / 2 - hood - screen
    body.underside(end - 0.15, half - 0.08, 0.35)
    _mirrors(body, end - hood - 0.12, waist, half, False)
    body.extrude(
        [
            Edge(-end + 0.06, 0.28, half - 0.05, 0.75), Edge(-end, 0.45, half), Edge(-end, 0.72, half, 0.95),
            Edge(-end + 0.06, waist, half - 0.03), Edge(-end + max(trunk, 0.06), waist + 0.03, half - 0.05, 0.0),
            Edge(roof0, tall - 0.05, top, 1.0), Edge((roof0 + roof1) / 2, tall, top),
            Edge(roof1, tall - 0.06, top, 0.0), Edge(end - hood, waist + 0.03, half - 0.05),
            Edge(end - 0.14, waist - 0.16, half - 0.05), Edge(end - 0.02, 0.6, half, 0.95), Edge(end, 0.45, half, 0.8),
            Edge(end - 0.05, 0.25, half - 0.06),
        ]
    )  # fmt: skip
    _windows(body, (end, roof0, roof1, hood, trunk), waist, tall, half, top, blind=name == "van" and rng.random() < 0.5)
    for ahead in (-end + 0.75, end - 0.8):
        body.wheel(ahead, 0.31 if name != "suv" else 0.36, half + 0.01)
    _ends(rng, body, end, waist, half, lamps)
    _mirrors(body, end - hood - 0.12, waist, half, True)
    return Thing(body.faces, pose.footprint(end, half), tall)


def _windows(
    body: Body, spans: tuple[float, float, float, float, float], waist: float, tall: float, half: float, top: float,
    blind: bool,
) -> None:  # fmt: skip
    """Side windows with a pillar between, door line, handle."""
    end, roof0, roof1, hood, trunk = spans
    lean = (half - top) / max(tall - 0.95, 0.2)
    rear, front = -end + max(trunk, 0.06) + 0.18, end - hood - 0.12
    low, high = waist + 0.05, tall - 0.13
    middle = (roof0 + roof1) / 2 + 0.1
    dark = body.glass(0.1)
    if not blind:
        back = [(rear + 0.08, low), (middle - 0.05, low), (middle - 0.05, high), (max(roof0, rear) + 0.1, high)]
        body.on_side(back, half, dark, roof=lean)
    body.on_side(
        [(middle + 0.05, low), (front, low), (roof1 - 0.02, high), (middle + 0.05, high)], half, dark, roof=lean
    )
    side = body.shade(body.side, 0.1, 0.0)
    seam = tinted(body.paint, 0.5 * side)
    body.on_side(rectangle(-end + 0.12, 0.28, end - 0.12, 0.5), half, tinted(body.paint, 0.72 * side))
    body.on_side(rectangle(-end + 0.1, waist - 0.06, end - hood, waist - 0.02), half, tinted(body.paint, 1.18 * side))
    for at in (middle, front - 0.1, rear + 0.3):
        body.on_side(rectangle(at - 0.015, 0.35, at + 0.015, waist), half + 0.005, seam)
    body.on_side(rectangle(-end + 0.9, 0.22, end - 0.9, 0.34), half + 0.005, (22, 22, 24))
    body.on_side(rectangle(middle - 0.3, waist - 0.15, middle - 0.12, waist - 0.11), half + 0.01, seam)


def _mirrors(body: Body, front: float, waist: float, half: float, near: bool) -> None:
    """The mirror on the camera's side (`near`), which is painted last, or the others, painted first."""
    for sign in (-1, 1):
        if near == (sign == body.side and abs(body.viewer[0]) > half):
            inner, outer = sign * (half - 0.02), sign * (half + 0.2)
            low, high = waist + 0.02, waist + 0.17
            corners = [(inner, low, front), (outer, low, front), (outer, high, front), (inner, high, front)]
            body.face(corners, tinted(body.paint, 0.6))


def _ends(rng: Generator, body: Body, end: float, waist: float, half: float, lamps: bool) -> None:
    """Lamps, plates, grille and bumpers."""
    night = 3 if lamps else 0
    red: Colour = (236, 44, 32) if lamps else (128, 20, 22)
    white: Colour = (255, 250, 226) if lamps else (206, 212, 216)
    wide, tall, style = float(rng.uniform(0.16, 0.4)), float(rng.uniform(0.12, 0.2)), int(rng.integers(3))
    low = waist - (0.42 if style == 1 else float(rng.uniform(0.22, 0.3)))
    back, front = -end - 0.01, end + 0.01
    face = body.shade(0, 0.2, -1)
    body.on_end(False, back, rectangle(-half + 0.06, 0.3, half - 0.06, 0.48), tinted(body.paint, 0.7 * face))
    body.on_end(False, back, rectangle(-half + 0.12, 0.27, half - 0.12, 0.36), (30, 30, 32))
    if style == 2:
        body.on_end(False, back, rectangle(-half + 0.1, waist - 0.2, half - 0.1, waist - 0.13), tinted(red, 0.7), night)
    body.on_end(True, front, rectangle(-half + 0.08, 0.26, half - 0.08, 0.42), (36, 36, 38))
    for sign in (-1, 1):
        edge = sign * (half - 0.05)
        inner = edge - sign * (0.16 if style == 1 else wide)
        body.on_end(False, back, rectangle(edge, low, inner, waist - 0.05), red, night)
        lamp = [(edge, 0.6), (inner, 0.56), (inner, 0.56 + tall), (edge, 0.62 + tall)]
        body.on_end(True, front, lamp, white, night)
    plate: Colour = (222, 222, 216) if rng.random() < 0.8 else (226, 196, 60)
    body.on_end(False, back - 0.01, rectangle(-0.26, 0.5, 0.26, 0.61), plate)
    body.on_end(True, front, rectangle(-half + 0.42, 0.52, half - 0.42, 0.68), (28, 28, 30))
    body.on_end(True, front + 0.01, rectangle(-half + 0.42, 0.6, half - 0.42, 0.625), (130, 132, 134))
    body.on_end(True, front + 0.02, rectangle(-0.26, 0.34, 0.26, 0.44), plate)
