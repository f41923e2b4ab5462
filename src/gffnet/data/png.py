"""PNG files as data sets hold them, decoded in half the time that Pillow takes; every other file is left to Pillow."""

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_LENGTH_AND_KIND = struct.Struct(">I4s")
_GREY, _RGB = 0, 2
_CHANGES_PIXELS = {b"tRNS", b"eXIf"}
"""Chunks that call for more than decoding: transparency, orientation."""
_NEEDED = {b"IHDR", b"IDAT", b"IEND"}
"""Chunks that hold pixels; libpng has warnings to print about some of the others."""


def decode_png(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a PNG file, `(H, W)` if grey, `(H, W, 3)` if RGB, or None if Pillow should look at it.

    That is, if it is not a plain PNG of eight bits a sample, not upright or transparent, as large as a decompression
    bomb, or damaged.
    """
    if not content.startswith(_SIGNATURE):
        return None
    try:
        width, height, bits, colour, _, _, interlaced = _HEADER.unpack_from(content, 16)
        chunks = list(_chunks(content))
        kinds = {kind for kind, _ in chunks}
        plain = bits == 8 and colour in {_GREY, _RGB} and not interlaced and kinds.isdisjoint(_CHANGES_PIXELS)
        if not plain or width * height > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        if not kinds <= _NEEDED:
            content = b"".join([_SIGNATURE, *(content[where] for kind, where in chunks if kind in _NEEDED)])
        pixels: NDArray[np.uint8] = imagecodecs.png_decode(content)
    except (struct.error, imagecodecs.PngError, ValueError, MemoryError):
        return None
    return pixels if pixels.shape == ((height, width) if colour == _GREY else (height, width, 3)) else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, slice]]:
    """Kind and place of the chunks in a PNG file, in order. Raises `struct.error` where the file ends within one."""
    at = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length, kind = _LENGTH_AND_KIND.unpack_from(content, at)
        yield kind, slice(at, at + 12 + length)
        at += 12 + length
