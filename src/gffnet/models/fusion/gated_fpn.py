"""Feature pyramid network with the paper's duplex gates in its top-down pathway."""

import torch
from torch import Tensor

from gffnet.models.algebra.resize import resize, size_of
from gffnet.models.fusion.base import GatedFusion
from gffnet.types import Gates, Pyramid


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
