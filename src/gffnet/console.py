"""What the program tells the person at the terminal: progress and notices on standard error, results on output."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.progress import track as rich_track

T = TypeVar("T")

screen = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
"""Standard error; standard output is for results. What it prints appears word for word and on one line: names of files
may hold brackets and colons, and are there to be copied."""


class Results(Console):
    """Standard output, for tables: names appear word for word."""

    def __init__(self, width: int | None = None) -> None:
        """`width`: in characters, where the output is no terminal."""
        super().__init__(markup=False, emoji=False)
        if width is not None and not self.is_terminal:
            self.width = width

    def on_broken_pipe(self) -> None:
        """Let the command line deal with a reader that has left."""
        raise BrokenPipeError


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """`items`, with a progress bar that says `what` while they are gone through."""
    return rich_track(items, escape(what), total=total, console=screen, transient=True, disable=not screen.is_terminal)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that says `what`, moved on by calling what it yields with (done, total)."""
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
