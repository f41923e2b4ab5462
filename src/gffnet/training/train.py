"""Train a recipe: from the data set to a run folder (see `gffnet.training.run_folder`).

One process trains per device. They are started by `torchrun`, by SLURM's `srun`, or, on one machine, by the first:

    gffnet train RECIPE --devices 4
    torchrun --nproc-per-node 4 --nnodes 2 ... -m gffnet train RECIPE       (on every node)
    srun --ntasks-per-node 4 gffnet train RECIPE                           (in a job of two nodes)
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields
from functools import reduce
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn

from gffnet.console import progress
from gffnet.data.dataset import IGNORE, Dataset, class_difference, evenly_spaced
from gffnet.data.datasets import open_dataset, open_files
from gffnet.data.folder import Folder
from gffnet.data.loader import ClassBalance, class_pixels
from gffnet.data.map_style import MapStyleDataset, as_dataset, dataset_name, describe, describe_data
from gffnet.data.statistics import ImageStatistics, check_bands, find_channels, is_deep, measure
from gffnet.data.transforms import ColorJitter, seeded
from gffnet.errors import UserError, one_line
from gffnet.files import as_path
from gffnet.inference.precision import (
    Precision,
    keep_pages,
    pick_device,
    pick_precision,
    resumed_precision,
)
from gffnet.metrics.confusion import ClassScores
from gffnet.models.gffnet import SegmentationModel, build_network, check_loadable, load_model, save_model
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import size_of
from gffnet.parallel import available_cores, device_count, limit_threads, restored_threads
from gffnet.recipe import (
    AUTO_KEYS,
    INPUT_KEYS,
    DataSize,
    LossRecipe,
    Recipe,
    TrainingRecipe,
    load_recipe,
    load_unresolved,
    resolve_auto,
    with_inputs,
)
from gffnet.registry import plugin_of
from gffnet.remote import as_url, is_url
from gffnet.training.callbacks import (
    CheckLoss,
    DataWait,
    History,
    Logger,
    ProgressBar,
    StopOnSignal,
    TensorBoard,
    WeightsAndBiases,
)
from gffnet.training.checkpoint import AtomicCheckpointIO, BestModel, LastCheckpoint
from gffnet.training.data import SegmentationDataModule, divide_cores
from gffnet.training.finetune import initialize_from
from gffnet.training.losses import MeanLoss, build_loss, class_weights
from gffnet.training.run_folder import (
    LAST,
    RECIPE,
    RecipeFile,
    ResumePoint,
    RunInfo,
    check_classes,
    explain_failures,
    extended,
    lock,
    precision_of_run,
    record_session,
    recorded_python,
    resume_point,
    stored_recipe,
)
from gffnet.training.task import OPTIMIZERS, SegmentationTask

log = logging.getLogger("gffnet")


@restored_threads()
def train(
    recipe: Recipe | str | Path,
    root: str | Path | None = None,
    out: str | Path | None = None,
    *,
    train_data: Any = None,
    val_data: Any = None,
    classes: Any = None,
    loss: Any = None,
    transform: Any = None,
    task: Any = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    resume: bool = False,
    extend: int | None = None,
    progress: bool = True,
    cache: str | Path | None = None,
    devices: int | None = None,
    overfit: int | None = None,
    wandb: str | None = None,
) -> Path:
    """Train a recipe, on the data set under `root` or on data in Python; returns the run folder.

        run = gffnet.train("camvid/gffnet_r18", root="data/camvid", overrides=["training.iterations=2000"])
        run = gffnet.train("camvid/gffnet_r18", train_data=mine, val_data=mine_val, classes=["road", "car"])

    Whatever is given in Python in place of a part of the recipe is named in run.json (`python`), and must be given
    again to resume the run.

    Args:
        recipe: a name, a YAML file or a `Recipe`.
        root: folder of the recipe's data set.
        out: the run folder, which must not hold a run unless `resume`; None: runs/NAME, with the name of the recipe.
        train_data, val_data: in place of the recipe's data set: map-style data sets of (image, labels), see
            `MapStyleDataset`, or of gffnet.
        classes: of these data: their names or their number, in the order of the labels; None: the data set's own.
        loss: in place of the recipe's: a function or module of logits (B, K, H, W) and labels (B, H, W), int64 with 255
            ignored, that returns the mean over the labelled pixels: `nn.CrossEntropyLoss(ignore_index=255)`. Both heads
            use it; its parameters are trained.
        transform: in place of the recipe's random scale, flip and color jitter; see `CustomTransform`. It is left out
            with `overfit`.
        task: a subclass of `SegmentationTask`.
        overrides: `section.key=value` changes of the recipe.
        name: of the recipe in the model's config; by default as it is given.
        resume: resume from the last checkpoint in `out`, if there is one; a finished run is left as it is.
        extend: with `resume`, iterations to train the run further, finished or not. From the last checkpoint on, the
            schedule is that of all iterations together.
        progress: show a progress bar.
        cache: folder of the cache of the recipe's data set; None: the one in `root`, if there is one.
        devices: processes on this machine, one per device; None: all GPUs, or one process on the CPU.
        overfit: train and validate on this number of training images (see `overfit_overrides`).
        wandb: project at Weights & Biases to log to.

    Raises:
        UserError: an argument, data, weights or run folder are not as they should be, or another process trains in the
            folder.
        RunFailed: memory or disk is full, the loss has diverged, a loading process died, or SIGTERM was received.
    """
    name = name or ("recipe" if isinstance(recipe, Recipe) else str(recipe))
    out, launch = given_path(out) or default_out(name, overfit), join_launch(devices)
    transform = used_transform(transform, overfit)
    python = describe_parts(train_data=train_data, val_data=val_data, loss=loss, transform=transform, task=task)
    recipe, auto = read_recipe(recipe, overrides, overfit, out if resume else None)
    recipe = extended(out, recipe, resume, extend)
    start = resume_point(out, recipe, resume, extend is not None)
    if start.finished:
        log.info("%s is already trained", out)
        return out
    check_parts(start, out, python)
    images = launch.split(recipe.training.batch)
    if train_data is None and val_data is None and classes is None:
        train_set, val_set, size = open_data(recipe, given_path(root), given_path(cache), overfit)
        dataset = recipe.data.name
    else:
        train_set, val_set, size = own_data(recipe, root, cache, train_data, val_data, classes, overfit)
        dataset = dataset_name(train_set)
    recipe, train_set, val_set = fit_inputs(recipe, auto, train_set, val_set)
    check_losses(loss, recipe, len(train_set.classes.names))
    recipe = resolve_and_show(recipe, auto, size)
    check_classes(start, train_set.classes.names, dataset)
    prepare_process(launch, recipe)
    balance, weights = class_statistics(recipe, train_set, weighted=loss is None)
    seed_everything(recipe.seed, verbose=False)
    network = make_network(recipe, train_set.classes.names, new=start.checkpoint is None)
    precision = training_precision(recipe, launch.device, network, out if start.checkpoint else None)
    config = ModelConfig(
        recipe.model,
        train_set.classes.names,
        train_set.classes.palette,
        dataset,
        name,
        recipe.evaluation,
        (size.height, size.width),
    )
    module = make_task(task, network, config, recipe, precision, weights, loss, extend)
    synchronize_norms(module, launch)

    training = recipe.training
    history = History(out, training.batch, make_loggers(out, config, recipe, wandb))
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
        transform=transform,
    )
    callbacks = make_callbacks(out, recipe, history, batches, progress, extend)
    trainer = make_trainer(training, launch, precision.dtype, callbacks, out, module)
    info = RunInfo(
        recipe=name,
        dataset=dataset,
        splits=named_splits(None if train_data is not None else recipe, train_set, val_set),
        parameters=sum(p.numel() for p in module.network.parameters()),
        precision=precision,
        processes=launch.world_size,
        devices=launch.devices,
        nodes=launch.nodes,
        python=python,
        arguments=given_arguments(root=given_path(root), cache=given_path(cache), devices=devices, overfit=overfit),
        extension=None if extend is None else (training.iterations - extend, training.iterations),
    )
    with threads_of_processes(launch), ExitStack() as stack:
        if launch.rank == 0:
            stack.enter_context(lock(out))
            stack.enter_context(record_session(out, info, history, start.iteration))
        stack.enter_context(explain_failures(out, recipe, images, batches.workers))
        stack.enter_context(explain_optimizers(module))
        trainer.fit(module, batches, ckpt_path=start.checkpoint, weights_only=True)
        if training.iterations % training.validate_every:
            trainer.validate(module, batches, verbose=False)
        if launch.rank == 0:
            save_model(out / "model", module.model, config)
    if overfit is not None and module.val_scores is not None:
        log.info(overfit_verdict(module.val_scores, config.classes, overfit, out))
    log.info("trained: --model %s", out)
    return out


def given_path(path: str | Path | None) -> Path | None:
    """A path that may be given as text."""
    return None if path is None else as_path(path)


def given_arguments(**arguments: Path | int | None) -> dict[str, str | int]:
    """The arguments that were given, as the record of a run has them, paths absolute."""
    given = {key: value for key, value in arguments.items() if value is not None}
    return {key: _recorded(value) if isinstance(value, Path) else value for key, value in given.items()}


def _recorded(path: Path) -> str:
    return as_url(path) if is_url(path) else str(path.absolute())


def recipe_folder(recipe: str) -> str:
    """The folder that the runs of a recipe have by default: its name; of a file of one's own, the file's."""
    path = Path(recipe)
    return path.stem if path.suffix in {".yaml", ".yml"} else recipe


def default_out(name: str, overfit: int | None = None) -> Path:
    """The run folder of a recipe, `runs/NAME`."""
    out = Path("runs") / recipe_folder(name)
    return out if overfit is None else out.with_name(f"{out.name}_overfit_{overfit}")


# What is given in Python in place of the recipe's


def describe_parts(**given: Any) -> dict[str, str]:
    """What is given, by the names of the arguments, in words for the record: `"loss": "mine.my_loss"`."""
    return {
        key: describe_data(value) if key.endswith("_data") and hasattr(value, "__len__") else describe(value)
        for key, value in given.items()
        if value is not None
    }


def check_parts(start: ResumePoint, out: Path, python: Mapping[str, str]) -> None:
    """Check that a run is resumed with the arguments in Python that it started with; warn of those of another name.

    Raises:
        UserError: one is missing, or there is one that the run did not start with.
    """
    if start.checkpoint is None:
        return
    before = recorded_python(out)
    missing, new = before.keys() - python.keys(), python.keys() - before.keys()
    if missing or new:
        key = min(missing or new)
        was = f"{key}={before[key]}" if missing else f"the {key} of its recipe"
        now = f"give {key}= again" if missing else f"leave {key}= out"
        raise UserError(
            f"--out {out}: the run started in Python with {was}: {now}, "
            f"gffnet.train(..., out={str(out)!r}, resume=True)."
        )
    for key, value in python.items():
        if value != before[key]:
            log.warning("%s was %s when the run started and is %s now", key, before[key], value)


def own_data(
    recipe: Recipe, root: Any, cache: Any, train_data: Any, val_data: Any, classes: Any, overfit: int | None
) -> tuple[Dataset, Dataset, DataSize]:
    """The data that are given in Python, as `open_data` returns those of a recipe.

    Raises:
        UserError: one of them is missing, or is not as it must be (see `as_dataset`).
    """
    if train_data is None:
        missing = "val_data" if val_data is not None else "classes"
        raise UserError(f"{missing} is given, but not train_data: give both, or root, the folder of the recipe's data.")
    for argument, folder, what in (("root", root, "the folder"), ("cache", cache, "a cache")):
        if folder is not None:
            raise UserError(
                f"{argument} {str(folder)!r} is {what} of the recipe's data set, which train_data replaces: "
                "leave it out."
            )
    channels = recipe.model.backbone.in_channels
    train_set = as_dataset(train_data, classes, channels, "train_data")
    if overfit is not None:
        train_set = val_set = spread_subset(train_set, overfit)
        return train_set, val_set, data_size(train_set)
    if val_data is None:
        raise UserError(
            "val_data is missing: give the data to validate on. To split one data set: train_data, val_data = "
            "torch.utils.data.random_split(data, [0.9, 0.1], torch.Generator().manual_seed(0))."
        )
    val_set = as_dataset(val_data, classes, channels, "val_data")
    if val_set.classes.names != train_set.classes.names:
        raise UserError(
            "val_data has other classes than train_data: "
            f"{class_difference(train_set.classes.names, val_set.classes.names, 'train_data', 'val_data')}. They must "
            "be the same, in the same order."
        )
    check_labels(train_set, "train_data")
    return train_set, val_set, data_size(train_set)


def named_splits(recipe: Recipe | None, train_set: Dataset, val_set: Dataset) -> dict[str, tuple[str, Dataset]]:
    """For each use of the data of a recipe, the name of the split and its samples; None: of data in Python."""
    names = ("train", "val") if recipe is None else (recipe.data.train_split, recipe.data.val_split)
    return {"train": (names[0], train_set), "val": (names[1], val_set)}


def used_transform(transform: Any, overfit: int | None) -> Any:
    """The transform that is given, but for overfitting, where there is no augmentation: None, and a warning."""
    if transform is None or overfit is None:
        return transform
    log.warning("transform %s is left out: images are overfitted without augmentation", describe(transform))
    return None


LABELS_READ, OWN_LABELS_READ = 32, 8
"""Label maps that are looked at before training, at least, where there are more; of data in Python."""


def check_labels(dataset: Dataset, what: str, classes: int = 2) -> None:
    """Look at some label maps, and at all if these show fewer classes than training needs: 2, or 1 to validate on.

    Warns where most are empty, or 255 may be a class. Of data in Python, a few are read, and one class is a warning.

    Args:
        dataset: the training or validation data.
        what: in words, for messages.
        classes: that it must show.

    Raises:
        UserError: it shows fewer, or a label map cannot be read.
    """
    in_python = isinstance(dataset, MapStyleDataset)
    indices = evenly_spaced(len(dataset), OWN_LABELS_READ if in_python else LABELS_READ)
    rest = [] if in_python else sorted({*range(len(dataset))} - {*indices})
    pixels, empty, read = np.zeros(IGNORE + 1, np.int64), 0, 0
    for index in (*indices, *rest):
        if read >= len(indices) and np.count_nonzero(pixels[:IGNORE]) >= classes:
            break
        here = np.bincount(dataset.labels(index).ravel(), minlength=IGNORE + 1)
        pixels, empty, read = pixels + here, empty + (not here[:IGNORE].any()), read + 1
    found, ignored = np.flatnonzero(pixels[:IGNORE]), pixels[IGNORE] / pixels.sum()
    remedy = dataset.doubt_255(len(found), ignored) if isinstance(dataset, Folder) else ""
    if not len(found):
        raise UserError(
            f"{what}: every pixel of {read} label maps is ignored (255{', -1 or -100' if in_python else ''}), so there "
            f"is nothing to {'learn' if classes > 1 else 'score'}: label some. {remedy}".rstrip()
        )
    if len(found) < classes:
        report_one_class(dataset, what, dataset.classes.names[found[0]], read, ignored, remedy)
    elif remedy and classes > 1:
        log.warning("%s: %.0f %% of the pixels are 255, which is ignored. %s", what, 100 * ignored, remedy)
    if 2 * empty > read:
        lists = "" if in_python else f" `gffnet data check {dataset.layout.name} --root {dataset.root}` lists them."
        log.warning("%s: %d of %d label maps that were read have no labelled pixel.%s", what, empty, read, lists)


def report_one_class(dataset: Dataset, what: str, name: str, read: int, ignored: float, remedy: str) -> None:
    """Say that one class alone is labelled: a warning for data in Python, else a `UserError`."""
    if isinstance(dataset, MapStyleDataset):
        if ignored and len(dataset.classes.names) > 1:
            log.warning(
                "%s: in %d samples only %r is labelled, and all else is 255, which is ignored. If masks are 0 and 255, "
                "and 255 is a class, give mask // 255.",
                *(what, read, name),
            )
        return
    rest = f" and the other {ignored:.0%} of the pixels are ignored" if ignored else ""
    raise UserError(
        f"{what}: in its {read} label maps only {name!r} is labelled{rest}, and a network needs two classes to tell "
        f"apart. {remedy or 'Label another, or take images that show one.'}"
    )


def check_channels(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `UserError` if a data set that reads its samples in its own way has images of other channels."""
    wanted = recipe.model.backbone.in_channels
    if type(dataset).read is Dataset.read:
        return
    found = len(dataset[0].image)
    if found != wanted:
        raise UserError(
            f"model.backbone.in_channels is {wanted}, and the images have {found} channels: set it to {found}, with as "
            "many values in model.mean and model.std."
        )


def check_losses(loss: Any, recipe: Recipe, num_classes: int) -> None:
    """Try the loss that is given, or else the registered ones of the recipe that are not of the package.

    Raises:
        UserError: as `check_loss`.
    """
    terms = [name for name in recipe.training.loss.terms if plugin_of("loss", name)]
    for own in [loss] if loss is not None else map(build_loss, terms):
        check_loss(own, num_classes)


def check_loss(loss: Any, num_classes: int) -> None:
    """Try a loss on two tiny images of these classes with ignored labels.

    Raises:
        UserError: it cannot be called, or does not return a finite scalar with a gradient.
    """
    name, example = describe(loss), "such as torch.nn.CrossEntropyLoss(ignore_index=255)"
    if not callable(loss) or isinstance(loss, type):
        raise UserError(f"loss {loss!r} is no function and no module: give one, {example}.")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 8, 8, generator=generator)
    labels = torch.randint(num_classes, (2, 8, 8), generator=generator)
    labels[:, :2] = IGNORE
    held = [*loss.parameters(), *loss.buffers()] if isinstance(loss, nn.Module) else []
    place = held[0].device if held else logits.device
    logits, labels = logits.to(place).requires_grad_(), labels.to(place)
    try:
        with seeded(0):
            value = loss(logits, labels)
    except Exception as error:  # whatever a user's function raises
        reason = one_line(error)[:200]
        raise UserError(
            f"loss {name} failed for logits (2, {num_classes}, 8, 8) and labels (2, 8, 8), int64 with 255 for ignored "
            f"pixels: {type(error).__name__}: {reason}. It must ignore the label 255, {example}."
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise UserError(f"loss {name} returned {got}: it must return a scalar, the mean over the labelled pixels.")
    if not value.isfinite().all():
        raise UserError(
            f"loss {name} is {float(value.detach())} where some labels are 255: it must ignore them, {example}."
        )
    if not value.requires_grad:
        raise UserError(f"loss {name} has no gradient: compute it from the logits with differentiable operations only.")


def make_task(
    kind: Any,
    network: SegmentationModel,
    config: ModelConfig,
    recipe: Recipe,
    precision: Precision,
    weights: Tensor | None,
    loss: Any,
    extend: int | None,
) -> SegmentationTask:
    """The task of a run: `SegmentationTask`, or a subclass of it that is given.

    Raises:
        UserError: `kind` is none, its network could not be loaded again, or it has a schedule of its own, which cannot
            be extended.
    """
    kind = SegmentationTask if kind is None else kind
    if isinstance(kind, nn.Module) or not callable(kind):
        raise UserError(f"task {describe(kind)} is an object: give the class, a subclass of gffnet.SegmentationTask.")
    if isinstance(kind, type) and not issubclass(kind, SegmentationTask):
        raise UserError(f"task {describe(kind)} is no subclass of gffnet.SegmentationTask: derive it from that.")
    criterion = None if loss is None else MeanLoss(loss)
    task = kind(network, config, recipe.training, precision, recipe.seed, weights, loss=criterion)
    if not isinstance(task, SegmentationTask):
        raise UserError(f"task {describe(kind)} returned {describe(task)}: it must return a gffnet.SegmentationTask.")
    if loss is not None and task.overrides("loss"):
        log.warning("task %s overrides loss: loss= counts only where that calls super().loss", describe(kind))
    if extend is not None and task.overrides("configure_optimizers"):
        raise UserError(
            f"extend {extend}: task {describe(kind)} has its own schedule, whose state is of the iterations before. "
            "Start a new run from this one: training.init_from=RUN and training.init=all."
        )
    if kind is not SegmentationTask:  # it may have changed the network
        check_loadable(task.model, config)
    return task


@contextmanager
def explain_optimizers(task: SegmentationTask) -> Iterator[None]:
    """Raise `UserError` in place of Lightning's error for several optimisers with automatic optimisation."""
    try:
        yield
    except RuntimeError as error:
        if "multiple optimizers" not in str(error):
            raise
        raise UserError(OPTIMIZERS.format(type(task).__name__, "several")) from None


# The recipe and its `auto` values


def read_recipe(
    recipe: Recipe | str | Path, overrides: Sequence[str] = (), overfit: int | None = None, resumed: Path | None = None
) -> tuple[Recipe, list[str]]:
    """A recipe, and the keys that are `auto` and follow from the data. A resumed run keeps the values of its start.

    Args:
        recipe: a name, a YAML file, or a `Recipe`.
        overrides: `section.key=value` changes.
        overfit: number of images to overfit.
        resumed: folder of the run to resume.

    Raises:
        UserError: as `load_recipe`.
    """
    own = resumed is not None and recipe in (str(resumed / RECIPE), resumed / RECIPE)  # has the values already
    if overfit is not None and not own:
        settings = overfit_overrides(overfit)
        batch = (recipe if isinstance(recipe, Recipe) else load_recipe(recipe, [*settings, *overrides])).training.batch
        overrides = [*settings, f"training.batch={min(overfit, batch)}", *overrides]
    found, auto = load_unresolved(recipe, overrides, inputs=not own)
    if auto and resumed and (resumed / RECIPE).is_file():
        stored_recipe(resumed)  # says so if it is damaged
        return resolve_auto(found, auto, load_recipe(resumed / RECIPE)), []
    return found, auto


def resolve_and_show(recipe: Recipe, auto: list[str], size: DataSize) -> Recipe:
    """The recipe with its `auto` values, which are shown, computed from the size of the training data."""
    if auto := [key for key in auto if key in AUTO_KEYS]:
        recipe = resolve_auto(recipe, auto, size)
        values = {key: reduce(getattr, key.split("."), recipe) for key in auto}
        shown = ", ".join(f"{k} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in values.items())
        log.info("auto values for %d images of %dx%d: %s", *size, shown)
    return recipe


def fit_inputs(
    recipe: Recipe, auto: Sequence[str], train_set: Dataset, val_set: Dataset
) -> tuple[Recipe, Dataset, Dataset]:
    """The recipe with what the network must know of its images (`INPUT_KEYS`), as far as it is `auto`, which is shown.

    Channels are those of the training images. Images deeper than 8 bits, or of other than three channels, have no
    statistics of ImageNet to match: white level, mean and standard deviation are measured, or, where the run starts
    from another (`training.init_from`), are that run's.

    Returns:
        The recipe, and the two data sets with images as its network takes them.

    Raises:
        UserError: an image has other channels than the network takes, or it cannot be read.
    """
    before = recipe
    if INPUT_KEYS[0] in auto:
        in_channels = find_channels(train_set)
        for key, given in (("model.mean", recipe.model.mean), ("model.std", recipe.model.std)):
            if key not in auto and len(given) != in_channels:
                raise UserError(
                    f"{key} has {len(given)} values, and image {train_set.files[0][0]} has {in_channels} channels: "
                    f"give one for each, with --set model.backbone.in_channels={in_channels}, or leave it out."
                )
        recipe = with_inputs(recipe, auto, in_channels)
    in_channels, white_level = recipe.model.backbone.in_channels, recipe.model.white_level
    for dataset in (train_set, val_set):
        check_bands(dataset, in_channels)
    deep = is_deep(train_set)
    if not set(INPUT_KEYS[1:]).isdisjoint(auto) and (statistics := input_statistics(recipe, train_set, deep)):
        level = statistics.white_level if deep else white_level
        recipe = with_inputs(recipe, auto, in_channels, statistics.mean, statistics.std, level)
    found = {key: reduce(getattr, key.split("."), recipe) for key in INPUT_KEYS if key in auto}
    found = {key: value for key, value in found.items() if value != reduce(getattr, key.split("."), before)}
    shown = [f"{key} {list(value) if isinstance(value, tuple) else f'{value:g}'}" for key, value in found.items()]
    if shown:
        log.info("set for the training images: %s", ", ".join(shown))
    train_set = train_set.for_model(recipe.model)
    check_channels(recipe, train_set)
    return recipe, train_set, val_set.for_model(recipe.model)


def input_statistics(recipe: Recipe, train_set: Dataset, deep: bool) -> ImageStatistics | None:
    """Mean, standard deviation and white level of the inputs: of the run that is initialised from, else measured.

    None: those of the backbone's weights, which 8-bit RGB images have. Deep RGB has those of a run on deep images.
    """
    in_channels, measured = recipe.model.backbone.in_channels, None
    if deep or in_channels != 3:
        measured = measure(train_set, in_channels, recipe.model.white_level)
    if (init_from := recipe.training.init_from) is None:
        return measured
    trained = load_model(init_from)[1].model
    other_depth = deep and in_channels == 3 and trained.white_level is None
    if trained.backbone.in_channels != in_channels or other_depth:
        return measured
    level = trained.white_level or (measured.white_level if measured else None)
    return ImageStatistics(level, trained.mean, trained.std)


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
    size = data_size(train)  # first, as it names what cannot be read
    for dataset, split, classes in ((train, data.train_split, 2), (val, data.val_split, 1)):
        check_labels(dataset, f"data set {data.name!r} at {root}, split {split!r}", classes)
    if overfit is None:
        check_leak(recipe, train, val)
    return train, val, size


def check_leak(recipe: Recipe, train: Dataset, val: Dataset) -> None:
    """Warn of images that are both trained and validated on."""
    trained = {image for image, _ in train.files}
    shared = [image for image, _ in val.files if image in trained]
    if shared:
        log.warning(
            "%d of the %d images of split %r are in split %r, too, such as %s: the network is trained on them, and its "
            "validation scores say little about new images",
            *(len(shared), len(val.files), recipe.data.val_split, recipe.data.train_split, shared[0]),
        )


SIZES_READ = 100
"""Images whose size is read, at least, where there are more."""


def data_size(dataset: Dataset) -> DataSize:
    """The number of images of a data set and their median height and width.

    In a large data set, evenly spaced images are read; unreadable ones are left out.

    Raises:
        UserError: none of them can be read.
    """
    count = len(dataset)
    found = [dataset.size(i) for i in range(0, count, max(1, count // SIZES_READ))]
    sizes = [size for size in found if size is not None]
    heights, widths = zip(*(sizes or [size_of(dataset[0].labels)]), strict=True)  # raises what is wrong with it
    return DataSize(count, median_low(heights), median_low(widths))


def class_statistics(
    recipe: Recipe, dataset: Dataset, weighted: bool = True
) -> tuple[ClassBalance | None, Tensor | None]:
    """The class-balanced sampling and the class weights of a recipe, for which pixels are counted if necessary.

    `weighted`: false if the loss of the recipe is not used.
    """
    fraction, loss, pixels = recipe.training.class_balance, recipe.training.loss, None
    if not weighted:
        if loss != LossRecipe():
            log.warning("the options of training.loss in the recipe do not apply to a loss that is given in Python")
        loss = LossRecipe()
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


def overfit_overrides(images: int) -> list[str]:
    """Overrides of a recipe for overfitting `images`: few iterations, no augmentation, no dropout.

    Raises:
        UserError: `images` is below 1.
    """
    if images < 1:
        raise UserError(f"--overfit {images}: the number of images must be 1 or more, such as 4.")
    return [
        "training.iterations=300",
        "training.validate_every=100",
        "training.warm_up=0",
        "training.scales=[1.0, 1.0]",
        "training.jitter=0",
        *(f"training.{change.name}=0" for change in fields(ColorJitter)),
        "training.flip=false",
        "training.class_balance=0",
        "model.dropout=0",
    ]


def spread_subset(dataset: Dataset, images: int) -> Dataset:
    """This number of samples, evenly spaced in the data set. Raises `UserError` if there are fewer."""
    if images > len(dataset):
        raise UserError(f"--overfit {images}: the training split has {len(dataset)} images. Take at most that many.")
    return dataset.subset(evenly_spaced(len(dataset), images, endpoint=False))


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


def join_launch(devices: int | None) -> Launch:
    """The processes of this run; only the first of them logs. Raises as `find_launch`."""
    launch = find_launch(devices)
    if launch.rank:
        log.setLevel(logging.ERROR)
    return launch


def find_launch(devices: int | None = None) -> Launch:
    """The processes of this run, from the environment.

    Args:
        devices: on this machine; None: all its GPUs, or one process on the CPU.

    Raises:
        UserError: it is no number above 0, torchrun or SLURM started another number, or there are fewer GPUs.
    """
    devices = None if devices is None else device_count(devices)
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
        option = "--nproc-per-node" if launch.by == "torchrun" else "--ntasks-per-node"
        raise UserError(
            f"--devices {devices}: {launch.by} started {launch.devices} on this node. Leave --devices out. "
            f"{launch.by} starts another number with {option} {devices}."
        )
    if available is not None and launch.devices > available:
        gpus = f"{available} GPU{'s' * (available != 1)}"
        raise UserError(f"--devices {launch.devices}: this machine has {gpus}. Take at most that many.")
    return launch


def is_launched() -> bool:
    """Whether torchrun or SLURM started this process, and decided on the number of processes."""
    return bool(TorchElasticEnvironment.detect() or SLURMEnvironment.detect())


def prepare_process(launch: Launch, recipe: Recipe) -> None:
    """Silence Lightning's tips; on a CPU, keep freed memory, and divide the cores between computing and loading.

    Raises:
        UserError: float16 on a CPU.
    """
    if recipe.precision == "float16" and launch.device.type != "cuda":
        raise UserError("precision 'float16' trains on NVIDIA GPUs only. Here, set precision to bfloat16 or float32.")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 convolutions, where they mean the same
    if launch.device.type == "cpu":
        keep_pages()
        if launch.devices > (cores := available_cores()):
            log.warning("%d processes share %d cores, where fewer --devices are faster", launch.devices, cores)
        limit_threads(divide_cores(recipe.training.workers, launch.devices)[1])


@contextmanager
def threads_of_processes(launch: Launch) -> Iterator[None]:
    """Let the processes that this one starts on a CPU compute with as many threads; Lightning sets one."""
    if launch.device.type != "cpu" or launch.devices == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS", None)


# The network and Lightning's trainer


def training_precision(
    recipe: Recipe, device: torch.device, network: SegmentationModel, resumed: Path | None = None
) -> Precision:
    """The precision to train `network` in; `auto` is what it was before in a run that is `resumed` in this folder."""
    recorded = None if resumed is None else precision_of_run(resumed, device)
    wanted = resumed_precision(recipe.precision, recorded)
    precision = pick_precision(wanted, device, network, training=True)
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


class TrainingAutocast(MixedPrecision):
    """Autocast of training steps only: validation has a predictor of its own precision."""

    def val_step_context(self) -> Any:
        return nullcontext()


def make_loggers(out: Path, config: ModelConfig, recipe: Recipe, wandb: str | None) -> list[Logger]:
    """TensorBoard, and Weights & Biases if a project is named."""
    loggers: list[Logger] = [TensorBoard(out, config.classes)]
    if wandb is not None:
        loggers.append(WeightsAndBiases(out, config.classes, wandb, recipe.to_mapping(), config.recipe))
    return loggers


def make_callbacks(
    out: Path, recipe: Recipe, history: History, batches: SegmentationDataModule, progress: bool, extend: int | None
) -> list[Callback]:
    """The callbacks of a run."""
    training = recipe.training
    last = LastCheckpoint(out / LAST, training.checkpoint_every, training.validate_every, training.keep_every)
    # The order matters: what a checkpoint contains must be up to date when it is written, and `DataWait` comes last.
    return [
        RecipeFile(out, recipe, extend),
        CheckLoss(),
        history,
        *([ProgressBar(history)] if progress else []),
        BestModel(out / "best", history),
        last,
        StopOnSignal(last),
        DataWait(batches.workers, batches.max_workers),
    ]


def make_trainer(
    training: TrainingRecipe,
    launch: Launch,
    dtype: torch.dtype,
    callbacks: Sequence[Callback],
    out: Path,
    task: SegmentationTask | None = None,
) -> Trainer:
    """Lightning's trainer with our own callbacks and checkpoints, one process per device.

    A task may leave backward pass and step to Lightning, which then autocasts its training step, and may not use the
    auxiliary head. None: that of the package.
    """
    plugins: list[Any] = [AtomicCheckpointIO()]
    precision: Any = "16-mixed" if dtype == torch.float16 else "32-true"
    if task is not None and task.automatic_optimization and dtype == torch.bfloat16:
        plugins.append(TrainingAutocast("bf16-mixed", launch.device.type))
        precision = None
    if launch.by == "SLURM":  # its requeueing writes checkpoints of its own
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # `SegmentationTask` broadcasts running statistics before validation. Broadcasting them in every forward pass would
    # hang where ranks validate different numbers of images.
    # A step of one's own may not use the auxiliary head.
    own_step = task is not None and any(map(task.overrides, ("training_step", "losses")))
    ddp = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=own_step)
    return Trainer(
        accelerator="cpu" if launch.device.type == "cpu" else "auto",
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ddp if launch.world_size > 1 else "auto",
        # The task autocasts by itself; Lightning only scales the gradients of float16.
        precision=precision,
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
