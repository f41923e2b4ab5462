"""The paper's scores, and which of them a score of ours may stand beside: same recipe, same protocol, or none.

`paper.yaml` beside this module holds them, one entry a row of a table.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("paper.yaml")
_CROPS = {"cityscapes": (864, 864)}
_OVERLAP = 1 / 3


@dataclass(frozen=True)
class PaperRow:
    """One row of the paper's tables; scores in percent, as printed."""

    recipe: str
    tables: tuple[int, ...]
    """Where it is printed; Table 3 repeats what Table 2 has, and so on."""
    method: str
    """As the table names it."""
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

    def differences(self, protocol: Mapping[str, Any]) -> list[str]:
        """What a protocol, as `scores.json` holds it, has otherwise than this row's."""
        ours, window = protocol.get, list(self.crop)
        return [
            text
            for text, differs in (
                (f"it is of {self.dataset}", ours("dataset") != self.dataset),
                (f"it is of {self.split}", ours("split") != self.split),
                (f"its scales are {_listed(self.scales or ())}", not _same(self.scales, ours("scales"))),
                (f"its window is {window[0]}x{window[1]}", ours("crop") != window),
                ("its windows overlap by one third", not _same((_OVERLAP,), [ours("overlap")])),
                ("it is not averaged with the mirrored image", bool(ours("flip"))),
            )
            if differs
        ]


@dataclass(frozen=True)
class Match:
    """The row that a score may stand beside, or why there is none."""

    row: PaperRow | None
    remark: str
    """Where the row is, and what is uncertain about it; or why there is none."""


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """All rows that there is a recipe for."""
    entries: list[dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    for entry in entries:
        entry.update({key: tuple(value) for key, value in entry.items() if isinstance(value, list)})
    return tuple(PaperRow(**entry) for entry in entries)


def match(protocol: Mapping[str, Any]) -> Match:
    """The paper's row with the recipe and the protocol of a score, as `scores.json` holds it."""
    rows = [row for row in paper_rows() if row.recipe == protocol.get("recipe")]
    if not rows:
        return Match(None, f"the paper has no row for {protocol.get('recipe')}")
    nearest = min(rows, key=lambda row: len(row.differences(protocol)))
    differences = nearest.differences(protocol)
    if differences:
        return Match(None, f"the paper's row ({nearest.where}) was measured otherwise: {', '.join(differences)}")
    doubt = "" if nearest.scales else "; the paper does not say whether it is multi-scale"
    return Match(nearest, nearest.where + doubt)


def _same(wanted: tuple[float, ...] | None, given: Any) -> bool:
    """Whether numbers are those wanted, in whatever order; if none are wanted, any are right."""
    if wanted is None:
        return True
    try:
        return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(sorted(wanted), sorted(given), strict=True))
    except (TypeError, ValueError):
        return False


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
