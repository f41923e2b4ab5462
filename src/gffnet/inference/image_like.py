"""What a predictor takes for an image: a path, a PIL image, an array or a tensor."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.data.images import as_rgb, read_image
from gffnet.errors import UserError

ImageLike: TypeAlias = str | Path | PIL.Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image of any mode, a uint8 array (H, W, C), or a uint8 tensor (C, H, W)."""


def as_tensor(image: ImageLike, channels: int) -> UInt8[Tensor, "c h w"]:
    """An image as a uint8 tensor (C, H, W) of `channels`, which may share its memory.

    Raises:
        UserError: a file cannot be read, or it is no image of so many channels in 0..255.
    """
    if isinstance(image, Tensor):
        _check(
            tuple(image.shape),
            image.dtype,
            image.ndim == 3 and image.shape[0] == channels,
            f"({channels}, height, width)",
        )
        return image
    if isinstance(image, str | Path):
        image = read_image(Path(image))
    elif isinstance(image, PIL.Image.Image):
        image = as_rgb(image.copy(), "the image")
    _check(image.shape, image.dtype, image.ndim == 3 and image.shape[2] == channels, f"(height, width, {channels})")
    whole = np.require(image, requirements=["C", "W"])  # a copy only where torch could not take the array
    return torch.from_numpy(whole).permute(2, 0, 1)


def _check(shape: tuple[int, ...], dtype: Any, fits: bool, wanted: str) -> None:
    """Raise `UserError` unless an image has the shape that is wanted, some pixels, and is uint8."""
    if not fits or 0 in shape:
        raise UserError(f"an image is {shape}, but this model takes {wanted}.")
    if str(dtype).removeprefix("torch.") != "uint8":
        raise UserError(f"an image is {dtype}, but this model takes uint8, in 0..255. Scale and convert it to uint8.")
