"""Street furniture: lamp posts, signs, traffic lights, bollards, bins, overhead wires."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.labels import Label
from gffnet.streets.mesh import Colour, Face, Pose, Thing

Spots = list[tuple[float, float, float]]
GREYS: list[Colour] = [(112, 114, 116), (78, 82, 84), (140, 142, 142), (52, 64, 58), (60, 60, 62), (96, 92, 84)]


def _disc(radius: float, up: float, corners: int = 16, turn: float = 0.0, ahead: float = -0.05) -> Spots:
    angle = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + turn
    return [(radius * float(np.cos(a)), up + radius * float(np.sin(a)), ahead) for a in angle]


def _plate(x0: float, y0: float, x1: float, y1: float, ahead: float = -0.05) -> Spots:
    return [(x0, y0, ahead), (x1, y0, ahead), (x1, y1, ahead), (x0, y1, ahead)]


def post(rng: Generator, pose: Pose, height: float, radius: float) -> Face:
    """A bare pole."""
    colour = GREYS[int(rng.integers(len(GREYS)))]
    return Face(pose.world([(0, -0.1, 0), (0, height, 0)]), colour, Label.POLE, 0, radius)


def lamp_post(rng: Generator, pose: Pose, towards: int, lit: bool) -> Thing:
    """A street lamp whose arm reaches over the road (`towards` is -1 or +1 along X)."""
    height = float(rng.uniform(5, 9.5))
    pole = post(rng, pose, height, float(rng.uniform(0.06, 0.1)))
    reach = towards * float(rng.uniform(0.6, 2.4))
    faces = [pole, pole._replace(points=pose.world([(0, height, 0), (reach, height + 0.35, 0)]), radius=0.045)]
    head: Colour = (255, 226, 170) if lit else (150, 152, 152)
    lamp = [(reach - towards * 0.1, height + 0.33, 0), (reach + towards * 0.6, height + 0.38, 0)]
    faces.append(Face(pose.world([(a, b, c) for a, b, c in lamp]), head, Label.POLE, 3 if lit else 0, 0.09))
    return Thing(faces, pose.footprint(0.1, 0.1), height, 0.6)


def sign_faces(rng: Generator, pose: Pose, up: float, shade: float) -> list[Face]:
    """One traffic sign on the near side of its pole, its middle at height `up`."""
    label = Label.TRAFFIC_SIGN

    def face(spots: Spots, colour: Colour) -> Face:
        r, g, b = (min(255, int(value * shade)) for value in colour)
        return Face(pose.world(spots), (r, g, b), label)

    size = float(rng.uniform(0.27, 0.42))
    red, white, blue, black = (190, 28, 32), (236, 236, 232), (24, 76, 160), (30, 30, 32)
    kind = int(rng.integers(9))
    if kind == 0:  # limit or ban
        inner = [face(_disc(size, up), red), face(_disc(size * 0.76, up, ahead=-0.06), white)]
        return [*inner, face(_plate(-size * 0.4, up - size * 0.28, size * 0.4, up + size * 0.28, -0.07), black)]
    if kind == 1:  # no stopping
        bar = [(-size * 0.6, up + size * 0.4, -0.07), (-size * 0.4, up + size * 0.6, -0.07),
               (size * 0.6, up - size * 0.4, -0.07), (size * 0.4, up - size * 0.6, -0.07)]  # fmt: skip
        return [face(_disc(size, up), red), face(_disc(size * 0.8, up, ahead=-0.06), blue), face(bar, red)]
    if kind == 2:  # no entry
        return [
            face(_disc(size, up), red),
            face(_plate(-size * 0.65, up - size * 0.17, size * 0.65, up + size * 0.17, -0.06), white),
        ]
    if kind in (3, 4):  # warning, give way
        turn = np.pi / 2 if kind == 3 else -np.pi / 2
        inner = [face(_disc(size * 1.15, up, 3, turn), red), face(_disc(size * 0.75, up, 3, turn, -0.06), white)]
        return inner + (
            [face(_plate(-0.04, up - size * 0.2, 0.04, up + size * 0.35, -0.07), black)] if kind == 3 else []
        )
    if kind == 5:  # priority
        return [face(_disc(size, up, 4), white), face(_disc(size * 0.72, up, 4, 0, -0.06), (238, 190, 30))]
    if kind == 6:  # stop
        turn = np.pi / 8
        return [
            face(_disc(size, up, 8, turn), red),
            face(_plate(-size * 0.6, up - 0.08, size * 0.6, up + 0.08, -0.06), white),
        ]
    if kind == 7:  # blue square: crossing, parking
        half = size * 0.9
        plate = face(_plate(-half, up - half, half, up + half), blue)
        return [plate, face(_disc(half * 0.6, up - half * 0.1, 3, np.pi / 2, -0.06), white)]
    return [face(_disc(size, up), blue), face(_plate(-0.05, up - size * 0.6, 0.05, up + size * 0.6, -0.06), white)]


def signpost(rng: Generator, pose: Pose, shade: float) -> Thing:
    """A pole with one or two signs and sometimes a supplementary plate; or a direction board on two poles."""
    if rng.random() < 0.14:
        return _board(rng, pose, shade)
    up = float(rng.uniform(2.1, 2.9))
    faces = [post(rng, pose, up + 0.35, 0.035), *sign_faces(rng, pose, up, shade)]
    if rng.random() < 0.35:
        faces += sign_faces(rng, pose, up - 0.75, shade)
    elif rng.random() < 0.4:
        v = int(230 * min(shade, 1.05))
        faces.append(Face(pose.world(_plate(-0.3, up - 0.68, 0.3, up - 0.42)), (v, v, v - 4), Label.TRAFFIC_SIGN))
    return Thing(faces, pose.footprint(0.1, 0.1), up, 0.4)


def _board(rng: Generator, pose: Pose, shade: float) -> Thing:
    """A direction board."""
    wide, tall, up = float(rng.uniform(0.8, 1.9)), float(rng.uniform(0.5, 1.4)), float(rng.uniform(1.9, 3))
    tones: list[Colour] = [(28, 80, 160), (238, 196, 40), (236, 236, 232), (30, 110, 70)]
    r, g, b = (min(255, int(value * shade)) for value in tones[int(rng.integers(4))])
    faces = [post(rng, pose._replace(x=pose.x + side * wide * 0.4), up + tall, 0.05) for side in (-1, 1)]
    faces.append(Face(pose.world(_plate(-wide / 2, up, wide / 2, up + tall)), (r, g, b), Label.TRAFFIC_SIGN))
    ink: Colour = (240, 240, 236) if r + g + b < 420 else (30, 30, 34)
    for share in np.arange(0.15, 0.85, 0.25).tolist():
        long = float(rng.uniform(0.15, 0.4)) * wide
        plate = _plate(-wide * 0.42, up + tall * share, -wide * 0.42 + long, up + tall * (share + 0.1), -0.06)
        faces.append(Face(pose.world(plate), ink, Label.TRAFFIC_SIGN))
    return Thing(faces, pose.footprint(0.1, wide / 2), up + tall, 0.5)


def _signal(rng: Generator, pose: Pose, up: float, right: float, state: int) -> list[Face]:
    """A three-lamp signal head hanging at height `up`."""
    label = Label.TRAFFIC_LIGHT
    wide, tall = 0.21, 1.06
    box: Colour = (26, 28, 26) if rng.random() < 0.75 else (196, 160, 40)
    faces = [Face(pose.world(_plate(right - wide, up, right + wide, up + tall, -0.1)), box, label)]
    lamps: list[tuple[Colour, Colour]] = [
        ((255, 48, 36), (76, 22, 20)), ((255, 190, 40), (80, 60, 20)), ((60, 240, 150), (18, 64, 40)),
    ]  # fmt: skip
    for index, (on, off) in enumerate(lamps):
        centre = up + tall - 0.17 - 0.34 * index
        spots = [(right + a, b, -0.12) for a, b, _ in _disc(0.125, centre, 12)]
        faces.append(Face(pose.world(spots), on if state == index else off, label, 3 if state == index else 0))
    return faces


def traffic_light(rng: Generator, pose: Pose, towards: int, state: int, arm: float) -> Thing:
    """A signal on its pole; with `arm` metres of mast arm over the road, a second one hangs from it."""
    height = 3.4 if not arm else 6.0
    pole = post(rng, pose, height, 0.06 if not arm else 0.1)
    faces = [pole]
    if arm:
        faces.append(pole._replace(points=pose.world([(0, height, 0), (towards * arm, height + 0.2, 0)]), radius=0.07))
        for share in (0.92, 0.5) if arm > 4 else (0.92,):
            faces += _signal(rng, pose, height - 0.9, towards * arm * share, state)
        if rng.random() < 0.4:
            board = _plate(towards * arm * 0.25 - 0.5, height - 0.4, towards * arm * 0.25 + 0.5, height + 0.3, -0.1)
            faces.append(Face(pose.world(board), (30, 84, 160), Label.TRAFFIC_SIGN))
    faces += _signal(rng, pose, 2.3, 0.0, state)
    return Thing(faces, pose.footprint(0.12, 0.12), height, 0.5)


def bollard(rng: Generator, pose: Pose) -> Thing:
    """A bollard."""
    tall = float(rng.uniform(0.7, 1.1))
    return Thing([post(rng, pose, tall, 0.055)], pose.footprint(0.1, 0.1), tall, 0.5)


def litter_bin(rng: Generator, pose: Pose) -> Thing:
    """A litter bin or a cabinet, which Cityscapes calls static."""
    tall, wide = float(rng.uniform(0.8, 1.3)), float(rng.uniform(0.25, 0.45))
    r, g, b = (np.array(GREYS[int(rng.integers(len(GREYS)))]) * rng.uniform(0.5, 1.1)).astype(int).tolist()
    front = Face(pose.world(_plate(-wide, 0, wide, tall, -0.2)), (r, g, b), Label.STATIC)
    top = Face(pose.world([(-wide, tall, -0.2), (wide, tall, -0.2), (wide, tall, 0.3), (-wide, tall, 0.3)]),
               (r + 20, g + 20, b + 20), Label.STATIC)  # fmt: skip
    return Thing([top, front], pose.footprint(0.3, wide), tall, 0.8)
