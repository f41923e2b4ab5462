"""The auxiliary head: deep supervision of the backbone's third stage, in training only."""

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.algebra.resize import resize
from gffnet.models.layers import conv_block


class AuxiliaryHead(nn.Module):
    """3x3 convolution to 256 channels, dropout, classifier, on `X_3` (ResNet C4), resized to the image's size.

    The paper weights its loss with 0.4. It is kept in checkpoints, never in an exported model or in a cost table.
    """

    def __init__(self, width: int, classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        """`width`: channels of `X_3`."""
        super().__init__()
        self.layers = nn.Sequential(
            conv_block(width, channels, 3), nn.Dropout2d(dropout), nn.Conv2d(channels, classes, 1)
        )

    def forward(self, x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """`X_3` → logits of `size`."""
        return resize(self.layers(x), size)
