"""The training loss: cross-entropy over the labelled pixels, and class weights.

With p the softmax of a pixel's logits, y its label, ε the label smoothing and w the weights of the K classes, 1 unless
the recipe weights them, the loss of a labelled pixel is that of `torch.nn.functional.cross_entropy`:

    ℓ = -(1 - ε) w_y log p_y - ε / K Σ_k w_k log p_k

and its mean over the pixels is `Σ ℓ / Σ w_y`. `SegmentationLoss` computes the two sums separately.

With online hard example mining (OHEM; Shrivastava et al., CVPR-16; for pixels: Wu et al., 2016) the mean is over the
hard pixels only: those with p_y below a threshold, and in any case a given fraction of the labelled pixels, those with
the smallest p_y.

Class weights are given, or computed from the pixels of each class in the training split. With n_c labelled pixels of
class c:

- `median_frequency` (Eigen and Fergus, ICCV-15, sec. 4.3; SegNet): `w_c = median(f) / f_c`, where `f_c` is `n_c`
  divided by the pixels of all images that show c, and the median is over the classes;
- `enet` (Paszke et al., 2016, sec. 5.2): `w_c = 1 / ln(1.02 + n_c / Σ_i n_i)`, from 1.4 to 50.5.

A class that never occurs has the weight 1 and is left out of the median.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from gffnet.data.dataset import IGNORE
from gffnet.errors import UserError
from gffnet.recipe import LossRecipe

VECTOR = 16
"""float32 values in an AVX-512 register."""


class SegmentationLoss(nn.Module):
    """The loss of a recipe, summed over the labelled pixels in float32.

    `forward(logits, labels) / weight(labels)` is the mean loss of a batch. For a batch that is split into micro-batches
    or over ranks it is `Σ forward / Σ weight`, with exactly the gradients of the whole batch: divide by the weight of
    the whole, not of the part. Only mining depends on the split: hard pixels are selected per part, and a part has the
    weight of all its labelled pixels.
    """

    class_weights: Tensor | None

    def __init__(self, recipe: LossRecipe, class_weights: Float[Tensor, "k"] | None = None) -> None:
        """Initialise; `class_weights` are those of `class_weights(recipe, ...)`, None for all 1."""
        super().__init__()
        self.recipe = recipe
        self.register_buffer("class_weights", class_weights, persistent=False)  # follow from recipe and data

    def weight(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The number of labelled pixels, or the sum of their class weights; the label 255 is ignored."""
        if self.class_weights is None:
            return (labels != IGNORE).sum().float()
        return self._weights(labels.long()).sum()

    def forward(self, logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The sum of the losses of all pixels; 0, with a gradient of 0, if no pixel is labelled."""
        targets = labels.long()
        # Classes last is a view of channels-last logits. A softmax over dimension 1 would copy them and return a
        # gradient in the other memory format, in which upsampling is several times slower.
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
        """ℓ of every pixel; 0 where it is not labelled, as in `hardness`."""
        losses = hardness if self.class_weights is None else self._weights(targets) * hardness
        smoothing, classes = self.recipe.label_smoothing, log_p.shape[-1]
        if smoothing == 0:
            return losses
        weighted = log_p if self.class_weights is None else log_p * self.class_weights
        even = torch.where(targets == IGNORE, 0.0, -weighted.sum(-1))
        return (1 - smoothing) * losses + smoothing / classes * even

    def _weights(self, targets: Integer[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """w_y of every pixel; 0 where it is not labelled."""
        labelled = targets != IGNORE
        if self.class_weights is None:
            return labelled.float()
        return torch.where(labelled, self.class_weights[torch.where(labelled, targets, 0)], 0.0)

    def _hard(self, hardness: Float[Tensor, "b h w"], labelled: Bool[Tensor, "b h w"]) -> Bool[Tensor, "b h w"]:
        """Mask of the labelled pixels that mining selects, including all that tie with the last one of the fraction."""
        assert self.recipe.ohem is not None
        # Not `< ohem`: a NaN must stay in the loss.
        easy = hardness.neg().exp() >= self.recipe.ohem
        share = self.recipe.ohem_keep
        if share > 0:
            # Indexing on the device avoids waiting for it to read how many pixels are labelled.
            keep = (share * labelled.sum().double()).ceil().long()
            hardest = hardness.flatten().topk(math.ceil(share * hardness.numel())).values
            easy &= hardness < hardest.gather(0, (keep - 1).clamp(min=0)[None])
        return labelled & ~easy


def _log_softmax(rows: Float[Tensor, "b h w k"]) -> Float[Tensor, "b h w k"]:
    """Log-softmax over the last dimension.

    On a CPU, rows shorter than a vector register are not vectorised, and several times slower: they are padded with
    classes of probability 0.
    """
    missing = VECTOR - rows.shape[-1]
    if rows.device.type != "cpu" or missing <= 0:
        return F.log_softmax(rows, -1)
    return F.log_softmax(F.pad(rows, (0, missing), value=-math.inf), -1)[..., : rows.shape[-1]]


def class_weights(
    recipe: LossRecipe, names: Sequence[str], pixels: Integer[np.ndarray, "samples classes"] | None
) -> Float[Tensor, "classes"] | None:
    """The class weights of a recipe; None if all are 1.

    Args:
        recipe: of the loss.
        names: of the classes.
        pixels: of every class in every training sample; may be None if `class_weighting` is `none`.

    Raises:
        UserError: the number of weights is not that of the classes.
    """
    given = recipe.class_weights
    if given is not None:
        if len(given) != len(names):
            raise UserError(
                f"training.loss.class_weights has {len(given)} values: allowed is one per class in the order of the "
                f"classes, of which the data set has {len(names)} ({names[0]} to {names[-1]}). Give {len(names)}, or "
                "set training.loss.class_weights to null."
            )
        return torch.tensor(given)
    if recipe.class_weighting == "none":
        return None
    assert pixels is not None
    total = pixels.sum(0, dtype=np.float64)
    occurring = total > 0
    if recipe.class_weighting == "enet":
        weights = 1 / np.log(1.02 + total / max(total.sum(), 1))
    else:
        around = pixels.sum(1) @ (pixels > 0)  # all pixels of the images that show the class
        frequency = total / np.maximum(around, 1)
        weights = np.median(frequency[occurring]) / np.where(occurring, frequency, 1) if occurring.any() else frequency
    return torch.from_numpy(np.where(occurring, weights, 1.0)).float()
