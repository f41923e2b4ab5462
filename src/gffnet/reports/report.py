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
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from math import ceil, isfinite, isnan
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float64, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gffnet.console import memory_size, percent, screen, signed, track
from gffnet.data.colors import MARK, Palette, displayable, hex_color, legend
from gffnet.data.dataset import Dataset, Sample, class_difference, evenly_spaced
from gffnet.data.datasets import dataset_classes, open_dataset
from gffnet.data.io import as_array
from gffnet.errors import CannotWrite, UserError
from gffnet.evaluation.evaluate import images_for, score_dataset
from gffnet.evaluation.paper import match
from gffnet.evaluation.results import (
    NO_CLASS,
    SCORES,
    TOLERANCE,
    ImageScore,
    Result,
    pixel_range,
    protocol_of,
    protocol_rows,
    read_result,
    readable,
    write_result,
)
from gffnet.files import atomic_write
from gffnet.gates.edit import Closing, GatedImage, GateResult
from gffnet.gates.figures import color_table
from gffnet.gates.statistics import GateStatistics, near_and_far
from gffnet.inference.predictor import Predictor, load
from gffnet.metrics.scores import Scores
from gffnet.models.gffnet import load_model
from gffnet.models.model_io import CONFIG, ModelConfig, hash_weights, read_config
from gffnet.recipe import EvaluationRecipe, Recipe, load_recipe, load_recorded
from gffnet.reports.cost import costs
from gffnet.reports.pictures import Picture, gate_picture, label_picture, marked_picture, photo, share_picture
from gffnet.templates import fill
from gffnet.training.callbacks import HISTORY, read_history
from gffnet.training.run_folder import RECIPE, RECORD

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
    (r" id=\"(?!m[0-9a-f]{10}\")[^\"]*\"", ""),  # of groups, the same in every chart; markers have hashes
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
    values: Mapping[str, Any]
    """What the page shows under the pointer: `x`, what the abscissa is; `top` and `bottom` of the axes; `lines`, each
    with its `name` and `points` [x, y, left, top]. Places are fractions of the chart's width and height."""


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
        values = {"x": x_label, **_values(figure, axes, lines)}
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
        values,
    )


def _values(figure: Figure, axes: Axes, lines: Sequence[Line]) -> dict[str, Any]:
    """Where the points of curves are in a figure that has been drawn, and between which heights its axes are."""
    places = axes.transData + figure.transFigure.inverted()
    bottom, top = axes.get_position().intervaly

    def point(x: float, y: float) -> list[float]:
        left, up = places.transform((x, y))
        return [x, float(f"{y:.5g}"), round(left, 4), round(1 - up, 4)]

    found = [{"name": line.name, "points": [point(*each) for each in line.points]} for line in lines]
    return {"top": round(1 - top, 4), "bottom": round(1 - bottom, 4), "lines": found}


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points: the points, or the means of equal pieces of them, each at its last x."""
    size = ceil(len(points) / MAX_POINTS)
    pieces = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    return [(piece[-1][0], sum(y for _, y in piece) / len(piece)) for piece in pieces]


# ----------------------------------------------------------------------------------------------------------------------
# Scores: key figures, bars beside those of a baseline, and the protocol


UNKNOWN = Scores(miou=None, per_class={})
"""Stands for a baseline that there is not: all of its scores are undefined."""
_COMPARED = ("dataset", "split", "crop", "overlap", "scales", "flip", "labels_at", "absent", "images", "pixels")
"""What comparable scores agree in."""


class KeyFigure(NamedTuple):
    """A large number at the top of the page."""

    label: str
    value: str
    gain: float | None = None
    """Points over the baseline."""
    remark: str = ""


class Bar(NamedTuple):
    """One score in `[0, 1]` and the baseline's; None if undefined."""

    label: str
    value: float | None
    other: float | None = None
    amount: str = ""
    """Number of pixels or objects behind it."""
    color: str | None = None
    """Of the class."""

    @property
    def gain(self) -> float | None:
        return _gain(self.value, self.other)


class Bars(NamedTuple):
    """A table of scores of one kind."""

    title: str
    note: str
    heading: str
    """Of the labels."""
    measure: str
    """Of the scores."""
    rows: Sequence[Bar]
    counted: str = ""
    """Heading of the counts."""


def key_figures(scores: Scores, baseline: Scores) -> list[KeyFigure]:
    """Mean IoU, accuracies, boundary F and speed, with the differences to the baseline."""
    means = zip(_means(scores).items(), _means(baseline).values(), strict=True)
    figures = [
        KeyFigure(label, f"{percent(value)} %", _gain(value, other))
        for (label, value), other in means
        if value is not None
    ]
    if scores.images_per_second:
        speed = f"{scores.images_per_second:.3g}"
        figures.append(KeyFigure("images per second", speed, remark="files read and scored"))
    return figures


def _means(scores: Scores) -> dict[str, float | None]:
    boundary = scores.boundary_f.get(TOLERANCE)
    return {
        "mean IoU": scores.miou,
        "pixel accuracy": scores.pixel_accuracy,
        "mean accuracy": scores.mean_accuracy,
        f"boundary F, {TOLERANCE} px": None if boundary is None else boundary.mean,
    }


def _gain(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else 100 * (value - other)


def class_bars(scores: Scores, baseline: Scores, palette: Palette) -> Bars | None:
    """IoU of every class; None where classes are unknown."""
    if not scores.per_class:
        return None
    colors = legend(list(scores.per_class), palette)
    rows = [Bar(name, scores.per_class[name], baseline.per_class.get(name), color=color) for name, color in colors]
    missing = any(row.value is None for row in rows)
    note = "A dash: the class occurs in neither labels nor predictions." if missing else ""
    return Bars("By class", note, "class", "IoU", rows)


def detail_bars(scores: Scores, baseline: Scores) -> list[Bars]:
    """IoU by distance to a boundary and by size of object, and boundary F by tolerance."""
    bands = {(band.start, band.end): band.miou for band in baseline.iou_by_distance}
    bins = {(size.start, size.end): size.miou for size in baseline.iou_by_size}
    boundaries = {tolerance: of.mean for tolerance, of in baseline.boundary_f.items()}
    distance = [
        Bar(pixel_range(of.start, of.end), of.miou, bands.get((of.start, of.end)), f"{of.pixels:,}")
        for of in scores.iou_by_distance
    ]
    size = [Bar(of.name, of.miou, bins.get((of.start, of.end)), f"{of.objects:,}") for of in scores.iou_by_size]
    boundary = [Bar(f"{t} px", of.mean, boundaries.get(t)) for t, of in scores.boundary_f.items()]
    sizes = ", ".join(f"{of.name} {pixel_range(of.start, of.end)}" for of in scores.iou_by_size)
    notes = (
        "Distance of a pixel to the nearest boundary of the labels.",
        f"An object is a connected part of one class: {sizes}.",
        "F of boundary pixels; one is right if the other map has a boundary of its class within the tolerance.",
    )
    kinds = [
        Bars("By distance to a boundary", notes[0], "distance", "mean IoU", distance, "pixels"),
        Bars("By size of object", notes[1], "size", "mean IoU", size, "objects"),
        Bars("Boundaries", notes[2], "tolerance", "F", boundary),
    ]
    return [kind for kind in kinds if kind.rows]


def protocol_differences(scores: Scores, baseline: Scores) -> list[str]:
    """Differences of two protocols that make their scores hard to compare, in words."""
    here, there = ({**of.protocol, "images": of.images, "pixels": of.pixels} for of in (scores, baseline))
    whole = here.get("crop") is there.get("crop") is None  # windows that do not exist do not overlap
    return [
        f"{key.replace('_', ' ')}: {readable(key, here.get(key))} here, {readable(key, there.get(key))} there"
        for key in _COMPARED
        if here.get(key) != there.get(key) and not (whole and key == "overlap")
    ]


# ----------------------------------------------------------------------------------------------------------------------
# The confusion matrix, rows divided by their sums: n_ij / Σ_j n_ij, the fraction of class i predicted as j. Few classes
# are a table of colored cells, many a picture; the most confused pairs are listed.


MAX_CELLS = 32
"""Most classes that are shown as cells."""
PAIRS = 12


class Pair(NamedTuple):
    """Pixels of one class that were predicted as another."""

    label: str
    predicted: str
    share: float
    """Fraction of the pixels of the class."""
    pixels: int


class Confusion(NamedTuple):
    """The matrix as the template shows it."""

    pairs: list[Pair]
    labels: Sequence[str]
    answers: Sequence[str]
    shares: list[list[float]]
    picture: Picture | None
    """Instead of cells, for many classes."""
    description: str
    """The matrix in words, for screen readers."""


def confusion_of(counts: Int64[np.ndarray, "k k_and_none"] | None, names: Sequence[str]) -> Confusion | None:
    """Prepare a matrix of counts for the page; None if it is empty."""
    if counts is None or not counts.any():
        return None
    shares = row_shares(counts)
    pairs = worst_pairs(counts, names)
    hits = [shares[i, i] for i in range(len(names)) if counts[i].any()]
    worst = "; ".join(f"{pair.share:.0%} of {pair.label} as {pair.predicted}" for pair in pairs[:3])
    description = (
        f"Confusion matrix of {len(hits)} classes. Found: {min(hits):.0%} to {max(hits):.0%} of a class's pixels."
        + (f" Most often confused: {worst}." if worst else "")
    )
    few = len(names) <= MAX_CELLS
    answers = [*names, NO_CLASS] if counts[:, len(names)].any() else names
    picture = None if few else share_picture(np.sqrt(shares[:, : len(names)]))
    return Confusion(pairs, names, answers, shares[:, : len(answers)].tolist(), picture, description)


def row_shares(counts: Int64[np.ndarray, "k columns"]) -> Float64[np.ndarray, "k columns"]:
    """Every row divided by its sum; 0 for an empty row."""
    shares: np.ndarray = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def worst_pairs(counts: Int64[np.ndarray, "k k_and_none"], names: Sequence[str], most: int = PAIRS) -> list[Pair]:
    """The pairs of different classes with the largest fractions of the labelled one."""
    shares = row_shares(counts)
    np.fill_diagonal(shares, 0)
    answers = [*names, NO_CLASS]
    places = np.argsort(-shares, axis=None, kind="stable")[:most]
    found = [divmod(int(place), shares.shape[1]) for place in places]
    return [Pair(names[i], answers[j], float(shares[i, j]), int(counts[i, j])) for i, j in found if shares[i, j]]


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
    kinds: list[tuple[str, str, list[Line], float | None]] = [
        ("Training loss", "loss", losses, None),
        ("Validation", "percent", scores, 100),
        ("Learning rate", "rate", [_line(history, "rate", "learning_rate")], None),
        ("Gradient", "norm", [_line(history, "norm", "gradient_norm")], None),
    ]
    charts = [line_chart(title, "iteration", unit, lines, top, end, resumed) for title, unit, lines, top in kinds]
    return [chart for chart in charts if chart is not None]


def last_validation(history: History, classes: Sequence[str]) -> tuple[int | None, Scores]:
    """The iteration of the last validation, None if there was none, and its scores."""
    last = next((line for line in reversed(history) if "miou" in line), {})
    values = last.get("iou", [])
    per_class = dict(zip(classes, values, strict=True)) if len(values) == len(classes) else {}
    scores = Scores(miou=last.get("miou"), pixel_accuracy=last.get("pixel_accuracy"), per_class=per_class)
    return last.get("iteration"), scores


def sessions_of(record: Mapping[str, Any]) -> list[SessionFacts]:
    """The sessions of a run, oldest first."""
    return [
        SessionFacts(
            started=datetime.fromisoformat(session["started"]).strftime("%Y-%m-%d %H:%M"),
            took=training_time([session]),
            iterations=f"{session['from_iteration']:,} to {session['to_iteration']:,}"
            if session.get("to_iteration") is not None
            else f"from {session['from_iteration']:,}",
            outcome=session.get("outcome") or "not ended, or killed",
            speed=f"{session['images_per_second']:.3g}" if session.get("images_per_second") else "",
            memory=memory_size(session["memory"]) if session.get("memory") else "",
        )
        for session in record.get("sessions", [])
    ]


def training_time(sessions: Iterable[Mapping[str, Any]]) -> str:
    """The duration of the sessions whose end is known, `42 s`, `6 min 12 s` or `3 h 05 min`; empty if none is."""
    ends = [(session["started"], session["ended"]) for session in sessions if session.get("ended")]
    times = [datetime.fromisoformat(end) - datetime.fromisoformat(start) for start, end in ends]
    return minutes(sum(time.total_seconds() for time in times)) if times else ""


def minutes(seconds: float) -> str:
    """A duration: `42 s`, `6 min 12 s`, `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def record_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Data, parts in Python, hardware, precision, versions and commit; where sessions differ, all of their values."""
    data, sessions = record.get("data") or {}, record.get("sessions", [])
    splits = [f"{of['split']} {of['samples']:,}" for of in data.get("splits", {}).values()]
    precisions = [of for session in sessions if (of := session.get("precision"))]
    versions = [(session.get("versions") or {}).items() for session in sessions]
    commits = [of for session in sessions if (of := session.get("git"))]
    python = [f"{argument} {what}" for argument, what in (record.get("python") or {}).items()]
    facts = [
        ("Data", [f"{data['name']}, images: {', '.join(splits)}"] if splits else []),
        ("Given in Python", ["; ".join(python)]),
        ("Parameters", [f"{record['parameters']:,}"] if record.get("parameters") else []),
        ("Hardware", map(_hardware, sessions)),
        ("Precision", [f"{of['name']}: {of['reason']}" for of in precisions]),
        ("Versions", [", ".join(f"{name} {version}" for name, version in of if version) for of in versions]),
        ("Commit", [f"{of['commit'][:12]}{', with changes' if of['changes'] else ''}" for of in commits]),
    ]
    lines = [(label, "; then ".join(dict.fromkeys(filter(None, values)))) for label, values in facts]
    return [line for line in lines if line[1]]


def _hardware(session: Mapping[str, Any]) -> str:
    hardware = session.get("hardware") or {}
    parts = [hardware.get("cpu") or ""]
    parts += [f"{hardware['cores']} cores"] if hardware.get("cores") else []
    parts += [memory_size(hardware["memory"])] if hardware.get("memory") else []
    gpus = [f"{gpu['name']} ({memory_size(gpu['memory'])})" for gpu in hardware.get("gpus") or []]
    parts += [f"{gpus.count(gpu)} x {gpu}" for gpu in dict.fromkeys(gpus)]
    if session.get("processes", 1) > 1:
        nodes = session.get("nodes", 1)
        parts.append(f"{session['processes']} processes" + (f" on {nodes} nodes" if nodes > 1 else ""))
    return ", ".join(filter(None, parts))


def _line(history: History, name: str, key: str, factor: float = 1.0, dots: bool = False) -> Line:
    """One value of the history over iterations; an all-zero curve (an unused auxiliary loss) is left out."""
    points = [(line["iteration"], factor * line[key]) for line in history if line.get(key) is not None]
    return Line(name, points if any(value for _, value in points) else [], dots)


# ----------------------------------------------------------------------------------------------------------------------
# Example images: the worst, the best and some between, with predictions and gates


NARROW = 400
"""Width in pixels of the pictures of gates, four in a row."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image with its labels, prediction and gates."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"] | None
    """Train ids, 255 where ignored; None if unknown."""
    prediction: UInt8[np.ndarray, "h w"]
    gates: GateResult | None = None
    """None for a network without gates."""
    closings: Sequence[Closing] = ()
    """Of every gate alone."""
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
    count, of = min(count, len(order)), len(order)
    ends = (count + 1) * 3 // 8
    middle = count - 2 * ends
    typical = [ends + (2 * i + 1) * (of - 2 * ends) // (2 * middle) for i in range(middle)]
    chosen = [
        *((place, _rank("worst", place + 1, of)) for place in range(ends)),
        *((place, f"typical: number {place + 1} of {of}") for place in typical),
        *((place, _rank("best", of - place, of)) for place in range(of - ends, of)),
    ]
    return [Choice(order[place], why, images[order[place]][1].miou) for place, why in chosen]


def _rank(which: str, place: int, count: int) -> str:
    """Such as `worst of 40`, `second worst of 40` or `number 4 from the worst, of 40`."""
    if place <= 3:
        return f"{('', 'second ', 'third ')[place - 1]}{which} of {count}"
    return f"number {place} from the {which}, of {count}"


def make_example(predictor: Predictor, sample: Sample, protocol: EvaluationRecipe, choice: Choice) -> Example:
    """Predict one image, and find its gates and what closing each of them changes.

    Gates are of the whole image at scale 1.
    """
    image, labels = as_array(sample.image), sample.labels.numpy()
    prediction, gates, closings = predictor.predict(image, protocol), None, []
    fusion = predictor.network.fusion
    if fusion is not None and fusion.has_gates:
        gated = GatedImage(predictor, image, scale=1.0)  # as the evaluation sees it
        gates = dataclasses.replace(gated.learned, prediction=prediction)
        closings = [gated.close([level]) for level in range(1, len(gates.maps) + 1)]
    return Example(sample.name, displayable(image), labels, prediction, gates, closings, choice.why, choice.miou)


def image_chart(images: Sequence[tuple[str, ImageScore]]) -> Chart | None:
    """The mean IoU of all images, from worst to best."""
    values = sorted(score.miou for _, score in images if not isnan(score.miou))
    points = [(rank, 100 * value) for rank, value in enumerate(values, 1)]
    line = Line("mean IoU", points, last=False)
    return line_chart("Images from the worst to the best", "image", "mean IoU (%)", [line], top=100)


def example_rows(example: Example, palette: Palette) -> list[list[Shown]]:
    """The pictures of an example: what was seen, its gates, and what closing them changes."""
    image, name, labels = example.image, example.name, example.labels
    seen = [Shown("image", f"The image {name}.", photo(image))]
    if labels is not None:
        truth = label_picture(labels, palette)
        seen.append(Shown("ground truth", f"Ground truth of {name}.", truth, sharp=True))
    predicted = label_picture(example.prediction, palette)
    seen.append(Shown("prediction", f"Predicted classes of {name}.", predicted, sharp=True))
    if labels is not None:
        known = labels < len(palette)
        wrong = known & (labels != example.prediction)
        share = f"{percent(wrong.sum() / max(known.sum(), 1))} %"
        alt = f"Wrongly classified pixels of {name}, {share}."
        seen.append(Shown(f"wrong: {share}", alt, marked_picture(image, wrong)))
    gates = [
        Shown(
            f", mean {gate.mean():.2f}",
            f"Gate map G_{level} of {name}: mean {gate.mean():.2f}.",
            gate_picture(gate, NARROW),
            level=level,
        )
        for level, gate in enumerate(example.gates.maps if example.gates else (), start=1)
    ]
    closed = [
        Shown(
            f" closed: {percent(of.share)} % of pixels change",
            f"Pixels of {name} that change with G_{of.levels[0]} closed: {percent(of.share)} %.",
            marked_picture(image, of.changed, NARROW),
            level=of.levels[0],
        )
        for of in example.closings
    ]
    return [row for row in (seen, gates, closed) if row]


def gate_rows(examples: Sequence[Example], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Means over the pixels of all examples, for every level.

    Keys: `level`; `gate`: its mean, near boundaries and far from them; `open`: the fraction of pixels above one half;
    `changed`: the fraction that closing it alone changes, near, far.
    """
    statistics = GateStatistics(classes)
    for example in examples:
        if example.gates is not None:
            statistics.add(example.gates, example.closings)
    return [
        {
            "level": of["level"],
            "gate": [of["mean"], *near_and_far(of)],
            "open": of["share_above_half"],
            "changed": [closed["changed_share"], *near_and_far(closed)] if closed else [None] * 3,
        }
        for of, closed in zip_longest(statistics.levels(), statistics.closings())
    ]


def seen_classes(examples: Sequence[Example], classes: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    """Names and colors of the classes that occur in the labels or predictions of the examples."""
    maps = [of for example in examples for of in (example.prediction, example.labels) if of is not None]
    there = {k for of in maps for k in np.unique(of).tolist()}
    return [entry for k, entry in enumerate(legend(classes, palette)) if k in there]


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
    file = folder / RECIPE
    if not file.is_file():
        there = "is no run folder: it holds no recipe.yaml" if folder.is_dir() else "does not exist"
        raise UserError(f"run {folder} {there}. Name what `gffnet train --out DIR` wrote.")
    if not (folder / "model" / CONFIG).is_file():
        return Run(folder, load_recorded(file), None, None)
    network, config = load_model(folder)
    return Run(folder, load_recorded(file), config, hash_weights(network))


def open_images(name: str, root: Path | None, split: str, cache: Path | None = None) -> Images:
    """Open a split of a data set; raises as `open_dataset`."""
    return Images(name, split, open_dataset(name, root, split, cache))


def scores_of_run(run: Run, images: Images | None, named: Path | None = None, device: str = "auto") -> Result | None:
    """The evaluation of a run; None if there is none and it cannot be evaluated (no images or no model).

    Raises:
        UserError: `named` is of another model, or the images have other classes.
    """
    if named is not None:
        result, best = read_result(named), run.folder / "best"
        known = {run.weights, hash_weights(load_model(best)[0]) if (best / CONFIG).is_file() else None}
        if result.scores.protocol.get("weights_sha256") not in known - {None}:
            raise UserError(
                f"--scores {named}: these are not the scores of a model in {run.folder}, whose weights have another "
                f"SHA-256. Name what `gffnet evaluate --model {run.folder} --out DIR` wrote, or leave --scores out."
            )
        return result
    scores = run.folder / SCORES_FOLDER
    places = [scores, run.folder]
    if images is not None:
        places.append(run.folder / f"{SCORES_FOLDER}_{images.name}_{images.split}")
    for folder in (path for path in places if (path / SCORES).is_file()):
        result = read_result(folder)
        protocol = result.scores.protocol
        if run.weights is None or protocol.get("weights_sha256") != run.weights:
            screen.print(f"ignored: {folder / SCORES} is not of the model now in {run.folder}", style="yellow")
        elif images is None or (protocol["dataset"], protocol.get("split")) == (images.name, images.split):
            return result
    if images is None or run.config is None:
        return None
    result = score_dataset(load(run.folder, device), images.dataset, images.name, images.split, run.config.evaluation)
    to = places[-1] if (scores / SCORES).is_file() else scores  # what is there may have taken hours
    try:
        write_result(to, result)
        screen.print(f"scores: {to}")
    except CannotWrite as error:  # the page goes elsewhere
        screen.print(f"scores: not kept: {error}", style="yellow")
    return result


def scores_of_baseline(path: Path, images: Images | None, classes: Sequence[str], device: str = "auto") -> Result:
    """The evaluation to compare with: in a folder or file, or of a run.

    Raises:
        UserError: there is none, and the run cannot be evaluated; or its classes are not `classes`.
    """
    if path.is_file() or (path / SCORES).is_file():
        result: Result | None = read_result(path)
    else:
        result = scores_of_run(open_run(path), images, device=device)
    if result is None:
        raise UserError(
            f"--baseline {path} holds no scores. Name the folder of `gffnet evaluate --model {path} --out DIR`, or "
            "give --root, so that a trained run is evaluated now."
        )
    there = list(result.scores.per_class)
    if there != list(classes):
        raise UserError(
            f"--baseline {path} is of other classes than the run: "
            f"{class_difference(there, classes, 'the baseline', 'the run')}. Only scores of the same classes can be "
            "compared."
        )
    return result


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
    history: History = ()
    """The lines of `history.jsonl`."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The content of `run.json`."""
    result: Result | None = None
    """The evaluation; if None, the page shows the last validation."""
    examples: Sequence[Example] = ()
    baseline: Scores | None = None
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
    atomic_write(path, fill("reports", "page.html.jinja", _content(report), {"signed": signed}))


def _content(report: Report) -> dict[str, Any]:
    """The variables of the template."""
    result, examples, classes, palette = report.result, report.examples, report.classes, report.palette
    validated, validation = last_validation(report.history, classes)
    scores, baseline = result.scores if result else validation, report.baseline or UNKNOWN
    paper = match(scores.protocol) if result else None
    return {
        "title": report.title,
        "lede": report.lede,
        "summary": report.summary,
        "figures": key_figures(scores, baseline),
        "validated": None if result else validated,
        "paper": f"mean IoU {paper.row.miou} % ({paper.remark})" if paper and paper.row else None,
        "baseline_name": report.baseline_name if report.baseline else None,
        "differences": protocol_differences(scores, baseline) if result and report.baseline else [],
        "class_bars": class_bars(scores, baseline, palette),
        "long": LONG,
        "detail_bars": detail_bars(scores, baseline),
        "confusion": confusion_of(result.confusion, classes) if result else None,
        "image_chart": image_chart(result.images) if result and len(result.images) > 1 else None,
        "examples": [(example, example_rows(example, palette)) for example in examples],
        "legend": seen_classes(examples, classes, palette),
        "void": any(of.labels is not None and (of.labels >= len(classes)).any() for of in examples),
        "mark": hex_color(MARK),
        "gate_rows": gate_rows(examples, classes),
        "gate_colors": ", ".join(map(hex_color, color_table()[:: 255 // 15])),
        "charts": training_charts(report.history, report.record),
        "sessions": sessions_of(report.record),
        "record": record_facts(report.record),
        "cost": report.cost,
        "protocol": protocol_rows(scores) if result else [],
        "commands": report.commands,
        "recipe": report.recipe,
    }


# ----------------------------------------------------------------------------------------------------------------------
# Gathering what is known about a run


def report_of(
    folder: Path,
    images: Images | None = None,
    scores: Path | None = None,
    baseline: Path | None = None,
    shown: int = 8,
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
    run, record = open_run(folder), read_record(folder)
    result = scores_of_run(run, images, scores, device)
    classes: Sequence[str] = ()
    palette: Palette = ()
    if (config := run.config or _best_config(folder)) is not None:
        classes, palette = config.classes, config.palette
    elif run.recipe.data.name != "folder":  # its classes are known with the model only
        known = dataset_classes(run.recipe.data.name)
        classes, palette = known.names, known.palette
    name = str(record.get("recipe") or (run.config.recipe if run.config else folder.name))
    report = Report(
        title=name,
        lede=_lede(run.recipe, record, result),
        classes=classes,
        palette=palette,
        history=read_history(folder / HISTORY),
        record=record,
        result=result,
        commands=_commands(folder, record, result),
        recipe=(folder / RECIPE).read_text(encoding="utf-8"),
    )
    other: Recipe | None = None
    if baseline is not None:
        compared = scores_of_baseline(baseline, images, classes, device).scores
        called = str(compared.protocol.get("recipe", "baseline"))
        called = f"{called} ({baseline})" if called == name else called
        report = dataclasses.replace(report, baseline=compared, baseline_name=called)
        other = _baseline_recipe(baseline, compared.protocol)
    elif run.recipe.model.fusion != "none":
        called = "the same without fusion"
        bare = dataclasses.replace(run.recipe.model, fusion="none", dense_pyramid="none")
        other = dataclasses.replace(run.recipe, model=bare)
    networks = [*([(called, other)] if other else []), (name, run.recipe)]
    cost = costs(networks, run.recipe.evaluation.crop or run.recipe.training.crop, len(classes) or None)
    return dataclasses.replace(report, examples=_examples(run, images, result, shown, device), cost=cost)


def _best_config(folder: Path) -> ModelConfig | None:
    """The config of the best network of a run; None before its first validation."""
    with suppress(UserError):
        return read_config(folder / "best", record=True)
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder; empty, with a notice, if it is damaged, and empty if there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sessions_of(record), record_facts(record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        screen.print(f"ignored: {folder / RECORD} cannot be read ({error!r})", style="yellow")
        return {}
    return record


def _lede(recipe: Recipe, record: Mapping[str, Any], result: Result | None) -> str:
    """The run in a sentence."""
    model, training = recipe.model, recipe.training
    own = (record.get("python") or {}).get("train_data")  # in place of the recipe's data
    data = f"{own} (given in Python)" if own else f"{recipe.data.name} {recipe.data.train_split}"
    parts = [model.backbone.name, *(part for part in (model.context, model.fusion) if part != "none")]
    parts += [f"{model.dense_pyramid} pyramid"] if model.dense_pyramid != "none" else []
    trained = f"{', '.join(parts).replace('_', ' ')}; trained on {data}"
    sentence = f"{trained} for {training.iterations:,} iterations of {training.batch} crops"
    if result is None:
        return f"{sentence}."
    protocol, count = result.scores.protocol, result.scores.images
    return f"{sentence}; scored on {protocol['dataset']} {protocol['split']}, {count:,} image{'s' * (count != 1)}."


def _examples(run: Run, images: Images | None, result: Result | None, count: int, device: str) -> list[Example]:
    """Example images, selected by their scores."""
    if images is None or run.config is None or count == 0:
        return []
    folder, best = run.folder, run.folder / "best"
    scored = None if result is None else result.scores.protocol.get("weights_sha256")
    if scored not in {None, run.weights} and (best / CONFIG).is_file():
        folder = best  # see `scores_of_run`: the scores are of the one or of the other
    predictor, protocol = load(folder, device), run.config.evaluation
    dataset = images_for(predictor, images.dataset)
    choices = [Choice(i, "", None) for i in evenly_spaced(len(dataset), count)]
    if result is not None and [name for name, _ in result.images] == [dataset.name(i) for i in range(len(dataset))]:
        choices, protocol = choose(result.images, count), protocol_of(result.scores, SCORES)
    return [
        make_example(predictor, dataset[choice.sample], protocol, choice)
        for choice in track(choices, "looking at images")
    ]


def _baseline_recipe(baseline: Path, protocol: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a baseline: that of the run, or the one that ships by its name."""
    for folder in (baseline, baseline.parent):
        with suppress(UserError):
            return load_recorded(folder / RECIPE)
    with suppress(UserError):
        return load_recipe(str(protocol.get("recipe")))
    return None


def _commands(folder: Path, record: Mapping[str, Any], result: Result | None) -> list[Command]:
    """What makes the run, its scores and this page again."""
    lines = dict.fromkeys(session["command"] for session in record.get("sessions", []) if session.get("command"))
    commands = [Command("Trained by", line) for line in lines]
    if result is None:
        return commands
    protocol, recipe = result.scores.protocol, protocol_of(result.scores, SCORES)
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
