"""Line charts as coordinates, for a template to draw as SVG in the colours of its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 28, 14, 50
"""Margins around the plot, in the same units."""

MOST_POINTS = 120
"""Longer curves are drawn as the means of so many equal pieces."""


class Line(NamedTuple):
    """A named curve."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    """Whether every point is marked: for few points."""
    ends: bool = True
    """Whether its last value is where it has come to, and told."""


class Tick(NamedTuple):
    """A place on an axis, and the number that stands there."""

    place: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line in the units of the drawing."""

    name: str
    path: str
    """`x,y x,y ...`."""
    dots: list[tuple[float, float]]
    last: str
    """The last value, as text; empty where it says no more than the others."""


@dataclass(frozen=True)
class Chart:
    """All that a drawing needs, in its own units: x to the right, y down."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    marks: list[float]
    """Places on the x axis that something happened at."""
    description: str
    """The chart in words, for those who do not see it."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def draw(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    top: float | None = None,
    end: float | None = None,
    marks: Sequence[float] = (),
) -> Chart | None:
    """The chart of some lines; `None` where there is no point to draw.

    Args:
        title: what it is of.
        x_label: of the axis from 0 to `end`, or to the greatest x.
        y_label: of the axis from 0 to `top`, or to the greatest y.
        lines: those without points are left out.
        top: see `y_label`.
        end: see `x_label`.
        marks: x of places to mark, as far as they lie in the chart.
    """
    lines = [line._replace(points=[p for p in line.points if all(map(isfinite, p))]) for line in lines]
    lines = [line._replace(points=thinned(line.points)) for line in lines if line.points]
    if not lines:
        return None
    x_ticks = ticks(end or max(x for line in lines for x, _ in line.points))
    y_ticks = ticks(top or max(y for line in lines for _, y in line.points))
    x_end, y_end = x_ticks[-1], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / x_end
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / y_end
        return round(across, 1), round(down, 1)

    curves = []
    for line in lines:
        placed = [place(x, y) for x, y in line.points]
        path = " ".join(f"{x},{y}" for x, y in placed)
        curves.append(Curve(line.name, path, placed if line.dots else [], f"{line.points[-1][1]:.3g}" * line.ends))
    changes = "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return Chart(
        title,
        x_label,
        y_label,
        [Tick(place(x, 0)[0], f"{x:,g}") for x in x_ticks],
        [Tick(place(0, y)[1], f"{y:g}") for y in y_ticks],
        curves,
        [place(x, 0)[0] for x in marks if 0 <= x <= x_end],
        f"{title} over {x_label}s, up to {lines[0].points[-1][0]:,g}: {changes}.",
    )


def ticks(end: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to `end` or just beyond, some `about` steps of 1, 2 or 5 times a power of ten."""
    if end <= 0:
        return [0.0, 1.0]
    power = 10.0 ** floor(log10(end / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * about >= end * (1 - 1e-9))
    return [round(i * step, 12) for i in range(ceil(end / step - 1e-9) + 1)]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points: the points, or the means of equal pieces of them, each at its last place."""
    size = ceil(len(points) / MOST_POINTS)
    pieces = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    return [(piece[-1][0], sum(y for _, y in piece) / len(piece)) for piece in pieces]
