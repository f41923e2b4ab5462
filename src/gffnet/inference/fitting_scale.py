"""At what scale an image is seen that is much larger than those that a network has learned from.

A network knows things at the sizes that they had in training, and those of recipes are scaled by up to 2 there. In a
photograph with ten times as many pixels a car is a wall of details. So where its model says how large its images were,
n of whose areas the image has, an image is seen at the scale

    s = 1.5 / sqrt(n)        if sqrt(n) > 2,  else 1

Not so with windows: large images that are cut into tiles, as those from the air, show more things, not larger ones.
"""

from dataclasses import replace
from math import sqrt

from gffnet.recipe import EvaluationRecipe

MOST = 2.0
"""Times the width and height that are left as they are."""
AIM = 1.5
"""Times the width and height that larger ones are seen at."""


def fitted_to(protocol: EvaluationRecipe, learned_from: tuple[int, int] | None) -> tuple[int, int] | None:
    """The height and width that much larger images are seen as if of; None: they are seen as they are."""
    return learned_from if protocol.crop is None else None


def fitting_scale(protocol: EvaluationRecipe, learned_from: tuple[int, int] | None, size: tuple[int, int]) -> float:
    """The scale that an image is seen at by a model's own protocol, of which the scales are factors.

    Args:
        protocol: of the model.
        learned_from: height and width of the images that it was trained on; None: not known.
        size: height and width of the image.
    """
    usual = fitted_to(protocol, learned_from)
    if usual is None:
        return 1.0
    times = sqrt(size[0] * size[1] / (usual[0] * usual[1]))
    return 1.0 if times <= MOST else float(f"{AIM / times:.3g}")


def fitted_protocol(
    protocol: EvaluationRecipe, learned_from: tuple[int, int] | None, size: tuple[int, int]
) -> EvaluationRecipe:
    """The protocol with its scales times `fitting_scale`."""
    scale = fitting_scale(protocol, learned_from, size)
    return protocol if scale == 1 else replace(protocol, scales=tuple(scale * own for own in protocol.scales))
