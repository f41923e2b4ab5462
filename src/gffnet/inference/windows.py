"""Where the windows of a sliding window lie, and how many of them cover each pixel.

Windows have the size of the crop and begin at steps of `crop (1 - overlap)`; the last ends flush with the image. An
image smaller than the crop is one window, padded below and to the right with the mean colour. The number of windows
over a pixel is that over its row times that over its column:

    cover(y, x) = rows(y) · columns(x)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gffnet.inference.parts import Span
from gffnet.recipe import EvaluationRecipe


class Axis(NamedTuple):
    """The windows along one axis of an image."""

    length: int
    """Of the image, in pixels."""
    crop: int
    """Of a window."""
    starts: tuple[int, ...]
    """Where windows begin, ascending."""

    def cover(self) -> Int[Tensor, "length"]:
        """How many windows cover each position of the image."""
        count = torch.zeros(self.length, dtype=torch.int64)
        for start in self.starts:
            count[start : start + self.crop] += 1
        return count

    def over(self, span: Span) -> "Axis":
        """Of these windows, those that cover any position of `span`."""
        starts = tuple(start for start in self.starts if start < span.stop and start + self.crop > span.first)
        return self._replace(starts=starts)


def axes(size: tuple[int, int], protocol: EvaluationRecipe) -> tuple[Axis, Axis]:
    """The windows over an image of `size` along rows and columns; one that is the image, where there is no crop."""
    crop = protocol.crop or size
    rows, columns = (
        Axis(length, side, tuple(window_starts(max(length, side), side, protocol.overlap)))
        for length, side in zip(size, crop, strict=True)
    )
    return rows, columns


def window_starts(length: int, crop: int, overlap: float) -> list[int]:
    """Where windows of `crop` begin along `length` >= crop pixels: steps of `crop (1 - overlap)`, the last flush."""
    step = max(1, round(crop * (1 - overlap)))
    return [*range(0, length - crop, step), length - crop]


def pad_to(image: Float[Tensor, "c _h _w"], size: tuple[int, int], mean: Sequence[float]) -> Float[Tensor, "c _h2 _w2"]:
    """The image with mean colour added below and to the right where it is smaller than `size`."""
    height, width = image.shape[-2:]
    if height >= size[0] and width >= size[1]:
        return image
    colour = torch.tensor(mean, dtype=image.dtype, device=image.device)[:, None, None]
    padded = colour.repeat(1, max(size[0], height), max(size[1], width))
    padded[:, :height, :width] = image
    return padded
