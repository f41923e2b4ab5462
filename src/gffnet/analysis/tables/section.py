"""A table before it is set: lines with the paper's figures and ours, as numbers.

Ours is the mean over runs, which differ in their seeds, with the sample standard deviation

    s = sqrt(Σ (x - mean)² / (n - 1))

where there are two runs or more. A gain is the difference of two means. Runs of one seed see the same crops in the same
order, so that they are lucky together: where both have the same n ≥ 2 seeds, the gain's standard error is that of the
mean of the differences d between runs of one seed, else, where both are of two runs or more, that of unrelated means:

    e = s(d) / sqrt(n)        e = sqrt(s_1² / n_1 + s_2² / n_2)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import hypot, sqrt
from statistics import fmean, stdev

from gffnet.analysis.tables.scores import Scored


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
