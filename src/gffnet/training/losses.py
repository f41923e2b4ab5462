"""The training loss: cross-entropy over the labelled pixels, as a sum and its weight.

With `p` the softmax of a pixel's logits, `y` its label, `ε` the label smoothing and `w` the weights of the K classes, 1
unless the recipe weights them, a labelled pixel's loss is that of `torch.nn.functional.cross_entropy`:

    ℓ = -(1 - ε) w_y log p_y - ε / K Σ_k w_k log p_k

The mean over pixels is `Σ ℓ / Σ w_y`. `SegmentationLoss` gives its two sums apart.

With online hard example mining (OHEM; Shrivastava et al., CVPR-16; over pixels: Wu et al., 2016) the mean is over the
hard pixels alone: those with `p_y` below a threshold, and always the given share of the labelled pixels with the least
`p_y`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray
from torch import Tensor, nn

from gffnet.data.dataset import IGNORE
from gffnet.errors import UserError
from gffnet.recipe import LossRecipe

REGISTER = 16
"""Numbers of float32 in the widest vector register that CPUs have, of AVX-512."""


class SegmentationLoss(nn.Module):
    """The loss of a recipe, summed over the labelled pixels in float32.

    `forward(logits, labels) / weight(labels)` is the mean loss of a batch. A batch that is taken in parts, one after
    the other or on several processes, has the mean `Σ forward / Σ weight` over the parts, and exactly the gradients of
    the whole: so the caller divides by the weight of the whole, not of the part. Mining alone depends on the parts: it
    picks the hard pixels of one part at a time, and a part counts by all that is labelled in it.
    """

    class_weights: Tensor | None

    def __init__(self, recipe: LossRecipe, class_weights: Float[Tensor, "k"] | None = None) -> None:
        """`class_weights`: of the recipe, see `gffnet.training.losses`; None: all 1."""
        super().__init__()
        self.recipe = recipe
        self.register_buffer("class_weights", class_weights, persistent=False)  # recipe and data set bring them anew

    def weight(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """What a batch counts: its labelled pixels, or the sum of their class weights. The label 255 counts nothing."""
        if self.class_weights is None:
            return (labels != IGNORE).sum().float()
        return self._weights(labels.long()).sum()

    def forward(self, logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The sum of the pixels' losses; 0, with a gradient of 0, where no pixel is labelled."""
        targets = labels.long()
        # Rows of classes: of channels-last logits a view, where a softmax over dimension 1 would copy them, and hand
        # back a gradient in the other layout, in which upsampling is several times slower.
        log_p = _log_softmax(logits.float().permute(0, 2, 3, 1))
        hardness = F.nll_loss(log_p.flatten(0, 2), targets.flatten(), ignore_index=IGNORE, reduction="none")
        hardness = hardness.view_as(targets)  # -log p_y
        losses = self._losses(log_p, hardness, targets)
        if self.recipe.ohem is None:
            return losses.sum()
        hard = self._hard(hardness.detach(), targets != IGNORE)
        weights = self._weights(targets)
        kept = torch.where(hard, weights, 0.0).sum()
        mean = torch.where(hard, losses, 0.0).sum() / torch.where(kept > 0, kept, 1.0)
        return mean * weights.sum()

    def _losses(
        self, log_p: Float[Tensor, "b h w k"], hardness: Float[Tensor, "b h w"], targets: Integer[Tensor, "b h w"]
    ) -> Float[Tensor, "b h w"]:
        """`ℓ` of every pixel; 0 where it is not labelled, as `hardness` is."""
        losses = hardness if self.class_weights is None else self._weights(targets) * hardness
        smoothing, classes = self.recipe.label_smoothing, log_p.shape[-1]
        if smoothing == 0:
            return losses
        weighted = log_p if self.class_weights is None else log_p * self.class_weights
        even = torch.where(targets == IGNORE, 0.0, -weighted.sum(-1))
        return (1 - smoothing) * losses + smoothing / classes * even

    def _weights(self, targets: Integer[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """`w_y` of every pixel; 0 where it is not labelled."""
        labelled = targets != IGNORE
        if self.class_weights is None:
            return labelled.float()
        return torch.where(labelled, self.class_weights[torch.where(labelled, targets, 0)], 0.0)

    def _hard(self, hardness: Float[Tensor, "b h w"], labelled: Bool[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
        """The labelled pixels that mining keeps; pixels as hard as the last that must be kept are kept with it."""
        assert self.recipe.ohem is not None
        # What is not known to be easy is kept: a NaN must not vanish from the loss.
        easy = hardness.neg().exp() >= self.recipe.ohem
        share = self.recipe.ohem_keep
        if share > 0:
            # How many must be kept is known on the device alone: it is looked up there, among as many as it can be.
            keep = (share * labelled.sum().double()).ceil().long()
            hardest = hardness.flatten().topk(math.ceil(share * hardness.numel())).values
            easy &= hardness < hardest.gather(0, (keep - 1).clamp(min=0)[None])
        return labelled & ~easy


def _log_softmax(rows: Float[Tensor, "b h w k"]) -> Float[Tensor, "b h w k"]:
    """Log-softmax over the last dimension. On a CPU, rows shorter than a vector register are taken value by value,
    several times slower than longer ones: they are filled up with classes that are impossible."""
    missing = REGISTER - rows.shape[-1]
    if rows.device.type != "cpu" or missing <= 0:
        return F.log_softmax(rows, -1)
    return F.log_softmax(F.pad(rows, (0, missing), value=-math.inf), -1)[..., : rows.shape[-1]]


# Weights of the classes in the loss, given or from how often each class occurs in the training split.
#
# With `n_c` pixels of class c, and only labelled pixels counted throughout:
#
# - `median_frequency` (Eigen and Fergus, ICCV-15, sec. 4.3; SegNet): `w_c = median(f) / f_c`, where `f_c` is `n_c` over
#   all pixels of the images that show c, and the median is over the classes;
# - `enet` (Paszke et al., 2016, sec. 5.2): `w_c = 1 / ln(1.02 + n_c / Σ_i n_i)`, from 1.4 to 50.5.
#
# A class that occurs nowhere has the weight 1 and no part in the median.


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
        pixels: of every class in every training sample, see `gffnet.data.loader`; None where `needs_pixels` is false.

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
