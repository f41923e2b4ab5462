"""What a run knows of its model, gathered for the model card: data, training, scores, cost."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import EvalResult

from gffnet.console import DASH, screen
from gffnet.errors import UserError
from gffnet.evaluation.results import SCORES, all_tables, markdown, read_result
from gffnet.inference.model_io import ModelConfig, WeightFormat, hash_weights, load_model, rounded
from gffnet.inference.pretrained import METRICS, TASK, Facts
from gffnet.metrics.scores import Scores
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.recipe import Recipe, TrainingRecipe, load_recipe
from gffnet.reports.cost import count_macs
from gffnet.reports.report import minutes, record_facts
from gffnet.training.run_folder import RECORD

_SOURCES = {
    "cityscapes": "Cityscapes (Cordts et al., CVPR-16)",
    "ade20k": "ADE20K (Zhou et al., CVPR-17)",
    "pascal_context": "Pascal Context (Mottaghi et al., CVPR-14)",
    "coco_stuff_10k": "COCO-Stuff 10K (Caesar et al., CVPR-18)",
    "camvid": "CamVid (Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 30, 2009), SegNet's release of it",
    "streets": "Street scenes that gffnet draws",
}
KEPT = "scores"
"""The folder in a run that its evaluation is looked for in."""
WEAK = 0.3
"""A class of a lower IoU is named among the limits."""


class Published(NamedTuple):
    """A model, and all that its card tells."""

    network: SegmentationModel
    """With its kernels rounded to the number format that they are written in."""
    facts: Facts


def gather(
    model: str,
    name: str | None = None,
    license: str | None = None,
    weights: WeightFormat = "float32",
    scores: Path | None = None,
) -> Published:
    """A MODEL with all that is known about it.

    Args:
        model: a run folder, or a model folder or checkpoint, best one that lies in its run.
        name: OWNER/NAME on the hub.
        license: as the hub abbreviates it.
        weights: number format of kernels on the disk.
        scores: an evaluation of the model, before or after kernels were rounded; None: the one in its run, if any.

    Raises:
        UserError: there is no such model, or the evaluation that is named is of another one.
    """
    network, config = load_model(model)
    backbone = config.model.backbone
    backbone = dataclasses.replace(backbone, weights=Path(backbone.weights).name)  # no folders of this machine
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, backbone=backbone))
    run = _run_of(Path(model))
    recipe = load_recipe(run / "recipe.yaml") if run else None
    record = _record(run / RECORD) if run else {}
    exact = hash_weights(network)
    network.load_state_dict(rounded(network.state_dict(), weights))
    written = hash_weights(network)
    found = _scores(run, {exact, written}, scores)
    told = {
        "Data": _data(config, recipe, record),
        "Training": _training(recipe, record, config.classes) if recipe else "",
        "Scores": _scored(found, written, weights) if found else "",
        "Cost": _cost(config, config.evaluation.crop or (recipe.training.crop if recipe else (512, 512))),
    }
    weak = [of for of, iou in found["per_class"].items() if iou is not None and iou < WEAK] if found else []
    return Published(network, Facts(config, name, license, weights, _results(found), told, weak))


def _run_of(path: Path) -> Path | None:
    """The run that a model is of."""
    folders = [path, path.parent] if path.is_dir() else [path.parent.parent] if path.is_file() else []
    return next((folder for folder in folders if (folder / "recipe.yaml").is_file()), None)


def _record(path: Path) -> dict[str, Any]:
    """The record of a run; nothing, if there is none that can be read."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record_facts(record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        screen.print(f"left out: {path} cannot be read ({error!r})", style="yellow")
        return {}
    return record


def _scores(run: Path | None, weights: set[str], named: Path | None) -> Mapping[str, Any]:
    """The scores of a model whose weights are one of these; none, if there are none."""
    places = [named] if named else [run / KEPT, run] if run else []
    place = next((place for place in places if place == named or (place / SCORES).is_file()), None)
    if place is None:
        return {}
    scores = read_result(place).scores.to_json()
    if scores["protocol"].get("weights_sha256") in weights:
        return scores
    if named:
        raise UserError(
            f"--scores {named}: these are the scores of another model, whose weights have another SHA-256. Name what "
            "`gffnet evaluate --model MODEL --out DIR` wrote of this one, or leave --scores out."
        )
    screen.print(f"left out: {place / SCORES} is not of this model", style="yellow")
    return {}


def _data(config: ModelConfig, recipe: Recipe | None, record: Mapping[str, Any]) -> str:
    """What it was trained on."""
    split = f", split `{recipe.data.train_split}`" if recipe else ""
    known = dict(record_facts(record)).get("Data", f"`{config.dataset}`{split}")
    source = _SOURCES.get(config.dataset)
    return f"{source}. {known}." if source else f"{known}."


def _training(recipe: Recipe, record: Mapping[str, Any], names: Sequence[str]) -> str:
    """How it was trained, as a list; `names`: of the classes."""
    training, sessions = recipe.training, record.get("sessions") or []
    height, width = training.crop
    done = sessions[-1].get("to_iteration") if sessions else None
    part = f", of which {done:,} are done" if done is not None and done < training.iterations else ""
    start = f"the run `{Path(training.init_from).name}`" if training.init_from else _start(recipe)
    facts = {
        key: value for key, value in record_facts(record) if key in ("Hardware", "Precision", "Versions", "Commit")
    }
    rise = f", after {training.warm_up:,} iterations of warm-up" if training.warm_up else ""
    balance = training.class_balance
    balanced = f"; {balance:.0%} of the crops show a class drawn evenly, however rare" if balance else ""
    told = {
        "Iterations": f"{training.iterations:,} of {training.batch} crops of {height}x{width}{part}",
        "Start": start,
        "Optimiser": f"{training.optimizer}, learning rate {training.learning_rate:g} (poly, power "
        f"{training.power:g}{rise}), weight decay {training.weight_decay:g}",
        "Images": f"scaled by {training.scales[0]:g} to {training.scales[1]:g}, shifted by up to {training.jitter} "
        f"grey levels{', mirrored' * training.flip}{balanced}",
        "Loss": _loss(training, names),
        "Weights": f"moving average, decay {training.ema:g}" if training.ema else "",
        "Time": _time(sessions),
        **facts,
    }
    return "\n".join(f"- {key}: {value}" for key, value in told.items() if value)


def _loss(training: TrainingRecipe, names: Sequence[str]) -> str:
    """The loss in words."""
    loss = training.loss
    own = zip(names, loss.class_weights or (), strict=False)
    weights = {
        "none": ", ".join(f"{name} {weight:g}" for name, weight in own),
        "enet": "1 / ln(1.02 + frequency)",
        "median_frequency": "median frequency / frequency",
    }[loss.class_weighting]
    told = [
        "cross-entropy",
        f"classes weighted by {weights}" if weights else "",
        f"label smoothing {loss.label_smoothing:g}" if loss.label_smoothing else "",
        f"pixels of a probability below {loss.ohem:g} only (OHEM)" if loss.ohem else "",
    ]
    auxiliary = f"; {training.auxiliary_weight:g} times that of an auxiliary head" * (training.auxiliary_weight > 0)
    return ", ".join(part for part in told if part) + auxiliary


def _start(recipe: Recipe) -> str:
    weights = recipe.model.backbone.weights
    named = {"none": "random weights", "imagenet": "a backbone trained on ImageNet (timm)"}
    return named.get(weights, f"a backbone from `{Path(weights).name}`")


def _time(sessions: list[Mapping[str, Any]]) -> str:
    """Of all sessions whose end is known."""
    ends = [(each["started"], each["ended"]) for each in sessions if each.get("ended")]
    seconds = [(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() for start, end in ends]
    return minutes(sum(seconds)) if seconds else ""


def _scored(scores: Mapping[str, Any], written: str, weights: WeightFormat) -> str:
    """The tables of an evaluation; the first goes without its heading, which is the card's own.

    `written`: SHA-256 of the weights as they are written; the evaluation may be of those before.
    """
    first, *others = all_tables(Scores.from_json(scores))
    if all(cell == DASH for cell in first.rows[-1][1:]):  # of the paper
        first = dataclasses.replace(first, rows=first.rows[:-1], note="")
    _, _, tables = markdown("", [first, *others]).partition("## Scores\n\n")
    same = scores["protocol"]["weights_sha256"] == written
    note = "" if same else f"Measured before kernels were rounded to {weights}.\n\n"
    return note + re.sub(r"^## ", "### ", tables, flags=re.MULTILINE).strip()


def _results(scores: Mapping[str, Any]) -> list[EvalResult]:
    """mIoU and pixel accuracy, fractions, for the hub's own tables."""
    if not scores:
        return []
    protocol = scores["protocol"]
    how = {key: protocol[key] for key in ("crop", "scales", "flip") if key in protocol}
    named = zip(METRICS, ("miou", "pixel_accuracy"), ("mIoU", "pixel accuracy"), strict=True)
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=protocol["dataset"],
            dataset_name=protocol["dataset"],
            dataset_split=protocol["split"],
            metric_type=metric,
            metric_name=called,
            metric_value=round(scores[key], 4),
            metric_args=how,
        )
        for metric, key, called in named
        if scores.get(key) is not None
    ]


def _cost(config: ModelConfig, size: tuple[int, int]) -> str:
    """Parameters and multiply-accumulates."""
    with torch.device("meta"):
        network = build_network(config.model.without_weights(), len(config.classes)).eval()
        image = torch.empty(1, config.model.backbone.in_channels, *size)
    count, macs = sum(parameter.numel() for parameter in network.parameters()), count_macs(network, image)
    return (
        f"{count / 1e6:.2f} million parameters; {macs / 1e9:.1f} G multiply-accumulates for an image of "
        f"{size[0]}x{size[1]}, as gffnet executes it."
    )
