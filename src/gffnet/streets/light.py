"""Weather and time of day: where the sun stands, how strong it is, the colours of sky and haze."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from gffnet.streets.camera import Points

Weather = Literal["sunny", "overcast", "haze", "dusk", "night"]
Triple = tuple[float, float, float]

DUSKS: tuple[Triple, ...] = ((236, 182, 132), (214, 176, 170), (176, 172, 190), (226, 206, 150), (150, 160, 186))


@dataclass(frozen=True)
class Light:
    """Lighting of a scene. Colours are 0..255; `sun` points to the sun; ground in the sun has brightness 1."""

    weather: Weather
    sun: Triple
    strength: float
    zenith: Triple
    horizon: Triple
    haze: float  # metres at which haze hides two thirds
    tint: Triple  # factor on every colour
    exposure: float
    wet: float  # 0 dry .. 1 wet road

    @property
    def dark(self) -> bool:
        """Whether lamps and windows are lit."""
        return self.weather in ("dusk", "night")

    def shade(self, normal: tuple[float, float, float] | Points) -> float:
        """Brightness of a face with this unit normal."""
        ambient = 1 - self.strength * self.sun[1]
        towards = sum(a * b for a, b in zip(normal, self.sun, strict=True))
        return float(ambient * (0.8 + 0.2 * normal[1]) + self.strength * max(0.0, towards))


def draw_light(rng: Generator) -> Light:
    """Draw a weather and its light."""
    names: list[Weather] = ["sunny", "overcast", "haze", "dusk", "night"]
    weather = names[int(rng.choice(5, p=[0.36, 0.28, 0.12, 0.12, 0.12]))]
    azimuth = float(rng.uniform(0, 2 * np.pi))
    low = weather == "dusk"
    elevation = float(rng.uniform(0.12, 0.3) if low else rng.uniform(0.35, 1.1))
    sun = (
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.cos(azimuth)),
    )
    strength = {"sunny": 0.62, "overcast": 0.08, "haze": 0.15, "dusk": 0.3, "night": 0.0}[weather] / max(sun[1], 0.45)
    jitter = rng.normal(0, 8, 3)
    skies: dict[Weather, tuple[Triple, Triple]] = {
        "sunny": ((78, 128, 196), (188, 212, 232)),
        "overcast": ((186, 190, 196), (216, 218, 219)),
        "haze": ((198, 203, 206), (215, 215, 210)),
        "dusk": ((82, 96, 138), DUSKS[int(rng.integers(len(DUSKS)))]),
        "night": ((13, 16, 30), (38, 36, 44)),
    }
    zenith, horizon = (_moved(colour, jitter * (0.25 if weather == "night" else 1)) for colour in skies[weather])
    reach = {"sunny": (300, 2500), "overcast": (180, 1200), "haze": (45, 160), "dusk": (120, 900), "night": (120, 900)}
    haze = float(np.exp(rng.uniform(*np.log(reach[weather]))))
    warm = {"sunny": 0.02, "overcast": -0.02, "haze": 0.0, "dusk": 0.09, "night": 0.04}[weather] + rng.normal(0, 0.04)
    green = float(rng.normal(0, 0.02))
    tint = (1 + float(warm), 1 + green, 1 - float(warm))
    exposure = float(np.exp(rng.normal(0, 0.16)))
    wet = float(rng.uniform(0.4, 1)) if weather != "sunny" and rng.random() < 0.3 else 0.0
    return Light(weather, sun, strength, zenith, horizon, haze, tint, exposure, wet)


def _moved(colour: Triple, by: np.ndarray) -> Triple:
    r, g, b = np.clip(np.array(colour) + by, 0, 255).tolist()
    return (r, g, b)
