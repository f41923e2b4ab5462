"""Puts things into the street: traffic, parked vehicles, people, trees, poles, signs and lights."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.random import Generator

from gffnet.data.streets.camera import Camera
from gffnet.data.streets.canvas import Canvas
from gffnet.data.streets.cars import car
from gffnet.data.streets.cycles import bicycle, motorcycle
from gffnet.data.streets.furniture import bin_, bollard, lamp_post, signpost, traffic_light
from gffnet.data.streets.heavy import bus, lorry, tram
from gffnet.data.streets.layout import Layout, Side
from gffnet.data.streets.light import Light
from gffnet.data.streets.mesh import Footprint, Pose
from gffnet.data.streets.people import person
from gffnet.data.streets.trees import tree


class Item(Protocol):
    """Anything that stands in the street."""

    height: float
    solid: float

    @property
    def depth(self) -> float:
        """Depth of its middle."""

    @property
    def footprint(self) -> Footprint:
        """Its rectangle on the ground."""

    def paint(self, canvas: Canvas) -> None:
        """Paint it where it is nearer than what is on the canvas."""


class Placer:
    """Places things by distance across and depth."""

    def __init__(self, camera: Camera, layout: Layout, light: Light, rng: Generator) -> None:
        self.camera, self.layout, self.light, self.rng = camera, layout, light, rng
        self.lamps: list[tuple[float, float, float]] = []

    def pose(self, t: float, z: float, heading: float | None = None) -> Pose:
        """The pose at distance t across, depth z; along the street when no heading is given."""
        turn = self.layout.heading(z) + (heading or 0.0)
        return Pose(self.layout.x(t, z), float(self.camera.ground(z)), z, turn)

    def items(self) -> Iterator[Item]:
        """Everything that stands in the street."""
        yield from self.traffic()
        yield from self.cross_traffic()
        for side in self.layout.sides:
            yield from self.parked(side)
            yield from self.furniture(side)
            yield from self.greenery(side)
            yield from self.walkers(side)
            yield from self.parked_cycles(side)
        yield from self.signals()

    def vehicle(self, pose: Pose, rails: bool, lamps: bool) -> tuple[Item, float]:
        """A vehicle for a lane and the room it takes ahead."""
        rng, light, eye = self.rng, self.light, self.camera.height
        kinds = ["car", "lorry", "bus", "motorcycle", "bicycle", "tram"]
        weights = np.array([0.7, 0.04, 0.035, 0.09, 0.13, 0.4 if rails else 0.0])
        kind = kinds[int(rng.choice(6, p=weights / weights.sum()))]
        if kind == "car":
            return car(rng, light, pose, eye, lamps), 3.0
        if kind == "lorry":
            return lorry(rng, light, pose._replace(z=pose.z + 3), eye, lamps), 8.0
        if kind == "bus":
            return bus(rng, light, pose._replace(z=pose.z + 4), eye, lamps), 10.0
        if kind == "tram":
            return tram(rng, light, pose._replace(z=pose.z + 13), eye, lamps), 30.0
        if kind == "motorcycle":
            return motorcycle(rng, light, pose, True), 2.0
        return bicycle(rng, light, pose, True), 2.0

    def traffic(self) -> Iterator[Item]:
        """Vehicles in the lanes."""
        rng = self.rng
        busy = float(rng.uniform(0.15, 1.2))
        for lane in self.layout.lanes:
            own = abs(self.layout.x(lane.t, 0.0)) < 1.6
            z = float(rng.uniform(10, 55)) if own else float(rng.uniform(4, 40))
            while z < 150:
                pose = self.pose(lane.t + float(rng.normal(0, 0.2)), z, 0.0 if lane.direction > 0 else np.pi)
                item, room = self.vehicle(pose, lane.t in self.layout.rails, self.light.dark)
                yield item
                z += room + 3 + float(rng.exponential(28 / busy))

    def cross_traffic(self) -> Iterator[Item]:
        """Vehicles and people crossing on the side streets."""
        rng = self.rng
        for z0, z1 in self.layout.crossings:
            for sign, share in ((1, 0.28), (-1, 0.72)):
                z = z0 + (z1 - z0) * share
                t = float(rng.uniform(-22, 22))
                while rng.random() < 0.5:
                    if abs(self.layout.x(t, z)) > 3 or z > 16:
                        item, _ = self.vehicle(self.pose(t, z, sign * np.pi / 2), False, self.light.dark)
                        yield item
                    t += float(rng.uniform(6, 18))
            half = self.layout.sides[0].kerb + self.layout.sides[1].kerb
            for _ in range(int(rng.integers(0, 6))):
                t = -self.layout.sides[0].kerb + float(rng.uniform(0, half))
                yield person(
                    rng,
                    self.light,
                    self.pose(t, z0 - float(rng.uniform(1.6, 4.2)), float(rng.choice([-1, 1])) * np.pi / 2),
                )

    def parked(self, side: Side) -> Iterator[Item]:
        """Vehicles in the parking lane."""
        if not side.parking:
            return
        rng = self.rng
        full = float(rng.uniform(0.2, 0.9))
        z = float(rng.uniform(3.0, 18))
        facing = 0.0 if side.sign > 0 else np.pi
        while z < 130:
            if rng.random() < full and not self.layout.in_crossing(z, 6):
                t = side.sign * (side.kerb - side.parking / 2 + float(rng.normal(0, 0.1)))
                heading = facing + (np.pi if rng.random() < 0.12 else 0) + float(rng.normal(0, 0.02))
                pose = self.pose(t, z, heading)
                kind = rng.random()
                if kind < 0.95:
                    yield car(rng, self.light, pose, self.camera.height, False)
                elif kind < 0.965:
                    yield lorry(rng, self.light, pose._replace(z=z + 2), self.camera.height, False)
                    z += 5
                else:
                    yield motorcycle(rng, self.light, pose, False)
            z += float(rng.uniform(5.0, 6.6))

    def furniture(self, side: Side) -> Iterator[Item]:
        """Lamp posts, signs, bollards and bins along the kerb."""
        rng, layout = self.rng, self.layout
        kerb = side.sign * (side.kerb + 0.45)
        z = float(rng.uniform(4, 22))
        gap = float(rng.uniform(16, 34))
        if rng.random() < 0.75:
            while z < 150:
                if not layout.in_crossing(z, 1):
                    yield lamp_post(rng, self._upright(kerb, z), -side.sign, self.light.dark)
                    self.lamps.append((layout.x(kerb - side.sign * 1.5, z), 6.5, z))
                z += gap
        z = float(rng.uniform(4, 16))
        while z < 120:
            if not layout.in_crossing(z, 0.5):
                yield signpost(rng, self._upright(kerb + float(rng.normal(0, 0.12)), z), self.light.shade((0, 0, -1)))
            z += 3 + float(rng.exponential(16))
        if rng.random() < 0.3:
            start = float(rng.uniform(4, 30))
            for z in np.arange(start, start + float(rng.uniform(8, 30)), float(rng.uniform(1.3, 2.5))).tolist():
                if not layout.in_crossing(z, 0.5):
                    yield bollard(rng, self._upright(side.sign * (side.kerb + 0.35), z))
        for _ in range(int(rng.integers(0, 4))):
            z = float(rng.uniform(5, 60))
            if not layout.in_crossing(z, 1):
                yield bin_(rng, self._upright(side.sign * (side.frontage - 0.7), z))

    def greenery(self, side: Side) -> Iterator[Item]:
        """Street trees, and the trees and bushes of lots."""
        rng, layout = self.rng, self.layout
        bare = bool(rng.random() < 0.12)
        if rng.random() < (0.85 if side.strip else 0.5):
            z = float(rng.uniform(4, 20))
            t = side.sign * (side.kerb + max(side.strip / 2, 0.8))
            gap, height = float(rng.uniform(5, 13)), float(rng.uniform(5.5, 14))
            while z < 150:
                if not layout.in_crossing(z, 2) and rng.random() < 0.85:
                    yield tree(rng, self.light, self._upright(t, z), height * float(rng.uniform(0.8, 1.2)), bare)
                z += gap * float(rng.uniform(0.8, 1.2))
        for lot in side.lots:
            count = {"trees": 5, "garden": 3, "hedge": 2, "open": 2, "wall": 2, "fence": 2}.get(lot.kind, 0)
            for _ in range(int(rng.integers(0, count + 1)) + (lot.kind == "trees") * 2):
                z = float(rng.uniform(max(lot.z0, 5.0), max(lot.z1, 6.0)))
                t = side.sign * (side.frontage + float(rng.uniform(1.0, 2.5 if lot.kind == "garden" else 9)))
                bush = bool(rng.random() < 0.35)
                height = float(rng.uniform(0.8, 2.5)) if bush else float(rng.uniform(4, 13))
                if not layout.in_crossing(z, 2):
                    yield tree(rng, self.light, self._upright(t, z), height, bare and not bush, bush)

    def walkers(self, side: Side) -> Iterator[Item]:
        """People on the sidewalk, alone and in groups."""
        rng = self.rng
        busy = {"city": 9, "suburb": 2.5, "park": 3.5, "works": 2}[self.layout.district]
        for _ in range(int(rng.poisson(busy * float(rng.uniform(0.2, 1.3))))):
            z = float(3.5 + rng.exponential(22))
            t = side.kerb + side.strip + float(rng.uniform(0.3, max(0.5, side.walk - 0.3)))
            heading = float(rng.choice([0, np.pi]) + rng.normal(0, 0.4))
            for member in range(int(rng.choice([1, 2, 3, 4], p=[0.6, 0.25, 0.1, 0.05]))):
                place = self.pose(side.sign * (t + 0.55 * member), z + float(rng.normal(0, 0.25)), heading)
                if place.z > 3:
                    yield person(rng, self.light, place)

    def parked_cycles(self, side: Side) -> Iterator[Item]:
        """Bicycles in racks and against walls, scooters."""
        rng = self.rng
        for _ in range(int(rng.poisson(1.5))):
            z = float(rng.uniform(5, 45))
            along = rng.random() < 0.4
            t = side.frontage - 0.5 if rng.random() < 0.6 else side.kerb + 0.7
            motor = rng.random() < 0.3
            for index in range(int(rng.integers(1, 7))):
                heading = 0.0 if along else np.pi / 2 + float(rng.normal(0, 0.15))
                pose = self.pose(side.sign * t, z + index * (1.9 if along else 0.65), heading)
                if self.layout.in_crossing(pose.z, 1):
                    continue
                yield motorcycle(rng, self.light, pose, False) if motor else bicycle(rng, self.light, pose, False)

    def signals(self) -> Iterator[Item]:
        """Traffic lights at the crossings."""
        rng = self.rng
        for z0, z1 in self.layout.crossings:
            if rng.random() < 0.25:
                continue
            state = int(rng.choice(3, p=[0.4, 0.1, 0.5]))
            for side in self.layout.sides:
                for z in (z0 - 1.2, z1 + 1.4):
                    if rng.random() < 0.75:
                        arm = float(rng.uniform(2.5, 6)) if rng.random() < 0.4 else 0.0
                        yield traffic_light(
                            rng, self._upright(side.sign * (side.kerb + 0.6), z), -side.sign, state, arm
                        )

    def _upright(self, t: float, z: float) -> Pose:
        """A pose that faces the camera squarely, for things whose front does."""
        return Pose(self.layout.x(t, z), float(self.camera.ground(z)), z, 0.0)
