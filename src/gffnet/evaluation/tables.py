"""Scores as tables to read, in Markdown and as a page of HTML, with the paper's beside them where they may be.

Every table is made once, of text; what differs between the terminal, Markdown and HTML is only how it is set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gffnet.evaluation.paper import Match, match
from gffnet.files import write_whole
from gffnet.templates import fill

DASH = "—"
WIDTH = "3"
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
    write_whole(out / "scores.md", markdown(title, tables).encode())
    page = fill("evaluation", "scores.html.jinja", {"title": title, "tables": tables})
    write_whole(out / "scores.html", page.encode())


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
        headings.append(f"boundary F, {WIDTH} px")
    return Table("Scores", ["percent", *headings], [["ours", *ours], ["paper", *paper]], f"{_remark(found)}.")


def per_class(scores: Mapping[str, Any]) -> Table:
    """Every class."""
    names, found = scores["per_class"], match(scores["protocol"]).row
    columns: dict[str, Mapping[str, Any]] = {"IoU": names, "accuracy": scores["per_class_accuracy"]}
    if boundary := _boundary_f(scores).get("per_class"):
        columns[f"boundary F, {WIDTH} px"] = boundary
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
    of: Mapping[str, Any] = scores.get("boundary_f", {}).get(WIDTH, {})
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
