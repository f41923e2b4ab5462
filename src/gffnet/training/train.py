"""A training run, from a recipe to a run folder (see `gffnet.training.run_folder`)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, seed_everything
from torch import Tensor

from gffnet.console import progress
from gffnet.data.balance import ClassBalance, class_pixels
from gffnet.data.base import Dataset
from gffnet.data.build import open_dataset, open_files
from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.inference.model_folder import ModelConfig, save_model
from gffnet.inference.precision import Precision, pick_precision
from gffnet.models.build import build_network
from gffnet.models.network import SceneParser
from gffnet.recipe import Recipe
from gffnet.training.checkpoints import KeepBest, KeepLast
from gffnet.training.class_weights import class_weights, needs_pixels
from gffnet.training.data_module import ParsingData
from gffnet.training.failures import explained
from gffnet.training.history import History
from gffnet.training.initial import start_from
from gffnet.training.launch import Launch, find_launch
from gffnet.training.logs import Log, Tables, TensorBoard, WeightsAndBiases
from gffnet.training.overfit import few, verdict
from gffnet.training.progress_bar import ProgressBar
from gffnet.training.record import Facts, recorded
from gffnet.training.run_folder import LAST, check_classes, find_start
from gffnet.training.stop import StopOnRequest
from gffnet.training.task import ParsingTask
from gffnet.training.trainer import make_trainer, quiet_lightning, synchronise_norms

log = logging.getLogger("gffnet")


def train(
    recipe: Recipe,
    name: str,
    root: Path | None,
    out: Path,
    resume: bool = False,
    progress: bool = True,
    cache: Path | None = None,
    devices: int | None = None,
    overfit: int | None = None,
    wandb: str | None = None,
) -> Path:
    """Train `recipe` on the data set under `root`; returns the run folder `out`.

    Args:
        recipe: what to train.
        name: the recipe's name, kept in the model's config.
        root: folder of the data set.
        out: the run folder, which must not hold a run yet unless `resume`.
        resume: go on from the last checkpoint in `out`, or from the start if there is none; a run that is finished is
            left as it is.
        progress: show a progress bar.
        cache: the folder of the data set's cache; None: the one in `root`, if it is there.
        devices: processes on this machine, one a device; None: as `find_launch` has it.
        overfit: train on so many images, and score on the same ones.
        wandb: project to log to on Weights & Biases.

    Raises:
        UserError: data, weights or run folder are not as they should be.
        RunFailed: memory or disk is full, the loss has broken down, a process that loads data died, or the system asked
            the run to stop.
    """
    start = find_start(out, recipe, resume)
    if start.finished:
        log.info("%s is trained already", out)
        return out
    launch = find_launch(devices)
    if launch.rank:
        log.setLevel(logging.ERROR)
    share = launch.share(recipe.training.batch)
    quiet_lightning()
    train_set, val_set = _data(recipe, root, cache, overfit)
    classes = train_set.classes
    check_classes(start, classes.names, recipe.data.name)
    precision = _precision(recipe, launch)
    seed_everything(recipe.seed, verbose=False)
    balance, weights = _by_classes(recipe, train_set)
    network = _network(recipe, len(classes.names), trained=start.checkpoint is not None)
    config = ModelConfig(recipe.model, classes.names, classes.palette, recipe.data.name, name, recipe.evaluation)
    if launch.rank == 0:
        write_whole(out / "recipe.yaml", yaml.safe_dump(recipe.to_mapping(), sort_keys=False).encode())
    task = ParsingTask(network, config, recipe.training, precision, recipe.seed, weights)
    synchronise_norms(task, launch)
    data = ParsingData(recipe, train_set, val_set, start.iteration, launch, balance)
    history = History(out, recipe.training.batch, _logs(recipe, name, out, classes.names, wandb))
    trainer = make_trainer(recipe.training, launch, precision.dtype, _callbacks(recipe, out, history, progress), out)
    facts = Facts(
        recipe=name,
        dataset=recipe.data.name,
        splits={"train": (recipe.data.train_split, train_set), "val": (recipe.data.val_split, val_set)},
        parameters=sum(p.numel() for p in network.parameters()),
        precision=precision,
        processes=launch.processes,
        devices=launch.devices,
        nodes=launch.nodes,
    )
    with (
        recorded(out, facts, history, start.iteration, writes=launch.rank == 0),
        explained(out, recipe.training, share, data.workers),
    ):
        trainer.fit(task, data, ckpt_path=start.checkpoint, weights_only=True)
        if recipe.training.iterations % recipe.training.validate_every:
            trainer.validate(task, data, verbose=False)
        if launch.rank == 0:
            save_model(out / "model", task.model, config)
    if overfit is not None and task.val_scores is not None:
        log.info(verdict(task.val_scores.miou, overfit, out))
    log.info("trained: --model %s", out)
    return out


def _data(recipe: Recipe, root: Path | None, cache: Path | None, overfit: int | None) -> tuple[Dataset, Dataset]:
    """What to train on and what to validate on."""
    data = recipe.data
    if overfit is not None:
        learned = few(open_files(data.name, root, data.train_split), overfit)
        return learned, learned
    train_set, val_set = (open_dataset(data.name, root, split, cache) for split in (data.train_split, data.val_split))
    return train_set, val_set


def _precision(recipe: Recipe, launch: Launch) -> Precision:
    """The number format to train in."""
    precision = pick_precision(recipe.precision, launch.device)
    if recipe.precision == "float16" and launch.device.type != "cuda":
        raise UserError("precision 'float16' trains on NVIDIA GPUs only. Here, set precision to bfloat16 or float32.")
    log.info("precision %s: %s", precision.name, precision.reason)
    return precision


def _by_classes(recipe: Recipe, train_set: Any) -> tuple[ClassBalance | None, Tensor | None]:
    """What depends on how often classes occur: which crops are drawn, and the weights of the loss."""
    share, loss = recipe.training.class_balance, recipe.training.loss
    pixels = None
    if share > 0 or needs_pixels(loss):
        with progress("counting classes") as step:
            pixels = class_pixels(train_set, progress=step)
    balance = ClassBalance(pixels, share) if pixels is not None and share > 0 else None
    return balance, class_weights(loss, train_set.classes.names, pixels)


def _network(recipe: Recipe, classes: int, trained: bool) -> SceneParser:
    """The network to train; if it is `trained`, a checkpoint is about to bring its weights."""
    network = build_network(recipe.model.without_weights() if trained else recipe.model, classes)
    if recipe.training.init_from is not None and not trained:
        taken = start_from(recipe.training.init_from, network, whole=recipe.training.init == "all")
        log.info("from %s: %s; fresh: %s", recipe.training.init_from, ", ".join(taken.loaded), ", ".join(taken.fresh))
    return network


def _logs(recipe: Recipe, name: str, out: Path, classes: Sequence[str], wandb: str | None) -> list[Log]:
    """The records of a run beside its history."""
    logs: list[Log] = [Tables(out, classes), TensorBoard(out, classes)]
    if wandb is not None:
        logs.append(WeightsAndBiases(out, classes, wandb, recipe.to_mapping(), name))
    return logs


def _callbacks(recipe: Recipe, out: Path, history: History, bar: bool) -> list[Callback]:
    """All that follows a run, in the order in which it must be called."""
    training = recipe.training
    last = KeepLast(out / LAST, training.checkpoint_every, training.validate_every, training.keep_every)
    shown = [ProgressBar(history)] if bar else []
    return [history, KeepBest(out / "best"), last, *shown, StopOnRequest(last)]
