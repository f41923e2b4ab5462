"""What came of predicting many files: counts, and the list of those that failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gffnet.console import screen
from gffnet.errors import RunFailed, UserError
from gffnet.files import write_whole

SHOWN = 50
"""So many failures are listed on the screen; the file has them all."""


class Outcome:
    """The count of written files and of those that were there already, and every failure with its reason."""

    def __init__(self, out: Path, results: tuple[str, ...], shard: tuple[int, int] = (1, 1), alone: bool = False):
        """`results`: names of the folders that are written; `alone`: it is about one file, which speaks for itself."""
        self.out = out
        self.noun = "image"
        self.results = results
        self.written = 0
        self.skipped = 0
        self.failed: list[tuple[Path, str]] = []
        self._alone = alone
        self._list = out / ("failed.txt" if shard == (1, 1) else f"failed-{shard[0]}-of-{shard[1]}.txt")

    def fail(self, file: Path, reason: str) -> None:
        """Note a failure, and say so."""
        reason = " ".join(reason.split())
        self.failed.append((file, reason))
        if not self._alone:
            screen.print(f"left out: {file}: {reason}", style="yellow")

    def write_failed(self) -> None:
        """Write the list of failures, or remove that of an earlier run where nothing failed.

        Raises:
            CannotWrite: it cannot be written.
        """
        if self.failed:
            lines = "".join(f"{file}: {reason}\n" for file, reason in self.failed).encode("utf-8", "surrogateescape")
            if not self._list.exists() or self._list.read_bytes() != lines:
                write_whole(self._list, lines)
        else:
            self._list.unlink(missing_ok=True)

    def to_mapping(self) -> dict[str, Any]:
        """The summary, for JSON."""
        failed = [{"file": str(file), "reason": reason} for file, reason in self.failed]
        return {"written": self.written, "skipped": self.skipped, "failed": failed, "out": str(self.out)}

    def tell(self) -> None:
        """Say how many files were written, and what failed.

        Raises:
            UserError: it was about a single file, which failed.
            RunFailed: some files failed.
        """
        if self._alone and self.failed:
            raise UserError(": ".join(map(str, self.failed[0])))
        for file, reason in self.failed[:SHOWN]:
            screen.print(f"failed: {file}: {reason}")
        if len(self.failed) > SHOWN:
            screen.print(f"and {len(self.failed) - SHOWN} more")
        files = f"{self.written} {self.noun}{'' if self.written == 1 else 's'}"
        were = "was" if self.skipped == 1 else "were"
        screen.print(f"{files} written, {self.skipped} {were} there already: {self.out}/{', '.join(self.results)}")
        if self.failed:
            total = self.written + self.skipped + len(self.failed)
            raise RunFailed(
                f"{len(self.failed)} of {total} files failed and were left out; they are listed in {self._list}. "
                f"The others are in {self.out}."
            )


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on a terminal, with items per second; its task is 0."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()]
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        progress.add_task(what, total=total)
        yield progress


class _Speed(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """`12.3/s`, once it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")
