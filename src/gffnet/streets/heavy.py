"""Lorries, buses and trams."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.bodies import Body, Edge, rectangle, tinted
from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.mesh import Colour, Face, Pose, Thing


def _box(x0: float, x1: float, low: float, high: float, half: float, slant: float = 0.0) -> list[Edge]:
    return [
        Edge(x0, low, half), Edge(x0, high, half, 1.1), Edge(x1 - slant, high, half, 0.0 if slant else 1.0),
        Edge(x1, (low + high) / 2 if slant else high, half), Edge(x1, low, half),
    ]  # fmt: skip


def lorry(rng: Generator, light: Light, pose: Pose, eye: float, lamps: bool) -> Thing:
    """A lorry: cab and box, tipper, flatbed or tanker-grey container."""
    cab: Colour = [(214, 214, 210), (170, 36, 30), (36, 70, 130), (226, 150, 30), (60, 62, 66), (40, 100, 60)][
        int(rng.integers(6))
    ]
    r, g, b = rng.integers(50, 225, 3).tolist()
    load: Colour = (222, 222, 218) if rng.random() < 0.45 else (r, g, b)
    long, half = float(rng.uniform(5.5, 10)), 1.2
    tall = float(rng.uniform(2.7, 3.7))
    front = long / 2
    split = front - 1.9
    body = Body(pose, light, Label.TRUCK, cab, eye)
    body.underside(front - 0.2, half - 0.15, 0.95)
    box = Body(pose, light, Label.TRUCK, load, eye)
    flat = rng.random() < 0.2
    box.extrude(_box(-front, split - 0.15, 0.9, 1.4 if flat else tall, half))
    if not flat:
        for share in np.linspace(-front + 0.1, split - 0.3, int(rng.integers(2, 9))).tolist():
            box.on_side(rectangle(share, 0.95, share + 0.05, tall - 0.05), half + 0.01, tinted(load, 0.78))
        box.on_end(False, -front, rectangle(-0.02, 0.95, 0.02, tall - 0.1), tinted(load, 0.5))
        if rng.random() < 0.5:
            ink = tinted(cab, 0.8)
            box.on_side(rectangle(-front + 1, tall * 0.5, split - 1, tall * 0.7), half + 0.02, ink)
            box.on_end(False, -front, rectangle(-0.7, tall * 0.55, 0.7, tall * 0.7), ink)
    cab_top = float(rng.uniform(2.3, 2.9))
    body.extrude(_box(split, front, 0.6, cab_top, half - 0.05, 0.25))
    pane = body.glass(0.1)
    body.on_side(rectangle(split + 0.5, cab_top * 0.6, front - 0.3, cab_top - 0.35), half, pane)
    for ahead in (-front + 1.1, -front + 2.2, front - 0.9):
        body.wheel(ahead, 0.48, half + 0.01, (110, 110, 112))
    _lamps(body, front, half, 0.75, lamps)
    ahead = bool(body.viewer[2] > split)
    return Thing(box.faces + body.faces if ahead else body.faces + box.faces, pose.footprint(front, half), tall)


def bus(rng: Generator, light: Light, pose: Pose, eye: float, lamps: bool) -> Thing:
    """A city bus, sometimes with two decks."""
    paints: list[Colour] = [
        (190, 30, 30),
        (222, 190, 40),
        (226, 226, 222),
        (40, 90, 150),
        (60, 130, 80),
        (200, 110, 40),
    ]
    paint = paints[int(rng.integers(len(paints)))]
    double = rng.random() < 0.15
    front, half, tall = float(rng.uniform(5, 6.3)), 1.25, 4.2 if double else float(rng.uniform(2.9, 3.2))
    body = Body(pose, light, Label.BUS, paint, eye)
    body.underside(front - 0.2, half - 0.1, 0.4)
    body.extrude(_box(-front, front, 0.32, tall, half))
    stripe = tinted([(230, 230, 226), (60, 60, 64), (40, 60, 110)][int(rng.integers(3))], 1.0)
    if rng.random() < 0.6:
        body.on_side(rectangle(-front, 0.5, front, 0.9), half + 0.01, tinted(stripe, body.shade(body.side, 0, 0)))
    for low in (1.25, 2.75) if double else (1.25,):
        _panes(body, front, half, low, low + 1.1, lamps, 1.45)
        body.on_end(True, front + 0.01, rectangle(-1.1, low - 0.2, 1.1, low + 1.05), body.glass(0.1))
        body.on_end(False, -front - 0.01, rectangle(-0.95, low + 0.1, 0.95, low + 0.95), body.glass(0.1))
    board: Colour = (255, 176, 40)
    body.on_end(True, front + 0.02, rectangle(-0.9, tall - 0.42, 0.9, tall - 0.12), (20, 20, 22))
    body.on_end(True, front + 0.03, rectangle(-0.7, tall - 0.35, 0.55, tall - 0.2), board, 3 if lamps else 0)
    body.on_end(False, -front - 0.02, rectangle(-0.3, tall - 0.4, 0.3, tall - 0.15), (40, 36, 20))
    for ahead in (-front + 1.9, front - 2.4):
        body.wheel(ahead, 0.48, half + 0.02)
    _lamps(body, front, half, 0.6, lamps)
    return Thing(body.faces, pose.footprint(front, half), tall)


def tram(rng: Generator, light: Light, pose: Pose, eye: float, lamps: bool) -> Thing:
    """A tram: a long train of windows with a slanted nose, bogies and a pantograph."""
    paints: list[Colour] = [
        (214, 190, 60),
        (196, 40, 40),
        (226, 226, 222),
        (60, 120, 90),
        (50, 84, 140),
        (240, 236, 220),
    ]
    paint = paints[int(rng.integers(len(paints)))]
    front, half, tall = float(rng.uniform(8, 15)), 1.22, float(rng.uniform(3.2, 3.6))
    body = Body(pose, light, Label.TRAIN, paint, eye)
    body.underside(front - 0.8, half - 0.2, 0.4)
    nose = float(rng.uniform(0.2, 0.7))
    body.extrude(
        [
            Edge(-front, 0.25, half), Edge(-front, 1.1, half, 0.0), Edge(-front + nose, 2.7, half, 1.0),
            Edge(-front + nose, tall, half, 0.6), Edge(front - nose, tall, half), Edge(front - nose, 2.7, half, 0.0),
            Edge(front, 1.1, half), Edge(front, 0.25, half),
        ]
    )  # fmt: skip
    band = [(60, 60, 64), (230, 230, 226), (40, 44, 60)][int(rng.integers(3))]
    if rng.random() < 0.7:
        body.on_side(rectangle(-front, 0.26, front, 0.7), half + 0.01, tinted(band, body.shade(body.side, 0, 0)))
    _panes(body, front - 0.5, half, 1.15, 2.5, lamps, 1.7)
    for joint in np.arange(-front + 7, front - 5, 7.5).tolist():
        body.on_side(rectangle(joint, 0.25, joint + 0.5, tall), half + 0.02, (44, 44, 46))
    _lamps(body, front, half, 0.8, lamps)
    body.on_end(True, front - nose + 0.02, rectangle(-0.7, 2.75, 0.7, 3.05), (255, 170, 40), 3 if lamps else 0)
    reach = [(0.0, tall, -1.0), (0.0, tall + 0.7, 0.0), (0.0, tall + 1.5, -0.8)]
    body.faces.append(Face(pose.world(reach), (50, 50, 52), Label.TRAIN, 0, 0.04))
    body.faces.append(
        Face(pose.world([(-0.8, tall + 1.5, -0.8), (0.8, tall + 1.5, -0.8)]), (50, 50, 52), Label.TRAIN, 0, 0.04)
    )
    return Thing(body.faces, pose.footprint(front, half), tall)


def _panes(body: Body, front: float, half: float, low: float, high: float, lamps: bool, step: float) -> None:
    """A row of side windows and doors."""
    pane: Colour = (255, 226, 170) if lamps else body.glass(0.05)
    for index, left in enumerate(np.arange(-front + 0.3, front - step * 0.8, step).tolist()):
        bottom = 0.45 if index % 4 == 2 else low
        body.on_side(rectangle(left, bottom, left + step - 0.14, high), half + 0.01, pane, 3 if lamps else 0)


def _lamps(body: Body, front: float, half: float, up: float, lamps: bool) -> None:
    """Head and tail lamps, plate and bumper."""
    for sign in (-1, 1):
        edge = sign * (half - 0.1)
        white: Colour = (255, 250, 230) if lamps else (200, 206, 210)
        body.on_end(True, front + 0.02, rectangle(edge, up, edge - sign * 0.3, up + 0.2), white, 3 * lamps)
        red: Colour = (230, 40, 30) if lamps else (150, 26, 24)
        body.on_end(False, -front - 0.02, rectangle(edge, up, edge - sign * 0.2, up + 0.35), red, 3 * lamps)
    body.on_end(True, front + 0.01, rectangle(-half + 0.05, up - 0.3, half - 0.05, up - 0.1), (50, 50, 52))
    body.on_end(False, -front - 0.01, rectangle(-half + 0.05, up - 0.3, half - 0.05, up - 0.1), (50, 50, 52))
