"""Two processes side by side: the speed of each over the speed alone.

    python benchmarks/neighbours.py [--work predict train ...] [--seconds 10] [--source SRC ...]
                                    [--environment "" GOMP_SPINCOUNT=1000 ...] [--out FILE]

| work | is |
|---|---|
| predict | the network of `camvid/long/gffnet_r18` (ResNet-18) on an image of 360x480, again and again |
| predict_lite0 | the same with GFFNet on EfficientNet-Lite0, 64 channels, strides 4 8 16 32 |
| train | `gffnet train streets/gffnet_r18` with crops of 128x256 |
| train_lite0 | the same on EfficientNet-Lite0, 64 channels, crops of 256x512 |

Weights are random. Every process runs for that many seconds; steps count that end while all processes are past their
first. `--source` are `src` folders, such as that of an older commit in a worktree of git: each is measured with its own
code. `--environment` are settings to compare, each several NAME=VALUE separated by spaces.
"""

import argparse
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from itertools import product
from multiprocessing import active_children
from pathlib import Path
from statistics import mean
from typing import Any

WORK = ("predict", "predict_lite0", "train", "train_lite0")
NETWORKS: dict[str, tuple[str, int, int]] = {
    "predict": ("resnet18", 256, 16),
    "predict_lite0": ("tf_efficientnet_lite0", 64, 32),
}
"""Backbone, channels and output stride."""
HERE = Path(__file__).resolve().parent.parent / "src"
LITE0 = "model.backbone.name=tf_efficientnet_lite0 model.backbone.output_stride=32 model.channels=64"
OUTSIDE = dict(os.environ)
"""The environment before `import gffnet` changes it."""
WARM_UP = 3
"""Steps that do not count: memory is allocated in them."""


class Steps(list[float]):
    """The times at which steps ended; printed when time is up, which ends the process."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def add(self) -> None:
        """Add a step that has ended now."""
        self.append(time.time())
        if self[-1] - self[min(WARM_UP, len(self) - 1)] > self.seconds:
            print(*self, flush=True)
            for child in active_children():
                child.kill()
            os._exit(0)


def predict(name: str, steps: Steps) -> None:
    """Predict until time is up."""
    import numpy as np

    import gffnet
    from gffnet.inference import precision

    getattr(precision, "keep_pages", lambda: None)()  # older commits do not have it there
    backbone, channels, stride = NETWORKS[name]
    predictor = gffnet.load(gffnet.GFFNet(backbone, 11, channels=channels, output_stride=stride))
    image = np.random.default_rng(0).integers(256, size=(360, 480, 3), dtype=np.uint8)
    while True:
        predictor.predict(image)
        steps.add()


def train(name: str, steps: Steps, root: str, changes: list[str]) -> None:
    """Train until time is up."""
    from gffnet.training import task

    own = [each for each in vars(task).values() if getattr(each, "__module__", "") == task.__name__]
    (kind,) = (each for each in own if "training_step" in getattr(each, "__dict__", ()))  # older commits: another name
    step = kind.training_step

    def timed(*arguments: Any) -> Any:
        done = step(*arguments)
        steps.add()
        return done

    kind.training_step = timed
    size = "[256, 512]" if name == "train_lite0" else "[128, 256]"
    changes += [f"training.crop={size}", "training.validate_every=100000", "training.iterations=100000"]
    changes += LITE0.split() if name == "train_lite0" else []
    changes = [word for change in changes for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as out:
        sys.argv = ["gffnet", "train", "streets/gffnet_r18", "--root", root, "--out", f"{out}/run", *changes]
        runpy.run_module("gffnet", run_name="__main__")


def speeds(
    name: str, processes: int, options: argparse.Namespace, source: Path, settings: str, root: str
) -> list[float]:
    """Steps a second of each of so many processes side by side."""
    environment = {**OUTSIDE, "PYTHONPATH": str(source), **dict(s.split("=", 1) for s in settings.split())}
    environment.pop("GFFNET_PRECISION", None)
    command = [sys.executable, __file__, "--worker", name, "--seconds", str(options.seconds), "--root", root]
    command += [word for change in options.set for word in ("--set", change)]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) for _ in range(processes)
    ]
    found = []
    for process in running:
        out, error = process.communicate()
        if process.returncode:
            print(error[-2000:], file=sys.stderr)
            from gffnet.errors import RunFailed

            raise RunFailed(f"{name} of {source} failed: see above.")
        found.append([float(word) for word in out.split()])
    start, end = max(times[min(WARM_UP, len(times) - 2)] for times in found), min(times[-1] for times in found)
    rates = []
    for times in found:
        within = [t for t in times if start <= t <= end]
        rates.append((len(within) - 1) / (within[-1] - within[0]) if len(within) > 1 else 0.0)
    return rates


def work(words: list[str]) -> None:
    """One of the processes: without our modules and `harness`, which another commit may not run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--root")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args(words)
    steps = Steps(options.seconds)
    if options.worker in NETWORKS:
        predict(options.worker, steps)
    train(options.worker, steps, options.root, options.set)


def assignments(text: str) -> str:
    """`NAME=VALUE ...`, or nothing."""
    from gffnet.errors import UserError

    if not all(re.fullmatch(r"\w+=.*", each) for each in text.split()):
        raise UserError(f"--environment {text!r} must read NAME=VALUE, several of them separated by spaces.")
    return text


def main() -> None:
    """Measure, and print a table."""
    from gffnet.streets import write_streets
    from harness import Report, add_out, commit_of, machine, make_parser, positive, source

    parser = make_parser(__doc__)
    parser.add_argument("--work", nargs="+", default=[*WORK], choices=WORK)
    parser.add_argument("--seconds", type=positive("--seconds"), default=10.0)
    parser.add_argument("--source", nargs="+", type=source, default=[HERE])
    parser.add_argument("--environment", nargs="+", type=assignments, default=[""])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe that is trained"
    )
    add_out(parser)
    options = parser.parse_args()
    report = Report(options.out)
    columns = ("work", "source", "environment", "alone, steps/s", "each of two", "of alone")
    report.add(machine(), *(f"{each}: commit {commit_of(each)}" for each in options.source), "")
    report.add(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory() as root:
        if any(name.startswith("train") for name in options.work):
            write_streets(Path(root), 16, 2, (256, 512))
        for name, each, environment in product(options.work, options.source, options.environment):
            (alone,) = speeds(name, 1, options, each, environment, root)
            both = speeds(name, 2, options, each, environment, root)
            shown = ", ".join(f"{speed:.2f}" for speed in both)
            report.add(f"| {name} | {each} | {environment} | {alone:.2f} | {shown} | {mean(both) / alone:.2f} |")


if __name__ == "__main__":
    if "--worker" in sys.argv:
        work(sys.argv[1:])
    from harness import run

    run(main)
