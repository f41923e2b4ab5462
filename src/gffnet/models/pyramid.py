"""Feature pyramids over the fused maps, Eq. (6): what the head concatenates.

| class | `y_i`, i = 1..L | |
|---|---|---|
| `FeaturePyramid` | X̃_{L+1-i} | no dense connections |
| `DenseFeaturePyramid` | H_i([y_0, ..., y_{i-1}, X̃_{L+1-i}]) | (6), as the paper's prose describes it |
| `LiteralDensePyramid` | H_i([y_0, X̃_L, ..., X̃_{L+2-i}]) | (6), as printed |

`y_0` (B, D, h, w) is the context map and `X̃_l` (B, channels, H_l, W_l) the fused map of level l, finest first.
"""

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.layers import ConvBlock, Pyramid, check_maps, conv_block, require_positive
from gffnet.models.ops import ConcatConv2d, size_of
from gffnet.registry import Registry

PYRAMIDS: Registry[type["FeaturePyramid"]] = Registry("pyramid", nn.Module)


@PYRAMIDS.register("none")
class FeaturePyramid(nn.Module):
    """The maps `[y_0, X̃_L, ..., X̃_1]` without dense connections; base of all pyramids.

    Where `y_0` has another number of channels, a 1x1 convolution reduces it first, so that the weights of a context
    module trained alone load unchanged. `out_channels` lists the channels of the maps returned.
    """

    def __init__(self, context_channels: int, levels: int = 4, channels: int = 256) -> None:
        """Build the reduction of `y_0`.

        Args:
            context_channels: channels D of `y_0`.
            levels: number L of fused maps.
            channels: of each of them, and of the maps returned.

        Raises:
            ValueError: one of them is not positive.
        """
        super().__init__()
        require_positive(type(self).__name__, context_channels=context_channels, levels=levels, channels=channels)
        self.levels = levels
        self.in_channels = (context_channels, *[channels] * levels)
        self.out_channels = (channels,) * (levels + 1)
        same = context_channels == channels
        self.reduce_context = nn.Identity() if same else conv_block(context_channels, channels, 1)

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → L + 1 maps of `channels`, topmost first.

        Raises:
            ValueError: another number of maps, or of channels of a map, than the pyramid was built for.
        """
        check_maps(self, [context, *fused], self.in_channels)
        return [self.reduce_context(context), *reversed(fused)]


@PYRAMIDS.register("dense")
class DenseFeaturePyramid(FeaturePyramid):
    """The Dense Feature Pyramid, Eq. (6):  y_i = H_i([y_0, ..., y_{i-1}, X̃_{L+1-i}]),  i = 1..L.

    Every output takes the fused map of its level and all previous outputs, resized to that level. `H_i` is one
    convolution: 1x1 in our reading, which meets the paper's Table 3, or 3x3. Returns `[y_0, ..., y_L]`:

        pyramid = DenseFeaturePyramid(context_channels=512)
        y0, y1, y2, y3, y4 = pyramid(context, fused)
    """

    def __init__(self, context_channels: int, levels: int = 4, channels: int = 256, kernel_size: int = 1) -> None:
        """`kernel_size`: that of `H_i`, 1 or 3."""
        super().__init__(context_channels, levels, channels)
        self.blocks = nn.ModuleList(
            ConvBlock(ConcatConv2d([channels] * (i + 1), channels, kernel_size)) for i in range(1, levels + 1)
        )

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → `[y_0, ..., y_L]` of `channels`, each at the resolution of its level."""
        check_maps(self, [context, *fused], self.in_channels)
        y = [self.reduce_context(context)]
        for block, x in zip(self.blocks, reversed(fused), strict=True):
            y.append(block([*y, x], size_of(x)))
        return y


@PYRAMIDS.register("literal")
class LiteralDensePyramid(FeaturePyramid):
    """Eq. (6) as printed:  y_i = H_i([y_0, X̃_L, ..., X̃_{L+2-i}]),  i = 1..L.

    Every output has the finest resolution and takes the fused maps above it instead of the previous outputs. `X̃_1` is
    in no `H_i`, so it joins the maps returned: `[y_0, ..., y_L, X̃_1]`. For comparison only.
    """

    def __init__(self, context_channels: int, levels: int = 4, channels: int = 256, kernel_size: int = 1) -> None:
        """`kernel_size`: that of `H_i`, 1 or 3."""
        super().__init__(context_channels, levels, channels)
        self.out_channels = (channels,) * (levels + 2)
        self.blocks = nn.ModuleList(
            ConvBlock(ConcatConv2d([channels] * i, channels, kernel_size)) for i in range(1, levels + 1)
        )

    def forward(self, context: Float[Tensor, "b d _h _w"], fused: Pyramid) -> list[Tensor]:
        """`y_0` and `X̃_1..X̃_L` → `[y_0, ..., y_L, X̃_1]`, all but `y_0` at the finest resolution."""
        check_maps(self, [context, *fused], self.in_channels)
        finest = fused[0]
        above = [self.reduce_context(context), *reversed(fused[1:])]
        y = [block(above[: i + 1], size_of(finest)) for i, block in enumerate(self.blocks)]
        return [above[0], *y, finest]
