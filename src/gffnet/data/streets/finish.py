"""From surfaces to a photograph: darkness and lamps, haze, the lens and the sensor."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from gffnet.data.streets.camera import Floats
from gffnet.data.streets.canvas import Bytes, Canvas
from gffnet.data.streets.labels import Label
from gffnet.data.streets.light import Light


def develop(canvas: Canvas, light: Light, rng: Generator) -> tuple[Bytes, Bytes]:
    """Image (H, W, 3) and labels (H, W), both uint8, of a painted canvas."""
    colour, label, nearness, glow = canvas.pixels()
    sky = (label == Label.SKY)[..., None]
    if light.dark:
        level = 0.3 if light.weather == "night" else 0.68
        lamps = _headlight(canvas, nearness) if light.weather == "night" else 0.0
        seen = np.maximum(glow[..., None], level * np.float32([0.92, 0.95, 1.1]) + lamps)
        colour = colour * np.minimum(seen, 1.15)
    fog = np.exp(-1 / np.maximum(nearness, 1e-5) / np.float32(light.haze))[..., None]
    veil = np.float32(light.horizon) * np.float32(0.97)
    colour = np.where(sky, colour, veil + (colour - veil) * np.maximum(fog, 0.02))
    colour = _lens(colour, light, rng)
    return _sensor(colour, light, rng), label


def _headlight(canvas: Canvas, nearness: Floats) -> Floats:
    """The light (H, W, 1) of the own headlamps and of the street lamps around, falling with distance."""
    near = np.clip(nearness * 7, 0, 1)
    return np.asarray((0.55 * near + 0.1)[..., None] * np.float32([1.1, 1.0, 0.8]), dtype=np.float32)


def _lens(colour: Floats, light: Light, rng: Generator) -> Floats:
    """Bloom, vignetting, a little blur."""
    rows, columns = colour.shape[:2]
    bright = np.clip(colour, 0, 255).astype(np.uint8)
    if light.dark:
        halo = Image.fromarray(np.where(bright > 200, bright, 0)).filter(ImageFilter.GaussianBlur(columns / 90))
        colour = colour + 0.9 * np.asarray(halo, np.float32)
    y = (np.arange(rows, dtype=np.float32) / rows - 0.5)[:, None]
    x = (np.arange(columns, dtype=np.float32) / columns - 0.5)[None, :]
    dark = 1 - np.float32(rng.uniform(0, 0.5)) * (x * x + y * y)
    colour = colour * dark[..., None] * np.float32(light.tint) * np.float32(light.exposure)
    radius = float(rng.uniform(0, 0.7)) * columns / 1024
    soft = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(soft, np.float32)


def _sensor(colour: Floats, light: Light, rng: Generator) -> Bytes:
    """Contrast and noise that grows with the signal and in the dark."""
    gamma = float(np.exp(rng.normal(0, 0.1)))
    level = np.float32(255) * np.power(colour / np.float32(255), np.float32(gamma))
    strength = float(rng.uniform(1.0, 4.0)) * (1.8 if light.weather == "night" else 1.0)
    grain = rng.standard_normal(colour.shape[:2], dtype=np.float32)[..., None]
    tinge = rng.standard_normal(colour.shape, dtype=np.float32)
    level = level + (0.7 * grain + 0.6 * tinge) * strength * np.sqrt(0.3 + level / 160)
    return np.clip(level + 0.5, 0, 255).astype(np.uint8)
