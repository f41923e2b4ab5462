"""The contract of every fusion.

    X̃ = refine(mix(reduce(X), G)),   G = gates(X)

`reduce` brings every map to one width (1x1), `mix` is the fusion's own equation, `refine` is two 3x3 convolutions a
level. Gates are values: whoever wants to look at them, close them or set them calls `fuse(reduced, edited)`.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gffnet.models.layers import ConvBlock, Gates, Pyramid, conv_block, start_small
from gffnet.models.ops import ConcatConv2d, LevelSum, resize, size_of


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


# Fusion by concatenation, Eq. (2).


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


# Fusion by addition, Eq. (3).


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


# Feature pyramid network (Lin et al., CVPR 2017) on top of a context module, Eq. (4).


class FPN(Fusion):
    """Top-down sum, Eq. (4):  X̃_L = X_L,  X̃_l = X_l + X̃_{l+1}.

    The topmost map is the context map `y_0`: five maps for a backbone of four. `Pyramid` of L maps
    (B, C_i, H_i, W_i) → L maps (B, channels, H_i, W_i).
    """

    takes_context = True

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (4), from the top down."""
        mixed = [reduced[-1]]
        for x in reversed(reduced[:-1]):
            mixed.append(x + resize(mixed[-1], size_of(x)))
        return mixed[::-1]


# Feature pyramid network with the paper's duplex gates in its top-down pathway.


class GatedFPN(GatedFusion):
    """Gated top-down sum:  X̃_L = X_L,  X̃_l = (1 + G_l) · X_l + (1 - G_l) · resize(G_{l+1} · X̃_{l+1}).

    The paper tries it (Table 1) without writing it down; this is Eq. (5) with the next higher level as only sender.
    The topmost map is the context map `y_0`. `Pyramid` of L maps (B, C_i, H_i, W_i) → L maps (B, channels, H_i, W_i).
    """

    takes_context = True

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """The equation above, from the top down."""
        assert gates is not None
        mixed = [reduced[-1]]
        for level in reversed(range(len(reduced) - 1)):
            x, gate = reduced[level], gates[level]
            received = resize(gates[level + 1] * mixed[-1], size_of(x))
            mixed.append(torch.addcmul((1 + gate) * x, 1 - gate, received))
        return mixed[::-1]


# Gated Fully Fusion (Li et al., AAAI-20), Eq. (5).


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
