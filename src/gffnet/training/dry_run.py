"""Measure a recipe in a few iterations before a long run: time, memory, the largest `device_batch`, disk.

The iterations are those of `train` from random weights, with batches of the data set if its folder is given, else with
random images of the crop's size. Nothing stays on the disk.
"""

import gc
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback, Trainer

from gffnet.console import progress
from gffnet.data.dataset import Sample
from gffnet.data.datasets import class_count
from gffnet.errors import RunFailed
from gffnet.inference.precision import Precision
from gffnet.inference.tiling import peak_memory
from gffnet.models.gffnet import build_network, save_model
from gffnet.models.model_io import ModelConfig
from gffnet.parallel import control_groups
from gffnet.recipe import Recipe, resolve_auto
from gffnet.recipe.loading import STANDARD_SIZE
from gffnet.training.data import SegmentationDataModule
from gffnet.training.run_folder import hardware, is_out_of_memory, out_of_memory_advice
from gffnet.training.task import SegmentationTask
from gffnet.training.train import (
    Launch,
    find_launch,
    fit_inputs,
    make_trainer,
    open_data,
    prepare_process,
    training_precision,
)

ITERATIONS, SECONDS = 10, 20.0
"""At most this many iterations are measured, and after the second no further one after this time."""
SEARCH_SECONDS = 60.0
"""After this time, no larger batch is tried on a CPU."""


@dataclass(frozen=True)
class Memory:
    """Memory of one device, in bytes; None if the system does not report it."""

    images: int
    """At a time, in the measured iterations."""
    peak: int | None
    """Of the process, or of the GPU."""
    free: int | None
    """Before."""
    largest_device_batch: int
    """The most images at a time that fit, of the numbers that were tried."""
    tried_all: bool
    """False: more might fit."""


@dataclass(frozen=True)
class Disk:
    """What a run writes, in bytes."""

    checkpoint: int
    checkpoints: int
    """The number of them that stay."""
    model: int
    """A model folder; a run writes two, `model` and `best`."""
    most: int
    """All that exists at once: while a checkpoint is written, the previous one is there."""


@dataclass(frozen=True)
class DryRun:
    """What a run takes, as measured on one device; in bytes and seconds."""

    iterations: int
    batch: int
    crop: tuple[int, int]
    classes: int
    precision: str
    here: str
    """The device, in words."""
    devices: int
    """That share the batch."""
    parameters: dict[str, int]
    """Of the `network`, of each of its parts, and of the `auxiliary` head, which exists in training only."""
    memory: Memory
    images_per_second: float
    """Of one device."""
    seconds_per_iteration: float
    """With the whole batch; communication between devices comes on top."""
    measured: dict[str, Any]
    """`real` or `random` data, and the number of iterations and of images at a time."""
    time: list[dict[str, float]]
    """`seconds` of all iterations on so many `devices`; validation comes on top."""
    disk: Disk

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def dry_run(
    recipe: Recipe,
    auto: list[str] | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    devices: int | None = None,
    quick: bool = False,
) -> DryRun:
    """Train a recipe for a few iterations on one device, and measure.

    Args:
        recipe: of the run.
        auto: its keys that follow from the data, as `read_recipe` returns them.
        root: folder of the data set; None: random images.
        cache: folder of the data set's cache.
        devices: that share the batch; None: all GPUs, or one process on the CPU.
        quick: measure two iterations, as the recipe has them, and do not look for the largest batch that fits.

    Raises:
        UserError: the batch cannot be divided among the devices, and as `train`.
        RunFailed: not even one image fits into the memory.
    """
    launch = find_launch(devices)
    device, share = launch.device, launch.split(recipe.training.batch)
    dataset: Any
    if root is None:
        recipe, num_classes = resolve_auto(recipe, auto or [], STANDARD_SIZE), class_count(recipe.data.name)
        shape = 4, recipe.model.backbone.in_channels, *recipe.training.crop
        images, labels = torch.randint(256, shape).byte(), torch.randint(num_classes, (4, *recipe.training.crop)).byte()
        dataset = list(map(Sample, images, labels, "abcd"))
    else:
        dataset, val_set, size = open_data(recipe, root, cache)
        recipe, dataset, _ = fit_inputs(recipe, auto or [], dataset, val_set)
        recipe = resolve_auto(recipe, auto or [], size)
        num_classes = len(dataset.classes.names)
    prepare_process(launch, recipe)
    training = recipe.training
    precision = training_precision(recipe, device, build_network(recipe.model.without_weights(), num_classes))

    def run(images: int, timer: _Timer) -> Trainer:
        return _short_run(recipe, dataset, num_classes, device, precision, images, timer)

    def fits(images: int) -> bool:
        """Whether two iterations with so many images fit; the second has the optimiser's state."""
        try:
            run(images, _Timer(2))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if images == 1:
                raise RunFailed(out_of_memory_advice(recipe, 1)) from None
            return False
        return True

    found = hardware()
    here = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{found['cpu']}, {found['cores']} cores"
    free = free_memory(device)
    if free is not None and device.type == "cpu":
        free //= launch.devices  # which share it
    with progress("measuring time and memory"):
        own = min(training.device_batch or share, share)
        largest, tried_all = (own, False) if quick else largest_batch(fits, share, device, free)
        at_once, timer = min(own, largest), _Timer(3 if quick else 1 + ITERATIONS, SECONDS)
        reset_peak(device)
        try:
            trainer = run(at_once, timer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunFailed(out_of_memory_advice(recipe, at_once)) from None
    speed = at_once / median(timer.seconds[1:])
    seconds = training.batch / launch.world_size / speed
    task: Any = trainer.lightning_module
    parts = {"network": task.network, **dict(task.network.named_children()), "auxiliary": task.auxiliary}
    return DryRun(
        training.iterations,
        training.batch,
        training.crop,
        num_classes,
        precision.name,
        here,
        launch.world_size,
        {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        Memory(at_once, peak_memory(device) or None, free, largest, tried_all),
        speed,
        seconds,
        {"data": "random" if root is None else "real", "iterations": len(timer.seconds) - 1, "images": at_once},
        [{"devices": launch.world_size, "seconds": training.iterations * seconds}],
        disk_space(trainer, training.iterations // training.keep_every if training.keep_every else 0),
    )


class _Timer(Callback):
    """Seconds from the end of one iteration to that of the next; stops training when it has taken long enough."""

    def __init__(self, iterations: int, limit: float = math.inf) -> None:
        self.iterations = iterations
        self.limit = limit
        self.seconds: list[float] = []

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        self.previous = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        if task.device.type == "cuda":
            torch.cuda.synchronize(task.device)
        now = time.perf_counter()
        self.seconds.append(now - self.previous)
        self.previous = now
        if len(self.seconds) > 2 and sum(self.seconds[1:]) > self.limit:
            trainer.should_stop = True


def _short_run(
    recipe: Recipe,
    dataset: Any,
    num_classes: int,
    device: torch.device,
    precision: Precision,
    images: int,
    timer: _Timer,
) -> Trainer:
    """Train from scratch with batches of `images`, as long as the timer allows."""
    gc.collect()  # the previous run
    if device.type == "cuda":
        torch.cuda.empty_cache()
    training = replace(
        recipe.training,
        iterations=timer.iterations,
        warm_up=0,
        batch=images,
        device_batch=None,
        validate_every=10**9,
        workers=recipe.training.workers if timer.iterations > 2 else 0,
    )
    weighted = training.loss.class_weights is not None or training.loss.class_weighting != "none"
    names, palette = tuple(map(str, range(num_classes))), ((0, 0, 0),) * num_classes
    task = SegmentationTask(
        build_network(recipe.model.without_weights(), num_classes),
        ModelConfig(recipe.model, names, palette, recipe.data.name, "dry run", recipe.evaluation),
        training,
        precision,
        recipe.seed,
        torch.ones(num_classes) if weighted else None,
    )
    folder = Path(tempfile.gettempdir())  # where nothing is written
    trainer = make_trainer(training, Launch(device), precision.dtype, [timer], folder)
    trainer.fit(task, SegmentationDataModule(replace(recipe, training=training), dataset, dataset, device=device))
    return trainer


def disk_space(trainer: Trainer, kept: int) -> Disk:
    """Sizes of a checkpoint and a model, which are removed; `kept`: checkpoints that stay beside the last."""
    task: Any = trainer.lightning_module
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, model = Path(folder) / "last.ckpt", Path(folder) / "model"
        trainer.save_checkpoint(checkpoint)
        save_model(model, task.model, task.config)
        one, network = checkpoint.stat().st_size, sum(file.stat().st_size for file in model.iterdir())
    return Disk(one, 1 + kept, network, (2 + kept) * one + 2 * network)


def largest_batch(fits: Callable[[int], bool], share: int, device: torch.device, free: int | None) -> tuple[int, bool]:
    """The most images at a time that fit, up to `share`, and whether all larger numbers were ruled out.

    A GPU raises when its memory is full: the numbers are halved until one fits. On a CPU the system might end the
    process instead: they are doubled as long as twice the growth of the peak that was measured fits into `free` bytes.
    """
    if device.type == "cuda":
        images = share
        while not fits(images):
            images //= 2
        return images, True
    start = time.perf_counter()
    reset_peak(device)
    before = peak_memory(device)
    images = 1
    fits(images)
    while images < share:
        if free is not None and 2 * (peak_memory(device) - before) > free:
            return images, True
        if time.perf_counter() - start > SEARCH_SECONDS:
            return images, False
        larger = min(2 * images, share)
        if not fits(larger):
            break
        images = larger
    return images, True


def reset_peak(device: torch.device) -> None:
    """Reset the peak that `peak_memory` reports, on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def free_memory(device: torch.device) -> int | None:
    """Bytes available to a run: free memory of a GPU, or of the machine or container; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with suppress(OSError):
        found += [1024 * int(kb) for kb in re.findall(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())]
    for folder in control_groups("memory"):
        found += _free_in_group(folder)
    return min(found, default=None)


def _free_in_group(folder: Path) -> Iterator[int]:
    """Yield the bytes that a control group may still use, if it has a limit: with the file cache that it can drop."""
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # no limit
            free = int((folder / limit).read_text()) - int((folder / used).read_text())
            with suppress(OSError):
                stat = (folder / "memory.stat").read_text()
                free += sum(map(int, re.findall(rf"^{dropped} (\d+)$", stat, re.M)))
            yield max(0, free)
