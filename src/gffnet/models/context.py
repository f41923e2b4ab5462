"""Context modules, which turn the top of the backbone, `X_4`, into the context map `y_0`.

| class | `y_0` | source |
|---|---|---|
| `PyramidPooling` | H([X_4, p_1, p_2, p_3, p_6]),  p_b = H_b(pool_{b x b}(X_4)) | PSPNet, CVPR 2017 |
| `DenseASPP` | H([x, z_1, ..., z_5]),  z_i = H_{d_i}([x, z_1, ..., z_{i-1}]) | DenseASPP, CVPR 2018 |
| `NoContext` | H(X_4) | FCN |
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.layers import ConvBlock, conv_block, require_positive
from gffnet.models.ops import EquivalentForms, PooledConv2d, averaging_mask
from gffnet.registry import Registry


class Context(nn.Module):
    """Base of all context modules: `X_4` (B, C_4, H, W) → `y_0` (B, D, H, W), D = max(channels, C_4 / 4)."""

    def __init__(self, in_channels: int, channels: int = 256) -> None:
        """`in_channels`: C_4. `channels`: the least D, which is then `out_channels`."""
        super().__init__()
        require_positive(type(self).__name__, in_channels=in_channels, channels=channels)
        self.in_channels = in_channels
        self.out_channels = max(channels, in_channels // 4)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """`X_4` → `y_0`."""
        raise NotImplementedError


CONTEXTS: Registry[type[Context]] = Registry("context", Context)


@CONTEXTS.register("pyramid_pooling")
class PyramidPooling(Context, EquivalentForms):
    """Pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017):

        p_b = H_b(pool_{b x b}(X_4)), b = 1, 2, 3, 6;      y_0 = H([X_4, p_1, p_2, p_3, p_6])

    `H_b` is a 1x1 convolution to C_4 / 4 channels, `H` a 3x3 convolution; the p_b are resized to the size of `X_4`.
    Pooling is adaptive averaging, computed from the run-time size, so that an exported network is right at every size.
    """

    def __init__(self, in_channels: int, channels: int = 256, *, bins: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__(in_channels, channels)
        branch_channels = in_channels // 4
        self.bins = bins
        self.branches = nn.ModuleList(conv_block(in_channels, branch_channels, 1) for _ in bins)
        self.project = ConvBlock(PooledConv2d(in_channels, branch_channels, len(bins), self.out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """`X_4` → `y_0`."""
        if self.reference:
            averages = [F.adaptive_avg_pool2d(x, b) for b in self.bins]
        else:
            averages = adaptive_averages(x, self.bins)
        pooled = [branch(p) for branch, p in zip(self.branches, averages, strict=True)]
        out: Tensor = self.project(x, pooled)
        return out


def adaptive_averages(x: Float[Tensor, "b c h w"], bins: tuple[int, ...]) -> list[Float[Tensor, "b c _i _j"]]:
    """Adaptive average pooling of `x` to (b, b) for each b of `bins`, as two matrix products for all bins together.

    The products sum with exact zeros and ones and divide once, so that bfloat16 rounds no pooling weight.
    """
    batch, channels, height, width = x.shape
    row_mask, row_counts = averaging_mask(bins, height, x.device)
    column_mask, column_counts = averaging_mask(bins, width, x.device)
    rows = row_mask.to(x.dtype) @ x.permute(0, 2, 3, 1).flatten(2)
    sums = column_mask.to(x.dtype) @ rows.reshape(batch, -1, width, channels)
    averages, first = [], 0
    for b in bins:
        cells = slice(first, first + b)
        average = sums[:, cells, cells] / (row_counts[cells][:, None, None] * column_counts[cells][:, None])
        averages.append(average.to(x.dtype).permute(0, 3, 1, 2))
        first += b
    return averages


@CONTEXTS.register("dense_aspp")
class DenseASPP(Context):
    """Densely connected atrous spatial pyramid pooling (Yang et al., CVPR 2018):

        z_i = H_{d_i}([x, z_1, ..., z_{i-1}]), d = 3, 6, 12, 18, 24;      y_0 = H([x, z_1, ..., z_5])

    `x` is `X_4` reduced to half its channels (at most 512), `H_d` a 1x1 convolution to `bottleneck` channels and a 3x3
    convolution with dilation d to `growth`, `H` a 1x1 convolution to D channels. Unlike the source, normalisation
    follows each convolution instead of preceding it, as everywhere in this network.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        dilations: tuple[int, ...] = (3, 6, 12, 18, 24),
        bottleneck: int = 128,
        growth: int = 64,
    ) -> None:
        super().__init__(in_channels, channels)
        total = min(512, in_channels // 2)
        self.reduce = conv_block(in_channels, total, 1)
        self.branches = nn.ModuleList()
        for dilation in dilations:
            self.branches.append(
                nn.Sequential(conv_block(total, bottleneck, 1), conv_block(bottleneck, growth, 3, dilation))
            )
            total += growth
        self.project = conv_block(total, self.out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """`X_4` → `y_0`."""
        x = self.reduce(x)
        for branch in self.branches:
            x = torch.cat([x, branch(x)], dim=1)
        out: Tensor = self.project(x)
        return out


@CONTEXTS.register("none")
class NoContext(Context):
    """The 3x3 convolution of a plain FCN head:  y_0 = H(X_4). For ablations."""

    def __init__(self, in_channels: int, channels: int = 256) -> None:
        super().__init__(in_channels, channels)
        self.project = conv_block(in_channels, self.out_channels, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """`X_4` → `y_0`."""
        out: Tensor = self.project(x)
        return out
