"""The overfit check: a network that cannot learn a few images by heart has data, labels or rates that do not fit.

A few images, spread over the training split, are trained on without augmentation and scored on themselves. It is the
cheapest way to find labels in the wrong order, images that do not match their label maps, or a learning rate that is
far off, before a long run.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

from gffnet.data.base import Dataset
from gffnet.errors import UserError
from gffnet.metrics.confusion import Scores

ENOUGH = 0.9
"""The mean IoU on its own training images that a network should come to."""
SHOWN = 3
"""Classes that the verdict names."""


def overfit_settings(images: int, batch: int) -> list[str]:
    """What the check changes of a recipe, as `--set` has it; what the user sets comes after.

    Args:
        images: how many are learned.
        batch: of the recipe.

    Raises:
        UserError: there must be one image at least.
    """
    if images < 1:
        raise UserError(f"--overfit {images}: the number of images to learn must be 1 or more, such as 4.")
    return [
        f"training.batch={min(images, batch)}",
        "training.iterations=300",
        "training.validate_every=100",
        "training.scales=[1.0, 1.0]",
        "training.jitter=0",
        "training.flip=false",
        "training.class_balance=0",
        "model.dropout=0",
    ]


def few(dataset: Dataset, images: int) -> Dataset:
    """`dataset` with so many of its samples, spread evenly over it.

    Raises:
        UserError: there are fewer.
    """
    if images > len(dataset):
        raise UserError(f"--overfit {images}: the training split has {len(dataset)} images. Take at most so many.")
    part = copy.copy(dataset)
    part.files = [dataset.files[i * len(dataset) // images] for i in range(images)]
    return part


def verdict(scores: Scores, classes: Sequence[str], images: int, out: Path) -> str:
    """What the scores on its own training images say, with the classes that are lowest."""
    score = f"mIoU {scores.miou:.1%} on the {images} image{'s' * (images > 1)} that it was trained on"
    if scores.miou >= ENOUGH:
        return f"{score}: data, labels and network fit each other."
    low = sorted((iou, name) for name, iou in zip(classes, scores.iou, strict=True) if iou is not None and iou < ENOUGH)
    lowest = ", ".join(f"{name} {iou:.1%}" for iou, name in low[:SHOWN])
    return (
        f"{score}, where {ENOUGH:.0%} is to be expected; lowest: {lowest}. If the loss in {out} still falls, set more "
        "training.iterations. If only thin or small classes are low, give them larger images. Else look whether label "
        "maps fit their images (gffnet data check), and try a tenth of training.learning_rate."
    )
