"""Feature pyramid network (Lin et al., CVPR 2017) on top of a context module, Eq. (4)."""

from torch import Tensor

from gffnet.models.algebra.resize import resize, size_of
from gffnet.models.fusion.base import Fusion
from gffnet.types import Gates, Pyramid


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
