"""Values that a recipe leaves to the data: the word `auto` in place of a number.

    training.iterations       100 passes over the training images, in hundreds: at least 1000, at most 40,000
    training.crop             the median image, each side up to a multiple of 32, at most 512
    training.validate_every   a tenth of the iterations
    evaluation.crop           training.crop, so that larger images are predicted in windows of that size

A `Recipe` holds numbers only, and so does the one that a run folder keeps.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

from gffnet.recipe.types import Recipe

AUTO = "auto"
KEYS = ("training.iterations", "training.crop", "training.validate_every", "evaluation.crop")
"""What may be `auto`."""
PASSES = 100
FEWEST, MOST = 1000, 40_000
"""Iterations."""
STEP, LARGEST = 32, 512
"""Pixels of a side of a crop."""


class DataSize(NamedTuple):
    """What of a training split decides."""

    images: int
    height: int
    """Of the median image, in pixels."""
    width: int


STANDARD = DataSize(1600, 512, 512)
"""Stands in where there are no data, as for counting parameters: 20,000 iterations of 8 crops of 512x512."""


def take_autos(mapping: dict[str, Any]) -> list[str]:
    """Which of `KEYS` are `auto` in the nested values of a recipe; they are taken out of it."""
    found = []
    for key in KEYS:
        section, _, last = key.partition(".")
        values = mapping.get(section)
        if isinstance(values, dict) and values.get(last) == AUTO:
            del values[last]
            found.append(key)
    return found


def fit(recipe: Recipe, autos: Collection[str], size: DataSize) -> Recipe:
    """`recipe` with the values of `autos` as the data have it."""
    training, evaluation = recipe.training, recipe.evaluation
    if "training.iterations" in autos:
        training = replace(training, iterations=_iterations(size.images, training.batch))
    if "training.crop" in autos:
        training = replace(training, crop=(_side(size.height), _side(size.width)))
    if "training.validate_every" in autos:
        training = replace(training, validate_every=-(-training.iterations // 10))
    if "evaluation.crop" in autos:
        evaluation = replace(evaluation, crop=training.crop)
    return replace(recipe, training=training, evaluation=evaluation)


def _iterations(images: int, batch: int) -> int:
    hundreds = -(-PASSES * images // (100 * batch))
    return min(MOST, max(FEWEST, 100 * hundreds))


def _side(pixels: int) -> int:
    return min(LARGEST, -(-pixels // STEP) * STEP)
