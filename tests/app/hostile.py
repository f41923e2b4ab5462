"""Files that should not be what they are, by name: each is either refused or read as an image, and nothing else."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests import tiny


def encoded(kind: str, size: tuple[int, int] = (96, 128), mode: str = "RGB", **options: Any) -> bytes:
    """A sound file."""
    content = io.BytesIO()
    Image.fromarray(tiny.picture(5, *size)).convert(mode).save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"") -> bytes:
    """A PNG file whose header says what it likes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("../../etc/passwd", "root")
    return content.getvalue()


def animated(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(tiny.picture(i, 96, 128)) for i in range(3)]
    content = io.BytesIO()
    frames[0].save(content, kind, save_all=True, append_images=frames[1:], **options)
    return content.getvalue()


def ending(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]


def garbled(content: bytes) -> bytes:
    """Every 97th byte behind the header is another."""
    changed = np.frombuffer(content, np.uint8).copy()
    changed[200::97] ^= 0x5A
    return changed.tobytes()


_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\x89",
    "text": lambda: b"../../../../etc/passwd\n" * 40,
    "html": lambda: b"<!doctype html><script src='https://example.org/x.js'></script>",
    "svg with a script": lambda: _SVG,
    "svg behind the signature of a png": lambda: b"\x89PNG\r\n\x1a\n" + _SVG,
    "zip with a path upwards": zipped,
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd) run\n",
    "pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "program": lambda: b"\x7fELF\x02\x01\x01" + bytes(200),
    "gif": lambda: encoded("GIF"),
    "animated gif": lambda: animated("GIF", duration=10),
    "ico": lambda: encoded("ICO", (64, 64)),
    "ppm": lambda: encoded("PPM"),
    "png in gzip": lambda: gzip.compress(encoded("PNG")),
    "png of 4 gigapixels": lambda: png(65535, 65535, data=zlib.compress(bytes(1000))),
    "png of 2^31 columns": lambda: png(2**31 - 1, 64, data=zlib.compress(bytes(1000))),
    "png of 65 megapixels": lambda: png(13000, 5000, data=zlib.compress(bytes(1000))),
    "png of no pixels": lambda: png(0, 0),
    "png that unpacks to less": lambda: png(128, 96, data=zlib.compress(bytes(50))),
    "png with a text that unpacks to 100 MB": lambda: png(
        128, 96, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), data=b""
    ),
    "png cut short": lambda: ending(encoded("PNG"), 0.6),
    "png with other bytes": lambda: garbled(encoded("PNG")),
    "jpeg of three bytes": lambda: b"\xff\xd8\xff",
    "jpeg cut short": lambda: ending(encoded("JPEG"), 0.5),
    "jpeg header alone": lambda: ending(encoded("JPEG"), 0.08),
    "webp cut short": lambda: ending(encoded("WEBP"), 0.5),
    "riff that is a sound": lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    "bmp of a million columns": lambda: bmp(10**6, 10**6),
    "bmp without pixels": lambda: bmp(128, 96),
    "tiff cut short": lambda: ending(encoded("TIFF"), 0.5),
    "tiff whose directory is nowhere": lambda: b"II*\0\xff\xff\xff\x7f" + bytes(40),
    "tiff of floats": lambda: encoded("TIFF", mode="F"),
    "one row": lambda: encoded("PNG", (1, 600)),
    "one column": lambda: encoded("JPEG", (600, 1)),
    "one pixel": lambda: encoded("BMP", (1, 1)),
    "too narrow once it is reduced": lambda: encoded("PNG", (40, 6000)),
    "more than 32 MiB": lambda: encoded("PNG") + bytes(32 * 2**20),
}


def _oriented() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return encoded("JPEG", exif=exif)


def _deep() -> bytes:
    content = io.BytesIO()
    Image.fromarray(tiny.picture(5, 96, 128)[..., 0].astype(np.uint16) * 257).save(content, "PNG")
    return content.getvalue()


READ: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "png": (lambda: encoded("PNG"), (96, 128)),
    "jpeg": (lambda: encoded("JPEG"), (96, 128)),
    "webp": (lambda: encoded("WEBP"), (96, 128)),
    "bmp": (lambda: encoded("BMP"), (96, 128)),
    "tiff": (lambda: encoded("TIFF"), (96, 128)),
    "jpeg held upright": (_oriented, (128, 96)),
    "cmyk": (lambda: encoded("JPEG", mode="CMYK"), (96, 128)),
    "grey": (lambda: encoded("PNG", mode="L"), (96, 128)),
    "palette": (lambda: encoded("PNG", mode="P"), (96, 128)),
    "alpha": (lambda: encoded("PNG", mode="RGBA"), (96, 128)),
    "one bit": (lambda: encoded("PNG", mode="1"), (96, 128)),
    "sixteen bits": (_deep, (96, 128)),
    "jpeg with a second picture": (lambda: animated("MPO"), (96, 128)),
    "animated webp": (lambda: animated("WEBP"), (96, 128)),
    "animated png": (lambda: animated("PNG"), (96, 128)),
    "garbage for exif": (lambda: encoded("JPEG", exif=b"Exif\0\0" + bytes(range(256)) * 20), (96, 128)),
    "garbage for a colour profile": (lambda: encoded("PNG", icc_profile=bytes(range(256)) * 20), (96, 128)),
    "a page behind the end": (lambda: encoded("PNG") + b"<script>alert(1)</script>", (96, 128)),
    "long but not too narrow": (lambda: encoded("PNG", (32, 512)), (32, 512)),
}
"""Files that are images, however strange, with their height and width."""
