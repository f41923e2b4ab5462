"""What scores were measured with, for the record beside them: a score without it cannot be compared with another."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gffnet
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import Absent
from gffnet.recipe import EvaluationRecipe

ABSENT: Mapping[str, tuple[Absent, str]] = {
    "ade20k": (
        "zero",
        "demoEvaluation.m, its official code, averages over all 150 classes",
    ),
    "cityscapes": ("left out", "cityscapesscripts, its official code, averages over classes that have a score"),
}
"""What the official code of a data set makes of a class that is neither labelled nor predicted anywhere, and how.

Where there is no official code it is left out.
"""


def absent_rule(dataset: str) -> tuple[Absent, str]:
    """What becomes of absent classes on a data set, and why."""
    return ABSENT.get(dataset, ("left out", "our choice: it has no official code for this"))


def protocol_record(predictor: Predictor, protocol: EvaluationRecipe, dataset: str, split: str) -> dict[str, Any]:
    """The protocol as plain values: what was scored, how an image was predicted, by what, and how it was counted."""
    absent, source = absent_rule(dataset)
    return {
        **plain(protocol),
        "dataset": dataset,
        "split": split,
        "recipe": predictor.config.recipe,
        "precision": predictor.precision.name,
        "device": str(predictor.device),
        "labels_at": "native size",
        "absent": absent,
        "absent_source": source,
        "gffnet": gffnet.__version__,
        "weights_sha256": predictor.weights,
    }


def plain(protocol: EvaluationRecipe) -> dict[str, Any]:
    """Window, overlap, scales and mirroring as JSON holds them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(protocol).items()}
