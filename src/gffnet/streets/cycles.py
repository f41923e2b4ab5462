"""Bicycles and motorcycles, parked or ridden."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Points
from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.mesh import Colour, Face, Pose, Thing
from gffnet.streets.people import rider


def ring(pose: Pose, ahead: float, radius: float, up: float, right: float = 0.0, count: int = 17) -> Points:
    """A wheel's circle (count, 3) in the plane of travel, closed."""
    angle = np.linspace(0, 2 * np.pi, count)
    points = np.stack([np.full(count, right), up + radius * np.sin(angle), ahead + radius * np.cos(angle)], axis=1)
    return pose.world(points)


def bicycle(rng: Generator, light: Light, pose: Pose, ridden: bool) -> Thing:
    """A bicycle, with its rider where ridden."""
    shade = light.shade((0, 0.2, -0.97))
    r, g, b = np.clip(rng.uniform(20, 210, 3) * shade, 0, 255).astype(int).tolist()
    paint: Colour = (r, g, b)
    black: Colour = (24, 24, 26)
    label = Label.BICYCLE
    lean = 0.0 if ridden else float(rng.normal(0, 0.08))
    faces: list[Face] = []
    for ahead in (-0.52, 0.54):
        faces.append(Face(ring(pose, ahead, 0.33, 0.34), black, label, 0, 0.028))
        for angle in np.linspace(0, np.pi, 4)[:-1]:
            dx, dy = 0.31 * np.cos(angle), 0.31 * np.sin(angle)
            spoke = [(0, 0.34 - dy, ahead - dx), (0, 0.34 + dy, ahead + dx)]
            faces.append(Face(pose.world(spoke), (120, 120, 122), label, 0, 0.006))
    tubes: list[list[tuple[float, float, float]]] = [
        [(0, 0.34, -0.52), (0, 0.34, -0.05), (lean, 0.85, -0.2), (0, 0.34, -0.52)],
        [(lean, 0.8, -0.2), (lean, 0.85, 0.36), (0, 0.34, -0.05)],
        [(lean, 1.0, 0.34), (0, 0.34, 0.54)],
    ]
    faces += [Face(pose.world(tube), paint, label, 0, 0.026) for tube in tubes]
    faces.append(Face(pose.world([(lean, 0.9, -0.32), (lean, 0.92, -0.1)]), black, label, 0, 0.045))
    faces.append(Face(pose.world([(lean - 0.27, 1.03, 0.3), (lean + 0.27, 1.03, 0.3)]), black, label, 0, 0.022))
    if rng.random() < 0.3:
        basket = [
            (lean - 0.15, 0.72, 0.5),
            (lean + 0.15, 0.72, 0.5),
            (lean + 0.17, 0.96, 0.55),
            (lean - 0.17, 0.96, 0.55),
        ]
        faces.append(Face(pose.world(basket), (70, 60, 52), label))
    height = 1.05
    if ridden:
        faces += rider(rng, light, pose, 0.95, 0.32, float(rng.uniform(0.08, 0.35)))
        height = 1.8
    return Thing(faces, pose.footprint(0.85, 0.3), height, 0.6)


def motorcycle(rng: Generator, light: Light, pose: Pose, ridden: bool) -> Thing:
    """A motorcycle or scooter, with its rider where ridden."""
    shade = light.shade((0, 0.2, -0.97))
    r, g, b = np.clip(rng.uniform(15, 200, 3) * shade, 0, 255).astype(int).tolist()
    paint: Colour = (r, g, b)
    black: Colour = (26, 26, 28)
    label = Label.MOTORCYCLE
    faces: list[Face] = []
    for ahead in (-0.62, 0.68):
        faces.append(Face(ring(pose, ahead, 0.27, 0.31), black, label, 0, 0.075))
        faces.append(Face(ring(pose, ahead, 0.1, 0.31), (120, 120, 124), label, 0, 0.05))
    for right in (-0.14, 0.0, 0.14):
        engine = [(right, 0.25, -0.3), (right, 0.3, 0.32), (right, 0.62, 0.35), (right, 0.62, -0.35)]
        faces.append(Face(pose.world(engine), (70, 70, 74), label))
        tank = [(right, 0.6, -0.1), (right, 0.62, 0.45), (right, 0.95, 0.42), (right, 0.92, 0.1), (right, 0.72, -0.1)]
        faces.append(Face(pose.world(tank), paint, label))
        tail = [(right, 0.6, -0.85), (right, 0.62, 0.0), (right, 0.8, 0.0), (right, 0.84, -0.85)]
        faces.append(Face(pose.world(tail), black if right else paint, label))
    faces.append(Face(pose.world([(0, 0.31, 0.68), (0, 1.0, 0.42)]), (140, 140, 144), label, 0, 0.05))
    faces.append(Face(pose.world([(-0.34, 1.03, 0.36), (0.34, 1.03, 0.36)]), black, label, 0, 0.03))
    faces.append(Face(pose.world([(0, 0.5, -0.5), (0, 0.55, 0.3)]), (60, 60, 64), label, 0, 0.16))
    faces.append(Face(pose.world([(0, 0.7, -0.84), (0, 0.78, -0.8)]), (150, 24, 20), label, 2 * light.dark, 0.07))
    faces.append(Face(pose.world([(0, 0.86, 0.62)]), (236, 236, 220), label, 3 * light.dark, 0.1))
    if rng.random() < 0.5:
        shield = [(-0.2, 0.95, 0.5), (0.2, 0.95, 0.5), (0.13, 1.3, 0.4), (-0.13, 1.3, 0.4)]
        faces.append(Face(pose.world(shield), paint if rng.random() < 0.5 else (84, 94, 100), label))
    height = 1.2
    if ridden:
        faces += rider(rng, light, pose, 0.8, 0.38, float(rng.uniform(0.0, 0.15)))
        height = 1.7
    return Thing(faces, pose.footprint(1.0, 0.36), height, 0.8)
