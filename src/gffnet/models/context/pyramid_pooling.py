"""Pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017).

    p_b = H_1x1(pool_bxb(X_4)), b = 1 2 3 6, of C_4 / 4 channels each;      y_0 = H_3x3([X_4, p_1, p_2, p_3, p_6])

with the pooled maps resized to that of `X_4`. Pooling is adaptive averaging, computed from the run-time size so that
an exported network is right at every size. The pooled half of the 3x3 convolution acts on 50 values a channel; see
`gffnet.models.algebra.pooled_conv`.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.algebra.forms import TwoForms
from gffnet.models.algebra.pooled_conv import PooledConv2d
from gffnet.models.algebra.resize import averaging_mask
from gffnet.models.context.base import Context
from gffnet.models.layers import ConvBlock, conv_block

BINS = (1, 2, 3, 6)


class PyramidPooling(Context, TwoForms):
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
