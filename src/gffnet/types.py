"""The values that pass between the parts of the network."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor

Pyramid: TypeAlias = Sequence[Float[Tensor, "b _c _h _w"]]
"""Feature maps `X_1..X_L` of one batch, finest first: `(B, C_l, H_l, W_l)`."""

Gates: TypeAlias = Sequence[Float[Tensor, "b _g _h _w"]]
"""Gate maps `G_1..G_L` in `[0, 1]`, finest first: `(B, 1, H_l, W_l)`, or one value a channel."""


class Output(NamedTuple):
    """What the network answers, in training and in evaluation alike."""

    logits: Float[Tensor, "b k h w"]
    """One score a class and pixel, at the size of the input image."""
    gates: Gates | None
    """The gate maps that the fusion used, or `None` for a fusion without gates."""


class Encoded(NamedTuple):
    """What an image, or a batch of windows, is to the fusion: encode once, fuse as often as one likes."""

    reduced: Pyramid
    """The reduced maps, finest first."""
    gates: Gates | None
    """The learned gates, or `None` for a fusion without."""
    context: Tensor
    """`y_0`."""
    size: tuple[int, int]
    """Height and width of the image, and of the logits that this is decoded to."""
    seen: tuple[int, int]
    """Height and width that the backbone saw the image at."""
