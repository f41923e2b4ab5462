"""What every benchmark here shares: its options, interleaved timing, the report, and a line on what it ran on."""

import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch

from gffnet.cli.arguments import Parser, number, path, whole_number
from gffnet.errors import RunFailed, UserError
from gffnet.files import atomic_write, cannot_write
from gffnet.training.run_folder import commit, hardware

COMMAND = f"python benchmarks/{Path(sys.argv[0]).name}"
"""Of the script; the first words of the files that it writes."""


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; bad input (exit code 2) and failures (1) are one line, as those of `gffnet` are."""
    try:
        main()
    except (UserError, RunFailed) as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


def make_parser(doc: str | None) -> Parser:
    """A parser whose errors are `UserError`s, described by the first line of a docstring."""
    return Parser(description=(doc or "").partition("\n")[0])


def add_count(parser: Parser, option: str, default: int | list[int] | None, least: int = 1, **more: Any) -> None:
    """An option whose value is a whole number, or several if the default is a list."""
    several = "+" if isinstance(default, list) else None
    parser.add_argument(option, type=whole_number(option, least), nargs=several, default=default, **more)


def positive(option: str) -> Callable[[str], float]:
    """The type of an option whose value is a number above 0."""

    def parse(text: str) -> float:
        if not 0 < number(text) < math.inf:
            raise UserError(f"{option} {text!r} must be a number above 0.")
        return float(text)

    return parse


def add_out(parser: Parser) -> None:
    """`--out`, the file of the report: it is checked before the measurement."""
    parser.add_argument("--out", type=_report_file, metavar="FILE", help="also write the report to this file")


def _report_file(text: str) -> Path:
    file = path(text)
    if file.is_dir():
        raise UserError(f"--out {file} is a folder: name a file in it.")
    if file.exists() and not file.read_text(errors="replace").startswith(f"`{COMMAND}"):
        raise UserError(f"--out {file} exists and is no report of {COMMAND}: name another file, or move it away first.")
    make_folder(file.parent)
    return file


def make_folder(folder: Path) -> None:
    """Create a folder unless it is there. Raises `UserError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None


def source(text: str) -> Path:
    """The `src` folder of a checkout: without the package in it, the installed one would be measured."""
    folder = path(text)
    if not (folder / "gffnet/__init__.py").is_file():
        raise UserError(f"{folder} holds no gffnet/__init__.py: name the src folder of a checkout, such as ../old/src.")
    return folder.resolve()


class Timing(NamedTuple):
    """Seconds a call."""

    median: float
    low: float
    high: float


def interleaved(
    calls: dict[str, Callable[[], object]],
    runs: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call in every run, all calls once a run, so that a slow moment strikes them alike."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return seconds


def timing(seconds: list[float]) -> Timing:
    """Median and range."""
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def ratios(seconds: list[float], base: list[float]) -> Timing:
    """Median and range of the ratio run by run."""
    return timing([a / b for a, b in zip(seconds, base, strict=True)])


def spread(t: Timing, digits: int) -> str:
    """Median and, in brackets, range."""
    return f"{t.median:.{digits}f} ({t.low:.{digits}f}-{t.high:.{digits}f})"


class Report:
    """Lines that are printed as they come, and kept in a file if there is one: the rest may be interrupted."""

    def __init__(self, out: Path | None) -> None:
        self.out, self.lines = out, [f"`{shlex.join([*COMMAND.split(), *sys.argv[1:]])}`", ""]

    def add(self, *lines: str) -> None:
        """Print lines, and write all so far."""
        print("\n".join(lines), flush=True)
        self.lines += lines
        if self.out:
            atomic_write(self.out, "\n".join(self.lines) + "\n")


def report(lines: list[str], out: Path | None) -> None:
    """Print lines, and keep them if asked."""
    Report(out).add(*lines)


def one_core() -> None:
    """Bind this process to one core, where the system can, and torch to one thread."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def commit_of(folder: Path | None = None) -> str:
    """The commit of the code that runs, or of the package in a `src` folder, and whether files differ from it."""
    code = commit(folder / "gffnet") if folder else commit()
    return f"{code['commit'][:7]}{' with changes' * code['changes']}" if code else "unknown"


def machine(*packages: str, threads: Sequence[int] = ()) -> str:
    """Processor, threads (default: those of now), versions (of torch, timm, `packages`) and commit, in one line."""
    features = [name for name in ("amx_tile", "avx512_bf16", "avx512f", "avx2") if _cpu_flag(name)]
    counts = [*threads] or [torch.get_num_threads()]
    versions = "".join(f"{name} {version(name)}, " for name in packages)
    return (
        f"{hardware()['cpu']} ({', '.join(features)}), {', '.join(map(str, counts))} thread{'s' * (counts != [1])}, "
        f"torch {torch.__version__}, timm {timm.__version__}, {versions}Python {platform.python_version()}, "
        f"commit {commit_of()}"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _cpu_flag(name: str) -> bool:
    return any(line.startswith("flags") and name in line.split() for line in _lines(Path("/proc/cpuinfo")))
