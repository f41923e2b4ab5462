"""Class probabilities of an image: whole, by sliding window, over scales, with its mirror image.

The sliding window is the paper's protocol: crops of the training size that overlap, probabilities averaged over all
windows that cover a pixel. An image smaller than the crop is padded with the mean colour, and the padding cut off.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gffnet.models.algebra.resize import resize, size_of
from gffnet.recipe import EvaluationRecipe

Scorer = Callable[[Tensor], Tensor]
"""Image (1, C, h, w) in grey levels → logits (1, K, h, w)."""


def probabilities(
    score: Scorer, image: UInt8[Tensor, "c h w"], protocol: EvaluationRecipe, mean: Sequence[float]
) -> Float[Tensor, "k h w"]:
    """Class probabilities at the image's size, averaged over the scales and mirror images of `protocol`."""
    total: Tensor | None = None
    size = size_of(image)
    views = [
        (scale, mirrored) for scale in protocol.scales for mirrored in ((False, True) if protocol.flip else (False,))
    ]
    for scale, mirrored in views:
        view = _scaled(image[None].float(), scale)
        view = view.flip(-1) if mirrored else view
        result = window_probabilities(score, view, protocol, mean)
        result = resize(result.flip(-1) if mirrored else result, size)
        total = result if total is None else total + result
    assert total is not None
    return (total / len(views))[0]


def window_probabilities(
    score: Scorer, image: Float[Tensor, "1 c h w"], protocol: EvaluationRecipe, mean: Sequence[float]
) -> Float[Tensor, "1 k h w"]:
    """Class probabilities of an image at one scale: whole, or averaged over the windows that cover a pixel."""
    if protocol.crop is None:
        return score(image).float().softmax(1)
    height, width = image.shape[-2:]
    crop_height, crop_width = protocol.crop
    padded = pad_to(image, protocol.crop, mean)
    tops = window_starts(padded.shape[-2], crop_height, protocol.overlap)
    lefts = window_starts(padded.shape[-1], crop_width, protocol.overlap)
    total: Tensor | None = None
    cover = padded.new_zeros(padded.shape[-2:])
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)
            result = score(padded[:, :, rows, columns]).float().softmax(1)
            if total is None:
                total = result.new_zeros(1, result.shape[1], *padded.shape[-2:])
            total[:, :, rows, columns] += result
            cover[rows, columns] += 1
    assert total is not None
    return (total / cover)[:, :, :height, :width]


def window_starts(length: int, crop: int, overlap: float) -> list[int]:
    """Where windows of `crop` begin along `length` >= crop pixels: steps of `crop (1 - overlap)`, the last flush."""
    step = max(1, round(crop * (1 - overlap)))
    return [*range(0, length - crop, step), length - crop]


def pad_to(
    image: Float[Tensor, "b c _h _w"], size: tuple[int, int], mean: Sequence[float]
) -> Float[Tensor, "b c _h2 _w2"]:
    """The image with mean colour added below and to the right where it is smaller than `size`."""
    down, right = max(0, size[0] - image.shape[-2]), max(0, size[1] - image.shape[-1])
    if not down and not right:
        return image
    colour = torch.tensor(mean, dtype=image.dtype, device=image.device)[:, None, None]
    return F.pad(image - colour, (0, right, 0, down)) + colour


def _scaled(image: Tensor, scale: float) -> Tensor:
    """The image resized by a factor, rounded to whole pixels."""
    return resize(image, (max(1, round(image.shape[-2] * scale)), max(1, round(image.shape[-1] * scale))))
