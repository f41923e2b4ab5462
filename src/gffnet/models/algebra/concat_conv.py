"""A convolution over the concatenation of maps of several resolutions.

As written:   conv(concat(resize(x_1), ..., resize(x_n))),  every x resized to the target size first.
As executed:  Σ over runs of maps of one resolution, because a convolution over a concatenation is a sum of convolutions
of its parts:

- maps of the target's resolution, and finer ones after resizing: one convolution of their concatenation;
- coarser maps, 1x1: convolved where they are, then resized, for a 1x1 convolution commutes with resizing;
- coarser maps, 3x3: the nine taps of the kernel are one 1x1 product at the low resolution; each tap's result is
  resized, shifted by its offset and summed. A tap that falls outside the map adds nothing (zero padding).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.algebra.forms import TwoForms
from gffnet.models.algebra.resize import resize, size_of


class ConcatConv2d(nn.Conv2d, TwoForms):
    """A 1x1 or 3x3 convolution over maps of given `widths`, resized to one size and concatenated.

    Parameters are those of a plain `nn.Conv2d(sum(widths), out_channels, kernel)`.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, kernel: int, bias: bool = False) -> None:
        if kernel not in (1, 3):
            raise ValueError(f"kernel must be 1 or 3, not {kernel}")
        super().__init__(sum(widths), out_channels, kernel, padding=kernel // 2, bias=bias)
        self.widths = tuple(widths)

    def forward(  # type: ignore[override]  # a convolution of several maps
        self, maps: Sequence[Float[Tensor, "b _c _h _w"]], size: tuple[int, int]
    ) -> Float[Tensor, "b out h w"]:
        """`maps` of the given widths, any resolutions; the result has `size` (height, width)."""
        if self.plain:
            return super().forward(torch.cat([resize(x, size) for x in maps], dim=1))
        runs = _by_execution_size(maps, size)
        weights = self.weight.split([sum(x.shape[1] for x in run) for _, run in runs], dim=1)
        parts = []
        for (own_size, run), weight in zip(runs, weights, strict=True):
            resized = [resize(x, own_size) for x in run]
            x = torch.cat(resized, dim=1) if len(run) > 1 else resized[0]
            if own_size == tuple(size):
                parts.append(F.conv2d(x, weight, padding=self.padding))
            else:
                parts.append(upsampled_conv(x, weight, size))
        total = sum(parts[1:], start=parts[0])
        return total if self.bias is None else total + self.bias[:, None, None]


def _by_execution_size(maps: Sequence[Tensor], size: tuple[int, int]) -> list[tuple[tuple[int, int], list[Tensor]]]:
    """Runs of maps that are convolved at one resolution: their own if coarser, else the target's."""
    runs: list[tuple[tuple[int, int], list[Tensor]]] = []
    for x in maps:
        height, width = size_of(x)
        own_size = (height, width) if height <= size[0] and width <= size[1] else (size[0], size[1])
        if not runs or runs[-1][0] != own_size:
            runs.append((own_size, []))
        runs[-1][1].append(x)
    return runs


def upsampled_conv(
    x: Float[Tensor, "b c _h _w"], weight: Float[Tensor, "out c k k"], size: tuple[int, int]
) -> Float[Tensor, "b out h w"]:
    """`conv(resize(x, size), weight)` with zero padding, computed at the resolution of `x`; kernel 1 or 3."""
    out, channels, kernel, _ = weight.shape
    if kernel == 1:
        return resize(F.conv2d(x, weight), size)
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(9 * out, channels, 1, 1))
    by_row = [_shifted_sum(row.split(out, dim=1), (x.shape[-2], size[1]), dim=3) for row in taps.split(3 * out, dim=1)]
    return _shifted_sum(by_row, size, dim=2)


def _shifted_sum(taps: Sequence[Tensor], size: tuple[int, int], dim: int) -> Tensor:
    """The sum of three maps resized to `size`: the first read one place before, the last one place after, in `dim`."""
    before, centre, after = (resize(tap, size) for tap in taps)
    later, earlier = ((1, -1), (-1, 1)) if dim == 3 else ((0, 0, 1, -1), (0, 0, -1, 1))
    # Moved by padding with less than nothing at one end: the gradient of a slice would come back channels-first.
    return centre + F.pad(before, later) + F.pad(after, earlier)
