"""Pixels in tiles, losslessly compressed: a window costs no more than the tiles that it touches.

Red and blue are stored as their difference from green, every row of a tile as its difference from the row above, and
what comes out, small numbers in the main, is compressed by zstd. A street scene takes about as much room as its PNG.
"""

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gffnet.data.dataset import Pixels

SIDE = 128
"""Height and width of a tile in pixels; those at the lower and right edge may be smaller."""

_LEVEL = 3
_ENTRY = struct.Struct("<QII")
"""Of the table: where a tile's bytes begin after the table, how many they are, their check sum."""


class TileError(Exception):
    """A tile is not what was written."""


class Grid(NamedTuple):
    """The tiles of an image."""

    height: int
    width: int

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return math.ceil(self.width / SIDE)

    @property
    def number(self) -> int:
        """All tiles."""
        return self.across * math.ceil(self.height / SIDE)

    def touched(self, rows: slice, columns: slice) -> Iterator[tuple[int, slice, slice]]:
        """The number, rows and columns of every tile that a window touches."""
        for y in range(rows.start // SIDE, math.ceil(rows.stop / SIDE)):
            for x in range(columns.start // SIDE, math.ceil(columns.stop / SIDE)):
                down = slice(y * SIDE, min((y + 1) * SIDE, self.height))
                yield y * self.across + x, down, slice(x * SIDE, min((x + 1) * SIDE, self.width))


def encode(pixels: Pixels) -> bytes:
    """The table of all tiles, the image's and then the labels', and their bytes."""
    grid = Grid(*pixels.labels.shape)
    tiles = list(grid.touched(slice(0, grid.height), slice(0, grid.width)))
    image = np.array(pixels.image, order="C")
    image[..., 0] -= image[..., 1]
    image[..., 2] -= image[..., 1]
    packed = [_pack(part[rows, columns]) for part in (image, pixels.labels) for _, rows, columns in tiles]
    starts = np.cumsum([0, *map(len, packed)])
    table = [_ENTRY.pack(int(starts[i]), len(tile), check(tile, i)) for i, tile in enumerate(packed)]
    return b"".join([*table, *packed])


def decode(content: NDArray[np.uint8], grid: Grid, rows: slice, columns: slice) -> Pixels:
    """The window `rows`, `columns` from what `encode` made. Raises `TileError` where a tile is damaged."""
    image = _decode_part(content, grid, rows, columns, first=0, channels=(3,))
    image[..., 0] += image[..., 1]
    image[..., 2] += image[..., 1]
    return Pixels(image, decode_labels(content, grid, rows, columns))


def decode_labels(content: NDArray[np.uint8], grid: Grid, rows: slice, columns: slice) -> NDArray[np.uint8]:
    """The labels of a window."""
    return _decode_part(content, grid, rows, columns, first=grid.number, channels=())


def check(content: bytes, number: int = 0) -> int:
    """The check sum of bytes; of a tile, one that no other tile has, so that none can take the place of another."""
    return int(imagecodecs.deflate_crc32(content, number))


def _decode_part(
    content: NDArray[np.uint8], grid: Grid, rows: slice, columns: slice, first: int, channels: tuple[int, ...]
) -> NDArray[np.uint8]:
    """A window of the image or the labels, whose tiles begin with number `first`."""
    window = np.empty((rows.stop - rows.start, columns.stop - columns.start, *channels), np.uint8)
    payload = 2 * grid.number * _ENTRY.size
    for number, down, across in grid.touched(rows, columns):
        start, length, expected = _ENTRY.unpack_from(content.data, (first + number) * _ENTRY.size)
        packed = content[payload + start : payload + start + length].tobytes()
        if not length or len(packed) < length or check(packed, first + number) != expected:
            raise TileError(f"tile {number} is damaged")
        tile = _unpack(packed, (down.stop - down.start, across.stop - across.start, *channels))
        top, left = max(down.start, rows.start), max(across.start, columns.start)
        bottom, right = min(down.stop, rows.stop), min(across.stop, columns.stop)
        window[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = tile[
            top - down.start : bottom - down.start, left - across.start : right - across.start
        ]
    return window


def _pack(tile: NDArray[np.uint8]) -> bytes:
    differences = imagecodecs.delta_encode(np.ascontiguousarray(tile), axis=0)
    return bytes(imagecodecs.zstd_encode(differences.tobytes(), level=_LEVEL))


def _unpack(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    differences = np.frombuffer(imagecodecs.zstd_decode(packed, out=math.prod(shape)), np.uint8).reshape(shape)
    tile: NDArray[np.uint8] = imagecodecs.delta_decode(differences, axis=0)
    return tile
