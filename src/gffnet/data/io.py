"""Image and label files, read and written with Pillow: the one place that knows file formats.

Whatever a file holds, an image comes out as RGB, eight bits a channel, upright, and a label map as the ids that are
stored. A file that cannot be read whole is one `UserError` that names it, the cause and the remedy.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import imagecodecs
import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError, Transpose
from torch import Tensor

from gffnet.errors import UserError
from gffnet.files import atomic_write

# PNG files as data sets hold them, decoded in half the time that Pillow takes; every other file is left to Pillow.


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


EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What makes a file of a folder an image; a file that is named itself may have any extension."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What to do to an image of each EXIF orientation; 1 is upright."""

_STRETCHED = {"L;2": 85, "L;4": 17}
"""Pillow stretches grey levels of 2 and 4 bits to 0..255, by these factors; ids must be taken back."""

_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


class Header(NamedTuple):
    """What an image file says of itself before its pixels."""

    format: str
    """Pillow's name of it, such as `PNG`."""
    size: tuple[int, int]
    """Height and width as stored, before the orientation is applied."""
    orientation: int
    """Of EXIF, 1 if upright or not given."""
    colour: bool
    """Whether a pixel is more than one number; a palette index is one."""
    grey: bool
    deep: bool
    """More than eight bits a sample."""


def read_header(path: Path) -> Header | None:
    """The header of an image file, None if it cannot be read or is no image."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            tile = str(image.tile[0].args) if image.tile else ""
            deep = image.mode in _SIXTEEN_BIT | {"I", "F"} or ";16" in tile
            grey = image.mode in _SIXTEEN_BIT | {"1", "L", "LA", "La", "I", "F"}
            colour = image.mode not in _SIXTEEN_BIT | {"1", "L", "P", "I", "F"}
            size = image.height, image.width
            # Pillow decodes all of a PNG to look for an orientation behind its pixels, where hardly any has it.
            told = image.format != "PNG" or any("exif" in str(key) or "xmp" in str(key) for key in image.info)
            return Header(image.format or "", size, _orientation(image) if told else 1, colour, grey, deep)
    except Exception:  # Pillow's decoders raise nearly every built-in exception on damaged files
        return None


def read_image(path: str | Path) -> UInt8[Tensor, "3 h w"]:
    """Read an image as an RGB tensor, with its EXIF orientation applied.

    Grey and palette images become RGB, an alpha channel is dropped, CMYK is converted, and of 16-bit samples the high
    byte is used. As from torchvision's decoders, the channels lie last in memory.

    Raises:
        UserError: the file cannot be read whole, is too large, or has samples of no known range (float, 32 bits).
    """
    path = Path(path)
    content = _content(path)
    if (pixels := decode_png(content)) is not None:
        return as_tensor(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1))
    return as_tensor(as_rgb(_load(path, content), f"image {path}"))


def as_tensor(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[Tensor, "c h w"]:
    """View an array, channels last, as a tensor, channels first."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def as_array(image: UInt8[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w c"]:
    """View an image as an array, channels last, as Pillow and matplotlib have it."""
    return image.permute(1, 2, 0).numpy()


def as_rgb(image: Image.Image, what: str) -> NDArray[np.uint8]:
    """Convert a Pillow image to an upright RGB array (H, W, 3); `what` names it in errors."""
    image.info.pop("transparency", None)  # Pillow warns where a conversion drops it
    image = image.transpose(_UPRIGHT[orientation]) if (orientation := _orientation(image)) in _UPRIGHT else image
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        grey = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode in {"I", "F"}:
        kind = "float" if image.mode == "F" else "32-bit"
        raise UserError(f"{what}: {kind} samples have no known white level: save it with 8 or 16 bits a channel.")
    if image.mode in {"RGBa", "La"}:  # colours multiplied by alpha
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    return np.array(image.convert("RGB"))


def read_labels(path: str | Path) -> NDArray[Any]:
    """The label map as stored, `(H, W)`: palette indices or grey levels; uint8, or int32 where a sample has more bits.

    Raises:
        UserError: the file cannot be read whole, is in colour, has an alpha channel, or is a JPEG.
    """
    path = Path(path)
    content = _content(path)
    if (pixels := decode_png(content)) is not None and pixels.ndim == 2:
        return pixels
    image = _load(path, content)
    if image.format == "JPEG":
        raise UserError(f"label map {path}: JPEG changes grey levels, so its ids are lost: save label maps as PNG.")
    if image.mode in {"1", "L", "P"}:
        ids = np.asarray(image).astype(np.uint8)
        return ids // np.uint8(_STRETCHED.get(image.info["rawmode"], 1))
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        return np.asarray(image).astype(np.int32)
    raise UserError(
        f"label map {path}: its pixels are {image.mode}, but colour masks are not id masks: one grey level or palette "
        "index a pixel is needed. Convert its colours to class ids, or use the data set's id files."
    )


def write_image(path: Path, rgb: NDArray[np.uint8], effort: int = 6) -> None:
    """Write a uint8 `(H, W, 3)` image in the format of its extension; the file appears whole or not at all.

    `effort`: 1..9, of compressing a PNG; 3 takes a third of the time of 6, for a file a tenth larger.

    Raises:
        UserError: the extension is no image format, or the file cannot be written.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image is uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"cannot write {path}: {path.suffix!r} is no image format. Use .png or .jpg.")
    atomic_write(path, _encoded(Image.fromarray(rgb), kind, quality=95, compress_level=effort))


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write ids `(H, W)` as a grey PNG of 8 bits, or 16 where an id is above 255; whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "bui":
        raise ValueError(f"a label map is (H, W) of integers, got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() > 65535:
        raise ValueError(f"a PNG holds ids 0..65535, got {labels.min()}..{labels.max()}")
    grey = labels.astype(np.uint8 if labels.max() <= 255 else np.uint16)
    atomic_write(path, _encoded(Image.fromarray(grey), "PNG"))


def image_files(inputs: Sequence[Path], extensions: Sequence[str] = EXTENSIONS) -> list[Path]:
    """The files among `inputs`, and the images of its folders and their subfolders, sorted; each once, none hidden.

    Raises:
        UserError: an input does not exist, or a folder holds no image.
    """
    files: dict[Path, None] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            found = [path for path in given.rglob("*") if _fits(path.relative_to(given), extensions) and path.is_file()]
            if not found:
                raise UserError(f"folder {given} holds no image. Images end in {' '.join(extensions)}.")
            files.update(dict.fromkeys(sorted(found)))
        elif given.exists():
            files[given] = None
        else:
            raise UserError(f"{given} does not exist: give an image file or a folder of images.")
    return list(files)


def _fits(path: Path, extensions: Sequence[str]) -> bool:
    """Whether the name says image by its extension, and neither it nor a folder above it is hidden."""
    return path.suffix.lower() in extensions and not any(part.startswith(".") for part in path.parts)


def _content(path: Path) -> bytes:
    """What the file holds."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        _unreadable(path, "there is no such file", "check the path")
    except IsADirectoryError:
        _unreadable(path, "it is a folder", "name a file")
    except PermissionError:
        _unreadable(path, "permission denied", "make it readable for your user")
    except OSError as error:
        _unreadable(path, error.strerror or str(error), "copy or download it again")


def _load(path: Path, content: bytes) -> Image.Image:
    """The image in the content of a file, decoded whole; `info["rawmode"]` says how its samples are stored."""
    try:
        return _decode(io.BytesIO(content))
    except UnidentifiedImageError:
        _unreadable(path, "its content is no image" if content else "the file is empty", "copy or download it again")
    except DecompressionBombError:
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
        _unreadable(path, f"its header claims more than {limit}", "cut it into tiles, or scale it down")
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        cause = " ".join(str(error).split()) or type(error).__name__
        _unreadable(path, f"it is damaged or cut short ({cause})", "copy or download it again")


def _decode(file: io.BytesIO) -> Image.Image:
    """The image in `file`, its pixels loaded."""
    # Pillow warns of large images, and refuses those of twice that size; and of damage that does not reach the pixels.
    with warnings.catch_warnings(action="ignore"):
        image = Image.open(file)
        if image.format == "PNG":  # Pillow fills up with zeros where the end of a PNG is missing: check all of it first
            image.verify()
            file.seek(0)
            image = Image.open(file)
        args = image.tile[0].args if image.tile else None
        image.info["rawmode"] = args[0] if isinstance(args, tuple) and args else args
        # Of a TIFF, it fills up with zeros what no strip covers. Width and height have changed places if it lies.
        if image.format == "TIFF" and image.tile and {*(image.tile[-1].extents or ())[2:]} != {*image.size}:
            raise OSError("strips are missing")
        image.load()
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or the EXIF block is damaged."""
    with warnings.catch_warnings(action="ignore"):
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # a damaged EXIF block does not make an image unreadable
            return 1
    return orientation if isinstance(orientation, int) else 1


def _unreadable(path: Path, cause: str, remedy: str) -> NoReturn:
    raise UserError(f"cannot read image {path}: {cause}. To go on, {remedy}.") from None


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The content of a file that holds `image`."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


# MATLAB's MAT files of level 5 (`save -v6` and `-v7`).
#
# Only the variables that are asked for are decoded, and nothing is allocated that the bytes of the file do not fill, so
# that a damaged file can neither crash nor hang the reader nor exhaust the memory: whatever it holds, it is one
# ValueError or zlib.error.
#
# A file is 128 bytes of header, then elements: a tag (kind, size), then that many bytes. A matrix is an element made of
# elements (flags, shape, name, content); a variable is a matrix, as it is or packed by zlib.


_LARGEST_TEXTS = 2**20
_HEADER_MAT5 = 128
_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The kinds of elements that hold numbers."""

_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""The kinds of elements that hold characters, and how they are encoded."""

_CELL, _CHARACTERS = 1, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


class Variable5(NamedTuple):
    """A matrix of a MAT file, its content still encoded."""

    of: int
    """What it is made of: the low byte of its flags."""
    is_complex: bool
    shape: tuple[int, ...]
    content: bytes
    order: str
    """Of the bytes: `<` or `>`."""

    def numbers(self, name: str) -> NDArray[Any]:
        """The matrix as stored, `(H, W)`. Raises ValueError if it is not a plain one of numbers."""
        height, width = self.shape if len(self.shape) == 2 else (0, 0)
        if self.of not in _NUMERIC or self.is_complex or min(height, width) < 1:
            raise ValueError(f"variable {name!r} is no matrix of integers (its shape is {self.shape})")
        kind, content, _ = _element(self.content, 0, self.order)
        if kind not in _NUMBERS:
            raise ValueError(f"it is damaged: variable {name!r} holds no numbers")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if len(content) != height * width * dtype.itemsize:
            raise ValueError(f"it is damaged: variable {name!r} does not hold {height} x {width} numbers")
        return np.frombuffer(content, dtype).reshape((height, width), order="F")

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a cell array, a row or a column. Raises ValueError if it is none."""
        return _texts(name, self)


def read_mat5(data: bytes, names: Collection[str], largest: int) -> tuple[dict[str, Variable5], list[str]]:
    """The variables of these names, as far as they are there, and the names of the others that were met.

    Args:
        data: the content of the file.
        names: of the variables; of others, no more than their names is decoded.
        largest: bytes that a variable may take.

    Raises:
        ValueError, zlib.error: it is no MAT file, or is damaged, or a variable is too large.
    """
    order = _byte_order(data)
    found: dict[str, Variable5] = {}
    others: list[str] = []
    for kind, content in _elements(data[_HEADER_MAT5:], order):
        name = _name(kind, content, order)
        if name in names and name not in found:
            found[name] = _variable(_whole(kind, content, order, largest), order)
        else:
            others.append(name)
        if len(found) == len(names):
            break
    return found, others


def _byte_order(data: bytes) -> str:
    """`<` or `>`. Raises ValueError if it is no MAT file of level 5."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack_from(order + "H", data, 124) != (0x0100,):
        raise ValueError("its content is no MAT file")
    return order


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the elements, one after the other. Raises ValueError where the data end within one."""
    at = 0
    while at < len(data):
        kind, content, at = _element(data, at, order)
        yield kind, content


def _element(data: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """The element that begins there: its kind and content, and where the next one begins."""
    if at + 8 > len(data):
        raise ValueError("it is cut short")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        start, end = at + 4, at + 8
    else:
        start = at + 8
        end = start + (size if kind == _PACKED else -(-size // 8) * 8)
    if size > end - start or start + size > len(data):
        raise ValueError("it is damaged or cut short")
    return kind, data[start : start + size], end


def _name(kind: int, content: bytes, order: str) -> str:
    """The name of a variable, of which no more is decoded."""
    if kind == _PACKED:
        head = zlib.decompressobj().decompress(content, 1024)[8:]
    elif kind == _MATRIX:
        head = content[:1024]
    else:
        raise ValueError("it is damaged: something stands where a variable should")
    at = 0
    for _ in ("flags", "shape"):
        _, _, at = _element(head, at, order)
    return _element(head, at, order)[1].decode("latin-1")


def _whole(kind: int, content: bytes, order: str, largest: int) -> bytes:
    """The content of a variable, unpacked. Raises ValueError if that is too large, or zlib finds it damaged."""
    if kind == _MATRIX:
        return content
    unpacker = zlib.decompressobj()
    tag = unpacker.decompress(content, 8)
    if len(tag) < 8:
        raise ValueError("it is cut short")
    inner, size = struct.unpack(order + "II", tag)
    if inner != _MATRIX or size > largest:
        raise ValueError("it is damaged" if inner != _MATRIX else f"a variable claims more than {largest:,} bytes")
    matrix = unpacker.decompress(unpacker.unconsumed_tail, size + 1)  # one more, so that it reaches the checksum
    if len(matrix) != size or not unpacker.eof:
        raise ValueError("it is damaged or cut short")
    return matrix


def _variable(matrix: bytes, order: str) -> Variable5:
    """A matrix, its content not decoded yet."""
    kind, flags, at = _element(matrix, 0, order)
    shape_kind, shape, at = _element(matrix, at, order)
    name_kind, _, at = _element(matrix, at, order)
    kinds_fit = kind == 6 and shape_kind in {5, 6} and name_kind == 1
    if not kinds_fit or len(flags) != 8 or not shape or len(shape) % 4:
        raise ValueError("it is damaged: a variable lacks its flags, its shape or its name")
    (word,) = struct.unpack_from(order + "I", flags)
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return Variable5(word & 0xFF, bool(word & _COMPLEX), sizes, matrix[at:], order)


@lru_cache(maxsize=2)  # the files of a data set hold the same texts
def _texts(name: str, variable: Variable5) -> tuple[str, ...]:
    """The texts of a cell array. Raises ValueError if it is none."""
    if variable.of != _CELL or min(variable.shape) < 1 or max(variable.shape) != prod(variable.shape):
        raise ValueError(f"variable {name!r} is no row or column of texts (its shape is {variable.shape})")
    if len(variable.content) > _LARGEST_TEXTS:
        raise ValueError(f"variable {name!r} takes more than {_LARGEST_TEXTS:,} bytes, so it is no list of classes")
    texts = [_text(name, kind, cell, variable.order) for kind, cell in _elements(variable.content, variable.order)]
    if len(texts) != prod(variable.shape):
        raise ValueError(f"it is damaged: variable {name!r} does not hold {prod(variable.shape)} texts")
    return tuple(texts)


def _text(name: str, kind: int, content: bytes, order: str) -> str:
    """The text in one cell."""
    cell = _variable(content, order) if kind == _MATRIX else None
    if cell is None or cell.of != _CHARACTERS:
        raise ValueError(f"variable {name!r} holds something else than texts")
    kind, characters, _ = _element(cell.content, 0, order)
    if kind not in _TEXTS:
        raise ValueError(f"it is damaged: variable {name!r} holds no characters")
    codec = _TEXTS[kind]
    text = characters.decode(codec if codec in {"latin-1", "utf-8"} else codec + ("-le" if order == "<" else "-be"))
    if prod(cell.shape) not in {len(text), len(text.encode("utf-16-le")) // 2}:  # MATLAB counts code units of UTF-16
        raise ValueError(f"it is damaged: a text of variable {name!r} is not as long as it says")
    return text


# MATLAB's MAT files of version 7.3 (`save -v7.3`): HDF5 by MATLAB's conventions, opened by libhdf5 through h5py.
#
# The variables are the datasets of the root group, and attributes say what they are in MATLAB. Its order of axes is that
# of Fortran, so a matrix of height H and width W is stored as (W, H). A cell array holds references to its cells, and a
# text is UTF-16, a code unit a number.
#
# libhdf5 is not written to withstand files that were made to harm it, as the reader in `mat5` is: open files of
# 7.3 that come from where you trust. Mishaps are met: before anything is read, a variable must lie whole in the file, in
# this file and no other, and be no larger than a label map may be. Without h5py only the error is here that asks for it.


_SIGNATURE_MAT73 = b"\x89HDF\r\n\x1a\n"
_AFTER_TEXT = 512
"""Where HDF5 begins: MATLAB's own header is before it."""

_NUMERIC_MAT73 = {
    "logical",
    "double",
    "single",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_MOST_TEXTS = 4096
_LONGEST_TEXT = 2**12
"""Bytes."""

_H5: TypeAlias = Any
"""What is of h5py, which has no types."""


class Variable73(NamedTuple):
    """A variable of a MAT file."""

    shape: tuple[int, ...]
    """As MATLAB has it: height and width."""
    content: NDArray[Any] | tuple[str, ...] | None
    """The numbers of a matrix or the texts of a cell array; None if it is neither."""

    def numbers(self, name: str) -> NDArray[Any]:
        """The matrix, `(H, W)`. Raises ValueError if it is none."""
        if not isinstance(self.content, np.ndarray):
            raise ValueError(f"variable {name!r} is no matrix of integers (its shape is {self.shape})")
        return self.content

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts. Raises ValueError if it is no row or column of them."""
        if not isinstance(self.content, tuple):
            raise ValueError(f"variable {name!r} is no row or column of texts (its shape is {self.shape})")
        return self.content


def is_mat73(data: bytes) -> bool:
    """Whether the content of a file is, or begins as, a MAT file of version 7.3."""
    at_its_place = data[_AFTER_TEXT : _AFTER_TEXT + len(_SIGNATURE_MAT73)] == _SIGNATURE_MAT73
    return at_its_place or data.startswith((_SIGNATURE_MAT73, b"MATLAB 7.3"))


def read_mat73(data: bytes, names: Collection[str], largest: int) -> tuple[dict[str, Variable73], list[str]]:
    """The variables of these names, as far as they are there, and the names of the others.

    Args:
        data: the content of the file.
        names: of the variables; others are not touched.
        largest: bytes that a variable may take.

    Raises:
        ImportError: h5py is missing.
        ValueError: the file is damaged, or a variable is no such thing as MATLAB writes, or too large.
    """
    import h5py  # not before: whoever has no such files needs no h5py

    try:
        with h5py.File(h5py.h5f.open_file_image(data)) as file:
            there = [name for name in file if not name.startswith("#")]  # what cells refer to is in #refs#
            reader = _Reader(h5py, file, largest)
            found = {name: reader.variable(name) for name in names if name in there}
            return found, [name for name in there if name not in found]
    except _Refused:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError and more on damaged files
        raise ValueError(f"it is damaged or cut short ({error})") from None


class _Refused(ValueError):
    """What is wrong with a file, found here and not by h5py."""


class _Reader(NamedTuple):
    """Reads from an open file no more than `largest` bytes a variable."""

    h5py: _H5
    file: _H5
    largest: int

    def variable(self, name: str) -> Variable73:
        """The variable, its content read if it is a matrix or a cell array."""
        if not isinstance(self.file.get(name, getlink=True), self.h5py.HardLink):
            raise _Refused(f"variable {name!r} is a link to another place")
        stored = self.file[name]
        of = _class(stored)
        if not of:
            raise _Refused(f"MATLAB did not write variable {name!r}, so the order of its axes is not known")
        if not isinstance(stored, self.h5py.Dataset):  # a struct or a sparse matrix
            return Variable73((1, 1), None)
        if _is_empty(stored):
            return Variable73((0, 0), None)
        shape = stored.shape[::-1]
        if of in _NUMERIC_MAT73 and stored.dtype.kind in "iuf" and len(shape) == 2:
            return Variable73(shape, _whole_mat73(stored, f"variable {name!r}", self.largest).T)
        if of == "cell" and max(shape) == stored.size:
            return Variable73(shape, self.texts(stored, name))
        return Variable73(shape, None)

    def texts(self, stored: _H5, name: str) -> tuple[str, ...]:
        """The texts of a cell array, which is a row or a column."""
        if self.h5py.check_ref_dtype(stored.dtype) is not self.h5py.Reference:
            raise _Refused(f"it is damaged: variable {name!r} holds no references")
        if stored.size > _MOST_TEXTS:
            raise _Refused(f"variable {name!r} has more than {_MOST_TEXTS:,} cells, so it is no list of classes")
        cells = _whole_mat73(stored, f"variable {name!r}", self.largest)
        return tuple(self.text(cell, name) for cell in cells.ravel())

    def text(self, cell: _H5, name: str) -> str:
        """The text that a cell refers to."""
        stored = self.file[cell] if cell else None
        if not isinstance(stored, self.h5py.Dataset) or _class(stored) != "char":
            raise _Refused(f"variable {name!r} holds something else than texts")
        if _is_empty(stored):
            return ""
        if stored.dtype != np.uint16 or max(stored.shape) != stored.size:
            raise _Refused(f"it is damaged: variable {name!r} holds no characters")
        units = _whole_mat73(stored, f"a text of variable {name!r}", _LONGEST_TEXT)
        return units.astype("<u2").tobytes().decode("utf-16-le")


def _class(stored: _H5) -> str:
    """What a dataset or group is in MATLAB; empty if MATLAB did not write it."""
    of = stored.attrs.get("MATLAB_class", b"")
    return of.decode("latin-1") if isinstance(of, bytes) else str(of)


def _is_empty(stored: _H5) -> bool:
    """Whether an array is empty; MATLAB stores its shape then."""
    return not stored.size or bool(stored.attrs.get("MATLAB_empty", 0))


def _whole_mat73(stored: _H5, what: str, largest: int) -> NDArray[Any]:
    """All of a dataset, if that is no larger than it may be and lies in the file."""
    item, chunks = stored.dtype.itemsize, stored.chunks
    if max(stored.size, prod(chunks or ())) * item > largest:
        raise _Refused(f"{what} claims more than {largest:,} bytes")
    if stored.is_virtual or stored.external:
        raise _Refused(f"{what} lies in another file")
    if chunks:
        parts = prod(ceil(length / chunk) for length, chunk in zip(stored.shape, chunks, strict=True))
        is_there = stored.id.get_num_chunks() == parts
    else:
        is_there = stored.id.get_storage_size() == stored.size * item
    if not is_there:  # HDF5 would fill up with zeros
        raise _Refused(f"it is damaged: {what} is not stored whole")
    content: NDArray[Any] = stored[()]
    return content


# MATLAB's MAT files: a matrix of ids, and a cell array of texts; those of level 5 and those of version 7.3.
#
# Whatever a file holds, it is one `UserError` that names it, the cause and the remedy, or what was asked for.


LARGEST = 2**26
"""Bytes that a file or one of its variables may take; those of the data sets take less than a twentieth."""


class MatFile:
    """The variables of a MAT file that a data set needs.

    Args:
        path: the file.
        names: the variables; others are skipped.

    Raises:
        UserError: the file cannot be read, is no MAT file, is damaged, or lacks a variable.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self.path = path
        with _named(path):
            self._variables = _read(path, names)

    def ids(self, name: str) -> NDArray[Any]:
        """A variable that is a matrix of integers, `(H, W)`.

        Raises:
            UserError: it is none.
        """
        with _named(self.path):
            return _integers(name, self._variables[name].numbers(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A variable that is a cell array of texts, as a row or a column.

        Raises:
            UserError: it is none.
        """
        with _named(self.path):
            return self._variables[name].texts(name)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file into the error that names it."""
    try:
        yield
    except OSError as error:
        cause, remedy = (error.strerror or str(error)).lower(), "check the path and its permissions"
    except ImportError:
        cause = "it is a MAT file of version 7.3 (HDF5), and h5py is missing, which reads those"
        remedy = "run `python -m pip install 'gffnet[coco]'`, or save it again with MATLAB's `save -v7`"
    except (ValueError, zlib.error) as error:
        cause, remedy = " ".join(str(error).split()), "copy or download it again"
    else:
        return
    raise UserError(f"cannot read label map {path}: {cause}. To go on, {remedy}.") from None


def _read(path: Path, names: Collection[str]) -> Mapping[str, Variable5 | Variable73]:
    """The variables of the file that have these names. Raises ValueError if one is missing or the file is damaged."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes, so it is no label map")
    data = path.read_bytes()
    if not data:
        raise ValueError("the file is empty")
    found, others = (read_mat73 if is_mat73(data) else read_mat5)(data, names, LARGEST)
    for name in names:
        if name not in found:
            there = ", ".join(repr(name) for name in [*found, *others][:9]) or "nothing"
            raise ValueError(f"it holds no variable {name!r} (it holds {there})")
    return found


def _integers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The numbers, which may be stored as floats, as integers. Raises ValueError if they are none."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN and what is too large become some integer, which they do not equal
            ids = values.astype(np.int32)
        if (ids != values).any():
            raise ValueError(f"variable {name!r} holds values that are no ids: they are not integers")
        return np.ascontiguousarray(ids)
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="))
