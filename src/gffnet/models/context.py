"""What every context module has."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.layers import ConvBlock, conv_block
from gffnet.models.ops import EquivalentForms, PooledConv2d, averaging_mask


class Context(nn.Module):
    """`X_4` (B, C_4, H, W) → `y_0` (B, D, H, W), with D = max(256, C_4 / 4), kept as `width`."""

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.in_width = in_width
        self.width = max(256, in_width // 4)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The context map `y_0` of the top of the pyramid."""
        raise NotImplementedError


# Pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017).
#
#     p_b = H_1x1(pool_bxb(X_4)), b = 1 2 3 6, of C_4 / 4 channels each;      y_0 = H_3x3([X_4, p_1, p_2, p_3, p_6])
#
# with the pooled maps resized to that of `X_4`. Pooling is adaptive averaging, computed from the run-time size so that
# an exported network is right at every size. The pooled half of the 3x3 convolution acts on 50 values a channel; see
# `gffnet.models.ops`.


BINS = (1, 2, 3, 6)


class PyramidPooling(Context, EquivalentForms):
    """PSPNet's context module."""

    def __init__(self, in_width: int, bins: tuple[int, ...] = BINS) -> None:
        super().__init__(in_width)
        branch = in_width // 4
        self.bins = bins
        self.branches = nn.ModuleList(conv_block(in_width, branch, 1) for _ in bins)
        self.project = ConvBlock(PooledConv2d(in_width, branch, len(bins), self.width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, C_4, H, W) → (B, D, H, W)."""
        averages = [F.adaptive_avg_pool2d(x, b) for b in self.bins] if self.plain else adaptive_averages(x, self.bins)
        pooled = [branch(p) for branch, p in zip(self.branches, averages, strict=True)]
        out: Tensor = self.project(x, pooled)
        return out


def adaptive_averages(x: Float[Tensor, "b c h w"], bins: tuple[int, ...]) -> list[Float[Tensor, "b c _i _j"]]:
    """Adaptive average pooling of `x` to each of the sizes (bin, bin), as two products for all bins together.

    The products sum with exact zeros and ones and divide once, so that bfloat16 loses nothing in the weights.
    """
    batch, channels, height, width = x.shape
    row_mask, tall = averaging_mask(bins, height, x.device)
    column_mask, wide = averaging_mask(bins, width, x.device)
    rows = row_mask.to(x.dtype) @ x.permute(0, 2, 3, 1).flatten(2)
    sums = column_mask.to(x.dtype) @ rows.reshape(batch, -1, width, channels)
    out, first = [], 0
    for b in bins:
        own = slice(first, first + b)
        cells = sums[:, own, own] / (tall[own][:, None, None] * wide[own][:, None])
        out.append(cells.to(x.dtype).permute(0, 3, 1, 2))
        first += b
    return out


# DenseASPP (Yang et al., CVPR 2018): densely connected dilated convolutions.
#
#     z_i = H_{d_i}([x, z_1, ..., z_{i-1}]),  d = 3 6 12 18 24;      y_0 = H([x, z_1, ..., z_5])
#
# `x` is `X_4` reduced to half its width (at most 512). Each `H_d` is a 1x1 convolution to 128 channels and a 3x3
# convolution with dilation d to 64, as in the source. Unlike the source, normalisation follows each convolution instead
# of preceding it, as everywhere in this network, and a 1x1 convolution brings the concatenation to the D channels of
# `y_0`.


DILATIONS = (3, 6, 12, 18, 24)


class DenseASPP(Context):
    """Densely connected atrous spatial pyramid pooling."""

    def __init__(self, in_width: int, dilations: tuple[int, ...] = DILATIONS, bottleneck: int = 128, growth: int = 64):
        super().__init__(in_width)
        width = min(512, in_width // 2)
        self.reduce = conv_block(in_width, width, 1)
        self.branches = nn.ModuleList()
        for dilation in dilations:
            self.branches.append(
                nn.Sequential(conv_block(width, bottleneck, 1), conv_block(bottleneck, growth, 3, dilation))
            )
            width += growth
        self.project = conv_block(width, self.width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, C_4, H, W) → (B, D, H, W)."""
        x = self.reduce(x)
        for branch in self.branches:
            x = torch.cat([x, branch(x)], dim=1)
        out: Tensor = self.project(x)
        return out


# No context module: the plain FCN head's 3x3 convolution, for ablations.


class NoContext(Context):
    """`y_0 = H(X_4)` with one 3x3 convolution, so that what follows has the width it expects."""

    def __init__(self, in_width: int) -> None:
        super().__init__(in_width)
        self.project = conv_block(in_width, self.width, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, C_4, H, W) → (B, D, H, W)."""
        out: Tensor = self.project(x)
        return out
