"""From a recipe to a backbone."""

import timm
from timm.models import is_model_in_modules

from gffnet.errors import UserError, nearest
from gffnet.models.backbones.base import Backbone
from gffnet.models.backbones.resnet import ResNet
from gffnet.recipe import BackboneRecipe

FAMILIES: tuple[tuple[str, type[ResNet]], ...] = (("resnet", ResNet),)


def build_backbone(recipe: BackboneRecipe) -> Backbone:
    """The backbone that `recipe` describes."""
    if not timm.is_model(recipe.name):
        raise UserError(f"backbone {recipe.name!r} is unknown.{nearest(recipe.name, timm.list_models())}")
    for module, family in FAMILIES:
        if is_model_in_modules(recipe.name, [module]):
            return family(recipe)
    raise UserError(f"backbone {recipe.name!r}: no such family.")
