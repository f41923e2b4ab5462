"""DenseNet, dilated as the authors of DenseASPP do (Yang et al., CVPR-18).

A transition between two dense blocks is norm, ReLU, 1x1 convolution, 2x2 average pooling. Below the output stride
the pooling is left out, and the 3x3 convolutions of the blocks that follow are dilated, by 2 and then by 4.

| output stride | strides of `X_1..X_4` | pooling left out | dilation of blocks 3, 4 |
|---|---|---|---|
| 8 | 4 8 8 8 | transitions 2, 3 | 2, 4 |
| 16 | 4 8 16 16 | transition 3 | 1, 2 |
| 32, or none given | 4 8 16 32 | none | 1, 1 |

A dense block's output is a concatenation of bare convolutions: neither normalised nor rectified. So

    X_l = ReLU(norm(output of dense block l)),

with the norm that the network itself applies next: that of transition l for l = 1..3, the last norm for l = 4. The
widths are those of the blocks: 256 512 1024 1024 for DenseNet-121, 384 768 2112 2208 for DenseNet-161.

A dilated block sampled at every second position is the plain block, borders included. The whole network is not, since
an average over 2x2 positions is gone. Pooling keeps a last odd row or column, which timm's drops.
"""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.backbones.average import Halve
from gffnet.models.backbones.base import Backbone, create, four
from gffnet.recipe import BackboneRecipe


class DenseNet(Backbone):
    """DenseNet-121, 161, 169, 201 or 264 without its classifier."""

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build it.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: the file of timm's own weights; None: random weights.
        """
        super().__init__()
        self.features = create(recipe, pretrained, num_classes=0).features
        stride, dilation = 4, 1
        strides, widths = [stride], []
        for name in ("1", "2", "3"):
            transition = self.features.get_submodule("transition" + name)
            widths.append(transition.norm.num_features)
            if stride < (recipe.output_stride or 32):
                stride *= 2
                transition.pool = Halve()
            else:
                dilation *= 2
                transition.pool = nn.Identity()
            strides.append(stride)
            _dilate(self.features.get_submodule(f"denseblock{int(name) + 1}"), dilation)
        self.widths = four([*widths, self.features.norm5.num_features])
        self.strides = four(strides)

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4`, normalised and rectified."""
        pyramid = []
        x = image
        for name, part in self.features.named_children():
            if name.startswith("transition"):
                x = part.norm(x)
                pyramid.append(x)
                x = part.pool(part.conv(x))
            else:
                x = part(x)
        return [*pyramid, x]


def _dilate(block: nn.Module, dilation: int) -> None:
    """Dilate the 3x3 convolutions of a dense block; the size of its maps stays."""
    for part in block.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            part.dilation = part.padding = (dilation, dilation)
