"""What a run knows of its model, gathered for the model card: data, training, scores, cost."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard

from gffnet.console import DASH, screen
from gffnet.errors import UserError, one_line
from gffnet.evaluation.results import SCORES, all_tables, markdown, read_result
from gffnet.metrics.scores import Scores
from gffnet.models.gffnet import SegmentationModel, load_model
from gffnet.models.model_card import METRICS, TASK, Facts
from gffnet.models.model_io import CARD, LICENSE, ModelConfig, WeightFormat, find_model, hash_weights, rounded
from gffnet.recipe import Recipe, TrainingRecipe, load_recorded
from gffnet.remote import is_url, local_folder
from gffnet.reports.cost import cost
from gffnet.reports.report import SCORES_FOLDER, read_record, record_facts, training_time
from gffnet.training.run_folder import RECIPE

_SOURCES = {
    "cityscapes": "Cityscapes (Cordts et al., CVPR-16)",
    "ade20k": "ADE20K (Zhou et al., CVPR-17)",
    "pascal_context": "Pascal Context (Mottaghi et al., CVPR-14)",
    "coco_stuff_10k": "COCO-Stuff 10K (Caesar et al., CVPR-18)",
    "camvid": "CamVid (Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 30, 2009), SegNet's release of it",
    "streets": "Street scenes that gffnet draws",
}
WEAK = 0.3
"""A class of a lower IoU is named among the limits."""


class Published(NamedTuple):
    """A model, and what its card states."""

    network: SegmentationModel
    """With its kernels rounded to the dtype that they are written in."""
    facts: Facts


def gather(
    model: str | Path,
    name: str | None = None,
    license: str | None = None,
    weights: WeightFormat = "float32",
    scores: Path | None = None,
) -> Published:
    """Return a MODEL with all that is known about it: by the files of its run, else by the card in its folder.

    Args:
        model: a run folder, or a model folder or checkpoint, best one that lies in its run.
        name: OWNER/NAME on the hub.
        license: as the hub abbreviates it; None: the one that the card in its folder names.
        weights: dtype of kernels on the disk.
        scores: an evaluation of the model, before or after kernels were rounded; None: the one in its run, if any.

    Raises:
        UserError: there is no such model, the evaluation that is named is of another one, or the card in its folder
            names another licence.
    """
    model = local_folder(model) if is_url(model) else model
    network, config = load_model(model)
    backbone = config.model.backbone
    backbone = dataclasses.replace(backbone, weights=Path(backbone.weights).name)  # no folders of this machine
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, backbone=backbone))
    path = Path(model)
    places = [path, path.parent] if path.is_dir() else [path.parent.parent] if path.is_file() else []
    run = next((place for place in places if (place / RECIPE).is_file()), None)
    recipe = load_recorded(run / RECIPE) if run else None
    record = read_record(run) if run else {}
    exact = hash_weights(network)
    network.load_state_dict(rounded(network.state_dict(), weights))
    written = hash_weights(network)
    found = _scores(run, {exact, written}, scores)
    size = config.evaluation.crop or (recipe.training.crop if recipe else (512, 512))
    counted = cost(config.model, len(config.classes), size)
    sections = {
        "Data": _data(config, recipe, record),
        "Training": _training(recipe, record, config.classes) if recipe else "",
        "Scores": _score_tables(found, written, weights) if found else "",
        "Cost": f"{counted['params'] / 1e6:.2f} million parameters; {counted['executed_macs'] / 1e9:.1f} G "
        f"multiply-accumulates for an image of {size[0]}x{size[1]}, as gffnet executes it.",
    }
    weak = [of for of, iou in found.per_class.items() if iou is not None and iou < WEAK] if found else []
    facts = Facts(config, name, license, weights, _results(found) if found else [], sections, weak)
    if run is not None or not path.is_dir():
        return Published(network, facts)
    return Published(network, _with_card(facts, find_model(path), exact, written))


def _with_card(facts: Facts, folder: Path, exact: str, written: str) -> Facts:
    """Add what the card of a model folder says: data, training, cost, scores unless there are others, limits, licence.

    `exact`, `written`: SHA-256 of the weights before and after kernels are rounded.
    """
    path = folder / CARD
    if not path.is_file():
        return facts
    try:
        card = ModelCard.load(path)
    except Exception as error:  # the parser of a damaged card raises anything
        raise UserError(f"model card {path} cannot be read ({one_line(error)[:200]}): fix it.") from None
    _, *parts = re.split(r"^## (.+)$", card.text, flags=re.MULTILINE)
    own = {heading: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}
    sections, results = {**facts.sections}, facts.results
    sections |= {heading: own[heading] for heading in ("Data", "Training", "Cost") if own.get(heading)}
    if not results and own.get("Scores"):
        before = exact != written and exact in own["Scores"]
        note = f"Measured before kernels were rounded to {facts.weights}.\n\n" if before else ""
        sections["Scores"], results = note + own["Scores"], card.data.eval_results or []
    license = card.data.license
    if facts.license and license and facts.license != license:
        raise UserError(
            f"--license {facts.license}: the card of this model, {path}, names {license}. Leave it out, or change that."
        )
    text = (folder / LICENSE).read_text(encoding="utf-8") if (folder / LICENSE).is_file() else ""
    return dataclasses.replace(
        facts,
        license=license or facts.license,
        license_text=text,
        results=results,
        sections=sections,
        limits=own.get("Limits", ""),
    )


def _scores(run: Path | None, weights: set[str], named: Path | None) -> Scores | None:
    """The scores of a model whose weights are one of these; None if there are none."""
    places = [named] if named else []
    if run and not named:  # `gffnet report` adds the data set and split to the folder where it was taken
        places = [run / SCORES_FOLDER, run, *sorted(run.glob(f"{SCORES_FOLDER}_*"))]
    for place in (place for place in places if place == named or (place / SCORES).is_file()):
        scores = read_result(place).scores
        if scores.protocol.get("weights_sha256") in weights:
            return scores
        if named:
            raise UserError(
                f"--scores {named}: these are the scores of another model, whose weights have another SHA-256. Name "
                "what `gffnet evaluate --model MODEL --out DIR` wrote of this one, or leave --scores out."
            )
        screen.print(f"ignored: {place / SCORES} is not of this model", style="yellow")
    return None


def _data(config: ModelConfig, recipe: Recipe | None, record: Mapping[str, Any]) -> str:
    """What it was trained on."""
    split = f", split `{recipe.data.train_split}`" if recipe and recipe.data.name == config.dataset else ""
    known = dict(record_facts(record)).get("Data", f"`{config.dataset}`{split}")
    source = _SOURCES.get(config.dataset)
    return f"{source}. {known}." if source else f"{known}."


def _training(recipe: Recipe, record: Mapping[str, Any], names: Sequence[str]) -> str:
    """How it was trained, as a list; `names`: of the classes."""
    training, sessions, python = recipe.training, record.get("sessions") or [], record.get("python") or {}
    height, width = training.crop
    done = sessions[-1].get("to_iteration") if sessions else None
    part = f", of which {done:,} are done" if done is not None and done < training.iterations else ""
    weights = recipe.model.backbone.weights
    named = {"none": "random weights", "imagenet": "a backbone trained on ImageNet (timm)"}
    start = named.get(weights, f"a backbone from `{Path(weights).name}`")
    if training.init_from:
        start = f"the run `{Path(training.init_from).name}`"
    facts = {
        key: value for key, value in record_facts(record) if key in ("Hardware", "Precision", "Versions", "Commit")
    }
    balance = training.class_balance
    balanced = f"; {balance:.0%} of the crops show a class sampled uniformly, however rare" if balance else ""
    lines = {
        "Iterations": f"{training.iterations:,} of {training.batch} crops of {height}x{width}{part}",
        "Start": start,
        "Optimiser": f"{training.optimizer}, learning rate {training.learning_rate:g} ({_schedule(training)}), weight "
        f"decay {training.weight_decay:g}",
        "Images": f"{_augmentation(training, python)}{balanced}",
        "Loss": _loss(training, names, python),
        "Task": f"`{python['task']}`, Python code that may replace any of this" if "task" in python else "",
        "Weights": f"moving average, decay {training.ema:g}" if training.ema else "",
        "Time": training_time(sessions),
        **facts,
    }
    return "\n".join(f"- {key}: {value}" for key, value in lines.items() if value)


def _schedule(training: TrainingRecipe) -> str:
    """The schedule of the learning rate in words."""
    words = training.schedule.replace("_", "-")
    if training.schedule == "poly":
        words += f", power {training.power:g}"
    elif training.schedule == "step":
        at = ", ".join(f"{milestone:.0%}" for milestone in training.milestones)
        words += f", times {training.step_factor:g} at {at} of the iterations"
    return words + (f", after {training.warm_up:,} iterations of warm-up" if training.warm_up else "")


def _augmentation(training: TrainingRecipe, python: Mapping[str, str]) -> str:
    """What is done to training images in words; `python`: what was given in place of the recipe's."""
    if "transform" in python:
        return f"transformed by `{python['transform']}`, given in Python"
    low, high = training.scales
    colors = [
        f"{key} by up to {strength:.0%}"
        for key in ("brightness", "contrast", "saturation", "hue")
        if (strength := getattr(training, key))
    ]
    return (
        f"scaled by {low:g} to {high:g}, shifted by up to {training.jitter} grey levels"
        + (f", changed in {', '.join(colors)}" if colors else "")
        + (f", blurred with probability {training.blur:g}" if training.blur else "")
        + ", flipped horizontally" * training.flip
    )


_LOSSES = {"dice": "Dice loss", "lovasz": "Lovász loss", "focal": "focal loss"}


def _loss(training: TrainingRecipe, names: Sequence[str], python: Mapping[str, str]) -> str:
    """The loss in words; `python`: what was given in place of the recipe's."""
    auxiliary = f"; {training.auxiliary_weight:g} times that of an auxiliary head" * (training.auxiliary_weight > 0)
    if "loss" in python:
        return f"`{python['loss']}`, given in Python{auxiliary}"
    terms = {name: weight for name, weight in training.loss.terms.items() if weight}
    words = {name: _LOSSES.get(name, f"`{name}`") for name in terms}
    if "cross_entropy" in terms:
        first, *options = _cross_entropy(training, names)
        words["cross_entropy"] = first + (f" ({', '.join(options)})" if options else "")
        if len(terms) == 1:
            words["cross_entropy"] = ", ".join([first, *options])
    total = " + ".join(words[name] if weight == 1 else f"{weight:g} x {words[name]}" for name, weight in terms.items())
    return total + auxiliary


def _cross_entropy(training: TrainingRecipe, names: Sequence[str]) -> list[str]:
    """Cross-entropy and its options in words."""
    loss = training.loss
    own = zip(names, loss.class_weights or (), strict=False)
    weights = {
        "none": ", ".join(f"{name} {weight:g}" for name, weight in own),
        "enet": "1 / ln(1.02 + frequency)",
        "median_frequency": "median frequency / frequency",
    }[loss.class_weighting]
    parts = [
        "cross-entropy",
        f"classes weighted by {weights}" if weights else "",
        f"label smoothing {loss.label_smoothing:g}" if loss.label_smoothing else "",
        f"pixels of a probability below {loss.ohem:g} only (OHEM)" if loss.ohem else "",
    ]
    return [part for part in parts if part]


def _score_tables(scores: Scores, written: str, weights: WeightFormat) -> str:
    """The tables of an evaluation; the first goes without its heading, which is the card's own.

    `written`: SHA-256 of the weights as they are written; the evaluation may be of those before.
    """
    first, *others = all_tables(scores)
    if all(cell == DASH for cell in first.rows[-1][1:]):  # of the paper
        first = dataclasses.replace(first, rows=first.rows[:-1], note="")
    _, _, tables = markdown("", [first, *others]).partition("## Scores\n\n")
    same = scores.protocol["weights_sha256"] == written
    note = "" if same else f"Measured before kernels were rounded to {weights}.\n\n"
    return note + re.sub(r"^## ", "### ", tables, flags=re.MULTILINE).strip()


def _results(scores: Scores) -> list[EvalResult]:
    """mIoU and pixel accuracy, fractions, for the hub's own tables."""
    protocol = scores.protocol
    how = {key: protocol[key] for key in ("crop", "scales", "flip") if key in protocol}
    named = zip(METRICS, ("mIoU", "pixel accuracy"), (scores.miou, scores.pixel_accuracy), strict=True)
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=protocol["dataset"],
            dataset_name=protocol["dataset"],
            dataset_split=protocol["split"],
            metric_type=metric,
            metric_name=name,
            metric_value=round(value, 4),
            metric_args=how,
        )
        for metric, name, value in named
        if value is not None
    ]
