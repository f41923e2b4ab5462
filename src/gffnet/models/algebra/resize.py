"""Bilinear resizing, and the same as matrices of the run-time size.

Bilinear means `align_corners=False` without antialiasing throughout, as in the paper's field. It is linear, acts on
each channel alone and on rows and columns one after the other: all that the cheap forms rest on.
"""

from collections.abc import Sequence

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


def bilinear_matrix(
    sources: Sequence[int], target: int, like: Tensor, reads: Sequence[int] = (0,)
) -> Float[Tensor, "{target} _n"]:
    """The matrices that resize rows of values to `target` values, as `resize` does along one axis, side by side.

    Target position `t` lies at `s = (t + 1/2) source / target - 1/2`, kept within the row, and takes a hat function
    around it: weight `max(0, 1 - |s - k|)` for value `k`.

    Args:
        sources: how many values each row has.
        target: how many it is to have.
        like: gives the device and the dtype.
        reads: every matrix stands there once for each of these: read so many places further on, zero beyond the ends.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    # All matrices in one: a few operations, also in an exported network, however many there are.
    columns = [(source, read, value) for source in sources for read in reads for value in range(source)]
    source, read, value = torch.tensor(columns, device=like.device, dtype=exact).unbind(1)
    here = torch.arange(target, device=like.device, dtype=exact)[:, None] + read
    place = ((here + 0.5) * source / target - 0.5).clamp(min=0).minimum(source - 1)
    weight = (1 - (place - value).abs()).clamp(min=0)
    return torch.where((here >= 0) & (here < target), weight, 0).to(like.dtype)


def averaging_mask(
    bins: Sequence[int], length: int, device: torch.device
) -> tuple[Bool[Tensor, "_cells {length}"], Int[Tensor, "_cells"]]:
    """Which of `length` values fall into each cell of adaptive average pooling to each of `bins`, and how many.

    Of `b` cells, cell `i` averages the values `p` from `floor(i length / b)` up to, not including,
    `ceil((i + 1) length / b)`, which are those of

        i length < (p + 1) b   and   p b < (i + 1) length

    Computed from the run-time length, so that an exported network pools rightly at every size.
    """
    cells, cell = torch.tensor([(b, i) for b in bins for i in range(b)], device=device)[:, None].unbind(2)
    place = torch.arange(length, device=device)
    inside = (cell * length < (place + 1) * cells) & (place * cells < (cell + 1) * length)
    return inside, inside.sum(1)
