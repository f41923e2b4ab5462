"""The confusion matrix as a report shows it: which classes are taken for which others.

Rows are divided by their sums, `n_ij / Σ_j n_ij`: the share of the pixels of class i that were predicted as j. A few
classes are drawn as a table of cells in the colours of the page, many as a picture; the worst pairs are listed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from gffnet.analysis.pictures import Picture, share_picture
from gffnet.evaluation.confusion_file import NO_CLASS

MOST_CELLS = 32
"""Classes that are drawn as cells; more of them make a picture."""
PAIRS = 12
CELL, MARGIN = 33, 8
"""Side of a cell, and around the drawing, in units of the drawing."""
LETTER = 6.6
"""Width of a letter of a class name, about."""
LEAST = 0.005
"""Shares below it have no number in their cell."""
STRONGEST = 0.62
"""Opacity of a share of 1: with more, numbers would be hard to read."""


class Cell(NamedTuple):
    """One share, placed."""

    x: float
    y: float
    text: str
    """In percent; empty where it is next to nothing."""
    opacity: float
    hit: bool
    """Whether class and predicted class are the same."""
    title: str


class Label(NamedTuple):
    """The name of a row or a column, placed."""

    x: float
    y: float
    text: str


class Pair(NamedTuple):
    """Pixels of one class that were predicted as another."""

    label: str
    answer: str
    share: float
    """Of the pixels of the class."""
    pixels: int


class Confusion(NamedTuple):
    """What a template draws."""

    pairs: list[Pair]
    cells: list[Cell]
    rows: list[Label]
    columns: list[Label]
    width: float
    height: float
    picture: Picture | None
    """In place of cells, where there are many classes."""
    description: str
    """The matrix in words, for those who do not see it."""
    cell: int = CELL


def confusion_of(counts: Int64[np.ndarray, "k k_and_none"] | None, names: Sequence[str]) -> Confusion | None:
    """The drawing of a matrix of counts; `None` where nothing was counted."""
    if counts is None or not counts.any():
        return None
    shares = row_shares(counts)
    pairs = worst_pairs(counts, names)
    there = [i for i in range(len(names)) if counts[i].any()]
    hits = [shares[i, i] for i in there]
    told = "; ".join(f"{pair.share:.0%} of {pair.label} as {pair.answer}" for pair in pairs[:3])
    description = (
        f"Confusion matrix of {len(there)} classes. Found: {min(hits):.0%} to {max(hits):.0%} of a class's pixels."
        + (f" Most often confused: {told}." if told else "")
    )
    if len(names) > MOST_CELLS:
        return Confusion(pairs, [], [], [], 0, 0, share_picture(np.sqrt(shares[:, : len(names)])), description)
    return _drawn(shares, names, pairs, description)


def row_shares(counts: Int64[np.ndarray, "k columns"]) -> Float64[np.ndarray, "k columns"]:
    """Every row divided by its sum; 0 where there is nothing to divide."""
    sums = counts.sum(1, keepdims=True)
    shares: np.ndarray = counts / np.maximum(sums, 1)
    return shares


def worst_pairs(counts: Int64[np.ndarray, "k k_and_none"], names: Sequence[str], most: int = PAIRS) -> list[Pair]:
    """The pairs of different classes with the greatest shares of the labelled one."""
    shares = row_shares(counts)
    np.fill_diagonal(shares, 0)
    answers = [*names, NO_CLASS]
    pairs = []
    for place in np.argsort(-shares, axis=None, kind="stable")[:most]:
        i, j = divmod(int(place), shares.shape[1])
        if shares[i, j] > 0:
            pairs.append(Pair(names[i], answers[j], float(shares[i, j]), int(counts[i, j])))
    return pairs


def _drawn(shares: np.ndarray, names: Sequence[str], pairs: list[Pair], description: str) -> Confusion:
    """The cells, with names to the left and above."""
    answers = [*names, NO_CLASS] if shares[:, len(names)].any() else list(names)
    left = top = MARGIN + LETTER * max(len(_short(name)) for name in answers) + 8
    cells = [
        Cell(
            left + CELL * j,
            top + CELL * i,
            _number(shares[i, j]),
            round(STRONGEST * float(np.sqrt(shares[i, j])), 3),
            i == j,
            f"{name} as {answer}: {shares[i, j]:.2%}",
        )
        for i, name in enumerate(names)
        for j, answer in enumerate(answers)
    ]
    rows = [Label(left - 8, top + CELL * (i + 0.5) + 4, _short(name)) for i, name in enumerate(names)]
    columns = [Label(left + CELL * (j + 0.5) + 4, top - 8, _short(name)) for j, name in enumerate(answers)]
    width, height = left + CELL * len(answers) + MARGIN, top + CELL * len(names) + MARGIN
    return Confusion(pairs, cells, rows, columns, width, height, None, description)


def _number(share: float) -> str:
    return f"{100 * share:.0f}" if share >= LEAST else ""


def _short(name: str) -> str:
    """A name that fits."""
    return name if len(name) <= 18 else f"{name[:17]}…"
