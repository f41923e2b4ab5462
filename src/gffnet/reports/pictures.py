"""Pictures inside a page: data URIs of images no wider than a page needs them."""

import base64
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image
from PIL.Image import Resampling

from gffnet.data.colors import MARK, Palette, colorize, highlight
from gffnet.data.io import encode_image
from gffnet.gates.figures import color_table

WIDEST = 640
"""Width in pixels that larger pictures are reduced to by default."""


class Picture(NamedTuple):
    """What an `<img>` needs: its source, and its size, so that a page does not jump while it is laid out."""

    uri: str
    width: int
    height: int


def photo(rgb: UInt8[np.ndarray, "h w 3"]) -> Picture:
    """A photograph as JPEG."""
    return _embedded(_shrunk(Image.fromarray(rgb), Resampling.LANCZOS), "JPEG", quality=85)


def marked_picture(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], widest: int = WIDEST) -> Picture:
    """The pixels of `mask` marked over the dark image, as PNG: marks stay sharp, the image needs few shades.

    Where it is reduced, a pixel is marked if a quarter of it is, so that thin marks stay.
    """
    shades = (
        np.array(_shrunk(Image.fromarray(highlight(rgb, np.zeros_like(mask))), Resampling.LANCZOS, widest))[..., 0] // 4
    )
    cover = np.array(_shrunk(Image.fromarray(mask.astype(np.uint8) * 255), Resampling.BOX, widest))
    colors = np.repeat(np.arange(256, dtype=np.uint8)[:, None] * 4, 3, axis=1)
    colors[255] = MARK
    return _indexed(Image.fromarray(np.where(cover >= 64, np.uint8(255), shades)), colors, Resampling.NEAREST)


def label_picture(labels: Integer[np.ndarray, "h w"], palette: Palette) -> Picture:
    """A label map as PNG with the palette of its classes: sharp edges, few bytes."""
    colors = colorize(np.arange(256, dtype=np.uint8)[None], palette)[0]
    return _indexed(Image.fromarray(labels.astype(np.uint8)), colors, Resampling.NEAREST)


def gate_picture(gate: Float[np.ndarray, "h w"], widest: int = WIDEST) -> Picture:
    """A gate map as PNG with the colors of gates, in 64 steps, which is a third of the bytes of 256."""
    small = np.asarray(_shrunk(Image.fromarray(gate.astype(np.float32)), Resampling.BILINEAR, widest))
    steps = np.rint(63 * small.clip(0, 1)).astype(np.uint8)
    return _indexed(Image.fromarray(steps), color_table()[np.arange(256) * 255 // 63 % 256], Resampling.NEAREST)


def share_picture(shares: Float[np.ndarray, "h w"]) -> Picture:
    """Numbers in `[0, 1]` as PNG, one pixel each, in the colors of gates: dark is 0, bright is 1."""
    steps = np.rint(255 * shares).astype(np.uint8)
    return _indexed(Image.fromarray(steps), color_table(), Resampling.NEAREST)


def _indexed(image: Image.Image, colors: UInt8[np.ndarray, "256 3"], resampling: Resampling) -> Picture:
    """A grey image whose levels stand for colors."""
    small = _shrunk(image, resampling)
    small.putpalette(colors.tobytes())
    return _embedded(small, "PNG", optimize=True)


def _shrunk(image: Image.Image, resampling: Resampling, widest: int = WIDEST) -> Image.Image:
    """The image at most `widest` wide."""
    if image.width <= widest:
        return image
    return image.resize((widest, max(1, round(image.height * widest / image.width))), resampling)


def _embedded(image: Image.Image, kind: str, **options: int) -> Picture:
    text = base64.b64encode(encode_image(image, kind, **options)).decode()
    return Picture(f"data:image/{kind.lower()};base64,{text}", image.width, image.height)
