"""Scores as a report shows them: key figures, bars beside a baseline's, and the protocol, with what differs in it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gffnet.data.colour import Palette, legend
from gffnet.evaluation.paper import match
from gffnet.evaluation.tables import WIDTH

LEAST = 0.05
"""Points of difference that are shown as one."""

_COMPARED = ("dataset", "split", "crop", "overlap", "scales", "flip", "labels_at", "absent")
"""Parts of a protocol that scores must share to be compared."""


class Figure(NamedTuple):
    """A large number at the top."""

    label: str
    value: str
    remark: str = ""
    gain: float | None = None
    """Points over the baseline."""


class Bar(NamedTuple):
    """One score in `[0, 1]`, and the baseline's; `None` where there is nothing to score."""

    label: str
    value: float | None
    other: float | None = None
    colour: str | None = None
    """Of the class."""
    amount: str = ""
    """On how much it was measured."""

    @property
    def gain(self) -> float | None:
        """Points over the baseline."""
        return None if self.value is None or self.other is None else 100 * (self.value - self.other)


class Bars(NamedTuple):
    """Scores of one kind."""

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


def key_figures(scores: Mapping[str, Any], baseline: Mapping[str, Any], name: str) -> list[Figure]:
    """What a reader asks for first, with the difference to the baseline called `name`."""
    figures = []
    for label, of in _SUMMARY.items():
        value, other = of(scores), of(baseline)
        if value is not None:
            gain = None if other is None else 100 * (value - other)
            remark = "" if gain is None else f"{signed(gain)} points over {name}"
            figures.append(Figure(label, f"{value:.1%}".replace("%", " %"), remark, gain))
    if scores.get("images_per_second"):
        figures.append(Figure("images per second", f"{scores['images_per_second']:.3g}", "files read and scored"))
    return figures


def class_bars(scores: Mapping[str, Any], baseline: Mapping[str, Any], palette: Palette) -> Bars | None:
    """IoU of every class."""
    per_class, others = scores.get("per_class"), baseline.get("per_class", {})
    if not per_class:
        return None
    rows = [Bar(name, per_class[name], others.get(name), colour) for name, colour in legend(list(per_class), palette)]
    missing = any(row.value is None for row in rows)
    note = "A dash: the class occurs in neither labels nor predictions." if missing else ""
    return Bars("classes", "By class", note, "class", "IoU", rows)


def detail_bars(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Bars]:
    """What no mean over pixels shows: boundaries, distances to them, sizes of objects."""
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
            "F of boundary pixels: one is met if the other map's boundary of the class lies within the width.",
            "width",
            "F",
            [
                Bar(f"{width} px", of["mean"], baseline.get("boundary_f", {}).get(width, {}).get("mean"))
                for width, of in scores.get("boundary_f", {}).items()
            ],
        ),
    ]
    return [kind for kind in kinds if kind.rows]


def protocol_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the scores were measured with, and on how much."""
    rows = {**scores.get("protocol", {}), **{key: scores[key] for key in ("images", "pixels") if key in scores}}
    if rows.get("crop") is None:
        rows.pop("overlap", None)  # of windows, of which there are none
    return [(key.replace("_", " "), readable(key, value)) for key, value in rows.items()]


def paper_remark(scores: Mapping[str, Any]) -> str | None:
    """The paper's figure that may stand beside ours: same recipe, same protocol; else none."""
    found = match(scores.get("protocol", {}))
    return None if found.row is None else f"mean IoU {found.row.miou} % ({found.remark})"


def differences(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """In what the protocols of two scores differ, where that makes them hard to compare."""
    ours, theirs = scores.get("protocol", {}), baseline.get("protocol", {})
    keys = [key for key in _COMPARED if not (key == "overlap" and ours.get("crop") is None is theirs.get("crop"))]
    told = [_difference(key, ours.get(key), theirs.get(key)) for key in keys]
    told += [_difference(key, scores.get(key), baseline.get(key)) for key in ("images", "pixels")]
    return [text for text in told if text]


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


def signed(gain: float) -> str:
    """Points with their sign; a difference that is not shown as one is 0.0."""
    return "0.0" if abs(gain) < LEAST else f"{gain:+.1f}".replace("-", "−")


def _boundary_f(scores: Mapping[str, Any]) -> float | None:
    mean: float | None = scores.get("boundary_f", {}).get(WIDTH, {}).get("mean")
    return mean


_SUMMARY: Mapping[str, Any] = {
    "mean IoU": lambda scores: scores.get("miou"),
    "pixel accuracy": lambda scores: scores.get("pixel_accuracy"),
    "mean accuracy": lambda scores: scores.get("mean_accuracy"),
    f"boundary F, {WIDTH} px": _boundary_f,
}


def _banded(scores: Mapping[str, Any], baseline: Mapping[str, Any], key: str, counted: str) -> list[Bar]:
    """Bars of parts that reach from one number to another, each named or called after its reach."""
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
    """In pixels; what does not break over lines stays legible in a narrow column."""
    if end is None:
        return f"over {start:,}\N{NO-BREAK SPACE}px"
    return f"{start:,}–{end:,}\N{NO-BREAK SPACE}px" if start else f"to {end:,}\N{NO-BREAK SPACE}px"


def _sizes(scores: Mapping[str, Any]) -> str:
    """From where to where sizes reach, in words."""
    parts = scores.get("iou_by_size", [])
    return ", ".join(f"{part['name']} {_reach(part['from'], part['to'])}" for part in parts)


def _difference(key: str, here: Any, there: Any) -> str:
    """One difference in words; empty where there is none."""
    same = _plain(here) == _plain(there)
    return "" if same else f"{key.replace('_', ' ')}: {readable(key, here)} here, {readable(key, there)} there"


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
