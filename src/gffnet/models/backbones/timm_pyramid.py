"""Any timm model that makes a feature pyramid: ConvNeXt, Swin, EfficientNet, MobileNet, RegNet, ...

`X_1..X_4` are the last four levels that timm gives with `features_only=True`: strides 4 8 16 32, or 4 8 8 8 and
4 8 16 16 for the families that timm can dilate. An image is padded at its right and lower edge with zeros (the mean
colour) to a multiple of the coarsest stride, and the maps are cut to `ceil(H / stride_l)`: every size works, and all
levels stay aligned. (A network that rounds its sizes down leaves out up to 31 pixels at the edge, other ones at each
level.)

Whether a model fits is found out when it is built, on tensors without memory: it must have four levels, take images
of any multiple of its stride, and answer maps as wide and as coarse as it says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gffnet.errors import UserError
from gffnet.models.backbones.base import Backbone, create, four
from gffnet.recipe import BackboneRecipe

Options = dict[str, Any]

ANY_SIZE: tuple[Options, ...] = (
    {"strict_img_size": False, "always_partition": True},
    {"strict_img_size": False},
    {},
)
"""Arguments that free a model from the size of image it was trained with; windows shift in its last stage too. The
first that the model takes is used."""

INSTEAD = "Take one with a pyramid, such as resnet50, convnext_tiny or swin_tiny_patch4_window7_224."


class TimmPyramid(Backbone):
    """A timm model as a backbone."""

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build it.

        Args:
            recipe: model name, output stride (None: the model's own) and input channels.
            pretrained: the file of timm's own weights; None: random weights.

        Raises:
            UserError: the model has fewer than four levels, cannot be dilated, or takes one size of image only.
        """
        super().__init__()
        self.net = create(recipe, pretrained, features_only=True, **_options(recipe))
        self.widths = four(self.net.feature_info.channels())
        self.strides = four(self.net.feature_info.reduction())

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4`."""
        down, right = (-side % self.strides[-1] for side in image.shape[-2:])
        maps = _maps(self.net, F.pad(image, (0, right, 0, down)))
        # Cut by padding with less than nothing: a slice would tie an exported network to the multiples.
        return [F.pad(x, (0, -(right // s), 0, -(down // s))) for x, s in zip(maps, self.strides, strict=True)]

    def load_timm(self, state: Mapping[str, Tensor]) -> None:
        """Take over `state`; timm's `features_only` leaves some of it out and renames the rest."""
        aliases = {alias: value for name, value in state.items() for alias in _aliases(name)}
        self.net.load_state_dict({name: aliases[name] for name in self.net.state_dict() if name in aliases})


def _aliases(name: str) -> tuple[str, ...]:
    """The names that timm's feature networks may give to the parameter `name` of a model."""
    return name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"


def _maps(net: Any, image: Tensor) -> list[Tensor]:
    """The levels of `net`, NCHW."""
    maps: list[Tensor] = net(image)
    if str(getattr(net, "output_fmt", "")).endswith("NHWC"):
        return [x.permute(0, 3, 1, 2) for x in maps]
    return maps


def _options(recipe: BackboneRecipe) -> Options:
    """The arguments that make timm's model a backbone.

    Raises:
        UserError: there are none.
    """
    free = next((options for options in ANY_SIZE if _sketch(recipe, options)), None)
    if free is None:
        raise UserError(f"backbone {recipe.name!r}: timm gives no feature maps of it. {INSTEAD}")
    own: list[int] = _sketch(recipe, free).feature_info.reduction()
    if len(own) < 4:
        raise UserError(f"backbone {recipe.name!r} has only {len(own)} levels, gffnet needs four. {INSTEAD}")
    options = {**free, "out_indices": tuple(range(len(own) - 4, len(own)))}
    if recipe.output_stride in (None, own[-1]):
        _check(recipe, _sketch(recipe, options))
        return options
    dilated = {stride: {**options, "output_stride": stride} for stride in (8, 16, 32)}
    allowed = [stride for stride, choice in dilated.items() if stride != own[-1] and _ends(recipe, choice) == stride]
    if recipe.output_stride not in allowed:
        raise UserError(
            f"backbone {recipe.name!r} has no output stride {recipe.output_stride}: timm cannot dilate it so. Set "
            f"model.backbone.output_stride to {' or '.join([*map(str, allowed), 'null'])}; null is its own, {own[-1]}."
        )
    _check(recipe, _sketch(recipe, dilated[recipe.output_stride]))
    return dilated[recipe.output_stride]


def _sketch(recipe: BackboneRecipe, options: Options) -> Any:
    """The model without memory, or None if timm does not build it with these options."""
    try:
        with torch.device("meta"):
            return create(recipe, None, features_only=True, **options).eval()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _ends(recipe: BackboneRecipe, options: Options) -> int | None:
    """The stride of the last level with these options, if timm builds that."""
    net = _sketch(recipe, options)
    return None if net is None else net.feature_info.reduction()[-1]


@torch.no_grad()
def _check(recipe: BackboneRecipe, net: Any) -> None:
    """Raise a UserError unless a model without memory keeps the contract of a backbone."""
    widths, strides = net.feature_info.channels(), net.feature_info.reduction()
    height, width = 8 * strides[-1], 9 * strides[-1]
    try:
        maps = _maps(net, torch.empty(1, recipe.in_channels, height, width, device="meta"))
    except (AssertionError, RuntimeError, ValueError):
        raise UserError(
            f"backbone {recipe.name!r} takes images of the size it was trained with only; gffnet feeds crops and whole "
            f"images of any size. {INSTEAD}"
        ) from None
    for x, channels, stride in zip(maps, widths, strides, strict=True):
        if x.shape[1:] != (channels, height // stride, width // stride):
            raise UserError(
                f"backbone {recipe.name!r} cuts its maps at the border, off the grid of {stride} pixels. {INSTEAD}"
            )
