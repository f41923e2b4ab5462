"""The camera: bloom, vignetting, white balance and exposure, blur, contrast, the sensor's noise."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from gffnet.streets.camera import Floats
from gffnet.streets.canvas import Bytes
from gffnet.streets.light import Light
from gffnet.streets.noise import floats


def photograph(colour: Floats, light: Light, rng: Generator) -> Bytes:
    """The picture (H, W, 3), uint8, that a camera takes of these colours (H, W, 3), 0..255 and above."""
    return _sensor(_lens(colour, light, rng), light, rng)


def _lens(colour: Floats, light: Light, rng: Generator) -> Floats:
    """Bloom around lamps, vignetting, exposure, a little blur."""
    rows, columns = colour.shape[:2]
    if light.dark:
        bright = np.where(colour > 205, np.clip(colour, 0, 255), 0).astype(np.uint8)
        halo = Image.fromarray(bright).resize((columns // 2, rows // 2)).filter(ImageFilter.GaussianBlur(columns / 160))
        wide = np.asarray(halo.resize((columns, rows)), np.float32)
        colour = colour + np.float32(0.8 if light.weather == "night" else 0.25) * wide
    y = (np.arange(rows, dtype=np.float32) / rows - 0.5)[:, None]
    x = (np.arange(columns, dtype=np.float32) / columns - 0.5)[None, :]
    dark = 1 - np.float32(rng.uniform(0, 0.6)) * (x * x + y * y)
    metered = np.clip(105 / max(float(np.clip(colour, 0, 255).mean()), 1.0), 0.7, 1.7) ** (0.3 if light.dark else 0.75)
    colour = colour * dark[..., None] * (floats(light.tint) * np.float32(light.exposure * metered))
    radius = float(rng.uniform(0, 0.8)) * columns / 1024
    soft = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(soft, np.float32)


def _sensor(colour: Floats, light: Light, rng: Generator) -> Bytes:
    """Contrast and saturation, noise that grows with the signal and in the dark."""
    gamma, vivid = float(np.exp(rng.normal(0, 0.1))), float(rng.uniform(0.55, 1.1))
    grey = colour.mean(2, keepdims=True)
    colour = np.clip(grey + (colour - grey) * np.float32(vivid), 0, 255)
    level = np.float32(255) * np.power(colour / np.float32(255), np.float32(gamma))
    strength = float(rng.uniform(0.8, 4.0)) * (1.8 if light.weather == "night" else 1.0)
    grain = rng.standard_normal(colour.shape[:2], dtype=np.float32)[..., None]
    tinge = rng.standard_normal(colour.shape, dtype=np.float32)
    level = level + (0.7 * grain + 0.6 * tinge) * np.float32(strength) * np.sqrt(0.3 + level / 160)
    return np.asarray(np.clip(level + 0.5, 0, 255), dtype=np.uint8)
