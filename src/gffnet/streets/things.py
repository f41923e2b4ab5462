"""People, bicycles and motorcycles, trees, street furniture."""

from functools import cache

import numpy as np
from numpy.random import Generator

from gffnet.streets.layout import Scene
from gffnet.streets.noise import choose, floats, noise
from gffnet.streets.render import Canvas, Color, Face, Label, Mesh, Points, Pose, Thing, Triple, shaded

SKINS: tuple[Color, ...] = ((226, 184, 156), (198, 148, 116), (142, 98, 72), (92, 64, 50), (236, 204, 180))
METALS: tuple[Color, ...] = (
    (112, 114, 116), (78, 82, 84), (140, 142, 142), (52, 64, 58), (60, 60, 62), (96, 92, 84),
)  # fmt: skip


# People


class Clothes:
    """Colors of a person under a brightness."""

    def __init__(self, rng: Generator, shade: float) -> None:
        def dyed(low: float, high: float, vivid: float) -> Color:
            gray = rng.uniform(low, high)
            return shaded(np.clip((gray + rng.normal(0, vivid, 3)) * shade, 4, 250))

        self.skin = shaded(np.clip(np.array(choose(rng, SKINS)) * shade, 0, 250))
        self.top = dyed(22, 170, 22) if rng.random() < 0.8 else dyed(60, 180, 48)
        self.sleeves = shaded(self.top, 0.85)
        self.legs, self.shoes, self.hair = dyed(20, 120, 18), dyed(15, 110, 10), dyed(15, 120, 14)


def person(scene: Scene, pose: Pose) -> Thing:
    """A person standing or walking."""
    rng, mesh = scene.rng, Mesh(pose, Label.PERSON)
    tall = float(np.clip(rng.normal(1.7, 0.12), 1.05, 1.98))
    wear = Clothes(rng, scene.light.shade((0, 0.3, -0.95)))
    stride = rng.uniform(0.05, 0.38) if rng.random() < 0.75 else 0.04
    hip, shoulder, wide = tall * 0.51, tall * 0.82, tall * rng.uniform(0.1, 0.135)
    swing = stride * (1 if rng.random() < 0.5 else -1)

    def arm(sign: int) -> None:
        elbow, hand = (sign * (wide + 0.07), hip + 0.16), (sign * (wide + 0.03), hip - 0.02)
        points = [(sign * wide, shoulder, 0), (*elbow, -sign * swing * 0.5), (*hand, -sign * swing * 0.9)]
        mesh.stroke(points, wear.sleeves, 0.05)

    for sign in (1, -1):
        foot = sign * swing
        knee = (sign * 0.08, hip * 0.52, foot * 0.55 + 0.06)
        mesh.stroke([(sign * 0.07, hip, 0), knee, (sign * 0.09, 0.07, foot)], wear.legs, tall * 0.042)
        mesh.stroke([(sign * 0.09, 0.05, foot - 0.05), (sign * 0.09, 0.05, foot + 0.16)], wear.shoes, 0.05)
    arm(-1)
    hem, low = wide * 0.82, hip - 0.05
    if rng.random() < 0.3:  # a coat
        hem, low = wide * 1.1, hip - rng.uniform(0.1, 0.42)
    mesh.polygon([(-wide, shoulder, 0), (wide, shoulder, 0), (hem, low, 0), (-hem, low, 0)], wear.top)
    mesh.stroke([(0, shoulder - 0.07, 0), (0, hip, 0)], wear.top, wide * 0.78)
    arm(1)
    mesh.stroke([(0, shoulder, 0), (0, tall * 0.88, 0)], wear.skin, 0.055)
    back = -0.05 if np.cos(pose.heading) > 0 else 0.05
    mesh.stroke([(0, tall - 0.12, 0)], wear.skin, 0.105)
    if np.cos(pose.heading) > -0.3:
        mesh.stroke([(0, tall - 0.11, back)], wear.hair, 0.11)
    else:
        mesh.stroke([(-0.07, tall - 0.05, back), (0.07, tall - 0.05, back)], wear.hair, 0.06)
    if rng.random() < 0.2:  # a cap
        mesh.stroke([(0, tall - 0.02, 0)], wear.top, 0.09)
    if rng.random() < 0.35:
        bag: list[Triple] = [(wide + 0.1, hip + 0.1, -0.1), (wide + 0.12, hip - 0.16, -0.1)]
        if rng.random() < 0.5:
            bag = [(0, shoulder - 0.1, -0.17), (0, hip + 0.14, -0.18)]
        mesh.stroke(bag, shaded(wear.shoes, 1.4), 0.12)
    if scene.light.wet > 0.4 and rng.random() < 0.4:
        umbrella = shaded(rng.integers(20, 200, 3))
        mesh.stroke([(0.1, tall * 0.65, 0), (0.05, tall + 0.3, 0)], (40, 40, 42), 0.015)
        facing = Mesh(Pose(pose.x, pose.y, pose.z - 0.05), Label.PERSON)
        angles = np.linspace(0, np.pi, 9)
        facing.polygon([(0.55 * np.cos(a), tall + 0.08 + 0.3 * max(0.0, np.sin(a)), 0) for a in angles], umbrella)
        mesh.faces += facing.faces
    return Thing(mesh.faces, pose.footprint(0.2, 0.2), tall, 1.0, 0.12)


def _rider(scene: Scene, pose: Pose, seat: float, reach: float, bent: float) -> list[Face]:
    """A person sitting at height `seat`, hands `reach` ahead, the back leaning forward by `bent` metres."""
    mesh, wear = Mesh(pose, Label.RIDER), Clothes(scene.rng, scene.light.shade((0, 0.3, -0.95)))
    shoulder, turn = seat + 0.52, scene.rng.uniform(0, 6.28)
    for sign in (1, -1):
        angle = turn + 3.14 * (sign > 0)
        pedal = (sign * 0.12, 0.28 + 0.15 * np.sin(angle), 0.25 + 0.15 * np.cos(angle))
        knee = (sign * 0.13, (seat + pedal[1]) / 2 + 0.08, pedal[2] + 0.2)
        mesh.stroke([(sign * 0.08, seat, 0), knee, pedal], wear.legs, 0.075)
        mesh.stroke([pedal, (pedal[0], pedal[1] - 0.02, pedal[2] + 0.18)], wear.shoes, 0.05)
    mesh.stroke([(0, seat + 0.06, 0.02), (0, shoulder, bent)], wear.top, 0.19)
    for sign in (1, -1):
        elbow, hand = (sign * 0.26, seat + 0.3, bent + 0.2), (sign * 0.22, seat + 0.18, reach)
        mesh.stroke([(sign * 0.2, shoulder + 0.05, bent), elbow, hand], wear.sleeves, 0.055)
    mesh.stroke([(0, shoulder + 0.3, bent + 0.06)], wear.skin, 0.11)
    helmet = scene.rng.random() < 0.6
    mesh.stroke([(0, shoulder + 0.36, bent + 0.04)], wear.shoes if helmet else wear.hair, 0.11)
    return mesh.faces


# Cycles


def _wheel(ahead: float, radius: float, up: float) -> Points:
    """A circle in the plane of travel, closed."""
    angle = np.linspace(0, 2 * np.pi, 17)
    return np.stack([np.zeros(17), up + radius * np.sin(angle), ahead + radius * np.cos(angle)], axis=1)


def bicycle(scene: Scene, pose: Pose, ridden: bool) -> Thing:
    """A bicycle, with its rider if it is ridden."""
    rng, mesh, black = scene.rng, Mesh(pose, Label.BICYCLE), (24, 24, 26)
    paint = shaded(rng.uniform(20, 210, 3), scene.light.shade((0, 0.2, -0.97)))
    lean = 0.0 if ridden else rng.normal(0, 0.08)
    for ahead in (-0.52, 0.54):
        mesh.stroke(_wheel(ahead, 0.33, 0.34), black, 0.028)
        for angle in np.linspace(0, np.pi, 4)[:-1]:
            dx, dy = 0.31 * np.cos(angle), 0.31 * np.sin(angle)
            mesh.stroke([(0, 0.34 - dy, ahead - dx), (0, 0.34 + dy, ahead + dx)], (120, 120, 122), 0.006)
    tubes: list[list[Triple]] = [
        [(0, 0.34, -0.52), (0, 0.34, -0.05), (lean, 0.85, -0.2), (0, 0.34, -0.52)],
        [(lean, 0.8, -0.2), (lean, 0.85, 0.36), (0, 0.34, -0.05)],
        [(lean, 1.0, 0.34), (0, 0.34, 0.54)],
    ]
    for tube in tubes:
        mesh.stroke(tube, paint, 0.026)
    mesh.stroke([(lean, 0.9, -0.32), (lean, 0.92, -0.1)], black, 0.045)
    mesh.stroke([(lean - 0.27, 1.03, 0.3), (lean + 0.27, 1.03, 0.3)], black, 0.022)
    if rng.random() < 0.3:
        basket = ((-0.15, 0.72, 0.5), (0.15, 0.72, 0.5), (0.17, 0.96, 0.55), (-0.17, 0.96, 0.55))
        mesh.polygon([(lean + right, up, ahead) for right, up, ahead in basket], (70, 60, 52))
    if ridden:
        mesh.faces += _rider(scene, pose, 0.95, 0.32, rng.uniform(0.08, 0.35))
    return Thing(mesh.faces, pose.footprint(0.85, 0.3), 1.8 if ridden else 1.05, 0.6)


def motorcycle(scene: Scene, pose: Pose, ridden: bool) -> Thing:
    """A motorcycle or scooter, with its rider if it is ridden."""
    rng, mesh, black, dark = scene.rng, Mesh(pose, Label.MOTORCYCLE), (26, 26, 28), scene.light.dark
    paint = shaded(rng.uniform(15, 200, 3), scene.light.shade((0, 0.2, -0.97)))
    for ahead in (-0.62, 0.68):
        mesh.stroke(_wheel(ahead, 0.27, 0.31), black, 0.075)
        mesh.stroke(_wheel(ahead, 0.1, 0.31), (120, 120, 124), 0.05)
    engine = ((0.25, -0.3), (0.3, 0.32), (0.62, 0.35), (0.62, -0.35))
    tank = ((0.6, -0.1), (0.62, 0.45), (0.95, 0.42), (0.92, 0.1), (0.72, -0.1))
    tail = ((0.6, -0.85), (0.62, 0.0), (0.8, 0.0), (0.84, -0.85))
    for right in (-0.14, 0.0, 0.14):
        for part, color in ((engine, (70, 70, 74)), (tank, paint), (tail, black if right else paint)):
            mesh.polygon([(right, *point) for point in part], color)
    mesh.stroke([(0, 0.31, 0.68), (0, 1.0, 0.42)], (140, 140, 144), 0.05)
    mesh.stroke([(-0.34, 1.03, 0.36), (0.34, 1.03, 0.36)], black, 0.03)
    mesh.stroke([(0, 0.5, -0.5), (0, 0.55, 0.3)], (60, 60, 64), 0.16)
    mesh.stroke([(0, 0.7, -0.84), (0, 0.78, -0.8)], (150, 24, 20), 0.07, 2 * dark)
    mesh.stroke([(0, 0.86, 0.62)], (236, 236, 220), 0.1, 3 * dark)
    if rng.random() < 0.5:
        shield = [(-0.2, 0.95, 0.5), (0.2, 0.95, 0.5), (0.13, 1.3, 0.4), (-0.13, 1.3, 0.4)]
        mesh.polygon(shield, paint if rng.random() < 0.5 else (84, 94, 100))
    if ridden:
        mesh.faces += _rider(scene, pose, 0.8, 0.38, rng.uniform(0.0, 0.15))
    return Thing(mesh.faces, pose.footprint(1.0, 0.36), 1.7 if ridden else 1.2, 0.8)


# Trees


class Tree(Thing):
    """A trunk with branches, made of faces, and a crown of leaf clumps with a ragged outline and holes.

    A `bare` tree has no leaves, a `bush` no trunk. `clumps` (N, 4) are each clump's offset right and up from the foot
    and its radii, in metres; `spread` is the radius of the crown.
    """

    def __init__(self, scene: Scene, pose: Pose, height: float, bare: bool, bush: bool = False) -> None:
        rng, light, mesh = scene.rng, scene.light, Mesh(pose, Label.VEGETATION)
        bark = shaded(np.array([86, 74, 62]) * rng.uniform(0.6, 1.25) * light.shade((0, 0, -1)))
        fork = 0.0
        if not bush:
            fork = height * rng.uniform(0.22, 0.4)
            self._add_branches(mesh, rng, height, fork, bark, bare)
        super().__init__(mesh.faces, pose.footprint(0.2, 0.2), height, 0.45 if bare else 0.9)
        self.pose = pose
        count, crown = int(rng.integers(3, 9)), height - fork
        spread = height * rng.uniform(0.2, 0.36) * (1.7 if bush else 1)
        self.clumps = np.zeros((0 if bare else count, 4))
        conifer = not bush and rng.random() < 0.15
        for i in range(len(self.clumps)):
            angle, out = rng.uniform(0, 6.28), np.sqrt(rng.uniform(0, 1)) * 0.75
            x, y = spread * out * np.cos(angle), (height + fork) / 2 + crown * 0.36 * out * np.sin(angle)
            wide = spread * rng.uniform(0.4, 0.75)
            if conifer:
                share = (i + 0.5) / count
                x, y, wide = 0, fork + crown * share, spread * 0.8 * (1.05 - share)
            self.clumps[i] = x, y, wide, crown * rng.uniform(0.2, 0.34)
        self.spread = 0.4 if bare else float(self.clumps[:, 2].max())
        shade = 0.55 + 0.45 * light.shade((-0.3 if light.sun[0] < 0 else 0.3, 0.6, -0.7))
        autumn = np.array([1.5, 1.0, 0.55]) if rng.random() < 0.1 else np.ones(3)
        green = np.array([74, 98, 44]) * autumn * rng.uniform(0.55, 1.35) * shade + rng.normal(0, 7, 3)
        self.green = floats(np.clip(green, 12, 220))
        self.ragged, self.key = rng.uniform(0.25, 0.75), rng.uniform(0, 512)
        self.sunlit = 0.5 * light.strength * light.sun[0]

    @staticmethod
    def _add_branches(mesh: Mesh, rng: Generator, height: float, fork: float, bark: Color, bare: bool) -> None:
        """Add the trunk and its branches as strokes: three generations of them, one under leaves."""
        thick, lean = height * rng.uniform(0.014, 0.026), rng.normal(0, 0.03) * height
        mesh.stroke([(0, -0.1, 0), (lean * 0.4, fork, 0)], bark, thick)
        tips = [(lean * 0.4, fork, lean, height * (0.9 if bare else 0.7), thick * 0.7)]
        for _ in range(3 if bare else 1):
            grown = []
            for x0, y0, x1, y1, wide in tips:
                mesh.stroke([(x0, y0, 0), (x1, y1, 0)], bark, max(wide, 0.012))
                for _ in range(4 if bare else 3):
                    share = rng.uniform(0.15, 0.95)
                    x, y = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
                    reach = np.hypot(x1 - x0, y1 - y0) * rng.uniform(0.4, 0.75)
                    angle = np.arctan2(x1 - x0, y1 - y0) + choose(rng, (-1, 1)) * rng.uniform(0.3, 0.9)
                    grown.append((x, y, x + reach * np.sin(angle), y + reach * np.cos(angle), wide * 0.5))
            tips = grown

    def paint(self, canvas: Canvas) -> None:
        """Paint the trunk, then the crown on an upright plane."""
        super().paint(canvas)
        pose, clumps, z = self.pose, self.clumps, self.pose.z - 0.1
        if not len(clumps) or z < 2.5:
            return
        left, bottom = (clumps[:, :2] - clumps[:, 2:] * 1.3).min(0)
        right, top = (clumps[:, :2] + clumps[:, 2:] * 1.3).max(0)
        corners = [(pose.x + a, pose.y + b, z) for a in (left, right) for b in (bottom, top)]
        outline = canvas.camera.project(np.array(corners))
        box = canvas.box(*outline.min(0), *outline.max(0))
        if box is None:
            return
        rx, ry = (ray[box] for ray in canvas.camera.rays)
        a = rx * np.float32(z) - np.float32(pose.x)
        b = np.float32(canvas.camera.height - pose.y) + ry * np.float32(z)
        field = np.full(a.shape, -9, np.float32)
        for x, y, wide, tall in floats(clumps):
            field = np.maximum(field, 1 - np.square((a - x) / wide) - np.square((b - y) / tall))
        coarse, fine = noise(a * 26 + self.key, b * 26, 1.1, 10), noise(a * 60 + self.key, b * 60, 0.6, 11)
        mask = (field + self.ragged * (0.5 * coarse + 0.35 * fine) > 0.18) & (z < canvas.depth[box])
        if not mask.any():
            return
        lit = 0.45 + 0.55 * np.clip((b - bottom) / (top - bottom), 0, 1) + self.sunlit * (a / (right - left))
        detail = min(1.0, 0.05 * canvas.camera.focal / z)
        color = self.green * (lit * (1 + 0.17 * coarse + detail * 0.2 * fine))[..., None]
        color[..., 0] += 9 * coarse
        canvas.write(box, mask, np.clip(color, 0, 255).astype(np.uint8), Label.VEGETATION, z)


# Street furniture


@cache
def _circle(corners: int, turn: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + turn
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _disc(radius: float, corners: int = 16, turn: float = 0.0) -> Points:
    """A regular polygon (N, 2) around 0."""
    return radius * _circle(corners, turn)


def _plate(x0: float, y0: float, x1: float, y1: float) -> Points:
    """A rectangle (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _upright(outline: Points, ahead: float = -0.05, right: float = 0.0, up: float = 0.0) -> Points:
    """An outline (N, 2) on an upright plane (N, 3), moved by `right` and `up`."""
    return np.column_stack([right + outline[:, 0], up + outline[:, 1], np.full(len(outline), ahead)])


def _pole(rng: Generator, pose: Pose, height: float, radius: float) -> tuple[Mesh, Color]:
    """A mesh that begins with a bare pole, and the pole's color."""
    mesh, color = Mesh(pose, Label.POLE), choose(rng, METALS)
    mesh.stroke([(0, -0.1, 0), (0, height, 0)], color, radius)
    return mesh, color


def post(rng: Generator, pose: Pose, height: float, radius: float, opacity: float = 1.0) -> Thing:
    """A bare pole, such as a bollard."""
    return Thing(_pole(rng, pose, height, radius)[0].faces, pose.footprint(0.1, 0.1), height, opacity)


def lamp_post(scene: Scene, pose: Pose, towards: int) -> Thing:
    """A street lamp whose arm reaches over the road (`towards` is -1 or +1 along X)."""
    rng, lit, height = scene.rng, scene.light.dark, scene.rng.uniform(5, 9.5)
    mesh, color = _pole(rng, pose, height, rng.uniform(0.06, 0.1))
    reach = towards * rng.uniform(0.6, 2.4)
    mesh.stroke([(0, height, 0), (reach, height + 0.35, 0)], color, 0.045)
    lamp = [(reach - towards * 0.1, height + 0.33, 0), (reach + towards * 0.6, height + 0.38, 0)]
    mesh.stroke(lamp, (255, 226, 170) if lit else (150, 152, 152), 0.09, 3 * lit)
    return Thing(mesh.faces, pose.footprint(0.1, 0.1), height, 0.6)


def _add_sign(mesh: Mesh, rng: Generator, up: float, shade: float) -> None:
    """Add a traffic sign on the near side of its pole, its centre at height `up`."""
    red, white, blue, yellow, black = (190, 28, 32), (236, 236, 232), (24, 76, 160), (238, 190, 30), (30, 30, 32)
    size = rng.uniform(0.27, 0.42)
    half = size * 0.9
    tip, foot = np.pi / 2, -np.pi / 2
    bar = size * np.array([(-0.6, 0.4), (-0.4, 0.6), (0.6, -0.4), (0.4, -0.6)])
    sign = choose(
        rng,
        [
            [  # speed limit
                (_disc(size), red),
                (_disc(size * 0.76), white),
                (_plate(-size * 0.4, -size * 0.28, size * 0.4, size * 0.28), black),
            ],
            [(_disc(size), red), (_disc(size * 0.8), blue), (bar, red)],  # no stopping
            [(_disc(size), red), (_plate(-size * 0.65, -size * 0.17, size * 0.65, size * 0.17), white)],  # no entry
            [  # warning
                (_disc(size * 1.15, 3, tip), red),
                (_disc(size * 0.75, 3, tip), white),
                (_plate(-0.04, -size * 0.2, 0.04, size * 0.35), black),
            ],
            [(_disc(size * 1.15, 3, foot), red), (_disc(size * 0.75, 3, foot), white)],  # give way
            [(_disc(size, 4), white), (_disc(size * 0.72, 4), yellow)],  # priority road
            [(_disc(size, 8, np.pi / 8), red), (_plate(-size * 0.6, -0.08, size * 0.6, 0.08), white)],  # stop
            [(_plate(-half, -half, half, half), blue), (_disc(half * 0.6, 3, tip) - (0, half * 0.1), white)],  # parking
            [(_disc(size), blue), (_plate(-0.05, -size * 0.6, 0.05, size * 0.6), white)],  # ahead only
        ],
    )
    for (outline, color), ahead in zip(sign, (-0.05, -0.06, -0.07), strict=False):
        mesh.polygon(_upright(outline, ahead, up=up), shaded(color, shade), label=Label.TRAFFIC_SIGN)


def signpost(scene: Scene, pose: Pose) -> Thing:
    """A pole with one or two signs and sometimes a supplementary plate; or a direction board on two poles."""
    rng, shade = scene.rng, scene.light.shade((0, 0, -1))
    if rng.random() < 0.14:
        return _direction_board(rng, pose, shade)
    up = rng.uniform(2.1, 2.9)
    mesh, _ = _pole(rng, pose, up + 0.35, 0.035)
    _add_sign(mesh, rng, up, shade)
    if rng.random() < 0.35:
        _add_sign(mesh, rng, up - 0.75, shade)
    elif rng.random() < 0.4:
        v = int(230 * min(shade, 1.05))
        mesh.polygon(_upright(_plate(-0.3, up - 0.68, 0.3, up - 0.42)), (v, v, v - 4), label=Label.TRAFFIC_SIGN)
    return Thing(mesh.faces, pose.footprint(0.1, 0.1), up, 0.4)


def _direction_board(rng: Generator, pose: Pose, shade: float) -> Thing:
    wide, tall, up = rng.uniform(0.8, 1.9), rng.uniform(0.5, 1.4), rng.uniform(1.9, 3)
    color = shaded(choose(rng, ((28, 80, 160), (238, 196, 40), (236, 236, 232), (30, 110, 70))), shade)
    left, right = (_pole(rng, pose._replace(x=pose.x + side * wide * 0.4), up + tall, 0.05)[0] for side in (-1, 1))
    mesh = Mesh(pose, Label.TRAFFIC_SIGN)
    mesh.polygon(_upright(_plate(-wide / 2, up, wide / 2, up + tall)), color)
    ink = (240, 240, 236) if sum(color) < 420 else (30, 30, 34)
    for share in np.arange(0.15, 0.85, 0.25).tolist():
        end = -wide * 0.42 + rng.uniform(0.15, 0.4) * wide
        line = _plate(-wide * 0.42, up + tall * share, end, up + tall * (share + 0.1))
        mesh.polygon(_upright(line, -0.06), ink)
    return Thing(left.faces + right.faces + mesh.faces, pose.footprint(0.1, wide / 2), up + tall, 0.5)


def traffic_light(rng: Generator, pose: Pose, towards: int, state: int, arm: float) -> Thing:
    """A signal on its pole; with `arm` metres of mast arm over the road, more of them hang from it."""
    height = 6.0 if arm else 3.4
    mesh, color = _pole(rng, pose, height, 0.1 if arm else 0.06)
    lamps = (((255, 48, 36), (76, 22, 20)), ((255, 190, 40), (80, 60, 20)), ((60, 240, 150), (18, 64, 40)))

    def add_head(up: float, right: float) -> None:
        """Add a head with three lamps, red, amber and green, its lower edge at height `up`."""
        box = (26, 28, 26) if rng.random() < 0.75 else (196, 160, 40)
        plate = _plate(right - 0.21, up, right + 0.21, up + 1.06)
        mesh.polygon(_upright(plate, -0.1), box, label=Label.TRAFFIC_LIGHT)
        for index, (on, off) in enumerate(lamps):
            lamp, lit = _upright(_disc(0.125, 12), -0.12, right, up + 1.06 - 0.17 - 0.34 * index), state == index
            mesh.polygon(lamp, on if lit else off, 3 * lit, Label.TRAFFIC_LIGHT)

    if arm:
        mesh.stroke([(0, height, 0), (towards * arm, height + 0.2, 0)], color, 0.07)
        for share in (0.92, 0.5) if arm > 4 else (0.92,):
            add_head(height - 0.9, towards * arm * share)
        if rng.random() < 0.4:
            center = towards * arm * 0.25
            board = _plate(center - 0.5, height - 0.4, center + 0.5, height + 0.3)
            mesh.polygon(_upright(board, -0.1), (30, 84, 160), label=Label.TRAFFIC_SIGN)
    add_head(2.3, 0.0)
    return Thing(mesh.faces, pose.footprint(0.12, 0.12), height, 0.5)


def litter_bin(rng: Generator, pose: Pose) -> Thing:
    """A litter bin or a cabinet, which Cityscapes labels `static`."""
    tall, wide, mesh = rng.uniform(0.8, 1.3), rng.uniform(0.25, 0.45), Mesh(pose, Label.STATIC)
    r, g, b = shaded(choose(rng, METALS), rng.uniform(0.5, 1.1))
    top = [(-wide, tall, -0.2), (wide, tall, -0.2), (wide, tall, 0.3), (-wide, tall, 0.3)]
    mesh.polygon(top, (r + 20, g + 20, b + 20))
    mesh.polygon(_upright(_plate(-wide, 0, wide, tall), -0.2), (r, g, b))
    return Thing(mesh.faces, pose.footprint(0.3, wide), tall, 0.8)
