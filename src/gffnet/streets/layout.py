"""What a scene is made of, sampled from a seed: the plan of a street, the light, the camera.

The street is a curved corridor with lanes, kerbs, sidewalks and lots on both sides, and cross streets. A position
across it is given as t, metres along X to the right of the road's centre line, which lies at X = center(Z).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.noise import choose
from gffnet.streets.render import SUPERSAMPLING, Camera, Points, Pose, Triple

District = Literal["city", "suburb", "park", "works"]
LotKind = Literal["building", "garden", "wall", "fence", "hedge", "trees", "open"]
Spans = tuple[tuple[float, float], ...]

END = 190.0  # depth at which the lots end

DISTRICTS: dict[District, float] = {"city": 0.48, "suburb": 0.22, "park": 0.17, "works": 0.13}
GREEN_STRIPS: dict[District, float] = {"city": 0.22, "suburb": 0.35, "park": 0.5, "works": 0.3}
LOT_KINDS: tuple[LotKind, ...] = ("building", "garden", "wall", "fence", "hedge", "trees", "open")
LOTS: dict[District, tuple[float, ...]] = {
    "city": (0.78, 0, 0.06, 0.07, 0, 0.05, 0.04),
    "suburb": (0.26, 0.34, 0.11, 0.13, 0.12, 0.08, 0.03),
    "park": (0.14, 0.04, 0.13, 0.19, 0.12, 0.32, 0.13),
    "works": (0.36, 0, 0.24, 0.2, 0, 0.1, 0.1),
}


class Lot(NamedTuple):
    """A stretch of frontage from z0 to z1, whose front stands `setback` metres behind the sidewalk."""

    z0: float
    z1: float
    kind: LotKind
    setback: float
    height: float
    grass: bool


class Side(NamedTuple):
    """One side of the road, -1 left or +1 right: distances outwards from the centre line, and the lots along it."""

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
    """A lane's centre line and direction: +1 leads away from the camera."""

    t: float
    direction: int


class StreetLayout:
    """The plan of a street.

    `median` is (centre line, half width, grass); `rails` are the centre lines of tram tracks; `crossings` are spans of
    Z; `stop` is the depth at which the street ends at a street across.
    """

    def __init__(self, rng: Generator) -> None:
        self.district: District = choose(rng, list(DISTRICTS), list(DISTRICTS.values()))
        count = choose(rng, (1, 2, 3), (0.62, 0.3, 0.08))  # lanes a direction
        width = rng.uniform(2.9, 3.7)
        one_way = count > 1 and rng.random() < 0.3
        self.median: tuple[float, float, bool] | None = None
        half = 0.0
        if not one_way and count > 1 and rng.random() < 0.4:
            half = rng.uniform(0.4, 2.5)
            self.median = (0.0, half, rng.random() < 0.6)
        self.lanes = [Lane(half + width * (i + 0.5), 1) for i in range(count)]
        if not one_way:
            oncoming = max(1, count - int(rng.random() < 0.2))
            self.lanes += [Lane(-half - width * (i + 0.5), -1) for i in range(oncoming)]
        self.rails: list[float] = []
        if rng.random() < (0.2 if self.district == "suburb" else 0.42):
            self.rails = [lane.t for lane in self.lanes if abs(abs(lane.t) - width / 2 - half) < 0.1]
        starts = [rng.uniform(9, 45)] if rng.random() < 0.62 else []
        if rng.random() < 0.6:
            starts.append((starts[-1] + 35 if starts else 30) + rng.uniform(10, 60))
        self.crossings: Spans = tuple((start, start + rng.uniform(6, 13)) for start in starts)
        self.stop = self.crossings[-1][1] + 2.8 if self.crossings and rng.random() < 0.3 else None
        right = max(lane.t for lane in self.lanes) + width / 2
        left = max(0.0, -min(lane.t for lane in self.lanes) + width / 2) if not one_way else 0.0
        self.sides = (self._side(rng, -1, left), self._side(rng, 1, right))
        own = choose(rng, [lane for lane in self.lanes if lane.direction > 0])
        self._offset = -(own.t + rng.normal(0, 0.35))
        self.bend = rng.normal(0, 0.0009) if rng.random() < 0.75 else rng.normal(0, 0.003)
        self._wave = rng.uniform(0, 2.5), rng.uniform(0.01, 0.035), rng.uniform(0, 6.3)
        size, pace, phase = self._wave
        self.slope = rng.normal(0, 0.05 if rng.random() < 0.85 else 0.25) - size * pace * float(np.cos(phase))

    def _side(self, rng: Generator, sign: int, edge: float) -> Side:
        parking = rng.uniform(2.0, 2.5) if rng.random() < (0.3 if self.district == "works" else 0.5) else 0.0
        strip = rng.uniform(0.8, 4.0) if rng.random() < GREEN_STRIPS[self.district] else 0.0
        grass = rng.random() < 0.85
        walk = rng.uniform(1.8, 6.5 if self.district == "city" else 4.0)
        gap = rng.uniform(0.1, 0.8)
        return Side(sign, edge + parking + gap, parking, strip, grass, walk, self._lots(rng))

    def _lots(self, rng: Generator) -> tuple[Lot, ...]:
        city = self.district == "city"
        tall = rng.uniform(12, 28) if city else rng.uniform(5, 13)
        lots: list[Lot] = []
        z = rng.uniform(-14, -4)
        while z < END:
            z = next((end + rng.uniform(1.5, 3.5) for start, end in self.crossings if start - 4 < z < end + 2), z)
            stop = min((start - 2.0 for start, _ in self.crossings if start - 2.0 > z), default=np.inf)
            kind = choose(rng, LOT_KINDS, LOTS[self.district])
            end = min(z + (rng.uniform(12, 26) if kind == "garden" else rng.uniform(7, 28)), stop)
            if stop - end < 5:
                end = min(stop, end + 5)
            if end - z > 1.5:
                setback = 0.0 if city or rng.random() < 0.35 else rng.uniform(1, 7)
                if kind == "garden":
                    setback = rng.uniform(4, 11)
                height = tall * rng.uniform(0.65, 1.4)
                lots.append(Lot(z, end, kind, setback, height, rng.random() < 0.75 and not city))
            z = end + (rng.uniform(0, 6) if rng.random() < (0.06 if city else 0.3) else 0.0)
        return tuple(lots)

    def center(self, z: Points | float) -> Points:
        """X of the road's centre line at depth z."""
        size, pace, phase = self._wave
        wave = size * (np.sin(np.asarray(z) * pace + phase) - np.sin(phase))
        return np.asarray(self._offset + self.slope * np.asarray(z) + self.bend * np.square(z) + wave)

    def x(self, t: float, z: float) -> float:
        """X of the point at t across and depth z."""
        return float(self.center(z)) + t

    def heading(self, z: float) -> float:
        """Direction of the street at depth z, radians from +Z towards +X."""
        return float(np.arctan(self.center(z + 0.5) - self.center(z - 0.5)))

    def in_crossing(self, z: float, margin: float = 0.0) -> bool:
        """Whether depth z lies on a cross street, or within margin of one."""
        return any(z0 - margin < z < z1 + margin for z0, z1 in self.crossings)


class Weather(NamedTuple):
    """Constants of a kind of weather; colors in 0..255."""

    share: float  # of the scenes
    sun: float
    zenith: Triple
    horizon: Triple
    haze: tuple[float, float]  # range of metres at which haze hides two thirds
    warmth: float
    clouds: float


WEATHERS = {
    "sunny": Weather(0.36, 0.62, (78, 128, 196), (188, 212, 232), (300, 2500), 0.02, 245.0),
    "overcast": Weather(0.28, 0.08, (186, 190, 196), (216, 218, 219), (180, 1200), -0.02, 232.0),
    "haze": Weather(0.12, 0.15, (198, 203, 206), (215, 215, 210), (45, 160), 0.0, 222.0),
    "dusk": Weather(0.12, 0.3, (82, 96, 138), (236, 182, 132), (120, 900), 0.09, 205.0),
    "night": Weather(0.12, 0.0, (13, 16, 30), (38, 36, 44), (120, 900), 0.04, 34.0),
}
DUSKS: tuple[Triple, ...] = ((236, 182, 132), (214, 176, 170), (176, 172, 190), (226, 206, 150), (150, 160, 186))


class Light:
    """Weather and time of day.

    Colors are 0..255. `sun` points to the sun; ground in the sun has brightness 1, of which the sun gives
    `strength * sun[1]`. `haze` is in metres, `tint` a factor on every color, `wet` 0 (dry) to 1.
    """

    def __init__(self, rng: Generator) -> None:
        self.weather = choose(rng, list(WEATHERS), [weather.share for weather in WEATHERS.values()])
        constants = WEATHERS[self.weather]
        azimuth = rng.uniform(0, 2 * np.pi)
        elevation = rng.uniform(0.12, 0.3) if self.weather == "dusk" else rng.uniform(0.35, 1.1)
        level = float(np.cos(elevation))
        self.sun = (level * float(np.sin(azimuth)), float(np.sin(elevation)), level * float(np.cos(azimuth)))
        self.strength = constants.sun / max(self.sun[1], 0.45)
        jitter = rng.normal(0, 8, 3) * (0.25 if self.night else 1)
        dusk = choose(rng, DUSKS)
        self.zenith = np.clip(np.array(constants.zenith) + jitter, 0, 255)
        self.horizon = np.clip(np.array(dusk if self.weather == "dusk" else constants.horizon) + jitter, 0, 255)
        self.haze = float(np.exp(rng.uniform(*np.log(constants.haze))))
        self.clouds = constants.clouds
        warm = constants.warmth + rng.normal(0, 0.04)
        self.tint = (1 + warm, 1 + rng.normal(0, 0.02), 1 - warm)
        self.exposure = float(np.exp(rng.normal(0, 0.16)))
        self.wet = rng.uniform(0.4, 1) if self.weather != "sunny" and rng.random() < 0.3 else 0.0

    @property
    def night(self) -> bool:
        """Whether only lamps give light."""
        return self.weather == "night"

    @property
    def dark(self) -> bool:
        """Whether lamps and windows are lit."""
        return self.weather in ("dusk", "night")

    def shade(self, normal: Triple | Points) -> float:
        """Brightness of a face with this unit normal."""
        ambient = 1 - self.strength * self.sun[1]
        towards = sum(a * b for a, b in zip(normal, self.sun, strict=True))
        return float(ambient * (0.8 + 0.2 * normal[1]) + self.strength * max(0.0, towards))


class Scene:
    """A street, its light and the camera, sampled from a seed for an image of `size` (rows, columns).

    `rng` samples the layout and the things; `texture_rng` what surfaces look like; `sensor_rng` the camera's noise.
    `lamps` collects the positions (X, Y, Z) of the street lamps.
    """

    def __init__(self, seed: tuple[int, ...], size: tuple[int, int]) -> None:
        seeds = np.random.SeedSequence(seed).spawn(3)
        self.rng, self.texture_rng, self.sensor_rng = (Generator(np.random.PCG64(part)) for part in seeds)
        self.camera = self._camera(*size)
        self.layout, self.light = StreetLayout(self.rng), Light(self.rng)
        self.lamps: list[Triple] = []

    def _camera(self, rows: int, columns: int) -> Camera:
        """A car's or a van's windscreen, a little tilted."""
        rng = self.rng
        focal = rng.uniform(0.75, 1.3) * (2 * rows * columns) ** 0.5
        height = rng.uniform(1.15, 1.7) if rng.random() < 0.85 else rng.uniform(1.8, 2.5)
        pitch, roll = rng.normal(0.05, 0.028), rng.normal(0, 0.012)
        hill = rng.uniform(-0.00012, 0.00016) if rng.random() < 0.5 else 0.0
        size = (rows * SUPERSAMPLING, columns * SUPERSAMPLING)
        return Camera(size, focal * SUPERSAMPLING, height, pitch, roll, hill)

    def pose(self, t: float, z: float, heading: float = 0.0) -> Pose:
        """The pose at t across and depth z; heading 0 is along the street there."""
        return self.upright(t, z)._replace(heading=self.layout.heading(z) + heading)

    def upright(self, t: float, z: float) -> Pose:
        """The pose at t across and depth z that faces the camera squarely."""
        return Pose(self.layout.x(t, z), float(self.camera.ground(z)), z)

    def reach(self, far: float) -> float:
        """`far`, or where the street ends if it ends before."""
        return far if self.layout.stop is None else min(far, self.layout.stop - 2)
