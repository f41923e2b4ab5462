"""People: walking, standing, sitting on two wheels; limbs, clothes, bags, umbrellas."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.mesh import Colour, Face, Pose, Thing

SKIN = [(226, 184, 156), (198, 148, 116), (142, 98, 72), (92, 64, 50), (236, 204, 180)]


class Clothes(NamedTuple):
    """Colours of a person."""

    top: Colour
    legs: Colour
    shoes: Colour
    skin: Colour
    hair: Colour


def clothes(rng: Generator, shade: float) -> Clothes:
    """Draw someone's colours under this brightness."""

    def dyed(low: float, high: float, vivid: float) -> Colour:
        grey = rng.uniform(low, high)
        r, g, b = np.clip((grey + rng.normal(0, vivid, 3)) * shade, 4, 250).astype(int).tolist()
        return (r, g, b)

    skin = np.array(SKIN[int(rng.integers(len(SKIN)))]) * shade
    r, g, b = np.clip(skin, 0, 250).astype(int).tolist()
    top = dyed(22, 170, 22) if rng.random() < 0.8 else dyed(60, 180, 48)
    return Clothes(top, dyed(20, 120, 18), dyed(15, 110, 10), (r, g, b), dyed(15, 120, 14))


def person(rng: Generator, light: Light, pose: Pose) -> Thing:
    """Someone standing or walking at this place."""
    tall = float(np.clip(rng.normal(1.7, 0.12), 1.05, 1.98))
    wear = clothes(rng, light.shade((0, 0.3, -0.95)))
    stride = float(rng.uniform(0.05, 0.38)) if rng.random() < 0.75 else 0.04
    hip, shoulder = tall * 0.51, tall * 0.82
    wide = tall * float(rng.uniform(0.1, 0.135))
    label = Label.PERSON
    faces: list[Face] = []

    def stroke(points: list[tuple[float, float, float]], colour: Colour, radius: float) -> None:
        faces.append(Face(pose.world(points), colour, label, 0, radius))

    swing = stride * (1 if rng.random() < 0.5 else -1)
    for sign in (1, -1):
        foot = sign * swing
        knee = (sign * 0.08, hip * 0.52, foot * 0.55 + 0.06)
        stroke([(sign * 0.07, hip, 0), knee, (sign * 0.09, 0.07, foot)], wear.legs, tall * 0.042)
        stroke([(sign * 0.09, 0.05, foot - 0.05), (sign * 0.09, 0.05, foot + 0.16)], wear.shoes, 0.05)
    arm = _dark(wear.top, 0.85)
    stroke(
        [(-wide, shoulder, 0), (-wide - 0.07, hip + 0.16, swing * 0.5), (-wide - 0.03, hip - 0.02, swing * 0.9)],
        arm,
        0.05,
    )
    torso = [(-wide, shoulder), (wide, shoulder), (wide * 0.82, hip - 0.05), (-wide * 0.82, hip - 0.05)]
    long = float(rng.uniform(0.1, 0.42)) if rng.random() < 0.3 else 0.0
    if long:
        torso[2:] = [(wide * 1.1, hip - long), (-wide * 1.1, hip - long)]
    faces.append(Face(pose.world([(x, y, 0) for x, y in torso]), wear.top, label))
    stroke([(0, shoulder - 0.07, 0), (0, hip, 0)], wear.top, wide * 0.78)
    stroke(
        [(wide, shoulder, 0), (wide + 0.07, hip + 0.16, -swing * 0.5), (wide + 0.03, hip - 0.02, -swing * 0.9)],
        arm,
        0.05,
    )
    stroke([(0, shoulder, 0), (0, tall * 0.88, 0)], wear.skin, 0.055)
    _head(rng, pose, wear, tall, label, faces)
    if rng.random() < 0.35:
        bag = [(wide + 0.1, hip + 0.1, -0.1), (wide + 0.12, hip - 0.16, -0.1)]
        if rng.random() < 0.5:
            bag = [(0, shoulder - 0.1, -0.17), (0, hip + 0.14, -0.18)]
        stroke(bag, _dark(wear.shoes, 1.4), 0.12)
    if light.wet > 0.4 and rng.random() < 0.4:
        _umbrella(rng, pose, tall, label, faces)
    return Thing(faces, pose.footprint(0.2, 0.2), tall, 1.0, 0.12)


def rider(rng: Generator, light: Light, pose: Pose, seat: float, reach: float, bent: float) -> list[Face]:
    """Someone sitting at height `seat`, hands `reach` ahead, the back leaning forward by `bent` metres."""
    wear = clothes(rng, light.shade((0, 0.3, -0.95)))
    label = Label.RIDER
    shoulder = seat + 0.52
    turn = float(rng.uniform(0, 6.28))
    faces: list[Face] = []
    for sign in (1, -1):
        pedal = (
            sign * 0.12,
            0.28 + 0.15 * np.sin(turn + 3.14 * (sign > 0)),
            0.25 + 0.15 * np.cos(turn + 3.14 * (sign > 0)),
        )
        knee = (sign * 0.13, (seat + pedal[1]) / 2 + 0.08, pedal[2] + 0.2)
        faces.append(Face(pose.world([(sign * 0.08, seat, 0), knee, pedal]), wear.legs, label, 0, 0.075))
        faces.append(
            Face(pose.world([pedal, (pedal[0], pedal[1] - 0.02, pedal[2] + 0.18)]), wear.shoes, label, 0, 0.05)
        )
    faces.append(Face(pose.world([(0, seat + 0.06, 0.02), (0, shoulder, bent)]), wear.top, label, 0, 0.19))
    for sign in (1, -1):
        points = [
            (sign * 0.2, shoulder + 0.05, bent),
            (sign * 0.26, seat + 0.3, bent + 0.2),
            (sign * 0.22, seat + 0.18, reach),
        ]
        faces.append(Face(pose.world(points), _dark(wear.top, 0.85), label, 0, 0.055))
    faces.append(Face(pose.world([(0, shoulder + 0.3, bent + 0.06)]), wear.skin, label, 0, 0.11))
    helmet = rng.random() < 0.6
    faces.append(
        Face(pose.world([(0, shoulder + 0.36, bent + 0.04)]), wear.shoes if helmet else wear.hair, label, 0, 0.11)
    )
    return faces


def _head(rng: Generator, pose: Pose, wear: Clothes, tall: float, label: int, faces: list[Face]) -> None:
    away = -0.05 if np.cos(pose.heading) > 0 else 0.05
    faces.append(Face(pose.world([(0, tall - 0.12, 0)]), wear.skin, label, 0, 0.105))
    if np.cos(pose.heading) > -0.3:
        faces.append(Face(pose.world([(0, tall - 0.11, away)]), wear.hair, label, 0, 0.11))
    else:
        points = pose.world([(-0.07, tall - 0.05, away), (0.07, tall - 0.05, away)])
        faces.append(Face(points, wear.hair, label, 0, 0.06))
    if rng.random() < 0.2:
        faces.append(Face(pose.world([(0, tall - 0.02, 0)]), wear.top, label, 0, 0.09))


def _umbrella(rng: Generator, pose: Pose, tall: float, label: int, faces: list[Face]) -> None:
    r, g, b = rng.integers(20, 200, 3).tolist()
    rim = [(0.55 * np.cos(a), tall + 0.08 + 0.3 * max(0.0, np.sin(a)), 0.0) for a in np.linspace(0, np.pi, 9)]
    faces.append(Face(pose.world([(0.1, tall * 0.65, 0), (0.05, tall + 0.3, 0)]), (40, 40, 42), label, 0, 0.015))
    flat = Pose(pose.x, pose.y, pose.z - 0.05)
    faces.append(Face(flat.world(rim), (r, g, b), label))


def _dark(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255, int(value * factor)) for value in colour)
    return (r, g, b)
