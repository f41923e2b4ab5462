"""Label maps as colors: alone, over the image, and masks of pixels that matter."""

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Bool, Integer, Num, UInt8

Palette = Sequence[tuple[int, int, int]]
"""One RGB color a class, in the order of the labels."""

MARK = (255, 45, 149)
"""Color of highlighted pixels: no data set's palette has it, and it stands out for every kind of color vision."""


STRETCH = (1, 99)
"""Percentiles of the levels of a deep image that are shown as black and as white."""


def displayable(
    image: Num[np.ndarray, "h w c"], levels: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """An image of any number of channels as RGB of 8 bits, to be looked at.

    Of more than three channels, the first three are red, green and blue; of two, the first is grey, as a single one is.
    uint8 is left as it is. float32, in 0..255, is stretched: its `levels`, by default `display_levels`, become black
    and white, since deep images are dark as a rule.
    """
    shown = _shown(image)
    if shown.dtype == np.uint8:
        return shown
    black, white = levels or display_levels(image)
    spread = (shown - black) * (255 / (white - black)) if white > black else shown
    stretched: np.ndarray = np.rint(np.clip(spread, 0, 255)).astype(np.uint8)
    return stretched


def display_levels(image: Num[np.ndarray, "h w c"]) -> tuple[float, float]:
    """The levels of a deep image that are shown as black and white: percentiles of the channels shown together."""
    shown = _shown(image)
    step = -(-max(shown.shape) // 1024)
    black, white = np.percentile(shown[::step, ::step], STRETCH)  # of a million pixels at most
    return float(black), float(white)


def _shown(image: Num[np.ndarray, "h w c"]) -> Num[np.ndarray, "h w 3"]:
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def colorize(labels: Integer[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """The label map in the colors of its classes; 255, and every label that is no class, is black."""
    known = labels if labels.dtype == np.uint8 else np.where((labels >= 0) & (labels < 255), labels, 255)
    colors: np.ndarray = label_colors(palette)[known]
    return colors


def overlay(
    image: UInt8[np.ndarray, "h w 3"], labels: Integer[np.ndarray, "h w"], palette: Palette, alpha: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """`(1 - alpha) · image + alpha · colors`; the bare image where a label is no class."""
    known = ((labels >= 0) & (labels < min(len(palette), 255)))[..., None]
    mixed = (1 - alpha) * image.astype(np.float32) + alpha * colorize(labels, palette)
    return np.where(known, np.rint(mixed).astype(np.uint8), image)


def highlight(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], color: tuple[int, int, int] = MARK
) -> UInt8[np.ndarray, "h w 3"]:
    """The image dark and grey, with the pixels of `mask` in a bright color."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    dark = np.rint(0.45 * grey).astype(np.uint8)
    return np.where(mask[..., None], np.array(color, np.uint8), dark[..., None])


def legend(classes: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    """Every class with its color as `#rrggbb`."""
    return [(name, hex_color(color)) for name, color in zip(classes, palette, strict=True)]


def hex_color(color: Sequence[int]) -> str:
    """Red, green and blue as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def legend_picture(classes: Sequence[str], palette: Palette) -> str:
    """An SVG with the color, the index and the name of every class, in columns of at most 20.

    As text, it has names in any script, in the reader's own fonts.
    """
    rows, wide = min(len(classes), 20), 40 + 9 * max(2, *(len(f"{k} {name}") for k, name in enumerate(classes)))
    entries = []
    for k, (name, color) in enumerate(legend(classes, palette)):
        x, y = 12 + k // rows * wide, 12 + k % rows * 26
        entries.append(f'<rect x="{x}" y="{y}" width="20" height="20" fill="{color}" stroke="#888"/>')
        entries.append(f'<text x="{x + 28}" y="{y + 15}">{k} {escape(name)}</text>')
    size = f'width="{12 + -(-len(classes) // rows) * wide}" height="{18 + rows * 26}"'
    font = 'font-family="system-ui, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif" font-size="15"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([start, *entries, "</svg>\n"])


def label_colors(palette: Palette) -> UInt8[np.ndarray, "256 3"]:
    """Color of every label 0..255; 255 is never a class."""
    table = np.zeros((256, 3), np.uint8)
    known = np.array(palette[:255], np.uint8).reshape(-1, 3)
    table[: len(known)] = known
    return table
