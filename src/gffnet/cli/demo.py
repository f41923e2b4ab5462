"""`gffnet demo`: the main job end to end, offline and on a CPU, in minutes.

Draw street scenes, train a light GFFNet on them from ImageNet weights, score it on held-out scenes, look at its gates,
and write one page about all of it. An interrupted demo resumes where it stopped; a finished one only names its report.
"""

import dataclasses
import logging
import time
from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser, path
from gffnet.errors import UserError

log = logging.getLogger("gffnet")

SUMMARY = "draw street scenes, train a light GFFNet on them, score it and write DIR/report.html; offline, in minutes"
RECIPE = "streets/demo"
TRAIN_SCENES, VAL_SCENES, SIZE = 240, 40, (128, 256)
EXAMPLES = 6


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--out", type=path, default=Path("demo"), help="folder to write into (default: demo)")


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
    weights = _weights(run)
    train(RECIPE, scenes, run, overrides=[f"model.backbone.weights={weights}"], resume=True)
    if done:
        return report_file
    report = report_of(run, open_images("streets", scenes, "val"), shown=EXAMPLES)
    assert report.result is not None
    screen.print(f"mIoU {report.result.scores.miou:.1%} on {VAL_SCENES} unseen scenes")
    minutes = (time.perf_counter() - start) / 60
    summary = [
        ("Scenes", f"{TRAIN_SCENES} to train on, {VAL_SCENES} to score on, {SIZE[1]} x {SIZE[0]} pixels"),
        ("Training", "from ImageNet weights" if weights == "imagenet" else "from scratch: no ImageNet weights here"),
        ("Time", f"{minutes:.1f} minutes {'since it was resumed' if resumed else 'in all'}, with scenes and this page"),
    ]
    write_report(report_file, dataclasses.replace(report, title="GFFNet on procedural street scenes", summary=summary))
    return report_file


def _weights(run: Path) -> str:
    """Where the backbone starts from: as the run began; else `imagenet`, or `none` where there are no such weights."""
    from gffnet.models.weights import pretrained_file
    from gffnet.recipe import load_recipe, load_recorded
    from gffnet.training.run_folder import RECIPE as RECORDED

    if (run / RECORDED).is_file():
        return load_recorded(run / RECORDED).model.backbone.weights
    backbone = load_recipe(RECIPE).model.backbone
    if backbone.weights == "imagenet":
        try:
            pretrained_file(backbone.name)
        except UserError as error:
            log.info("%s The demo starts from random weights, which need many more iterations.", error)
            return "none"
    return backbone.weights
