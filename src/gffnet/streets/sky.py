"""The sky: a gradient, clouds in perspective, the sun's glow, stars of light at the horizon."""

import numpy as np
from numpy.random import Generator

from gffnet.streets.canvas import Canvas
from gffnet.streets.labels import Label
from gffnet.streets.light import Light
from gffnet.streets.noise import floats, smooth, tile


def paint_sky(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Fill the whole canvas with sky, infinitely far; it keeps its colour in the dark."""
    rx, ry = (ray[::2, ::2] for ray in canvas.camera.rays)
    up = np.clip(ry, 0, None)
    climb = (1 - np.exp(-up * np.float32(rng.uniform(1.5, 4))))[..., None]
    zenith, horizon = floats(light.zenith), floats(light.horizon)
    colour = horizon + (zenith - horizon) * climb
    cover = float({"sunny": rng.uniform(-1.6, 0.5), "dusk": rng.uniform(-1, 0.5)}.get(light.weather, 0.3))
    over = floats(90 / (up + np.float32(0.07)))
    shift = rng.uniform(0, 512, 2).astype(np.float32)
    clouds = smooth(tile(1.6), rx * over + shift[0], over + shift[1]) + 0.4 * smooth(
        tile(1.1, 1), rx * over * 4, over * 4 + shift[1]
    )
    amount = np.clip(0.5 + 0.6 * (clouds + cover), 0, 1)[..., None] * np.clip(up * 8, 0, 1)[..., None]
    white = {"sunny": 245.0, "overcast": 232.0, "haze": 222.0, "dusk": 205.0, "night": 34.0}[light.weather]
    grey = white * floats([1, 0.99, 0.98]) * (0.93 + 0.05 * clouds[..., None])
    colour = colour + (grey - colour) * amount * np.float32(rng.uniform(0.4, 0.95))
    if light.sun[2] > 0.2 and light.weather != "night":
        towards = (rx * light.sun[0] + ry * light.sun[1] + light.sun[2]) / np.sqrt(rx**2 + ry**2 + 1)
        colour = colour + np.exp((towards[..., None] - 1) * 60) * floats([90, 75, 50])
    texels = np.clip(colour, 0, 255).astype(np.uint8)
    rows, columns = canvas.camera.size
    canvas.rgb[:] = np.repeat(np.repeat(texels, 2, 0), 2, 1)[:rows, :columns]
    canvas.label[:] = Label.SKY
    canvas.glow[:] = 255
