"""No context module: the plain FCN head's 3x3 convolution, for ablations."""

from jaxtyping import Float
from torch import Tensor

from gffnet.models.context.base import Context
from gffnet.models.layers import conv_block


class NoContext(Context):
    """`y_0 = H(X_4)` with one 3x3 convolution, so that what follows has the width it expects."""

    def __init__(self, in_width: int) -> None:
        super().__init__(in_width)
        self.project = conv_block(in_width, self.width, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, C_4, H, W) → (B, D, H, W)."""
        out: Tensor = self.project(x)
        return out
