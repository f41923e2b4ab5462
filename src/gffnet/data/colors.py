"""Label maps as colours: alone, over the image, and masks of pixels that matter."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt8

Palette = Sequence[tuple[int, int, int]]
"""One RGB colour a class, in the order of the labels."""

MARK = (255, 45, 149)
"""Colour of highlighted pixels: no data set's palette has it, and it stands out for every kind of colour vision."""


def colourise(labels: Integer[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """The label map in the colours of its classes; 255, and every label that is no class, is black."""
    colours: np.ndarray = _table(palette)[np.clip(labels, 0, 255)]
    return colours


def overlay(
    image: UInt8[np.ndarray, "h w 3"], labels: Integer[np.ndarray, "h w"], palette: Palette, alpha: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """`(1 - alpha) · image + alpha · colours`; the bare image where a label is no class."""
    known = (labels < min(len(palette), 255))[..., None]
    mixed = (1 - alpha) * image.astype(np.float32) + alpha * colourise(labels, palette)
    return np.where(known, np.rint(mixed).astype(np.uint8), image)


def highlight(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], colour: tuple[int, int, int] = MARK
) -> UInt8[np.ndarray, "h w 3"]:
    """The image dark and grey, with the pixels of `mask` in a bright colour."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    dark = np.rint(0.45 * grey).astype(np.uint8)
    return np.where(mask[..., None], np.array(colour, np.uint8), dark[..., None])


def legend(classes: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    """Every class with its colour as `#rrggbb`."""
    return [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in zip(classes, palette, strict=True)]


def _table(palette: Palette) -> UInt8[np.ndarray, "256 3"]:
    """Colour of every label 0..255; 255 is never a class."""
    table = np.zeros((256, 3), np.uint8)
    known = np.array(palette[:255], np.uint8).reshape(-1, 3)
    table[: len(known)] = known
    return table
