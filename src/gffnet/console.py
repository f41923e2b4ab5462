"""The terminal: notices and progress on standard error, results on standard output, and how numbers are written."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.progress import track as rich_track
from rich.table import Table

from gffnet.errors import UserError

T = TypeVar("T")

DASH = "—"
"""Stands for a score that is undefined (`null` in JSON)."""
MINUS = "−"

screen = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""Standard error. Text is printed as it is and not wrapped, so that file names can be copied."""


class Results(Console):
    """Standard output, for tables. Text is printed as it is."""

    def __init__(self, width: int | None = None) -> None:
        """`width`: in characters, used where the output is not a terminal."""
        super().__init__(markup=False, emoji=False)
        if width is not None and not self.is_terminal:
            self.width = width

    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to the command line (`gffnet.cli.main`)."""
        raise BrokenPipeError


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Iterate over `items` with a progress bar titled `what`."""
    return rich_track(items, escape(what), total=total, console=screen, transient=True, disable=not screen.is_terminal)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar titled `what`; yields a function of (done, total) that advances it."""
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def make_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A table for the terminal: the first column is left-aligned text, the others are right-aligned numbers."""
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction of 1 in percent, without the sign: `0.7256` → `72.6`; a dash for None."""
    return DASH if fraction is None else f"{100 * fraction:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, `+1.2` or `−0.3`; without one where it rounds to zero; a dash for None."""
    if value is None:
        return DASH
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_in_bytes(text: str, argument: str) -> int:
    """Parse a size: `16MB` → 16,000,000.

    Raises:
        UserError: it is not a positive number with a unit; the message names the `argument`.
    """
    parts = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([KMG]i?B)", text)
    if not (parts and float(parts[1])):
        raise UserError(f"{argument} {text!r} must be a number with {', '.join(_UNITS)}, such as 16MB.")
    return int(float(parts[1]) * _UNITS[parts[2]])


def memory_size(size: float) -> str:
    """A number of bytes in MB or GB (powers of 1000): `39.6 MB`."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
