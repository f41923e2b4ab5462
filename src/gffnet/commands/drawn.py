"""Tables for the terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

DASH = "—"


def drawn(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Any:
    """A table of text whose first column says what a row is of; the others hold numbers."""
    from rich.table import Table

    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def percent(share: float | None) -> str:
    """A fraction in percent; a dash for none."""
    return DASH if share is None else f"{100 * share:.2f}"
