"""From a recipe to a network. One row a variant: to add or to delete one, change its row here."""

from gffnet.errors import UserError
from gffnet.models.backbones.build import build_backbone
from gffnet.models.context.base import Context
from gffnet.models.context.dense_aspp import DenseASPP
from gffnet.models.context.no_context import NoContext
from gffnet.models.context.pyramid_pooling import PyramidPooling
from gffnet.models.dense_pyramid import DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from gffnet.models.fusion.addition import Addition
from gffnet.models.fusion.base import Fusion, GatedFusion
from gffnet.models.fusion.concat import Concat
from gffnet.models.fusion.fpn import FPN
from gffnet.models.fusion.gated_fpn import GatedFPN
from gffnet.models.fusion.gated_fully_fusion import GatedFullyFusion
from gffnet.models.heads import Head
from gffnet.models.network import SceneParser
from gffnet.recipe import ModelRecipe

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


def build_network(recipe: ModelRecipe, classes: int) -> SceneParser:
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
    return SceneParser(
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
