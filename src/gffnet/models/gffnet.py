"""The network of Figure 3: backbone, context, fusion, pyramid, head; its constructors, its saving and loading.

| made by | from | is |
|---|---|---|
| `GFFNet(...)`, `PSPNet(...)` | plain arguments | the network with its `config`, to train, save and publish |
| `GFFNet.from_pretrained(MODEL)`, `load_model(MODEL)` | a model | the same |
| `build_network(recipe, num_classes)` | a recipe | the bare `SegmentationModel` |
| `SegmentationModel(...)` | its parts | the same, of any modules |
"""

import inspect
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from huggingface_hub import ModelCard
from jaxtyping import Float, Num
from torch import Tensor, nn

from gffnet.errors import UserError, one_line
from gffnet.files import as_path, atomic_write
from gffnet.models.backbones import Backbone, build_backbone
from gffnet.models.context import CONTEXTS, Context
from gffnet.models.folding import fold_norms
from gffnet.models.fusion import FUSIONS, Fusion, GatedFusion
from gffnet.models.layers import Encoded, Gates, Output, Pyramid, init_predictor, meta_device, require_positive
from gffnet.models.model_card import Facts, make_card
from gffnet.models.model_io import (
    CARD,
    CONFIG,
    ModelConfig,
    WeightFormat,
    check_upload,
    fetch,
    is_hub_name,
    read_model,
    shipped_model,
    untrained_config,
    upload,
    write_weights,
)
from gffnet.models.ops import ConcatConv2d, resize, size_of
from gffnet.models.pyramid import PYRAMIDS, DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from gffnet.models.weights import mismatches
from gffnet.palette import MAX_CLASSES, voc_colors
from gffnet.recipe import ModelRecipe, RecipeError, from_mapping
from gffnet.registry import origin


class Head(nn.Module):
    """All maps resized to the finest and concatenated, dropout, a 1x1 classifier, then resized to the image.

    Dropout zeroes whole channels, as in PSPNet. It and the classifier commute with resizing, so both run at the
    resolution of each map.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, dropout: float = 0.1) -> None:
        """`in_channels`: channels of the maps. Raises ValueError where there is no map, channel or class."""
        super().__init__()
        require_positive("Head", in_channels=in_channels, num_classes=num_classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = ConcatConv2d(in_channels, num_classes, 1, bias=True)
        init_predictor(self.classifier)

    def forward(self, maps: Pyramid, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Maps (B, C_i, H_i, W_i), any order → logits (B, num_classes, *size)."""
        height = max(x.shape[-2] for x in maps)
        width = max(x.shape[-1] for x in maps)
        return resize(self.classifier([self.dropout(x) for x in maps], (height, width)), size)


Network = TypeVar("Network", bound="SegmentationModel")
_FOLDED = "folded for inference, frozen"


class SegmentationModel(nn.Module):
    """PSPNet or DenseASPP, optionally with a fusion and a (dense) feature pyramid.

    It returns `Output(logits, gates)` in training and in evaluation, and knows nothing of losses and labels. Images are
    not normalised beforehand: that is its own part.
    """

    folded = False
    """Whether `fold` has made it a network for inference only."""
    _unchecked_batches = 10
    """Number of float batches whose range is still to be checked: on a GPU, a check waits for the images."""

    def __init__(
        self,
        backbone: Backbone,
        context: Context,
        fusion: Fusion | None,
        pyramid: FeaturePyramid | None,
        head: Head,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """`fusion` and `pyramid` are both given or both `None`; `mean`, `std`: one per input channel, in 0..255."""
        super().__init__()
        self.backbone = backbone
        self.context = context
        self.fusion = fusion
        self.pyramid = pyramid
        self.head = head
        self.mean = tuple(mean)
        self.std = tuple(std)

    def forward(self, images: Num[Tensor, "b c h w"]) -> Output:
        """Images (B, C, H, W), uint8 or float in 0..255 → logits (B, K, H, W) and the gate maps, finest first.

        Warns once of floats in 0..1 or below 0, whose logits would be wrong.
        """
        encoded = self.encode(images)
        return Output(self.decode(encoded), encoded.gates)

    def encode(self, images: Num[Tensor, "b c h w"]) -> Encoded:
        """Compute all that precedes the fusion; `decode` turns it into logits, with these or with other gates."""
        self._check_range(images)
        maps, context = self.features(images)
        return self.reduce(maps, context, size_of(images))

    def features(self, images: Num[Tensor, "b c h w"]) -> tuple[list[Tensor], Tensor]:
        """Images → the maps `X_1..X_4` of the backbone and the context map `y_0`."""
        maps = self.backbone(self.normalize(images))
        return maps, self.context(maps[-1])

    def reduce(self, maps: Pyramid, context: Tensor, size: tuple[int, int]) -> Encoded:
        """`X_1..X_4` and `y_0` of images of `size` → the reduced maps and the gates."""
        if self.fusion is None:
            return Encoded(None, None, context, size, size)
        if self.fusion.takes_context:
            maps = [*maps, context]
        return Encoded(self.fusion.reduce(maps), self.fusion.gates(maps), context, size, size)

    def decode(self, encoded: Encoded, gates: Gates | None = None) -> Float[Tensor, "b k h w"]:
        """Fuse the reduced maps with the learned gates, or with `gates` of the same shapes → logits (B, K, *size)."""
        if self.fusion is None:
            maps = [encoded.context]
        else:
            assert self.pyramid is not None
            assert encoded.reduced is not None
            context = encoded.context
            fused = self.fusion.fuse(encoded.reduced, encoded.gates if gates is None else gates)
            if self.fusion.takes_context:
                *fused, context = fused
            maps = self.pyramid(context, fused)
        logits: Tensor = self.head(maps, encoded.size)
        return logits

    def normalize(self, images: Num[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`(images - mean) / std` per channel, computed in at least float32, returned in the dtype of the weights.

        Raises:
            ValueError: the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"images are {tuple(images.shape)}: allowed are (B, {len(self.mean)}, H, W) in 0..255.")
        dtype = next(self.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        mean, std = (torch.tensor(v, dtype=exact, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return images.to(exact, copy=True).sub_(mean).div_(std).to(dtype)

    def _check_range(self, images: Tensor) -> None:
        """Warn, once, of float images that are not in 0..255. Constant ones, such as zeros to try it with, are."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return
        if not images.is_floating_point() or images.is_meta or self.folded or not self._unchecked_batches:
            return
        if images.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        self._unchecked_batches -= 1
        try:
            low, high = (float(value) for value in images.detach().aminmax())
        except RuntimeError:  # no image, or a tensor without values: within vmap, with fake tensors
            return
        if low < 0 or low < high <= 1:
            self._unchecked_batches = 0
            warnings.warn(
                f"the images are floats from {low:.3g} to {high:.3g}, and the logits will be wrong: this network takes "
                "uint8, or floats in 0..255, and normalises them itself. Leave out the normalisation, and multiply "
                "images in 0..1 by 255.",
                stacklevel=2,
            )

    def fold(self: Network) -> Network:
        """Fold batch normalisation into the convolutions and freeze all weights, in place; returns the network.

        It is then for inference only: it gives the same logits faster, and can be neither trained nor saved.
        """
        self.eval()
        fold_norms(self, torch.zeros(1, len(self.mean), 64, 64, device=self.head.classifier.weight.device))
        self.requires_grad_(False)
        self.folded = True
        return self

    def train(self: Network, mode: bool = True) -> Network:
        """Set training mode, or evaluation mode.

        Raises:
            UserError: training mode, of a folded network.
        """
        if mode and self.folded:
            raise UserError(
                f"this network is {_FOLDED}: it cannot be trained. Train that of gffnet.load_model(MODEL) or "
                "gffnet.GFFNet.from_pretrained(MODEL)."
            )
        return super().train(mode)

    def extra_repr(self) -> str:
        """Say whether the network is folded."""
        return _FOLDED if self.folded else ""


def build_network(recipe: ModelRecipe, num_classes: int) -> SegmentationModel:
    """Build the network of a recipe.

    It is built on the current default device: within `torch.device("meta")` it takes neither time nor memory.

    Raises:
        UserError: an unknown backbone, unavailable weights, or an output stride that the backbone does not support.
    """
    network = SegmentationModel.__new__(SegmentationModel)
    _build(network, recipe, num_classes)
    return network


def _build(network: SegmentationModel, recipe: ModelRecipe, num_classes: int) -> None:
    """Initialise the network of a recipe."""
    SegmentationModel.__init__(network, *_parts(recipe, num_classes))
    if recipe.white_level is not None:  # deep images are read as floats, and some are dark
        network._unchecked_batches = 0


def _parts(recipe: ModelRecipe, num_classes: int) -> tuple[Any, ...]:
    """Return the arguments of `SegmentationModel`."""
    backbone = build_backbone(recipe.backbone)
    channels = recipe.channels
    context = CONTEXTS[recipe.context](backbone.channels[-1], **_taken(CONTEXTS[recipe.context], channels=channels))
    fusion: Fusion | None = None
    pyramid: FeaturePyramid | None = None
    head_channels: tuple[int, ...] = (context.out_channels,)
    if recipe.fusion != "none":
        kind: Any = FUSIONS[recipe.fusion]
        levels = (*backbone.channels, context.out_channels) if kind.takes_context else backbone.channels
        options: dict[str, Any] = {"refinement": recipe.refinement, "separable": recipe.separable}
        if issubclass(kind, GatedFusion) or kind.__module__ != GatedFusion.__module__:  # ours without gates ignore it
            options["gate_channels"] = recipe.gate_channels
        fusion = kind(levels, channels, **_taken(kind, **options))
        context_channels = fusion.channels if fusion.takes_context else context.out_channels
        kind = PYRAMIDS[recipe.dense_pyramid]
        ours = kind.__module__ == DenseFeaturePyramid.__module__
        dense = not ours or issubclass(kind, DenseFeaturePyramid | LiteralDensePyramid)
        options = {"kernel_size": recipe.pyramid_kernel} if dense else {}
        pyramid = kind(context_channels, len(backbone.channels), fusion.channels, **_taken(kind, **options))
        head_channels = pyramid.out_channels
    head = Head(head_channels, num_classes, recipe.dropout)
    return backbone, context, fusion, pyramid, head, recipe.mean, recipe.std


def _taken(kind: Any, **options: Any) -> dict[str, Any]:
    """Return the options that a class takes: one of a user's own need not take those that have their default.

    Raises:
        UserError: it does not take an option that has another value.
    """
    parameters = inspect.signature(kind).parameters
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = {name: value for name, value in options.items() if any_name or name in parameters}
    defaults = ModelRecipe()
    for name, value in options.items():
        key = "pyramid_kernel" if name == "kernel_size" else name
        if name not in taken and value != getattr(defaults, key):
            raise UserError(
                f"{key} is {value}, but {kind.__name__} takes no such argument. Add `{name}` to its __init__, or "
                f"leave {key} at {getattr(defaults, key)}."
            )
    return taken


_ARGUMENTS = {
    "backbone.name": "backbone",
    "backbone.weights": "pretrained",
    "backbone.output_stride": "output_stride",
    "backbone.in_channels": "in_channels",
    "dense_pyramid": "pyramid",
}
"""Arguments of the constructors, by the keys of a recipe that have another name."""


class GFFNet(SegmentationModel):
    """GFFNet (Li et al., AAAI-20): a backbone, pyramid pooling, Gated Fully Fusion and the Dense Feature Pyramid.

        net = gffnet.GFFNet("resnet50", num_classes=5, in_channels=4, channels=128)
        logits, gates = net(images)  # images (B, 4, H, W), uint8 or float in 0..255

    | option | choices | default |
    |---|---|---|
    | `backbone` | a timm model with four levels: `resnet50`, `convnext_tiny`, `swin_tiny_patch4_window7_224`, ... | |
    | `num_classes` | 1 to 254 | |
    | `in_channels` | 1 or more | 3 |
    | `channels` | of the fused maps and the pyramid, 1 or more | 256 |
    | `fusion` | `gff`, `gated_fpn`, `fpn`, `addition`, `concat`, `none`, or one that is registered | `gff` |
    | `pyramid` | `dense`, `literal`, `none`, or one that is registered | `dense` |
    | `context` | `pyramid_pooling`, `dense_aspp`, `none`, or one that is registered | `pyramid_pooling` |
    | `output_stride` | 8, 16, 32, or None: the backbone's own, for those that cannot be dilated | 8 |
    | `pretrained` | True: ImageNet, through timm; False: random; or a weights file of the backbone | False |
    | `mean`, `std` | one number per input channel, in 0..255 | None: those of the pretrained weights, else ImageNet's |
    | `gate_channels` | `one` gate value per position, or one for `each` channel | `one` |
    | `pyramid_kernel` | 1 or 3 | 1 |
    | `refinement` | 3x3 convolutions per fused map, 0 or more | 2 |
    | `separable` | make each of these a depthwise 3x3 and a 1x1 convolution | False |
    | `dropout` | before the classifier, 0 to below 1 | 0.1 |

    `mean` and `std` of RGB are averaged for one input channel and repeated for n, as timm adapts pretrained weights.
    """

    config: ModelConfig
    """What `save_pretrained` writes beside the weights: the options, the classes, their palette, ..."""

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: int = 256,
        fusion: str | None = "gff",
        pyramid: str | None = "dense",
        context: str | None = "pyramid_pooling",
        output_stride: int | None = 8,
        pretrained: bool | str | Path = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        gate_channels: str = "one",
        pyramid_kernel: int = 1,
        refinement: int = 2,
        separable: bool = False,
        dropout: float = 0.1,
    ) -> None:
        """Build the network; the options are described above.

        Raises:
            RecipeError: an option has a value that it does not take, as in a recipe; it is a ValueError.
            UserError: there is no such backbone, or it has no such weights or output stride.
        """
        if not isinstance(num_classes, Integral) or not 1 <= num_classes <= MAX_CLASSES:
            raise RecipeError(
                f"{type(self).__name__}: num_classes must be a whole number from 1 to {MAX_CLASSES} (label 255 is "
                f"ignored), got {num_classes!r}."
            )
        weights = {True: "imagenet", False: "none"}[pretrained] if isinstance(pretrained, bool) else str(pretrained)
        values: dict[str, Any] = {
            "backbone": {
                "name": backbone,
                "weights": weights,
                "output_stride": output_stride,
                "in_channels": _plain(in_channels),
            },
            "context": context or "none",
            "fusion": fusion or "none",
            "dense_pyramid": pyramid or "none",
            "gate_channels": gate_channels,
            "pyramid_kernel": pyramid_kernel,
            "dropout": dropout,
            "channels": _plain(channels),
            "refinement": _plain(refinement),
            "separable": separable,
            "mean": mean,
            "std": std,
        }
        try:
            recipe = from_mapping(ModelRecipe, values, type(self).__name__)
        except UserError as error:
            raise RecipeError(_with_arguments(str(error))) from None
        _build(self, recipe, num_classes)
        self.config = untrained_config(recipe, [f"class_{number}" for number in range(num_classes)])

    def extra_repr(self) -> str:
        """The options, and whether the network is folded."""
        model = self.config.model
        backbone = model.backbone
        weights: Any = {"imagenet": True, "none": False}.get(backbone.weights, backbone.weights)
        options = {
            "in_channels": backbone.in_channels,
            "channels": model.channels,
            "fusion": model.fusion,
            "pyramid": model.dense_pyramid,
            "context": model.context,
            "output_stride": backbone.output_stride,
            "pretrained": weights,
            "gate_channels": model.gate_channels,
            "pyramid_kernel": model.pyramid_kernel,
            "refinement": model.refinement,
            "separable": model.separable,
            "dropout": model.dropout,
            "mean": tuple(round(level, 3) for level in model.mean),
            "std": tuple(round(level, 3) for level in model.std),
        }
        if type(self) is PSPNet:
            options = {name: value for name, value in options.items() if name not in _OF_FUSIONS}
        stated = ", ".join(f"{name}={value!r}" for name, value in options.items())
        lines = [f"{backbone.name!r}, num_classes={len(self.config.classes)}, {stated}", super().extra_repr()]
        return "\n".join(line for line in lines if line)

    def reset_classifier(self, num_classes: int | None = None, classes: Sequence[str] | None = None) -> None:
        """Replace the classifier, for other classes.

        The config then has these classes, and no data set.

        Args:
            num_classes: their number; all weights of the new classifier are random.
            classes: their names instead, in the order of the labels. Classes that the network knows by the same name
                keep their weights and their color.

        Raises:
            ValueError: neither is given, both differ, a name occurs twice, or their number is not in 1..254.
        """
        if classes is None and num_classes is None:
            raise RecipeError("reset_classifier: give num_classes, or the names of the classes.")
        if num_classes is not None and not isinstance(num_classes, Integral):
            raise RecipeError(f"reset_classifier: num_classes {num_classes!r} must be a whole number. Names: classes=.")
        if isinstance(classes, str):
            raise RecipeError(f"reset_classifier: classes {classes!r} must be a list of names.")
        names = [f"class_{number}" for number in range(num_classes or 0)] if classes is None else list(classes)
        if num_classes not in (None, len(names)):
            raise RecipeError(f"reset_classifier: num_classes is {num_classes}, but {len(names)} classes are named.")
        if not 1 <= len(names) <= MAX_CLASSES:
            raise RecipeError(
                f"reset_classifier: there are {len(names)} classes; allowed are 1 to {MAX_CLASSES} (label 255 is "
                "ignored)."
            )
        if twice := [name for name in names if names.count(name) > 1]:
            raise RecipeError(f"reset_classifier: class {twice[0]!r} is there twice. Give every class its own name.")
        known = {} if classes is None else {name: row for row, name in enumerate(self.config.classes)}
        old = self.head.classifier
        head = Head(old.map_channels, len(names), self.head.dropout.p).to(old.weight.device, old.weight.dtype)
        with torch.no_grad():
            for row, name in enumerate(names):
                if name in known:
                    for new_values, values in zip(head.classifier.parameters(), old.parameters(), strict=True):
                        new_values[row] = values[known[name]]
        self.head = head.train(self.training)
        kept = {name: self.config.palette[row] for name, row in known.items() if name in names}
        free = (color for color in voc_colors() if color not in kept.values())
        config = untrained_config(self.config.model, names)
        palette = tuple(kept.get(name) or next(free) for name in names)
        self.config = replace(config, palette=palette, evaluation=self.config.evaluation)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> "GFFNet":
        """Return the network of a model: trainable, float32, on the CPU and in evaluation mode.

        It is a `PSPNet` where it has no fusion, whatever class this is called of.

        Args:
            model: a run folder, a model folder or a checkpoint, or OWNER/NAME or OWNER/NAME@REVISION on the hub; None:
                the model that ships with the package.
            revision: branch, tag or commit on the hub.
            token, cache_dir, force_download, local_files_only: as for `gffnet.models.model_io.fetch`.

        Raises:
            UserError: there is no such model, it cannot be downloaded, or it is not one of gffnet.
        """
        model = shipped_model() if model is None else model
        if not is_hub_name(model):
            if revision is not None:
                raise UserError(f"revision {revision!r}: {model} is no name on the hub, so it has none. Leave it out.")
            return load_model(model)[0]
        name = f"{model}@{revision}" if revision else str(model)
        cache: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
        return load_model(fetch(name, token=token, force_download=force_download, **cache))[0]

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        weights: WeightFormat = "float32",
        max_shard_size: str | None = None,
        **card: Any,
    ) -> None:
        """Write a model folder, and a model card unless the folder has one.

        Args:
            save_directory: the folder.
            weights: dtype of kernels on the disk.
            max_shard_size: maximal size of a weights file, such as `16MB`; None: one file.
            card: as for `generate_model_card`.

        Raises:
            UserError: the model could not be loaded again (see `save_model`), a weight does not fit into a shard or a
                dtype, or there is no room.
        """
        folder = as_path(save_directory)
        text = str(self.generate_model_card(weights=weights, **card))
        save_model(folder, self, self.config, weights, max_shard_size)
        if not (folder / CARD).exists():
            atomic_write(folder / CARD, text)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "A model of gffnet",
        **options: Any,
    ) -> str:
        """Upload the model to the hub in one commit; return its address.

        Args:
            repo_id: OWNER/NAME; created if it does not exist.
            private: whether a new repository is private; None: the owner's default.
            token: instead of that of `hf auth login`.
            commit_message: message of the commit.
            options: as for `save_pretrained`.

        Raises:
            UserError: the hub cannot be reached or refuses, or as for `save_pretrained`.
        """
        check_upload(repo_id)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, name=repo_id, **options)
            return upload(Path(folder), repo_id, private=private, token=token, message=commit_message)

    def generate_model_card(
        self, name: str | None = None, license: str | None = None, weights: WeightFormat = "float32"
    ) -> ModelCard:
        """Return a card with the facts of `config`; `gffnet publish` adds those of the run.

        Args:
            name: OWNER/NAME on the hub.
            license: the hub's identifier, such as `apache-2.0`.
            weights: dtype of kernels on the disk.
        """
        return make_card(Facts(self.config, name, license, weights))


_OF_FUSIONS = ("fusion", "pyramid", "gate_channels", "pyramid_kernel", "refinement", "separable")
"""Options that mean nothing without a fusion."""


class PSPNet(GFFNet):
    """PSPNet (Zhao et al., CVPR 2017), the baseline: a `GFFNet` without fusion and pyramid.

        net = gffnet.PSPNet("resnet101", num_classes=19)

    The options are those of `GFFNet`. `channels` is the least number of channels of the context map, which has a
    quarter of the backbone's if that is more. `context="dense_aspp"` makes it DenseASPP, `context="none"` an FCN.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: int = 256,
        context: str | None = "pyramid_pooling",
        output_stride: int | None = 8,
        pretrained: bool | str | Path = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dropout: float = 0.1,
    ) -> None:
        """Build the network. Raises as `GFFNet`."""
        super().__init__(
            backbone,
            num_classes,
            in_channels=in_channels,
            channels=channels,
            fusion=None,
            pyramid=None,
            context=context,
            output_stride=output_stride,
            pretrained=pretrained,
            mean=mean,
            std=std,
            dropout=dropout,
        )


def _plain(value: Any) -> Any:
    """A whole number of numpy as Python's."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _with_arguments(message: str) -> str:
    """Return an error of a recipe with the constructor's arguments in place of the recipe's keys."""
    for key, argument in _ARGUMENTS.items():
        message = re.sub(rf"\b(?:model\.)?{re.escape(key)}\b", argument, message)
    return re.sub(r"\bmodel\.(?=[a-z])", "", message).replace("null", "None")


def _with_config(config: ModelConfig) -> GFFNet:
    """Build the network of a config with random weights."""
    kind = PSPNet if config.model.fusion == "none" else GFFNet
    network = kind.__new__(kind)
    _build(network, config.model.without_weights(), len(config.classes))
    network.config = config
    return network


def save_model(
    folder: Path,
    network: SegmentationModel,
    config: ModelConfig,
    weights: WeightFormat = "float32",
    max_shard_size: str | None = None,
    config_first: bool = False,
) -> None:
    """Write a model folder, each file atomically, `config.json` last: in a run, the model is complete where it is.

    Args:
        folder: the model folder.
        network: the network that `config` describes.
        config: its config.
        weights: dtype of kernels on the disk.
        max_shard_size: maximal size of a weights file, such as `16MB`; None: one file.
        config_first: write `config.json` before the weights instead: it tells whose an incomplete folder is.

    Raises:
        UserError: as `check_loadable` and `model_io.write_weights`; then nothing is written.
        CannotWrite: there is no room.
    """
    check_loadable(network, config)
    text = config.to_text()
    write_weights(folder, network.state_dict(), weights, max_shard_size, text if config_first else None)
    if not config_first:
        atomic_write(folder / CONFIG, text)


def check_loadable(network: SegmentationModel, config: ModelConfig) -> None:
    """Check that a network is the one that its config describes, so that it can be loaded when it has been saved.

    The described network is built on the meta device, which takes 0.1 s for a ResNet, and up to a second for other
    backbones of timm.

    Raises:
        UserError: it is folded, a module of it is of another class, or weights have other names or shapes.
    """
    if network.folded:
        raise UserError(f"this network cannot be saved: it is {_FOLDED}. Save that of gffnet.load_model(MODEL).")
    with meta_device():
        described = build_network(config.model.without_weights(), len(config.classes))
    modules = dict(network.named_modules())
    reasons = [
        f"its {part} is a {type(modules.get(part)).__name__}, where the config has {type(expected).__name__}"
        for part, expected in described.named_modules()
        if part and not isinstance(expected, _NORMS) and origin(type(modules.get(part))) != origin(type(expected))
    ]
    own = [name for name in _FUNCTIONS if getattr(type(network), name) is not getattr(SegmentationModel, name)]
    if own:
        reasons.append(f"its class {type(network).__name__} has {own[0]} of its own")
    if network.mean != described.mean or network.std != described.std:
        reasons.append(f"its mean and std, {network.mean} and {network.std}, are not those of the config")
    if found := mismatches(described.state_dict(), network.state_dict()):
        reasons.append(f"its weights are not those that the config describes: {found}")
    if reasons:
        raise UserError(
            f"this network cannot be saved as a model, since it could not be loaded again: {reasons[0]}. Register a "
            "module of your own (gffnet.register_fusion, ...) and build the network with its name; for other classes, "
            "use reset_classifier. The weights alone: torch.save(network.state_dict(), FILE)."
        )


_FUNCTIONS = ("forward", "encode", "features", "reduce", "decode", "normalize")
"""What a network computes by; one of a class of the user's is not loaded again."""
_NORMS = nn.modules.batchnorm._NormBase
"""Batch normalisation of another class is the same function: torch synchronises it between devices."""


def load_model(model: str | Path | None = None) -> tuple[GFFNet, ModelConfig]:
    """Return the network of a MODEL, trainable, float32, on the CPU and in evaluation mode, and its config.

    A network without fusion is a `PSPNet`. None is the model that ships with the package.

    Raises:
        UserError: there is no such model, or its files are missing, damaged, or of different models.
    """
    config, weights, path = read_model(shipped_model() if model is None else model)
    with meta_device():
        network = _with_config(config)
    if not network.state_dict().keys() >= {name for name, _ in network.named_buffers()}:
        network = _with_config(config)  # it computes constants that are not stored
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = one_line(error)[:300]
        raise UserError(f"model {path}: these weights are not of the network in {CONFIG}: {reason}") from None
    return network.eval(), config
