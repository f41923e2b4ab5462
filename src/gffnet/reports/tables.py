r"""The paper's Tables 1 to 9 with our scores beside them, and the same tables for data sets that the paper lacks.

A score stands in a row of the paper if its recipe **and** its protocol are that row's; else the row has a dash, and a
note says why. Ours is the mean over runs, which differ in their seeds, ± the sample standard deviation

    s = sqrt(Σ (x - mean)² / (n - 1))

Runs of one seed see the same crops in the same order and so share their luck. Where two methods have two seeds or more
in common, a gain is the mean of the n differences d between runs of one seed (and in a cross-validation of one fold);
else it is the difference of two means. Its standard error, of the latter where both have two runs or more:

    e = s(d) / sqrt(n)        e = sqrt(s_1² / n_1 + s_2² / n_2)
"""

import csv
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, groupby, pairwise
from math import hypot, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from gffnet.console import DASH, MINUS, signed, track
from gffnet.data.dataset import fold_of, fold_splits
from gffnet.data.datasets import dataset_classes, image_count, thin_classes
from gffnet.errors import UserError, nearest
from gffnet.evaluation.paper import Match, PaperTable, PrintedRow, match, paper_rows, paper_tables
from gffnet.evaluation.results import SCORES, TOLERANCE, escape_markdown, read_result
from gffnet.files import atomic_write
from gffnet.metrics.scores import BANDS, Scores
from gffnet.recipe import AUTO_KEYS, INPUT_KEYS, Recipe, load_recipe, load_recorded, load_unresolved, recipe_names
from gffnet.recipe.describe import CONTEXT_NAMES, FUSION_NAMES, PYRAMID_NAMES, method_name
from gffnet.reports.cost import costs
from gffnet.templates import fill
from gffnet.training.run_folder import RECIPE, RECORD, differing_keys

# ----------------------------------------------------------------------------------------------------------------------
# Scored runs: what `gffnet evaluate --out` wrote, and what the run folder around it tells


_LEVELS = 3
"""Folders above a `scores.json` in which its run folder is looked for."""
_IMMATERIAL = {
    "seed",
    "precision",
    "plugins",
    "training.workers",
    "training.init_from",
    "training.validate_every",
    "training.checkpoint_every",
    "training.keep_every",
    "training.compile",
    "training.device_batch",
}
"""Keys in which a run may differ from its recipe and still count as a run of it. The protocol covers `evaluation.*`."""

Protocol = tuple[str, ...]
"""What must agree for two scores to be comparable, in words: data set and split, window, scales, flip."""


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """One evaluation of one network."""

    path: Path
    """Its `scores.json`."""
    scores: Scores
    recipe: Recipe | None
    """What it was trained by; None if neither a run folder nor the package knows."""
    seed: int | None
    """None if there is no run folder."""
    changes: tuple[str, ...]
    """Settings in which the run differs from the shipped recipe of its name, such as `training.iterations 2000`."""
    auto: frozenset[str] = frozenset()
    """Keys whose values followed from its training images."""

    @property
    def name(self) -> str:
        """The name of its recipe."""
        return str(self.scores.protocol.get("recipe"))

    @property
    def dataset(self) -> str:
        return str(self.scores.protocol.get("dataset"))

    @property
    def split(self) -> str:
        return str(self.scores.protocol.get("split"))

    @property
    def fold(self) -> str | None:
        """The fold of a cross-validation: F if it was trained on the split `without_F` and scored on `only_F`."""
        return fold_of(self.recipe.data.train_split, self.split) if self.recipe else None

    @property
    def match(self) -> Match:
        """The row of the paper with its recipe and protocol, or the reason why there is none."""
        return match(self.scores.protocol, self.scores.images)

    @property
    def in_paper(self) -> bool:
        """Whether it stands in a row of the paper: recipe, protocol and settings agree."""
        return self.match.row is not None and not self.changes

    @property
    def measured(self) -> Protocol:
        """The protocol in words."""
        get = self.scores.protocol.get
        crop, scales = get("crop"), " ".join(f"{scale:g}" for scale in get("scales") or [1.0])
        window = f"window {crop[0]}x{crop[1]}, overlap {get('overlap', 1 / 3):.4g}" if crop else "whole images"
        scale = "single scale" if scales == "1" else f"scales {scales}"
        data, images = f"{self.dataset} {self.split}", self.scores.images
        if images not in (None, image_count(self.dataset, self.split)):  # a part of it, or data of one's own
            data += f", {images} image{'s' * (images != 1)}"
        return data, window, scale, "with flip" if get("flip") else "without flip"

    def by_column(self) -> dict[str, float | None]:
        """All scores that tables show, by the keys of their columns, in percent.

        That of a class is `class_key` of its name.
        """
        of, boundary = self.scores, self.scores.boundary_f.get(TOLERANCE)
        thin = [value for name in thin_classes(self.dataset) if (value := of.per_class.get(name)) is not None]
        values = {
            "miou": of.miou,
            "pixel_accuracy": of.pixel_accuracy,
            "boundary_f": None if boundary is None else boundary.mean,
            "small": next((size.miou for size in of.iou_by_size if size.name == "small"), None),
            "large": next((size.miou for size in of.iou_by_size if size.name == "large"), None),
            "near": of.iou_by_distance[0].miou if of.iou_by_distance else None,
            "far": of.iou_by_distance[-1].miou if of.iou_by_distance else None,
            "near_accuracy": of.iou_by_distance[0].pixel_accuracy if of.iou_by_distance else None,
            "far_accuracy": of.iou_by_distance[-1].pixel_accuracy if of.iou_by_distance else None,
            "thin": fmean(thin) if thin and len(thin) == len(thin_classes(self.dataset)) else None,
        }
        values |= {class_key(name): iou for name, iou in of.per_class.items()}
        return {key: None if value is None else 100 * value for key, value in values.items()}


def find_scores(paths: Sequence[Path]) -> list[ScoredRun]:
    """Read every `scores.json` in `paths` (files, or folders searched to any depth).

    The same weights scored by the same protocol on the same data count once; scores with details before those without.

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
                f"{path} holds no {SCORES}, at any depth. Score the run first: gffnet evaluate --model {path} "
                f"--dataset NAME --root DIR --out {path / 'scores'}."
            )
        files.update(dict.fromkeys(found))
    runs: dict[tuple[Any, ...], ScoredRun] = {}
    for file in files:
        run = read_scored(file)
        key = run.scores.protocol.get("weights_sha256", file), run.measured, run.scores.pixels
        if key not in runs or (run.scores.boundary_f and not runs[key].scores.boundary_f):
            runs[key] = run
    shipped, first = recipe_names(), dict[str, Recipe]()
    for key, run in runs.items():
        if run.recipe and run.name not in shipped:  # a name of one's own may stand for several recipes
            changes = changed_settings(run.recipe, first.setdefault(run.name, run.recipe))
            runs[key] = replace(run, changes=(*changes, *run.changes))
    return list(runs.values())


def read_scored(path: Path) -> ScoredRun:
    """Read a `scores.json` and the recipe of the run folder around it.

    Raises:
        UserError: it does not exist or is damaged.
    """
    scores = read_result(path).scores
    name = scores.protocol.get("recipe")
    shipped = load_recipe(name) if name in recipe_names() else None
    own, record = _recipe_of_run(path, name)
    changes = changed_settings(own, shipped) if own and shipped else []
    changes += [f"{argument} {value}" for argument, value in record.get("python", {}).items()]
    if "damaged" in record:
        changes.append(f"settings unknown: {record['damaged']} is damaged")
    auto = _auto_keys(name, record) if own else frozenset[str]()
    return ScoredRun(path, scores, own or shipped, own.seed if own else None, tuple(changes), auto)


def _auto_keys(name: Any, record: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a run that are `auto` in its recipe, or may be in one of your own, and that no `--set` gave."""
    try:
        words = shlex.split(record["sessions"][0]["command"].replace("--set=", "--set "))
    except (LookupError, TypeError, ValueError, AttributeError):
        return frozenset()
    given = {word.partition("=")[0].strip() for option, word in pairwise(words) if option == "--set"}
    return _may_be_auto(name) - given


@cache
def _may_be_auto(name: Any) -> frozenset[str]:
    shipped = name in recipe_names()
    return frozenset(load_unresolved(name, inputs=True)[1] if shipped else (*AUTO_KEYS, *INPUT_KEYS))


def _recipe_of_run(path: Path, name: str | None) -> tuple[Recipe | None, dict[str, Any]]:
    """The recipe of the run folder around a `scores.json`, if it is a run of that name, and its record.

    The record is `{"damaged": NAME}` if its file NAME cannot be read.
    """
    for folder in path.absolute().parents[:_LEVELS]:
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if record["recipe"] != name:
                continue
        except (OSError, LookupError, TypeError):
            continue  # not a run folder
        except ValueError:
            if not (folder / RECIPE).is_file():
                continue  # of another tool
            return None, {"damaged": RECORD}
        try:
            return load_recorded(folder / RECIPE), dict(record)
        except UserError:
            return None, {"damaged": RECIPE}
    return None, {}


def changed_settings(own: Recipe, other: Recipe) -> list[str]:
    """Settings in which the training of a recipe differs materially from another's: `key value`."""
    changes = []
    for key in unlike(own, other):
        value: Any = own.to_mapping()
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        changes.append(f"{key} {value}")
    return changes


def unlike(own: Recipe, other: Recipe) -> list[str]:
    """Keys in which the training of two recipes differs materially."""
    found = differing_keys(other.to_mapping(), own.to_mapping())
    return [key for key in found if key not in _IMMATERIAL and not key.startswith("evaluation.")]


# ----------------------------------------------------------------------------------------------------------------------
# Tables as numbers


@dataclass(frozen=True)
class Samples:
    """One score of one or more runs."""

    values: tuple[float, ...]
    folds: tuple[tuple[float, ...], ...] = ()
    """In a cross-validation, the scores that each value is the mean of: one a fold."""

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Row:
    """A method by one protocol; scores in percent by the keys of the table's columns."""

    method: str
    group: str = ""
    """The heading above it, if any."""
    recipe: str | None = None
    """None for a method of others."""
    protocol: str = ""
    """By which ours was measured."""
    paper: Mapping[str, float] = field(default_factory=dict)
    ours: Mapping[str, Samples] = field(default_factory=dict)
    paper_gain: Mapping[str, float] = field(default_factory=dict)
    """Over the paper's own baseline."""
    ours_gain: Mapping[str, float] = field(default_factory=dict)
    """Of ours over our baseline by the same protocol."""
    gain_error: Mapping[str, float] = field(default_factory=dict)
    """Standard error of `ours_gain`."""
    seeds: tuple[int | None, ...] = ()
    """Of each run; None if unknown."""
    notes: tuple[str, ...] = ()
    """Why no score of ours stands here, or a caveat about it."""


@dataclass(frozen=True)
class Column:
    """A score."""

    key: str
    label: str
    digits: int = 1
    ours_only: bool = False
    paper_only: bool = False
    difference: bool = True
    """Whether `ours - paper` has a column of its own."""


@dataclass(frozen=True)
class Table:
    """A table, as numbers."""

    name: str
    """Such as `table1` or `camvid`."""
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    remark: str = ""
    by_class: bool = False
    """Printed transposed: a line for every score, a column for every method."""


def concerns_runs(table: Table) -> bool:
    """Whether a score of ours stands in a table, or a note says why one does not."""
    return any(row.seeds or row.notes for row in table.rows)


def samples(runs: Sequence[ScoredRun]) -> dict[str, Samples]:
    """Scores by column of one or more runs; scores that one lacks are left out."""
    return {key: Samples(tuple(value for (value,) in each)) for key, each in _by_column([[run] for run in runs])}


def samples_over_folds(seeds: Sequence[Sequence[ScoredRun]]) -> dict[str, Samples]:
    """Scores by column, one a seed: means over its runs, one a fold, of which each seed has the same, in one order.

    Scores that a run lacks are left out. Beside the means there is the mIoU of every fold, `miou_FOLD`.
    """
    found = {key: Samples(tuple(map(fmean, each)), each) for key, each in _by_column(seeds)}
    for number, run in enumerate(seeds[0] if seeds and "miou" in found else ()):
        found[f"miou_{run.fold}"] = Samples(tuple(folds[number] for folds in found["miou"].folds))
    return found


def absence_notes(runs: Iterable[ScoredRun]) -> list[str]:
    """Which classes have no mean over the runs of a cross-validation, and on which of their splits they are absent."""
    splits: dict[str, set[str]] = {}
    thin: set[str] = set()
    for run in runs:
        thin.update(thin_classes(run.dataset))
        for name, iou in run.scores.per_class.items():
            if iou is None:
                splits.setdefault(name, set()).add(run.split)
    classes: dict[str, list[str]] = {}
    for name, of in splits.items():
        classes.setdefault(", ".join(sorted(of)), []).append(name)
    return [
        f"no mean of {', '.join(names)}{'' if thin.isdisjoint(names) else ', nor of the thin classes'}: "
        f"neither labelled nor predicted in {of}"
        for of, names in classes.items()
    ]


def _by_column(seeds: Sequence[Sequence[ScoredRun]]) -> Iterator[tuple[str, tuple[tuple[float, ...], ...]]]:
    """The key of every score that all runs have, and its values by seed and fold."""
    found = [[run.by_column() for run in runs] for runs in seeds]
    for key in found[0][0] if found else ():
        values = tuple(tuple(of[key] for of in folds if of.get(key) is not None) for folds in found)
        if [*map(len, values)] == [*map(len, found)]:
            yield key, values  # type: ignore[misc]


def with_gain(row: Row, baseline: Row) -> Row:
    """`row` with what it gains over `baseline`, and the standard errors."""
    pairs = seed_pairs(row.seeds, baseline.seeds)
    gain, error = {}, {}
    for key in row.ours.keys() & baseline.ours.keys():
        ours, theirs = row.ours[key], baseline.ours[key]
        gain[key] = ours.mean - theirs.mean
        if ours.deviation is None or theirs.deviation is None:  # such as what is counted, one value of all runs
            continue
        error[key] = hypot(ours.deviation / sqrt(len(ours.values)), theirs.deviation / sqrt(len(theirs.values)))
        if pairs:
            d = [x - y for i, j in pairs for x, y in zip(_folds(ours, i), _folds(theirs, j), strict=True)]
            gain[key], error[key] = fmean(d), stdev(d) / sqrt(len(d))
    return replace(row, ours_gain=gain, gain_error=error)


def _folds(of: Samples, index: int) -> tuple[float, ...]:
    return of.folds[index] if of.folds else (of.values[index],)


def seed_pairs(seeds: Sequence[int | None], others: Sequence[int | None]) -> list[tuple[int, int]]:
    """Index pairs of runs with the same seed, if there are two or more; none where a seed is there twice or unknown."""
    for each in seeds, others:
        if None in each or len(set(each)) < len(each):
            return []
    pairs = [(i, list(others).index(seed)) for i, seed in enumerate(seeds) if seed in others]
    return pairs if len(pairs) > 1 else []


def _seed_notes(runs: Sequence[ScoredRun]) -> tuple[str, ...]:
    seeds = [run.seed for run in runs if run.seed is not None]
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    return tuple(f"{seeds.count(seed)} of the runs have seed {seed}" for seed in repeated)


# ----------------------------------------------------------------------------------------------------------------------
# The paper's tables


COST_SIZES = ((512, 512), (768, 768))
"""Image sizes that Table 3 is counted at: the one that the paper names, and the one that its figures fit."""

Costs = Mapping[str, Mapping[str, float]]
"""Parameters in millions and multiply-accumulates in 10^9, by recipe and column."""

_PAPER_SCORES = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
_COST_COLUMNS = (
    Column("params", "params (M)", difference=False),
    Column("gflops", "GFLOPs, paper", paper_only=True),
    *(Column(f"gmac_{h}", f"GMAC at {h}x{w}", ours_only=True) for h, w in COST_SIZES),
    Column("executed", f"executed at {COST_SIZES[-1][0]}x{COST_SIZES[-1][1]}", ours_only=True),
)
_TEST_SERVER = "Scores of the test server, which no evaluation of ours can have."
_SCALES_UNKNOWN = "The paper does not say whether this is multi-scale."
_REMARKS = {
    3: "GMAC: multiply-accumulates of the reference network, in 10^9; executed: with this project's efficient forms. "
    "The paper's GFLOPs, for 512x512 as it says, fit multiply-accumulates at 768x768.",
    5: _TEST_SERVER,
    6: _SCALES_UNKNOWN,
    7: _TEST_SERVER,
    8: _SCALES_UNKNOWN,
    9: _SCALES_UNKNOWN,
}


def make_paper_tables(runs: Sequence[ScoredRun], cost: Costs) -> list[Table]:
    """Tables 1 to 9 with those of `runs` that may stand in them, and `cost` from `table3_cost`, or empty."""
    return [_paper_table(table, runs, cost) for table in paper_tables()]


def table3_cost() -> Costs:
    """Count parameters and MACs of the networks of Table 3."""
    (table,) = [table for table in paper_tables() if table.number == 3]
    recipes = [(printed.row.recipe, load_recipe(printed.row.recipe)) for printed in table.rows if printed.row]
    found: dict[str, dict[str, float]] = {name: {} for name, _ in recipes}
    for size in track(COST_SIZES, "counting the cost of Table 3"):
        for row in costs(recipes, size):
            own = found[row["recipe"]]
            own["params"] = row["params"] / 1e6
            own[f"gmac_{size[0]}"] = row["macs"] / 1e9
            own["executed"] = row["executed_macs"] / 1e9
    return found


def _paper_table(table: PaperTable, runs: Sequence[ScoredRun], cost: Costs) -> Table:
    rows: list[Row] = []
    baseline: list[Row] = []
    baseline_scales: tuple[float, ...] | None = None
    for printed in table.rows:
        found = _paper_rows(printed, runs)
        scales = printed.row.scales if printed.row else None
        if table.number == 3 and printed.row and cost:
            counted = {key: Samples((value,)) for key, value in cost[printed.row.recipe].items()}
            found = [replace(row, ours={**row.ours, **counted}) for row in found]
        if printed.baseline:
            baseline, baseline_scales = found, scales
        elif printed.row and baseline and scales == baseline_scales:
            found = [_over_baseline(row, baseline) for row in found]
        rows += found
    classes = list(table.rows[-1].per_class)
    present = {key for row in rows for key in row.paper}
    columns = [Column(name, name) for name in classes]
    columns += [
        Column(key, label, table.digits, difference=table.number != 3)  # Table 3 has enough columns
        for key, label in _PAPER_SCORES.items()
        if key in present
    ]
    if table.number == 3:
        columns += _COST_COLUMNS
    title = f"Table {table.number}. {table.title}"
    return Table(f"table{table.number}", title, columns, rows, _REMARKS.get(table.number, ""), bool(classes))


def _paper_rows(printed: PrintedRow, runs: Sequence[ScoredRun]) -> list[Row]:
    """A printed row with ours: one for every protocol, of which there are several only where the paper is silent."""
    row = printed.row
    paper = {**printed.per_class, **printed.scores}
    if row is None:
        return [Row(printed.method, printed.group, paper=paper)]
    protocols: dict[Protocol, list[ScoredRun]] = {}
    notes = []
    for run in runs:
        if run.match.nearest is not row:
            continue
        if run.in_paper:
            protocols.setdefault(run.measured, []).append(run)
            if part := row.part(run.scores.images):
                notes.append(f"{run.path}: {part}")
        elif run.match.row is None:
            notes.append(f"{run.path}: {run.match.remark}")
        else:
            notes.append(f"{run.path}: its settings are not those of {run.name}: {', '.join(run.changes)}")
    base = Row(printed.method, printed.group, row.recipe, paper=paper, notes=tuple(notes))
    return [
        replace(
            base,
            method=printed.method + (f", {measured[2]}" if row.scales is None else ""),
            protocol=", ".join(measured),
            ours=samples(of_protocol),
            seeds=tuple(run.seed for run in of_protocol),
            notes=(*notes, *_seed_notes(of_protocol)),
        )
        for measured, of_protocol in protocols.items()
    ] or [base]


def _over_baseline(row: Row, baseline: Sequence[Row]) -> Row:
    """A row with the paper's gain, and ours over our baseline by the same protocol."""
    paper = baseline[0].paper
    row = replace(row, paper_gain={key: value - paper[key] for key, value in row.paper.items() if key in paper})
    same = next((other for other in baseline if other.protocol == row.protocol), None)
    return with_gain(row, same) if same else row


# ----------------------------------------------------------------------------------------------------------------------
# Tables of other data sets, in the order of the paper's Tables 1 and 2


SCORE_COLUMNS = (
    Column("miou", "mIoU", ours_only=True),
    Column("pixel_accuracy", "pixel accuracy", ours_only=True),
    Column("boundary_f", "boundary F, 3 px", ours_only=True),
    Column("small", "mIoU, small objects", ours_only=True),
)
THIN = Column("thin", "mIoU, thin classes", ours_only=True)
ACCURACY_COLUMNS = (
    Column("near_accuracy", f"accuracy up to {BANDS[0]} px from a boundary", ours_only=True),
    Column("far_accuracy", f"accuracy beyond {BANDS[-1]} px", ours_only=True),
)
DETAIL_COLUMNS = (
    Column("large", "mIoU, large objects", ours_only=True),
    Column("near", f"mIoU up to {BANDS[0]} px from a boundary", ours_only=True),
    Column("far", f"mIoU beyond {BANDS[-1]} px", ours_only=True),
    *ACCURACY_COLUMNS,
)


def class_key(name: str) -> str:
    """The key of a class: its name, followed by `(class)` if a score has this key, such as `small`."""
    taken = {column.key for column in (*SCORE_COLUMNS, THIN, *DETAIL_COLUMNS)}
    return f"{name} (class)" if name in taken else name


def fold_columns(folds: Iterable[str]) -> list[Column]:
    """The mIoU of every fold of a cross-validation, which `samples_over_folds` has."""
    return [Column(f"miou_{fold}", f"mIoU, {fold}", ours_only=True) for fold in folds]


FOLD_KEYS = ("data.train_split", "data.val_split")
"""What runs of a cross-validation differ in."""


class _Key(NamedTuple):
    """What distinguishes rows."""

    recipe: str
    protocol: Protocol
    changes: tuple[str, ...]


def make_dataset_tables(runs: Sequence[ScoredRun], baseline: str | None = None) -> list[Table]:
    """Two tables for every data set and split with scores that stand in no row of the paper: all scores, IoU by class.

    Before those of its folds, a cross-validation has the same two with the means over the folds. The second table is
    there only where the classes of the data set are known.

    Args:
        runs: what was scored.
        baseline: the recipe that rows of the same protocol and settings, of which those of `model` may differ, are
            compared with; None: the PSPNet of the same backbone, protocol and settings.

    Raises:
        UserError: no run is of the recipe `baseline`.
    """
    left = [run for run in runs if not run.in_paper]
    recipes = sorted({run.name for run in left})
    if baseline is not None and baseline not in recipes:
        raise UserError(
            f"--baseline {baseline}: no run that stands in no row of the paper is of this recipe."
            f"{nearest(baseline, recipes)} Such runs are of: {', '.join(recipes) or 'none'}."
        )
    found = []
    for dataset in dict.fromkeys(run.dataset for run in left):
        of_dataset = [run for run in left if run.dataset == dataset]
        splits = dict.fromkeys(run.split for run in of_dataset)
        folds = _common_folds(of_dataset)
        tables = []
        if len(folds) > 1:
            of_folds = [run for run in of_dataset if run.fold in folds]
            tables.append(_dataset_table(f"{dataset}_folds", dataset, of_folds, baseline, folds))
        for split in splits:
            name = dataset if len(splits) == 1 else f"{dataset}_{split}"
            tables.append(_dataset_table(name, dataset, [run for run in of_dataset if run.split == split], baseline))
        found += [each for table in tables for each in (table, *_class_table(table, of_dataset))]
    return found


def _dataset_table(
    name: str, dataset: str, runs: Sequence[ScoredRun], baseline: str | None, folds: Sequence[str] = ()
) -> Table:
    """The rows that were scored, and, if the paper lacks the data set, the shipped recipes of their backbones that were
    not. What all runs share is said below the table, not in every row. With `folds`, scores are means over them."""
    by_key: dict[_Key, list[ScoredRun]] = {}
    for run in runs:
        by_key.setdefault(_key(run, folds), []).append(run)
    shipped = recipe_names()
    recipes = {run.name: run.recipe for run in runs if run.recipe}
    recipes |= {name: load_recipe(name) for name in recipes if name in shipped}
    in_paper = any(row.dataset == dataset for row in paper_rows())
    of_dataset = [name for name in shipped if name.startswith(f"{dataset}/")]
    folders = {_folder(name) for name in recipes if name in of_dataset} or {dataset}
    backbones = {recipe.model.backbone.name for recipe in recipes.values()}
    others = {} if in_paper else {name: load_recipe(name) for name in of_dataset if _folder(name) in folders}
    missing = {
        name: recipe
        for name, recipe in others.items()
        if name not in recipes and recipe.model.backbone.name in backbones
    }
    recipes |= missing
    trained = {key: found[0] for key, found in by_key.items()}
    protocols = [key.protocol for key in by_key]
    usual = max(dict.fromkeys(protocols), key=protocols.count)
    shared = [change for change in next(iter(by_key)).changes if all(change in key.changes for key in by_key)]
    names = _row_names([*recipes, *(key.recipe for key in by_key)], recipes, with_recipe=in_paper)
    rows = {
        key: replace(
            _row_over_folds(found, folds) if folds else _row_of_runs(found),
            method=", ".join(
                [
                    names[key.recipe],
                    *(part for part in key.protocol if part not in usual),
                    *(change for change in key.changes if change not in shared),
                ]
            ),
            recipe=key.recipe,
            protocol=", ".join(key.protocol),
        )
        for key, found in by_key.items()
    }
    rows |= {_Key(name, usual, ()): Row(names[name], recipe=name) for name in missing}
    thin = thin_classes(dataset)
    title = f"{dataset}, {mean_over(folds) if folds else runs[0].split}" if name != dataset else dataset
    over = (
        "the PSPNet of the same backbone, protocol and settings" if baseline is None else names.get(baseline, baseline)
    )
    return Table(
        name,
        f"{title}: what stands in no row of the paper" if in_paper else f"{title}: not in the paper",
        (*SCORE_COLUMNS, *[THIN] * bool(thin), *fold_columns(folds), *(ACCURACY_COLUMNS if folds else ())),
        [
            _over(key, rows, recipes) if baseline is None else _over_recipe(baseline, key, rows, trained)
            for key in sorted(rows, key=lambda key: _order(key, recipes, usual))
        ],
        f"Protocol: {', '.join(usual)}, unless a row says otherwise. "
        + (f"All runs have {', '.join(shared)}. " if shared else "")
        + f"In brackets: the gain over {over}, ± its standard error, of the differences between runs of one "
        f"seed{' and fold' * bool(folds)} where both have two seeds or more in common."
        + (f" Thin classes: {', '.join(thin)}." if thin else ""),
    )


def _common_folds(runs: Sequence[ScoredRun]) -> list[str]:
    """The folds that the most trainings, of a recipe and seed, have all been scored on: of two or more, if any."""
    of_training: dict[tuple[str, int | None], set[str]] = {}
    for run in runs:
        if run.fold:
            of_training.setdefault((run.name, run.seed), set()).add(run.fold)
    found = of_training.values()
    several = [folds for folds in found if len(folds) > 1]
    return sorted(max(several, key=lambda folds: (sum(folds <= other for other in found), len(folds)), default=()))


def mean_over(folds: Iterable[str]) -> str:
    """`mean over only_A, only_B`."""
    return f"mean over {', '.join(fold_splits(fold)[1] for fold in folds)}"


def _key(run: ScoredRun, folds: Sequence[str]) -> _Key:
    """The row that a run belongs to; runs of several folds belong to one."""
    if not folds:
        return _Key(run.name, run.measured, run.changes)
    by_fold = {*FOLD_KEYS, *run.auto}
    changes = tuple(change for change in run.changes if change.partition(" ")[0] not in by_fold)
    return _Key(run.name, (f"{run.dataset}, {mean_over(folds)}", *run.measured[1:]), changes)


def _row_of_runs(runs: Sequence[ScoredRun]) -> Row:
    return Row("", ours=samples(runs), seeds=tuple(run.seed for run in runs), notes=_seed_notes(runs))


def _row_over_folds(runs: Sequence[ScoredRun], folds: Sequence[str]) -> Row:
    """The seeds that were scored on every fold; a note names the others. Of two runs of one seed, the first counts."""
    by_seed: dict[int | None, dict[str | None, ScoredRun]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, {}).setdefault(run.fold, run)
    notes = [
        f"not there: seed {seed} on {', '.join(fold_splits(fold)[1] for fold in folds if fold not in found)}"
        for seed, found in by_seed.items()
        if len(found) < len(folds)
    ]
    twice = len(runs) - sum(map(len, by_seed.values()))
    notes += [f"{twice} runs left out, of a seed and fold that another has"] * bool(twice)
    whole = {seed: [found[fold] for fold in folds] for seed, found in by_seed.items() if len(found) == len(folds)}
    notes += absence_notes(chain(*whole.values()))
    return Row("", ours=samples_over_folds([*whole.values()]), seeds=tuple(whole), notes=tuple(notes))


def _folder(recipe: str) -> str:
    return recipe.rpartition("/")[0]


def _row_names(names: Iterable[str], recipes: Mapping[str, Recipe], with_recipe: bool) -> dict[str, str]:
    """The method of every recipe, followed by the recipe's name if `with_recipe` or if several share the method."""
    methods = {name: method_name(recipe.model) for name, recipe in recipes.items()}
    count = Counter(methods.values())
    long = {name: f"{of} ({name})" if with_recipe or count[of] > 1 else of for name, of in methods.items()}
    return {name: long.get(name, name) for name in names}


def _over_recipe(baseline: str, key: _Key, rows: Mapping[_Key, Row], runs: Mapping[_Key, ScoredRun]) -> Row:
    """A row with its gain over that of a recipe which was trained the same; its network may differ."""
    own = runs.get(key)
    if own is None or own.recipe is None:
        return rows[key]
    others = [other for other in runs if (other.recipe, other.protocol) == (baseline, key.protocol) and other != key]
    for other in sorted(others, key=lambda other: other.changes != key.changes):
        its = runs[other]
        if key.recipe == baseline and len(key.changes) <= len(other.changes):
            continue  # of two rows of that recipe, the one with fewer changes is the baseline
        if its.recipe is None:
            continue
        free = {*(FOLD_KEYS if own.fold else ()), *own.auto, *its.auto}
        if all(name.startswith("model.") or name in free for name in unlike(own.recipe, its.recipe)):
            return with_gain(rows[key], rows[other])
    return rows[key]


def _over(key: _Key, rows: Mapping[_Key, Row], recipes: Mapping[str, Recipe]) -> Row:
    """A row with its gain over the network that has no fusion and is the same otherwise, if that was scored."""
    own = recipes.get(key.recipe)
    if own is None or own.model.fusion == "none":
        return rows[key]
    for other, row in rows.items():
        recipe = recipes.get(other.recipe)
        if (
            recipe is not None
            and recipe.model.fusion == "none"
            and (other.protocol, other.changes) == (key.protocol, key.changes)
            and (recipe.model.backbone, recipe.model.context) == (own.model.backbone, own.model.context)
            and all(name.startswith("model.") for name in unlike(own, recipe))
        ):
            return with_gain(rows[key], row)
    return rows[key]


def _order(key: _Key, recipes: Mapping[str, Recipe], usual: Protocol) -> tuple[object, ...]:
    """By backbone, then as in Tables 1 and 2, then the usual protocol and settings first; unknown networks last."""
    last = (key.protocol != usual, len(key.changes), key)
    if key.recipe not in recipes:
        return (1, *last)
    model = recipes[key.recipe].model
    places = [
        [*names].index(name) if name in names else len(names)
        for names, name in (
            (CONTEXT_NAMES, model.context),
            (("none", *FUSION_NAMES), model.fusion),
            (("none", *PYRAMID_NAMES), model.dense_pyramid),
        )
    ]
    return (0, f"{model.backbone.name} {model.backbone.output_stride}", *places, *last)


def _class_table(table: Table, runs: Sequence[ScoredRun]) -> list[Table]:
    """The IoU of every class, of the rows that have been run; no table where the classes are not known."""
    try:
        names = dataset_classes(runs[0].dataset).names
    except UserError:  # the user's own data set
        return []
    if not any(run.scores.per_class.keys() >= set(names) for run in runs):
        return []
    columns = [Column(class_key(name), name, ours_only=True) for name in names]
    rows = [row for row in table.rows if any(column.key in row.ours for column in columns)]
    title = table.title.partition(":")[0]
    return [Table(f"{table.name}_classes", f"{title}: IoU by class", columns, rows, by_class=True)] if rows else []


# ----------------------------------------------------------------------------------------------------------------------
# Tables as text


class Cell(NamedTuple):
    """Text, and the numbers of its footnotes."""

    text: str
    notes: tuple[int, ...] = ()

    @property
    def marks(self) -> str:
        """The numbers of its footnotes as superscripts."""
        return _superscript(",".join(map(str, self.notes)))


@dataclass(frozen=True)
class TextTable:
    """Text in rows and columns; the first column names the row, the others hold numbers."""

    name: str
    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    """The group of every row (empty for none), and its cells."""
    remark: str
    notes: Sequence[str]
    """Footnotes, from number 1 on."""
    parts: Sequence[int]
    """Numbers of columns, after the first, that belong together, such as the paper's, ours and the difference."""


def to_text(table: Table, seeds: bool = True) -> TextTable:
    """Format a table; `seeds`: name the seeds of the runs beside their number."""
    notes = list(dict.fromkeys(note for row in table.rows for note in row.notes))
    numbers = {note: number for number, note in enumerate(notes, start=1)}
    headings, rows, parts = _transposed(table, numbers) if table.by_class else _by_method(table, numbers, seeds)
    return TextTable(table.name, table.title, headings, rows, table.remark, notes, parts)


_Body = tuple[list[str], list[tuple[str, list[Cell]]], list[int]]


def _by_method(table: Table, numbers: Mapping[str, int], seeds: bool) -> _Body:
    """A line for every row; for every score the paper's, ours, and the difference."""
    headings, rows, parts = ["method"], [], []
    for column in table.columns:
        prefix = f"{column.label}, " if len(table.columns) > 1 else ""
        if column.ours_only or column.paper_only:
            part = [column.label]
        else:
            part = [f"{prefix}paper", f"{prefix}ours", *[f"ours {MINUS} paper"] * column.difference]
        headings += part
        parts.append(len(part))
    for row in table.rows:
        cells = [Cell(row.method)]
        marks = tuple(numbers[note] for note in row.notes)
        for column in table.columns:
            cells += _score_cells(column, row, marks)
            marks = ()  # in the first score only
        rows.append((row.group, [*cells, Cell(_run_count(row, seeds))]))
    return [*headings, "runs"], rows, [*parts, 1]


def _transposed(table: Table, numbers: Mapping[str, int]) -> _Body:
    """A line for every score, a column for every method, and ours beside each that has a recipe."""
    headings, columns, parts = ["class"], [], []
    printed = any(not column.ours_only for column in table.columns)
    for row in table.rows:
        parts.append(printed + bool(row.recipe))
        if printed:
            headings.append(row.method)
            columns.append([Cell(_printed(row.paper.get(c.key), None, c.digits)) for c in table.columns])
        if row.recipe:
            headings.append("ours" if printed else row.method)
            marks = tuple(numbers[note] for note in row.notes)
            columns.append([Cell(_mean(row.ours.get(c.key), c.digits), marks) for c in table.columns])
    names = [Cell(column.label) for column in table.columns]
    return headings, [("", list(line)) for line in zip(names, *columns, strict=True)], parts


def _score_cells(column: Column, row: Row, marks: tuple[int, ...]) -> list[Cell]:
    key, digits = column.key, column.digits
    paper, ours = row.paper.get(key), row.ours.get(key)
    paper_cell = Cell(_printed(paper, row.paper_gain.get(key), digits))
    gain = _gain(row.ours_gain.get(key), digits, row.gain_error.get(key)) if ours else ""
    ours_cell = Cell(_mean(ours, digits) + gain, marks)
    if column.paper_only or column.ours_only:
        return [paper_cell if column.paper_only else ours_cell]
    difference = Cell(signed(None if paper is None or ours is None else ours.mean - paper, digits))
    return [paper_cell, ours_cell, *[difference] * column.difference]


def _printed(value: float | None, gain: float | None, digits: int) -> str:
    """As the paper prints it, which may be with one digit more than its neighbours."""
    if value is None:
        return DASH
    return f"{value:.{digits + (round(value, digits) != value)}f}{_gain(gain, digits)}"


def _mean(of: Samples | None, digits: int) -> str:
    if of is None:
        return DASH
    return f"{of.mean:.{digits}f}" + ("" if of.deviation is None else f" ± {of.deviation:.{digits}f}")


def _gain(gain: float | None, digits: int, error: float | None = None) -> str:
    if gain is None:
        return ""
    return f" ({signed(gain, digits)}{'' if error is None else f' ± {error:.{digits}f}'})"


def _run_count(row: Row, with_seeds: bool) -> str:
    """`3 (seeds 0, 1, 2)`, or the number alone."""
    seeds = [str(seed) for seed in row.seeds if seed is not None]
    if not row.seeds:
        return DASH
    folds = max((len(folds) for of in row.ours.values() for folds in of.folds), default=1)
    count = f"{len(row.seeds)}" if folds == 1 else f"{len(row.seeds)} x {folds} folds"
    if not (with_seeds and seeds):
        return count
    unknown = len(row.seeds) - len(seeds)
    more = f", {unknown} unknown" if unknown else ""
    return f"{count} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}{more})"


# ----------------------------------------------------------------------------------------------------------------------
# Tables as files. CSV has a line for every score of every row in full precision; the other formats are for reading.
# tabulate writes plain tables; it knows neither group headings nor footnotes nor LaTeX floats, which these have.


TITLE = "The tables of Gated Fully Fusion, and ours"
LEGEND = (
    "Scores in percent. Ours: mean over runs, ± sample standard deviation, where there are several. In brackets: the "
    "gain over the baseline of the same table, ± its standard error. A dash: not run yet, or run by another "
    "protocol or with other settings, as a note says."
)
COLUMNS = (
    *("table", "group", "method", "recipe", "protocol", "score", "paper", "ours", "deviation", "runs", "seeds"),
    *("ours_minus_paper", "paper_gain", "ours_gain", "gain_error", "notes"),
)
_SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
_WIDE = 7
"""From more columns than these on, a LaTeX table spans two columns of the page."""
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


def write_tables(path: Path, tables: Sequence[Table]) -> None:
    """Write tables as a file in the format of its suffix (one of `FORMATS`), atomically.

    Raises:
        UserError: the suffix is not one of `FORMATS`.
        CannotWrite: the file cannot be written.
    """
    atomic_write(path, format_of(path)(tables))


def format_of(path: Path) -> Callable[[Sequence[Table]], str]:
    """The function that writes files with the suffix of `path`.

    Raises:
        UserError: the suffix is not one of `FORMATS`.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise UserError(f"--out {path} must end in {', '.join(FORMATS)}: the suffix selects the format.")
    return found


def records(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    """Every score of every row as a mapping with the keys `COLUMNS`; None where there is no value."""
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                ours, paper = row.ours.get(column.key), row.paper.get(column.key)
                yield {
                    "table": table.name,
                    "group": row.group or None,
                    "method": row.method,
                    "recipe": row.recipe,
                    "protocol": row.protocol or None,
                    "score": column.key,
                    "paper": paper,
                    "ours": ours.mean if ours else None,
                    "deviation": ours.deviation if ours else None,
                    "runs": len(ours.values) if ours else None,
                    "seeds": " ".join("?" if seed is None else str(seed) for seed in row.seeds) or None,
                    "ours_minus_paper": ours.mean - paper if ours and paper is not None else None,
                    "paper_gain": row.paper_gain.get(column.key),
                    "ours_gain": row.ours_gain.get(column.key),
                    "gain_error": row.gain_error.get(column.key),
                    "notes": "; ".join(row.notes) or None,
                }


def to_csv(tables: Sequence[Table]) -> str:
    """All numbers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(tables))
    return text.getvalue()


def to_markdown(tables: Sequence[Table], title: str = TITLE, legend: str = LEGEND) -> str:
    """The tables in Markdown, under a title and a legend."""
    parts = [f"# {title}", legend]
    for table in map(to_text, tables):
        blanks = [""] * (len(table.headings) - 1)
        lines = [[*map(escape_markdown, table.headings)], ["---", *["---:"] * len(blanks)]]
        for group, rows in groupby(table.rows, key=lambda row: row[0]):
            lines += [[f"*{escape_markdown(group)}*", *blanks]] * bool(group)
            lines += [[escape_markdown(cell.text) + cell.marks for cell in cells] for _, cells in rows]
        parts += [f"## {escape_markdown(table.title)}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        parts += [escape_markdown(table.remark)] * bool(table.remark)
        parts += [f"{_superscript(number)} {escape_markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    return "\n\n".join(parts) + "\n"


def to_html(tables: Sequence[Table]) -> str:
    """The tables as a self-contained page."""
    return fill("reports", "tables.html.jinja", {"title": TITLE, "legend": LEGEND, "tables": [*map(to_text, tables)]})


def to_latex(tables: Sequence[Table]) -> str:
    r"""The tables in LaTeX, for `\input`."""
    parts = [f"% {TITLE}\n% In the preamble: \\usepackage{{booktabs,graphicx}}\n% {LEGEND}"]
    parts += [_latex_table(to_text(table, seeds=False)) for table in tables]
    return "\n\n".join(parts) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    ".md": to_markdown,
    ".csv": to_csv,
    ".tex": to_latex,
    ".html": to_html,
}


def _superscript(text: object) -> str:
    return str(text).translate(_SUPERSCRIPTS)


def _latex_table(table: TextTable) -> str:
    count = len(table.headings)
    environment = "table*" if count > _WIDE else "table"
    lines = [
        rf"\begin{{{environment}}}",
        r"\centering\footnotesize",
        rf"\caption{{{_latex_text(re.sub(r'^Table [0-9]+[.] ', '', table.title))}}}",
        rf"\label{{tab:{table.name}}}",
        *[r"\setlength{\tabcolsep}{3pt}"] * (count > _WIDE),
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}",
        r"\toprule",
        " & ".join(map(_latex_heading, table.headings)) + r" \\",
        r"\midrule",
    ]
    for number, (group, members) in enumerate(groupby(table.rows, key=lambda row: row[0])):
        if group:
            lines += [r"\midrule"] * bool(number)
            lines.append(rf"\multicolumn{{{count}}}{{l}}{{\emph{{{_latex_text(group)}}}}} \\")
        lines += [" & ".join(map(_latex_cell, cells)) + r" \\" for _, cells in members]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\smallskip {_latex_text(table.remark)}"] * bool(table.remark)
    for number, note in enumerate(table.notes, start=1):
        lines.append(rf"\par\smallskip \textsuperscript{{{number}}} {_latex_text(note)}")
    return "\n".join([*lines, rf"\end{{{environment}}}"])


def _latex_heading(text: str) -> str:
    """A heading, broken into lines where its parts are joined."""
    parts = [_latex_text(part) for part in re.split(r", | (?=at )", text)]
    lines = r" \\ ".join(parts)
    return lines if len(parts) == 1 else rf"\shortstack[r]{{{lines}}}"


def _latex_cell(cell: Cell) -> str:
    return _latex_text(cell.text) + (rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else "")


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in text)
