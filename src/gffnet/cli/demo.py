"""`gffnet demo`: the main job end to end, offline and on a CPU, in minutes.

Draw street scenes, train a small GFFNet on them from scratch, score it on held-out scenes, look at its gates, and write
one page about all of it. An interrupted demo resumes where it stopped; a finished one only names its report.
"""

import dataclasses
import time
from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser

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
    from gffnet.console import progress, screen
    from gffnet.files import atomic_folder
    from gffnet.models.model_io import CONFIG
    from gffnet.reports.report import open_images, report_of, write_report
    from gffnet.streets import write_streets
    from gffnet.training.train import train

    start, report_file, run, scenes = time.perf_counter(), out / "report.html", out / "run", out / "streets"
    resumed, done = run.exists(), (run / "model" / CONFIG).is_file() and report_file.is_file()
    if not scenes.is_dir():
        with atomic_folder(scenes) as folder, progress("drawing street scenes") as step:
            write_streets(folder, TRAIN_SCENES, VAL_SCENES, SIZE, progress=step)
    train(RECIPE, scenes, run, resume=True)
    if done:
        return report_file
    report = report_of(run, open_images("streets", scenes, "val"), shown=EXAMPLES)
    assert report.result is not None
    screen.print(f"mIoU {report.result.scores.miou:.1%} on {VAL_SCENES} unseen scenes")
    minutes = (time.perf_counter() - start) / 60
    summary = [
        ("Scenes", f"{TRAIN_SCENES} to train on, {VAL_SCENES} to score on, {SIZE[1]} x {SIZE[0]} pixels"),
        ("Training", "from scratch: no weights were loaded"),
        ("Time", f"{minutes:.1f} minutes {'since it was resumed' if resumed else 'in all'}, with scenes and this page"),
    ]
    write_report(report_file, dataclasses.replace(report, title="GFFNet on procedural street scenes", summary=summary))
    return report_file
