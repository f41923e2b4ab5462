"""Scores to fill tables with: what `gffnet evaluate --out` wrote, and what the run folder says of how they came."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import hypot, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import yaml

from gffnet.data.catalog import dataset_classes, thin_classes
from gffnet.errors import UserError
from gffnet.evaluation.paper import Match, PaperTable, PrintedRow, match, paper_rows, paper_tables
from gffnet.evaluation.results import SCORES, read_result
from gffnet.files import atomic_write
from gffnet.recipe import ModelRecipe, Recipe, load_recipe, recipe_from_mapping, recipe_names
from gffnet.reports.cost import costs
from gffnet.templates import fill
from gffnet.training.record import RECORD
from gffnet.training.run_folder import differences

_ABOVE = 3
"""Folders above the scores that are looked in for the run that they are of."""
_NO_MATTER = {
    "seed",
    "precision",
    "training.workers",
    "training.init_from",
    "training.validate_every",
    "training.checkpoint_every",
    "training.keep_every",
    "training.compile",
    "training.device_batch",
}
"""What a run may have otherwise than its recipe and still be a run of it; its evaluation is told by the protocol."""

Protocol = tuple[str, ...]
"""What must be the same for scores to be compared, in words."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One evaluation of one network."""

    path: Path
    """Of its `scores.json`."""
    scores: Mapping[str, Any]
    recipe: Recipe | None
    """What it was trained by; None: neither a run folder nor the package knows."""
    seed: int | None
    """None: the run folder is not there to tell."""
    changes: tuple[str, ...]
    """What the run has otherwise than the recipe that it is called after, such as `training.iterations 2000`."""

    @property
    def name(self) -> str:
        """The recipe's."""
        return str(self.scores["protocol"].get("recipe"))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """As `scores.json` holds it."""
        protocol: Mapping[str, Any] = self.scores["protocol"]
        return protocol

    @property
    def found(self) -> Match:
        """The paper's row that it may stand in by recipe and protocol, or why there is none."""
        return match(self.protocol)

    @property
    def in_paper(self) -> bool:
        """Whether it stands in a row of the paper: the settings are the recipe's, too."""
        return self.found.row is not None and not self.changes

    @property
    def measured(self) -> Protocol:
        """The protocol in words: data set and split, window, scales, mirroring."""
        get = self.protocol.get
        crop, scales = get("crop"), " ".join(f"{scale:g}" for scale in get("scales") or [1.0])
        window = f"window {crop[0]}x{crop[1]}, overlap {get('overlap'):.2g}" if crop else "whole images"
        scale = "single scale" if scales == "1" else f"scales {scales}"
        return f"{get('dataset')} {get('split')}", window, scale, "mirrored" if get("flip") else "not mirrored"


def find_scores(paths: Sequence[Path]) -> list[Scored]:
    """The scores in files and folders, which are searched to any depth; the same weights by the same protocol once.

    Raises:
        UserError: a path does not exist or holds no scores, or a file is damaged.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} does not exist: give a folder that `gffnet evaluate --out` wrote, or one above it."
            )
        found = sorted(path.rglob(SCORES)) if path.is_dir() else [path]
        if not found:
            raise UserError(
                f"{path} holds no {SCORES}, at whatever depth. Score the run first: gffnet evaluate --model {path} "
                f"--dataset NAME --root DIR --out {path / 'scores'}."
            )
        files.update(dict.fromkeys(found))
    scored: dict[tuple[Any, ...], Scored] = {}
    for file in files:
        one = _read(file)
        scored.setdefault((one.protocol.get("weights_sha256", file), one.measured), one)
    return list(scored.values())


def _read(path: Path) -> Scored:
    """The scores in a file."""
    scores = read_result(path).scores
    name = scores["protocol"].get("recipe")
    shipped = load_recipe(name) if name in recipe_names() else None
    own = _of_run(path, name)
    changes = _changes(own, shipped) if own and shipped else ()
    return Scored(path, scores, own or shipped, own.seed if own else None, changes)


def _of_run(path: Path, name: str) -> Recipe | None:
    """The recipe in the run folder that holds the scores in a file, if it is a run of that name."""
    for folder in path.absolute().parents[:_ABOVE]:
        try:
            if json.loads((folder / RECORD).read_text(encoding="utf-8"))["recipe"] == name:
                stored = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
                return recipe_from_mapping(stored, str(folder / "recipe.yaml"))
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
            continue  # no run folder, or none that tells
    return None


def unlike(own: Recipe, other: Recipe) -> list[str]:
    """The settings in which two recipes differ, but for those that do not matter and for the evaluation."""
    found = differences(other.to_mapping(), own.to_mapping())
    return [key for key in found if key not in _NO_MATTER and not key.startswith("evaluation.")]


def _changes(own: Recipe, shipped: Recipe) -> tuple[str, ...]:
    """The settings of a run that are not its recipe's, with their values."""
    return tuple(f"{key} {_value(own.to_mapping(), key)}" for key in unlike(own, shipped))


def _value(mapping: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key."""
    value: Any = mapping
    for part in key.split("."):
        value = value[part]
    return value


# A table before it is set: lines with the paper's figures and ours, as numbers.
#
# Ours is the mean over runs, which differ in their seeds, with the sample standard deviation
#
#     s = sqrt(Σ (x - mean)² / (n - 1))
#
# where there are two runs or more. A gain is the difference of two means. Runs of one seed see the same crops in the same
# order, so that they are lucky together: where both have the same n ≥ 2 seeds, the gain's standard error is that of the
# mean of the differences d between runs of one seed, else, where both are of two runs or more, that of unrelated means:
#
#     e = s(d) / sqrt(n)        e = sqrt(s_1² / n_1 + s_2² / n_2)


@dataclass(frozen=True)
class Spread:
    """One score of several runs."""

    values: tuple[float, ...]
    """One or more."""

    @property
    def mean(self) -> float:
        """Of the values."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Line:
    """One row: a method by one protocol. Scores in percent by the keys of its section."""

    method: str
    group: str = ""
    """The heading that it stands under; empty if there is none."""
    recipe: str | None = None
    """None: somebody else's method."""
    protocol: str = ""
    """That ours was measured by; empty if there is none."""
    paper: Mapping[str, float] = field(default_factory=dict)
    ours: Mapping[str, Spread] = field(default_factory=dict)
    paper_gain: Mapping[str, float] = field(default_factory=dict)
    """Over the paper's own baseline."""
    ours_gain: Mapping[str, float] = field(default_factory=dict)
    """Of our mean over that of our own baseline, by the same protocol."""
    gain_error: Mapping[str, float] = field(default_factory=dict)
    """Standard error of our gain."""
    seeds: tuple[int | None, ...] = ()
    """Of each run; None: not known."""
    notes: tuple[str, ...] = ()
    """Why no score of ours stands here, or what is to be known of it."""


@dataclass(frozen=True)
class Score:
    """A column."""

    key: str
    label: str
    digits: int = 1
    ours_only: bool = False
    """The paper has no such figure."""
    paper_only: bool = False
    """We have no such figure."""
    difference: bool = True
    """Whether ours less the paper's has a column of its own."""


@dataclass(frozen=True)
class Section:
    """A table, whole."""

    name: str
    """Such as `table1` or `camvid`."""
    title: str
    scores: Sequence[Score]
    lines: Sequence[Line]
    remark: str = ""
    by_class: bool = False
    """Set with a row for every score and a column for every method."""


def spreads(runs: Sequence[Scored], keys: Mapping[str, Sequence[str]]) -> dict[str, Spread]:
    """Scores of runs in percent, by name, each from where it is in `scores.json`; without those that a run lacks."""
    found = {name: [_at(run, path) for run in runs] for name, path in keys.items()}
    return {
        name: Spread(tuple(100 * value for value in values if value is not None))
        for name, values in found.items()
        if values and None not in values
    }


def gains(of: Mapping[str, float], over: Mapping[str, float]) -> dict[str, float]:
    """The differences of the scores that both have."""
    return {key: value - over[key] for key, value in of.items() if key in over}


def gain_errors(
    of: Mapping[str, Spread], over: Mapping[str, Spread], pairs: Sequence[tuple[int, int]] = ()
) -> dict[str, float]:
    """The standard errors of the differences of the means that both have of several runs.

    Args:
        of: scores by name.
        over: those of the baseline.
        pairs: numbers of runs of either that belong together; empty: none do.
    """
    return {
        key: _error(of[key], over[key], pairs)
        for key in of.keys() & over.keys()
        if None not in (of[key].deviation, over[key].deviation)
    }


def _error(of: Spread, over: Spread, pairs: Sequence[tuple[int, int]]) -> float:
    """The standard error of the difference of two means, of two runs or more each."""
    if pairs:
        return stdev(of.values[i] - over.values[j] for i, j in pairs) / sqrt(len(pairs))
    return hypot(*((spread.deviation or 0.0) / sqrt(len(spread.values)) for spread in (of, over)))


def same_seeds(of: Sequence[int | None], over: Sequence[int | None]) -> list[tuple[int, int]]:
    """The runs of one seed, by their numbers, where each of two or more seeds has one run of either; else none."""
    if len(of) < 2 or None in of or len(set(of)) != len(of) or sorted(map(str, of)) != sorted(map(str, over)):
        return []
    return [(i, list(over).index(seed)) for i, seed in enumerate(of)]


def compared(line: Line, baseline: Line) -> Line:
    """A line with what our means gain over those of its baseline, and the standard errors."""
    return replace(
        line,
        ours_gain=gains(means(line.ours), means(baseline.ours)),
        gain_error=gain_errors(line.ours, baseline.ours, same_seeds(line.seeds, baseline.seeds)),
    )


def means(of: Mapping[str, Spread]) -> dict[str, float]:
    """The means of all scores."""
    return {key: spread.mean for key, spread in of.items()}


def seed_notes(runs: Sequence[Scored]) -> tuple[str, ...]:
    """What is to be known of the runs that are averaged."""
    seeds = [run.seed for run in runs if run.seed is not None]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    return tuple(f"{seeds.count(seed)} of the runs have seed {seed}" for seed in twice)


def _at(run: Scored, path: Sequence[str]) -> float | None:
    """The value at a path of keys; of a list, the entry that is called so."""
    value: object = run.scores
    for key in path:
        if isinstance(value, list):
            value = next((entry for entry in value if entry.get("name") == key), None)
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


# The paper's tables with scores of ours beside them: same recipe, same protocol, or a dash and the reason.
#
# A run whose settings are not those of its recipe, such as fewer iterations, is no run of the paper's row either.


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


# The same tables for data that the paper does not have: one for every data set, in the order of its Tables 1 and 2.
#
# A row is a network, a protocol and the settings that a run has changed; rows are compared with the PSPNet of the same
# backbone, protocol and settings.


_CONTEXTS: dict[str, str] = {"pyramid_pooling": "PSPNet", "dense_aspp": "DenseASPP", "none": "FCN"}
_FUSIONS: dict[str, str] = {
    "none": "",
    "concat": " + Concat",
    "addition": " + Addition",
    "fpn": " + FPN",
    "gated_fpn": " + Gated FPN",
    "gff": " + GFF",
}
_PYRAMIDS: dict[str, str] = {"none": "", "dense": " + DFP", "literal": " + literal DFP"}
_KEYS_OWN = {
    "miou": ("miou",),
    "pixel_accuracy": ("pixel_accuracy",),
    "boundary_f": ("boundary_f", "3", "mean"),
    "small": ("iou_by_size", "small", "miou"),
}
_SCORES = (
    Score("miou", "mIoU", ours_only=True),
    Score("pixel_accuracy", "pixel accuracy", ours_only=True),
    Score("boundary_f", "boundary F, 3 px", ours_only=True),
    Score("small", "mIoU, small objects", ours_only=True),
)
_THIN = Score("thin", "mIoU, thin classes", ours_only=True)


class _Row(NamedTuple):
    """What tells rows apart."""

    recipe: str
    protocol: Protocol
    changes: tuple[str, ...]


def own_sections(scored: Sequence[Scored]) -> list[Section]:
    """Two for every data set with scores that stand in no table of the paper: all scores, and the IoU of its classes.

    The second has the networks that were scored, and is there only where the classes of the data set are known.
    """
    left = [run for run in scored if not run.in_paper]
    found = []
    for name in dict.fromkeys(str(run.protocol.get("dataset")) for run in left):
        whole = _section_own(name, [run for run in left if run.protocol.get("dataset") == name])
        found += [whole, *_by_class(whole)]
    return found


def method_name(model: ModelRecipe) -> str:
    """A network as the paper's tables would name it, such as `PSPNet + GFF + DFP`."""
    return _CONTEXTS[model.context] + _FUSIONS[model.fusion] + _PYRAMIDS[model.dense_pyramid]


def _section_own(dataset: str, scored: Sequence[Scored]) -> Section:
    """All rows of a data set: what was scored, and beside it the recipes that were not, if the paper has none of them.

    Of the recipes, those that lie in the folders of what was scored; all of the data set where those are not known.
    """
    rows: dict[_Row, list[Scored]] = {}
    for run in scored:
        rows.setdefault(_Row(run.name, run.measured, run.changes), []).append(run)
    shipped = recipe_names()
    recipes = {run.name: run.recipe for run in scored if run.recipe}
    recipes |= {name: load_recipe(name) for name in recipes if name in shipped}
    known = any(row.dataset == dataset for row in paper_rows())
    of_dataset = [name for name in shipped if name.startswith(f"{dataset}/")]
    folders = {_folder(name) for name in recipes if name in of_dataset} or {dataset}
    missing = [name for name in of_dataset if _folder(name) in folders and name not in recipes and not known]
    recipes |= {name: load_recipe(name) for name in missing}
    models = {name: recipe.model for name, recipe in recipes.items()}
    usual = min((row.protocol for row in rows), key=lambda p: -sum(row.protocol == p for row in rows))
    called = {name: _called(name, models, known) for name in {*models, *(row.recipe for row in rows)}}
    lines = {row: _line(row, runs, called[row.recipe], usual) for row, runs in rows.items()}
    lines |= {_Row(name, usual, ()): Line(called[name], recipe=name) for name in missing}
    ordered = sorted(lines, key=lambda row: _order(row, models, usual))
    return Section(
        dataset,
        f"{dataset}: what stands in no row of the paper" if known else f"{dataset}: not in the paper",
        (*_SCORES, *[_THIN] * bool(thin_classes(dataset))),
        [_with_gains_own(row, lines, recipes) for row in ordered],
        f"Measured by: {', '.join(usual)}, unless a row says otherwise. In brackets: the difference to the PSPNet of "
        "the same backbone, protocol and settings, with its standard error, of pairs where seeds are the same."
        + (f" Thin classes: {', '.join(thin_classes(dataset))}." if thin_classes(dataset) else ""),
    )


def _by_class(whole: Section) -> list[Section]:
    """The IoU of every class, of the lines of a section that have been run."""
    try:
        names = dataset_classes(whole.name).names
    except UserError:  # they are the user's own
        return []
    lines = [line for line in whole.lines if line.ours.keys() >= set(names)]
    if not lines:
        return []
    scores = [Score(name, name, ours_only=True) for name in names]
    return [Section(f"{whole.name}_classes", f"{whole.name}: IoU by class", scores, lines, by_class=True)]


def _line(row: _Row, runs: Sequence[Scored], called: str, usual: Protocol) -> Line:
    """One row, without its gains."""
    otherwise = [] if row.protocol == usual else [part for part in row.protocol if part not in usual]
    method = ", ".join([called, *otherwise, *row.changes])
    seeds = tuple(run.seed for run in runs)
    measured = ", ".join(row.protocol)
    ours = _scores(runs)
    return Line(method, recipe=row.recipe, protocol=measured, ours=ours, seeds=seeds, notes=seed_notes(runs))


def _scores(runs: Sequence[Scored]) -> dict[str, Spread]:
    """All scores of the runs of one row."""
    dataset = str(runs[0].protocol.get("dataset"))
    classes = runs[0].scores.get("per_class", {})
    found = spreads(runs, {**_KEYS_OWN, **{name: ("per_class", name) for name in classes}})
    thin = [found[name].values for name in thin_classes(dataset) if name in found]
    if thin and len(thin) == len(thin_classes(dataset)):
        found["thin"] = Spread(tuple(fmean(of_run) for of_run in zip(*thin, strict=True)))
    return found


def _with_gains_own(row: _Row, lines: Mapping[_Row, Line], recipes: Mapping[str, Recipe]) -> Line:
    """A row with what it gains over its PSPNet, if that was scored."""
    line, own = lines[row], recipes.get(row.recipe)
    for other, baseline in lines.items():
        recipe = recipes.get(other.recipe)
        if own and recipe and other[1:] == row[1:] and _is_baseline(recipe, own):
            return compared(line, baseline)
    return line


def _is_baseline(recipe: Recipe, of: Recipe) -> bool:
    """Whether a recipe is another's without its fusion, and the same in everything else."""
    if recipe.model.fusion != "none" or of.model.fusion == "none":
        return False
    same = (recipe.model.backbone, recipe.model.context) == (of.model.backbone, of.model.context)
    return same and all(key.startswith("model.") for key in unlike(of, recipe))


def _folder(recipe: str) -> str:
    """The folder that a recipe lies in."""
    return recipe.rpartition("/")[0]


def _called(name: str, models: Mapping[str, ModelRecipe], exact: bool) -> str:
    """A network as it is named; with its recipe if `exact` or if others are named so too; else by what is known."""
    if name not in models:
        return name
    method = method_name(models[name])
    alike = [other for other, model in models.items() if method_name(model) == method]
    return f"{method} ({name})" if exact or len(alike) > 1 else method


def _order(row: _Row, models: Mapping[str, ModelRecipe], usual: Protocol) -> tuple[object, ...]:
    """By backbone, then as Tables 1 and 2, then the usual protocol and settings first; networks not known last."""
    last = (row.protocol != usual, len(row.changes), row)
    if row.recipe not in models:
        return (1, *last)
    model = models[row.recipe]
    backbone = f"{model.backbone.name} {model.backbone.output_stride}"
    context, fusion, pyramid = (
        list(names).index(name)
        for names, name in ((_CONTEXTS, model.context), (_FUSIONS, model.fusion), (_PYRAMIDS, model.dense_pyramid))
    )
    return (0, backbone, context, fusion, pyramid, *last)


# Tables as they are read: the numbers of a section as text, with what is to be known of them in notes below.


DASH = "—"
MINUS = "−"


class Cell(NamedTuple):
    """A piece of text, and the numbers of the notes to it."""

    text: str
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class TextTable:
    """Text in rows and columns; the first column says what a row is of, the others hold numbers."""

    name: str
    """Of letters and figures."""
    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    """The heading that a row stands under, empty if there is none, and its cells."""
    remark: str
    notes: Sequence[str]
    """The first is number 1."""


def laid_out(section: Section, seeds: bool = True) -> TextTable:
    """A section as text; `seeds`: say those of the runs, not their number alone."""
    notes = list(dict.fromkeys(note for line in section.lines for note in line.notes))
    numbers = {note: number for number, note in enumerate(notes, start=1)}
    headings, rows = _by_class_layout(section, numbers) if section.by_class else _by_method(section, numbers, seeds)
    return TextTable(section.name, section.title, headings, rows, section.remark, notes)


def _by_method(
    section: Section, numbers: Mapping[str, int], seeds: bool
) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """A row for every line; for every score the paper's figure, ours, and how far ours is from it."""
    several = len(section.scores) > 1
    headings = ["method"]
    for score in section.scores:
        before = f"{score.label}, " if several else ""
        if score.ours_only or score.paper_only:
            headings.append(score.label)
        else:
            headings += [f"{before}paper", f"{before}ours", *[f"ours {MINUS} paper"] * score.difference]
    rows = []
    for line in section.lines:
        cells = [Cell(line.method)]
        marked = tuple(numbers[note] for note in line.notes)
        for score in section.scores:
            cells += _cells(score, line, marked)
            marked = ()  # once is enough
        rows.append((line.group, [*cells, Cell(_runs(line, seeds))]))
    return [*headings, "runs"], rows


def _cells(score: Score, line: Line, marked: tuple[int, ...]) -> list[Cell]:
    """A score of a line."""
    paper = Cell(_figure(line.paper.get(score.key), line.paper_gain.get(score.key), score.digits))
    gain = _gain(line.ours_gain.get(score.key), score.digits, line.gain_error.get(score.key))
    ours = Cell(_spread(line.ours.get(score.key), score.digits) + gain * (score.key in line.ours), marked)
    if score.paper_only or score.ours_only:
        return [paper if score.paper_only else ours]
    return [paper, ours, *[Cell(_difference(line, score))] * score.difference]


def _by_class_layout(section: Section, numbers: Mapping[str, int]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """A row for every score, a column for every method, and one of ours beside each that there is a recipe for."""
    headings, columns = ["class"], []
    for line in section.lines:
        printed = any(not score.ours_only for score in section.scores)
        if printed:
            headings.append(line.method)
            columns.append([Cell(_figure(line.paper.get(score.key), None, score.digits)) for score in section.scores])
        if line.recipe:
            headings.append("ours" if printed else line.method)
            marked = tuple(numbers[note] for note in line.notes)
            columns.append([Cell(_spread(line.ours.get(s.key), s.digits), marked) for s in section.scores])
    names = [Cell(score.label) for score in section.scores]
    return headings, [("", list(row)) for row in zip(names, *columns, strict=True)]


def _figure(value: float | None, gain: float | None, digits: int) -> str:
    """As it is printed, which may be with more digits than its neighbours."""
    if value is None:
        return DASH
    more = digits + (round(value, digits) != value)
    return f"{value:.{more}f}{_gain(gain, digits)}"


def _spread(of: Spread | None, digits: int) -> str:
    """Mean and deviation."""
    if of is None:
        return DASH
    deviation = "" if of.deviation is None else f" ± {of.deviation:.{digits}f}"
    return f"{of.mean:.{digits}f}{deviation}"


def _gain(gain: float | None, digits: int, error: float | None = None) -> str:
    """A gain in brackets, with its standard error."""
    if gain is None:
        return ""
    return f" ({signed(gain, digits)}{'' if error is None else f' ± {error:.{digits}f}'})"


def _difference(line: Line, score: Score) -> str:
    paper, ours = line.paper.get(score.key), line.ours.get(score.key)
    return DASH if paper is None or ours is None else signed(ours.mean - paper, score.digits)


def signed(value: float, digits: int) -> str:
    """A difference with its sign, which nothing does not have."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def _runs(line: Line, told: bool) -> str:
    """How many runs, and with which seeds if that is to be told."""
    seeds = [str(seed) for seed in line.seeds if seed is not None]
    if not line.seeds:
        return DASH
    if not (told and seeds):
        return str(len(line.seeds))
    unknown = len(line.seeds) - len(seeds)
    more = f", {unknown} unknown" if unknown else ""
    return f"{len(line.seeds)} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}{more})"


# Tables as files: Markdown, CSV, LaTeX, HTML.
#
# CSV has a line for every score of every row of every table, in full precision, for programs to read; the others have the
# tables as they are read.


COLUMNS = (
    *("table", "group", "method", "recipe", "protocol", "score", "paper", "ours", "deviation", "runs", "seeds"),
    *("ours_minus_paper", "paper_gain", "ours_gain", "gain_error", "notes"),
)
TITLE = "The tables of Gated Fully Fusion, and ours"
LEGEND = (
    "Scores in percent. Ours: mean over runs, ± sample standard deviation, where there are several. In brackets: the "
    "gain over the baseline of the same table, ± its standard error. A dash: nobody has run it, or it was run "
    "otherwise, as a note says."
)
_SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
_MOST_COLUMNS = 7
"""That a table has in one column of a page."""
_NOT_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "{}$&#%"},
    "_": r"\_\allowbreak{}",
    "/": r"/\allowbreak{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    DASH: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
}


def write_sections(path: Path, sections: Sequence[Section]) -> None:
    """Write sections as a file of the kind that its ending says, whole or not at all.

    Raises:
        UserError: the ending is none of `FORMATS`.
        CannotWrite: the file cannot be written.
    """
    atomic_write(path, form_of(path)(sections).encode())


def form_of(path: Path) -> Callable[[Sequence[Section]], str]:
    """How a file is written.

    Raises:
        UserError: the ending is none of `FORMATS`.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise UserError(f"--out {path} must end in {', '.join(FORMATS)}: the ending says what is written.")
    return form


def records(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """A plain mapping with the keys `COLUMNS` for every score of every line; None where there is nothing."""
    for section in sections:
        for line in section.lines:
            for score in section.scores:
                yield _record(section.name, line, score.key)


def markdown(sections: Sequence[Section]) -> str:
    """The tables in Markdown."""
    parts = [f"# {TITLE}", LEGEND]
    for table in map(laid_out, sections):
        parts.append(f"## {_markdown_text(table.title)}")
        lines = [list(map(_markdown_text, table.headings))]
        lines.append(["---", *["---:"] * (len(table.headings) - 1)])
        for group, rows in groupby(table.rows, key=lambda row: row[0]):
            if group:
                lines.append([f"*{_markdown_text(group)}*", *[""] * (len(table.headings) - 1)])
            lines += [[_markdown_text(cell.text) + marks(cell) for cell in cells] for _, cells in rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        if table.remark:
            parts.append(_markdown_text(table.remark))
        parts += [f"{_raised(number)} {_markdown_text(note)}" for number, note in enumerate(table.notes, start=1)]
    return "\n\n".join(parts) + "\n"


def comma_separated(sections: Sequence[Section]) -> str:
    """All numbers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(sections))
    return text.getvalue()


def latex(sections: Sequence[Section]) -> str:
    r"""The tables in LaTeX, to be taken in by `\input`."""
    parts = [f"% {TITLE}\n% In the preamble: \\usepackage{{booktabs,graphicx}}\n% {LEGEND}"]
    parts += [_latex_table(laid_out(section, seeds=False)) for section in sections]
    return "\n\n".join(parts) + "\n"


def html(sections: Sequence[Section]) -> str:
    """The tables as a page that is whole in itself."""
    content = {"title": TITLE, "legend": LEGEND, "tables": [laid_out(section) for section in sections]}
    return fill("reports", "formats.html.jinja", content)


def marks(cell: Cell) -> str:
    """The numbers of a cell's notes, raised."""
    return _raised(",".join(map(str, cell.notes)))


FORMATS: Mapping[str, Callable[[Sequence[Section]], str]] = {
    ".md": markdown,
    ".csv": comma_separated,
    ".tex": latex,
    ".html": html,
}
"""How a file is written, by its ending."""


def _record(table: str, line: Line, key: str) -> dict[str, Any]:
    """One score of one line."""
    ours, paper = line.ours.get(key), line.paper.get(key)
    return {
        "table": table,
        "group": line.group or None,
        "method": line.method,
        "recipe": line.recipe,
        "protocol": line.protocol or None,
        "score": key,
        "paper": paper,
        "ours": ours.mean if ours else None,
        "deviation": ours.deviation if ours else None,
        "runs": len(ours.values) if ours else None,
        "seeds": " ".join("?" if seed is None else str(seed) for seed in line.seeds) or None,
        "ours_minus_paper": ours.mean - paper if ours and paper is not None else None,
        "paper_gain": line.paper_gain.get(key),
        "ours_gain": line.ours_gain.get(key),
        "gain_error": line.gain_error.get(key),
        "notes": "; ".join(line.notes) or None,
    }


def _raised(number: object) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _markdown_text(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text


def _latex_table(table: TextTable) -> str:
    """One table, over two columns of a page if it has many of its own."""
    columns = len(table.headings)
    rows = [" & ".join(map(_latex_heading, table.headings)) + r" \\", r"\midrule"]
    for number, (group, members) in enumerate(groupby(table.rows, key=lambda row: row[0])):
        if group:
            rows += [r"\midrule"] * bool(number)
            rows.append(rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_latex_text(group)}}}}} \\")
        rows += [" & ".join(map(_latex_cell, cells)) + r" \\" for _, cells in members]
    notes = [rf"\textsuperscript{{{number}}} {_latex_text(note)}" for number, note in enumerate(table.notes, start=1)]
    place = "table*" if columns > _MOST_COLUMNS else "table"
    lines = [
        rf"\begin{{{place}}}",
        r"\centering\footnotesize",
        rf"\caption{{{_latex_text(re.sub(r'^Table [0-9]+[.] ', '', table.title))}}}",
        rf"\label{{tab:{table.name}}}",
        *[r"\setlength{\tabcolsep}{3pt}"] * (columns > _MOST_COLUMNS),
        _NOT_WIDER,
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *[rf"\par\smallskip {note}" for note in [*[_latex_text(table.remark)] * bool(table.remark), *notes]],
        rf"\end{{{place}}}",
    ]
    return "\n".join(lines)


def _latex_heading(text: str) -> str:
    """A heading in lines, broken where its parts are joined."""
    parts = [_latex_text(part) for part in re.split(r", | (?=at )", text)]
    lines = r" \\ ".join(parts)
    return lines if len(parts) == 1 else rf"\shortstack[r]{{{lines}}}"


def _latex_cell(cell: Cell) -> str:
    raised = rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else ""
    return _latex_text(cell.text) + raised


def _latex_text(text: str) -> str:
    """Text that LaTeX takes for nothing else."""
    return "".join(_LATEX.get(mark, mark) for mark in text)
