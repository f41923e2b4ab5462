"""A backbone of a few channels, so that whole networks can be tested in no time."""

import torch.nn.functional as F
from torch import Tensor, nn

from gffnet.models.backbones import Backbone

STRIDES = (4, 8, 8, 8)


class StubBackbone(Backbone):
    """Four maps of a ResNet's strides, each a 1x1 convolution of the averaged image."""

    def __init__(self, in_channels: int = 3, widths: tuple[int, int, int, int] = (5, 6, 8, 16)) -> None:
        super().__init__()
        self.widths, self.strides = widths, STRIDES
        self.layers = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for width in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [
            layer(F.avg_pool2d(image, stride, ceil_mode=True))
            for layer, stride in zip(self.layers, STRIDES, strict=True)
        ]
