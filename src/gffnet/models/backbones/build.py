"""From a recipe to a backbone.

A family of timm models that gffnet knows closely has a row in `FAMILIES`; `TimmPyramid` builds all others. To add one:
write its class, test it, add its row.
"""

from pathlib import Path

import timm
from timm.models import is_model_in_modules

from gffnet.errors import UserError, nearest
from gffnet.models.backbones.base import Backbone
from gffnet.models.backbones.densenet import DenseNet
from gffnet.models.backbones.hub import pretrained_file
from gffnet.models.backbones.resnet import ResNet
from gffnet.models.backbones.timm_pyramid import TimmPyramid
from gffnet.models.backbones.weights import load_weights, read_weights
from gffnet.recipe import BackboneRecipe

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
