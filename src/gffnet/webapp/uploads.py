"""Images that come from a browser: whatever was sent, the outcome is an image or one line that says why not.

Nothing that a sender can choose is trusted: a file's kind is read off its first bytes, its size off its header before
a pixel is decoded, and its name is never sent.
"""

import re
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gffnet.data.io import read_header, read_image
from gffnet.errors import UserError

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 64_000_000
LEAST_SIDE = 32
"""Of an image after it is reduced; networks see nothing in less."""

KINDS = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
}
"""How the files begin that are taken."""


def read_upload(content: bytes, most: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image in a file, RGB and upright, as it is: `most` is what its longer side is going to be reduced to.

    Raises:
        UserError: it is no image, of another kind, damaged, or too large, small or narrow.
    """
    _check_kind(content)
    with tempfile.TemporaryDirectory(prefix="gffnet-") as folder:
        path = Path(folder, "image")
        path.write_bytes(content)
        header = read_header(path)
        if header is None or header.format not in KINDS:
            raise UserError(
                "this file begins like an image, but is damaged, or claims far more than "
                f"{MOST_PIXELS // 10**6} million pixels: open it, and save it again."
            )
        check_size(header.size, most)
        try:
            return read_image(path)
        except UserError as error:
            raise UserError(str(error).replace(f"image {path}", "this image")) from None


def check_size(size: tuple[int, int], most: int) -> None:
    """Raise `UserError` unless an image of this height and width can be looked at, its longer side at most `most`."""
    height, width = size
    if height * width > MOST_PIXELS:
        raise UserError(
            f"this image has {width} x {height} pixels, and at most {MOST_PIXELS // 10**6} million are taken: scale it "
            "down, or use `gffnet predict` and `gffnet gates`."
        )
    if min(size) < LEAST_SIDE:
        raise UserError(f"this image has {width} x {height} pixels: each side must have at least {LEAST_SIDE}.")
    if min(size) * most < LEAST_SIDE * max(size):
        raise UserError(
            f"this image, {width} x {height} pixels, is too narrow: reduced to {most} pixels on its longer side, the "
            f"shorter would have fewer than {LEAST_SIDE}. Cut it."
        )


def _check_kind(content: bytes) -> None:
    """Raise `UserError` unless a file begins like one of `KINDS`, and is not too large."""
    if not content:
        raise UserError("this file is empty.")
    if len(content) > MOST_BYTES:
        raise UserError(
            f"this file has {len(content) / 2**20:.0f} MiB, and at most {MOST_BYTES // 2**20} are taken: scale the "
            "image down, or save it as JPEG."
        )
    if not any(re.match(start, content, re.DOTALL) for start in KINDS.values()):
        raise UserError(f"this file is no image of a kind that is taken: {', '.join(KINDS)}.")
