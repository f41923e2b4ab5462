"""Where things stand: traffic, parked vehicles, people, trees, street furniture and overhead wires."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gffnet.streets import things, vehicles
from gffnet.streets.layout import Scene, Side
from gffnet.streets.noise import choose
from gffnet.streets.render import NO_CLASS, Face, Footprint, Pose, Thing

TRAFFIC = {"car": 0.68, "truck": 0.05, "bus": 0.06, "motorcycle": 0.12, "bicycle": 0.21}
TRAMS = 0.3  # the trams' weight beside these, where there are rails
TREES = {"trees": 5, "garden": 3, "hedge": 2, "open": 2, "wall": 2, "fence": 2}  # at most, in a lot
WALKERS = {"city": 8.0, "suburb": 2.5, "park": 3.5, "works": 2.0}


def populate(scene: Scene) -> list[Thing]:
    """Fill a street with things, far ones first; put up its lamps."""
    return sorted(_things(scene), key=lambda thing: -thing.footprint.z)


def _things(scene: Scene) -> Iterator[Thing]:
    yield from _traffic(scene)
    yield from _cross_traffic(scene)
    for side in scene.layout.sides:
        yield from _parked_vehicles(scene, side)
        yield from _lamp_posts(scene, side)
        yield from _signs_and_bins(scene, side)
        yield from _trees(scene, side)
        yield from _walkers(scene, side)
        yield from _parked_cycles(scene, side)
    yield from _traffic_lights(scene)
    yield from _wires(scene)


def _vehicle(scene: Scene, pose: Pose, rails: bool = False) -> tuple[Thing, float]:
    """A moving vehicle, and the metres that it takes up ahead of its pose."""
    kind = choose(scene.rng, [*TRAFFIC, "tram"], [*TRAFFIC.values(), TRAMS if rails else 0.0])
    sin, cos, dark = np.sin(pose.heading), np.cos(pose.heading), scene.light.dark
    away = 1 if cos > -0.1 else -1

    def moved(by: float) -> Pose:
        return pose._replace(x=pose.x + by * float(sin * away), z=pose.z + by * float(cos * away))

    match kind:
        case "truck":
            return vehicles.truck(scene, moved(3), dark), 8.0
        case "bus":
            return vehicles.bus(scene, moved(4), dark), 10.0
        case "tram":
            return vehicles.tram(scene, moved(13), dark), 30.0
        case "motorcycle":
            return things.motorcycle(scene, pose, True), 2.0
        case "bicycle":
            return things.bicycle(scene, pose, True), 2.0
        case _:
            return vehicles.car(scene, pose, dark), 3.0


def _traffic(scene: Scene) -> Iterator[Thing]:
    """Vehicles in the lanes, both ways."""
    rng, layout = scene.rng, scene.layout
    density = rng.uniform(0.15, 1.2)
    for lane in layout.lanes:
        own = abs(layout.x(lane.t, 0.0)) < 1.6
        z = rng.uniform(10, 55) if own else rng.uniform(4, 40)
        while z < scene.reach(150):
            pose = scene.pose(lane.t + rng.normal(0, 0.2), z, 0.0 if lane.direction > 0 else np.pi)
            thing, room = _vehicle(scene, pose, lane.t in layout.rails)
            yield thing
            z += room + 3 + rng.exponential(28 / density)


def _cross_traffic(scene: Scene) -> Iterator[Thing]:
    """Vehicles on the cross streets, people on the zebra crossings."""
    rng, layout = scene.rng, scene.layout
    left, right = layout.sides
    for z0, z1 in layout.crossings:
        for sign, share in ((1, 0.28), (-1, 0.72)):
            z, t = z0 + (z1 - z0) * share, rng.uniform(-22, 22)
            while rng.random() < 0.5:
                if abs(layout.x(t, z)) > 3 or z > 16:
                    yield _vehicle(scene, scene.pose(t, z, sign * np.pi / 2))[0]
                t += rng.uniform(6, 18)
        for _ in range(rng.integers(0, 6)):
            t, z = rng.uniform(0, left.kerb + right.kerb) - left.kerb, z0 - rng.uniform(1.6, 4.2)
            yield things.person(scene, scene.pose(t, z, choose(rng, (-1, 1)) * np.pi / 2))


def _parked_vehicles(scene: Scene, side: Side) -> Iterator[Thing]:
    """Vehicles in the parking lane."""
    if not side.parking:
        return
    rng = scene.rng
    density, z = rng.uniform(0.2, 0.9), rng.uniform(3, 18)
    while z < scene.reach(130):
        if rng.random() < density and not scene.layout.in_crossing(z, 6):
            t = side.sign * (side.kerb - side.parking / 2 + rng.normal(0, 0.1))
            turned = np.pi if rng.random() < 0.12 else 0.0
            pose = scene.pose(t, z, (0.0 if side.sign > 0 else np.pi) + turned + rng.normal(0, 0.02))
            kind = rng.random()
            if kind < 0.95:
                yield vehicles.car(scene, pose, False)
            elif kind < 0.965:
                yield vehicles.truck(scene, pose._replace(z=z + 2), False)
                z += 5
            else:
                yield things.motorcycle(scene, pose, False)
        z += rng.uniform(5.0, 6.6)


def _lamp_posts(scene: Scene, side: Side) -> Iterator[Thing]:
    """A row of street lamps, on most streets."""
    t, z, gap = side.sign * (side.kerb + 0.45), scene.rng.uniform(4, 22), scene.rng.uniform(16, 34)
    if scene.rng.random() < 0.25:
        return
    while z < scene.reach(150):
        if not scene.layout.in_crossing(z, 1):
            yield things.lamp_post(scene, scene.upright(t, z), -side.sign)
            scene.lamps.append((scene.layout.x(t - side.sign * 1.5, z), 6.5, z))
        z += gap


def _signs_and_bins(scene: Scene, side: Side) -> Iterator[Thing]:
    """Traffic signs, a row of bollards, bins."""
    rng, layout = scene.rng, scene.layout
    z = rng.uniform(4, 18)
    while z < scene.reach(120):
        if not layout.in_crossing(z, 0.5):
            yield things.signpost(scene, scene.upright(side.sign * (side.kerb + 0.45) + rng.normal(0, 0.12), z))
        z += 3 + rng.exponential(22)
    if rng.random() < 0.3:
        start, run, step = rng.uniform(4, 30), rng.uniform(8, 30), rng.uniform(1.3, 2.5)
        for z in np.arange(start, start + run, step).tolist():
            if not layout.in_crossing(z, 0.5):
                pose = scene.upright(side.sign * (side.kerb + 0.35), z)
                yield things.post(rng, pose, rng.uniform(0.7, 1.1), 0.055, 0.5)
    for _ in range(rng.integers(0, 4)):
        z = rng.uniform(5, 60)
        if not layout.in_crossing(z, 1):
            yield things.litter_bin(rng, scene.upright(side.sign * (side.frontage - 0.7), z))


def _trees(scene: Scene, side: Side) -> Iterator[Thing]:
    """A row of street trees, and the trees and bushes of the lots."""
    rng, layout = scene.rng, scene.layout
    bare = rng.random() < 0.12
    if rng.random() < (0.85 if side.strip else 0.55):
        z, t = rng.uniform(4, 20), side.sign * (side.kerb + max(side.strip / 2, 0.8))
        gap, height = rng.uniform(5, 13), rng.uniform(5.5, 14)
        while z < scene.reach(150):
            if not layout.in_crossing(z, 2) and rng.random() < 0.85:
                yield things.Tree(scene, scene.upright(t, z), height * rng.uniform(0.8, 1.2), bare)
            z += gap * rng.uniform(0.8, 1.2)
    for lot in side.lots:
        least = 2 if lot.kind == "trees" else 0
        for _ in range(least + rng.integers(0, TREES.get(lot.kind, 0) + 1)):
            z = rng.uniform(max(lot.z0, 5.0), max(lot.z1, 6.0))
            t = side.frontage + rng.uniform(1.0, 2.5 if lot.kind == "garden" else 9)
            bush = rng.random() < 0.35
            height = rng.uniform(0.8, 2.5) if bush else rng.uniform(4, 13)
            if not layout.in_crossing(z, 2) and z < scene.reach(z + 1):
                yield things.Tree(scene, scene.upright(side.sign * t, z), height, bare and not bush, bush)


def _walkers(scene: Scene, side: Side) -> Iterator[Thing]:
    """People on the sidewalk, alone and in groups."""
    rng = scene.rng
    for _ in range(rng.poisson(WALKERS[scene.layout.district] * rng.uniform(0.2, 1.3))):
        z = 3.5 + rng.exponential(22)
        t = side.kerb + side.strip + rng.uniform(0.3, max(0.5, side.walk - 0.3))
        heading = choose(rng, (0.0, np.pi)) + rng.normal(0, 0.4)
        for member in range(choose(rng, (1, 2, 3, 4), (0.6, 0.25, 0.1, 0.05))):
            pose = scene.pose(side.sign * (t + 0.55 * member), z + rng.normal(0, 0.25), heading)
            if pose.z > 3:
                yield things.person(scene, pose)


def _parked_cycles(scene: Scene, side: Side) -> Iterator[Thing]:
    """Bicycles and motorcycles in rows."""
    rng = scene.rng
    for _ in range(rng.poisson(2.2)):
        z = rng.uniform(5, 45)
        along = rng.random() < 0.4
        t = side.frontage - 0.5 if rng.random() < 0.6 else side.kerb + 0.7
        make = things.motorcycle if rng.random() < 0.3 else things.bicycle
        for index in range(rng.integers(1, 7)):
            heading = 0.0 if along else np.pi / 2 + rng.normal(0, 0.15)
            pose = scene.pose(side.sign * t, z + index * (1.9 if along else 0.65), heading)
            if not scene.layout.in_crossing(pose.z, 1):
                yield make(scene, pose, False)


def _traffic_lights(scene: Scene) -> Iterator[Thing]:
    """Traffic lights at the crossings."""
    rng = scene.rng
    for z0, z1 in scene.layout.crossings:
        if rng.random() < 0.08:
            continue
        state = choose(rng, (0, 1, 2), (0.4, 0.1, 0.5))
        for side in scene.layout.sides:
            for z in (z0 - 1.2, z1 + 1.4):
                if rng.random() < 0.85:
                    arm = rng.uniform(2.5, 6) if rng.random() < 0.45 else 0.0
                    pose = scene.upright(side.sign * (side.kerb + 0.6), z)
                    yield things.traffic_light(rng, pose, -side.sign, state, arm)


def _wires(scene: Scene) -> Iterator[Thing]:
    """Wires over the tram tracks, and telephone lines on wooden poles."""
    rng, layout = scene.rng, scene.layout
    lines = [(t, 5.4, 22.0) for t in layout.rails]
    if layout.district != "city" and rng.random() < 0.35:
        side = choose(rng, layout.sides)
        t, step, tall = side.sign * (side.frontage - 0.3), rng.uniform(22, 34), rng.uniform(5.5, 7.5)
        lines += [(t - 0.35, tall, step), (t + 0.35, tall, step), (t, tall - 0.5, step)]
        for z in np.arange(step / 2, 150, step).tolist():
            if not layout.in_crossing(z, 1):
                yield replace(things.post(rng, scene.upright(t, z), tall + 0.3, 0.11), height=tall)
    for t, tall, step in lines:
        for z in np.arange(step / 2 - step, 150, step).tolist():
            depth = np.linspace(max(z, 1.0), z + step, 7)
            sag = tall - 0.35 * (1 - np.square((depth - z) / step * 2 - 1))
            points = np.stack([layout.center(depth) + t, sag + scene.camera.ground(depth), depth], axis=1)
            for i in range(6):
                wire = Face(points[i : i + 2], (36, 36, 40), NO_CLASS, 0, 0.012)
                footprint = Footprint(float(points[i, 0]), float(points[i, 2]), 0.1, 0.1)
                yield Thing([wire], footprint, 0.1, 0.0)
