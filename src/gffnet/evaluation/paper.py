"""The paper's tables, and which of their rows a score of ours may stand beside: same recipe, same protocol.

`paper.yaml` holds the tables as printed. A `PaperRow` is what they say about one network under one protocol, in
whichever tables they print it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gffnet.data.datasets import image_count

_FILE = Path(__file__).with_name("paper.yaml")
_CROPS = {"cityscapes": (864, 864)}
_OVERLAP = 1 / 3
SCORES = ("miou", "pixel_accuracy", "gflops", "params")
"""The scores that tables print, in the order of their columns."""


@dataclass(frozen=True)
class PaperRow:
    """One row of the paper's tables; scores in percent, as printed."""

    recipe: str
    tables: tuple[int, ...]
    """Where it is printed: Table 3 repeats rows of Table 2, and so on."""
    method: str
    """Its name in the table."""
    miou: float
    pixel_accuracy: float | None = None
    split: str = "val"
    scales: tuple[float, ...] | None = None
    """None: the paper does not say."""
    per_class: Mapping[str, float] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The data set that it is trained and scored on."""
        return self.recipe.split("/")[0]

    @property
    def crop(self) -> tuple[int, int]:
        """The sliding window: that of training."""
        return _CROPS.get(self.dataset, (512, 512))

    @property
    def where(self) -> str:
        """Such as `Tables 2 and 3, PSPNet + GFF`."""
        *others, last = map(str, self.tables)
        return f"Table{'s' if others else ''} {', '.join(others)}{' and ' if others else ''}{last}, {self.method}"

    def part(self, images: int | None) -> str:
        """`of 2 images, not the 500 of val` for a score of another number of images than the split has; else empty."""
        whole = image_count(self.dataset, self.split)
        if None in (images, whole) or images == whole:
            return ""
        return f"of {images} image{'s' * (images != 1)}, not the {whole} of {self.split}"

    def differences(self, protocol: Mapping[str, Any]) -> list[str]:
        """List how this row's protocol differs from one that `scores.json` holds."""
        ours, window = protocol.get, list(self.crop)
        scales = " ".join(f"{scale:g}" for scale in self.scales or ())
        return [
            text
            for text, differs in (
                (f"it is of {self.dataset}", ours("dataset") != self.dataset),
                (f"it is of {self.split}", ours("split") != self.split),
                (f"its scales are {scales}", not _same(self.scales, ours("scales"))),
                (f"its window is {window[0]}x{window[1]}", ours("crop") != window),
                ("its windows overlap by one third", not _same((_OVERLAP,), [ours("overlap")])),
                ("it is without horizontal flip", bool(ours("flip"))),
            )
            if differs
        ]


@dataclass(frozen=True)
class Match:
    """The row that a score may stand beside, or why there is none."""

    row: PaperRow | None
    remark: str
    """Where the row is, and what is uncertain about it; or why there is none."""
    nearest: PaperRow | None = None
    """The row of this recipe whose protocol is nearest, whether it may stand there or not."""


@dataclass(frozen=True)
class PrintedRow:
    """One line of one table."""

    method: str
    group: str
    """The heading above it; empty if there is none."""
    scores: Mapping[str, float]
    """By `miou`, `pixel_accuracy`, both in percent, `gflops`, `params` in millions; only those printed."""
    per_class: Mapping[str, float]
    baseline: bool
    """Whether the rows below it are improvements of it."""
    row: PaperRow | None
    """The network and the protocol that there is a recipe for, if there is one."""


@dataclass(frozen=True)
class PaperTable:
    """One table."""

    number: int
    title: str
    rows: tuple[PrintedRow, ...]
    digits: int = 1
    """Decimal places of its scores."""


@cache
def paper_tables() -> tuple[PaperTable, ...]:
    """Return all tables, in order."""
    tables = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    networks: dict[tuple[Any, ...], PaperRow] = {}
    for table in tables:
        for line in table["rows"]:
            if "recipe" in line:
                networks[_key(table, line)] = _network(table, line, networks.get(_key(table, line)))
    return tuple(
        PaperTable(
            table["table"],
            table["title"],
            tuple(_printed(table, line, networks) for line in table["rows"]),
            table.get("digits", 1),
        )
        for table in tables
    )


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Return the rows that have a recipe, each once, in the order in which they are first printed."""
    return tuple({id(line.row): line.row for table in paper_tables() for line in table.rows if line.row}.values())


def match(protocol: Mapping[str, Any], images: int | None = None) -> Match:
    """Find the paper's row with the recipe and protocol of a score, as `scores.json` holds it.

    The remark says so if it is of a part of the split, that is of fewer `images`.
    """
    rows = [row for row in paper_rows() if row.recipe == protocol.get("recipe")]
    if not rows:
        return Match(None, f"the paper has no row for {protocol.get('recipe')}")
    nearest = min(rows, key=lambda row: len(row.differences(protocol)))
    differences = nearest.differences(protocol)
    if differences:
        reason = f"the paper's row ({nearest.where}) was measured otherwise: {', '.join(differences)}"
        return Match(None, reason, nearest)
    doubts = [nearest.where]
    if not nearest.scales:
        doubts.append("the paper does not say whether it is multi-scale")
    if part := nearest.part(images):
        doubts.append(f"ours is {part}")
    return Match(nearest, "; ".join(doubts), nearest)


def _key(table: Mapping[str, Any], line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what distinguishes rows: recipe, split, scales."""
    scales = line.get("scales", table["scales"])
    return line["recipe"], table.get("split", "val"), None if scales is None else tuple(scales)


def _network(table: Mapping[str, Any], line: Mapping[str, Any], before: PaperRow | None) -> PaperRow:
    """Return the row of a line, merged with what earlier tables print of the same network."""
    recipe, split, scales = _key(table, line)
    group = f", {line['group']}" if "group" in line else ""
    return PaperRow(
        recipe,
        (*(before.tables if before else ()), table["table"]),
        before.method if before else line["method"] + group,
        line["miou"],
        line.get("pixel_accuracy"),
        split,
        scales,
        _per_class(table, line),
    )


def _printed(
    table: Mapping[str, Any], line: Mapping[str, Any], networks: Mapping[tuple[Any, ...], PaperRow]
) -> PrintedRow:
    scores = {name: line[name] for name in SCORES if name in line}
    network = networks[_key(table, line)] if "recipe" in line else None
    group, baseline = line.get("group", ""), line.get("baseline", False)
    return PrintedRow(line["method"], group, scores, _per_class(table, line), baseline, network)


def _per_class(table: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, float]:
    """Return the IoU by class, for tables that print it."""
    return dict(zip(table["classes"], line["per_class"], strict=True)) if "classes" in table else {}


def _same(wanted: tuple[float, ...] | None, given: Any) -> bool:
    """Compare numbers in any order; `wanted` None accepts any."""
    if wanted is None:
        return True
    try:
        return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(sorted(wanted), sorted(given), strict=True))
    except (TypeError, ValueError):
        return False
