"""Backbones: networks of timm that turn images into four maps `X_1..X_4`, and their construction from a recipe.

| class | models of timm | output strides |
|---|---|---|
| `ResNet` | ResNet, ResNeXt, SE-ResNet, ECA-ResNet, wide ResNet | 8, 16, 32 |
| `DenseNet` | DenseNet-121, 161, 169, 201, 264 | 8, 16, 32 |
| `TimmPyramid` | all others with four levels: ConvNeXt, Swin, EfficientNet, MobileNet, RegNet, ... | as timm has them |

Below the output stride, strides are traded for dilation (Yu and Koltun, ICLR 2016), as in PSPNet and DeepLab: with an
output stride of 8, the strides of `X_1..X_4` are 4 8 8 8 and the last two stages are dilated by 2 and 4; with 16, they
are 4 8 16 16 and 1 and 2; with 32 (or none given), 4 8 16 32 and no dilation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models import is_model_in_modules
from torch import Tensor, nn

from gffnet.errors import UserError, nearest, one_line
from gffnet.files import as_path
from gffnet.models.layers import Norm, meta_device, running_norm
from gffnet.models.weights import fit_weights, in_wheel, pretrained_file, read_weights_file
from gffnet.recipe import BackboneRecipe
from gffnet.registry import Registry, names


class Backbone(nn.Module):
    """Base of all backbones: images (B, C, H, W), normalised → `X_l` (B, C_l, H_l, W_l), l = 1..4, finest first.

    `H_l = ceil(H / stride_l)` and `W_l = ceil(W / stride_l)` for images of every size. Where the images are
    channels-last in memory, so are the maps.
    """

    channels: tuple[int, ...]
    """Channels `C_1..C_4`."""
    strides: tuple[int, ...]
    """Pixels of the image between two positions of `X_l`."""

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Images → `X_1..X_4`."""
        raise NotImplementedError

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load all parameters and buffers but the classifier's, under the names of the timm model or of this one."""
        self.load_state_dict(dict(state))


class BackboneRegistry(Registry[type[Backbone]]):
    """Backbones by name, which must not be a model of timm: without the plug-in it would mean that."""

    def _add(self, name: str, entry: type[Backbone], module: str) -> None:
        if timm.is_model(name):
            raise UserError(f"backbone {name!r} is a model of timm: choose another name.")
        super()._add(name, entry, module)


BACKBONES = BackboneRegistry("backbone", Backbone)
"""Backbones that timm lacks, by name; each is built from its `BackboneRecipe`."""


def build_backbone(recipe: BackboneRecipe) -> Backbone:
    """Build the backbone of a recipe, with its weights.

    With weights "none" it can be built within `torch.device("meta")`.

    Raises:
        UserError: timm has no such model, or its weights or output stride are not available; the message lists what is.
    """
    family: Any = BACKBONES.get(recipe.name) or _family(recipe)
    if recipe.weights == "none":
        return family(recipe)  # type: ignore[no-any-return]
    path, own = as_path(recipe.weights), recipe.name in BACKBONES
    if recipe.weights == "imagenet" and own:
        raise UserError(
            f"backbone {recipe.name!r} is not of timm, so it has no weights 'imagenet'. Set model.backbone.weights to "
            "none or a file (`pretrained` in Python)."
        )
    if recipe.weights == "imagenet":
        path = pretrained_file(recipe.name)
        if not in_wheel(path):
            return family(recipe, path)  # type: ignore[no-any-return]
    state = read_weights_file(path)
    backbone: Backbone = family(recipe)
    try:
        backbone.load_weights(state if own else fit_weights(state, backbone.state_dict(), recipe, path))
    except (RuntimeError, KeyError) as error:  # of a backbone that timm lacks
        reason = one_line(error)[:300]
        raise UserError(f"weights file {path} does not fit backbone {recipe.name!r}: {reason}") from None
    return backbone


def _family(recipe: BackboneRecipe) -> type[Backbone]:
    """Return the class that builds the model of a recipe.

    Raises:
        UserError: timm does not know the model, or has no weights with the tag after its dot.
    """
    if not timm.is_model(recipe.name):
        if recipe.name in names("backbone"):
            return BACKBONES[recipe.name]
        near = nearest(recipe.name, [*BACKBONES, *timm.list_models()])
        raise UserError(
            f"backbone {recipe.name!r} is no model of timm {timm.__version__}.{near} "
            "Allowed: timm models with four levels, such as resnet50, resnet101, densenet161, convnext_tiny."
        )
    model, _, tag = recipe.name.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_models(f"{model}.*", pretrained=True)]
    if tag and tag not in tags:
        raise UserError(
            f"backbone {recipe.name!r}: {model} has no weights with the tag {tag!r}.{nearest(tag, tags)} "
            f"Allowed: {', '.join(tags) or 'no tag'}."
        )
    families: dict[str, type[Backbone]] = {"resnet": ResNet, "densenet": DenseNet}
    return next((families[module] for module in families if is_model_in_modules(model, [module])), TimmPyramid)


def _create_model(recipe: BackboneRecipe, pretrained: Path | None, **options: Any) -> Any:
    """Create the timm model of a recipe.

    Args:
        recipe: names the model and its input channels.
        pretrained: file of timm's own weights; None: random weights.
        options: further arguments of `timm.create_model`.
    """
    # `custom_load=False`: the file is timm's own release, also for models whose original release needs conversion.
    overlay = None if pretrained is None else {"file": str(pretrained), "custom_load": False}
    model = timm.create_model(
        recipe.name,
        pretrained=pretrained is not None,
        pretrained_cfg_overlay=overlay,
        in_chans=recipe.in_channels,
        **options,
    )
    allow_single_values(model)
    return model


class NormAct(BatchNormAct2d):
    """timm's batch normalisation with an activation, which treats a single value per channel as `Norm` does."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        if self.training and x.numel() == x.shape[1]:
            x = running_norm(self, x)
            return self.act(self.drop(x))  # type: ignore[no-any-return]
        return super().forward(x)  # type: ignore[no-untyped-call, no-any-return]


def allow_single_values(network: nn.Module) -> None:
    """Let the batch normalisation of a network of torch or timm take a single value per channel, as `Norm` does."""
    kinds = {nn.BatchNorm2d: Norm, BatchNormAct2d: NormAct}
    for module in network.modules():
        if (kind := kinds.get(type(module))) is not None:
            module.__class__ = kind  # which adds no state: names of weights stay


class ResNet(Backbone):
    """Any ResNet of timm without its classifier: `X_l` is the output of `layer l` (C2..C5), after its last ReLU.

    The first 3x3 convolution of a stage keeps the dilation of the stage before. Sampled at every second (fourth)
    position, a dilated stage equals the strided one, borders included, so weights trained with strides fit. Basic
    blocks (ResNet-18, 34) are dilated like bottlenecks.

    Stems are timm's: one 7x7 convolution (`resnet101`) or three 3x3 (`c`, `s`, `d`). The shortcuts of `d` models
    average 2x2 positions; where their stride is gone, the average is dilated too, unlike timm's. Anti-aliased relatives
    (`resnetaa`, `resnetblur`) keep their filters undilated and fit slightly less.
    """

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build the model.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: file of timm's own weights; None: random weights.
        """
        super().__init__()
        net = _create_model(recipe, pretrained, num_classes=0, output_stride=recipe.output_stride or 32)
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = tuple(info["num_chs"] for info in net.feature_info[1:])
        self.strides = tuple(info["reduction"] for info in net.feature_info[1:])
        dilation = 1
        stages = (self.layer2, self.layer3, self.layer4)
        for stage, before, after in zip(stages, self.strides, self.strides[1:], strict=False):
            shortcut = stage[0].downsample
            if isinstance(shortcut[0], nn.AvgPool2d):
                shortcut[0] = DilatedAvgPool2x2(dilation) if before == after else AvgPool2x2()
            if before == after:
                dilation *= 2

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Images → `X_1..X_4`."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        x4 = self.layer4(x3)
        return [x1, x2, x3, x4]


class DenseNet(Backbone):
    """DenseNet without its classifier, dilated like that of DenseASPP (Yang et al., CVPR 2018).

    Between two dense blocks, a transition applies norm, ReLU, a 1x1 convolution and 2x2 average pooling. Below the
    output stride its pooling is left out and the 3x3 convolutions of the following blocks are dilated. The output of a
    dense block is neither normalised nor rectified, so

        X_l = ReLU(norm(output of dense block l)),

    with the norm that the network applies next: that of transition l for l = 1..3, the last norm for l = 4.

    A dilated block sampled at every second position equals the strided one, borders included; the network does not,
    since 2x2 averages are left out. Pooling keeps an odd last row or column, which timm's drops.
    """

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build the model.

        Args:
            recipe: model name, output stride (8, 16, 32; None is 32) and input channels.
            pretrained: file of timm's own weights; None: random weights.
        """
        super().__init__()
        self.features = _create_model(recipe, pretrained, num_classes=0).features
        stride, dilation = 4, 1
        strides, channels = [stride], []
        for stage in (1, 2, 3):
            transition = self.features.get_submodule(f"transition{stage}")
            channels.append(transition.norm.num_features)
            if stride < (recipe.output_stride or 32):
                stride *= 2
                transition.pool = AvgPool2x2()
            else:
                dilation *= 2
                transition.pool = nn.Identity()
            strides.append(stride)
            for part in self.features.get_submodule(f"denseblock{stage + 1}").modules():
                if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                    part.dilation = part.padding = (dilation, dilation)
        self.channels = (*channels, self.features.norm5.num_features)
        self.strides = tuple(strides)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Images → `X_1..X_4`."""
        maps = []
        x = images
        for name, part in self.features.named_children():
            if name.startswith("transition"):
                x = part.norm(x)
                maps.append(x)
                x = part.pool(part.conv(x))
            else:
                x = part(x)
        return [*maps, x]


class AvgPool2x2(nn.Module):
    """2x2 average pooling, (B, C, H, W) → (B, C, ceil(H / 2), ceil(W / 2)).

    An odd last row or column is averaged with itself: `AvgPool2d(2, ceil_mode=True)`, but an exported network with it
    runs at sizes of the other parity, too.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _h _w"]:
        """Average."""
        # One more row and column at every size (even sizes do not read them): the tracer of an export then sees the
        # same expression for the size as after a strided convolution.
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


class DilatedAvgPool2x2(nn.Module):
    """`AvgPool2x2` with its stride traded for dilation: position p is averaged with p + `dilation`.

    A position without a counterpart is averaged with itself. Sampled at every `2 * dilation`, the result is
    `AvgPool2x2` of the map sampled at every `dilation`, borders included.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Average, at the size of `x`."""
        inside = torch.ones_like(x[:1, :1])
        for padding in ((0, 0, 0, self.dilation), (0, self.dilation, 0, 0)):
            x = (x + _shift(x, padding)) / (1 + _shift(inside, padding))
        return x


def _shift(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Shift `x` towards its origin by what `padding` adds at its end, filling up with zeros. (Slices do not export.)"""
    left, right, top, bottom = padding
    return F.pad(F.pad(x, padding), (-right, -left, -bottom, -top))


Options = dict[str, Any]

ANY_SIZE: tuple[Options, ...] = (
    {"strict_img_size": False, "always_partition": True},
    {"strict_img_size": False},
    {},
)
"""Arguments that let a model take images of any size, the first that it accepts; with the first, attention windows
shift in the last stage, too."""


class TimmPyramid(Backbone):
    """Any timm model with `features_only=True`: `X_1..X_4` are its last four levels.

    Images are padded at the right and bottom with zeros (the mean color) to a multiple of the coarsest stride and the
    maps cropped to `ceil(H / stride_l)`: every size works, and all levels stay aligned. (A network that rounds its
    sizes down omits up to 31 pixels at the edge, different ones at each level.)

    Whether a model fits is determined on construction, on the meta device: it must have four levels, take images of
    any multiple of its stride, and return maps of the channels and strides that it declares.
    """

    def __init__(self, recipe: BackboneRecipe, pretrained: Path | None = None) -> None:
        """Build the model.

        Args:
            recipe: model name, output stride (None: the model's own) and input channels.
            pretrained: file of timm's own weights; None: random weights.

        Raises:
            UserError: the model has fewer than four levels, cannot be dilated, or takes images of one size only.
        """
        super().__init__()
        self.net = _create_model(recipe, pretrained, features_only=True, **_pyramid_options(recipe))
        for module in [*self.net.modules()]:
            for name, child in module.named_children():
                if isinstance(child, Conv2dSame):
                    setattr(module, name, ConstantlyPaddedConv2d(child))
        self.channels = tuple(self.net.feature_info.channels())
        self.strides = tuple(self.net.feature_info.reduction())

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Images → `X_1..X_4`."""
        bottom, right = (-side % self.strides[-1] for side in images.shape[-2:])
        maps = _maps(self.net, F.pad(images, (0, right, 0, bottom)))
        # Cropped by negative padding: a slice would tie an exported network to multiples of the stride.
        return [F.pad(x, (0, -(right // s), 0, -(bottom // s))) for x, s in zip(maps, self.strides, strict=True)]

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load `state`, of which `features_only` models of timm leave some out and rename the rest."""
        aliases = {
            alias: value
            for name, value in state.items()
            for alias in (name, name.removeprefix("net."), name.replace(".", "_", 1), f"model.{name}", f"body.{name}")
        }
        self.net.load_state_dict({name: aliases[name] for name in self.net.state_dict() if name in aliases})


class ConstantlyPaddedConv2d(nn.Conv2d):
    """timm's `Conv2dSame` (of models converted from TensorFlow) for maps whose sides are multiples of the stride.

    Its padding is then always the same. Computed from the size, as timm does, it takes an export many minutes to trace.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take the parameters of `conv`."""
        kernel: Any = conv.kernel_size
        options: dict[str, Any] = {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups}
        super().__init__(conv.in_channels, conv.out_channels, kernel, **options, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        vertical, horizontal = (
            max((size - 1) * dilation + 1 - stride, 0)
            for size, stride, dilation in zip(self.kernel_size, self.stride, self.dilation, strict=True)
        )
        self.around = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _c _h _w"]:
        """(B, C, H, W) → (B, out_channels, H / stride, W / stride)."""
        return super().forward(F.pad(x, self.around))


def _maps(net: Any, images: Tensor) -> list[Tensor]:
    """Run a `features_only` model; its maps as NCHW."""
    maps: list[Tensor] = net(images)
    if str(getattr(net, "output_fmt", "")).endswith("NHWC"):
        return [x.permute(0, 3, 1, 2) for x in maps]
    return maps


@torch.no_grad()
def _pyramid_options(recipe: BackboneRecipe) -> Options:
    """Return the arguments with which timm's model is a backbone.

    Raises:
        UserError: there are none.
    """

    options = next((each for each in ANY_SIZE if _create_on_meta(recipe, each)), None)
    if options is None:
        raise _refusal(recipe, "is no backbone: timm returns no feature maps of it")
    levels = _create_on_meta(recipe, options).feature_info
    own: list[int] = levels.reduction()
    if len(own) < 4:
        raise _refusal(recipe, f"has only {len(own)} levels, gffnet needs four")
    options = {**options, "out_indices": tuple(levels.out_indices[-4:])}

    def dilated(stride: int) -> bool:
        net = _create_on_meta(recipe, {**options, "output_stride": stride})
        return net is not None and net.feature_info.reduction()[-1] == stride

    if recipe.output_stride not in (None, own[-1]):
        if not dilated(recipe.output_stride):
            allowed = "".join(f"{s}, " for s in (8, 16, 32) if s != own[-1] and dilated(s))
            raise UserError(
                f"backbone {recipe.name!r} has no output stride {recipe.output_stride}: timm cannot dilate it so. "
                f"Allowed for output_stride: {allowed}null in YAML, None in Python: its own, {own[-1]}."
            )
        options["output_stride"] = recipe.output_stride
    if torch.get_default_device().type != "meta":  # there it is loaded, or counted: it has been built before
        _check_maps(recipe, options)
    return options


def _check_maps(recipe: BackboneRecipe, options: Options) -> None:
    """Raise `UserError` where the model does not take images of any size, or its maps are off the grid."""
    net = _create_on_meta(recipe, options)
    strides = net.feature_info.reduction()
    height, width = 8 * strides[-1], 9 * strides[-1]
    try:
        maps = _maps(net, torch.empty(1, recipe.in_channels, height, width, device="meta"))
    except (AssertionError, RuntimeError, ValueError):
        raise _refusal(
            recipe, "takes images of the size it was trained with only; gffnet feeds crops and whole images of any size"
        ) from None
    for x, channels, stride in zip(maps, net.feature_info.channels(), strides, strict=True):
        if x.shape[1:] != (channels, height // stride, width // stride):
            raise _refusal(recipe, f"crops its maps at the border, off the grid of {stride} pixels")


def _refusal(recipe: BackboneRecipe, reason: str) -> UserError:
    return UserError(
        f"backbone {recipe.name!r} {reason}. Use one with a pyramid, such as resnet50, convnext_tiny or "
        "swin_tiny_patch4_window7_224."
    )


def _create_on_meta(recipe: BackboneRecipe, options: Options) -> Any:
    """Create the model on the meta device; None if timm cannot with these options."""
    try:
        with meta_device():
            return _create_model(recipe, None, features_only=True, **options).eval()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
