"""The terminal: notices and progress on standard error, results on standard output, and how numbers are written."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby, pairwise
from typing import TypeVar

from rich.cells import cell_len
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


WIDEST = 120
"""The longest line of text, also where the terminal is wider."""


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

    def print_text(self, text: str, indent: str = "") -> None:
        """Print a paragraph wrapped at words; lines after the first are indented. File names stay whole."""
        lines = textwrap.wrap(
            text,
            min(self.width, WIDEST),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.print("\n".join(lines), soft_wrap=True, highlight=False)

    def print_table(
        self,
        headings: Sequence[str],
        rows: Sequence[tuple[str, Sequence[str]]],
        parts: Sequence[int],
        title: str,
    ) -> None:
        """Print a table that fits: one that is too wide in several pieces, each of which begins with the first column.

        Args:
            headings: of the columns; the first has text, the others have numbers.
            rows: the group of every row, which is printed above its first (empty for none), and its cells.
            parts: numbers of columns, after the first, that are not parted.
            title: printed above.
        """
        columns = [*zip(headings, *(cells for _, cells in rows), strict=True)]
        # The first column and the headings of the others are wrapped at need, numbers never.
        words = [_width(*cells, *heading.split()) for heading, *cells in columns]
        least = [max(_width(*cells), min(word, _LONG_WORD)) for word, (_, *cells) in zip(words, columns, strict=True)]
        most = [_width(*column) for column in columns]
        most[0] = max(most[0], _width(*(group for group, _ in rows)))
        numbers = least[1:]
        widest = min(most[0], max(_NAMES, self.width * 2 // 5))
        firsts = range(widest, min(_NAMES, widest) - 1, -1)
        # The widest first column with which the pieces are fewest.
        least[0] = words[0] = min(firsts, key=lambda first: len(_pieces(numbers, parts, self.width - first - 4)))
        room = self.width - least[0] - 4
        for piece in _pieces(numbers, parts, room):
            shown = make_table([headings[i] for i in (0, *piece)], [])
            spare = room - sum(least[i] + 3 for i in piece)
            widths = {i: least[i] for i in (0, *piece)}
            for wanted in (words, most):  # whole words first, then whole headings
                for i in widths:
                    more = max(0, min(wanted[i] - widths[i], spare))
                    widths[i], spare = widths[i] + more, spare - more
            for column, width in zip(shown.columns, widths.values(), strict=True):
                column.width, column.overflow = width, "fold"
            for group, members in groupby(rows, key=lambda row: row[0]):
                if group:
                    shown.add_section()
                    shown.add_row(group, style="italic")
                for _, cells in members:
                    shown.add_row(*(cells[i] for i in (0, *piece)))
            if piece.start <= 1:
                self.print_text(title)
            self.print(shown)


_NAMES = 24
"""Least width of a first column that is wrapped."""
_LONG_WORD = 22
"""Longer words of headings are broken where columns are many."""


def _width(*texts: str) -> int:
    """Of the longest line."""
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)


def _pieces(widths: Sequence[int], parts: Sequence[int], room: int) -> list[range]:
    """Divide columns, numbered from 1, into the fewest pieces that fit, of like widths; `parts` stay whole."""
    ends = [*accumulate(parts, initial=0)]
    units = [sum(widths[start:end]) + 3 * (end - start) for start, end in pairwise(ends)]

    def pieces(room: int) -> list[range]:
        starts, used = [0], 0
        for i, unit in enumerate(units):
            if used and used + unit > room:
                starts, used = [*starts, i], 0
            used += unit
        return [range(ends[start] + 1, ends[end] + 1) for start, end in pairwise([*starts, len(units)])]

    fewest = len(pieces(room))
    return next((found for width in range(room) if len(found := pieces(width)) == fewest), pieces(room))


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
