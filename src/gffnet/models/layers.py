"""The block that the whole network is made of: convolution, batch normalisation, ReLU."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Norm(nn.BatchNorm2d):
    """Batch normalisation that falls back on its running statistics where a batch has one value per channel.

    That happens in training with one image and a pooling bin of 1x1: a single value has no variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU. Every convolution but the gates and the classifier is one of these."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """`conv`: the convolution, without bias; further arguments of `forward` go to it."""
        super().__init__()
        self.conv = conv
        self.norm = Norm(conv.out_channels)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, *inputs: Any) -> Tensor:
        """What the convolution takes → (B, out, h, w), non-negative."""
        return F.relu(self.norm(self.conv(*inputs)), inplace=True)


def start_small(conv: nn.Conv2d) -> None:
    """Initial weights of a gate or a classifier, which no normalisation follows: normal with 0.01, bias 0."""
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def conv_block(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> ConvBlock:
    """A `ConvBlock` around a plain convolution that keeps the size of its map."""
    padding = dilation * (kernel // 2)
    return ConvBlock(nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False))


# The values that pass between the parts of the network.


Pyramid: TypeAlias = Sequence[Float[Tensor, "b _c _h _w"]]
"""Feature maps `X_1..X_L` of one batch, finest first: `(B, C_l, H_l, W_l)`."""

Gates: TypeAlias = Sequence[Float[Tensor, "b _g _h _w"]]
"""Gate maps `G_1..G_L` in `[0, 1]`, finest first: `(B, 1, H_l, W_l)`, or one value a channel."""


class Output(NamedTuple):
    """What the network answers, in training and in evaluation alike."""

    logits: Float[Tensor, "b k h w"]
    """One score a class and pixel, at the size of the input image."""
    gates: Gates | None
    """The gate maps that the fusion used, or `None` for a fusion without gates."""


class Encoded(NamedTuple):
    """What an image, or a batch of windows, is to the fusion: encode once, fuse as often as one likes."""

    reduced: Pyramid
    """The reduced maps, finest first."""
    gates: Gates | None
    """The learned gates, or `None` for a fusion without."""
    context: Tensor
    """`y_0`."""
    size: tuple[int, int]
    """Height and width of the image, and of the logits that this is decoded to."""
    seen: tuple[int, int]
    """Height and width that the backbone saw the image at."""
