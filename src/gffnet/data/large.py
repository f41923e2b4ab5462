"""Images larger than memory: read in bands of rows, and pictures of them written row by row.

Of a tiled or striped TIFF and of an array in `.npy`, only the rows that are asked for are read. Other formats can only
be decoded whole; they are then held at one byte a sample.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Num, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.data import io
from gffnet.data.io import Samples, as_tensor, log_notice, read_header, read_input, to_channels
from gffnet.data.unread import RAW, unread_suffix
from gffnet.errors import UserError, one_line
from gffnet.files import atomic_file, cannot_write

Rows = Callable[[range], NDArray[Any]]
"""Reads rows of an image: (h, W, C), as they are stored."""

_AT_ONCE = 2**20
"""Pixels that are read or written at once, where nothing else decides."""


_PIECES = 2**26
"""Bytes of a row of strips or tiles that are decoded one by one, however little memory there is."""


class LargeImage:
    """An image (C, H, W) that is indexed as a tensor is, `image[:, rows, columns]`, and reads the rows for it.

    The rows that were read last are held, since windows that lie side by side show the same.
    """

    def __init__(self, shape: tuple[int, int, int], rows: Callable[[range], Tensor], held: int = 0) -> None:
        """`rows`: returns rows (C, h, W). `held`: bytes that are taken as long as the image is."""
        self.shape, self.rows, self.held = shape, rows, held
        self.device = torch.device("cpu")
        """Of what is indexed."""
        self._top, self._band = 0, torch.empty(shape[0], 0, shape[2])

    def __getitem__(self, index: tuple[slice, slice, slice]) -> Num[Tensor, "c _h _w"]:
        """Return a region, on the device."""
        channels, rows, columns = index
        top, bottom, _ = rows.indices(self.shape[1])
        if not self._top <= top <= bottom <= self._top + self._band.shape[1]:
            self._top, self._band = top, self.rows(range(top, bottom))
        return self._band[channels, top - self._top : bottom - self._top, columns].to(self.device)

    def bands(self) -> Iterator[range]:
        """Yield ranges of rows that together are the image, few enough to be handled at once."""
        return bands(self.shape[1], self.shape[2])

    def thinned(self) -> Num[Tensor, "c _h _w"]:
        """Return every n-th row and column, about a thousand at most."""
        step = -(-max(self.shape) // 1024)
        return torch.cat([self.rows(rows)[:, -rows.start % step :: step, ::step] for rows in self.bands()], 1)


def bands(height: int, width: int) -> Iterator[range]:
    """Yield ranges of rows that together are an image of this size, few enough to be handled at once."""
    step = max(1, _AT_ONCE // width)
    for top in range(0, height, step):
        yield range(top, min(top + step, height))


def open_large(path: Path, channels: int, white_level: float | None, rows: int, room: int) -> LargeImage:
    """Open an image to be read a few rows at a time, with the values that `gffnet.data.io.read_input` gives it.

    Args:
        path: the file.
        channels: of the image.
        white_level: see `read_image`.
        rows: how many of them will be asked for at once, at most.
        room: bytes that it may take.

    Raises:
        UserError: it cannot be read, or can only be decoded whole and does not fit.
    """
    file = _open_npy(path, channels) or _open_tiff(path, max(room // 4, _PIECES))
    if file is None:
        return _decode_whole(path, channels, white_level, room)
    stored_rows = file.rows

    def rows_of_file(wanted: range) -> NDArray[Any]:
        try:
            return stored_rows(wanted)
        except Exception as error:  # damaged files raise nearly every built-in exception
            cause = one_line(error)[:200]
            raise UserError(
                f"cannot read image {path}: it is damaged or cut short ({cause}). Copy or download it again."
            ) from None

    file = file._replace(rows=rows_of_file)
    height, width, stored = file.shape
    white = white_level if file.dtype in (np.uint8, bool) else white_level or _white_level(path, file, channels)

    def read(wanted: range) -> Tensor:
        samples = Samples(file.rows(wanted), file.colors, None, file.alpha)
        image = as_tensor(to_channels(samples, channels, white, f"image {path}"))
        return image if white_level is not None or image.dtype == torch.uint8 else image.round().to(torch.uint8)

    first = read(range(1))  # also an error in its channels comes early
    size = file.dtype.itemsize
    a_pixel = stored * (3 * size if size == 1 else 2 * size + 16) + channels * first.element_size()
    return LargeImage((channels, height, width), read, held=rows * width * a_pixel + file.piece)


class _File(NamedTuple):
    """A file of which rows can be read."""

    shape: tuple[int, int, int]
    """(H, W, C)"""
    dtype: np.dtype[Any]
    rows: Rows
    colors: int
    """As in `Samples`."""
    alpha: bool
    stated: float | None = None
    """White level, if the file states it."""
    piece: int = 0
    """Bytes of the pieces that the file is decoded in, for one row."""


def _white_level(path: Path, file: _File, channels: int) -> float:
    """The white level that the file states, or that its largest sample suggests. Raises `UserError`."""
    high, values, stretched = 0.0, np.empty(0), True
    for rows in bands(*file.shape[:2]):
        values = io.bands_used(file.rows(rows), file.colors, channels)
        high = max(high, io.largest_sample(values))
        stretched = stretched and io.is_stretched(values)
    if file.stated and file.stated >= high:
        return file.stated
    return io.assumed_white_level(values, high, stretched, f"image {path}", log_notice)


def _open_npy(path: Path, channels: int) -> _File | None:
    """An array in a `.npy` file; None if it is none, or one that is refused."""
    try:
        array = io.channels_last(io.map_array(path), channels)
    except Exception:  # damaged files raise nearly every built-in exception
        return None
    if array.dtype.kind not in "biuf" or not array.size:
        return None
    native = array.dtype.newbyteorder("=")

    def rows(wanted: range) -> NDArray[Any]:
        # Mapped anew, or the pages that were read would count as memory of this process.
        return np.array(io.channels_last(io.map_array(path), channels)[wanted.start : wanted.stop], native)

    return _File(array.shape, native, rows, array.shape[2], alpha=False)


_PLAIN = {0, 1, 2}
"""Photometric interpretations: white is 0, black is 0, RGB."""


def _open_tiff(path: Path, most: int) -> _File | None:
    """A TIFF whose strips or tiles can be decoded one by one, a row of them in `most` bytes; None of others."""
    try:
        with io.open_tiff(path) as tiff:
            number, pages = io.first_page(tiff)
            page = tiff.pages[number]
            down = page.axes.index("Y")
            stored, size = int(page.samplesperpixel), page.dtype.itemsize
            piece = page.chunks[down] * page.imagewidth * stored * size
            colors, alpha = io.tiff_colors(page)
            stated = io.tiff_white_level(page)
            plain = int(page.photometric) in _PLAIN and int(page.bitspersample) == 8 * size and page.dtype.kind in "uif"
            in_jpeg = int(page.photometric) == 6 and int(page.compression) == 7
            whole = io.tiff_orientation(page) == 1 and 1 not in page.extrasamples and page.axes in _AXES
            cut_short = any(not count for count in page.databytecounts)
            if not (plain or in_jpeg) or not whole or cut_short or piece > most or unread_suffix(path) is RAW:
                return None
            shape = (page.imagelength, page.imagewidth, stored)
            flip = int(page.photometric) == 0 and page.dtype.kind == "u"
            no_data = page.nodata if size > 1 else 0
    except Exception:  # of a file that is no TIFF, or a damaged one, which is refused where it is decoded whole
        return None
    io.notice_pages(path, "pages", pages, log_notice)

    def rows(wanted: range) -> NDArray[Any]:
        with io.open_tiff(path) as tiff:
            values = _tiff_rows(tiff.pages[number], wanted, shape)
        if no_data:
            values = np.where(values == no_data, values.dtype.type(0), values)
        return np.array(2 ** (8 * size) - 1, values.dtype) - values if flip else values

    colors = 3 if in_jpeg else colors
    return _File(shape, np.dtype(page.dtype).newbyteorder("="), rows, colors, alpha, stated, 2 * piece)


_AXES = {"YX", "YXS", "SYX"}


def _tiff_rows(page: Any, wanted: range, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Decode the strips or tiles of a page that hold the rows."""
    values = np.empty((len(wanted), *shape[1:]), page.dtype.newbyteorder("="))
    down = page.axes.index("Y")
    tall = page.chunks[down]
    numbers = np.arange(prod(page.chunked)).reshape(page.chunked)
    which = np.arange(wanted.start // tall, (wanted.stop - 1) // tall + 1)
    for number in np.take(numbers, which, axis=down).ravel().tolist():
        handle = page.parent.filehandle
        handle.seek(page.dataoffsets[number])
        data = handle.read(page.databytecounts[number])
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if int(page.compression) in {6, 7} else {}
        segment, (plane, _, top, left, _), (_, height, _, _) = page.decode(data, number, **jpeg)
        first, last = max(top, wanted.start), min(top + height, wanted.stop)
        part = segment[0, first - top : last - top, : shape[1] - left]  # tiles at the edges reach beyond the image
        planes = slice(plane, plane + part.shape[2])
        values[first - wanted.start : last - wanted.start, left : left + part.shape[1], planes] = part
    return values


def _decode_whole(path: Path, channels: int, white_level: float | None, room: int) -> LargeImage:
    header = read_header(path)
    if header is not None:
        pixels, bands = prod(header.size), max(header.channels, channels)
        needed = pixels * (bands * 24 if header.deep else bands + 5) + path.stat().st_size
        if needed > room:
            raise UserError(
                f"cannot read image {path}: to decode its {header.size[1]}x{header.size[0]} pixels takes "
                f"{ceil(needed / 1e6):,} MB, and {max(0, room) / 1e6:,.0f} MB of the memory are free. Allow "
                f"{ceil((needed - room) / 1e6):,} MB more by --memory, or save it as a tiled TIFF, which is read "
                f"tile by tile."
            )
        with io.lifted_limit(pixels):
            image = read_input(path, channels, white_level)
    else:
        image = read_input(path, channels, white_level)
    return LargeImage(
        (channels, *image.shape[1:]),
        lambda rows: image[:, rows.start : rows.stop],
        held=image.numel() * image.element_size(),
    )


_CHUNK = struct.Struct(">I4s")


def write_png(
    path: Path,
    size: tuple[int, int],
    bands: Iterable[UInt8[np.ndarray, "..."]],
    effort: int = 3,
    colors: UInt8[np.ndarray, "256 3"] | None = None,
) -> None:
    """Write a grey or RGB image of 8 bits, given in bands of rows (h, W) or (h, W, 3), as PNG; atomically.

    `colors`: those that the values of bands (h, W) stand for, the palette of the file.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with atomic_file(path) as file:

        def chunk(kind: bytes, data: bytes) -> None:
            file.write(_CHUNK.pack(len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data)))

        packer = zlib.compressobj(effort)
        for number, band in enumerate(bands):
            if number == 0:
                file.write(b"\x89PNG\r\n\x1a\n")
                kind = 2 if band.ndim == 3 else 0 if colors is None else 3
                chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, kind, 0, 0, 0))
                if colors is not None:
                    chunk(b"PLTE", colors.tobytes())
            # Every row begins with its filter: of RGB, the differences to the pixel on the left.
            rows = np.zeros((len(band), 1 + prod(band.shape[1:])), np.uint8)
            rows[:, 1:] = band.reshape(len(band), -1)
            if band.ndim == 3:
                rows[:, 0] = 1
                rows[:, 4:] -= band.reshape(len(band), -1)[:, :-3]
            if packed := packer.compress(rows.tobytes()):
                chunk(b"IDAT", packed)
        chunk(b"IDAT", packer.flush())
        chunk(b"IEND", b"")


class LabelFile:
    """A temporary file with the label map of an image that is predicted in tiles, one byte a pixel."""

    def __init__(self, folder: Path, width: int) -> None:
        """`folder`: where it is written, without a name. `width`: of the image."""
        self._folder, self._width = folder, width

    def __enter__(self) -> "LabelFile":
        """Open it. Raises `CannotWrite`, as all methods do."""
        with self._writing():
            self._file = TemporaryFile(dir=self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self._file.close()

    def write(self, rows: range, columns: range, labels: UInt8[np.ndarray, "h w"]) -> None:
        """Write the labels of a tile."""
        with self._writing():
            if len(columns) == self._width:
                self._file.seek(rows.start * self._width)
                self._file.write(labels.tobytes())
                return
            for row, line in zip(rows, labels, strict=True):
                self._file.seek(row * self._width + columns.start)
                self._file.write(line.tobytes())

    def read(self, rows: range) -> UInt8[np.ndarray, "h w"]:
        """Read the labels of some rows."""
        with self._writing():
            self._file.seek(rows.start * self._width)
            return np.frombuffer(self._file.read(len(rows) * self._width), np.uint8).reshape(len(rows), self._width)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._folder, error) from None
