"""The results of an evaluation: `gffnet evaluate --out` writes them into a folder, reports read them from there.

OUT/scores.json             all scores, and the protocol that they were measured with
OUT/scores.md, scores.html  the same as tables, with the paper's figures beside them where they may stand
OUT/images.csv              the scores of every image
OUT/confusion.csv           pixels by class and predicted class
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from pydantic import TypeAdapter, ValidationError
from tabulate import tabulate

from gffnet.console import DASH, percent
from gffnet.errors import UserError
from gffnet.evaluation.paper import match
from gffnet.files import atomic_write, write_json
from gffnet.metrics.scores import ByClass, Scores
from gffnet.recipe import EvaluationRecipe, from_mapping
from gffnet.templates import fill

SCORES, IMAGES, CONFUSION = "scores.json", "images.csv", "confusion.csv"
NO_CLASS = "no class"
"""Heading of the pixels that were predicted as no class."""
TOLERANCE = "3"
"""Of the boundary F, in pixels, that stands beside other scores."""

_IMAGE_COLUMNS = ("name", "pixels", "pixel_accuracy", "miou")


class ImageScore(NamedTuple):
    """How well one image was predicted."""

    pixels: int
    """Labelled ones."""
    correct: int
    """Those of them whose prediction is right."""
    miou: float
    """Over the classes in its labels; nan if no pixel is labelled."""


@dataclass(frozen=True, eq=False)
class Result:
    """The scores of a data set and of each of its images, by name and in its order."""

    scores: Scores
    images: list[tuple[str, ImageScore]]
    confusion: Int64[np.ndarray, "k k_and_none"] | None
    """Pixels by class (rows) and predicted class (columns, the last for no class); None if it was not stored."""


def score_image(labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"], num_classes: int) -> ImageScore:
    """Score one image by itself. Pixels predicted as a class that is not labelled lower the IoU of their own class."""
    known = labels < num_classes
    truth, answers = labels[known], predicted[known]
    hits, labelled, predicted_as = (
        np.bincount(of, minlength=num_classes)
        for of in (truth[truth == answers], truth, answers[answers < num_classes])
    )
    present = labelled > 0
    iou = hits[present] / (labelled + predicted_as - hits)[present]
    return ImageScore(truth.size, int(hits.sum()), float(iou.mean()) if iou.size else math.nan)


# Files


def write_result(out: Path, result: Result) -> None:
    """Write the files of an evaluation into a folder, `scores.json` last: where it is, all of them are.

    Raises:
        CannotWrite: a file cannot be written.
    """
    write_images(out / IMAGES, result.images)
    if result.confusion is not None:
        write_confusion(out / CONFUSION, list(result.scores.per_class), result.confusion)
    write_tables(out, result.scores)
    write_scores(out / SCORES, result.scores)


@dataclass(frozen=True)
class _Scored:
    """The part of every protocol that says what was scored."""

    recipe: str
    dataset: str
    split: str


def read_result(path: Path) -> Result:
    """Read the evaluation in a folder, or the scores alone from a `scores.json`.

    Raises:
        UserError: there is none, or a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    file = path / SCORES if path.is_dir() else path
    try:
        scores = Scores.from_json(json.loads(file.read_text(encoding="utf-8")))
        TypeAdapter(_Scored).validate_python(scores.protocol)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist. `gffnet evaluate --out {folder}` writes it.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = "missing" if first["type"] == "missing" else f"{first['input']!r}: {first['msg']}"
        raise UserError(
            f"{file} does not hold scores as `gffnet evaluate --out` writes them: {where} is {found}."
        ) from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{file} does not hold scores as `gffnet evaluate --out` writes them ({error!r}).") from None
    protocol_of(scores, str(file))
    if not path.is_dir():
        return Result(scores, [], None)
    images = read_images(folder / IMAGES) if (folder / IMAGES).is_file() else []
    confusion = read_confusion(folder / CONFUSION) if (folder / CONFUSION).is_file() else None
    return Result(scores, images, confusion)


def protocol_of(scores: Scores, source: str) -> EvaluationRecipe:
    """How the images were predicted; keys that files of earlier versions lack have their defaults.

    Raises:
        UserError: the scores, of the file `source`, hold no such protocol.
    """
    keys = [each.name for each in dataclasses.fields(EvaluationRecipe)]
    return from_mapping(EvaluationRecipe, {key: scores.protocol[key] for key in keys if key in scores.protocol}, source)


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores as JSON."""
    write_json(path, scores.to_json())


def write_images(path: Path, rows: Iterable[tuple[str, ImageScore]]) -> None:
    """Write names and scores of images as CSV; scores of images without labels are empty."""
    _write_csv(
        path,
        _IMAGE_COLUMNS,
        ([name, pixels, *([correct / pixels, miou] if pixels else ["", ""])] for name, (pixels, correct, miou) in rows),
    )


def read_images(path: Path) -> list[tuple[str, ImageScore]]:
    """Read what `write_images` wrote.

    Raises:
        UserError: the file does not hold that.
    """

    def score(row: Mapping[str, str]) -> ImageScore:
        pixels = int(row["pixels"])
        if not pixels:
            return ImageScore(0, 0, math.nan)
        return ImageScore(pixels, round(float(row["pixel_accuracy"]) * pixels), float(row["miou"]))

    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["name"], score(row)) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no scores of images as `gffnet evaluate` writes them ({error!r}).") from None


def write_confusion(path: Path, names: Sequence[str], counts: Int64[np.ndarray, "k k_and_none"]) -> None:
    """Write the exact confusion matrix as CSV: rows are labels, columns predictions, the last column no class."""
    rows = ([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    _write_csv(path, ["label", *names, NO_CLASS], rows)


def read_confusion(path: Path) -> Int64[np.ndarray, "k k_and_none"]:
    """Read what `write_confusion` wrote.

    Raises:
        UserError: the file does not hold that.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        counts = np.array([[int(cell) for cell in row[1:]] for row in rows], np.int64).reshape(len(rows), -1)
        if counts.shape != (len(head) - 2, len(head) - 1) or [row[0] for row in rows] != head[1:-1]:
            raise ValueError("its rows are not its columns")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path} is no confusion matrix as `gffnet evaluate` writes it ({error}).") from None
    return counts


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    atomic_write(path, text.getvalue())


# Tables: made of text once, then set for the terminal, in Markdown and in HTML


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the rows."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    numbers: bool = True
    """Whether the other columns hold numbers."""
    bar: int | None = None
    """The column of percentages that HTML also draws as bars."""


def write_tables(out: Path, scores: Scores) -> None:
    """Write `scores.md` and `scores.html` into a folder."""
    title, tables = title_of(scores), all_tables(scores)
    atomic_write(out / "scores.md", markdown(title, tables))
    page = fill("evaluation", "scores.html.jinja", {"title": title, "tables": tables})
    atomic_write(out / "scores.html", page)


def title_of(scores: Scores) -> str:
    """Say which model was scored on what."""
    protocol, images = scores.protocol, scores.images
    return f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {images} image{'s' * (images != 1)}"


def all_tables(scores: Scores) -> list[Table]:
    """Make every table that there are scores for."""
    tables = [summary(scores), per_class(scores), _by_tolerance(scores), _by_distance(scores), _by_size(scores)]
    protocol = Table("Protocol", ["what", "value"], protocol_rows(scores), numbers=False)
    return [*(table for table in tables if table.rows), protocol]


def summary(scores: Scores) -> Table:
    """Our scores, and the paper's below them."""
    found = match(scores.protocol, scores.images)
    columns = {
        "mIoU": "miou",
        "pixel accuracy": "pixel_accuracy",
        "mean accuracy": "mean_accuracy",
        "frequency weighted IoU": "frequency_weighted_iou",
    }
    if scores.pixels:  # files of earlier versions may lack some
        columns = {heading: key for heading, key in columns.items() if getattr(scores, key) is not None}
    headings, ours = list(columns), [percent(getattr(scores, key), 2) for key in columns.values()]
    printed = [getattr(found.row, key, None) for key in columns.values()]
    paper = [DASH if value is None else str(value) for value in printed]
    boundary = scores.boundary_f.get(TOLERANCE)
    if boundary is not None and boundary.mean is not None:
        headings, ours, paper = [*headings, _BOUNDARY_F], [*ours, percent(boundary.mean, 2)], [*paper, DASH]
    remark = f"Paper: {found.remark}" if found.row else f"No figure of the paper stands beside ours: {found.remark}"
    return Table("Scores", ["percent", *headings], [["ours", *ours], ["paper", *paper]], f"{remark}.")


_BOUNDARY_F = f"boundary F, {TOLERANCE} px"


def per_class(scores: Scores) -> Table:
    """The scores of every class."""
    row = match(scores.protocol).row
    columns: dict[str, ByClass] = {"IoU": scores.per_class, "accuracy": scores.per_class_accuracy}
    if TOLERANCE in scores.boundary_f:
        columns[_BOUNDARY_F] = scores.boundary_f[TOLERANCE].per_class
    if row and row.per_class:
        columns["IoU in the paper"] = {name: value / 100 for name, value in row.per_class.items()}
    rows = [[name, *(percent(column.get(name)) for column in columns.values())] for name in scores.per_class]
    note = ""
    if scores.absent:
        zero = scores.protocol["absent"] == "zero"
        counted = "count as 0 in the means" if zero else "are left out of the means"
        note = f"Neither labelled nor predicted anywhere: {', '.join(scores.absent)}. Such classes {counted}."
    return Table("By class, in percent", ["class", *columns], rows, note, bar=1)


def _by_tolerance(scores: Scores) -> Table:
    rows = [[f"{tolerance} px", percent(f.mean)] for tolerance, f in scores.boundary_f.items()]
    note = "A boundary pixel is matched if the other label map has one of the same class within the tolerance."
    return Table("Boundary F by tolerance, in percent", ["tolerance", "mean F"], rows, note, bar=1)


def _by_distance(scores: Scores) -> Table:
    rows = [
        [pixel_range(band.start, band.end), percent(band.miou), percent(band.pixel_accuracy), f"{band.pixels:,}"]
        for band in scores.iou_by_distance
    ]
    headings = ["distance", "mIoU", "pixel accuracy", "pixels"]
    return Table("By distance to the nearest boundary of the labels, in percent", headings, rows, bar=1)


def _by_size(scores: Scores) -> Table:
    rows = [
        [f"{size.name}: {pixel_range(size.start, size.end)}", percent(size.miou), f"{size.objects:,}"]
        for size in scores.iou_by_size
    ]
    note = "An object is a connected part of one class."
    return Table("By size of object, in percent", ["size", "mIoU", "objects"], rows, note, bar=1)


def protocol_rows(scores: Scores) -> list[list[str]]:
    """Name and value of everything in the protocol, and the numbers of images and pixels."""
    values = {
        **scores.protocol,
        **{key: of for key in ("images", "pixels") if (of := getattr(scores, key)) is not None},
    }
    if values.get("crop") is None:
        values.pop("overlap", None)  # of windows, of which there are none
    return [[key.replace("_", " "), readable(key, value)] for key, value in values.items()]


def readable(key: str, value: Any) -> str:
    """A value of the protocol in words."""
    if key == "crop":
        return "none: the whole image at once" if value is None else f"{value[0]} x {value[1]} pixels"
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def pixel_range(start: float, end: float | None) -> str:
    """Format a range of pixels, such as `2 to 4 px`."""
    return f"above {start:,} px" if end is None else f"{start:,} to {end:,} px"


def markdown(title: str, tables: Sequence[Table]) -> str:
    """Set tables in Markdown below a title."""
    parts = [f"# {escape_markdown(title)}"]
    for table in tables:
        head, *rows = [[escape_markdown(cell) for cell in line] for line in (table.headings, *table.rows)]
        align = ["left", *["right" if table.numbers else "left"] * (len(head) - 1)]
        text = tabulate(rows, head, "pipe", colalign=align if rows else None, disable_numparse=True)
        parts += [f"## {table.title}", text]
        parts += [escape_markdown(table.note)] * bool(table.note)
    return "\n\n".join(parts) + "\n"


def escape_markdown(text: str) -> str:
    """Escape what Markdown would take for markup; tabulate leaves cells as they are."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text
