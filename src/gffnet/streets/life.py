"""Trees, people on the sidewalks, parked bicycles and motorcycles."""

from collections.abc import Iterator

import numpy as np

from gffnet.streets.cycles import bicycle, motorcycle
from gffnet.streets.layout import Side
from gffnet.streets.people import person
from gffnet.streets.site import Item, Site
from gffnet.streets.trees import tree

TREES = {"trees": 5, "garden": 3, "hedge": 2, "open": 2, "wall": 2, "fence": 2}  # at most, beside the street's own
WALKERS = {"city": 8.0, "suburb": 2.5, "park": 3.5, "works": 2.0}


def greenery(site: Site, side: Side) -> Iterator[Item]:
    """A row of street trees, and the trees and bushes of the lots."""
    rng, layout = site.rng, site.layout
    bare = bool(rng.random() < 0.12)
    if rng.random() < (0.85 if side.strip else 0.55):
        z = float(rng.uniform(4, 20))
        t = side.sign * (side.kerb + max(side.strip / 2, 0.8))
        gap, height = float(rng.uniform(5, 13)), float(rng.uniform(5.5, 14))
        while z < site.reach(150):
            if not layout.in_crossing(z, 2) and rng.random() < 0.85:
                yield tree(rng, site.light, site.upright(t, z), height * float(rng.uniform(0.8, 1.2)), bare)
            z += gap * float(rng.uniform(0.8, 1.2))
    for lot in side.lots:
        least = 2 if lot.kind == "trees" else 0
        for _ in range(least + int(rng.integers(0, TREES.get(lot.kind, 0) + 1))):
            z = float(rng.uniform(max(lot.z0, 5.0), max(lot.z1, 6.0)))
            t = side.frontage + float(rng.uniform(1.0, 2.5 if lot.kind == "garden" else 9))
            bush = bool(rng.random() < 0.35)
            height = float(rng.uniform(0.8, 2.5)) if bush else float(rng.uniform(4, 13))
            if not layout.in_crossing(z, 2) and z < site.reach(z + 1):
                yield tree(rng, site.light, site.upright(side.sign * t, z), height, bare and not bush, bush)


def walkers(site: Site, side: Side) -> Iterator[Item]:
    """People on the sidewalk, alone and in groups."""
    rng = site.rng
    for _ in range(int(rng.poisson(WALKERS[site.layout.district] * float(rng.uniform(0.2, 1.3))))):
        z = float(3.5 + rng.exponential(22))
        t = side.kerb + side.strip + float(rng.uniform(0.3, max(0.5, side.walk - 0.3)))
        heading = float(rng.choice([0, np.pi]) + rng.normal(0, 0.4))
        for member in range(int(rng.choice([1, 2, 3, 4], p=[0.6, 0.25, 0.1, 0.05]))):
            place = site.pose(side.sign * (t + 0.55 * member), z + float(rng.normal(0, 0.25)), heading)
            if place.z > 3:
                yield person(rng, site.light, place)


def parked_cycles(site: Site, side: Side) -> Iterator[Item]:
    """Bicycles in racks and against walls, scooters."""
    rng = site.rng
    for _ in range(int(rng.poisson(2.2))):
        z = float(rng.uniform(5, 45))
        along = rng.random() < 0.4
        t = side.frontage - 0.5 if rng.random() < 0.6 else side.kerb + 0.7
        motor = rng.random() < 0.3
        for index in range(int(rng.integers(1, 7))):
            heading = 0.0 if along else np.pi / 2 + float(rng.normal(0, 0.15))
            pose = site.pose(side.sign * t, z + index * (1.9 if along else 0.65), heading)
            if not site.layout.in_crossing(pose.z, 1):
                yield motorcycle(rng, site.light, pose, False) if motor else bicycle(rng, site.light, pose, False)
