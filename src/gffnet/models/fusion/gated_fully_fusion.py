"""Gated Fully Fusion (Li et al., AAAI-20), Eq. (5)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gffnet.models.algebra.level_sum import LevelSum
from gffnet.models.fusion.base import GatedFusion
from gffnet.types import Gates, Pyramid


class GatedFullyFusion(GatedFusion):
    """Every level to every level, through gates on both sides, Eq. (5):

        X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i,      G_l = sigmoid(w_l * X_l)

    A level sends where its gate is open and receives where it is closed. All levels are fused at once, from the
    unfused maps and gates (the authors' released code overwrites maps as it goes). A map is gated first and resized
    to the receiving level then; maps of one resolution are summed before they are resized (`LevelSum`).

    `Pyramid` of L maps (B, C_i, H_i, W_i), finest first → L maps (B, channels, H_i, W_i). Fits any backbone:

        fusion = GatedFullyFusion(widths=(256, 512, 1024, 2048))
        fused = fusion([x1, x2, x3, x4])
    """

    def __init__(
        self, widths: Sequence[int], channels: int = 256, gate_channels: Literal["one", "each"] = "one"
    ) -> None:
        """`widths`: channels of `X_1..X_L`. `gate_channels`: `one` gate value a position, or `each` channel its own."""
        super().__init__(widths, channels, gate_channels)
        self.sum = LevelSum(others_only=True)

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (5)."""
        assert gates is not None
        sent = [g * x for g, x in zip(gates, reduced, strict=True)]
        # (1 + G) X = X + G X: what a level sends is part of what it keeps.
        return [
            torch.addcmul(x + own, 1 - g, others)
            for x, g, own, others in zip(reduced, gates, sent, self.sum(sent), strict=True)
        ]
