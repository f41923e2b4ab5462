"""What comes of an evaluation, and the folder that holds it: `gffnet evaluate --out` writes it, a report reads it.

OUT/scores.json             all scores, and the protocol that they were measured with
OUT/scores.md, scores.html  the same as tables
OUT/images.csv              the scores of every image
OUT/confusion.csv           pixels by class and predicted class
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from gffnet.errors import UserError
from gffnet.evaluation.paper import Match, match
from gffnet.files import atomic_write
from gffnet.templates import fill

# The scores of single images, so that the worst can be found.


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
    atomic_write(path, text.getvalue().encode())


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


# The confusion matrix of a data set as a file: `confusion.csv`, exact counts of pixels.
#
#     label,road,sky,no class
#     road,120,3,0
#     sky,1,77,2
#
# Rows are labels, columns predictions; the last column holds the pixels that were predicted as no class.


NO_CLASS = "no class"


def write_confusion(path: Path, names: Sequence[str], counts: Int64[np.ndarray, "k k_and_none"]) -> None:
    """Write the matrix, whole or not at all.

    Raises:
        CannotWrite: the file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["label", *names, NO_CLASS])
    for name, row in zip(names, counts.tolist(), strict=True):
        lines.writerow([name, *row])
    atomic_write(path, text.getvalue().encode())


def read_confusion(path: Path) -> Int64[np.ndarray, "k k_and_none"]:
    """The counts in a file that `write_confusion` wrote.

    Raises:
        UserError: it is no such file.
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


# Scores as tables to read, in Markdown and as a page of HTML, with the paper's beside them where they may be.
#
# Every table is made once, of text; what differs between the terminal, Markdown and HTML is only how it is set.


DASH = "—"
TOLERANCE = "3"
"""The width, in pixels, of the boundary F that stands in tables of other scores."""

_SUMMARY = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency weighted IoU",
}


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column says what a row is of."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    numbers: bool = True
    """Whether the other columns hold numbers."""
    bar: int | None = None
    """The column of percentages that is also drawn."""


def write_tables(out: Path, scores: Mapping[str, Any]) -> None:
    """Write `scores.md` and `scores.html` into a folder, each whole or not at all.

    Raises:
        CannotWrite: a file cannot be written.
    """
    title, tables = title_of(scores), all_tables(scores)
    atomic_write(out / "scores.md", markdown(title, tables).encode())
    page = fill("evaluation", "scores.html.jinja", {"title": title, "tables": tables})
    atomic_write(out / "scores.html", page.encode())


def title_of(scores: Mapping[str, Any]) -> str:
    """What was scored on what."""
    protocol, images = scores["protocol"], scores["images"]
    return f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {images} image{'s' * (images != 1)}"


def all_tables(scores: Mapping[str, Any]) -> list[Table]:
    """All tables that there are scores for."""
    tables = [summary(scores), per_class(scores), by_width(scores), by_distance(scores), by_size(scores)]
    return [*(table for table in tables if table.rows), _protocol(scores)]


def summary(scores: Mapping[str, Any]) -> Table:
    """Ours, and the paper's below it."""
    found, keys = match(scores["protocol"]), [key for key in _SUMMARY if key in scores]
    ours, paper = [percent(scores[key], 2) for key in keys], [_paper(found, key) for key in keys]
    headings = [_SUMMARY[key] for key in keys]
    if (mean := _boundary_f(scores).get("mean")) is not None:
        ours, paper = [*ours, percent(mean, 2)], [*paper, DASH]
        headings.append(f"boundary F, {TOLERANCE} px")
    return Table("Scores", ["percent", *headings], [["ours", *ours], ["paper", *paper]], f"{_remark(found)}.")


def per_class(scores: Mapping[str, Any]) -> Table:
    """Every class."""
    names, found = scores["per_class"], match(scores["protocol"]).row
    columns: dict[str, Mapping[str, Any]] = {"IoU": names, "accuracy": scores["per_class_accuracy"]}
    if boundary := _boundary_f(scores).get("per_class"):
        columns[f"boundary F, {TOLERANCE} px"] = boundary
    if found and found.per_class:
        columns["IoU in the paper"] = {name: value / 100 for name, value in found.per_class.items()}
    rows = [[name, *(percent(of.get(name)) for of in columns.values())] for name in names]
    return Table("By class, in percent", ["class", *columns], rows, _absent(scores), bar=1)


def by_width(scores: Mapping[str, Any]) -> Table:
    """How well boundaries are met, by how far off they may be."""
    rows = [[f"{width} px", percent(of["mean"])] for width, of in scores.get("boundary_f", {}).items()]
    note = "A boundary pixel counts as met if one of the other label map's lies within the width."
    return Table("Boundary F by width, in percent", ["width", "mean F"], rows, note, bar=1)


def by_distance(scores: Mapping[str, Any]) -> Table:
    """How well pixels are classified, by how far from a boundary they are."""
    rows = [
        [
            _range(band["from"], band["to"], "px"),
            percent(band["miou"]),
            percent(band["pixel_accuracy"]),
            f"{band['pixels']:,}",
        ]
        for band in scores.get("iou_by_distance", [])
    ]
    headings = ["distance", "mIoU", "pixel accuracy", "pixels"]
    return Table("By distance to the nearest boundary of the labels, in percent", headings, rows, bar=1)


def by_size(scores: Mapping[str, Any]) -> Table:
    """How well objects are found, by their size."""
    rows = [
        [
            f"{size['name']}: {_range(size['from'], size['to'], 'px')}",
            percent(size["miou"]),
            f"{size['objects']:,}",
        ]
        for size in scores.get("iou_by_size", [])
    ]
    note = "An object is a connected part of one class."
    return Table("By size of object, in percent", ["size", "mIoU", "objects"], rows, note, bar=1)


def _protocol(scores: Mapping[str, Any]) -> Table:
    """What the scores were measured with, and on how much."""
    told = {**scores["protocol"], **{key: scores[key] for key in ("images", "pixels") if key in scores}}
    if told.get("crop") is None:
        told.pop("overlap", None)  # of windows, of which there are none
    rows = [[key.replace("_", " "), _readable(key, value)] for key, value in told.items()]
    return Table("Protocol", ["what", "value"], rows, numbers=False)


def _readable(key: str, value: Any) -> str:
    """A value of the protocol in words."""
    if key == "crop":
        return "none: the whole image at once" if value is None else f"{value[0]} x {value[1]} pixels"
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _paper(found: Match, key: str) -> str:
    """The paper's figure beside ours, as it is printed."""
    value = getattr(found.row, key, None)
    return DASH if value is None else str(value)


def _remark(found: Match) -> str:
    return f"Paper: {found.remark}" if found.row else f"No figure of the paper stands beside ours: {found.remark}"


def _boundary_f(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    of: Mapping[str, Any] = scores.get("boundary_f", {}).get(TOLERANCE, {})
    return of


def _absent(scores: Mapping[str, Any]) -> str:
    """Which classes occur nowhere, and what becomes of them."""
    if not scores["absent"]:
        return ""
    counted = "count as 0 in the means" if scores["protocol"]["absent"] == "zero" else "are left out of the means"
    return f"Neither labelled nor predicted anywhere: {', '.join(scores['absent'])}. Such classes {counted}."


def _range(start: float, end: float | None, unit: str) -> str:
    return f"above {start:,} {unit}" if end is None else f"{start:,} to {end:,} {unit}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent; a dash for none."""
    return DASH if value is None else f"{100 * value:.{digits}f}"


def markdown(title: str, tables: Sequence[Table]) -> str:
    """The tables in Markdown."""
    parts = [f"# {_escaped(title)}"]
    for table in tables:
        lines = [[_escaped(cell) for cell in line] for line in (table.headings, *table.rows)]
        lines.insert(1, ["---", *["---:" if table.numbers else "---"] * (len(table.headings) - 1)])
        parts += [f"## {table.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        parts += [_escaped(table.note)] * bool(table.note)
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text


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
    atomic_write(path, (json.dumps(scores, indent=1) + "\n").encode())


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
