"""The head: maps of several resolutions → one score a class and pixel."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from jaxtyping import Float, Num
from timm.models import is_model_in_modules
from torch import Tensor, nn

from gffnet.errors import UserError, nearest
from gffnet.models.backbones import Backbone, DenseNet, ResNet, TimmPyramid
from gffnet.models.context import Context, DenseASPP, NoContext, PyramidPooling
from gffnet.models.fusion import FPN, Addition, Concat, Fusion, GatedFPN, GatedFullyFusion, GatedFusion
from gffnet.models.layers import Gates, Output, Pyramid, start_small
from gffnet.models.ops import ConcatConv2d, resize, size_of
from gffnet.models.pyramid import DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from gffnet.models.weights import load_weights, pretrained_file
from gffnet.models.weights import read_weights_file as read_weights
from gffnet.recipe import BackboneRecipe, ModelRecipe


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


# The network of the paper's Figure 3: backbone, context, fusion, pyramid, head.


class SegmentationModel(nn.Module):
    """PSPNet or DenseASPP, optionally with a fusion and a (dense) feature pyramid.

    It never sees a loss, a label or a mode: it returns `Output(logits, gates)` in training and evaluation alike.
    """

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
        """`fusion` and `pyramid` come together or not at all; `mean`, `std` in grey levels, one per input channel."""
        super().__init__()
        self.backbone = backbone
        self.context = context
        self.fusion = fusion
        self.pyramid = pyramid
        self.head = head
        self.mean = tuple(mean)
        self.std = tuple(std)

    def forward(self, image: Num[Tensor, "b c h w"]) -> Output:
        """Image, uint8 or float in 0..255, (B, C, H, W) → logits (B, K, H, W) and the gates (finest first)."""
        pyramid, context = self.features(image)
        return self.decode(pyramid, context, size_of(image))

    def features(self, image: Num[Tensor, "b c h w"]) -> tuple[Pyramid, Tensor]:
        """Image → the pyramid `X_1..X_4` and the context map `y_0`."""
        pyramid = self.backbone(self.normalise(image))
        return pyramid, self.context(pyramid[-1])

    def normalise(self, image: Num[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`(image - mean) / std` per channel, reckoned in float32 or finer, in the dtype of the weights."""
        dtype = next(self.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        mean, std = (torch.tensor(v, dtype=exact, device=image.device)[:, None, None] for v in (self.mean, self.std))
        return image.to(exact, copy=True).sub_(mean).div_(std).to(dtype)

    def encode(self, maps: Pyramid, context: Tensor) -> tuple[list[Tensor], Gates | None]:
        """The reduced maps and the gates of a pyramid: all that a fusion works on."""
        assert self.fusion is not None
        if self.fusion.takes_context:
            maps = [*maps, context]
        return self.fusion.reduce(maps), self.fusion.gates(maps)

    def decode(self, pyramid: Pyramid, context: Tensor, size: tuple[int, int]) -> Output:
        """`X_1..X_4` and `y_0` → logits of `size` and the gates."""
        if self.fusion is None:
            return Output(self.head([context], size), None)
        reduced, gates = self.encode(pyramid, context)
        return Output(self.assemble(reduced, gates, context, size), gates)

    def assemble(self, reduced: Pyramid, gates: Gates | None, context: Tensor, size: tuple[int, int]) -> Tensor:
        """Reduced maps, gates (as learned, or edited) and `y_0` → logits of `size`."""
        assert self.fusion is not None
        assert self.pyramid is not None
        fused = self.fusion.fuse(reduced, gates)
        if self.fusion.takes_context:
            *fused, context = fused
        out: Tensor = self.head(self.pyramid(context, fused), size)
        return out


# From a recipe to a backbone.
#
# A family of timm models that gffnet knows closely has a row in `FAMILIES`; `TimmPyramid` builds all others. To add one:
# write its class, test it, add its row.


Family = type[ResNet] | type[DenseNet] | type[TimmPyramid]

FAMILIES: tuple[tuple[str, Family], ...] = (
    ("resnet", ResNet),
    ("densenet", DenseNet),
)
"""Modules of timm, and the class that makes their models backbones."""


def build_backbone(recipe: BackboneRecipe) -> Backbone:
    """The backbone that `recipe` describes, with its weights.

    With weights "none" it can be built without memory, under `torch.device("meta")`.

    Raises:
        UserError: the model, its output stride or its weights are not to be had; the message says what is.
    """
    family = _family(recipe)
    if recipe.weights == "none":
        return family(recipe)
    if recipe.weights == "imagenet":
        return family(recipe, pretrained_file(recipe.name))
    path = Path(recipe.weights)
    state = read_weights(path)
    backbone = family(recipe)
    load_weights(backbone, recipe, state, path)
    return backbone


def _family(recipe: BackboneRecipe) -> Family:
    """The class for a model's name; a UserError if timm does not know the name, or the tag after its dot."""
    if not timm.is_model(recipe.name):
        near = nearest(recipe.name, timm.list_models())
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
    if recipe.in_channels < 1:
        raise UserError(f"model.backbone.in_channels is {recipe.in_channels}, and must be 1 or more.")
    return next((family for module, family in FAMILIES if is_model_in_modules(model, [module])), TimmPyramid)


# From a recipe to a network. One row a variant: to add or to delete one, change its row here.


CONTEXTS: dict[str, type[Context]] = {
    "pyramid_pooling": PyramidPooling,
    "dense_aspp": DenseASPP,
    "none": NoContext,
}
FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "addition": Addition,
    "fpn": FPN,
    "gated_fpn": GatedFPN,
    "gff": GatedFullyFusion,
}
PYRAMIDS: dict[str, type[FeaturePyramid]] = {
    "none": FeaturePyramid,
    "dense": DenseFeaturePyramid,
    "literal": LiteralDensePyramid,
}


def build_network(recipe: ModelRecipe, classes: int) -> SegmentationModel:
    """The network that `recipe` describes, with `classes` scores a pixel.

    Builds on the current default device: within `torch.device("meta")` it costs nothing.

    Raises:
        UserError: an unknown backbone, weights that cannot be had, an output stride that the backbone cannot take, or
            a dense pyramid without a fusion.
    """
    if recipe.fusion == "none" and recipe.dense_pyramid != "none":
        raise UserError(
            f"model.dense_pyramid {recipe.dense_pyramid!r} needs fused maps, but model.fusion is 'none'. "
            "Set model.fusion to one of " + ", ".join(FUSIONS) + ", or model.dense_pyramid to none."
        )
    backbone = build_backbone(recipe.backbone)
    context = CONTEXTS[recipe.context](backbone.widths[-1])
    fusion, pyramid = None, None
    widths: tuple[int, ...] = (context.width,)
    if recipe.fusion != "none":
        fusion = build_fusion(recipe, (*backbone.widths, context.width))
        top = fusion.channels if fusion.takes_context else context.width
        pyramid = build_pyramid(recipe, top, len(backbone.widths), fusion.channels)
        widths = pyramid.widths
    return SegmentationModel(
        backbone, context, fusion, pyramid, Head(widths, classes, recipe.dropout), recipe.mean, recipe.std
    )


def build_fusion(recipe: ModelRecipe, widths: tuple[int, ...]) -> Fusion:
    """The fusion of `recipe` for maps of `widths`, finest first, the context map last."""
    kind = FUSIONS[recipe.fusion]
    taken = widths if kind.takes_context else widths[:-1]
    if issubclass(kind, GatedFusion):
        return kind(taken, gate_channels=recipe.gate_channels)
    return kind(taken)


def build_pyramid(recipe: ModelRecipe, context_width: int, levels: int, channels: int) -> FeaturePyramid:
    """The pyramid of `recipe` over `levels` fused maps of `channels` and a context map of `context_width`."""
    kind = PYRAMIDS[recipe.dense_pyramid]
    if issubclass(kind, DenseFeaturePyramid | LiteralDensePyramid):
        return kind(context_width, levels, channels, kernel=recipe.pyramid_kernel)
    return kind(context_width, levels, channels)
