"""What every context module has."""

from jaxtyping import Float
from torch import Tensor, nn


class Context(nn.Module):
    """`X_4` (B, C_4, H, W) → `y_0` (B, D, H, W), with D = max(256, C_4 / 4), kept as `width`."""

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.in_width = in_width
        self.width = max(256, in_width // 4)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The context map `y_0` of the top of the pyramid."""
        raise NotImplementedError
