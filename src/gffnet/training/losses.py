"""The training loss: a weighted sum of terms over the labelled pixels, `training.loss.terms`; class weights.

`cross_entropy`, the default, is computed here; `dice`, `lovasz` and `focal` are those of segmentation_models_pytorch:
see `Dice`, `Lovasz` and `Focal`. A term of one's own is a function of logits (B, K, H, W) and labels
(B, H, W) that returns the mean loss of the pixels whose label is not 255:

    @gffnet.register_loss("brier")
    def brier(logits, labels):
        labelled = labels != 255
        p = logits.softmax(1).permute(0, 2, 3, 1)[labelled]
        return (p - one_hot(labels[labelled], p.shape[1])).square().sum(1).mean()

It then is `training: {loss: {terms: {cross_entropy: 1, brier: 0.5}}}`.

**Cross-entropy.** With p the softmax of a pixel's logits, y its label, ε the label smoothing and w the weights of the K
classes, 1 unless the recipe weights them, the loss of a labelled pixel is that of
`torch.nn.functional.cross_entropy`:

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

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from gffnet.data.dataset import IGNORE
from gffnet.errors import UserError
from gffnet.recipe import LossRecipe
from gffnet.registry import Registry

log = logging.getLogger("gffnet")

LOSSES: Registry[Callable[..., Any]] = Registry("loss")
"""Terms of the loss by name: functions of logits (float32, B, K, H, W) and labels (int64, B, H, W; 255 is ignored) that
return the mean loss of a batch, a scalar, or `nn.Module` classes of such functions, built without arguments."""

VECTOR = 16
"""float32 values in an AVX-512 register."""


def make_loss(
    recipe: LossRecipe, class_weights: Float[Tensor, "k"] | None = None
) -> "SegmentationLoss | MeanLoss | WeightedSum":
    """The loss of a recipe: a module with the methods of `SegmentationLoss`, `forward` and `weight`.

    Args:
        recipe: of the loss.
        class_weights: of cross-entropy, those of `class_weights(recipe, ...)`; None for all 1.

    Raises:
        UserError: a term is not registered, or a registered class needs arguments.
    """
    terms: list[tuple[float, SegmentationLoss | MeanLoss]] = []
    for name, weight in recipe.terms.items():
        if weight > 0:
            entry = LOSSES[name]
            if entry is SegmentationLoss:  # first: its weight is that of the sum
                terms.insert(0, (weight, SegmentationLoss(recipe, class_weights)))
            else:
                terms.append((weight, MeanLoss(build_loss(name))))
    if list(recipe.terms) != ["cross_entropy"]:
        log.info("loss: %s", " + ".join(f"{weight:g} {name}" for name, weight in recipe.terms.items() if weight > 0))
    return terms[0][1] if [weight for weight, _ in terms] == [1] else WeightedSum(terms)


def build_loss(name: str) -> Callable[..., Any]:
    """The function that is registered as a loss, or an instance of the class.

    Raises:
        UserError: it is not registered, or the class needs arguments.
    """
    entry = LOSSES[name]
    if not isinstance(entry, type):
        return entry
    try:
        built: Callable[..., Any] = entry()
    except TypeError as error:
        raise UserError(
            f"loss {name!r}: its class {entry.__qualname__} must be built without arguments ({error}). Give them "
            "defaults, or register a function (logits, labels) that returns the mean."
        ) from error
    return built


class MeanLoss(nn.Module):
    """A function that returns the mean loss of a batch, as a module with the methods of `SegmentationLoss`.

    `forward` is the mean times the number of labelled pixels, and 0, with a gradient of 0, if there are none. Where the
    function is a mean over pixels, such as `focal`, micro-batches and ranks together have the loss and the gradients of
    the whole batch. `dice` and `lovasz` compare whole regions: they are computed for every part, the images that a
    device processes at once, and the loss is the mean of the parts, weighted by their labelled pixels.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Initialise; `function` takes logits in float32 and labels in int64, of which 255 is to be ignored."""
        super().__init__()
        self.function = function

    def weight(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The number of labelled pixels."""
        return (labels != IGNORE).sum().float()

    def forward(self, logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The mean times the number of labelled pixels. Raises `ValueError` if the function returns no scalar."""
        weight, logits = self.weight(labels), logits.float()
        if weight == 0:  # the mean of nothing is NaN
            return (logits * 0).sum()
        with torch.autocast(logits.device.type, enabled=False):
            mean: object = self.function(logits, labels.long())
        if not isinstance(mean, Tensor) or mean.numel() != 1:
            got = f"a tensor of shape {tuple(mean.shape)}" if isinstance(mean, Tensor) else repr(mean)
            name = getattr(self.function, "__name__", type(self.function).__name__)
            raise ValueError(f"the loss {name} returned {got}: it must return a scalar tensor, the mean of the batch.")
        return mean.reshape(()) * weight


class WeightedSum(nn.Module):
    """`Σ_t λ_t L_t` of terms L_t with the methods of `SegmentationLoss`, which are those of the sum, too.

    `forward(logits, labels) / weight(labels)` is the weighted sum of the terms' means. The weight is that of the first
    term; if cross-entropy with class weights is the first, the parts of a batch have the same weight in the other terms
    as in cross-entropy.
    """

    def __init__(self, terms: "Sequence[tuple[float, SegmentationLoss | MeanLoss]]") -> None:
        """Initialise with pairs of λ_t and L_t."""
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.terms: Any = nn.ModuleList(term for _, term in terms)

    def weight(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The weight of the first term."""
        weight: Tensor = self.terms[0].weight(labels)
        return weight

    def forward(self, logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The weighted sum of the terms' means, times the weight."""
        weight = self.weight(labels)
        total = torch.zeros_like(weight)
        for factor, term in zip(self.factors, self.terms, strict=True):
            total = total + factor * term(logits, labels) * (weight / term.weight(labels).clamp(min=1e-6))
        return total


@LOSSES.register("cross_entropy")
class SegmentationLoss(nn.Module):
    """Cross-entropy with the options of a recipe, summed over the labelled pixels in float32.

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


# The terms of segmentation_models_pytorch. It is imported where one is used: that takes a second.


class _OfSmp(nn.Module):
    """A loss of segmentation_models_pytorch, without the pixels labelled 255."""

    kind: ClassVar[str]
    """Its class there."""

    def __init__(self) -> None:
        super().__init__()
        from segmentation_models_pytorch import losses

        self.loss = getattr(losses, self.kind)("multiclass", ignore_index=IGNORE)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) → scalar."""
        loss: Tensor = self.loss(logits, labels)
        return loss


@LOSSES.register("dice")
class Dice(_OfSmp):
    """Dice loss (Milletari et al., 3DV-16; Sudre et al., DLMIA-17) of the K classes over the pixels i of a batch:

        1/K Σ_{c present} (1 - 2 Σ_i p_ic g_ic / (Σ_i p_ic + Σ_i g_ic))

    p is the softmax, g is 1 for the class of the pixel. A class without a labelled pixel contributes 0, and the mean is
    over all classes: a batch that shows few of many classes has a small loss.
    """

    kind = "DiceLoss"


@LOSSES.register("lovasz")
class Lovasz(_OfSmp):
    """Lovász-softmax (Berman et al., CVPR-18) over the pixels of a batch: the mean over the classes present of

        Σ_i e_(i) (J_i - J_{i-1})        J_i = 1 - (n - Σ_{j≤i} g_(j)) / (n + Σ_{j≤i} (1 - g_(j)))

    with the errors e = |g - p| in descending order, g 1 for the n pixels of the class, p their softmax and J_0 = 0: the
    piecewise linear extension of 1 - IoU to probabilities. It sorts all pixels once per class.
    """

    kind = "LovaszLoss"


@LOSSES.register("focal")
class Focal(_OfSmp):
    """Focal loss (Lin et al., ICCV-17) with γ = 2 and without α: the mean over pixels and the K classes of

        -(1 - q)^γ log q        q = σ(z_c) for the class of the pixel, 1 - σ(z_c) for every other class

    It has a sigmoid σ for each class where the rest of the package has a softmax: alone, it leads to probabilities that
    are less sharp.
    """

    kind = "FocalLoss"


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
