"""The dense feature pyramid (DFP), Eq. (6): fused maps and context, densely connected from the top down.

A pyramid takes the context map `y_0` (B, D, h, w) and the fused maps `X̃_1..X̃_L` (B, channels, H_l, W_l), finest first,
and returns the maps that the head concatenates, topmost first. Where D is not `channels`, `y_0` is brought to it by a
1x1 convolution first, so that the weights of a context module trained alone load unchanged.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.layers import ConvBlock, Pyramid, conv_block
from gffnet.models.ops import ConcatConv2d, size_of


class FeaturePyramid(nn.Module):
    """No dense connections: the maps `[y_0, X̃_L, ..., X̃_1]` as they are. The base of the dense forms."""

    def __init__(self, context_width: int, levels: int = 4, channels: int = 256) -> None:
        """`context_width`: channels D of `y_0`; `levels`: how many fused maps; `channels`: their width."""
        super().__init__()
        self.levels = levels
        self.widths = (channels,) * (levels + 1)
        same = context_width == channels
        self.reduce_context = nn.Identity() if same else conv_block(context_width, channels, 1)

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → L + 1 maps of `channels`, topmost first."""
        return [self.reduce_context(context), *reversed(fused)]


class DenseFeaturePyramid(FeaturePyramid):
    """Eq. (6) as the paper's prose has it:  y_i = H_i([y_0, ..., y_{i-1}, X̃_{L+1-i}]),  i = 1..L.

    Every output takes the level's own fused map and all previous outputs, resized to that level; `H_i` is one
    convolution (1x1 in our reading, which meets the paper's Table 3; 3x3 is an option). Returns `[y_0, ..., y_L]`:

        pyramid = DenseFeaturePyramid(context_width=512)
        y0, y1, y2, y3, y4 = pyramid(context, fused)
    """

    def __init__(self, context_width: int, levels: int = 4, channels: int = 256, kernel: Literal[1, 3] = 1) -> None:
        """`kernel`: that of `H_i`."""
        super().__init__(context_width, levels, channels)
        self.blocks = nn.ModuleList(
            ConvBlock(ConcatConv2d([channels] * (i + 1), channels, kernel)) for i in range(1, levels + 1)
        )

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → `[y_0, ..., y_L]`, each of `channels`, at the resolution of its level."""
        y = [self.reduce_context(context)]
        for block, x in zip(self.blocks, reversed(fused), strict=True):
            y.append(block([*y, x], size_of(x)))
        return y


class LiteralDensePyramid(FeaturePyramid):
    """Eq. (6) to the letter:  y_i = H_i([y_0, X̃_L, ..., X̃_{L+2-i}]),  i = 1..L.

    Every output is at the finest resolution and takes the fused maps above it, not the previous outputs. `X̃_1` takes
    part in no `H_i`, so it joins the maps that are returned: `[y_0, ..., y_L, X̃_1]`. For comparison only.
    """

    def __init__(self, context_width: int, levels: int = 4, channels: int = 256, kernel: Literal[1, 3] = 1) -> None:
        """`kernel`: that of `H_i`."""
        super().__init__(context_width, levels, channels)
        self.widths = (channels,) * (levels + 2)
        self.blocks = nn.ModuleList(
            ConvBlock(ConcatConv2d([channels] * i, channels, kernel)) for i in range(1, levels + 1)
        )

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → `[y_0, ..., y_L, X̃_1]`, all but `y_0` at the finest resolution."""
        finest = fused[0]
        preceding = [self.reduce_context(context), *reversed(fused[1:])]
        y = [block(preceding[: i + 1], size_of(finest)) for i, block in enumerate(self.blocks)]
        return [preceding[0], *y, finest]
