"""The report of a run: one self-contained HTML page with curves, scores, confusions, images, gates and cost.

`report_of` gathers what is known about a run from its folder: record, history, model, scores, and a look at its images.
`write_report` fills the page `page.html.jinja`, which loads nothing, follows the reader's light or dark setting, fits a
phone, and prints. What is unknown is left out.
"""

import dataclasses
import io
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil, isfinite, isnan
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from matplotlib.figure import Figure

from gffnet.console import screen, signed, track
from gffnet.data.colors import MARK, Palette, legend
from gffnet.data.dataset import Dataset, Sample
from gffnet.data.datasets import dataset_classes, open_dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.evaluation.paper import match
from gffnet.evaluation.results import NO_CLASS, SCORES, TOLERANCE, ImageScore, Result, read_result, write_result
from gffnet.files import atomic_write
from gffnet.gates.edit import GatedImage
from gffnet.gates.figures import color_table
from gffnet.gates.statistics import gate_rows
from gffnet.inference.model_io import CONFIG, ModelConfig, hash_weights, load_model
from gffnet.inference.predictor import Predictor, load
from gffnet.models.fusion import GatedFusion
from gffnet.recipe import EvaluationRecipe, Recipe, from_mapping, load_recipe
from gffnet.reports.cost import costs
from gffnet.reports.pictures import Picture, gate_picture, label_picture, marked_picture, photo, share_picture
from gffnet.templates import fill
from gffnet.training.callbacks import HISTORY, read_history
from gffnet.training.run_folder import RECORD

# ----------------------------------------------------------------------------------------------------------------------
# Line charts: matplotlib draws them, and their colors become those of the page, so that they follow its dark mode


MAX_POINTS = 120
"""Longer curves are averaged over so many pieces."""
_CSS_COLORS = {"#000001": "var(--text)", "#000002": "var(--soft)", "#000003": "var(--rule)"}
_CSS_COLORS |= {"#000004": "var(--one)", "#000005": "var(--two)"}
_TEXT, _SOFT, _RULE, *_CURVES = _CSS_COLORS
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "grid.color": _RULE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "axes.formatter.useoffset": False,
}


_INLINE = (
    (r".*<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>"),  # inline in HTML, SVG needs neither prolog nor namespaces
    (r"<metadata>.*?</metadata>|<style .*?</style>|<clipPath .*?</clipPath>", ""),
    (r" clip-path=\"[^\"]*\"| font-family: [^;]*;", ""),
    (r" id=\"(?!m[0-9a-f]{10}\")[^\"]*\"", ""),  # of groups, alike in every chart; markers have hashes
    (r"xlink:href", "href"),
)


class Line(NamedTuple):
    """A named curve."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    """Mark every point."""
    last: bool = True
    """Give the last value in the legend."""


@dataclass(frozen=True)
class Chart:
    """A chart for the page."""

    title: str
    svg: str
    legend: Sequence[tuple[str, str]]
    """Name and last value of every curve that has one."""
    description: str
    """The chart in words, for screen readers."""


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    top: float | None = None,
    end: float | None = None,
    marks: Sequence[float] = (),
) -> Chart | None:
    """Draw curves over a common axis from 0; None if there is no finite point.

    Args:
        title: of the chart.
        x_label: singular, such as `iteration`.
        y_label: with its unit.
        lines: curves without finite points are left out.
        top: end of the y axis (default: the data's).
        end: end of the x axis (default: the data's).
        marks: x of dotted vertical lines.
    """
    lines = [line._replace(points=thin([p for p in line.points if all(map(isfinite, p))])) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3), layout="constrained")
        axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
        for line, color, style in zip(lines, _CURVES, ("-", "--"), strict=False):
            axes.plot(
                *zip(*line.points, strict=True),
                style,
                color=color,
                linewidth=1.8,
                marker="o" * line.dots,
                markersize=4,
            )
        for mark in marks:
            axes.axvline(mark, color=_SOFT, linestyle=":", linewidth=1)
        axes.set_xlim(0, end or axes.get_xlim()[1])
        axes.set_ylim(0, top)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    for pattern, replacement in _INLINE:
        svg = re.sub(pattern, replacement, svg, flags=re.DOTALL)
    svg = re.sub("|".join(_CSS_COLORS), lambda found: _CSS_COLORS[found[0]], svg)
    changes = "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return Chart(
        title,
        svg,
        [(line.name, f"{line.points[-1][1]:.3g}") for line in lines if line.last],
        f"{title} over {x_label}s, up to {lines[0].points[-1][0]:,g}: {changes}.",
    )


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points: the points, or the means of equal pieces of them, each at its last x."""
    size = ceil(len(points) / MAX_POINTS)
    pieces = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    return [(piece[-1][0], sum(y for _, y in piece) / len(piece)) for piece in pieces]


# ----------------------------------------------------------------------------------------------------------------------
# Scores: key figures, bars beside those of a baseline, and the protocol


_COMPARED = ("dataset", "split", "crop", "overlap", "scales", "flip", "labels_at", "absent")
"""Parts of the protocol in which comparable scores agree."""


class KeyFigure(NamedTuple):
    """A large number at the top of the page."""

    label: str
    value: str
    remark: str = ""
    gain: float | None = None
    """Points over the baseline."""


class Bar(NamedTuple):
    """One score in `[0, 1]` and the baseline's; None if undefined."""

    label: str
    value: float | None
    other: float | None = None
    color: str | None = None
    """Of the class."""
    amount: str = ""
    """Number of pixels or objects behind it."""

    @property
    def gain(self) -> float | None:
        """Points over the baseline."""
        return None if self.value is None or self.other is None else 100 * (self.value - self.other)


class Bars(NamedTuple):
    """A table of scores of one kind."""

    key: str
    title: str
    note: str
    heading: str
    """Of the labels."""
    measure: str
    """Of the scores."""
    rows: Sequence[Bar]
    counted: str = ""
    """Heading of the counts."""


def key_figures(scores: Mapping[str, Any], baseline: Mapping[str, Any], name: str) -> list[KeyFigure]:
    """Mean IoU, accuracies, boundary F and speed, with the difference to the baseline called `name`."""
    figures = []
    for label, of in _SUMMARY.items():
        value, other = of(scores), of(baseline)
        if value is not None:
            gain = None if other is None else 100 * (value - other)
            remark = "" if gain is None else f"{signed(gain)} points over {name}"
            figures.append(KeyFigure(label, f"{value:.1%}".replace("%", " %"), remark, gain))
    if scores.get("images_per_second"):
        figures.append(KeyFigure("images per second", f"{scores['images_per_second']:.3g}", "files read and scored"))
    return figures


def class_bars(scores: Mapping[str, Any], baseline: Mapping[str, Any], palette: Palette) -> Bars | None:
    """IoU of every class."""
    per_class, others = scores.get("per_class"), baseline.get("per_class", {})
    if not per_class:
        return None
    rows = [Bar(name, per_class[name], others.get(name), color) for name, color in legend(list(per_class), palette)]
    missing = any(row.value is None for row in rows)
    note = "A dash: the class occurs in neither labels nor predictions." if missing else ""
    return Bars("classes", "By class", note, "class", "IoU", rows)


def detail_bars(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Bars]:
    """IoU by distance to a boundary and by size of object, and boundary F by tolerance."""
    kinds = [
        Bars(
            "distance",
            "By distance to a boundary",
            "Distance of a pixel to the nearest boundary of the labels.",
            "distance",
            "mean IoU",
            _banded(scores, baseline, "iou_by_distance", "pixels"),
            "pixels",
        ),
        Bars(
            "size",
            "By size of object",
            f"An object is a connected part of one class: {_sizes(scores)}.",
            "size",
            "mean IoU",
            _banded(scores, baseline, "iou_by_size", "objects"),
            "objects",
        ),
        Bars(
            "boundary",
            "Boundaries",
            "F of boundary pixels; one is right if the other map has a boundary of its class within the tolerance.",
            "tolerance",
            "F",
            [
                Bar(f"{tolerance} px", of["mean"], baseline.get("boundary_f", {}).get(tolerance, {}).get("mean"))
                for tolerance, of in scores.get("boundary_f", {}).items()
            ],
        ),
    ]
    return [kind for kind in kinds if kind.rows]


def protocol_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The protocol, and the number of images and pixels."""
    rows = {**scores.get("protocol", {}), **{key: scores[key] for key in ("images", "pixels") if key in scores}}
    if rows.get("crop") is None:
        rows.pop("overlap", None)  # without windows
    return [(key.replace("_", " "), readable(key, value)) for key, value in rows.items()]


def paper_remark(scores: Mapping[str, Any]) -> str | None:
    """The paper's figure for the same recipe and protocol; None if there is none."""
    found = match(scores.get("protocol", {}))
    return None if found.row is None else f"mean IoU {found.row.miou} % ({found.remark})"


def differences(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Differences of two protocols that make their scores hard to compare, in words."""
    ours, theirs = scores.get("protocol", {}), baseline.get("protocol", {})
    keys = [key for key in _COMPARED if not (key == "overlap" and ours.get("crop") is None is theirs.get("crop"))]
    found = [_difference(key, ours.get(key), theirs.get(key)) for key in keys]
    found += [_difference(key, scores.get(key), baseline.get(key)) for key in ("images", "pixels")]
    return [text for text in found if text]


def readable(key: str, value: Any) -> str:
    """A value of the protocol in words."""
    if key == "crop":
        return "none: the whole image at once" if value is None else f"{value[0]} x {value[1]} pixels"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _boundary_f(scores: Mapping[str, Any]) -> float | None:
    mean: float | None = scores.get("boundary_f", {}).get(TOLERANCE, {}).get("mean")
    return mean


_SUMMARY: Mapping[str, Any] = {
    "mean IoU": lambda scores: scores.get("miou"),
    "pixel accuracy": lambda scores: scores.get("pixel_accuracy"),
    "mean accuracy": lambda scores: scores.get("mean_accuracy"),
    f"boundary F, {TOLERANCE} px": _boundary_f,
}


def _banded(scores: Mapping[str, Any], baseline: Mapping[str, Any], key: str, counted: str) -> list[Bar]:
    """Bars of ranges, such as distances or sizes, each with its name or its limits."""
    others = {(part["from"], part["to"]): part["miou"] for part in baseline.get(key, [])}
    return [
        Bar(
            part.get("name") or _reach(part["from"], part["to"]),
            part["miou"],
            others.get((part["from"], part["to"])),
            amount=f"{part[counted]:,}",
        )
        for part in scores.get(key, [])
    ]


def _reach(start: float, end: float | None) -> str:
    """A range in pixels, with no-break spaces for narrow columns."""
    if end is None:
        return f"over {start:,}\N{NO-BREAK SPACE}px"
    return f"{start:,}–{end:,}\N{NO-BREAK SPACE}px" if start else f"to {end:,}\N{NO-BREAK SPACE}px"


def _sizes(scores: Mapping[str, Any]) -> str:
    """The ranges of object sizes, in words."""
    parts = scores.get("iou_by_size", [])
    return ", ".join(f"{part['name']} {_reach(part['from'], part['to'])}" for part in parts)


def _difference(key: str, here: Any, there: Any) -> str:
    """One difference in words; empty if there is none."""
    same = _plain(here) == _plain(there)
    return "" if same else f"{key.replace('_', ' ')}: {readable(key, here)} here, {readable(key, there)} there"


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


# ----------------------------------------------------------------------------------------------------------------------
# The confusion matrix, rows divided by their sums: n_ij / Σ_j n_ij, the fraction of class i predicted as j. Few classes
# are drawn as cells in the colors of the page, many as a picture; the most confused pairs are listed.


MAX_CELLS = 32
"""Most classes that are drawn as cells."""
PAIRS = 12
CELL, MARGIN = 33, 8
"""Side of a cell, and around the drawing, in units of the drawing."""
LETTER = 6.6
"""Approximate width of a letter."""
MIN_CONFUSION = 0.005
"""Smaller fractions have no number in their cell."""
MAX_OPACITY = 0.62
"""Of a fraction of 1, so that numbers stay readable."""


class Cell(NamedTuple):
    """One entry of the matrix."""

    x: float
    y: float
    text: str
    """In percent; empty where it is small."""
    opacity: float
    hit: bool
    """On the diagonal."""
    title: str


class Label(NamedTuple):
    """The name of a row or column."""

    x: float
    y: float
    text: str


class Pair(NamedTuple):
    """Pixels of one class that were predicted as another."""

    label: str
    predicted: str
    share: float
    """Fraction of the pixels of the class."""
    pixels: int


class Confusion(NamedTuple):
    """The matrix as the template draws it."""

    pairs: list[Pair]
    cells: list[Cell]
    rows: list[Label]
    columns: list[Label]
    width: float
    height: float
    picture: Picture | None
    """Instead of cells, for many classes."""
    description: str
    """The matrix in words, for screen readers."""
    cell: int = CELL


def confusion_of(counts: Int64[np.ndarray, "k k_and_none"] | None, names: Sequence[str]) -> Confusion | None:
    """Prepare a matrix of counts for the page; None if it is empty."""
    if counts is None or not counts.any():
        return None
    shares = row_shares(counts)
    pairs = worst_pairs(counts, names)
    there = [i for i in range(len(names)) if counts[i].any()]
    hits = [shares[i, i] for i in there]
    worst = "; ".join(f"{pair.share:.0%} of {pair.label} as {pair.predicted}" for pair in pairs[:3])
    description = (
        f"Confusion matrix of {len(there)} classes. Found: {min(hits):.0%} to {max(hits):.0%} of a class's pixels."
        + (f" Most often confused: {worst}." if worst else "")
    )
    if len(names) > MAX_CELLS:
        return Confusion(pairs, [], [], [], 0, 0, share_picture(np.sqrt(shares[:, : len(names)])), description)
    return _matrix_cells(shares, names, pairs, description)


def row_shares(counts: Int64[np.ndarray, "k columns"]) -> Float64[np.ndarray, "k columns"]:
    """Every row divided by its sum; 0 for an empty row."""
    sums = counts.sum(1, keepdims=True)
    shares: np.ndarray = counts / np.maximum(sums, 1)
    return shares


def worst_pairs(counts: Int64[np.ndarray, "k k_and_none"], names: Sequence[str], most: int = PAIRS) -> list[Pair]:
    """The pairs of different classes with the largest fractions of the labelled one."""
    shares = row_shares(counts)
    np.fill_diagonal(shares, 0)
    answers = [*names, NO_CLASS]
    pairs = []
    for place in np.argsort(-shares, axis=None, kind="stable")[:most]:
        i, j = divmod(int(place), shares.shape[1])
        if shares[i, j] > 0:
            pairs.append(Pair(names[i], answers[j], float(shares[i, j]), int(counts[i, j])))
    return pairs


def _matrix_cells(shares: np.ndarray, names: Sequence[str], pairs: list[Pair], description: str) -> Confusion:
    """The matrix as cells, with names to the left and above."""
    answers = [*names, NO_CLASS] if shares[:, len(names)].any() else list(names)
    left = top = MARGIN + LETTER * max(len(_short(name)) for name in answers) + 8
    cells = [
        Cell(
            left + CELL * j,
            top + CELL * i,
            _number(shares[i, j]),
            round(MAX_OPACITY * float(np.sqrt(shares[i, j])), 3),
            i == j,
            f"{name} as {answer}: {shares[i, j]:.2%}",
        )
        for i, name in enumerate(names)
        for j, answer in enumerate(answers)
    ]
    rows = [Label(left - 8, top + CELL * (i + 0.5) + 4, _short(name)) for i, name in enumerate(names)]
    columns = [Label(left + CELL * (j + 0.5) + 4, top - 8, _short(name)) for j, name in enumerate(answers)]
    width, height = left + CELL * len(answers) + MARGIN, top + CELL * len(names) + MARGIN
    return Confusion(pairs, cells, rows, columns, width, height, None, description)


def _number(share: float) -> str:
    return f"{100 * share:.0f}" if share >= MIN_CONFUSION else ""


def _short(name: str) -> str:
    """A name of at most 18 letters."""
    return name if len(name) <= 18 else f"{name[:17]}…"


# ----------------------------------------------------------------------------------------------------------------------
# Training: curves, and the sessions of the record


History = Sequence[Mapping[str, Any]]


class SessionFacts(NamedTuple):
    """One session of a run, in words."""

    started: str
    took: str
    iterations: str
    outcome: str
    speed: str
    memory: str


def training_charts(history: History, record: Mapping[str, Any]) -> list[Chart]:
    """Loss, validation, learning rate and gradient norm over iterations, with marks where the run was resumed."""
    resumed = [session["from_iteration"] for session in record.get("sessions", []) if session["from_iteration"]]
    losses = [_line(history, "loss", "loss"), _line(history, "auxiliary loss", "auxiliary_loss")]
    scores = [
        _line(history, "mean IoU", "miou", 100, dots=True),
        _line(history, "pixel accuracy", "pixel_accuracy", 100, dots=True),
    ]
    end = max((line["iteration"] for line in history), default=None)
    charts = [
        line_chart("Training loss", "iteration", "cross entropy", losses, None, end, resumed),
        line_chart("Validation", "iteration", "percent", scores, 100, end, resumed),
        line_chart("Learning rate", "iteration", "rate", [_line(history, "rate", "learning_rate")], None, end, resumed),
        line_chart("Gradient", "iteration", "norm", [_line(history, "norm", "gradient_norm")], None, end, resumed),
    ]
    return [chart for chart in charts if chart is not None]


def last_validation(history: History, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of the last validation, in the form of `scores.json`; empty if there was none."""
    lines = [line for line in history if "miou" in line]
    if not lines:
        return {}
    last = lines[-1]
    scores = {key: last[key] for key in ("iteration", "miou", "pixel_accuracy") if key in last}
    values = last.get("iou", [])
    return {**scores, "per_class": dict(zip(classes, values, strict=True)) if len(values) == len(classes) else {}}


def sessions_of(record: Mapping[str, Any]) -> list[SessionFacts]:
    """The sessions of a run, oldest first."""
    return [
        SessionFacts(
            started=_day(session["started"]),
            took=_took(session["started"], session.get("ended")),
            iterations=_from_to(session["from_iteration"], session.get("to_iteration")),
            outcome=session.get("outcome") or "not ended, or killed",
            speed=f"{session['images_per_second']:.3g}" if session.get("images_per_second") else "",
            memory=amount(session["memory"]) if session.get("memory") else "",
        )
        for session in record.get("sessions", [])
    ]


def record_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Data, hardware, precision, versions and commit; where sessions differ, all of their values."""
    sessions = record.get("sessions", [])
    facts = [
        ("Data", _data(record.get("data") or {})),
        ("Parameters", f"{record['parameters']:,}" if record.get("parameters") else ""),
        ("Hardware", _each(_hardware(session) for session in sessions)),
        ("Precision", _each(_precision(session.get("precision") or {}) for session in sessions)),
        ("Versions", _each(_versions(session.get("versions") or {}) for session in sessions)),
        ("Commit", _each(_commit(session.get("git")) for session in sessions)),
    ]
    return [(label, value) for label, value in facts if value]


def minutes(seconds: float) -> str:
    """A duration: `42 s`, `6 min 12 s`, `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def amount(memory: float) -> str:
    """A number of bytes: `1.7 GB`."""
    return f"{memory / 1e9:.1f} GB" if memory >= 1e8 else f"{memory / 1e6:.0f} MB"


def _line(history: History, name: str, key: str, factor: float = 1.0, dots: bool = False) -> Line:
    """One value of the history over iterations; an all-zero curve (an unused auxiliary loss) is left out."""
    points = [(line["iteration"], factor * line[key]) for line in history if line.get(key) is not None]
    return Line(name, points if any(value for _, value in points) else [], dots)


def _day(time: str) -> str:
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M")


def _took(started: str, ended: str | None) -> str:
    if ended is None:
        return ""
    return minutes((datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())


def _from_to(start: int, end: int | None) -> str:
    return f"from {start:,}" if end is None else f"{start:,} to {end:,}"


def _data(data: Mapping[str, Any]) -> str:
    splits = [f"{of['split']} {of['samples']:,}" for of in data.get("splits", {}).values()]
    return f"{data['name']}, images: {', '.join(splits)}" if splits else ""


def _hardware(session: Mapping[str, Any]) -> str:
    hardware = session.get("hardware") or {}
    parts = [hardware.get("cpu") or ""]
    parts += [f"{hardware['cores']} cores"] if hardware.get("cores") else []
    parts += [amount(hardware["memory"])] if hardware.get("memory") else []
    gpus = [f"{gpu['name']} ({amount(gpu['memory'])})" for gpu in hardware.get("gpus") or []]
    parts += [f"{gpus.count(gpu)} x {gpu}" for gpu in dict.fromkeys(gpus)]
    if session.get("processes", 1) > 1:
        nodes = session.get("nodes", 1)
        parts.append(f"{session['processes']} processes" + (f" on {nodes} nodes" if nodes > 1 else ""))
    return ", ".join(filter(None, parts))


def _precision(precision: Mapping[str, str]) -> str:
    return f"{precision['name']}: {precision['reason']}" if precision else ""


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _commit(git: Mapping[str, Any] | None) -> str:
    return f"{git['commit'][:12]}{', with changes' if git['changes'] else ''}" if git else ""


def _each(values: Iterable[str]) -> str:
    return "; then ".join(dict.fromkeys(filter(None, values)))


# ----------------------------------------------------------------------------------------------------------------------
# Example images: the worst, the best and some between, with predictions and gates


NARROW = 400
"""Width in pixels of the pictures of gates, four in a row."""

ClosedGate = tuple[int, Bool[np.ndarray, "h w"], float]
"""A level, the pixels that change when its gate is closed, and their fraction."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image with its labels, prediction and gates."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"] | None
    """Train ids, 255 where ignored; None if unknown."""
    prediction: UInt8[np.ndarray, "h w"]
    gates: tuple[Float[np.ndarray, "h w"], ...] | None = None
    """`G_1..G_L` at the image's size; None for a network without gates."""
    closed: Sequence[ClosedGate] | None = None
    why: str = ""
    """Why it was selected, such as `worst of 40`."""
    miou: float | None = None
    """Of the image by itself."""


class Choice(NamedTuple):
    """A selected image."""

    sample: int
    """In the data set."""
    why: str
    miou: float | None


class Shown(NamedTuple):
    """One picture of an example with its texts."""

    caption: str
    alt: str
    picture: Picture
    sharp: bool = False
    """Enlarge it without interpolation."""
    level: int | None = None
    """Of the gate shown."""


def choose(images: Sequence[tuple[str, ImageScore]], count: int) -> list[Choice]:
    """Select `count` of the scored images, from worst to best: three eighths the worst, as many the best, the rest
    evenly from between. Images without labels have no score and are not selected."""
    scored = [i for i, (_, score) in enumerate(images) if not isnan(score.miou)]
    order = sorted(scored, key=lambda i: images[i][1].miou)
    count = min(count, len(order))
    ends = (count + 1) * 3 // 8
    between = order[ends : len(order) - ends]
    middle = count - 2 * ends
    places = [(2 * i + 1) * len(between) // (2 * middle) for i in range(middle)]
    chosen = [
        *((i, _rank("worst", place, len(order))) for place, i in enumerate(order[:ends], 1)),
        *((between[place], f"typical: number {ends + place + 1} of {len(order)}") for place in places),
        *((i, _rank("best", place, len(order))) for place, i in zip(range(ends, 0, -1), order[-ends:], strict=False)),
    ]
    return [Choice(i, why, images[i][1].miou) for i, why in chosen]


def spread(images: int, count: int) -> list[Choice]:
    """Select images evenly from a data set whose scores are unknown."""
    count = min(count, images)
    return [Choice(i * (images - 1) // max(count - 1, 1), "", None) for i in range(count)]


def make_example(predictor: Predictor, sample: Sample, protocol: EvaluationRecipe, choice: Choice) -> Example:
    """Predict one image, and find its gates and what closing each of them changes.

    Gates are of the whole image at scale 1.
    """
    image = sample.image.permute(1, 2, 0).numpy()
    labels, prediction = sample.labels.numpy(), predictor.predict(image, protocol)
    plain = Example(sample.name, image, labels, prediction, None, None, choice.why, choice.miou)
    if not isinstance(predictor.network.fusion, GatedFusion):
        return plain
    gated = GatedImage(predictor, image, scale=1.0)  # as the evaluation sees it
    closings = [gated.close([level]) for level in range(1, len(gated.learned.maps) + 1)]
    closed = [(closing.levels[0], closing.changed, closing.share) for closing in closings]
    return Example(sample.name, image, labels, prediction, gated.learned.maps, closed, choice.why, choice.miou)


def image_chart(images: Sequence[tuple[str, ImageScore]]) -> Chart | None:
    """The mean IoU of all images, from worst to best."""
    values = sorted(score.miou for _, score in images if not isnan(score.miou))
    points = [(rank, 100 * value) for rank, value in enumerate(values, 1)]
    line = Line("mean IoU", points, last=False)
    return line_chart("Images from the worst to the best", "image", "mean IoU (%)", [line], top=100)


def example_content(example: Example, palette: Palette) -> dict[str, Any]:
    """The pictures of an example in rows, for the template."""
    image, name = example.image, example.name
    seen = [Shown("image", f"The image {name}.", photo(image))]
    if example.labels is not None:
        truth = label_picture(example.labels, palette)
        seen.append(Shown("ground truth", f"Ground truth of {name}.", truth, sharp=True))
    predicted = label_picture(example.prediction, palette)
    seen.append(Shown("prediction", f"Predicted classes of {name}.", predicted, sharp=True))
    if example.labels is not None:
        known = example.labels < len(palette)
        wrong = known & (example.labels != example.prediction)
        share = f"{wrong.sum() / max(int(known.sum()), 1):.1%}".replace("%", " %")
        alt = f"Wrongly classified pixels of {name}, {share}."
        seen.append(Shown(f"wrong: {share}", alt, marked_picture(image, wrong)))
    gates = [
        Shown(
            f", mean {gate.mean():.2f}",
            f"Gate map G_{level} of {name}: mean {gate.mean():.2f}.",
            gate_picture(gate, NARROW),
            level=level,
        )
        for level, gate in enumerate(example.gates or (), start=1)
    ]
    closed = [
        Shown(
            f" closed: {share:.1%} of pixels change".replace("%", " %"),
            f"Pixels of {name} that change with G_{level} closed: {share:.1%}.",
            marked_picture(image, changed, NARROW),
            level=level,
        )
        for level, changed, share in example.closed or ()
    ]
    rows = [row for row in (seen, gates, closed) if row]
    return {"name": name, "why": example.why, "miou": example.miou, "rows": rows}


def seen_classes(examples: Sequence[Example], classes: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    """Names and colors of the classes that occur in the labels or predictions of the examples."""
    there: set[int] = set()
    for example in examples:
        there |= set(np.unique(example.prediction).tolist())
        there |= set() if example.labels is None else set(np.unique(example.labels).tolist())
    return [entry for k, entry in enumerate(legend(classes, palette)) if k in there]


def _rank(which: str, place: int, count: int) -> str:
    """Such as `worst of 40`, `second worst of 40` or `number 4 from the worst, of 40`."""
    if place <= 3:
        return f"{('', 'second ', 'third ')[place - 1]}{which} of {count}"
    return f"number {place} from the {which}, of {count}"


# ----------------------------------------------------------------------------------------------------------------------
# The scores of a run: the evaluation that is named, else the one in its folder (if it is of this model and data set),
# else a new one, which is saved in RUN/scores


SCORES_FOLDER = "scores"
"""In the run folder."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder."""

    folder: Path
    recipe: Recipe
    config: ModelConfig | None
    """Of its model; None before the run has finished."""
    weights: str | None
    """SHA-256 of its weights."""


@dataclass(frozen=True, eq=False)
class Images:
    """A split of a data set to score on."""

    name: str
    """Of the data set."""
    split: str
    dataset: Dataset


def open_run(folder: Path) -> Run:
    """Open a run folder.

    Raises:
        UserError: it is no run folder, or it is damaged.
    """
    file = folder / "recipe.yaml"
    if not file.is_file():
        there = "is no run folder: it holds no recipe.yaml" if folder.is_dir() else "does not exist"
        raise UserError(f"run {folder} {there}. Name what `gffnet train --out DIR` wrote.")
    if not (folder / "model" / CONFIG).is_file():
        return Run(folder, load_recipe(file), None, None)
    network, config = load_model(folder)
    return Run(folder, load_recipe(file), config, hash_weights(network))


def open_images(name: str, root: Path | None, split: str, cache: Path | None = None) -> Images:
    """Open a split of a data set; raises as `open_dataset`."""
    return Images(name, split, open_dataset(name, root, split, cache))


def scores_of_run(run: Run, images: Images | None, named: Path | None = None, device: str = "auto") -> Result | None:
    """The evaluation of a run; None if there is none and it cannot be evaluated (no images or no model).

    Raises:
        UserError: `named` is of another model, or the images have other classes.
    """
    if named is not None:
        result = read_result(named)
        _check_weights(run, named, result)
        return result
    return _found(run, images) or _made(run, images, device)


def scores_of_baseline(path: Path, images: Images | None, device: str = "auto") -> Result:
    """The evaluation to compare with: in a folder or file, or of a run.

    Raises:
        UserError: there is none, and the run cannot be evaluated.
    """
    if path.is_file() or (path / SCORES).is_file():
        return read_result(path)
    result = scores_of_run(open_run(path), images, device=device)
    if result is None:
        raise UserError(
            f"--baseline {path} holds no scores. Name the folder of `gffnet evaluate --model {path} --out DIR`, or "
            "give --root, so that a trained run is evaluated now."
        )
    return result


def check_classes(path: Path, baseline: Result, classes: Sequence[str]) -> None:
    """Check that a baseline has the classes of the run.

    Raises:
        UserError: it has others.
    """
    there = list(baseline.scores.per_class)
    if there != list(classes):
        raise UserError(
            f"--baseline {path}: it has {len(there)} classes ({', '.join(there[:4])}, ...), and the run {len(classes)} "
            f"({', '.join(classes[:4])}, ...). Only scores of the same classes can be compared."
        )


def _found(run: Run, images: Images | None) -> Result | None:
    """The evaluation in a run folder, if it is of this model and these images."""
    folder = next((path for path in (run.folder / SCORES_FOLDER, run.folder) if (path / SCORES).is_file()), None)
    if folder is None:
        return None
    result = read_result(folder)
    protocol = result.scores.protocol
    if run.weights is None or protocol.get("weights_sha256") != run.weights:
        screen.print(f"ignored: {folder / SCORES} is not of the model now in {run.folder}", style="yellow")
        return None
    if images is not None and (protocol["dataset"], protocol.get("split")) != (images.name, images.split):
        return None
    return result


def _made(run: Run, images: Images | None, device: str) -> Result | None:
    """Evaluate a run by its own protocol, and save the result."""
    if images is None or run.config is None:
        return None
    predictor = load(run.folder, device)
    result = evaluate(predictor, images.dataset, images.name, images.split, run.config.evaluation)
    write_result(run.folder / SCORES_FOLDER, result)
    screen.print(f"scores: {run.folder / SCORES_FOLDER}")
    return result


def _check_weights(run: Run, path: Path, result: Result) -> None:
    """Check that scores are of the run's model, the last or the best."""
    best = run.folder / "best"
    known = {run.weights, hash_weights(load_model(best)[0]) if (best / CONFIG).is_file() else None}
    if result.scores.protocol.get("weights_sha256") not in known - {None}:
        raise UserError(
            f"--scores {path}: these are not the scores of a model in {run.folder}, whose weights have another "
            f"SHA-256. Name what `gffnet evaluate --model {run.folder} --out DIR` wrote, or leave --scores out."
        )


# ----------------------------------------------------------------------------------------------------------------------
# The page


LONG = 25
"""Most classes in one column of the page."""


class Command(NamedTuple):
    """A command and what it does."""

    does: str
    line: str


@dataclass(frozen=True, eq=False)
class Report:
    """What is known about a run."""

    title: str
    classes: Sequence[str]
    palette: Palette
    lede: str = ""
    """One sentence below the title."""
    summary: Sequence[tuple[str, str]] = ()
    """Further facts at the top: label and value."""
    history: Sequence[Mapping[str, Any]] = ()
    """The lines of `history.jsonl`."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The content of `run.json`."""
    scores: Mapping[str, Any] | None = None
    """The content of `scores.json`; if None, the page shows the last validation."""
    images: Sequence[tuple[str, ImageScore]] = ()
    """The scores of every image."""
    confusion: Int64[np.ndarray, "k k_and_none"] | None = None
    examples: Sequence[Example] = ()
    baseline: Mapping[str, Any] | None = None
    """Scores of a network with the same classes to compare with."""
    baseline_name: str = "baseline"
    cost: Sequence[Mapping[str, Any]] = ()
    """Rows of `gffnet.reports.cost.costs`; the first is the baseline."""
    commands: Sequence[Command] = ()
    """To reproduce the run."""
    recipe: str = ""
    """The recipe's text."""


def write_report(path: Path, report: Report) -> None:
    """Write the page atomically.

    Raises:
        CannotWrite: the file cannot be written.
    """
    page = fill("reports", "page.html.jinja", _content(report), {"signed": signed})
    atomic_write(path, page.encode())


def _content(report: Report) -> dict[str, Any]:
    """The variables of the template."""
    scores = report.scores or last_validation(report.history, report.classes)
    baseline = report.baseline or {}
    return {
        "title": report.title,
        "lede": report.lede,
        "summary": report.summary,
        "figures": key_figures(scores, baseline, report.baseline_name),
        "validated": scores.get("iteration"),
        "paper": paper_remark(scores) if report.scores else None,
        "baseline_name": report.baseline_name if baseline else None,
        "differences": differences(scores, baseline) if report.scores and baseline else [],
        "class_bars": class_bars(scores, baseline, report.palette),
        "long": LONG,
        "detail_bars": detail_bars(scores, baseline),
        "confusion": confusion_of(report.confusion, report.classes),
        "image_chart": image_chart(report.images) if len(report.images) > 1 else None,
        **_examples(report),
        "charts": training_charts(report.history, report.record),
        "sessions": sessions_of(report.record),
        "record": record_facts(report.record),
        "cost": report.cost,
        "protocol": protocol_rows(scores) if report.scores else [],
        "commands": report.commands,
        "recipe": report.recipe,
    }


def _examples(report: Report) -> dict[str, Any]:
    """The variables of the template about images and gates."""
    gated = [example for example in report.examples if example.gates]
    return {
        "examples": [example_content(example, report.palette) for example in report.examples],
        "legend": seen_classes(report.examples, report.classes, report.palette),
        "void": any(e.labels is not None and (e.labels >= len(report.classes)).any() for e in report.examples),
        "mark": "#{:02x}{:02x}{:02x}".format(*MARK),
        "gate_levels": max((len(example.gates or ()) for example in gated), default=0),
        "gate_rows": gate_rows([(e.prediction, e.gates, e.closed or ()) for e in gated if e.gates]),
        "gate_colors": ", ".join("#{:02x}{:02x}{:02x}".format(*c) for c in color_table()[:: 255 // 15]),
    }


# ----------------------------------------------------------------------------------------------------------------------
# Gathering what is known about a run


SHOWN = 8
"""Images shown by default."""


def report_of(
    folder: Path,
    images: Images | None = None,
    scores: Path | None = None,
    baseline: Path | None = None,
    shown: int = SHOWN,
    device: str = "auto",
) -> Report:
    """Gather the report of a run.

    Args:
        folder: the run folder.
        images: a split to score, and to show images of; None: only scores that exist are shown, and no images.
        scores: an evaluation of the run (default: the one in its folder, or a new one).
        baseline: a run or an evaluation to compare with.
        shown: how many images to show.
        device: as of `load`.

    Raises:
        UserError: there is no run, or the scores or the baseline do not fit it.
    """
    run, record = open_run(folder), _record(folder)
    result = scores_of_run(run, images, scores, device)
    other = None if baseline is None else scores_of_baseline(baseline, images, device)
    classes, palette = _classes(run)
    if baseline is not None and other is not None:
        check_classes(baseline, other, classes)
    name = str(record.get("recipe") or (run.config.recipe if run.config else folder.name))
    report = Report(
        title=name,
        lede=_lede(run.recipe, result),
        classes=classes,
        palette=palette,
        history=read_history(folder / HISTORY),
        record=record,
        examples=_examples_run(run, images, result, shown, device),
        cost=costs(
            _networks(name, run.recipe, baseline, other), run.recipe.evaluation.crop or run.recipe.training.crop
        ),
        commands=_commands(folder, record, result),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8"),
    )
    if other is not None:
        report = dataclasses.replace(
            report, baseline=other.scores.to_json(), baseline_name=_called(baseline, other, name)
        )
    if result is None:
        return report
    return dataclasses.replace(report, scores=result.scores.to_json(), images=result.images, confusion=result.confusion)


def _record(folder: Path) -> dict[str, Any]:
    """`run.json`; empty if it is missing or damaged."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        [(session["started"], session["from_iteration"]) for session in stored["sessions"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        screen.print(f"ignored: {folder / RECORD} cannot be read ({error!r})", style="yellow")
        return {}
    record: dict[str, Any] = stored
    return record


def _classes(run: Run) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colors; empty for a `folder` data set without a model yet."""
    if run.config is not None:
        return run.config.classes, run.config.palette
    if run.recipe.data.name == "folder":
        return (), ()
    classes = dataset_classes(run.recipe.data.name)
    return classes.names, classes.palette


def _lede(recipe: Recipe, result: Result | None) -> str:
    """The run in a sentence."""
    model, training = recipe.model, recipe.training
    parts = [model.backbone.name, *(part for part in (model.context, model.fusion) if part != "none")]
    parts += [f"{model.dense_pyramid} pyramid"] if model.dense_pyramid != "none" else []
    trained = f"{', '.join(parts).replace('_', ' ')}; trained on {recipe.data.name} {recipe.data.train_split}"
    sentence = f"{trained} for {training.iterations:,} iterations of {training.batch} crops"
    if result is None:
        return f"{sentence}."
    protocol, count = result.scores.protocol, result.scores.images
    return f"{sentence}; scored on {protocol['dataset']} {protocol['split']}, {count:,} image{'s' * (count != 1)}."


def _examples_run(run: Run, images: Images | None, result: Result | None, count: int, device: str) -> list[Example]:
    """Example images, selected by their scores."""
    if images is None or run.config is None or count == 0:
        return []
    predictor, dataset, protocol = load(run.folder, device), images.dataset, run.config.evaluation
    names = [dataset.name(i) for i in range(len(dataset))]
    choices = spread(len(dataset), count)
    if result is not None and [name for name, _ in result.images] == names:
        choices, protocol = choose(result.images, count), _protocol(result)
    return [
        make_example(predictor, dataset[choice.sample], protocol, choice)
        for choice in track(choices, "looking at images")
    ]


def _protocol(result: Result) -> EvaluationRecipe:
    """That the images were predicted by."""
    keys = [field.name for field in dataclasses.fields(EvaluationRecipe)]
    told = {key: value for key, value in result.scores.protocol.items() if key in keys}
    return from_mapping(EvaluationRecipe, told, "scores.json")


def _called(baseline: Path | None, other: Result, name: str) -> str:
    """The name of a baseline: its recipe, with its folder where that is not enough to tell it from the run."""
    recipe = str(other.scores.protocol.get("recipe", "baseline"))
    return f"{recipe} ({baseline})" if recipe == name else recipe


def _networks(name: str, recipe: Recipe, baseline: Path | None, other: Result | None) -> list[tuple[str, Recipe]]:
    """What the run's network is to be compared with in cost, and the network."""
    ours = [(name, recipe)]
    if other is not None and baseline is not None:
        their = _baseline_recipe(baseline, other.scores.protocol)
        return ours if their is None else [(_called(baseline, other, name), their), *ours]
    if recipe.model.fusion == "none":
        return ours
    bare = dataclasses.replace(recipe.model, fusion="none", dense_pyramid="none")
    return [("the same without fusion", dataclasses.replace(recipe, model=bare)), *ours]


def _baseline_recipe(baseline: Path, protocol: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a baseline: that of the run, or the one that ships by its name."""
    for source in (baseline / "recipe.yaml", baseline.parent / "recipe.yaml", str(protocol.get("recipe"))):
        try:
            return load_recipe(source)
        except UserError:
            continue
    return None


def _commands(folder: Path, record: Mapping[str, Any], result: Result | None) -> list[Command]:
    """What makes the run, its scores and this page again."""
    lines = dict.fromkeys(session["command"] for session in record.get("sessions", []) if session.get("command"))
    commands = [Command("Trained by", line) for line in lines]
    if result is None:
        return commands
    protocol, recipe = result.scores.protocol, _protocol(result)
    words = ["gffnet", "evaluate", "--model", str(folder), "--dataset", protocol["dataset"], "--root", "ROOT"]
    words += ["--split", str(protocol["split"])]
    words += ["--crop", f"{recipe.crop[0]}x{recipe.crop[1]}" if recipe.crop else "none"]
    words += ["--overlap", f"{recipe.overlap:.6g}"] if recipe.crop else []
    words += ["--scales", *(f"{scale:g}" for scale in recipe.scales)] + ["--flip"] * recipe.flip
    page = ["gffnet", "report", str(folder), "--dataset", protocol["dataset"], "--root", "ROOT", "--scores", "SCORES"]
    return [
        *commands,
        Command("Scored by", shlex.join([*words, "--out", "SCORES"])),
        Command("This page", shlex.join(page)),
    ]
