"""The report of a run: one HTML file that holds everything it shows and loads nothing.

`Report` is what is known about a run; `write_report` fills the page `report.html.jinja` beside this module. The page
follows the reader's light or dark setting, fits a phone, and prints. Whatever is unknown is left out of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from gffnet.analysis.charts import Chart, Line, draw
from gffnet.analysis.figures import colour_table
from gffnet.analysis.gate_statistics import gate_rows
from gffnet.analysis.pictures import gate_picture, label_picture, marked_picture, photo
from gffnet.data.colour import MARK, Palette, legend
from gffnet.files import write_whole

ClosedGate = tuple[int, Bool[np.ndarray, "h w"], float]
"""A level, where closing its gate changes the prediction, and the share of such pixels."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image, and what the network makes of it."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"] | None
    """The ground truth, 255 where there is none; `None`: it is not known at all."""
    prediction: UInt8[np.ndarray, "h w"]
    gates: tuple[Float[np.ndarray, "h w"], ...] | None = None
    """`G_1..G_L` at the image's size, finest first; `None` for a network without gates."""
    closed: Sequence[ClosedGate] | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """What is known about a run."""

    title: str
    summary: Sequence[tuple[str, str]]
    """Label and value of what the reader should know first: recipe, hardware, time, version."""
    history: Sequence[Mapping[str, Any]]
    """The lines of `history.jsonl`."""
    scores: Mapping[str, Any] | None
    """As `gffnet.evaluation` returns them."""
    examples: Sequence[Example]
    classes: Sequence[str]
    palette: Palette
    baseline: Mapping[str, Any] | None = None
    """Scores of the network to compare with."""
    baseline_name: str = "baseline"
    cost: Sequence[Mapping[str, Any]] = ()
    """Rows of `gffnet.analysis.cost.costs`, the first the one that the others are compared with."""


def write_report(path: Path, report: Report) -> None:
    """Write the page; it appears whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("gffnet", "analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.jinja")
    write_whole(path, page.render(_content(report)).encode())


def _content(report: Report) -> dict[str, Any]:
    """What the page's template fills in."""
    scores, baseline = report.scores or {}, report.baseline or {}
    levels = max((len(example.gates or ()) for example in report.examples), default=0)
    return {
        "title": report.title,
        "summary": report.summary,
        "figures": _key_figures(scores, baseline, report.baseline_name),
        "charts": [chart for chart in (_loss_chart(report.history), _score_chart(report.history)) if chart],
        "class_rows": _class_rows(report, scores, baseline),
        "baseline_name": report.baseline_name if baseline else None,
        "examples": [_example(example, report.palette) for example in report.examples],
        "legend": legend(report.classes, report.palette),
        "gate_levels": levels,
        "gate_rows": gate_rows([(e.prediction, e.gates, e.closed or ()) for e in report.examples if e.gates]),
        "gate_colours": ", ".join("#{:02x}{:02x}{:02x}".format(*c) for c in colour_table()[:: 255 // 15]),
        "mark": "#{:02x}{:02x}{:02x}".format(*MARK),
        "cost": report.cost,
        "protocol": _protocol(scores),
    }


def _key_figures(scores: Mapping[str, Any], baseline: Mapping[str, Any], name: str) -> list[tuple[str, str, str]]:
    """The large figures at the top: label, value, remark."""
    figures = []
    for key, label in (("miou", "mean IoU"), ("pixel_accuracy", "pixel accuracy"), ("boundary_f", "boundary F")):
        value, other = scores.get(key), baseline.get(key)
        if isinstance(value, (int, float)):
            remark = f"{100 * (value - other):+.1f} points over {name}" if isinstance(other, (int, float)) else ""
            figures.append((label, f"{value:.1%}", remark))
    if "images_per_second" in scores:
        speed = f"{scores['images_per_second']:.3g}"
        figures.append(("images per second", speed, "evaluation, reading files included"))
    return figures


def _loss_chart(history: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Training losses over iterations."""
    lines = [line for line in history if "loss" in line]
    curves = [Line("loss", [(line["iteration"], line["loss"]) for line in lines])]
    if any(line.get("auxiliary_loss") for line in lines):
        curves.append(Line("auxiliary loss", [(line["iteration"], line["auxiliary_loss"]) for line in lines]))
    return draw("Training loss", "iteration", "cross entropy", curves)


def _score_chart(history: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Validation scores over iterations, in percent."""
    lines = [line for line in history if "miou" in line]
    curves = [
        Line(name, [(line["iteration"], 100 * line[key]) for line in lines if key in line], dots=True)
        for name, key in (("mean IoU", "miou"), ("pixel accuracy", "pixel_accuracy"))
    ]
    return draw("Validation", "iteration", "percent", curves, top=100)


def _class_rows(report: Report, scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """IoU of every class, with its colour and the baseline's."""
    per_class, others = scores.get("per_class"), baseline.get("per_class", {})
    if not per_class:
        return []
    rows = []
    for name, colour in legend(report.classes, report.palette):
        iou, other = per_class.get(name), others.get(name)
        gain = 100 * (iou - other) if iou is not None and other is not None else None
        rows.append({"name": name, "colour": colour, "iou": iou, "baseline": other, "gain": gain})
    return rows


def _protocol(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the scores were measured with, and on how much."""
    rows = {**scores.get("protocol", {}), **{key: scores[key] for key in ("images", "pixels") if key in scores}}
    if rows.get("crop") is None:
        rows.pop("overlap", None)  # of windows, of which there are none
    return [(key.replace("_", " "), _readable(key, value)) for key, value in rows.items()]


def _readable(key: str, value: Any) -> str:
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


def _example(example: Example, palette: Palette) -> dict[str, Any]:
    """The pictures of one example: caption, alternative text and data URI of each, in rows."""
    image, name = example.image, example.name
    seen = [("image", f"The image {name}.", photo(image))]
    if example.labels is not None:
        seen.append(("ground truth", f"Ground truth of {name}.", label_picture(example.labels, palette)))
    seen.append(("prediction", f"Predicted classes of {name}.", label_picture(example.prediction, palette)))
    if example.labels is not None:
        known = example.labels < len(palette)
        wrong = known & (example.labels != example.prediction)
        share = float(wrong.sum() / max(int(known.sum()), 1))
        caption = f"wrong: {share:.1%}"
        seen.append((caption, f"Wrongly classified pixels of {name}, {share:.1%}.", marked_picture(image, wrong)))
    gates = [
        (level, float(gate.mean()), f"Gate map G_{level} of {name}: mean {gate.mean():.2f}.", gate_picture(gate))
        for level, gate in enumerate(example.gates or (), start=1)
    ]
    closed = [
        (
            level,
            share,
            f"Pixels of {name} that change with G_{level} closed: {share:.1%}.",
            marked_picture(image, changed),
        )
        for level, changed, share in example.closed or ()
    ]
    return {"name": name, "seen": seen, "gates": gates, "closed": closed}
