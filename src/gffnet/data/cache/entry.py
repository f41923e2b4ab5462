"""One cached sample: a file that holds its decoded pixels, plain or in compressed tiles.

A header says which, how large, and the check sum of all that follows, and has one of its own. The file is named after
the content of the image and the label file that it was made from, so that it can be written by any process at any time,
and never be wrong. Reading a plain one does not check its pixels: they are mapped, and never read as a whole.
"""

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gffnet.data.cache import tiles
from gffnet.data.cache.tiles import Grid
from gffnet.data.dataset import Pixels
from gffnet.errors import UserError

Result = TypeVar("Result")

_HEADER, _CHECK = struct.Struct("<8s4sIIQI28x"), struct.Struct("<I")
_START = _HEADER.size + _CHECK.size
"""Where the content begins."""

_MAGIC = b"gffnet\x00\x02"
_PLAIN, _TILES = b"flat", b"zstd"


class _Entry(NamedTuple):
    """The content of an entry."""

    content: NDArray[np.uint8]
    """All after the header, mapped into memory."""
    grid: Grid
    name: str
    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.grid.height, self.grid.width


class Mapped(_Entry):
    """An opened sample whose pixels are read from disk as they are touched."""

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part."""
        height, width = self.size
        image = self.content[: 3 * height * width].reshape(height, width, 3)
        return Pixels(image[rows, columns], self.labels()[rows, columns])

    def labels(self) -> NDArray[np.uint8]:
        """The whole label map."""
        height, width = self.size
        return self.content[3 * height * width :].reshape(height, width)


class Tiled(_Entry):
    """An opened sample of which only the tiles in view are decompressed."""

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part.

        Raises:
            UserError: a tile is damaged.
        """
        return self._or_say(tiles.decode, rows, columns)

    def labels(self) -> NDArray[np.uint8]:
        """The whole label map. Raises as `window`."""
        return self._or_say(tiles.decode_labels, slice(0, self.grid.height), slice(0, self.grid.width))

    def _or_say(self, decode: Callable[..., Result], rows: slice, columns: slice) -> Result:
        """What `decode` returns of a window, or the error that names the file."""
        try:
            return decode(self.content, self.grid, rows, columns)
        except tiles.TileError as error:
            raise UserError(
                f"cache entry {self.path}: {error}. Run gffnet data cache again: it mends what is damaged."
            ) from None


def encode_entry(pixels: Pixels, compressed: bool) -> bytes:
    """The content of the file that holds `pixels`."""
    height, width = pixels.labels.shape
    content = tiles.encode(pixels) if compressed else pixels.image.tobytes() + pixels.labels.tobytes()
    kind = _TILES if compressed else _PLAIN
    header = _HEADER.pack(_MAGIC, kind, height, width, len(content), tiles.check(content))
    return header + _CHECK.pack(tiles.check(header)) + content


def open_entry(path: Path, name: str, verify: bool = False) -> Mapped | Tiled | None:
    """The sample in a file; None if there is none, or it is no entry, or is cut short.

    Args:
        path: of the entry.
        name: of the sample.
        verify: read all of it, and accept it only if its check sum is right.
    """
    try:
        with path.open("rb") as file:
            whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        magic, kind, height, width, length, check = _HEADER.unpack_from(whole.data)
        (header_check,) = _CHECK.unpack_from(whole.data, _HEADER.size)
    except (OSError, ValueError, struct.error):  # an empty file cannot be mapped
        return None
    content = whole[_START:]
    if header_check != tiles.check(whole[: _HEADER.size].tobytes()):
        return None
    if magic != _MAGIC or kind not in {_PLAIN, _TILES} or len(content) != length:
        return None
    if kind == _PLAIN and length != 4 * height * width:
        return None
    if verify and tiles.check(content.tobytes()) != check:
        return None
    return (Mapped if kind == _PLAIN else Tiled)(content, Grid(height, width), name, path)
