"""A backbone of a few channels, to test whole networks quickly."""

import torch.nn.functional as F
from torch import Tensor, nn

from gffnet.models.backbones import Backbone

STRIDES = (4, 8, 8, 8)


class StubBackbone(Backbone):
    """Four maps of a ResNet's strides, each a 1x1 convolution of the averaged image."""

    def __init__(self, in_channels: int = 3, channels: tuple[int, ...] = (5, 6, 8, 16)) -> None:
        super().__init__()
        self.channels, self.strides = channels, STRIDES
        self.layers = nn.ModuleList(nn.Conv2d(in_channels, c, 1) for c in channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [
            layer(F.avg_pool2d(image, stride, ceil_mode=True))
            for layer, stride in zip(self.layers, STRIDES, strict=True)
        ]
