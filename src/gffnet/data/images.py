"""Image and label files, read and written with Pillow: the one place that knows file formats.

Whatever a file holds, an image comes out as RGB, eight bits a channel, upright, and a label map as the ids that are
stored. A file that cannot be read whole is one `UserError` that names it, the cause and the remedy.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError, Transpose

from gffnet.data.png import decode_png
from gffnet.errors import UserError
from gffnet.files import write_whole

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


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """The image as uint8 `(H, W, 3)`, RGB, its EXIF orientation applied.

    Grey and palette images become RGB, an alpha channel is dropped, CMYK is converted, and of samples of 16 bits the
    high byte is kept.

    Raises:
        UserError: the file cannot be read whole, is too large, or has samples of no known range (float, 32 bits).
    """
    path = Path(path)
    content = _content(path)
    if (pixels := decode_png(content)) is not None:
        return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    return as_rgb(_load(path, content), f"image {path}")


def as_rgb(image: Image.Image, what: str) -> NDArray[np.uint8]:
    """A Pillow image as `read_image` gives it; `what` names it in the error that it may raise."""
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
    write_whole(path, _encoded(Image.fromarray(rgb), kind, quality=95, compress_level=effort))


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
    write_whole(path, _encoded(Image.fromarray(grey), "PNG"))


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
