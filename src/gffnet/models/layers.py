"""The block that the whole network is made of: convolution, batch normalisation, ReLU."""

from typing import Any

import torch.nn.functional as F
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
