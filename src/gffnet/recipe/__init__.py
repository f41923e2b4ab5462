"""The recipe: a frozen, typed description of a run, read from YAML. Pure data, without PyTorch.

A recipe names a network, its data, its training and its evaluation. The package ships one for every row of the paper's
tables that its authors trained (`recipes/<data set>/<row>.yaml`). `base: <data set>/<row>` starts from another recipe,
so that a row of an ablation states only what differs.
"""

from gffnet.recipe.loading import (
    AUTO_KEYS,
    INPUT_KEYS,
    RECIPES,
    DataSize,
    StrictLoader,
    dump_yaml,
    load_recipe,
    load_recorded,
    load_unresolved,
    recipe_from_mapping,
    recipe_json_schema,
    recipe_names,
    resolve_auto,
    validated_split,
    with_inputs,
)
from gffnet.recipe.schema import (
    BackboneRecipe,
    DataRecipe,
    EvaluationRecipe,
    LossRecipe,
    ModelRecipe,
    OptimizerName,
    PrecisionName,
    Recipe,
    RecipeError,
    TrainingRecipe,
    from_mapping,
    validated,
)

__all__ = [
    "AUTO_KEYS",
    "INPUT_KEYS",
    "RECIPES",
    "BackboneRecipe",
    "DataRecipe",
    "DataSize",
    "EvaluationRecipe",
    "LossRecipe",
    "ModelRecipe",
    "OptimizerName",
    "PrecisionName",
    "Recipe",
    "RecipeError",
    "StrictLoader",
    "TrainingRecipe",
    "dump_yaml",
    "from_mapping",
    "load_recipe",
    "load_recorded",
    "load_unresolved",
    "recipe_from_mapping",
    "recipe_json_schema",
    "recipe_names",
    "resolve_auto",
    "validated",
    "validated_split",
    "with_inputs",
]
