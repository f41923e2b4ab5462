"""The scores of closed gates as tables, and the paper's observation in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from gffnet.analysis.ablation.observation import HOLDS, IN_PART, LEAST_LOSS, NOT, lower_levels
from gffnet.analysis.ablation.run import name_of
from gffnet.analysis.figures import held
from gffnet.evaluation.tables import DASH, WIDTH, Table, percent

_MEANS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}


def title_of(record: Mapping[str, Any]) -> str:
    """Whose gates were closed on what."""
    protocol, images, of = record["protocol"], record["images"], record["of_images"]
    counted = f"{images} image{'s' * (images != 1)}" + (f" of {of}" if images < of else "")
    return (
        f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {counted}: gates {held(protocol['value'])}"
    )


def all_tables(record: Mapping[str, Any]) -> list[Table]:
    """All tables, the conclusion last."""
    return [closings(record), by_class(record), by_distance(record), by_size(record), observation(record)]


def closings(record: Mapping[str, Any]) -> Table:
    """Every closing: its scores, and what it loses."""
    learned = record["learned"]
    headings = ["gates"]
    first = ["as learned"]
    for key, name in _MEANS.items():
        headings += [name, "change"]
        first += [percent(learned[key], 2), DASH]
    headings += [f"boundary F, {WIDTH} px", "change", "sum of two"]
    first += [percent(learned["boundary_f"][WIDTH]["mean"], 2), DASH, DASH]
    alone = {of["levels"][0]: of["difference"]["miou"] for of in record["closings"] if len(of["levels"]) == 1}
    rows = [first]
    for of in record["closings"]:
        scores, less = of["scores"], of["difference"]
        row = [name_of(of["levels"])]
        for key in _MEANS:
            row += [percent(scores[key], 2), _points(less[key])]
        row += [percent(scores["boundary_f"][WIDTH]["mean"], 2), _points(less["boundary_f"][WIDTH])]
        parts = [alone[level] for level in of["levels"]]
        rows.append([*row, _points(sum(parts)) if len(parts) > 1 and None not in parts else DASH])
    note = "Sum of two: the changes of mIoU that each of the two makes alone, added."
    return Table(f"With gates {held(record['protocol']['value'])}, percent; changes, points", headings, rows, note)


def observation(record: Mapping[str, Any]) -> Table:
    """What every gate serves, and whether the paper's observation holds."""
    of = record["observation"]
    headings = ["gate", "near", "far", "lean", "95 % interval", "small", "large", "serves"]
    rows = [
        [
            f"G{gate['level']}",
            *(_points(gate[key], "") for key in ("loss_near", "loss_far")),
            DASH if gate["lean"] is None else f"{gate['lean']:.2f}",
            _interval(gate["interval"]),
            *(_points(gate[key], "") for key in ("loss_small", "loss_large")),
            gate["serves"],
        ]
        for gate in of["gates"]
    ]
    note = (
        f"Points of pixel accuracy lost near: {of['near']}; far: {of['far']}; small: in {of['small']}; large: in "
        f"{of['large']}. Lean: near / (near + far), 1 is a loss near boundaries alone.\n\n{verdict(record)}"
    )
    return Table("What each gate serves", headings, rows, note)


def verdict(record: Mapping[str, Any]) -> str:
    """The paper's observation, and whether it holds here, in a few sentences."""
    of = record["observation"]
    lower = [f"G{level}" for level in lower_levels(len(of["gates"]))]
    upper = [f"G{gate['level']}" for gate in of["gates"] if f"G{gate['level']}" not in lower]
    said = f"The paper's observation, {_and(lower)} serve boundaries and {_and(upper)} large patterns, "
    apart = of["lean_apart"]
    how = "" if apart is None else f" Mean lean, lower less upper gates: {apart:+.2f} {_interval(of['interval'])}."
    why = {
        HOLDS: "every gate does so.",
        IN_PART: "not every gate does so, but the lower ones serve boundaries more than the upper ones do.",
        NOT: "the upper gates serve boundaries more than the lower ones do.",
    }.get(of["verdict"], "too little is lost, or there are too few images, to tell the two apart.")
    small = [f"G{gate['level']}" for gate in of["gates"] if gate["serves"].startswith("too small")]
    caveat = f" {_and(small)} lose{'s' * (len(small) == 1)} less than {100 * LEAST_LOSS:g} points." if small else ""
    return f"{said}{of['verdict']} here: {why}{how}{caveat}"


def by_class(record: Mapping[str, Any]) -> Table:
    """The IoU of every class, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [name, percent(iou, 2), *(_points(of["difference"]["per_class"][name]) for of in alone)]
        for name, iou in record["learned"]["per_class"].items()
    ]
    return _changes("IoU by class", "class", alone, rows)


def by_distance(record: Mapping[str, Any]) -> Table:
    """Pixel accuracy by distance to a boundary, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [
            range_of(band["from"], band["to"]),
            percent(band["pixel_accuracy"], 2),
            *(_points(of["difference"]["iou_by_distance"][i]["pixel_accuracy"]) for of in alone),
        ]
        for i, band in enumerate(record["learned"]["iou_by_distance"])
    ]
    return _changes("Pixel accuracy by distance to a boundary", "distance", alone, rows)


def by_size(record: Mapping[str, Any]) -> Table:
    """IoU by size of object, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [
            f"{size['name']}: {range_of(size['from'], size['to'])}",
            percent(size["miou"], 2),
            *(_points(of["difference"]["iou_by_size"][i]["miou"]) for of in alone),
        ]
        for i, size in enumerate(record["learned"]["iou_by_size"])
    ]
    return _changes("IoU by size of object", "size", alone, rows)


def range_of(start: float, end: float | None) -> str:
    """From where to where, in pixels."""
    return f"above {start:,} px" if end is None else f"{start:,} to {end:,} px"


def _alone(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [of for of in record["closings"] if len(of["levels"]) == 1]


def _changes(title: str, what: str, alone: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> Table:
    """A table of scores as learned and their changes."""
    headings = [what, "as learned", *(name_of(of["levels"]) for of in alone)]
    return Table(f"{title}, percent; changes, points", headings, rows)


def _interval(interval: Sequence[float] | None) -> str:
    return DASH if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _points(value: float | None, sign: str = "+") -> str:
    """A change in points; `sign`: what stands before those above 0."""
    return DASH if value is None else f"{round(100 * value, 2) + 0.0:{sign}.2f}"  # + 0.0: no -0.00
