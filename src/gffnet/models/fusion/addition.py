"""Fusion by addition, Eq. (3)."""

from collections.abc import Sequence

from torch import Tensor

from gffnet.models.algebra.level_sum import LevelSum
from gffnet.models.fusion.base import Fusion
from gffnet.types import Gates, Pyramid


class Addition(Fusion):
    """Element-wise sum of all levels, Eq. (3):  X̃_l = Σ_i X_i.

    Every map is reduced to `channels` and resized to level l before it is added; levels that share a resolution are
    summed first, since bilinear resizing is linear. `Pyramid` of L maps (B, C_i, H_i, W_i) → L maps
    (B, channels, H_i, W_i).
    """

    def __init__(self, widths: Sequence[int], channels: int = 256) -> None:
        super().__init__(widths, channels)
        self.sum = LevelSum(others_only=False)

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (3)."""
        total: list[Tensor] = self.sum(reduced)
        return total
