"""Fusion by concatenation, Eq. (2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gffnet.models.algebra.concat_conv import ConcatConv2d
from gffnet.models.algebra.resize import size_of
from gffnet.models.fusion.base import Fusion
from gffnet.models.layers import ConvBlock
from gffnet.types import Gates, Pyramid


class Concat(Fusion):
    """Concatenation of all levels, Eq. (2):  X̃_l = H_l([X_1, ..., X_L]).

    Every map is reduced to `channels` and resized to level l; `H_l` is a 1x1 convolution back to `channels`, so that
    the refinement is that of the other fusions. `Pyramid` of L maps (B, C_i, H_i, W_i) → L maps
    (B, channels, H_i, W_i).
    """

    def __init__(self, widths: Sequence[int], channels: int = 256) -> None:
        super().__init__(widths, channels)
        all_levels = [channels] * len(widths)
        self.projections = nn.ModuleList(ConvBlock(ConcatConv2d(all_levels, channels, 1)) for _ in widths)

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (2)."""
        return [project(reduced, size_of(x)) for project, x in zip(self.projections, reduced, strict=True)]
