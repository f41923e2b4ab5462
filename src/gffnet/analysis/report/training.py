"""The training of a run as a report shows it: curves, and what its record says of every session."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from gffnet.analysis.charts import Chart, Line, draw

History = Sequence[Mapping[str, Any]]


class Session(NamedTuple):
    """One start of a run, in words."""

    started: str
    took: str
    iterations: str
    outcome: str
    speed: str
    memory: str


def training_charts(history: History, record: Mapping[str, Any]) -> list[Chart]:
    """Loss, validation and learning rate over iterations, with a mark where the run went on after an interruption."""
    resumed = [session["from_iteration"] for session in record.get("sessions", []) if session["from_iteration"]]
    losses = [_line(history, "loss", "loss"), _line(history, "auxiliary loss", "auxiliary_loss")]
    scores = [
        _line(history, "mean IoU", "miou", 100, dots=True),
        _line(history, "pixel accuracy", "pixel_accuracy", 100, dots=True),
    ]
    end = max((line["iteration"] for line in history), default=None)
    charts = [
        draw("Training loss", "iteration", "cross entropy", losses, None, end, resumed),
        draw("Validation", "iteration", "percent", scores, 100, end, resumed),
        draw("Learning rate", "iteration", "rate", [_line(history, "rate", "learning_rate")], None, end, resumed),
        draw("Gradient", "iteration", "norm", [_line(history, "norm", "gradient_norm")], None, end, resumed),
    ]
    return [chart for chart in charts if chart is not None]


def last_validation(history: History, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of the newest validation, in the form of those of an evaluation; none if there was none."""
    lines = [line for line in history if "miou" in line]
    if not lines:
        return {}
    last = lines[-1]
    scores = {key: last[key] for key in ("iteration", "miou", "pixel_accuracy") if key in last}
    values = last.get("iou", [])
    return {**scores, "per_class": dict(zip(classes, values, strict=True)) if len(values) == len(classes) else {}}


def sessions_of(record: Mapping[str, Any]) -> list[Session]:
    """Every start of the run, oldest first."""
    return [
        Session(
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
    """Data, machine, number format, versions and commit; where sessions differ, each of their values."""
    sessions = record.get("sessions", [])
    facts = [
        ("Data", _data(record.get("data") or {})),
        ("Parameters", f"{record['parameters']:,}" if record.get("parameters") else ""),
        ("Machine", _each(_machine(session) for session in sessions)),
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
    """Bytes: `1.7 GB`."""
    return f"{memory / 1e9:.1f} GB" if memory >= 1e8 else f"{memory / 1e6:.0f} MB"


def _line(history: History, name: str, key: str, factor: float = 1.0, dots: bool = False) -> Line:
    """One value of the history over iterations; an auxiliary loss that is 0 throughout is none."""
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


def _machine(session: Mapping[str, Any]) -> str:
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
