"""What comes of an evaluation, and the folder that holds it: `gffnet evaluate --out` writes it, a report reads it.

OUT/scores.json             all scores, and the protocol that they were measured with
OUT/scores.md, scores.html  the same as tables
OUT/images.csv              the scores of every image
OUT/confusion.csv           pixels by class and predicted class
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from gffnet.errors import UserError
from gffnet.evaluation.confusion_file import read_confusion, write_confusion
from gffnet.evaluation.images import ImageScore, read_images, write_images
from gffnet.evaluation.tables import write_tables
from gffnet.files import write_whole

SCORES, IMAGES, CONFUSION = "scores.json", "images.csv", "confusion.csv"


@dataclass(frozen=True, eq=False)
class Result:
    """The scores of a data set and of each of its images, by name and in its order."""

    scores: dict[str, Any]
    images: list[tuple[str, ImageScore]]
    confusion: Int64[np.ndarray, "k k_and_none"] | None
    """Pixels by class (rows) and predicted class (columns, the last for no class); None: it was not kept."""


def write_result(out: Path, result: Result) -> None:
    """Write the files of an evaluation into a folder, each whole or not at all; `scores.json`, the last, tells that all
    are there.

    Raises:
        CannotWrite: a file cannot be written.
    """
    write_images(out / IMAGES, result.images)
    if result.confusion is not None:
        write_confusion(out / CONFUSION, list(result.scores["per_class"]), result.confusion)
    write_tables(out, result.scores)
    write_scores(out / SCORES, result.scores)


def write_scores(path: Path, scores: dict[str, Any]) -> None:
    """Write scores as JSON, whole or not at all."""
    write_whole(path, (json.dumps(scores, indent=1) + "\n").encode())


def read_result(path: Path) -> Result:
    """The evaluation in a folder, or the scores alone in a `scores.json`.

    Raises:
        UserError: there is none, or a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    file = path / SCORES if path.is_dir() else path
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
        scores["protocol"]["dataset"], scores["per_class"].items(), scores["miou"]
    except FileNotFoundError:
        raise UserError(f"{file} does not exist. `gffnet evaluate --out {folder}` writes it.") from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{file} does not hold scores as `gffnet evaluate --out` writes them ({error!r}).") from None
    if not path.is_dir():
        return Result(scores, [], None)
    images = read_images(folder / IMAGES) if (folder / IMAGES).is_file() else []
    confusion = read_confusion(folder / CONFUSION) if (folder / CONFUSION).is_file() else None
    return Result(scores, images, confusion)
