"""Tables as they are read: the numbers of a section as text, with what is to be known of them in notes below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gffnet.analysis.tables.section import Line, Score, Section, Spread

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
    headings, rows = _by_class(section, numbers) if section.by_class else _by_method(section, numbers, seeds)
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


def _by_class(section: Section, numbers: Mapping[str, int]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
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
