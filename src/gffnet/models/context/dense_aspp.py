"""DenseASPP (Yang et al., CVPR 2018): densely connected dilated convolutions.

    z_i = H_{d_i}([x, z_1, ..., z_{i-1}]),  d = 3 6 12 18 24;      y_0 = H([x, z_1, ..., z_5])

`x` is `X_4` reduced to half its width (at most 512). Each `H_d` is a 1x1 convolution to 128 channels and a 3x3
convolution with dilation d to 64, as in the source. Unlike the source, normalisation follows each convolution instead
of preceding it, as everywhere in this network, and a 1x1 convolution brings the concatenation to the D channels of
`y_0`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.context.base import Context
from gffnet.models.layers import conv_block

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
