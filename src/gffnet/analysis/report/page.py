"""The report of a run: one HTML file that holds everything it shows and loads nothing.

`Report` is what is known about a run; `write_report` fills the page `page.html.jinja` beside this module. The page
follows the reader's light or dark setting, fits a phone, and prints. Whatever is unknown is left out of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from gffnet.analysis.figures import colour_table
from gffnet.analysis.gate_statistics import gate_rows
from gffnet.analysis.report.confusion import confusion_of
from gffnet.analysis.report.examples import Example, example_content, image_chart, seen_classes
from gffnet.analysis.report.scores import (
    class_bars,
    detail_bars,
    differences,
    key_figures,
    paper_remark,
    protocol_rows,
    signed,
)
from gffnet.analysis.report.training import last_validation, record_facts, sessions_of, training_charts
from gffnet.data.colour import MARK, Palette
from gffnet.evaluation.images import ImageScore
from gffnet.files import write_whole
from gffnet.templates import fill

LONG = 25
"""Classes that one column of the page holds; more are laid out beside one another."""


class Command(NamedTuple):
    """A line to type, and what it does."""

    does: str
    line: str


@dataclass(frozen=True, eq=False)
class Report:
    """What is known about a run."""

    title: str
    classes: Sequence[str]
    palette: Palette
    lede: str = ""
    """What was trained on what, in a sentence."""
    summary: Sequence[tuple[str, str]] = ()
    """Label and value of what else the reader should know first."""
    history: Sequence[Mapping[str, Any]] = ()
    """The lines of `history.jsonl`."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The content of `run.json`."""
    scores: Mapping[str, Any] | None = None
    """As `gffnet.evaluation` returns them; without them the page shows those of the last validation."""
    images: Sequence[tuple[str, ImageScore]] = ()
    """The scores of every image."""
    confusion: Int64[np.ndarray, "k k_and_none"] | None = None
    examples: Sequence[Example] = ()
    baseline: Mapping[str, Any] | None = None
    """Scores of the network to compare with, of the same classes."""
    baseline_name: str = "baseline"
    cost: Sequence[Mapping[str, Any]] = ()
    """Rows of `gffnet.analysis.cost.costs`, the first the one that the others are compared with."""
    commands: Sequence[Command] = ()
    """How all of it is made again."""
    recipe: str = ""
    """The recipe's text."""


def write_report(path: Path, report: Report) -> None:
    """Write the page; it appears whole or not at all.

    Raises:
        CannotWrite: the file cannot be written.
    """
    page = fill("analysis/report", "page.html.jinja", _content(report), {"signed": signed})
    write_whole(path, page.encode())


def _content(report: Report) -> dict[str, Any]:
    """What the page's template fills in."""
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
    """What the template fills in about images and gates."""
    gated = [example for example in report.examples if example.gates]
    return {
        "examples": [example_content(example, report.palette) for example in report.examples],
        "legend": seen_classes(report.examples, report.classes, report.palette),
        "void": any(e.labels is not None and (e.labels >= len(report.classes)).any() for e in report.examples),
        "mark": "#{:02x}{:02x}{:02x}".format(*MARK),
        "gate_levels": max((len(example.gates or ()) for example in gated), default=0),
        "gate_rows": gate_rows([(e.prediction, e.gates, e.closed or ()) for e in gated if e.gates]),
        "gate_colours": ", ".join("#{:02x}{:02x}{:02x}".format(*c) for c in colour_table()[:: 255 // 15]),
    }
