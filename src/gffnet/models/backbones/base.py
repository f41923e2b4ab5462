"""The contract of every backbone: an image in, four maps `X_1..X_4` out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.recipe import BackboneRecipe

Four = tuple[int, int, int, int]


class Backbone(nn.Module):
    """A network that turns `image (B, C, H, W)` into maps `X_l (B, C_l, H_l, W_l)`, l = 1..4, finest first.

    The image is normalised already. `H_l = ceil(H / stride_l)`, `W_l` alike, for every size of the image. The maps are
    NCHW in shape; where the image is channels-last in memory, the network stays so.
    """

    widths: Four
    """Channels `C_1..C_4`."""
    strides: Four
    """Pixels of the image from one position of `X_l` to the next."""

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4` of a batch of images."""
        raise NotImplementedError

    def load_timm(self, state: Mapping[str, Tensor]) -> None:
        """Take over `state`: all parameters and buffers of the timm model but its classifier's, under timm's names."""
        self.load_state_dict(dict(state))


def create(recipe: BackboneRecipe, pretrained: Path | None, **options: Any) -> Any:
    """The timm model of `recipe`, an `nn.Module` whose attributes depend on the model.

    Args:
        recipe: names the model and its input channels.
        pretrained: the file of timm's own weights for it; None: random weights.
        options: further arguments of the timm model.
    """
    # `custom_load` tells timm how to read another release of the weights than the hub's.
    overlay = None if pretrained is None else {"file": str(pretrained), "custom_load": False}
    return timm.create_model(
        recipe.name,
        pretrained=pretrained is not None,
        pretrained_cfg_overlay=overlay,
        in_chans=recipe.in_channels,
        **options,
    )


def four(values: list[int]) -> Four:
    """A list of four integers as a tuple that is known to hold four."""
    first, second, third, fourth = values
    return first, second, third, fourth
