"""Train a recipe: from the data set to a run folder (see `gffnet.training.run_folder`).

One process trains per device. They are started by `torchrun`, by SLURM's `srun`, or, on one machine, by the first:

    gffnet train RECIPE --devices 4
    torchrun --nproc-per-node 4 --nnodes 2 ... -m gffnet train RECIPE       (on every node)
    srun --ntasks-per-node 4 gffnet train RECIPE                           (in a job of two nodes)
"""

import copy
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
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
from gffnet.inference.precision import Precision, keep_pages, pick_device, pick_precision
from gffnet.metrics.confusion import ClassScores
from gffnet.models.gffnet import SegmentationModel, build_network, save_model
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import size_of
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
    Logger,
    ProgressBar,
    StopOnSignal,
    TensorBoard,
    WeightsAndBiases,
)
from gffnet.training.checkpoint import AtomicCheckpointIO, BestModel, LastCheckpoint
from gffnet.training.data import SegmentationDataModule
from gffnet.training.finetune import initialize_from
from gffnet.training.losses import class_weights
from gffnet.training.run_folder import (
    LAST,
    RECIPE,
    RunInfo,
    check_classes,
    explain_failures,
    lock,
    record_session,
    resume_point,
)
from gffnet.training.task import SegmentationTask

log = logging.getLogger("gffnet")


def train(
    recipe: Recipe | str | Path,
    root: Path | None,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    resume: bool = False,
    progress: bool = True,
    cache: Path | None = None,
    devices: int | None = None,
    overfit: int | None = None,
    wandb: str | None = None,
) -> Path:
    """Train a recipe on the data set under `root`; returns the run folder `out`.

    Args:
        recipe: a name, a YAML file or a `Recipe`.
        root: folder of the data set.
        out: the run folder, which must not hold a run unless `resume`.
        overrides: `section.key=value` changes of a recipe that is given by name or file.
        name: of the recipe in the model's config; by default as it is given.
        resume: resume from the last checkpoint in `out`, if there is one; a finished run is left as it is.
        progress: show a progress bar.
        cache: folder of the data set's cache; None: the one in `root`, if there is one.
        devices: processes on this machine, one per device; None: all GPUs, or one process on the CPU.
        overfit: train and validate on this number of training images (see `overfit_overrides`).
        wandb: project at Weights & Biases to log to.

    Raises:
        UserError: data, weights or run folder are not as they should be, or another process trains in the folder.
        RunFailed: memory or disk is full, the loss has diverged, a loading process died, or SIGTERM was received.
    """
    name = name or ("recipe" if isinstance(recipe, Recipe) else str(recipe))
    launch = find_launch(devices)
    if launch.rank:
        log.setLevel(logging.ERROR)  # only the first process logs
    recipe, auto = read_recipe(recipe, overrides, overfit, out if resume else None)
    start = resume_point(out, recipe, resume)
    if start.finished:
        log.info("%s is already trained", out)
        return out
    images = launch.split(recipe.training.batch)
    train_set, val_set, size = open_data(recipe, root, cache, overfit)
    if auto:
        recipe = resolve_auto(recipe, auto, size)
        values = {key: reduce(getattr, key.split("."), recipe) for key in auto}
        shown = ", ".join(f"{k} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in values.items())
        log.info("auto values for %d images of %dx%d: %s", *size, shown)
    check_classes(start, train_set.classes.names, recipe.data.name)
    prepare_process(launch.device)
    precision = training_precision(recipe, launch.device)
    balance, weights = class_statistics(recipe, train_set)
    seed_everything(recipe.seed, verbose=False)
    network = make_network(recipe, train_set.classes.names, new=start.checkpoint is None)
    config = ModelConfig(
        recipe.model,
        train_set.classes.names,
        train_set.classes.palette,
        recipe.data.name,
        name,
        recipe.evaluation,
        (size.height, size.width),
    )
    task = SegmentationTask(network, config, recipe.training, precision, recipe.seed, weights)
    synchronize_norms(task, launch)

    training = recipe.training
    loggers: list[Logger] = [TensorBoard(out, task.config.classes)]
    if wandb is not None:
        loggers.append(WeightsAndBiases(out, task.config.classes, wandb, recipe.to_mapping(), name))
    history = History(out, training.batch, loggers)
    batches = SegmentationDataModule(
        recipe,
        train_set,
        val_set,
        start.iteration,
        device=launch.device,
        rank=launch.rank,
        world_size=launch.world_size,
        processes_per_node=launch.devices,
        balance=balance,
    )
    last = LastCheckpoint(out / LAST, training.checkpoint_every, training.validate_every, training.keep_every)
    # The order matters: what a checkpoint contains must be up to date when it is written, and `DataWait` comes last.
    callbacks = [
        history,
        *([ProgressBar(history)] if progress else []),
        BestModel(out / "best"),
        last,
        StopOnSignal(last),
        DataWait(batches.workers, batches.max_workers),
    ]
    trainer = make_trainer(training, launch, precision.dtype, callbacks, out)
    info = RunInfo(
        recipe=name,
        dataset=recipe.data.name,
        splits={"train": (recipe.data.train_split, train_set), "val": (recipe.data.val_split, val_set)},
        parameters=sum(p.numel() for p in task.network.parameters()),
        precision=precision,
        processes=launch.world_size,
        devices=launch.devices,
        nodes=launch.nodes,
    )
    with ExitStack() as stack:
        if launch.rank == 0:
            stack.enter_context(lock(out))
            stack.enter_context(record_session(out, info, history, start.iteration))
            atomic_write(out / RECIPE, yaml.safe_dump(recipe.to_mapping(), sort_keys=False).encode())
        stack.enter_context(explain_failures(out, recipe, images, batches.workers))
        trainer.fit(task, batches, ckpt_path=start.checkpoint, weights_only=True)
        if training.iterations % training.validate_every:
            trainer.validate(task, batches, verbose=False)
        if launch.rank == 0:
            save_model(out / "model", task.model, task.config)
    if overfit is not None and task.val_scores is not None:
        log.info(overfit_verdict(task.val_scores, task.config.classes, overfit, out))
    log.info("trained: --model %s", out)
    return out


# The recipe and its `auto` values


def read_recipe(
    recipe: Recipe | str | Path, overrides: Sequence[str] = (), overfit: int | None = None, resumed: Path | None = None
) -> tuple[Recipe, list[str]]:
    """A recipe, and the keys that are `auto` and follow from the data. A resumed run keeps the values of its start.

    Args:
        recipe: a name, a YAML file, or a `Recipe`, which is returned as it is.
        overrides: `section.key=value` changes.
        overfit: number of images to overfit.
        resumed: folder of the run to resume.

    Raises:
        UserError: as `load_recipe`.
    """
    if isinstance(recipe, Recipe):
        return recipe, []
    if overfit is not None:
        overrides = [*overfit_overrides(overfit, load_recipe(recipe, overrides).training.batch), *overrides]
    found, auto = load_unresolved(recipe, overrides)
    if auto and resumed and (resumed / RECIPE).is_file():
        return resolve_auto(found, auto, load_recipe(resumed / RECIPE)), []
    return found, auto


# The data


def open_data(
    recipe: Recipe, root: Path | None, cache: Path | None = None, overfit: int | None = None
) -> tuple[Dataset, Dataset, DataSize]:
    """Open the training and the validation split of a recipe, or the same images twice to overfit them.

    Returns:
        The two data sets, and the size of the first.

    Raises:
        UserError: as `open_dataset`, or there are fewer images than `overfit`.
    """
    data = recipe.data
    if overfit is not None:
        train = val = spread_subset(open_files(data.name, root, data.train_split), overfit)
    else:
        train, val = (open_dataset(data.name, root, split, cache) for split in (data.train_split, data.val_split))
    return train, val, data_size(train)


SIZES_READ = 100
"""Images whose size is read, at least, where there are more."""


def data_size(dataset: Dataset) -> DataSize:
    """The number of images of a data set and their median height and width.

    In a large data set, evenly spaced images are read; unreadable ones are left out.

    Raises:
        UserError: none of them can be read.
    """
    count = len(dataset)
    headers = [read_header(dataset.files[i][0]) for i in range(0, count, max(1, count // SIZES_READ))]
    sizes = [header.size[::-1] if header.orientation > 4 else header.size for header in headers if header is not None]
    heights, widths = zip(*(sizes or [size_of(dataset[0].labels)]), strict=True)  # raises what is wrong with it
    return DataSize(count, median_low(heights), median_low(widths))


def class_statistics(recipe: Recipe, dataset: Dataset) -> tuple[ClassBalance | None, Tensor | None]:
    """The class-balanced sampling and the class weights of a recipe, for which pixels are counted if necessary."""
    fraction, loss, pixels = recipe.training.class_balance, recipe.training.loss, None
    if fraction > 0 or loss.class_weighting != "none":
        with progress("counting classes") as step:
            pixels = class_pixels(dataset, progress=step)
    balance = ClassBalance(pixels, fraction) if pixels is not None and fraction > 0 else None
    return balance, class_weights(loss, dataset.classes.names, pixels)


# Overfitting a few images
#
# A network that cannot overfit a few images reveals data, labels or learning rates that do not fit, before a long run.


EXPECTED_MIOU = 0.9
"""On the training images, after overfitting them."""


def overfit_overrides(images: int, batch: int) -> list[str]:
    """Overrides of a recipe with this `batch` for overfitting `images`: few iterations, no augmentation, no dropout.

    Raises:
        UserError: `images` is below 1.
    """
    if images < 1:
        raise UserError(f"--overfit {images}: the number of images must be 1 or more, such as 4.")
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


def spread_subset(dataset: Dataset, images: int) -> Dataset:
    """This number of samples, evenly spaced in the data set. Raises `UserError` if there are fewer."""
    if images > len(dataset):
        raise UserError(f"--overfit {images}: the training split has {len(dataset)} images. Take at most that many.")
    subset = copy.copy(dataset)
    subset.files = [dataset.files[i * len(dataset) // images] for i in range(images)]
    return subset


def overfit_verdict(scores: ClassScores, classes: Sequence[str], images: int, out: Path) -> str:
    """What the scores on its own training images mean, with the three lowest classes."""
    score = f"mIoU {scores.miou:.1%} on the {images} training image{'s' * (images > 1)}"
    if scores.miou >= EXPECTED_MIOU:
        return f"{score}: data, labels and network fit each other."
    low = sorted(
        (iou, name) for name, iou in zip(classes, scores.iou, strict=True) if iou is not None and iou < EXPECTED_MIOU
    )
    return (
        f"{score}, where {EXPECTED_MIOU:.0%} is expected; lowest: "
        f"{', '.join(f'{name} {iou:.1%}' for iou, name in low[:3])}. If the loss in {out} still falls, set more "
        "training.iterations. If only thin or small classes are low, use larger images. Otherwise check that label "
        "maps fit their images (gffnet data check), and try a tenth of training.learning_rate."
    )


# The processes of a run


class Launch(NamedTuple):
    """How many processes train, and which of them this one is."""

    device: torch.device
    """Of this process, without an index: `cpu` or `cuda`."""
    devices: int = 1
    """Processes per node."""
    nodes: int = 1
    rank: int = 0
    by: str = "gffnet"
    """What started the processes."""

    @property
    def world_size(self) -> int:
        """The number of processes on all nodes."""
        return self.devices * self.nodes

    def split(self, batch: int) -> int:
        """Images of a batch per process. Raises `UserError` if it cannot be divided evenly."""
        if batch % self.world_size:
            divisor = next(n for n in range(self.world_size, 0, -1) if batch % n == 0)
            raise UserError(
                f"training.batch {batch} cannot be divided evenly among {self.world_size} processes. Choose a batch or "
                f"a --devices of which one divides the other: --devices {divisor}."
            )
        return batch // self.world_size


def find_launch(devices: int | None = None) -> Launch:
    """The processes of this run, from the environment.

    Args:
        devices: on this machine; None: all its GPUs, or one process on the CPU.

    Raises:
        UserError: torchrun or SLURM started another number, or there are fewer GPUs.
    """
    if devices is not None and devices < 1:
        raise UserError(f"--devices {devices}: it must be 1 or more.")
    device = pick_device()
    available = torch.cuda.device_count() if device.type == "cuda" else None
    if TorchElasticEnvironment.detect():
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        launch = Launch(device, local, world // local, int(os.environ["RANK"]), "torchrun")
    elif SLURMEnvironment.detect():
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        launch = Launch(device, tasks // nodes, nodes, int(os.environ["SLURM_PROCID"]), "SLURM")
    else:
        rank = int(os.environ.get("LOCAL_RANK", "0"))  # set if the first process has started this one
        launch = Launch(device, devices or available or 1, 1, rank)
    if devices not in (None, launch.devices):
        raise UserError(f"--devices {devices}: {launch.by} started {launch.devices} on this node. Leave --devices out.")
    if available is not None and launch.devices > available:
        raise UserError(f"--devices {launch.devices}: this machine has {available} GPUs. Take at most that many.")
    return launch


def prepare_process(device: torch.device) -> None:
    """Silence Lightning's tips, and keep freed memory on a CPU."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    if device.type == "cpu":
        keep_pages()


# The network and Lightning's trainer


def training_precision(recipe: Recipe, device: torch.device) -> Precision:
    """The precision to train in. Raises `UserError` for float16 on a CPU."""
    precision = pick_precision(recipe.precision, device)
    if recipe.precision == "float16" and device.type != "cuda":
        raise UserError("precision 'float16' trains on NVIDIA GPUs only. Here, set precision to bfloat16 or float32.")
    log.info("precision %s: %s", precision.name, precision.reason)
    return precision


def make_network(recipe: Recipe, classes: Sequence[str], new: bool) -> SegmentationModel:
    """The network of a recipe; a `new` one is initialised as the recipe says, else a checkpoint brings the weights."""
    init_from = recipe.training.init_from
    pretrained = new and init_from is None  # a run to initialise from has a backbone of its own
    network = build_network(recipe.model if pretrained else recipe.model.without_weights(), len(classes))
    if init_from is not None and new:
        loaded = initialize_from(init_from, network, classes, whole=recipe.training.init == "all")
        log.info("initialised from %s: %s", init_from, loaded)
    return network


def synchronize_norms(task: SegmentationTask, launch: Launch) -> None:
    """Synchronise batch normalisation over all processes where that is possible; else say so."""
    if launch.world_size == 1 or task.training_recipe.freeze_norms:
        return
    if launch.device.type != "cuda":
        log.info("batch normalisation is not synchronised between processes: that works on NVIDIA GPUs only")
        return
    convert: Any = convert_sync_batchnorm  # timm's, which also knows its own kinds of batch normalisation
    task.network, task.auxiliary = convert(task.network), convert(task.auxiliary)
    log.info("batch normalisation is synchronised over %d processes", launch.world_size)


def make_trainer(
    training: TrainingRecipe, launch: Launch, dtype: torch.dtype, callbacks: Sequence[Callback], out: Path
) -> Trainer:
    """Lightning's trainer with our own callbacks and checkpoints, one process per device."""
    plugins: list[Any] = [AtomicCheckpointIO()]
    if launch.by == "SLURM":  # its requeueing writes checkpoints of its own
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # `SegmentationTask` broadcasts running statistics before validation. Broadcasting them in every forward pass would
    # hang where ranks validate different numbers of images.
    ddp = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Trainer(
        accelerator="cpu" if launch.device.type == "cpu" else "auto",
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ddp if launch.world_size > 1 else "auto",
        # The task autocasts by itself; Lightning only scales the gradients of float16.
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
