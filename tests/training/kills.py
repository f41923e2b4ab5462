"""Kill a small run repeatedly, resume it each time, and compare its result with that of an uninterrupted run.

    python -m tests.training.kills [--kills 20] [--seed 0] [--threads 2]

Every other kill strikes while a checkpoint is being written, the others at a random moment after the start of the
process, but before it has come so far that nothing would be left for the kills that follow. Prints where each kill
struck, and whether the final weights are the same bit for bit.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.run_folder import LAST
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.processes import Forked

TIMES = {"images_per_second", "seconds", "memory"}
"""What the history says that depends on the clock."""


class Kill(NamedTuple):
    """Where a kill struck."""

    seconds: float
    """After the process was started."""
    writing: bool
    """A checkpoint was being written."""
    iteration: int
    """Of the last checkpoint that is there."""


def recipe(iterations: int) -> Recipe:
    """A GFFNet with all that a checkpoint must hold; a checkpoint every other iteration."""
    return tiny.recipe(
        tiny.GFFNET,
        iterations=iterations,
        validate_every=20,
        checkpoint_every=2,
        ema=0.99,
        device_batch=1,
        clip_gradients=1.0,
        workers=1,
    )


def start(out: Path, root: Path, of: Recipe, threads: int = 1) -> Forked:
    """`gffnet train --resume` in a process of its own."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(of.to_mapping()))
    words = ["train", file, "--root", root, "--out", out, "--resume"]
    return Forked(words, out.with_suffix(".log"), lambda: torch.set_num_threads(threads))


def finish(process: Forked) -> None:
    """Wait for a run to end well."""
    code, output = process.wait()
    if code:
        raise RuntimeError(f"the run failed:\n{output[-3000:]}")


def kills(number: int, out: Path, root: Path, of: Recipe, rng: random.Random, threads: int = 1) -> Iterator[Kill]:
    """Kill the run in `out` so many times; then let it end."""
    ahead = of.training.iterations // of.training.checkpoint_every // (number + 1)  # checkpoints for each of them
    for i in range(number):
        process = start(out, root, of, threads)
        began = time.perf_counter()
        if i % 2:  # wait for a checkpoint, the first or a later one, and strike while it is written
            writing = _wait_for_writing(process, out, skip=rng.randrange(ahead))
            time.sleep(rng.random() * 0.01)
        else:
            writing = False
            _wait(process, out, rng.uniform(0, 5), ahead)
        if not process.process.is_alive():
            raise RuntimeError(f"the run ended before it could be killed:\n{process.wait()[1][-3000:]}")
        process.kill(signal.SIGKILL)
        process.wait()
        yield Kill(time.perf_counter() - began, writing, _iteration(out))
    finish(start(out, root, of, threads))


def _wait(process: Forked, out: Path, seconds: float, ahead: int) -> None:
    """Wait so long, or until so many checkpoints are written, however fast the machine is."""
    end = time.perf_counter() + seconds
    last = _written(out)
    while process.process.is_alive() and time.perf_counter() < end and ahead:
        time.sleep(0.001)
        before, last = last, _written(out)
        ahead -= before != last


def _written(out: Path) -> int:
    """When the last checkpoint was written, in nanoseconds; 0 if there is none."""
    return (out / LAST).stat().st_mtime_ns if (out / LAST).is_file() else 0


def _wait_for_writing(process: Forked, out: Path, skip: int) -> bool:
    """Wait until a checkpoint is being written, for the (`skip` + 1)th time."""
    before = _being_written(out)
    while process.process.is_alive():
        now = _being_written(out)
        if now - before:
            if skip == 0:
                return True
            skip -= 1
        before = now
        time.sleep(0.0003)
    return False


def _being_written(out: Path) -> set[str]:
    """Names of checkpoints that are not whole yet, or were not when a kill struck."""
    return {path.name for path in (out / LAST.parent).glob(".*.part")}


def _iteration(out: Path) -> int:
    last = out / LAST
    return int(torch.load(last, weights_only=True)["global_step"]) if last.is_file() else 0


def same(one: Path, two: Path) -> bool:
    """Whether two runs have the same weights, and have the same history but for the times; no partial file is left."""
    files = ("model/model.safetensors", "best/model.safetensors")
    if any(two.glob("*/*.part")):
        return False
    stories = [
        [{k: v for k, v in line.items() if k not in TIMES} for line in read_history(run / "history.jsonl")]
        for run in (one, two)
    ]
    return stories[0] == stories[1] and all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def main() -> int:
    """The script; returns 0 if all is the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=240)
    arguments = parser.parse_args()
    of = recipe(arguments.iterations)
    with tempfile.TemporaryDirectory() as folder:
        root = camvid_tree(Path(folder) / "CamVid")
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        finish(start(whole, root, of, arguments.threads))
        struck = kills(arguments.kills, broken, root, of, random.Random(arguments.seed), arguments.threads)
        for i, kill in enumerate(struck, 1):
            where = "while a checkpoint was written" if kill.writing else "at a random moment"
            print(f"kill {i}: after {kill.seconds:.2f} s, {where}; iteration {kill.iteration} is kept", flush=True)
        identical = same(whole, broken)
    print(f"{arguments.kills} kills: the final weights are {'identical, bit for bit' if identical else 'NOT the same'}")
    return 0 if identical else 1


if __name__ == "__main__":
    sys.exit(main())
