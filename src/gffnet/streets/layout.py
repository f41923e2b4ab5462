"""The plan of a street: a curved corridor with lanes, kerbs, sidewalks and lots on both sides, and cross streets.

Positions across the street are given as t, metres to the right of the road's middle line, which lies at
X = centre(Z). `centre` bends slowly, so that a distance across is taken along X.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Points

District = Literal["city", "suburb", "park", "works"]
LotKind = Literal["building", "garden", "wall", "fence", "hedge", "trees", "open"]
END = 190.0

_LOTS: dict[District, dict[LotKind, float]] = {
    "city": {"building": 0.78, "wall": 0.06, "fence": 0.07, "trees": 0.05, "open": 0.04},
    "suburb": {
        "building": 0.26,
        "garden": 0.34,
        "wall": 0.11,
        "fence": 0.13,
        "hedge": 0.12,
        "trees": 0.08,
        "open": 0.03,
    },
    "park": {"building": 0.14, "garden": 0.04, "wall": 0.13, "fence": 0.19, "hedge": 0.12, "trees": 0.32, "open": 0.13},
    "works": {"building": 0.36, "wall": 0.24, "fence": 0.2, "trees": 0.1, "open": 0.1},
}


class Lot(NamedTuple):
    """A stretch of frontage from z0 to z1; `setback` is how far its front stands behind the sidewalk."""

    z0: float
    z1: float
    kind: LotKind
    setback: float
    height: float
    grass: bool


class Side(NamedTuple):
    """One side of the road: distances from the middle line, outwards, and the lots along it."""

    sign: int
    kerb: float
    parking: float  # width of the parking lane, part of the road, inside the kerb
    strip: float  # width of the strip between kerb and sidewalk
    strip_grass: bool
    walk: float  # width of the sidewalk
    lots: tuple[Lot, ...]

    @property
    def frontage(self) -> float:
        """Distance at which the lots begin."""
        return self.kerb + self.strip + self.walk


class Lane(NamedTuple):
    """A lane's middle line and direction: +1 drives away from the camera."""

    t: float
    direction: int


@dataclass(frozen=True)
class Layout:
    """The plan of the street; see the module's text for the coordinates."""

    district: District
    offset: float
    slope: float
    bend: float
    wave: tuple[float, float, float]
    sides: tuple[Side, Side]  # left, right
    lanes: tuple[Lane, ...]
    crossings: tuple[tuple[float, float], ...]
    median: tuple[float, float, bool] | None  # middle line, half width, grass
    rails: tuple[float, ...]  # middle lines of tram tracks
    stop: float | None = None  # depth at which the street meets the houses of a street across

    def centre(self, z: Points | float) -> Points:
        """X of the road's middle line at depth z."""
        size, pace, phase = self.wave
        wave = size * (np.sin(np.asarray(z) * pace + phase) - np.sin(phase))
        return np.asarray(self.offset + self.slope * np.asarray(z) + self.bend * np.square(z) + wave)

    def x(self, t: float, z: float) -> float:
        """X of the point at distance t across, depth z."""
        return float(self.centre(z)) + t

    def heading(self, z: float) -> float:
        """Direction of the street at depth z, radians from +Z towards +X."""
        return float(np.arctan(self.centre(z + 0.5) - self.centre(z - 0.5)))

    def in_crossing(self, z: float, margin: float = 0.0) -> bool:
        """Whether depth z lies on a cross street, or within margin of one."""
        return any(z0 - margin < z < z1 + margin for z0, z1 in self.crossings)


def plan(rng: Generator) -> Layout:
    """Draw a street."""
    names: list[District] = ["city", "suburb", "park", "works"]
    district = names[int(rng.choice(4, p=[0.48, 0.22, 0.17, 0.13]))]
    count = int(rng.choice([1, 2, 3], p=[0.62, 0.3, 0.08]))  # lanes a direction
    width = float(rng.uniform(2.9, 3.7))
    one_way = count > 1 and rng.random() < 0.3
    median = None
    half = 0.0
    if not one_way and count > 1 and rng.random() < 0.4:
        half = float(rng.uniform(0.4, 2.5))
        median = (0.0, half, bool(rng.random() < 0.6))
    lanes = [Lane(half + width * (i + 0.5), 1) for i in range(count)]
    if not one_way:
        back = max(1, count - int(rng.random() < 0.2))
        lanes += [Lane(-half - width * (i + 0.5), -1) for i in range(back)]
    rails: tuple[float, ...] = ()
    if rng.random() < (0.2 if district == "suburb" else 0.42):
        rails = tuple(lane.t for lane in lanes if abs(abs(lane.t) - width / 2 - half) < 0.1)
    crossings = _crossings(rng)
    stop = crossings[-1][1] + 2.8 if crossings and rng.random() < 0.3 else None
    right = max(lane.t for lane in lanes) + width / 2
    left = max(0.0, -min(lane.t for lane in lanes) + width / 2) if not one_way else 0.0
    sides = (_side(rng, -1, left, district, crossings), _side(rng, 1, right, district, crossings))
    ego = [lane for lane in lanes if lane.direction > 0]
    own = ego[int(rng.integers(len(ego)))].t + float(rng.normal(0, 0.35))
    bend = float(rng.normal(0, 0.0009)) if rng.random() < 0.75 else float(rng.normal(0, 0.003))
    wave = (float(rng.uniform(0, 2.5)), float(rng.uniform(0.01, 0.035)), float(rng.uniform(0, 6.3)))
    slope = float(rng.normal(0, 0.05 if rng.random() < 0.85 else 0.25)) - wave[0] * wave[1] * float(np.cos(wave[2]))
    return Layout(district, -own, slope, bend, wave, sides, tuple(lanes), crossings, median, rails, stop)


def _crossings(rng: Generator) -> tuple[tuple[float, float], ...]:
    starts = [float(rng.uniform(9, 45))] if rng.random() < 0.62 else []
    if rng.random() < 0.6:
        starts.append((starts[-1] + 35 if starts else 30) + float(rng.uniform(10, 60)))
    return tuple((start, start + float(rng.uniform(6, 13))) for start in starts)


def _side(
    rng: Generator, sign: int, edge: float, district: District, crossings: tuple[tuple[float, float], ...]
) -> Side:
    parking = float(rng.uniform(2.0, 2.5)) if rng.random() < (0.5 if district != "works" else 0.3) else 0.0
    green = {"city": 0.22, "suburb": 0.35, "park": 0.5, "works": 0.3}[district]
    strip = float(rng.uniform(0.8, 4.0)) if rng.random() < green else 0.0
    grass = bool(rng.random() < 0.85)
    walk = float(rng.uniform(1.8, 6.5 if district == "city" else 4.0))
    gap = float(rng.uniform(0.1, 0.8))
    lots = _lots(rng, district, crossings)
    return Side(sign, edge + parking + gap, parking, strip, grass, walk, lots)


def _lots(rng: Generator, district: District, crossings: tuple[tuple[float, float], ...]) -> tuple[Lot, ...]:
    kinds = list(_LOTS[district])
    weights = np.array([_LOTS[district][kind] for kind in kinds])
    tall = float(rng.uniform(12, 28)) if district == "city" else float(rng.uniform(5, 13))
    lots: list[Lot] = []
    z = float(rng.uniform(-14, -4))
    while z < END:
        crossing = next(((a, b) for a, b in crossings if a - 4 < z < b + 2), None)
        if crossing:
            z = crossing[1] + float(rng.uniform(1.5, 3.5))
        stop = min((a - 2.0 for a, _ in crossings if a - 2.0 > z), default=np.inf)
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        long = float(rng.uniform(7, 28)) if kind != "garden" else float(rng.uniform(12, 26))
        end = min(z + long, float(stop))
        if stop - end < 5:
            end = float(min(stop, end + 5))
        if end - z > 1.5:
            near_street = district == "city" or rng.random() < 0.35
            setback = 0.0 if near_street else float(rng.uniform(1, 7))
            if kind == "garden":
                setback = float(rng.uniform(4, 11))
            height = tall * float(rng.uniform(0.65, 1.4))
            lots.append(Lot(z, end, kind, setback, height, bool(rng.random() < 0.75) and district != "city"))
        z = end + (float(rng.uniform(0, 6)) if rng.random() < (0.06 if district == "city" else 0.3) else 0.0)
    return tuple(lots)
