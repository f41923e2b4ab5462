"""The scores of a run, for its report: an evaluation that is named or found, or else made.

One that is found counts only if it is of the run's model and of the images that are asked for. One that is made is kept
in RUN/scores, so that the next report need not make it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gffnet.console import screen
from gffnet.data.base import Dataset
from gffnet.data.build import open_dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import Task, evaluate_share
from gffnet.evaluation.result import SCORES, Result, read_result, write_result
from gffnet.inference.model_folder import CONFIG, ModelConfig, hash_weights, load_model
from gffnet.inference.predictor import load
from gffnet.recipe import Recipe, load_recipe

KEPT = "scores"
"""The folder in a run that its evaluation is kept in."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder."""

    folder: Path
    recipe: Recipe
    config: ModelConfig | None
    """Of its model; None: it has none yet."""
    weights: str | None
    """SHA-256 of its weights."""


@dataclass(frozen=True, eq=False)
class Images:
    """What a run is scored on."""

    name: str
    """Of the data set."""
    split: str
    dataset: Dataset


def open_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / "recipe.yaml"
    if not file.is_file():
        there = "is no run folder: it holds no recipe.yaml" if folder.is_dir() else "does not exist"
        raise UserError(f"run {folder} {there}. Name what `gffnet train --out DIR` wrote.")
    if not (folder / "model" / CONFIG).is_file():
        return Run(folder, load_recipe(file), None, None)
    network, config = load_model(folder)
    return Run(folder, load_recipe(file), config, hash_weights(network))


def open_images(name: str, root: Path | None, split: str, cache: Path | None = None) -> Images:
    """A split of a data set. Raises as `open_dataset`."""
    return Images(name, split, open_dataset(name, root, split, cache))


def scores_of_run(run: Run, images: Images | None, named: Path | None = None, device: str = "auto") -> Result | None:
    """The evaluation of a run; None if there is none, and none can be made for want of images or a model.

    Raises:
        UserError: the evaluation that is named is of another model, or the images are of other classes.
    """
    if named is not None:
        result = read_result(named)
        _check_weights(run, named, result)
        return result
    return _found(run, images) or _made(run, images, device)


def scores_of_baseline(path: Path, images: Images | None, device: str = "auto") -> Result:
    """The evaluation to compare with: in a folder or file, or that of a run.

    Raises:
        UserError: there is none and none can be made.
    """
    if path.is_file() or (path / SCORES).is_file():
        return read_result(path)
    result = scores_of_run(open_run(path), images, device=device)
    if result is None:
        raise UserError(
            f"--baseline {path} holds no scores. Name the folder of `gffnet evaluate --model {path} --out DIR`, or "
            "give --root, so that a trained run is evaluated now."
        )
    return result


def check_classes(path: Path, baseline: Result, classes: Sequence[str]) -> None:
    """Refuse a baseline of other classes.

    Raises:
        UserError: they are others.
    """
    there = list(baseline.scores["per_class"])
    if there != list(classes):
        raise UserError(
            f"--baseline {path}: it has {len(there)} classes ({', '.join(there[:4])}, ...), and the run {len(classes)} "
            f"({', '.join(classes[:4])}, ...). Only scores of the same classes can be compared."
        )


def _found(run: Run, images: Images | None) -> Result | None:
    """The evaluation in a run folder, if it is of its model and of these images."""
    folder = next((path for path in (run.folder / KEPT, run.folder) if (path / SCORES).is_file()), None)
    if folder is None:
        return None
    result = read_result(folder)
    protocol = result.scores["protocol"]
    if run.weights is None or protocol.get("weights_sha256") != run.weights:
        screen.print(f"left out: {folder / SCORES} is not of the model that is in {run.folder} now", style="yellow")
        return None
    if images is not None and (protocol["dataset"], protocol.get("split")) != (images.name, images.split):
        return None
    return result


def _made(run: Run, images: Images | None, device: str) -> Result | None:
    """Evaluate a run by its own protocol, and keep what comes of it."""
    if images is None or run.config is None:
        return None
    predictor = load(run.folder, device)
    result = evaluate_share(Task(predictor, images.dataset, images.name, images.split, run.config.evaluation))
    assert result is not None
    write_result(run.folder / KEPT, result)
    screen.print(f"scores: {run.folder / KEPT}")
    return result


def _check_weights(run: Run, path: Path, result: Result) -> None:
    """Refuse scores of another model; those of the best of the run will do."""
    best = run.folder / "best"
    known = {run.weights, hash_weights(load_model(best)[0]) if (best / CONFIG).is_file() else None}
    if result.scores["protocol"].get("weights_sha256") not in known - {None}:
        raise UserError(
            f"--scores {path}: these are not the scores of a model in {run.folder}, whose weights have another "
            f"SHA-256. Name what `gffnet evaluate --model {run.folder} --out DIR` wrote, or leave --scores out."
        )
