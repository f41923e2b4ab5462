"""The head: maps of several resolutions → one score a class and pixel."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from gffnet.models.algebra.concat_conv import ConcatConv2d
from gffnet.models.algebra.resize import resize
from gffnet.models.layers import start_small
from gffnet.types import Pyramid


class Head(nn.Module):
    """All maps resized to the finest and concatenated, dropout, a 1x1 classifier, then bilinear to the image's size.

    Dropout acts on whole channels (as PSPNet's does), before resizing, which it commutes with; so does the classifier,
    which runs at each map's own resolution.
    """

    def __init__(self, widths: Sequence[int], classes: int, dropout: float = 0.1) -> None:
        """`widths`: channels of the maps; `classes`: how many scores a pixel."""
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = ConcatConv2d(widths, classes, 1, bias=True)
        start_small(self.classifier)

    def forward(self, maps: Pyramid, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Maps (B, C_i, H_i, W_i) → logits (B, K, *size)."""
        height = max(x.shape[-2] for x in maps)
        width = max(x.shape[-1] for x in maps)
        return resize(self.classifier([self.dropout(x) for x in maps], (height, width)), size)
