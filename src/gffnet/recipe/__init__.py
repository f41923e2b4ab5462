"""The recipe: a frozen, typed description of a run, read from strict YAML. Pure data.

A recipe names a network, its data, its training and its evaluation. The package ships one per row of the paper's
tables that its authors trained (`recipes/<data set>/<row>.yaml`). `base: <data set>/<row>` starts from another recipe,
so that a row of an ablation states nothing but what differs.
"""

from gffnet.recipe.auto import DataSize, fit
from gffnet.recipe.checked import from_mapping
from gffnet.recipe.load import RECIPES, load_open_recipe, load_recipe, recipe_from_mapping, recipe_names
from gffnet.recipe.types import (
    BackboneRecipe,
    ContextName,
    DataRecipe,
    DatasetName,
    EvaluationRecipe,
    FusionName,
    LossRecipe,
    ModelRecipe,
    OptimizerName,
    PrecisionName,
    PyramidName,
    Recipe,
    TrainingRecipe,
)

__all__ = [
    "RECIPES",
    "BackboneRecipe",
    "ContextName",
    "DataRecipe",
    "DataSize",
    "DatasetName",
    "EvaluationRecipe",
    "FusionName",
    "LossRecipe",
    "ModelRecipe",
    "OptimizerName",
    "PrecisionName",
    "PyramidName",
    "Recipe",
    "TrainingRecipe",
    "fit",
    "from_mapping",
    "load_open_recipe",
    "load_recipe",
    "recipe_from_mapping",
    "recipe_names",
]
