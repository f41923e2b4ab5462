"""The scores of single images, so that the worst can be found."""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from gffnet.errors import UserError
from gffnet.files import write_whole

COLUMNS = ("name", "pixels", "pixel_accuracy", "miou")


class ImageScore(NamedTuple):
    """How well one image was predicted."""

    pixels: int
    """Labelled ones."""
    correct: int
    """Those of them that were predicted right."""
    miou: float
    """Over the classes that its labels hold; not a number where no pixel is labelled."""


def score_image(labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"], classes: int) -> ImageScore:
    """Score one image by itself. A class that is predicted, but not labelled, lowers the IoU of what it is in fact."""
    known = labels < classes
    truth, answers = labels[known], predicted[known]
    hits, labelled, answered = (
        np.bincount(of, minlength=classes) for of in (truth[truth == answers], truth, answers[answers < classes])
    )
    there = labelled > 0
    iou = hits[there] / (labelled + answered - hits)[there]
    return ImageScore(truth.size, int(hits.sum()), float(iou.mean()) if iou.size else float("nan"))


def write_images(path: Path, rows: Iterable[tuple[str, ImageScore]]) -> None:
    """Write names and scores as CSV, whole or not at all; what no pixel was labelled for is empty.

    Raises:
        CannotWrite: the file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for name, score in rows:
        pixels, correct, miou = score
        lines.writerow([name, pixels, *([correct / pixels, miou] if pixels else ["", ""])])
    write_whole(path, text.getvalue().encode())


def read_images(path: Path) -> list[tuple[str, ImageScore]]:
    """Names and scores in a file that `write_images` wrote.

    Raises:
        UserError: it is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(row["name"], _score(int(row["pixels"]), row["pixel_accuracy"], row["miou"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no scores of images as `gffnet evaluate` writes them ({error!r}).") from None


def _score(pixels: int, accuracy: str, miou: str) -> ImageScore:
    """A line of the file; shares of pixels are whole numbers of them again."""
    return ImageScore(pixels, round(float(accuracy) * pixels), float(miou)) if pixels else ImageScore(0, 0, math.nan)
