"""ResNet, dilated.

`X_l` is the output of `layer l`, l = 1..4, after its last ReLU: stages C2..C5 of the paper. With an output stride of
8 the last two stages keep the resolution of the second: their stride is traded for dilation. The first 3x3 convolution
of a stage keeps the dilation of the stage before. Sampled at every second (fourth) position, a dilated stage is the
strided one, borders included, so weights trained with strides fit.

| output stride | strides of `X_1..X_4` | dilation of `layer3`, `layer4` |
|---|---|---|
| 8 | 4 8 8 8 | 2, 4 |
| 16 | 4 8 16 16 | 1, 2 |
| 32, or none given | 4 8 16 32 | 1, 1 |

This is the dilation of Yu and Koltun (ICLR-16) that PSPNet and DeepLab use; basic blocks (ResNet-18, 34) are dilated as
bottlenecks are. The stems are timm's: one 7x7 convolution (`resnet101`), or three 3x3 (`c`, `s`, `d`). The shortcuts of
the `d` models average 2x2 positions; where their stride is gone, we dilate the average too, as timm does not. Only the
anti-aliased relatives (`resnetaa`, `resnetblur`) keep their filters undilated, and fit a little less.
"""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.backbones.average import Halve, HalveDilated
from gffnet.models.backbones.base import Backbone, create, four
from gffnet.recipe import BackboneRecipe


class ResNet(Backbone):
    """Any ResNet of timm (also ResNeXt, SE-ResNet, ECA-ResNet, wide ResNet) without its classifier."""

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build it.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: the file of timm's own weights; None: random weights.
        """
        super().__init__()
        net = create(recipe, pretrained, num_classes=0, output_stride=recipe.output_stride or 32)
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.widths = four([info["num_chs"] for info in net.feature_info[1:]])
        self.strides = four([info["reduction"] for info in net.feature_info[1:]])
        self._average_shortcuts()

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4`, `H_l = ceil(H / stride_l)`."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(image))))
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        x4 = self.layer4(x3)
        return [x1, x2, x3, x4]

    def _average_shortcuts(self) -> None:
        """Give the averages in the shortcuts of `d` models, if it is one, the dilation of their stage."""
        dilation = 1
        stages = (self.layer2, self.layer3, self.layer4)
        for stage, before, after in zip(stages, self.strides, self.strides[1:], strict=False):
            shortcut = stage[0].downsample
            if isinstance(shortcut[0], nn.AvgPool2d):
                shortcut[0] = HalveDilated(dilation) if before == after else Halve()
            if before == after:
                dilation *= 2
