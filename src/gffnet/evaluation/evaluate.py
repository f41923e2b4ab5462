"""Scores of a model on a split of a data set."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch

from gffnet.console import track
from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.recipe import EvaluationRecipe


def evaluate(predictor: Predictor, dataset: Any, name: str, split: str, protocol: EvaluationRecipe) -> dict[str, Any]:
    """Predict every image of `dataset` by `protocol` and score the lot; plain values, fractions of 1.

    `name` and `split` say what `dataset` is, for the record: a model need not be scored on what it was trained on.
    Keys: `miou`, `pixel_accuracy`, `per_class` (IoU by class name, `None` where a class is absent), `absent`,
    `per_class_accuracy`, `images`, `pixels`, `images_per_second`, `protocol`.

    Raises:
        UserError: the model was trained for other classes than the data set has.
    """
    names = predictor.config.classes
    if tuple(dataset.classes.names) != tuple(names):
        raise UserError(
            f"the model knows {len(names)} classes ({', '.join(names[:4])}, ...), but {name} has "
            f"{len(dataset.classes.names)} ({', '.join(dataset.classes.names[:4])}, ...). "
            f"This model was trained on {predictor.config.dataset}: evaluate it there."
        )
    matrix = ConfusionMatrix(len(names))
    start = time.perf_counter()
    for i in track(range(len(dataset)), f"evaluating {split}"):
        sample = dataset[i]
        predicted = predictor.predict(sample.image.permute(1, 2, 0).numpy(), protocol)
        matrix.update(sample.labels, torch.from_numpy(predicted))
    seconds = time.perf_counter() - start
    scores = matrix.scores()
    return {
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "per_class": dict(zip(names, scores.iou, strict=True)),
        "per_class_accuracy": dict(zip(names, scores.accuracy, strict=True)),
        "absent": [name for name, iou in zip(names, scores.iou, strict=True) if iou is None],
        "images": len(dataset),
        "pixels": scores.pixels,
        "images_per_second": len(dataset) / seconds,
        "protocol": {
            **{key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(protocol).items()},
            "dataset": name,
            "split": split,
            "recipe": predictor.config.recipe,
            "precision": predictor.precision.name,
            "device": str(predictor.device),
        },
    }


def write_scores(path: Path, scores: dict[str, Any]) -> None:
    """Write scores as JSON, whole or not at all."""
    write_whole(path, (json.dumps(scores, indent=1) + "\n").encode())
