"""A training run, from a recipe to a run folder (see `gffnet.training.run_folder`)."""

import copy
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor

from gffnet.console import progress
from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset, open_files
from gffnet.data.io import read_header
from gffnet.data.loader import ClassBalance, class_pixels
from gffnet.errors import UserError
from gffnet.files import atomic_write
from gffnet.inference.model_io import ModelConfig, save_model
from gffnet.inference.precision import Precision, keep_pages, pick_precision
from gffnet.metrics.confusion import ClassScores
from gffnet.models.gffnet import build_network
from gffnet.recipe import (
    DataSize,
    Recipe,
    TrainingRecipe,
    load_recipe,
    load_unresolved,
    resolve_auto,
)
from gffnet.training.callbacks import (
    DataWait,
    History,
    Log,
    ProgressBar,
    StopOnRequest,
    Tables,
    TensorBoard,
    WeightsAndBiases,
)
from gffnet.training.checkpoint import KeepBest, KeepLast, WholeCheckpoints
from gffnet.training.data import SegmentationDataModule
from gffnet.training.dry_run import Setup
from gffnet.training.failures import explained
from gffnet.training.finetune import start_from
from gffnet.training.launch import Launch, find_launch
from gffnet.training.losses import class_weights, needs_pixels
from gffnet.training.record import Facts, recorded
from gffnet.training.run_folder import LAST, Start, alone, check_classes, clear, find_start
from gffnet.training.task import SegmentationTask

# Lightning's trainer as gffnet wants it: our own callbacks and checkpoints, one process a device.


log = logging.getLogger("gffnet")


def make_trainer(
    training: TrainingRecipe, launch: Launch, dtype: torch.dtype, callbacks: Sequence[Callback], out: Path
) -> Trainer:
    """The trainer of a run in the folder `out`."""
    plugins: list[Any] = [WholeCheckpoints()]
    if launch.by == "SLURM":  # its requeueing keeps checkpoints of its own
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # Running statistics need no exchange in training: `SegmentationTask` does that before it validates. An exchange in every
    # forward pass would hang where processes validate different numbers of images.
    ddp = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Trainer(
        accelerator="cpu" if launch.device.type == "cpu" else "auto",
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ddp if launch.processes > 1 else "auto",
        # The task computes in lower precision by itself; Lightning scales the gradients of float16.
        precision="16-mixed" if dtype == torch.float16 else "32-true",
        max_steps=training.iterations,
        callbacks=list(callbacks),
        plugins=plugins,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        val_check_interval=training.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )


def synchronise_norms(task: SegmentationTask, launch: Launch) -> None:
    """Have batch normalisation see the batches of all processes, where that works; say so where it does not."""
    if launch.processes == 1 or task.training_recipe.freeze_norms:
        return
    if launch.device.type != "cuda":
        log.info("batch normalisation is each process's own: it can be synchronised on NVIDIA GPUs only")
        return
    convert: Any = convert_sync_batchnorm  # timm's, which knows its own kinds of batch normalisation, too
    task.network, task.auxiliary = convert(task.network), convert(task.auxiliary)
    log.info("batch normalisation is synchronised over %d processes", launch.processes)


def quiet_lightning() -> None:
    """Keep Lightning's tips and notices off the screen; errors still show."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")


# The overfit check: a network that cannot learn a few images by heart has data, labels or rates that do not fit.
#
# A few images, spread over the training split, are trained on without augmentation and scored on themselves. It is the
# cheapest way to find labels in the wrong order, images that do not match their label maps, or a learning rate that is
# far off, before a long run.


ENOUGH_MIOU = 0.9
"""The mean IoU on its own training images that a network should come to."""
SHOWN = 3
"""Classes that the verdict names."""


def overfit_settings(images: int, batch: int) -> list[str]:
    """What the check changes of a recipe, as `--set` has it; what the user sets comes after.

    Args:
        images: how many are learned.
        batch: of the recipe.

    Raises:
        UserError: there must be one image at least.
    """
    if images < 1:
        raise UserError(f"--overfit {images}: the number of images to learn must be 1 or more, such as 4.")
    return [
        f"training.batch={min(images, batch)}",
        "training.iterations=300",
        "training.validate_every=100",
        "training.scales=[1.0, 1.0]",
        "training.jitter=0",
        "training.flip=false",
        "training.class_balance=0",
        "model.dropout=0",
    ]


def few(dataset: Dataset, images: int) -> Dataset:
    """`dataset` with so many of its samples, spread evenly over it.

    Raises:
        UserError: there are fewer.
    """
    if images > len(dataset):
        raise UserError(f"--overfit {images}: the training split has {len(dataset)} images. Take at most so many.")
    part = copy.copy(dataset)
    part.files = [dataset.files[i * len(dataset) // images] for i in range(images)]
    return part


def overfit_verdict(scores: ClassScores, classes: Sequence[str], images: int, out: Path) -> str:
    """What the scores on its own training images say, with the classes that are lowest."""
    score = f"mIoU {scores.miou:.1%} on the {images} image{'s' * (images > 1)} that it was trained on"
    if scores.miou >= ENOUGH_MIOU:
        return f"{score}: data, labels and network fit each other."
    low = sorted(
        (iou, name) for name, iou in zip(classes, scores.iou, strict=True) if iou is not None and iou < ENOUGH_MIOU
    )
    lowest = ", ".join(f"{name} {iou:.1%}" for iou, name in low[:SHOWN])
    return (
        f"{score}, where {ENOUGH_MIOU:.0%} is to be expected; lowest: {lowest}. If the loss in {out} still falls, set more "
        "training.iterations. If only thin or small classes are low, give them larger images. Else look whether label "
        "maps fit their images (gffnet data check), and try a tenth of training.learning_rate."
    )


# A recipe whose `auto` values are those of the data that it is about to train on.


LOOKED_AT = 100
"""Images whose size is read."""


def fitted_recipe(
    recipe: str | Path, overrides: Iterable[str], root: Path | None, stored: Path | None = None
) -> tuple[Recipe, str]:
    """A recipe as `load_recipe` reads it, fitted to its training split.

    Args:
        recipe: a name or a YAML file.
        overrides: `section.key=value` changes.
        root: folder of the data set; None: fitted to data of a standard size.
        stored: the recipe of a run that goes on: its values stay, whatever images have come since.

    Returns:
        The recipe, and a line that says what was fitted to what; empty if nothing was.

    Raises:
        UserError: as `load_recipe` and `open_files`.
    """
    found, autos = load_unresolved(recipe, overrides)
    if not autos:
        return found, ""
    if stored is not None and stored.is_file():
        return resolve_auto(found, autos, load_recipe(stored)), ""
    if root is None:
        return load_recipe(recipe, overrides), ""
    size = data_size(open_files(found.data.name, root, found.data.train_split))
    fitted = resolve_auto(found, autos, size)
    values = ", ".join(f"{key} {_text(fitted, key)}" for key in autos)
    return fitted, f"fitted to {size.images} images of {size.height}x{size.width}: {values}"


def data_size(dataset: Dataset) -> DataSize:
    """How many images a data set has, and the height and the width that half of them do not exceed.

    Of many images, some are looked at, evenly spread; those that cannot be read are left out.

    Raises:
        UserError: none of them can be read.
    """
    count = len(dataset)
    places = range(0, count, max(1, count // LOOKED_AT))
    headers = [read_header(dataset.files[place][0]) for place in places]
    sizes = [header.size[::-1] if header.orientation > 4 else header.size for header in headers if header is not None]
    heights, widths = zip(*(sizes or [dataset[0].labels.shape]), strict=True)  # which says what is wrong with it
    return DataSize(count, median_low(heights), median_low(widths))


def _text(recipe: Recipe, key: str) -> str:
    """A value of a recipe; of a crop, height x width."""
    section, _, last = key.partition(".")
    value = getattr(getattr(recipe, section), last)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
    data = SegmentationDataModule(recipe, sets.train, sets.val, start.iteration, launch, balance)
    first, facts = launch.rank == 0, _facts(recipe, task, sets, launch)
    with alone(out, first), recorded(out, facts, history, start.iteration, first):
        _run(recipe, out, task, data, launch, start, [history, ProgressBar(history)] if progress else [history])
    if overfit is not None and task.val_scores is not None:
        log.info(overfit_verdict(task.val_scores, task.config.classes, overfit, out))
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
) -> SegmentationTask:
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
    return SegmentationTask(network, config, recipe.training, precision, recipe.seed, weights)


def _facts(recipe: Recipe, task: SegmentationTask, sets: Sets, launch: Launch) -> Facts:
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
    task: SegmentationTask,
    data: SegmentationDataModule,
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
            atomic_write(out / "recipe.yaml", yaml.safe_dump(recipe.to_mapping(), sort_keys=False).encode())
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
