"""What every benchmark here shares: interleaved timing, and a line that says what it ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from gffnet.training.run_folder import commit, hardware


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


def report(lines: list[str], out: Path | None) -> None:
    """Print lines, and keep them if asked."""
    print("\n".join(lines), flush=True)
    if out:
        out.write_text("\n".join(lines) + "\n")


def one_core() -> None:
    """Bind this process to one core, where the system can, and torch to one thread."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine(*packages: str) -> str:
    """Processor, threads, versions (of torch, timm and `packages`) and commit, in one line."""
    code = commit()
    place = code["commit"][:7] if code else "unknown"
    features = [name for name in ("amx_tile", "avx512_bf16", "avx512f", "avx2") if _cpu_flag(name)]
    threads = torch.get_num_threads()
    versions = "".join(f"{name} {version(name)}, " for name in packages)
    return (
        f"{hardware()['cpu']} ({', '.join(features)}), {threads} thread{'s' * (threads > 1)}, "
        f"torch {torch.__version__}, timm {timm.__version__}, {versions}Python {platform.python_version()}, "
        f"commit {place}"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _cpu_flag(name: str) -> bool:
    return any(line.startswith("flags") and name in line.split() for line in _lines(Path("/proc/cpuinfo")))
