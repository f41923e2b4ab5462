"""The contract of every backbone: an image in, four maps `X_1..X_4` out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gffnet.errors import UserError
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


# 2x2 averages that halve a map of any size, and their dilated form.


class Halve(nn.Module):
    """2x2 average pooling, `(B, C, H, W)` to `(B, C, ceil(H / 2), ceil(W / 2))`.

    An odd last row or column is averaged with itself. This is `AvgPool2d(2, ceil_mode=True)`, which an exported network
    could not run on sizes of another parity.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _h _w"]:
        """The averages."""
        # One more row and column whatever the size (an even one leaves them out): the size of the result is then that
        # of a strided convolution to the letter, which the tracer of an export wants to see.
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


class HalveDilated(nn.Module):
    """`Halve` with its stride traded for dilation: position `p` is averaged with those `step` further on.

    A position without one that far on is averaged with itself. Sampled at every `2 * step`, the result is `Halve` of
    the map sampled at every `step`, borders included.
    """

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The averages, at the size of `x`."""
        rows, columns = (0, 0, 0, self.step), (0, self.step, 0, 0)
        there = torch.ones_like(x[:1, :1])
        for far in (rows, columns):
            x = (x + _moved(x, far)) / (1 + _moved(there, far))
        return x

    def extra_repr(self) -> str:
        """The step, for `print`."""
        return f"step={self.step}"


def _moved(x: Tensor, far: tuple[int, ...]) -> Tensor:
    """`x` moved towards its origin, as far as `far` pads its end; zeros follow. (Slices would not export.)"""
    left, right, top, bottom = far
    return F.pad(F.pad(x, far), (-right, -left, -bottom, -top))


# ResNet, dilated.
#
# `X_l` is the output of `layer l`, l = 1..4, after its last ReLU: stages C2..C5 of the paper. With an output stride of
# 8 the last two stages keep the resolution of the second: their stride is traded for dilation. The first 3x3 convolution
# of a stage keeps the dilation of the stage before. Sampled at every second (fourth) position, a dilated stage is the
# strided one, borders included, so weights trained with strides fit.
#
# | output stride | strides of `X_1..X_4` | dilation of `layer3`, `layer4` |
# |---|---|---|
# | 8 | 4 8 8 8 | 2, 4 |
# | 16 | 4 8 16 16 | 1, 2 |
# | 32, or none given | 4 8 16 32 | 1, 1 |
#
# This is the dilation of Yu and Koltun (ICLR-16) that PSPNet and DeepLab use; basic blocks (ResNet-18, 34) are dilated as
# bottlenecks are. The stems are timm's: one 7x7 convolution (`resnet101`), or three 3x3 (`c`, `s`, `d`). The shortcuts of
# the `d` models average 2x2 positions; where their stride is gone, we dilate the average too, as timm does not. Only the
# anti-aliased relatives (`resnetaa`, `resnetblur`) keep their filters undilated, and fit a little less.


class ResNet(Backbone):
    """Any ResNet of timm (also ResNeXt, SE-ResNet, ECA-ResNet, wide ResNet) without its classifier."""

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build it.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: the file of timm's own weights; None: random weights.
        """
        super().__init__()
        net = create(recipe, pretrained, num_classes=0, output_stride=recipe.output_stride or 32)
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.widths = four([info["num_chs"] for info in net.feature_info[1:]])
        self.strides = four([info["reduction"] for info in net.feature_info[1:]])
        self._average_shortcuts()

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4`, `H_l = ceil(H / stride_l)`."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(image))))
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        x4 = self.layer4(x3)
        return [x1, x2, x3, x4]

    def _average_shortcuts(self) -> None:
        """Give the averages in the shortcuts of `d` models, if it is one, the dilation of their stage."""
        dilation = 1
        stages = (self.layer2, self.layer3, self.layer4)
        for stage, before, after in zip(stages, self.strides, self.strides[1:], strict=False):
            shortcut = stage[0].downsample
            if isinstance(shortcut[0], nn.AvgPool2d):
                shortcut[0] = HalveDilated(dilation) if before == after else Halve()
            if before == after:
                dilation *= 2


# DenseNet, dilated as the authors of DenseASPP do (Yang et al., CVPR-18).
#
# A transition between two dense blocks is norm, ReLU, 1x1 convolution, 2x2 average pooling. Below the output stride
# the pooling is left out, and the 3x3 convolutions of the blocks that follow are dilated, by 2 and then by 4.
#
# | output stride | strides of `X_1..X_4` | pooling left out | dilation of blocks 3, 4 |
# |---|---|---|---|
# | 8 | 4 8 8 8 | transitions 2, 3 | 2, 4 |
# | 16 | 4 8 16 16 | transition 3 | 1, 2 |
# | 32, or none given | 4 8 16 32 | none | 1, 1 |
#
# A dense block's output is a concatenation of bare convolutions: neither normalised nor rectified. So
#
#     X_l = ReLU(norm(output of dense block l)),
#
# with the norm that the network itself applies next: that of transition l for l = 1..3, the last norm for l = 4. The
# widths are those of the blocks: 256 512 1024 1024 for DenseNet-121, 384 768 2112 2208 for DenseNet-161.
#
# A dilated block sampled at every second position is the plain block, borders included. The whole network is not, since
# an average over 2x2 positions is gone. Pooling keeps a last odd row or column, which timm's drops.


class DenseNet(Backbone):
    """DenseNet-121, 161, 169, 201 or 264 without its classifier."""

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build it.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: the file of timm's own weights; None: random weights.
        """
        super().__init__()
        self.features = create(recipe, pretrained, num_classes=0).features
        stride, dilation = 4, 1
        strides, widths = [stride], []
        for name in ("1", "2", "3"):
            transition = self.features.get_submodule("transition" + name)
            widths.append(transition.norm.num_features)
            if stride < (recipe.output_stride or 32):
                stride *= 2
                transition.pool = Halve()
            else:
                dilation *= 2
                transition.pool = nn.Identity()
            strides.append(stride)
            _dilate(self.features.get_submodule(f"denseblock{int(name) + 1}"), dilation)
        self.widths = four([*widths, self.features.norm5.num_features])
        self.strides = four(strides)

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps `X_1..X_4`, normalised and rectified."""
        pyramid = []
        x = image
        for name, part in self.features.named_children():
            if name.startswith("transition"):
                x = part.norm(x)
                pyramid.append(x)
                x = part.pool(part.conv(x))
            else:
                x = part(x)
        return [*pyramid, x]


def _dilate(block: nn.Module, dilation: int) -> None:
    """Dilate the 3x3 convolutions of a dense block; the size of its maps stays."""
    for part in block.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            part.dilation = part.padding = (dilation, dilation)


# Any timm model that makes a feature pyramid: ConvNeXt, Swin, EfficientNet, MobileNet, RegNet, ...
#
# `X_1..X_4` are the last four levels that timm gives with `features_only=True`: strides 4 8 16 32, or 4 8 8 8 and
# 4 8 16 16 for the families that timm can dilate. An image is padded at its right and lower edge with zeros (the mean
# colour) to a multiple of the coarsest stride, and the maps are cut to `ceil(H / stride_l)`: every size works, and all
# levels stay aligned. (A network that rounds its sizes down leaves out up to 31 pixels at the edge, other ones at each
# level.)
#
# Whether a model fits is found out when it is built, on tensors without memory: it must have four levels, take images
# of any multiple of its stride, and answer maps as wide and as coarse as it says.


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
