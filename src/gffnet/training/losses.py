"""The training loss: cross-entropy over the labelled pixels, as a sum and its weight.

With `p` the softmax of a pixel's logits, `y` its label, `ε` the label smoothing and `w` the weights of the K classes, 1
unless the recipe weights them, a labelled pixel's loss is that of `torch.nn.functional.cross_entropy`:

    ℓ = -(1 - ε) w_y log p_y - ε / K Σ_k w_k log p_k

The mean over pixels is `Σ ℓ / Σ w_y`. `ParsingLoss` gives its two sums apart.

With online hard example mining (OHEM; Shrivastava et al., CVPR-16; over pixels: Wu et al., 2016) the mean is over the
hard pixels alone: those with `p_y` below a threshold, and always the given share of the labelled pixels with the least
`p_y`.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from gffnet.data.catalog import IGNORE
from gffnet.recipe import LossRecipe

REGISTER = 16
"""Numbers of float32 in the widest vector register that CPUs have, of AVX-512."""


class ParsingLoss(nn.Module):
    """The loss of a recipe, summed over the labelled pixels in float32.

    `forward(logits, labels) / weight(labels)` is the mean loss of a batch. A batch that is taken in parts, one after
    the other or on several processes, has the mean `Σ forward / Σ weight` over the parts, and exactly the gradients of
    the whole: so the caller divides by the weight of the whole, not of the part. Mining alone depends on the parts: it
    picks the hard pixels of one part at a time, and a part counts by all that is labelled in it.
    """

    class_weights: Tensor | None

    def __init__(self, recipe: LossRecipe, class_weights: Float[Tensor, "k"] | None = None) -> None:
        """`class_weights`: of the recipe, see `gffnet.training.class_weights`; None: all 1."""
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
