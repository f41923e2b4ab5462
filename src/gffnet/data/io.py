"""Image and label files: the one module that knows file formats.

Images are read as channels of grey levels in 0..255, upright, and label maps as the ids that are stored, whatever the
file's format. A file that cannot be read completely raises one `UserError` that names it, the cause and the remedy.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from math import ceil, inf, prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import imagecodecs
import numpy as np
import torch
from jaxtyping import Bool, Num, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import get_worker_info

from gffnet.data.unread import RAW, unread_kind, unread_suffix
from gffnet.errors import UserError, one_line
from gffnet.files import atomic_write, files_in, leads_nowhere, say_once
from gffnet.remote import EMPTY, fetch

log = logging.getLogger("gffnet")

# PNG, as data sets have it, is decoded by libpng in half the time that Pillow takes, through imagecodecs: torchvision's
# decoder crashes the process where a check sum is wrong. Pillow reads everything else.

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_LENGTH_AND_KIND = struct.Struct(">I4s")
_GREY, _RGB = 0, 2
_BANDS: dict[int, tuple[int, ...]] = {_GREY: (), _RGB: (3,), 4: (2,), 6: (4,)}
"""The last axis of the pixels by the color type."""
_CHANGES_PIXELS = {b"tRNS", b"eXIf", b"acTL"}
"""Chunks that call for more than decoding: transparency, orientation, animation."""
_NEEDED = {b"IHDR", b"IDAT", b"IEND"}
"""Chunks that hold pixels; libpng has warnings to print about some of the others."""


def decode_png(content: bytes, deep: bool = False) -> NDArray[Any] | None:
    """The pixels of a PNG file, `(H, W)` if grey, `(H, W, 3)` if RGB, or None if Pillow should look at it.

    That is, if it is not a plain PNG of eight bits a sample, not upright or transparent, as large as a decompression
    bomb, or damaged. With `deep`, it may also be one of 16 bits, of any color type, `(H, W, C)`, as stored.
    """
    if not content.startswith(_SIGNATURE):
        return None
    try:
        width, height, bits, color, _, _, interlaced = _HEADER.unpack_from(content, 16)
        chunks = list(_chunks(content))
        kinds = {kind for kind, _ in chunks}
        plain = bits == 8 and color in {_GREY, _RGB} and not interlaced and kinds.isdisjoint(_CHANGES_PIXELS)
        plain |= deep and bits == 16 and b"acTL" not in kinds
        if not plain or width * height > pixel_limit():
            return None
        if not kinds <= _NEEDED:
            content = b"".join([_SIGNATURE, *(content[where] for kind, where in chunks if kind in _NEEDED)])
        pixels: NDArray[Any] = imagecodecs.png_decode(content)
    except (struct.error, imagecodecs.PngError, ValueError, MemoryError):
        return None
    return pixels if pixels.shape == (height, width, *_BANDS[color]) else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, slice]]:
    """Kind and place of the chunks in a PNG file, in order. Raises `struct.error` where the file ends within one."""
    at = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length, kind = _LENGTH_AND_KIND.unpack_from(content, at)
        yield kind, slice(at, at + 12 + length)
        at += 12 + length


EXTENSIONS = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".mpo", ".npy", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga"),
    *(".tif", ".tiff", ".webp"),
)
"""Suffixes of images in folders; a file that is given by name may have any."""

READ_LATER = (*EXTENSIONS, ".mat")
"""Suffixes of the files in object stores of which copies are made when they are read (`gffnet.remote.fetch`)."""

READ = "JPEG, PNG, TIFF, WebP, AVIF, JPEG 2000, GIF, BMP, TGA, PNM and arrays in .npy"
"""The formats that are read, for errors."""

Notice: TypeAlias = Callable[[str, str], None]
"""Takes what is silently done to a file otherwise: `pages` or `white-level`, and a sentence that names the file."""

_NAMED, _NAMED_IN_WORKERS = 100, 3
_noticed: dict[str, set[str]] = {}


def log_notice(kind: str, text: str) -> None:
    """Log a notice as a warning: once a process, and only the first of its kind one by one."""
    noticed = _noticed.setdefault(kind, set())
    limit = _NAMED_IN_WORKERS if get_worker_info() else _NAMED
    if text not in noticed and len(noticed) <= limit:
        log.warning(text if len(noticed) < limit else f"{text} The same holds for other files, which are not listed.")
        noticed.add(text)


_ORIENTATION = 0x0112

_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
"""What to do to an image `(H, W, ...)` of each EXIF orientation; 1 is upright."""

_NOT_EXIF = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow looks for an orientation, too, but viewers do not."""

_STRETCHED = {"L;2": 85, "L;4": 17}
"""Pillow stretches grey levels of 2 and 4 bits to 0..255, by these factors; ids must be taken back."""

_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


class Header(NamedTuple):
    """The header of an image file."""

    format: str
    """Pillow's name of it, such as `PNG`; `NPY` of an array of NumPy."""
    size: tuple[int, int]
    """Height and width as stored, before the orientation is applied."""
    orientation: int
    """Of EXIF, 1 if upright or not given."""
    color: bool
    """Whether a pixel is more than one number; a palette index is one."""
    grey: bool
    bits: int
    """Of a sample."""
    channels: int
    """Bands as stored, alpha included; 3 with a palette or CMYK."""
    pages: int
    """Pages of a TIFF, frames of an animation; copies in lower resolution are not counted."""
    colors: int
    """Bands that are color or grey, where the others are alpha or, beside RGB, unnamed."""
    alpha: bool
    """Whether the last band is alpha."""

    def fits(self, channels: int) -> bool:
        """Whether `read_image` reads the image with so many channels."""
        return self.channels == channels or (channels in {1, 3} and self.colors in {1, 3})

    @property
    def deep(self) -> bool:
        """Whether a sample has more than eight bits."""
        return self.bits > 8


def read_header(path: Path) -> Header | None:
    """The header of an image file, None if it cannot be read or is no image."""
    try:
        with path.open("rb") as file:
            start = file.read(EMPTY)
        if start == bytes(EMPTY) and fetch(path):
            with path.open("rb") as file:
                start = file.read(EMPTY)
        if start.startswith(_NPY):
            array = map_array(path)
            height, width, bands = channels_last(array, None).shape
            bits = 8 * array.dtype.itemsize
            return Header("NPY", (height, width), 1, bands > 1, bands == 1, bits, bands, 1, bands, False)
        with warnings.catch_warnings(action="ignore"):
            if start.startswith(_TIFF) and (tiff := _tiff_header(path)):
                return tiff
            with _unlimited():
                opened = Image.open(path)
            with opened as image:
                return _pillow_header(image)
    except Exception:  # Pillow's decoders raise nearly every built-in exception on damaged files
        return None


def _pillow_header(image: ImageFile.ImageFile) -> Header:
    tile = str(image.tile[0].args) if image.tile else ""
    bits = 16 if image.mode in _SIXTEEN_BIT or ";16" in tile else {"1": 1, "I": 32, "F": 32}.get(image.mode, 8)
    grey = image.mode in _SIXTEEN_BIT | {"1", "L", "LA", "La", "I", "F"}
    color = image.mode not in _SIXTEEN_BIT | {"1", "L", "P", "I", "F"}
    channels = 3 if image.mode in {"P", "PA", "CMYK"} else len(image.getbands())
    size = image.height, image.width
    # Pillow decodes all of a PNG to look for an orientation behind its pixels, where hardly any has it.
    stated = image.format != "PNG" or any("exif" in str(key) or "xmp" in str(key) for key in image.info)
    orientation = _orientation(image) if stated else 1
    alpha = image.mode in {"LA", "La", "RGBA", "RGBa"}
    colors = channels - alpha
    return Header(image.format or "", size, orientation, color, grey, bits, channels, _pages(image), colors, alpha)


def read_image(
    path: str | Path, channels: int = 3, white_level: float | None = None, notice: Notice = log_notice
) -> Num[Tensor, "{channels} h w"]:
    """Read an image as a tensor, with its EXIF orientation applied: uint8 of samples of 8 bits, else float32 in 0..255.

    Args:
        path: an image file, or an array in `.npy`, (H, W), (H, W, C) or (C, H, W).
        channels: 3 is RGB: grey and palette images become RGB, an alpha channel is dropped, CMYK is converted. 1 is
            grey: color is converted. Of any other number, the file must have exactly as many bands.
        white_level: the value of a sample deeper than 8 bits that means white; larger ones are clipped. None: what the
            file states, else the smallest of 255, 1023, 4095, 16383 and 65535 that is not below its largest sample,
            with a notice.
        notice: takes what the user should know: an assumed white level, and that a file has further pages or frames
            than the first, which is read. By default it is logged, once a file.

    As from torchvision's decoders, the channels lie last in memory.

    Raises:
        UserError: the file cannot be read completely, is too large, has other channels, or has samples of no known
            range (float, or integers above 65535).
    """
    path = Path(path)
    content = _content(path)
    if channels == 3 and (pixels := decode_png(content)) is not None:
        return as_tensor(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1))
    stored = _read_samples(path, content, channels, notice)
    return as_tensor(to_channels(stored, channels, white_level, f"image {path}", notice))


def read_input(path: str | Path, in_channels: int, white_level: float | None) -> Num[Tensor, "{in_channels} h w"]:
    """Read an image as a network takes it: as uint8 if the network has no white level. Otherwise as `read_image`."""
    image = read_image(path, in_channels, white_level)
    return image if white_level is not None or image.dtype == torch.uint8 else image.round().to(torch.uint8)


def read_stored(path: Path, channels: int = 3, notice: Notice = log_notice) -> "Samples":
    """Read what an image stores, of which `to_channels` makes an image. Raises `UserError`."""
    return _read_samples(path, _content(path), channels, notice)


def as_tensor(pixels: Num[np.ndarray, "h w c"]) -> Num[Tensor, "c h w"]:
    """View an array, channels last, as a tensor, channels first."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def as_array(image: Num[Tensor, "c h w"]) -> Num[np.ndarray, "h w c"]:
    """View an image as an array, channels last, as Pillow and matplotlib have it."""
    return image.permute(1, 2, 0).numpy()


def from_pillow(image: Image.Image, channels: int, white_level: float | None) -> NDArray[Any]:
    """Convert a Pillow image to an upright array (H, W, C), as `read_input` does a file.

    Args:
        image: changed where it has an entry for transparency.
        channels: of the array.
        white_level: of the network; without, the array is uint8, else float32 in 0..255 where samples are deeper.

    Raises:
        UserError: it has other channels.
    """
    levels = to_channels(_pillow_samples(image), channels, white_level, "the image", log_notice)
    return levels if white_level is not None or levels.dtype == np.uint8 else np.rint(levels).astype(np.uint8)


# Samples: the numbers that a file holds, and what they mean.


class Samples(NamedTuple):
    """What an image file holds, upright."""

    values: NDArray[Any]
    """(H, W, C)"""
    colors: int
    """How many bands, from the first, are color or grey; the others are alpha, or unnamed ones beside RGB."""
    white_level: float | None = None
    """If the file states it."""
    alpha: bool = False
    """Whether the last band is alpha."""


def _read_samples(path: Path, content: bytes, channels: int, notice: Notice, transparency: bool = False) -> Samples:
    """The samples of the first page of an image file that is to become so many channels. Raises `UserError`."""
    if content.startswith(_NPY):
        values = channels_last(_read_array(path), channels)
        return Samples(values, values.shape[2])
    if content.startswith(_TIFF) and (samples := _tiff_samples(path, content, channels, notice)) is not None:
        return samples
    if not transparency and (deep := _decode_deep_png(content)) is not None:
        return deep
    return _pillow_samples(_load(path, content, notice), content, transparency)


def _decode_deep_png(content: bytes) -> Samples | None:
    """The samples of a PNG of 16 bits; None of another, and where Pillow should look at it."""
    pixels = decode_png(content, deep=True)
    if pixels is None or pixels.dtype == np.uint8:
        return None
    chunks = {kind: content[where][8:-4] for kind, where in _chunks(content) if kind in {b"sBIT", b"eXIf"}}
    exif = Image.Exif()
    with suppress(Exception):  # a damaged EXIF block does not make an image unreadable
        exif.load(chunks.get(b"eXIf", b""))
    bits = max(chunks.get(b"sBIT", b""), default=0)
    values = _upright(np.atleast_3d(pixels), exif.get(_ORIENTATION, 1))
    white = 2.0**bits - 1 if 8 <= bits <= 16 else None
    return Samples(values, 1 if values.shape[2] < 3 else 3, white, alpha=values.shape[2] in {2, 4})


def _pillow_samples(image: Image.Image, content: bytes = b"", transparency: bool = False) -> Samples:
    """The samples of a decoded image.

    `content`: of its file, from which JPEG 2000 of more than 8 bits is decoded again. `transparency`: turn the color or
    the palette entries that a file declares transparent into an alpha channel.
    """
    orientation, white = _orientation(image), None
    if transparency and image.has_transparency_data and image.mode not in _SIXTEEN_BIT:
        image = image.convert("RGBA")
    image.info.pop("transparency", None)  # Pillow warns where a conversion drops it
    mode = {"1": "L", "P": "RGB", "PA": "RGB", "La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
    if mode not in _SIXTEEN_BIT | {"I", "F", "L", "LA", "RGB", "RGBA"}:
        mode = "RGB"
    values = _in_mode(image, mode)
    if image.format == "PPM":
        white = 65535.0  # Pillow has scaled them
    elif content and image.format == "JPEG2000" and (bits := _jpeg2000_bits(content)) > 8:
        with suppress(imagecodecs.Jpeg2kError):  # then Pillow's samples are used, of 8 bits where they are color
            values, white = imagecodecs.jpeg2k_decode(content), (2.0**bits - 1 if bits < 16 else None)
    values = _upright(np.atleast_3d(values), orientation)
    return Samples(values, 1 if values.shape[2] < 3 else 3, white, alpha=values.shape[2] in {2, 4})


_ROWS_AT_ONCE = 2**24
"""Pixels of an image that are converted at once."""


def _in_mode(image: Image.Image, mode: str) -> NDArray[Any]:
    """The pixels of an image in a mode of Pillow. Rows are converted a part at a time, which halves the peak memory."""

    def part(top: int) -> NDArray[Any]:
        rows = image if step >= image.height else image.crop((0, top, image.width, min(top + step, image.height)))
        return np.asarray(rows if mode == image.mode else rows.convert(mode))

    step = max(1, _ROWS_AT_ONCE // image.width)
    first = part(0)
    if step >= image.height:
        return first
    values = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top in range(0, image.height, step):
        values[top : top + step] = part(top)
    return values


def _upright(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    return _UPRIGHT[orientation](stored) if orientation in _UPRIGHT else stored


def _jpeg2000_bits(content: bytes) -> int:
    """Bits a sample of a JPEG 2000 file, by the first segment of its code stream; 8 if it cannot be found."""
    at = content.find(_JPEG2000_STREAM) + 42
    return (content[at] & 0x7F) + 1 if 42 <= at < len(content) else 8


def to_channels(
    stored: Samples, channels: int, white_level: float | None, what: str, notice: Notice = log_notice
) -> NDArray[Any]:
    """So many channels of an image: uint8, or float32 in 0..255. Raises `UserError`."""
    values, bands, colors = bands_used(stored.values, stored.colors, channels), stored.values.shape[2], stored.colors
    if channels in {1, 3} and colors in {1, 3}:
        levels = _levels(values, stored.white_level, white_level, what, notice)
        if colors < channels:
            return np.repeat(levels, channels, axis=2)
        return levels if colors == channels else to_grey(levels)
    if bands != channels:
        raise wrong_bands(what, bands, channels, alpha=bands > colors)
    return _levels(values, stored.white_level, white_level, what, notice)


def bands_used(values: NDArray[Any], colors: int, channels: int) -> NDArray[Any]:
    """The bands that `to_channels` uses: of an image that is grey or RGB neither alpha nor bands without a name."""
    return values[..., :colors] if channels in {1, 3} and colors in {1, 3} else values


def wrong_bands(what: str, bands: int, channels: int, alpha: bool) -> UserError:
    """The error for an image that has other bands than the model takes."""
    included = ", alpha included" if alpha else ""
    return UserError(
        f"{what} has {bands} band{'s' * (bands > 1)}{included}, but the model takes {channels}: train one that takes "
        f"them, with --set model.backbone.in_channels={bands}, or save images of {channels}."
    )


def to_grey(rgb: NDArray[Any]) -> NDArray[Any]:
    """Luminance by ITU-R 601-2, as Pillow has it, (H, W, 1)."""
    if rgb.dtype == np.uint8:
        return np.array(Image.fromarray(rgb).convert("L"))[..., None]
    weighted: NDArray[Any] = rgb @ np.array([[0.299], [0.587], [0.114]], rgb.dtype)
    return weighted


WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)
"""White levels of sensors of 8 to 16 bits."""


def _levels(
    values: NDArray[Any], stated: float | None, white_level: float | None, what: str, notice: Notice
) -> NDArray[Any]:
    """Grey levels in 0..255, writable: 8 bits as they are, else float32. Raises `UserError`."""
    if values.dtype == np.uint8:
        return np.require(values, requirements=["C", "W"])
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    high = largest_sample(values)
    if white_level is None and stated and stated >= high:
        white_level = stated
    elif white_level is None:
        white_level = assumed_white_level(values, high, is_stretched(values), what, notice)
    levels: NDArray[np.float32] = np.nan_to_num(values.astype(np.float32) / np.float32(white_level / 255))
    return np.clip(levels, 0, 255, out=levels)


def largest_sample(values: NDArray[Any]) -> float:
    """The largest sample that is a finite number, 0 if all are below."""
    finite = np.isfinite(values) if values.dtype.kind == "f" else True
    return float(np.max(values, initial=0, where=finite))


def guess_white_level(values: NDArray[Any], high: float, what: str) -> int:
    """The least white level of a sensor that is not below its largest sample. Raises `UserError` for floats."""
    level = next((level for level in WHITE_LEVELS if high <= level), None)
    if values.dtype.kind == "f" or level is None:
        kind = f"{8 * values.dtype.itemsize}-bit {'float' if values.dtype.kind == 'f' else 'integer'}"
        raise UserError(
            f"{what}: {kind} samples have no known white level (its largest is {high:.6g}): set "
            "model.white_level=N to the value that is white, or save it with 8 or 16 bits a channel."
        )
    return level


def is_stretched(values: NDArray[Any]) -> bool:
    """Whether samples of 16 bits are such of 8 bits, stretched to the whole range."""
    return values.dtype == np.uint16 and bool((values >> 8 == values & 255).all())


def assumed_white_level(values: NDArray[Any], high: float, stretched: bool, what: str, notice: Notice) -> int:
    """The white level that the largest sample suggests, with a notice. Raises `UserError`."""
    level = guess_white_level(values, high, what)
    # The whole range of 16 bits, or 8 bits stretched to it, needs no word; that of signed ones ends at half of it.
    if stretched or (values.dtype == np.uint16 and level == 65535):
        return 65535
    notice(
        "white-level",
        f"{what}: its largest sample is {high:.0f}, and nothing says which value is white: {level} is assumed. Set "
        "model.white_level=N of the recipe to the value that is white in all images.",
    )
    return level


_JPEG = b"\xff\xd8\xff"
_JPEG2000_STREAM = b"\xff\x4f\xff\x51"

# Arrays of NumPy.

_NPY = b"\x93NUMPY"


def map_array(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, mapped. Raises nearly every built-in exception where it is damaged."""
    with warnings.catch_warnings(action="ignore"):  # numpy warns of some damaged headers
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    return array


def _read_array(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, in native byte order. Raises `UserError`."""
    try:
        array = map_array(path)
    except Exception as error:
        if "Python objects" in str(error):
            _unreadable(path, "its array holds Python objects", "Save an array of numbers")
        _unreadable(path, f"it is damaged or cut short ({one_line(error)})", "Copy it again")
    if array.dtype.kind not in "biuf" or array.ndim not in {2, 3} or not array.size:
        raise UserError(
            f"image {path}: its array is {array.dtype} {array.shape}, but an image is (height, width), "
            "(height, width, bands) or (bands, height, width) of integers or floats. Save such an array."
        )
    _check_size(path, channels_last(array, None).shape)
    return np.array(array, array.dtype.newbyteorder("="))


def channels_last(array: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """View (H, W), (H, W, C) or (C, H, W) as (H, W, C): C is the axis of `channels`, else the shorter one."""
    if array.ndim == 2:
        return array[..., None]
    first, _, last = array.shape
    is_last = last <= first if channels not in {first, last} or first == last else last == channels
    return array if is_last else array.transpose(1, 2, 0)


def _check_size(path: Path, shape: Sequence[int]) -> None:
    """Raise `UserError` for an image as large as a decompression bomb."""
    (height, width), limit = shape[:2], pixel_limit()
    if height * width > limit:
        _unreadable(
            path,
            f"it is of {width}x{height} = {width * height:,} pixels, and files of more than {limit:,.0f} are refused, "
            "since a small one can fill the memory",
            f"Predict it with --memory, such as --memory 8GB, or set the environment variable {PIXEL_LIMIT} to "
            f"{width * height}, or cut it into tiles",
        )


PIXEL_LIMIT = "GFFNET_MAX_PIXELS"
"""The environment variable with the most pixels that an image may have, in place of Pillow's limit."""
_lifted: ContextVar[float] = ContextVar("lifted", default=0)
_lock = threading.Lock()


def pixel_limit() -> float:
    """Return how many pixels an image may have at most: twice `PIL.Image.MAX_IMAGE_PIXELS`, unless it is lifted.

    Raises:
        UserError: the environment variable is no number.
    """
    text = os.environ.get(PIXEL_LIMIT) or 2 * (Image.MAX_IMAGE_PIXELS or inf)
    try:
        return max(float(text), _lifted.get())
    except ValueError:
        raise UserError(f"{PIXEL_LIMIT} {text!r} must be a number of pixels, such as 200000000.") from None


@contextmanager
def lifted_limit(pixels: float) -> Iterator[None]:
    """Let images have so many pixels, in this thread."""
    token = _lifted.set(pixels)
    try:
        yield
    finally:
        _lifted.reset(token)


@contextmanager
def _unlimited() -> Iterator[None]:
    """Open images of any size: Pillow checks the size where it opens them, and has one limit for all threads."""
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


# TIFF. Pillow reads pictures; what GDAL and microscopes write, bands and deep samples, is read by tifffile.

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB_TIFF, _YCBCR = 0, 1, 2, 6
_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 281, 341
_ALPHA = {1, 2}
"""Kinds of extra samples."""
_JPEG_IN_TIFF = {6, 7, 34892}
_COMPRESSION_OF_PILLOW = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
"""Not among them are LERC, JPEG XL, JPEG 2000 and WebP."""
_REDUCED_OR_MASK = 1 | 4
"""Bits of NewSubfileType."""


def open_tiff(source: Any) -> Any:
    """Open a TIFF by tifffile, without its log messages. Raises nearly every built-in exception where it is damaged."""
    import tifffile

    logger = logging.getLogger("tifffile")  # has much to say about damaged tags
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL + 1)
    return tifffile.TiffFile(source)


def first_page(file: Any) -> tuple[int, int]:
    """The number of the first page that is no reduced copy, thumbnail or mask of another, and how many there are."""
    kinds = [int(getattr(page, "subfiletype", 0)) for page in file.pages]
    whole = [i for i, kind in enumerate(kinds) if not kind & _REDUCED_OR_MASK]
    return (whole[0], len(whole)) if whole else (0, 1)


def _tiff_header(path: Path) -> Header | None:
    """The header of a TIFF; None if tifffile cannot tell."""
    try:
        with open_tiff(path) as file:
            first, pages = first_page(file)
            page = file.pages[first]
            photometric, bands = int(page.photometric), page.samplesperpixel
            grey = photometric in {_MIN_IS_WHITE, _MIN_IS_BLACK} and tiff_colors(page)[0] == 1
            size = page.imagelength, page.imagewidth
            if 0 in size:
                return None
            orientation = tiff_orientation(page)
            channels = 3 if photometric in {3, 5} else bands
            colors, alpha = tiff_colors(page)
            colors = 3 if channels == 3 else colors
            bits = page.bitspersample
            return Header("TIFF", size, orientation, bands > 1, grey, bits, channels, pages, colors, alpha)
    except Exception:
        return None


def tiff_colors(page: Any) -> tuple[int, bool]:
    """How many bands are not alpha (of RGB, three), and whether the last one is."""
    bands, extra = int(page.samplesperpixel), page.extrasamples
    alpha = bool(extra) and int(extra[-1]) in _ALPHA
    return (3 if int(page.photometric) == _RGB_TIFF else bands - alpha), alpha


def tiff_orientation(page: Any) -> int:
    """The EXIF orientation of a page, 1 if upright or not given."""
    return int(page.tags.valueof(_ORIENTATION, 1))


def tiff_white_level(page: Any) -> float | None:
    """The white level that a page states, the largest of its bands'; None if it states none."""
    stated = page.tags.valueof(_S_MAX_SAMPLE_VALUE) or page.tags.valueof(_MAX_SAMPLE_VALUE)
    white = max(stated, default=0) if isinstance(stated, tuple) else stated
    return float(white) if white else None


def _kind_of_tiff(content: bytes) -> str:
    """What the pixels of a TIFF are, in the words of the format; empty if it is none."""
    with suppress(Exception), open_tiff(io.BytesIO(content)) as file:
        page = file.pages[first_page(file)[0]]
        return (
            f"photometric {getattr(page.photometric, 'name', page.photometric)}, {page.samplesperpixel} x "
            f"{page.bitspersample} bits, compression {getattr(page.compression, 'name', page.compression)}"
        )
    return ""


def _tiff_samples(path: Path, content: bytes, channels: int | None, notice: Notice) -> Samples | None:
    """The samples of a TIFF of bands, or of deep samples; None of others, which Pillow reads. Raises `UserError`.

    `channels`: the number that is wanted; None: as stored.
    """
    try:
        with open_tiff(io.BytesIO(content)) as file:
            first, pages = first_page(file)
            page = file.pages[first]
            if _is_read_by_pillow(page, channels):
                return None
            _check_size(path, (page.imagelength, page.imagewidth))
            samples = _decode_tiff(page, content, as_image=channels is not None)
    except UserError:
        raise
    except Exception as error:  # damaged files raise nearly every built-in exception
        _unreadable(path, f"it is damaged or cut short ({one_line(error)[:200]})", "Copy or download it again")
    if samples.values.dtype.kind not in "biuf":
        dtype = samples.values.dtype
        raise UserError(f"image {path}: its samples are {dtype}. Save their magnitudes, with 16 bits or as float32.")
    notice_pages(path, "pages", pages, notice)
    return samples


def _is_read_by_pillow(page: Any, channels: int | None) -> bool:
    """Whether a page is a picture, of 8 bits a sample, that is to become so many channels."""
    photometric, bands, bits = int(page.photometric), int(page.samplesperpixel), int(page.bitspersample)
    if photometric == _YCBCR:  # which Pillow takes for another where it is not compressed
        return not (int(page.compression) == 1 and bands == 3 and bits == 8)
    if photometric not in {_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB_TIFF}:
        return True
    stated = page.tags.valueof("PhotometricInterpretation") is not None
    if channels is None and photometric == _MIN_IS_WHITE and stated and bits > 1:  # Pillow inverts ids
        return False
    many = bands > 3 and channels not in {None, 1, 3} if photometric == _RGB_TIFF else bands > 1
    plain = bits == 8 or (bits in {1, 2, 4} and photometric != _RGB_TIFF)
    unsigned = int(page.sampleformat) == 1
    return plain and unsigned and not many and int(page.compression) in _COMPRESSION_OF_PILLOW


def _decode_tiff(page: Any, content: bytes, as_image: bool) -> Samples:
    """The samples of a page. Raises nearly every built-in exception where the file is damaged."""
    photometric, bits = int(page.photometric), int(page.bitspersample)
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    whole = len(page.dataoffsets) == prod(page.chunked)
    if not whole or any(not length or start + length > len(content) for start, length in segments):
        raise ValueError("strips are missing")
    values = page.asarray(maxworkers=1)
    values = np.atleast_3d(np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values)
    if values.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise ValueError(f"its shape is {values.shape}")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if as_image and bits > 8 and page.nodata:  # which may be the largest value
        values = np.where(values == page.nodata, values.dtype.type(0), values)
    if photometric == _YCBCR:
        values = np.array(Image.fromarray(values, "YCbCr").convert("RGB"))
    if photometric == _MIN_IS_WHITE and values.dtype.kind == "u" and as_image:
        values = np.array(2**bits - 1, values.dtype) - values
    white = tiff_white_level(page)
    if values.dtype.kind == "u" and bits not in {8, 16, 32, 64}:
        white = 2.0**bits - 1
        if bits < 8 and as_image:
            values = np.rint(values * (255 / white)).astype(np.uint8)
    colors, alpha = tiff_colors(page)
    return Samples(_upright(values, tiff_orientation(page)), colors, white, alpha)


def _pages(image: Image.Image) -> int:
    """How many frames a decoder finds in a picture; of several pictures in a JPEG, those of the size of the first."""
    count = getattr(image, "n_frames", 1) if image.format in {"GIF", "WEBP", "PNG", "AVIF", "MPO"} else 1
    if image.format != "MPO":  # of those in MPO, some are thumbnails or gain maps
        return count
    sizes = []
    for number in range(count):
        image.seek(number)
        sizes.append(image.size)
    image.seek(0)
    return sizes.count(sizes[0])


def notice_pages(path: Path, what: str, count: int, notice: Notice) -> None:
    """Give notice of pages or frames that are not read, if there are some."""
    if count > 1:
        remedy = "Save the others as files of their own to use them."
        notice("pages", f"{path}: the first of {count} {what} is used, the others are not read. {remedy}")


def read_labels(path: str | Path, notice: Notice = log_notice) -> NDArray[Any]:
    """The label map as stored, `(H, W)`: palette indices or grey levels; uint8, or int32 where a sample has more bits.

    It is turned upright as images are. A palette with transparent colors changes nothing: the index is the id.

    Raises:
        UserError: the file cannot be read completely, is in color, has an alpha channel, or is a JPEG.
    """
    path = Path(path)
    content = _content(path)
    if (pixels := decode_png(content)) is not None and pixels.ndim == 2:
        return pixels
    if content.startswith(_NPY):
        values = channels_last(_read_array(path), None)
        return _ids(Samples(values, values.shape[2]), path)
    if kind := _lossy(content):
        raise UserError(f"label map {path}: {kind} changes grey levels, so its ids are lost: save label maps as PNG.")
    if content.startswith(_TIFF) and (samples := _tiff_samples(path, content, None, notice)) is not None:
        return _ids(samples, path)
    image = _load(path, content, notice)
    orientation = _orientation(image)
    if image.format == "PPM" and image.mode in {"L", "I"}:
        return _upright(_ids_of_pgm(image), orientation)
    if image.mode in {"1", "L", "P"}:
        ids = _upright(np.asarray(image).astype(np.uint8), orientation)
        _check_grey_gif(path, image, ids)
        factor = _STRETCHED.get(image.info["rawmode"], 1)
        if image.format == "JPEG2000":
            factor = 2 ** max(0, 8 - _jpeg2000_bits(content))
        return ids // np.uint8(factor)
    if image.mode in _SIXTEEN_BIT | {"I", "F"}:
        return _ids(_pillow_samples(image, content), path)
    raise _no_ids(path, image.mode)


def _ids_of_pgm(image: Image.Image) -> NDArray[Any]:
    """The ids in a decoded PGM: Pillow stretches them from 0..maxval to 0..255 or 0..65535."""
    whole = 255 if image.mode == "L" else 65535
    ids: NDArray[Any] = np.rint(np.asarray(image) * (image.info.get("maxval", whole) / whole))
    return ids.astype(np.uint8 if image.mode == "L" else np.int32)


def _check_grey_gif(path: Path, image: Image.Image, ids: NDArray[np.uint8]) -> None:
    """Raise `UserError` for a GIF whose colors are grey levels other than their indices, which its writer numbers."""
    if image.format != "GIF" or image.mode != "P":
        return
    used = np.unique(ids)
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[used]
    wrong = (colors[:, 0] != used).nonzero()[0]
    if (colors == colors[:, :1]).all() and len(wrong):
        level, index = colors[wrong[0], 0], used[wrong[0]]
        raise UserError(
            f"label map {path}: its grey level {level} has index {index} in its palette, as programs number the levels "
            "of a GIF in an order of their own, so its ids are not known: save label maps as PNG, or write "
            "`masks: colors` and the color of every class into classes.yaml."
        )


def _no_ids(path: Path, what: str) -> UserError:
    return UserError(
        f"label map {path}: its pixels are {what}, but color masks are not id masks: one grey level or palette "
        "index a pixel is needed. Convert its colors to class ids, or use the data set's id files."
    )


def _ids(samples: Samples, path: Path) -> NDArray[Any]:
    """The ids (H, W) in samples. Raises `UserError`."""
    if samples.values.shape[2] != 1:
        raise _no_ids(path, "LA" if samples.alpha else f"of {samples.values.shape[2]} bands")
    ids = samples.values[..., 0]
    if ids.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN and large values become an integer that they do not equal
            whole = ids.astype(np.int32)
        if (whole != ids).any():
            raise UserError(f"label map {path}: it holds values that are no integers, so no ids. Save ids as PNG.")
        ids = whole
    if ids.dtype.itemsize == 1:
        return np.array(ids, np.int32 if ids.dtype == np.int8 else np.uint8)
    low, high = int(ids.min()), int(ids.max())
    if high >= 2**63:
        raise UserError(f"label map {path}: it holds {high}, which is no id: ids are smaller. Correct it.")
    return np.array(ids, np.int32 if low >= -(2**31) and high < 2**31 else np.int64)


def _opaque(alpha: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Which pixels of a mask are labelled, by its alpha channel. Raises `UserError` where that is between."""
    whole = np.iinfo(alpha.dtype).max
    between = (alpha != 0) & (alpha != whole)
    if between.any():
        row, column = np.argwhere(between)[0]
        raise UserError(
            f"mask {path}: {between.sum()} of its {alpha.size} pixels are partly transparent, the first with alpha "
            f"{alpha[row, column]} at row {row}, column {column}. Only 0 (unlabelled) and {whole} (labelled) have a "
            "meaning: save it without an alpha channel, or without smoothed edges."
        )
    opaque: NDArray[np.bool_] = alpha == whole
    return opaque


def read_colors(path: str | Path) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
    """The colors of a mask, through its palette if it has one, and which pixels it labels: those that are opaque.

    Turned upright as images are. None in place of the pixels: all are labelled. Of 16 bits, the high byte is the color.

    Raises:
        UserError: the file cannot be decoded completely, has partly transparent pixels, or is a JPEG.
    """
    path = Path(path)
    content = _content(path)
    if (pixels := decode_png(content)) is not None:
        return (pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)), None
    if kind := _lossy(content):
        raise UserError(f"mask {path}: {kind} changes colors, so its classes are lost: save masks as PNG.")
    values, colors, _, alpha = _read_samples(path, content, 3, log_notice, transparency=True)
    if colors not in {1, 3} or values.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise UserError(
            f"mask {path}: it has {values.shape[2]} bands of {values.dtype}, but colors are three of 8 or 16 bits. "
            "Save it as PNG."
        )
    opaque = _opaque(values[..., -1], path) if alpha else None
    rgb = values[..., :colors] if values.dtype == np.uint8 else (values[..., :colors] >> 8).astype(np.uint8)
    return np.require(np.repeat(rgb, 3 // colors, axis=2), requirements=["C", "W"]), opaque


def _lossy(content: bytes) -> str:
    """The compression of a file that changes ids and colors; empty if it does not."""
    if content.startswith(_JPEG):
        return "JPEG"
    if content.startswith(_TIFF):
        with suppress(Exception), open_tiff(io.BytesIO(content)) as file:
            page = file.pages[first_page(file)[0]]
            if int(page.compression) in _JPEG_IN_TIFF:
                return "JPEG"
            content = content[page.dataoffsets[0] :][: page.databytecounts[0]]
    at = content.find(b"\xff\x52", content.find(_JPEG2000_STREAM)) if _JPEG2000_STREAM in content[:4096] else -1
    return "JPEG 2000" if 0 <= at < len(content) - 13 and content[at + 13] == 0 else ""


def write_image(path: Path, rgb: NDArray[np.uint8], effort: int = 6) -> None:
    """Write a uint8 `(H, W, 3)` image in the format of its extension, atomically.

    `effort`: 1..9, of compressing a PNG; 3 takes a third of the time of 6, for a file a tenth larger.

    Raises:
        UserError: the extension is no image format, or the file cannot be written.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image is uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"cannot write {path}: {path.suffix!r} is no image format. Use .png or .jpg.")
    atomic_write(path, encode_image(Image.fromarray(rgb), kind, quality=95, compress_level=effort))


def write_labels(
    path: Path, labels: NDArray[Any], colors: UInt8[np.ndarray, "256 3"] | None = None, effort: int = 6
) -> None:
    """Write ids `(H, W)` as a PNG of 8 bits, or 16 where an id is above 255; atomically.

    Args:
        path: the file.
        labels: integers.
        colors: of the ids 0..255, as the palette of the file: viewers show colors, and the pixels are the ids
            nevertheless. Without, the file is grey, which OpenCV needs in order to read the ids.
        effort: 1..9, of compressing.

    Raises:
        UserError: the file cannot be written.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise ValueError(f"a label map is (H, W) of integers, got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() > (65535 if colors is None else 255):
        raise ValueError(f"a PNG holds ids 0..65535, with colors 0..255, got {labels.min()}..{labels.max()}")
    image = Image.fromarray(labels.astype(np.uint8 if labels.max() <= 255 else np.uint16))
    if colors is not None:
        image.putpalette(colors.tobytes())
    atomic_write(path, encode_image(image, "PNG", compress_level=effort))


def encode_image(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a Pillow image as the content of a file of Pillow's format `kind`; `options` of that format."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def image_files(
    inputs: Sequence[Path], extensions: Sequence[str] = EXTENSIONS, out: Path | None = None
) -> dict[Path, Path]:
    """Return the files among `inputs`, and the images of its folders as `images_in` lists them, with their input.

    A file that is reached in several ways is listed once: by the first, and not by a link if it is an input itself.

    Raises:
        UserError: an input does not exist, or a folder holds no image.
    """
    files: dict[Path, Path] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            for file in images_in(given, extensions, out):
                files.setdefault(file, given)
        elif given.exists() or given.is_symlink():
            files.setdefault(given, given)
        else:
            raise UserError(f"{given} does not exist: give an image file or a folder of images.")
    folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}
    places = {file: os.path.join(folders[file.parent], file.name) for file in files}  # noqa: PTH118  # may be many
    listed, links = set(places.values()), []
    once: dict[str, Path] = {}
    for file, place in places.items():
        if file.is_symlink() and (target := os.path.realpath(file)) != place and target in listed:
            links.append(file)
        else:
            once.setdefault(place, file)
    if links:
        more = f" (and {len(links) - 1} more such links)" if len(links) > 1 else ""
        say_once(f"left out: {links[0]}, a link to {os.path.realpath(links[0])}, which is an input itself{more}")
    return {file: files[file] for file in once.values()}


def images_in(folder: Path, extensions: Sequence[str] = EXTENSIONS, out: Path | None = None) -> list[Path]:
    """List the images of a folder and its subfolders, sorted. For links, results and `out` see `files_in`.

    Raises:
        UserError: there is none.
    """
    found, unread = [], []
    for file in files_in(folder, out):
        if file.suffix.lower() in extensions:
            found.append(file)
        elif unread_suffix(file):
            unread.append(file)
        elif leads_nowhere(file):
            say_once(f"left out: {file} is a link to {file.readlink()}, which is not there")
    left_out = _describe_unread(unread) if unread else ""
    if not found:
        none = f"folder {folder} holds no image. Images end in {' '.join(extensions)}."
        raise UserError(f"folder {folder} holds no image that is read: {left_out}" if left_out else none)
    if left_out:
        say_once(f"left out: {left_out}")
    return found


def unread_files(folder: Path) -> list[Path]:
    """List the files of a folder and its subfolders that are images by their names, in formats that are not read."""
    return [file for file in files_in(folder) if unread_suffix(file)]


def _describe_unread(files: Sequence[Path]) -> str:
    """What files of formats that are not read are, and how to convert them."""
    kind = unread_suffix(files[0]) or RAW
    more = f" and {len(files) - 1} more such files" if len(files) > 1 else ""
    remedy = kind.remedy.replace("FILE", str(files[0]))
    return f"{files[0]} ({kind.what}){more}; gffnet reads {READ}. {remedy}."


_FETCHES = 3
"""How often an object is fetched: it may be removed before it is read; one that begins with zeros looks like that."""


def _whole(path: Path) -> bytes:
    """The bytes of a file, fetched first if it is a copy of an object that is not here yet."""
    content = path.read_bytes()
    for _ in range(_FETCHES):
        if not content.startswith(bytes(EMPTY)) or not fetch(path):
            break
        content = path.read_bytes()
    return content


def _content(path: Path) -> bytes:
    try:
        content = _whole(path)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        if leads_nowhere(path):
            cause = f"it is a link to {path.readlink()}, which is not there"
        _unreadable(path, cause, "Check the path and its permissions, or copy the file again")
    if content.startswith(_TIFF) and unread_kind(path, content) is RAW:
        _refuse_unread(path, content)
    return content


def _load(path: Path, content: bytes, notice: Notice) -> Image.Image:
    """The image in the content of a file, decoded whole; `info["rawmode"]` says how its samples are stored."""
    try:
        image = _decode(path, io.BytesIO(content))
    except UserError:
        raise
    except UnidentifiedImageError:
        _refuse_unread(path, content)
        if kind := _kind_of_tiff(content):
            remedy = f"Save it as grey or RGB of 8 or 16 bits: magick {path} -colorspace sRGB image.png"
            _unreadable(path, f"it is a TIFF that is not read ({kind})", remedy)
        _unreadable(path, "its content is no image" if content else "the file is empty", "Copy or download it again")
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        _refuse_unread(path, content)
        _unreadable(path, f"it is damaged or cut short ({one_line(error)})", "Copy or download it again")
    notice_pages(path, "pages" if image.format == "TIFF" else "frames", image.info["pages"], notice)
    return image


def _refuse_unread(path: Path, content: bytes) -> None:
    """Raise `UserError` for a file of a kind that is not read; its remedy is no second download."""
    if content and (kind := unread_kind(path, content)):
        _unreadable(path, f"it is {kind.what}; gffnet reads {READ}", kind.remedy.replace("FILE", str(path)))


def _decode(path: Path, file: io.BytesIO) -> Image.Image:
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of damage that does not reach the pixels
        with _unlimited():
            image = Image.open(file)
        _check_size(path, (image.height, image.width))
        first, pages = 0, _pages(image)
        if image.format == "PNG":  # Pillow fills up with zeros where the end of a PNG is missing: check all of it first
            image.verify()
            file.seek(0)
            with _unlimited():
                image = Image.open(file)
        elif image.format == "TIFF":
            with suppress(Exception), open_tiff(io.BytesIO(file.getvalue())) as tiff:
                first, pages = first_page(tiff)
            with _unlimited():
                image.seek(first)
        args = image.tile[0].args if image.tile else None
        image.info["rawmode"], image.info["pages"] = args[0] if isinstance(args, tuple) and args else args, pages
        if image.format == "PPM" and isinstance(args, tuple):
            image.info["maxval"] = args[1]
        # Of a TIFF, it fills up with zeros what no strip covers. Width and height have changed places if it lies.
        if image.format == "TIFF" and image.tile and {*(image.tile[-1].extents or ())[2:]} != {*image.size}:
            raise OSError("strips are missing")
        above = image.width * image.height > (Image.MAX_IMAGE_PIXELS or inf)
        with _unlimited() if above else nullcontext():  # of a TIFF, the size is checked once more
            image.load()
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or the EXIF block is damaged."""
    with warnings.catch_warnings(action="ignore"):
        for key in _NOT_EXIF:
            image.info.pop(key, None)
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # a damaged EXIF block does not make an image unreadable
            return 1
    return orientation if isinstance(orientation, int) else 1


def _unreadable(path: Path, cause: str, remedy: str) -> NoReturn:
    raise UserError(f"cannot read image {path}: {cause}. {remedy}.") from None


# MATLAB's MAT files: a matrix of ids, and a cell array of texts. Version 7.3 (`save -v7.3`), which is HDF5, is read by
# h5py. Level 5 (`save -v6`, `-v7`) is read here: `scipy.io.loadmat` ends the process with a segmentation fault on 11 of
# 400 files of unpacked variables that have a few bytes changed. Nothing is allocated that the bytes of the file do not
# fill, and a variable must be stored in the file completely.

MAX_MAT_BYTES = 2**26
"""Largest size of a file and of one of its variables; those of the data sets take less than a twentieth."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TEXT_HEADER = 512
"""HDF5 begins after MATLAB's own header."""


class _MatError(ValueError):
    """The cause, in words that fit behind the file's name."""


def read_mat(path: Path, ids: str, texts: str | None = None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read the matrix `ids` of integers, (H, W), and the cell array `texts`, a row or a column, from a MAT file.

    Raises:
        UserError: the file cannot be read or is damaged, or a variable is missing or of another kind.
    """
    names = [ids, *([texts] if texts else [])]
    try:
        if path.stat().st_size > MAX_MAT_BYTES:
            raise _MatError(f"it is larger than {MAX_MAT_BYTES:,} bytes, so it is no label map")
        data = _whole(path)
        is_hdf5 = data[_TEXT_HEADER:].startswith(_HDF5) or data.startswith((_HDF5, b"MATLAB 7.3"))
        found = (_read_hdf5 if is_hdf5 else _read_level_5)(data, names)
        return _integers(ids, found[ids]), _texts(texts, found[texts]) if texts else ()
    except OSError as error:
        cause, remedy = (error.strerror or str(error)).lower(), "Check the path and its permissions"
    except ImportError:
        cause = "it is a MAT file of version 7.3 (HDF5), which h5py reads, and h5py is missing"
        remedy = "Run `python -m pip install 'gffnet[coco]'`, or save the file again with MATLAB's `save -v7`"
    except _MatError as error:
        cause, remedy = str(error), "Copy or download it again"
    raise UserError(f"cannot read label map {path}: {cause}. {remedy}.")


# Level 5: 128 bytes of header, then elements: a tag (kind, size), then as many bytes. A variable is a matrix, plain or
# packed by zlib; a matrix is an element made of elements: flags, shape, name, content.

_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The dtype by the kind of an element."""
_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""The encoding of characters by the kind of an element."""
_CELL_CLASS, _CHAR_CLASS, _NUMERIC_CLASSES, _COMPLEX_FLAG = 1, 4, range(6, 16), 0x0800
_MAX_CELL_BYTES = 2**20


def _read_level_5(data: bytes, names: Sequence[str]) -> dict[str, Any]:
    """The variables of a file of level 5: a matrix or a cell array of texts as an array, else None."""
    if not data:
        raise _MatError("the file is empty")
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
    if order is None:
        raise _MatError("its content is no MAT file")
    found: dict[str, Any] = {}
    others: list[str] = []
    try:
        for kind, content in _elements(data[128:], order):
            head = zlib.decompressobj().decompress(content, 1024)[8:] if kind == _PACKED else content
            name = _parse(head, order)[2] if kind in {_MATRIX, _PACKED} else ""
            if name in names and name not in found:
                found[name] = _decode_matrix(_unpack(content, order) if kind == _PACKED else content, order)
            else:
                others.append(name)
            if len(found) == len(names):
                return found
    except _MatError:
        raise
    except (ValueError, struct.error, zlib.error, StopIteration) as error:
        raise _damaged(error) from None
    _check_names(names, [*found, *others])
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the elements, in order. Raises `ValueError` where the data end within one."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # up to four bytes, which stand in the tag
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + (size if kind == _PACKED else -(-size // 8) * 8)
        if size > end - start or start + size > len(data):
            raise ValueError("an element is incomplete")
        yield kind, data[start : start + size]
        at = end


def _unpack(content: bytes, order: str) -> bytes:
    """The matrix in a packed variable; its check sum is verified."""
    unpacker = zlib.decompressobj()
    kind, size = struct.unpack(order + "II", unpacker.decompress(content, 8))
    if kind != _MATRIX or size > MAX_MAT_BYTES:
        raise ValueError(f"a variable claims {size:,} bytes")
    matrix = unpacker.decompress(unpacker.unconsumed_tail, size + 1)  # one more, to reach the check sum
    if len(matrix) != size or not unpacker.eof:
        raise ValueError("a variable is incomplete")
    return matrix


def _parse(matrix: bytes, order: str) -> tuple[int, tuple[int, ...], str, Iterator[tuple[int, bytes]]]:
    """Flags, shape and name of a matrix, and the elements of its content."""
    elements = _elements(matrix, order)
    (flags_kind, flags), (shape_kind, shape), (name_kind, name) = next(elements), next(elements), next(elements)
    if (flags_kind, name_kind) != (6, 1) or shape_kind not in {5, 6} or len(flags) != 8 or not shape:
        raise ValueError("a variable lacks its flags, its shape or its name")
    sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return struct.unpack_from(order + "I", flags)[0], sides, name.decode("latin-1"), elements


def _decode_matrix(matrix: bytes, order: str) -> NDArray[Any] | None:
    """A matrix of numbers or a cell array of texts; else None."""
    flags, shape, _, elements = _parse(matrix, order)
    if flags & 0xFF in _NUMERIC_CLASSES and not flags & _COMPLEX_FLAG and len(shape) == 2 and min(shape) > 0:
        kind, content = next(elements)
        if kind not in _NUMBERS:
            raise ValueError("a matrix holds no numbers")
        return np.frombuffer(content, order + _NUMBERS[kind]).reshape(shape, order="F")
    if flags & 0xFF == _CELL_CLASS and min(shape) > 0 and len(matrix) <= _MAX_CELL_BYTES:
        texts = [_decode_text(cell, order) if kind == _MATRIX else None for kind, cell in elements]
        cells = np.empty(len(texts), object)
        cells[:] = texts
        return cells.reshape(shape, order="F")
    return None


def _decode_text(cell: bytes, order: str) -> str | None:
    """The text in a cell; None if it holds something else."""
    flags, shape, _, elements = _parse(cell, order)
    if flags & 0xFF != _CHAR_CLASS:
        return None
    kind, characters = next(elements)
    if kind not in _CODECS:
        raise ValueError("a text holds no characters")
    codec = _CODECS[kind]
    text = characters.decode(codec if codec in {"latin-1", "utf-8"} else codec + ("-le" if order == "<" else "-be"))
    if prod(shape) not in {len(text), len(text.encode("utf-16-le")) // 2}:  # MATLAB counts code units of UTF-16
        raise ValueError("a text is not as long as it says")
    return text


# Version 7.3: the variables are the datasets of the root group, and attributes name their MATLAB classes.


def _read_hdf5(data: bytes, names: Sequence[str]) -> dict[str, Any]:
    """The variables of a file of version 7.3, in the same form.

    Raises:
        ImportError: h5py is missing.
    """
    import h5py

    try:
        with h5py.File(h5py.h5f.open_file_image(data)) as file:
            _check_names(names, [name for name in file if not name.startswith("#")])  # cells are in #refs#
            return {name: _read_hdf5_variable(h5py, file, name) for name in names}
    except _MatError:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError and more on damaged files
        raise _damaged(error) from None


def _read_hdf5_variable(h5py: Any, file: Any, name: str) -> Any:
    """A matrix or a cell array of texts as an array, else None. The axes are in Fortran's order: (W, H) for (H, W)."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise _MatError(f"variable {name!r} is a link to another place")
    stored, kind = file[name], _matlab_class(file[name])
    if not kind:
        raise _MatError(f"MATLAB did not write variable {name!r}, so the order of its axes is not known")
    if not isinstance(stored, h5py.Dataset) or stored.attrs.get("MATLAB_empty", 0):
        return None
    if kind == "cell" and stored.size <= _MAX_CELL_BYTES and h5py.check_ref_dtype(stored.dtype) is h5py.Reference:
        cells = _read_complete(stored, f"variable {name!r}").T
        return np.array([[_read_hdf5_text(h5py, file, cell, name) for cell in row] for row in cells], object)
    if kind in {"cell", "char", "struct"} or stored.dtype.kind not in "iuf":
        return None
    return _read_complete(stored, f"variable {name!r}").T


def _read_hdf5_text(h5py: Any, file: Any, cell: Any, name: str) -> str | None:
    """The text that a cell refers to, in UTF-16, a code unit a number; None if it refers to something else."""
    stored = file[cell] if cell else None
    if not isinstance(stored, h5py.Dataset) or _matlab_class(stored) != "char":
        return None
    if not stored.size or stored.attrs.get("MATLAB_empty", 0):
        return ""
    return _read_complete(stored, f"a text of variable {name!r}").astype("<u2").tobytes().decode("utf-16-le")


def _matlab_class(stored: Any) -> str:
    """The MATLAB class of a dataset or group; empty if MATLAB did not write it."""
    kind = stored.attrs.get("MATLAB_class", b"")
    return kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)


def _read_complete(stored: Any, what: str) -> NDArray[Any]:
    """A dataset that is stored in this file completely; HDF5 would fill gaps with zeros."""
    item, chunks = stored.dtype.itemsize, stored.chunks
    if max(stored.size, prod(chunks or ())) * item > MAX_MAT_BYTES:
        raise _MatError(f"{what} claims more than {MAX_MAT_BYTES:,} bytes")
    if stored.is_virtual or stored.external:
        raise _MatError(f"{what} is stored in another file")
    if chunks:
        expected = prod(ceil(length / chunk) for length, chunk in zip(stored.shape, chunks, strict=True))
        complete = stored.id.get_num_chunks() == expected
    else:
        complete = stored.id.get_storage_size() == stored.size * item
    if not complete:
        raise _MatError(f"it is damaged: {what} is incomplete")
    content: NDArray[Any] = stored[()]
    return content


def _check_names(names: Sequence[str], found: Sequence[str]) -> None:
    for name in names:
        if name not in found:
            others = ", ".join(repr(other) for other in found[:9]) or "nothing"
            raise _MatError(f"it holds no variable {name!r} (it holds {others})")


def _integers(name: str, values: Any) -> NDArray[Any]:
    """A matrix of integers, which may be stored as floats, in native byte order."""
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        shape = f" (its shape is {values.shape})" if isinstance(values, np.ndarray) else ""
        raise _MatError(f"variable {name!r} is no matrix of integers{shape}")
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN and large values become an integer that they do not equal
            ids = values.astype(np.int32)
        if (ids != values).any():
            raise _MatError(f"variable {name!r} holds values that are no ids: they are not integers")
        return np.ascontiguousarray(ids)
    native = np.uint8 if values.dtype.kind == "b" else values.dtype.newbyteorder("=")
    return np.ascontiguousarray(values).astype(native)


def _texts(name: str, cells: Any) -> tuple[str, ...]:
    """The texts of a cell array that is a row or a column."""
    if not isinstance(cells, np.ndarray) or cells.dtype != object or not cells.size or max(cells.shape) != cells.size:
        shape = f" (its shape is {cells.shape})" if isinstance(cells, np.ndarray) else ""
        raise _MatError(f"variable {name!r} is no row or column of texts{shape}")
    if not all(isinstance(cell, str) for cell in cells.ravel()):
        raise _MatError(f"variable {name!r} holds something other than texts")
    return tuple(cells.ravel())


def _damaged(error: Exception) -> _MatError:
    return _MatError(f"it is damaged or cut short ({one_line(error)[:200]})")
