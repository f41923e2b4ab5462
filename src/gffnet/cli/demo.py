"""`gffnet demo`: the main job end to end, offline and on a CPU, in minutes.

Draw street scenes, train a small GFFNet on them from scratch, score it on held-out scenes, look at its gates, and write
one page about all of it. An interrupted demo resumes where it stopped; a finished one only names its report.
"""

import dataclasses
import shutil
import time
from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser
from gffnet.errors import UserError

SUMMARY = "draw street scenes, train a small GFFNet on them, score it and write DIR/report.html; offline, in minutes"
RECIPE = "streets/demo"
TRAIN_SCENES, VAL_SCENES, SIZE = 240, 40, (128, 256)
EXAMPLES = 6


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write into (default: demo)")


def run(arguments: Namespace) -> None:
    """Run the demo and print where the report is."""
    from gffnet.console import screen

    try:
        report = demo(arguments.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes from here") from None
    screen.print(f"report: {report}")


def demo(out: Path) -> Path:
    """Run the demo into the folder `out`; returns the path of the report.

    Raises:
        UserError: `out` cannot be written to, or holds a run of another recipe.
    """
    from gffnet.console import screen
    from gffnet.inference.model_io import CONFIG
    from gffnet.reports.report import open_images, report_of, write_report
    from gffnet.training.train import train

    start, report_file, run = time.perf_counter(), out / "report.html", out / "run"
    begun, done = run.exists(), (run / "model" / CONFIG).is_file() and report_file.is_file()
    scenes = _scenes(out / "streets")
    train(RECIPE, scenes, run, resume=True)
    if done:
        return report_file
    report = report_of(run, open_images("streets", scenes, "val"), shown=EXAMPLES)
    assert report.result is not None
    screen.print(f"mIoU {report.result.scores.miou:.1%} on {VAL_SCENES} unseen scenes")
    page = dataclasses.replace(
        report,
        title="GFFNet on procedural street scenes",
        summary=_summary(time.perf_counter() - start, begun),
    )
    write_report(report_file, page)
    return report_file


def _scenes(folder: Path) -> Path:
    """The folder of the scenes, drawn into it (atomically) unless it exists."""
    from gffnet.console import progress
    from gffnet.streets import write_streets

    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        with progress("drawing street scenes") as step:
            write_streets(part, TRAIN_SCENES, VAL_SCENES, SIZE, progress=step)
        return part.rename(folder)
    except OSError as error:
        raise UserError(f"--out: cannot write {folder}: {error.strerror or error}. Name a folder with room.") from None


def _summary(seconds: float, begun: bool) -> list[tuple[str, str]]:
    """The first lines of the report."""
    whole = "since it was resumed" if begun else "in all"
    return [
        ("Scenes", f"{TRAIN_SCENES} to train on, {VAL_SCENES} to score on, {SIZE[1]} x {SIZE[0]} pixels"),
        ("Training", "from scratch: no weights were loaded"),
        ("Time", f"{seconds / 60:.1f} minutes {whole}, scenes and this page included"),
    ]
