"""Fusions of multi-level feature maps, Eq. (1) to (5) of Gated Fully Fusion (Li et al., AAAI-20).

    {X_1, ..., X_L} → {X̃_1, ..., X̃_L}                                                                          (1)

| class | equation | |
|---|---|---|
| `Concat` | X̃_l = H_l([X_1, ..., X_L]) | (2) |
| `Addition` | X̃_l = Σ_i X_i | (3) |
| `FPN` | X̃_L = X_L,  X̃_l = X_l + X̃_{l+1} | (4) |
| `GatedFPN` | X̃_L = X_L,  X̃_l = (1 + G_l) · X_l + (1 - G_l) · G_{l+1} · X̃_{l+1} | |
| `GatedFullyFusion` | X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i | (5) |

`X_l` (B, C_l, H_l, W_l) is the map of level l, finest first, and `G_l` (B, 1, H_l, W_l) its gate map. Inside the
equations, maps are reduced to one number of channels and resized bilinearly to level l.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from gffnet.models.layers import (
    ConvBlock,
    Gates,
    Pyramid,
    check_maps,
    conv_block,
    init_predictor,
    require_positive,
    separable_block,
)
from gffnet.models.ops import ConcatConv2d, LevelSum, resize, size_of
from gffnet.registry import Registry


class Fusion(nn.Module):
    """Base of all fusions:  X̃ = refine(mix(reduce(X), gates(X))).

    `reduce` brings every map to `channels` (1x1 convolution, BN, ReLU), `mix` is the equation of the fusion, `refine`
    is `refinement` 3x3 convolutions (BN, ReLU) per level, two in the paper, or separable ones. Gates are values: to
    inspect, close or set them, call `fuse(reduced, edited_gates)`.

    L ≥ 2 maps (B, C_l, H_l, W_l), finest first → L maps (B, channels, H_l, W_l). A subclass defines `mix`.
    """

    takes_context: ClassVar[bool] = False
    """Whether the context map `y_0` is the topmost map; its fused map then replaces `y_0` downstream."""

    def __init__(
        self, in_channels: Sequence[int], channels: int = 256, *, refinement: int = 2, separable: bool = False
    ) -> None:
        """Build the parts that all fusions share.

        Args:
            in_channels: channels of the maps `X_1..X_L`, finest first.
            channels: of every reduced and fused map.
            refinement: number of 3x3 convolutions that refine each fused map.
            separable: make each of them a depthwise 3x3 and a 1x1 convolution: at 128 channels an eighth of the cost.

        Raises:
            ValueError: fewer than two levels, no channels, or a negative number of convolutions.
        """
        super().__init__()
        if not isinstance(in_channels, Sequence) or len(in_channels) < 2:
            raise ValueError(
                f"{type(self).__name__}: in_channels is {list(in_channels)}, but a fusion needs at least two levels"
            )
        require_positive(type(self).__name__, in_channels=in_channels, channels=channels)
        if refinement < 0:
            raise ValueError(f"{type(self).__name__}: refinement must be 0 or more 3x3 convolutions, not {refinement}")
        self.in_channels = tuple(in_channels)
        self.channels = channels
        self.reductions = nn.ModuleList(conv_block(c, channels, 1) for c in in_channels)
        block = separable_block if separable else partial(conv_block, kernel_size=3)
        self.refinements = nn.ModuleList(
            nn.Sequential(*(block(channels, channels) for _ in range(refinement))) for _ in in_channels
        )

    def reduce(self, maps: Pyramid) -> list[Tensor]:
        """`X_l` (B, C_l, H_l, W_l) → reduced maps (B, channels, H_l, W_l).

        Raises:
            ValueError: another number of maps, or of channels of a map, than the fusion was built for.
        """
        check_maps(self, maps, self.in_channels)
        return [reduction(x) for reduction, x in zip(self.reductions, maps, strict=True)]

    def gates(self, maps: Pyramid) -> Gates | None:
        """Return the gate maps `G_l` of the unreduced maps, or `None` where the fusion has no gates."""
        return None

    @property
    def has_gates(self) -> bool:
        """Whether the fusion has gates, one map for each of `in_channels`."""
        return type(self).gates is not Fusion.gates

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Apply the equation of the fusion to the reduced maps."""
        raise NotImplementedError

    def fuse(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Reduced maps and gates → fused and refined maps `X̃_l` (B, channels, H_l, W_l)."""
        mixed = self.mix(reduced, gates)
        check_maps(self, mixed, [self.channels] * len(self.in_channels), ".mix must return")
        return [refinement(x) for refinement, x in zip(self.refinements, mixed, strict=True)]

    def forward(self, maps: Pyramid) -> list[Tensor]:
        """`X_1..X_L` → `X̃_1..X̃_L`."""
        return self.fuse(self.reduce(maps), self.gates(maps))


class GatedFusion(Fusion):
    """Base of fusions with one gate map per level:  G_l = sigmoid(w_l * X_l).

    `w_l` is a 1x1 convolution with bias, without normalisation, of the unreduced map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        gate_channels: str = "one",
        *,
        refinement: int = 2,
        separable: bool = False,
    ) -> None:
        """`gate_channels`: `one` gate value per position (the paper), or one for `each` channel."""
        super().__init__(in_channels, channels, refinement=refinement, separable=separable)
        if gate_channels not in ("one", "each"):
            raise ValueError(
                f"{type(self).__name__}: gate_channels must be 'one' (per position) or 'each' (channel), "
                f"not {gate_channels!r}"
            )
        convs = [nn.Conv2d(c, 1 if gate_channels == "one" else channels, 1) for c in in_channels]
        for conv in convs:
            init_predictor(conv)
        self.gate_convs = nn.ModuleList(convs)

    def gates(self, maps: Pyramid) -> Gates:
        """`X_l` → `G_l` (B, 1, H_l, W_l) in [0, 1], or (B, channels, H_l, W_l). Raises as `reduce`."""
        check_maps(self, maps, self.in_channels)
        return [torch.sigmoid(conv(x)) for conv, x in zip(self.gate_convs, maps, strict=True)]


FUSIONS: Registry[type[Fusion]] = Registry("fusion", Fusion, also=("none",))


@FUSIONS.register("concat")
class Concat(Fusion):
    """Concatenation of all levels, Eq. (2):  X̃_l = H_l([X_1, ..., X_L]).

    `H_l` is a 1x1 convolution back to `channels`, so that refinement costs what it costs the other fusions.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int = 256, *, refinement: int = 2, separable: bool = False
    ) -> None:
        super().__init__(in_channels, channels, refinement=refinement, separable=separable)
        levels = len(in_channels)
        self.projections = nn.ModuleList(
            ConvBlock(ConcatConv2d([channels] * levels, channels, 1)) for _ in range(levels)
        )

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (2)."""
        return [project(reduced, size_of(x)) for project, x in zip(self.projections, reduced, strict=True)]


@FUSIONS.register("addition")
class Addition(Fusion):
    """Element-wise sum of all levels, Eq. (3):  X̃_l = Σ_i X_i."""

    def __init__(
        self, in_channels: Sequence[int], channels: int = 256, *, refinement: int = 2, separable: bool = False
    ) -> None:
        super().__init__(in_channels, channels, refinement=refinement, separable=separable)
        self.sum = LevelSum(others_only=False)

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (3)."""
        total: list[Tensor] = self.sum(reduced)
        return total


@FUSIONS.register("fpn")
class FPN(Fusion):
    """Top-down sum (Lin et al., "Feature Pyramid Networks", CVPR 2017), Eq. (4):  X̃_L = X_L,  X̃_l = X_l + X̃_{l+1}.

    The topmost map is the context map `y_0`: five maps for a backbone of four.
    """

    takes_context = True

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (4), from the top down."""
        mixed = [reduced[-1]]
        for x in reversed(reduced[:-1]):
            mixed.append(x + resize(mixed[-1], size_of(x)))
        return mixed[::-1]


@FUSIONS.register("gated_fpn")
class GatedFPN(GatedFusion):
    """Gated top-down sum:  X̃_L = X_L,  X̃_l = (1 + G_l) · X_l + (1 - G_l) · resize(G_{l+1} · X̃_{l+1}).

    The paper evaluates it (Table 1) without an equation; this is Eq. (5) with the next higher level as only sender.
    The topmost map is the context map `y_0`.
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


@FUSIONS.register("gff")
class GatedFullyFusion(GatedFusion):
    """Gated Fully Fusion, Eq. (5): every level to every level, through gates on both sides:

        X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i,      G_l = sigmoid(w_l * X_l)

    A level sends where its gate is open and receives where it is closed. All levels are fused simultaneously, from the
    unfused maps and gates (the released code overwrites maps as it goes). Maps are gated before they are resized.

    Fits any backbone:

        fusion = GatedFullyFusion(in_channels=(256, 512, 1024, 2048), channels=256)
        fused = fusion([x1, x2, x3, x4])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        gate_channels: str = "one",
        *,
        refinement: int = 2,
        separable: bool = False,
    ) -> None:
        """Build the fusion.

        Args:
            in_channels: channels of `X_1..X_L`, finest first.
            channels: of every fused map.
            gate_channels: `one` gate value per position (the paper), or one for `each` channel.
            refinement: number of 3x3 convolutions that refine each fused map; two in the paper.
            separable: make each of them a depthwise 3x3 and a 1x1 convolution, as detectors' necks do.

        Raises:
            ValueError: fewer than two levels, no channels, or another value than these.
        """
        super().__init__(in_channels, channels, gate_channels, refinement=refinement, separable=separable)
        self.sum = LevelSum(others_only=True)

    def mix(self, reduced: Pyramid, gates: Gates | None) -> list[Tensor]:
        """Eq. (5)."""
        assert gates is not None
        sent = [g * x for g, x in zip(gates, reduced, strict=True)]
        # (1 + G) X = X + G X: what a level sends is also added to its own map.
        return [
            torch.addcmul(x + own, 1 - g, others)
            for x, g, own, others in zip(reduced, gates, sent, self.sum(sent), strict=True)
        ]
