"""A training run, from a recipe to a run folder (see `gffnet.training.run_folder`)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from gffnet.pages import keep_pages
from gffnet.recipe import Recipe
from gffnet.training.checkpoints import KeepBest, KeepLast
from gffnet.training.class_weights import class_weights, needs_pixels
from gffnet.training.data_module import ParsingData
from gffnet.training.data_wait import DataWait
from gffnet.training.failures import explained
from gffnet.training.fitted import data_size
from gffnet.training.history import History
from gffnet.training.initial import start_from
from gffnet.training.launch import Launch, find_launch
from gffnet.training.logs import Log, Tables, TensorBoard, WeightsAndBiases
from gffnet.training.overfit import few, verdict
from gffnet.training.progress_bar import ProgressBar
from gffnet.training.record import Facts, recorded
from gffnet.training.rehearsal import Setup
from gffnet.training.run_folder import LAST, Start, alone, check_classes, clear, find_start
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
        resume: go on from the last checkpoint in `out`, if there is one; a finished run is left as it is.
        progress: show a progress bar.
        cache: the folder of the data set's cache; None: the one in `root`, if it is there.
        devices: processes on this machine, one a device; None: as `find_launch` has it.
        overfit: train on so many images, and score on the same ones.
        wandb: project to log to on Weights & Biases.

    Raises:
        UserError: data, weights or run folder are not as they should be, or another process trains in the folder.
        RunFailed: memory or disk is full, the loss has broken down, a loading process died, or it was asked to stop.
    """
    start = find_start(out, recipe, resume)
    if start.finished:
        log.info("%s is trained already", out)
        return out
    launch = _launch(recipe, devices)
    precision = _precision(recipe, launch)
    sets = _data(recipe, root, cache, overfit)
    check_classes(start, sets.train.classes.names, recipe.data.name)
    balance, weights = _by_classes(recipe, sets.train)
    task = _task(recipe, name, sets.train, start, precision, weights)
    synchronise_norms(task, launch)
    history = History(out, recipe.training.batch, _logs(recipe, name, out, task.config.classes, wandb))
    data = ParsingData(recipe, sets.train, sets.val, start.iteration, launch, balance)
    first, facts = launch.rank == 0, _facts(recipe, task, sets, launch)
    with alone(out, first), recorded(out, facts, history, start.iteration, first):
        _run(recipe, out, task, data, launch, start, [history, ProgressBar(history)] if progress else [history])
    if overfit is not None and task.val_scores is not None:
        log.info(verdict(task.val_scores, task.config.classes, overfit, out))
    log.info("trained: --model %s", out)
    return out


class Sets(NamedTuple):
    """What to train on and what to validate on."""

    train: Dataset
    val: Dataset


def _launch(recipe: Recipe, devices: int | None) -> Launch:
    """The processes of the run; only the first of them speaks."""
    launch = find_launch(devices)
    launch.share(recipe.training.batch)  # or it cannot be shared
    quiet_lightning()
    if launch.rank:
        log.setLevel(logging.ERROR)
    if launch.device.type == "cpu":
        keep_pages()
    return launch


def _data(recipe: Recipe, root: Path | None, cache: Path | None, overfit: int | None) -> Sets:
    """The data sets of a run, whole or a few images to learn by heart."""
    data = recipe.data
    if overfit is not None:
        learned = few(open_files(data.name, root, data.train_split), overfit)
        return Sets(learned, learned)
    return Sets(*(open_dataset(data.name, root, split, cache) for split in (data.train_split, data.val_split)))


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


def _task(
    recipe: Recipe, name: str, train_set: Dataset, start: Start, precision: Precision, weights: Tensor | None
) -> ParsingTask:
    """What is trained: a new network, or one that a checkpoint is about to bring the weights of."""
    seed_everything(recipe.seed, verbose=False)
    classes = train_set.classes
    fresh, before = start.checkpoint is None, recipe.training.init_from
    pretrained = fresh and before is None  # a run to start from brings a backbone of its own
    network = build_network(recipe.model if pretrained else recipe.model.without_weights(), len(classes.names))
    if before is not None and fresh:
        whole = recipe.training.init == "all"
        log.info("from %s: %s", before, start_from(before, network, classes.names, whole))
    size = data_size(train_set)
    config = ModelConfig(
        recipe.model,
        classes.names,
        classes.palette,
        recipe.data.name,
        name,
        recipe.evaluation,
        (size.height, size.width),
    )
    return ParsingTask(network, config, recipe.training, precision, recipe.seed, weights)


def _facts(recipe: Recipe, task: ParsingTask, sets: Sets, launch: Launch) -> Facts:
    """What the record of the run holds."""
    return Facts(
        recipe=task.config.recipe,
        dataset=recipe.data.name,
        splits={"train": (recipe.data.train_split, sets.train), "val": (recipe.data.val_split, sets.val)},
        parameters=sum(p.numel() for p in task.network.parameters()),
        precision=task.precision,
        processes=launch.processes,
        devices=launch.devices,
        nodes=launch.nodes,
    )


def _run(
    recipe: Recipe,
    out: Path,
    task: ParsingTask,
    data: ParsingData,
    launch: Launch,
    start: Start,
    followers: Sequence[Callback],
) -> None:
    """Train to the last iteration, validate what came of it, and write the model; `followers` see all that happens."""
    training = recipe.training
    last = KeepLast(out / LAST, training.checkpoint_every, training.validate_every, training.keep_every)
    waits = DataWait(data.workers, data.most_workers)
    # The order matters: what a checkpoint holds must be up to date when it is written, and `waits` comes last.
    callbacks = [*followers, KeepBest(out / "best"), last, StopOnRequest(last), waits]
    trainer = make_trainer(training, launch, task.precision.dtype, callbacks, out)
    setup = Setup(recipe, len(task.config.classes), launch.device, task.precision.dtype)
    with explained(out, setup, launch.share(training.batch), data.workers):
        if launch.rank == 0:
            clear(out)
            write_whole(out / "recipe.yaml", yaml.safe_dump(recipe.to_mapping(), sort_keys=False).encode())
        trainer.fit(task, data, ckpt_path=start.checkpoint, weights_only=True)
        if training.iterations % training.validate_every:
            trainer.validate(task, data, verbose=False)
        if launch.rank == 0:
            save_model(out / "model", task.model, task.config)


def _logs(recipe: Recipe, name: str, out: Path, classes: Sequence[str], wandb: str | None) -> list[Log]:
    """The records of a run beside its history."""
    logs: list[Log] = [Tables(out, classes), TensorBoard(out, classes)]
    if wandb is not None:
        logs.append(WeightsAndBiases(out, classes, wandb, recipe.to_mapping(), name))
    return logs
