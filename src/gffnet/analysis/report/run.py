"""What is known about a run, gathered from its folder: record, history, model, scores, and a look at its images."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gffnet.analysis.cost import costs
from gffnet.analysis.report.evaluation import Images, Run, check_classes, open_run, scores_of_baseline, scores_of_run
from gffnet.analysis.report.examples import Example, choose, make_example, spread
from gffnet.analysis.report.page import Command, Report
from gffnet.console import screen, track
from gffnet.data.catalog import dataset_classes
from gffnet.errors import UserError
from gffnet.evaluation.result import Result
from gffnet.inference.predictor import load
from gffnet.recipe import EvaluationRecipe, Recipe, from_mapping, load_recipe
from gffnet.training.history import HISTORY, read_history
from gffnet.training.record import RECORD

SHOWN = 8
"""Images that a report shows, unless told otherwise."""


def report_of(
    folder: Path,
    images: Images | None = None,
    scores: Path | None = None,
    baseline: Path | None = None,
    shown: int = SHOWN,
    device: str = "auto",
) -> Report:
    """All that is known about a run.

    Args:
        folder: of the run.
        images: to score, and to show some of; None: what there are no scores of stays unknown, and none is shown.
        scores: an evaluation of the run; None: the one in its folder, or one made now.
        baseline: a run or an evaluation to compare with.
        shown: how many images to show.
        device: as of `load`.

    Raises:
        UserError: there is no run, or what is named does not belong to it or cannot be compared with it.
    """
    run, record = open_run(folder), _record(folder)
    result = scores_of_run(run, images, scores, device)
    other = None if baseline is None else scores_of_baseline(baseline, images, device)
    classes, palette = _classes(run)
    if baseline is not None and other is not None:
        check_classes(baseline, other, classes)
    name = str(record.get("recipe") or (run.config.recipe if run.config else folder.name))
    report = Report(
        title=name,
        lede=_lede(run.recipe, result),
        classes=classes,
        palette=palette,
        history=read_history(folder / HISTORY),
        record=record,
        examples=_examples(run, images, result, shown, device),
        cost=costs(
            _networks(name, run.recipe, baseline, other), run.recipe.evaluation.crop or run.recipe.training.crop
        ),
        commands=_commands(folder, record, result),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8"),
    )
    if other is not None:
        report = dataclasses.replace(report, baseline=other.scores, baseline_name=_called(baseline, other, name))
    if result is None:
        return report
    return dataclasses.replace(report, scores=result.scores, images=result.images, confusion=result.confusion)


def _record(folder: Path) -> dict[str, Any]:
    """The record of the run; nothing, if it was deleted or is damaged."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        [(session["started"], session["from_iteration"]) for session in stored["sessions"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        screen.print(f"left out: {folder / RECORD} cannot be read ({error!r})", style="yellow")
        return {}
    record: dict[str, Any] = stored
    return record


def _classes(run: Run) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours; none for data of one's own, of which no model is there yet."""
    if run.config is not None:
        return run.config.classes, run.config.palette
    if run.recipe.data.name == "folder":
        return (), ()
    classes = dataset_classes(run.recipe.data.name)
    return classes.names, classes.palette


def _lede(recipe: Recipe, result: Result | None) -> str:
    """The run in a sentence."""
    model, training = recipe.model, recipe.training
    parts = [model.backbone.name, *(part for part in (model.context, model.fusion) if part != "none")]
    parts += [f"{model.dense_pyramid} pyramid"] if model.dense_pyramid != "none" else []
    trained = f"{', '.join(parts).replace('_', ' ')}; trained on {recipe.data.name} {recipe.data.train_split}"
    told = f"{trained} for {training.iterations:,} iterations of {training.batch} crops"
    if result is None:
        return f"{told}."
    protocol, count = result.scores["protocol"], result.scores["images"]
    return f"{told}; scored on {protocol['dataset']} {protocol['split']}, {count:,} image{'s' * (count != 1)}."


def _examples(run: Run, images: Images | None, result: Result | None, count: int, device: str) -> list[Example]:
    """Images to look at, by how well they were predicted."""
    if images is None or run.config is None or count == 0:
        return []
    predictor, dataset, protocol = load(run.folder, device), images.dataset, run.config.evaluation
    names = [dataset.name(i) for i in range(len(dataset))]
    choices = spread(len(dataset), count)
    if result is not None and [name for name, _ in result.images] == names:
        choices, protocol = choose(result.images, count), _protocol(result)
    return [
        make_example(predictor, dataset[choice.place], protocol, choice)
        for choice in track(choices, "looking at images")
    ]


def _protocol(result: Result) -> EvaluationRecipe:
    """That the images were predicted by."""
    keys = [field.name for field in dataclasses.fields(EvaluationRecipe)]
    told = {key: value for key, value in result.scores["protocol"].items() if key in keys}
    return from_mapping(EvaluationRecipe, told, "scores.json")


def _called(baseline: Path | None, other: Result, name: str) -> str:
    """The name of a baseline: its recipe, with its folder where that is not enough to tell it from the run."""
    recipe = str(other.scores["protocol"].get("recipe", "baseline"))
    return f"{recipe} ({baseline})" if recipe == name else recipe


def _networks(name: str, recipe: Recipe, baseline: Path | None, other: Result | None) -> list[tuple[str, Recipe]]:
    """What the run's network is to be compared with in cost, and the network."""
    ours = [(name, recipe)]
    if other is not None and baseline is not None:
        their = _baseline_recipe(baseline, other.scores["protocol"])
        return ours if their is None else [(_called(baseline, other, name), their), *ours]
    if recipe.model.fusion == "none":
        return ours
    bare = dataclasses.replace(recipe.model, fusion="none", dense_pyramid="none")
    return [("the same without fusion", dataclasses.replace(recipe, model=bare)), *ours]


def _baseline_recipe(baseline: Path, protocol: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a baseline: that of the run, or the one that ships by its name."""
    for source in (baseline / "recipe.yaml", baseline.parent / "recipe.yaml", str(protocol.get("recipe"))):
        try:
            return load_recipe(source)
        except UserError:
            continue
    return None


def _commands(folder: Path, record: Mapping[str, Any], result: Result | None) -> list[Command]:
    """What makes the run, its scores and this page again."""
    lines = dict.fromkeys(session["command"] for session in record.get("sessions", []) if session.get("command"))
    commands = [Command("Trained by", line) for line in lines]
    if result is None:
        return commands
    protocol, recipe = result.scores["protocol"], _protocol(result)
    words = ["gffnet", "evaluate", "--model", str(folder), "--dataset", protocol["dataset"], "--root", "ROOT"]
    words += ["--split", str(protocol["split"])]
    words += ["--crop", f"{recipe.crop[0]}x{recipe.crop[1]}" if recipe.crop else "none"]
    words += ["--overlap", f"{recipe.overlap:.6g}"] if recipe.crop else []
    words += ["--scales", *(f"{scale:g}" for scale in recipe.scales)] + ["--flip"] * recipe.flip
    page = ["gffnet", "report", str(folder), "--dataset", protocol["dataset"], "--root", "ROOT", "--scores", "SCORES"]
    return [
        *commands,
        Command("Scored by", shlex.join([*words, "--out", "SCORES"])),
        Command("This page", shlex.join(page)),
    ]
