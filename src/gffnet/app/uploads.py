"""Uploaded images. Any file gives either an image as the model takes it or a one-line refusal.

The format is taken from the first bytes and the size from the header, before any pixel is decoded; file names are
never sent.
"""

import re
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Num

from gffnet.data.io import as_array, read_header, read_input
from gffnet.errors import UserError
from gffnet.recipe import ModelRecipe

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 32
"""Smallest side in pixels that the networks accept, after the image is reduced."""

SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*",
}
"""First bytes of the accepted formats, as regular expressions."""


def read_upload(content: bytes, max_side: int, model: ModelRecipe | None = None) -> Num[np.ndarray, "h w c"]:
    """Decode an uploaded file to an upright image at its original size.

    Args:
        content: of the file.
        max_side: what the longer side is going to be reduced to.
        model: the network that takes the image; None: one of RGB images.

    Raises:
        UserError: the file is not an image of an accepted format, is damaged, or too large, small or narrow.
    """
    channels = (3, None) if model is None else (model.backbone.in_channels, model.white_level)
    if not content:
        raise UserError("this file is empty.")
    if len(content) > MAX_BYTES:
        raise UserError(
            f"this file has {len(content) / 2**20:.0f} MiB, and at most {MAX_BYTES // 2**20} are allowed: scale the "
            "image down, or save it as JPEG."
        )
    if not any(re.match(signature, content, re.DOTALL) for signature in SIGNATURES.values()):
        raise UserError(f"this file is not an image of an accepted format: {', '.join(SIGNATURES)}.")
    with tempfile.TemporaryDirectory(prefix="gffnet-") as folder:
        path = Path(folder, "image")
        path.write_bytes(content)
        header = read_header(path)
        if header is None or header.format not in {*SIGNATURES, "MPO"}:  # JPEGs with further pictures
            raise UserError("this file begins like an image, but is damaged: open it and save it again.")
        check_size(header.size, max_side)
        try:
            return as_array(read_input(path, *channels))
        except UserError as error:
            raise UserError(str(error).replace(f"image {path}", "this image")) from None


def check_size(size: tuple[int, int], max_side: int) -> None:
    """Raise `UserError` unless an image of this height and width fits the limits.

    `max_side`: what the longer side is going to be reduced to.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise UserError(
            f"this image has {width} x {height} pixels, and at most {MAX_PIXELS // 10**6} million are allowed: scale "
            "it down, or use `gffnet predict` and `gffnet gates`."
        )
    if min(size) < MIN_SIDE:
        raise UserError(f"this image has {width} x {height} pixels: each side must have at least {MIN_SIDE}.")
    if min(size) * max_side < MIN_SIDE * max(size):
        raise UserError(
            f"this image, {width} x {height} pixels, is too narrow: reduced to {max_side} pixels on its longer side, "
            f"the shorter would have fewer than {MIN_SIDE}. Crop it."
        )
