"""The main job end to end, offline and on a CPU, in minutes.

Draw street scenes, train a small GFFNet on them from scratch, score it on scenes it has not seen, look at its gates,
and write one page about it all. A demo that was interrupted goes on where it stopped; one that is done is shown again.
"""

import os
import platform
import shutil
import time
from pathlib import Path

import torch

import gffnet
from gffnet.analysis.cost import costs
from gffnet.analysis.gated_image import GatedImage
from gffnet.analysis.report import Example, Report, write_report
from gffnet.console import progress, screen
from gffnet.data.base import Sample
from gffnet.data.build import open_dataset
from gffnet.data.streets import write_streets
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate, write_scores
from gffnet.inference.model_folder import CONFIG
from gffnet.inference.predictor import Predictor, load
from gffnet.recipe import Recipe, load_recipe
from gffnet.training.history import HISTORY, read_history
from gffnet.training.train import train

RECIPE = "streets/demo"
TRAIN_SCENES, VAL_SCENES, SIZE = 240, 40, (128, 256)
EXAMPLES = 6


def demo(out: Path) -> Path:
    """Run the demo into the folder `out`; returns the path of the report.

    Raises:
        UserError: `out` cannot be written to, or holds a run of another recipe.
    """
    start, report_file, run = time.perf_counter(), out / "report.html", out / "run"
    begun, done = run.exists(), (run / "model" / CONFIG).is_file() and report_file.is_file()
    scenes = _scenes(out / "streets")
    recipe = load_recipe(RECIPE)
    train(recipe, RECIPE, scenes, run, resume=True)
    if done:
        return report_file
    predictor = load(run)
    val = open_dataset("streets", scenes, "val")
    scores = evaluate(predictor, val, "streets", "val", recipe.evaluation)
    write_scores(out / "scores.json", scores)
    screen.print(f"mIoU {scores['miou']:.1%} on {len(val)} unseen scenes")
    spread = [i * (len(val) - 1) // (EXAMPLES - 1) for i in range(EXAMPLES)]
    report = Report(
        title="GFFNet on procedural street scenes",
        summary=_summary(recipe, predictor, time.perf_counter() - start, begun),
        history=read_history(run / HISTORY),
        scores=scores,
        examples=[example(predictor, val[i]) for i in spread],
        classes=val.classes.names,
        palette=val.classes.palette,
        cost=costs([(name, load_recipe(name)) for name in ("streets/pspnet_r18", "streets/gffnet_r18")], SIZE),
    )
    write_report(report_file, report)
    return report_file


def _scenes(folder: Path) -> Path:
    """The folder of the scenes, which are drawn unless they are there; it appears whole or not at all."""
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


def example(predictor: Predictor, sample: Sample) -> Example:
    """What the report shows of one image: prediction, gates, and what closing each gate changes."""
    image = sample.image.permute(1, 2, 0).numpy()
    gated = GatedImage(predictor, image)
    closings = [gated.close([level]) for level in range(1, len(gated.learned.maps) + 1)]
    return Example(
        name=sample.name,
        image=image,
        labels=sample.labels.numpy(),
        prediction=gated.learned.prediction,
        gates=gated.learned.maps,
        closed=[(closing.levels[0], closing.changed, closing.share) for closing in closings],
    )


def _summary(recipe: Recipe, predictor: Predictor, seconds: float, begun: bool) -> list[tuple[str, str]]:
    """What the reader of the report should know first."""
    training = recipe.training
    return [
        ("Recipe", RECIPE),
        ("Scenes", f"{TRAIN_SCENES} to train on, {VAL_SCENES} to score on, {SIZE[1]} x {SIZE[0]} pixels"),
        ("Training", f"from scratch, {training.iterations} iterations of {training.batch} crops"),
        ("Precision", f"{predictor.precision.name}: {predictor.precision.reason}"),
        ("Machine", f"{platform.machine()}, {os.cpu_count()} cores, device {predictor.device}"),
        (
            "Time",
            f"{seconds / 60:.1f} minutes {'since it went on after an interruption' if begun else 'for all of it'}",
        ),
        ("Versions", f"gffnet {gffnet.__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
    ]
