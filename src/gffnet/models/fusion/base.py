"""The contract of every fusion.

    X̃ = refine(mix(reduce(X), G)),   G = gates(X)

`reduce` brings every map to one width (1x1), `mix` is the fusion's own equation, `refine` is two 3x3 convolutions a
level. Gates are values: whoever wants to look at them, close them or set them calls `fuse(reduced, edited)`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gffnet.models.layers import conv_block, start_small
from gffnet.types import Gates, Pyramid


class Fusion(nn.Module):
    """L maps of given widths, finest first → L fused maps of `channels`, at the resolutions of those that came."""

    takes_context: ClassVar[bool] = False
    """Whether the context map `y_0` joins the pyramid as its topmost map; its fused map then replaces `y_0`."""

    def __init__(self, widths: Sequence[int], channels: int = 256) -> None:
        """`widths`: channels of the maps `X_1..X_L`, finest first."""
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a fusion needs at least two levels, but widths is {list(widths)}")
        self.widths = tuple(widths)
        self.channels = channels
        self.reductions = nn.ModuleList(conv_block(width, channels, 1) for width in widths)
        self.refinements = nn.ModuleList(
            nn.Sequential(conv_block(channels, channels, 3), conv_block(channels, channels, 3)) for _ in widths
        )

    def reduce(self, maps: Pyramid) -> list[Tensor]:
        """Every `X_l` (B, C_l, H_l, W_l) by a 1x1 convolution → (B, channels, H_l, W_l)."""
        return [reduction(x) for reduction, x in zip(self.reductions, maps, strict=True)]

    def gates(self, maps: Pyramid) -> Gates | None:
        """The gate maps `G_l` of the unreduced maps, or `None` where the fusion has no gates."""
        return None

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """The fusion's equation, before refinement."""
        raise NotImplementedError

    def fuse(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Reduced maps and gates → fused and refined maps `X̃_l` (B, channels, H_l, W_l)."""
        mixed = self.mix(reduced, gates)
        return [refinement(x) for refinement, x in zip(self.refinements, mixed, strict=True)]

    def forward(self, maps: Pyramid) -> list[Tensor]:
        """`X_1..X_L` → `X̃_1..X̃_L`."""
        return self.fuse(self.reduce(maps), self.gates(maps))


class GatedFusion(Fusion):
    """A fusion with a gate map a level: `G_l = sigmoid(w_l * X_l)`, `w_l` a 1x1 convolution with bias and no norm."""

    def __init__(
        self, widths: Sequence[int], channels: int = 256, gate_channels: Literal["one", "each"] = "one"
    ) -> None:
        """`gate_channels`: `one` gate value a position, as the paper has it, or `each` channel its own."""
        super().__init__(widths, channels)
        gates = 1 if gate_channels == "one" else channels
        convs = [nn.Conv2d(width, gates, 1) for width in widths]
        for conv in convs:
            start_small(conv)
        self.gate_convs = nn.ModuleList(convs)

    def gates(self, maps: Pyramid) -> Gates:
        """`G_l` (B, 1, H_l, W_l) in [0, 1], or (B, channels, H_l, W_l)."""
        return [torch.sigmoid(conv(x)) for conv, x in zip(self.gate_convs, maps, strict=True)]
