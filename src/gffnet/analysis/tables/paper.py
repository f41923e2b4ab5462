"""The paper's tables with scores of ours beside them: same recipe, same protocol, or a dash and the reason.

A run whose settings are not those of its recipe, such as fewer iterations, is no run of the paper's row either.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gffnet.analysis.cost import costs
from gffnet.analysis.tables.scores import Protocol, Scored
from gffnet.analysis.tables.section import Line, Score, Section, Spread, compared, gains, seed_notes, spreads
from gffnet.evaluation.paper import PaperTable, PrintedRow, paper_tables
from gffnet.recipe import load_recipe

SIZES = ((512, 512), (768, 768))
"""That costs are counted at: the size that the paper names, and the one that its figures fit."""

Progress = Callable[[Iterable[Any]], Iterable[Any]]
Costs = Mapping[str, Mapping[str, float]]
"""Parameters in millions and multiply-accumulates in 10^9, by recipe and score."""

_KEYS = {"miou": ("miou",), "pixel_accuracy": ("pixel_accuracy",)}
_LABELS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
_COST = (
    Score("params", "params (M)", difference=False),
    Score("gflops", "GFLOPs, paper", paper_only=True),
    *(Score(f"gmac_{h}", f"GMAC at {h}x{w}", ours_only=True) for h, w in SIZES),
    Score("executed", f"executed at {SIZES[-1][0]}x{SIZES[-1][1]}", ours_only=True),
)
_REMARKS = {
    3: "GMAC: multiply-accumulates of the network written out plainly, in 10^9; executed: with the exact "
    "rearrangements of this project. The paper's GFLOPs, for 512x512 as it says, fit multiply-accumulates at 768x768.",
    5: "Scores of the test server, which no evaluation of ours can have.",
    6: "The paper does not say whether this is multi-scale.",
    7: "Scores of the test server, which no evaluation of ours can have.",
    8: "The paper does not say whether this is multi-scale.",
    9: "The paper does not say whether this is multi-scale.",
}


def paper_sections(scored: Sequence[Scored], cost: Costs) -> list[Section]:
    """Tables 1 to 9, with the scores among `scored` that may stand in them, and `cost` as `table3_cost` counts it."""
    return [_section(table, scored, cost) for table in paper_tables()]


def table3_cost(progress: Progress = lambda items: items) -> Costs:
    """What the networks of Table 3 cost, counted anew; `progress` is handed the sizes to go through."""
    (table,) = [table for table in paper_tables() if table.number == 3]
    recipes = [(line.row.recipe, load_recipe(line.row.recipe)) for line in table.rows if line.row]
    found: dict[str, dict[str, float]] = {name: {} for name, _ in recipes}
    for size in progress(SIZES):
        for row in costs(recipes, size):
            own = found[row["recipe"]]
            own["params"] = row["params"] / 1e6
            own[f"gmac_{size[0]}"] = row["macs"] / 1e9
            own["executed"] = row["executed_macs"] / 1e9
    return found


def _section(table: PaperTable, scored: Sequence[Scored], cost: Costs) -> Section:
    """One table."""
    lines: list[Line] = []
    baseline: list[Line] = []
    for printed in table.rows:
        own = _lines(printed, scored)
        if table.number == 3 and printed.row:
            of = {key: Spread((value,)) for key, value in cost[printed.row.recipe].items()}
            own = [replace(line, ours={**line.ours, **of}) for line in own]
        if printed.baseline:
            baseline = own
        elif printed.row and baseline and _scales(printed) == _scales(_of(table, baseline[0])):
            own = [_with_gains(line, baseline) for line in own]
        lines += own
    classes = list(table.rows[-1].per_class)
    present = {key for line in lines for key in line.paper}
    far = table.number != 3  # which has columns enough
    scores = [Score(key, label, table.digits, difference=far) for key, label in _LABELS.items() if key in present]
    if table.number == 3:
        scores += _COST
    by_class = [Score(name, name) for name in classes]
    title = f"Table {table.number}. {table.title}"
    remark = _REMARKS.get(table.number, "")
    return Section(f"table{table.number}", title, [*by_class, *scores], lines, remark, bool(classes))


def _lines(printed: PrintedRow, scored: Sequence[Scored]) -> list[Line]:
    """A printed row with ours: a line for every protocol, of which there are several only where the paper is silent."""
    row = printed.row
    paper = {**printed.per_class, **printed.scores}
    if row is None:
        return [Line(printed.method, printed.group, paper=paper)]
    near = [run for run in scored if run.found.nearest is row]
    notes = [f"{run.path}: {_reason(run)}" for run in near if not run.in_paper]
    usable = [run for run in near if run.in_paper]
    protocols: dict[Protocol, list[Scored]] = {}
    for run in usable:
        protocols.setdefault(run.measured, []).append(run)
    base = Line(printed.method, printed.group, row.recipe, paper=paper, notes=tuple(notes))
    if not protocols:
        return [base]
    keys = {**{name: ("per_class", name) for name in printed.per_class}, **_KEYS}
    return [
        replace(
            base,
            method=printed.method + (f", {measured[2]}" if row.scales is None else ""),
            protocol=", ".join(measured),
            ours=spreads(runs, keys),
            seeds=tuple(run.seed for run in runs),
            notes=(*notes, *seed_notes(runs)),
        )
        for measured, runs in protocols.items()
    ]


def _reason(run: Scored) -> str:
    """Why a run does not stand in the row of its recipe."""
    if run.found.row is None:
        return run.found.remark
    return f"its settings are not those of {run.name}: {', '.join(run.changes)}"


def _with_gains(line: Line, baseline: Sequence[Line]) -> Line:
    """A line with what it gains over the baseline, ours over ours by the same protocol."""
    same = [other for other in baseline if other.protocol == line.protocol]
    line = replace(line, paper_gain=gains(line.paper, baseline[0].paper))
    return compared(line, same[0]) if same else line


def _of(table: PaperTable, line: Line) -> PrintedRow:
    """The printed row of a line."""
    return next(row for row in table.rows if row.row and row.row.recipe == line.recipe)


def _scales(printed: PrintedRow) -> tuple[float, ...] | None:
    return printed.row.scales if printed.row else None
