"""Vehicles in the lanes, on the cross streets and in the parking lanes."""

from collections.abc import Iterator

import numpy as np

from gffnet.streets.cars import car
from gffnet.streets.cycles import bicycle, motorcycle
from gffnet.streets.heavy import bus, lorry, tram
from gffnet.streets.layout import Side
from gffnet.streets.mesh import Pose
from gffnet.streets.people import person
from gffnet.streets.site import Item, Site

KINDS = {"car": 0.68, "lorry": 0.05, "bus": 0.06, "motorcycle": 0.12, "bicycle": 0.21}


def vehicle(site: Site, pose: Pose, rails: bool = False) -> tuple[Item, float]:
    """A vehicle on the move, and the metres it takes up ahead of its pose."""
    rng, light, eye = site.rng, site.light, site.camera.height
    kinds = [*KINDS, "tram"]
    weights = np.array([*KINDS.values(), 0.3 if rails else 0.0])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    ahead = np.array([np.sin(pose.heading), np.cos(pose.heading)]) * (1 if np.cos(pose.heading) > -0.1 else -1)

    def moved(by: float) -> Pose:
        return pose._replace(x=pose.x + by * float(ahead[0]), z=pose.z + by * float(ahead[1]))

    if kind == "lorry":
        return lorry(rng, light, moved(3), eye, light.dark), 8.0
    if kind == "bus":
        return bus(rng, light, moved(4), eye, light.dark), 10.0
    if kind == "tram":
        return tram(rng, light, moved(13), eye, light.dark), 30.0
    if kind == "motorcycle":
        return motorcycle(rng, light, pose, True), 2.0
    if kind == "bicycle":
        return bicycle(rng, light, pose, True), 2.0
    return car(rng, light, pose, eye, light.dark), 3.0


def lanes(site: Site) -> Iterator[Item]:
    """Vehicles in the lanes, both ways."""
    rng = site.rng
    busy = float(rng.uniform(0.15, 1.2))
    for lane in site.layout.lanes:
        own = abs(site.layout.x(lane.t, 0.0)) < 1.6
        z = float(rng.uniform(10, 55)) if own else float(rng.uniform(4, 40))
        while z < site.reach(150):
            pose = site.pose(lane.t + float(rng.normal(0, 0.2)), z, 0.0 if lane.direction > 0 else np.pi)
            item, room = vehicle(site, pose, lane.t in site.layout.rails)
            yield item
            z += room + 3 + float(rng.exponential(28 / busy))


def crossing(site: Site) -> Iterator[Item]:
    """Vehicles on the cross streets, and people on the zebra crossings."""
    rng, layout = site.rng, site.layout
    for z0, z1 in layout.crossings:
        for sign, share in ((1, 0.28), (-1, 0.72)):
            z = z0 + (z1 - z0) * share
            t = float(rng.uniform(-22, 22))
            while rng.random() < 0.5:
                if abs(layout.x(t, z)) > 3 or z > 16:
                    yield vehicle(site, site.pose(t, z, sign * np.pi / 2))[0]
                t += float(rng.uniform(6, 18))
        wide = layout.sides[0].kerb + layout.sides[1].kerb
        for _ in range(int(rng.integers(0, 6))):
            t, z = float(rng.uniform(0, wide)) - layout.sides[0].kerb, z0 - float(rng.uniform(1.6, 4.2))
            yield person(rng, site.light, site.pose(t, z, float(rng.choice([-1, 1])) * np.pi / 2))


def parked(site: Site, side: Side) -> Iterator[Item]:
    """Vehicles in the parking lane of a side."""
    if not side.parking:
        return
    rng, eye = site.rng, site.camera.height
    full = float(rng.uniform(0.2, 0.9))
    z = float(rng.uniform(3, 18))
    facing = 0.0 if side.sign > 0 else np.pi
    while z < site.reach(130):
        if rng.random() < full and not site.layout.in_crossing(z, 6):
            t = side.sign * (side.kerb - side.parking / 2 + float(rng.normal(0, 0.1)))
            turned = np.pi if rng.random() < 0.12 else 0.0
            pose = site.pose(t, z, facing + turned + float(rng.normal(0, 0.02)))
            kind = rng.random()
            if kind < 0.95:
                yield car(rng, site.light, pose, eye, False)
            elif kind < 0.965:
                yield lorry(rng, site.light, pose._replace(z=z + 2), eye, False)
                z += 5
            else:
                yield motorcycle(rng, site.light, pose, False)
        z += float(rng.uniform(5.0, 6.6))
