"""Weights of the classes in the loss, given or from how often each class occurs in the training split.

With `n_c` pixels of class c, and only labelled pixels counted throughout:

- `median_frequency` (Eigen and Fergus, ICCV-15, sec. 4.3; SegNet): `w_c = median(f) / f_c`, where `f_c` is `n_c` over
  all pixels of the images that show c, and the median is over the classes;
- `enet` (Paszke et al., 2016, sec. 5.2): `w_c = 1 / ln(1.02 + n_c / Σ_i n_i)`, from 1.4 to 50.5.

A class that occurs nowhere has the weight 1 and no part in the median.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from gffnet.errors import UserError
from gffnet.recipe import LossRecipe


def needs_pixels(recipe: LossRecipe) -> bool:
    """Whether the weights depend on how often the classes occur."""
    return recipe.class_weighting != "none"


def class_weights(
    recipe: LossRecipe, names: Sequence[str], pixels: Integer[np.ndarray, "samples classes"] | None
) -> Float[Tensor, "classes"] | None:
    """The weights of a recipe, one a class; None if all are 1.

    Args:
        recipe: says which.
        names: of the classes.
        pixels: of every class in every training sample, see `gffnet.data.balance`; None where `needs_pixels` is false.

    Raises:
        UserError: the weights given are more or fewer than the classes.
    """
    if recipe.class_weights is not None:
        return _given(recipe.class_weights, names)
    if recipe.class_weighting == "none":
        return None
    assert pixels is not None
    occurring = pixels.any(0)
    seen = pixels[:, occurring].astype(np.float64)
    weights = np.ones(len(names))
    if occurring.any():
        weights[occurring] = _median_frequency(seen) if recipe.class_weighting == "median_frequency" else _enet(seen)
    return torch.from_numpy(weights).float()


def _given(weights: tuple[float, ...], names: Sequence[str]) -> Tensor:
    """The recipe's own weights, if they fit the classes."""
    if len(weights) != len(names):
        raise UserError(
            f"training.loss.class_weights has {len(weights)} values: allowed is one per class in the order of the "
            f"classes, of which the data set has {len(names)} ({names[0]} to {names[-1]}). Give {len(names)}, or set "
            "training.loss.class_weights to null."
        )
    return torch.tensor(weights, dtype=torch.float32)


def _median_frequency(pixels: Float[np.ndarray, "samples classes"]) -> Float[np.ndarray, "classes"]:
    """`median(f) / f_c`; every class occurs."""
    around = pixels.sum(1) @ (pixels > 0)  # pixels of the images that show a class
    frequency = pixels.sum(0) / around
    weights: NDArray[np.float64] = np.median(frequency) / frequency
    return weights


def _enet(pixels: Float[np.ndarray, "samples classes"]) -> Float[np.ndarray, "classes"]:
    """`1 / ln(1.02 + n_c / Σ_i n_i)`."""
    weights: NDArray[np.float64] = 1 / np.log(1.02 + pixels.sum(0) / pixels.sum())
    return weights
