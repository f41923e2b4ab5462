"""2x2 averages that halve a map of any size, and their dilated form."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Halve(nn.Module):
    """2x2 average pooling, `(B, C, H, W)` to `(B, C, ceil(H / 2), ceil(W / 2))`.

    An odd last row or column is averaged with itself. This is `AvgPool2d(2, ceil_mode=True)`, which an exported network
    could not run on sizes of another parity.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _h _w"]:
        """The averages."""
        # One more row and column whatever the size (an even one leaves them out): the size of the result is then that
        # of a strided convolution to the letter, which the tracer of an export wants to see.
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


class HalveDilated(nn.Module):
    """`Halve` with its stride traded for dilation: position `p` is averaged with those `step` further on.

    A position without one that far on is averaged with itself. Sampled at every `2 * step`, the result is `Halve` of
    the map sampled at every `step`, borders included.
    """

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The averages, at the size of `x`."""
        rows, columns = (0, 0, 0, self.step), (0, self.step, 0, 0)
        there = torch.ones_like(x[:1, :1])
        for far in (rows, columns):
            x = (x + _moved(x, far)) / (1 + _moved(there, far))
        return x

    def extra_repr(self) -> str:
        """The step, for `print`."""
        return f"step={self.step}"


def _moved(x: Tensor, far: tuple[int, ...]) -> Tensor:
    """`x` moved towards its origin, as far as `far` pads its end; zeros follow. (Slices would not export.)"""
    left, right, top, bottom = far
    return F.pad(F.pad(x, far), (-right, -left, -bottom, -top))
