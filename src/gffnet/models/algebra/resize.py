"""Bilinear resizing, and the same as matrices of the run-time size.

Bilinear means `align_corners=False` without antialiasing throughout, as in the paper's field. It is linear, acts on
each channel alone and on rows and columns one after the other: all that the cheap forms rest on.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def resize(x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """`x` resized bilinearly to `size` (height, width); `x` itself where it has that size."""
    if size_of(x) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of a map."""
    return x.shape[-2], x.shape[-1]


def bilinear_matrix(source: int, target: int, like: Tensor) -> Float[Tensor, "{target} {source}"]:
    """The matrix that resizes `source` values in a row to `target` values, as `resize` does along one axis.

    Target position `t` lies at `s = (t + 1/2) source / target - 1/2`, kept within the row, and takes a hat function
    around it: weight `max(0, 1 - |s - k|)` for value `k`. Device and dtype are those of `like`.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    here = torch.arange(target, device=like.device, dtype=exact)
    place = ((here + 0.5) * source / target - 0.5).clamp(0, source - 1)
    values = torch.arange(source, device=like.device, dtype=exact)
    return (1 - (place[:, None] - values).abs()).clamp(min=0).to(like.dtype)


def averaging_mask(
    bins: int, length: int, device: torch.device
) -> tuple[Bool[Tensor, "{bins} {length}"], Int[Tensor, "{bins}"]]:
    """Which of `length` values fall into each of `bins` cells of adaptive average pooling, and how many they are.

    Cell `i` averages the values from `floor(i length / bins)` up to, not including, `ceil((i + 1) length / bins)`.
    Computed from the run-time length, so that an exported network pools rightly at every size.
    """
    cell = torch.arange(bins, device=device)
    start = (cell * length) // bins
    stop = ((cell + 1) * length + bins - 1) // bins
    place = torch.arange(length, device=device)
    inside = (place >= start[:, None]) & (place < stop[:, None])
    return inside, stop - start
