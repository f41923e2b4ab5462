"""What scores were measured with, for the record beside them: a score without it cannot be compared with another."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gffnet
from gffnet.inference.model_folder import WEIGHTS, find_model
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


def protocol_record(
    predictor: Predictor, protocol: EvaluationRecipe, dataset: str, split: str, weights: str | None
) -> dict[str, Any]:
    """The protocol as plain values: what was scored, how an image was predicted, by what, and how it was counted.

    `weights` is the SHA-256 of the file that the weights came from, None where they came from none.
    """
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
        "weights_sha256": weights,
    }


def plain(protocol: EvaluationRecipe) -> dict[str, Any]:
    """Window, overlap, scales and mirroring as JSON holds them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(protocol).items()}


def weights_digest(model: str | Path) -> str:
    """The SHA-256 of the file that holds the weights of a MODEL, as `sha256sum` prints it.

    Raises:
        UserError: there is no such model.
    """
    path = Path(model)
    with (path if path.is_file() else find_model(model) / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
