"""Measure a recipe in a few iterations before a long run: time, memory, the largest `device_batch`, disk.

The iterations are those of `train` from random weights, with batches of the data set if its folder is given, else with
random images of the crop's size. Nothing stays on the disk.
"""

import gc
import math
import tempfile
import time
from collections.abc import Callable
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
from gffnet.inference.model_io import ModelConfig, save_model
from gffnet.inference.tiling import peak_memory
from gffnet.models.gffnet import build_network
from gffnet.recipe import Recipe, resolve_auto
from gffnet.recipe.loading import STANDARD_SIZE
from gffnet.training.data import SegmentationDataModule
from gffnet.training.run_folder import hardware, is_out_of_memory, out_of_memory_advice
from gffnet.training.task import SegmentationTask
from gffnet.training.train import Launch, find_launch, make_trainer, open_data, prepare_process, training_precision

ITERATIONS, SECONDS = 10, 20.0
"""At most this many iterations are measured, and after the second no further one after this time."""
SEARCH_SECONDS = 60.0
"""After this time, no larger batch is tried on a CPU."""


@dataclass(frozen=True)
class Memory:
    """Memory of one device, in bytes."""

    images: int
    """At a time, in the measured iterations."""
    peak: int | None
    """Of the process, or of the GPU; None if the system does not report it."""
    free: int | None
    """Before; None if the system does not report it."""
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

    @property
    def most(self) -> int:
        """All that exists at once: while a checkpoint is written, the previous one is kept."""
        return (self.checkpoints + 1) * self.checkpoint + 2 * self.model


@dataclass(frozen=True)
class DryRun:
    """What a run takes, as measured on one device."""

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
    """Of every part of the network, and of the auxiliary head, which exists in training only."""
    data: str
    """`real` or `random` images were loaded."""
    times: tuple[float, ...]
    """Seconds of the measured iterations, with the loading of their batches."""
    memory: Memory
    disk: Disk

    @property
    def images_per_second(self) -> float:
        """Of one device."""
        return self.memory.images / median(self.times)

    @property
    def seconds_per_iteration(self) -> float:
        """With the whole batch; communication between devices comes on top."""
        return self.batch / self.devices / self.images_per_second

    @property
    def seconds(self) -> float:
        """Of all iterations; validation comes on top."""
        return self.iterations * self.seconds_per_iteration

    def to_mapping(self) -> dict[str, Any]:
        """Nested plain values for JSON, in bytes and seconds."""
        values = asdict(self)
        network = sum(count for part, count in self.parameters.items() if part != "auxiliary")
        return {
            **{key: values[key] for key in ("iterations", "batch", "crop", "classes", "precision", "here", "devices")},
            "parameters": {"network": network, **self.parameters},
            "memory": values["memory"],
            "images_per_second": self.images_per_second,
            "seconds_per_iteration": self.seconds_per_iteration,
            "measured": {"data": self.data, "iterations": len(self.times), "images": self.memory.images},
            "time": [{"devices": self.devices, "seconds": self.seconds}],
            "disk": {**values["disk"], "most": self.disk.most},
        }


def dry_run(
    recipe: Recipe,
    auto: list[str] | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    devices: int | None = None,
) -> DryRun:
    """Train a recipe for a few iterations on one device, and measure.

    Args:
        recipe: of the run.
        auto: its keys that follow from the data, as `read_recipe` returns them.
        root: folder of the data set; None: random images.
        cache: folder of the data set's cache.
        devices: that share the batch; None: all GPUs, or one process on the CPU.

    Raises:
        UserError: the batch cannot be divided among the devices, and as `train`.
        RunFailed: not even one image fits into the memory.
    """
    launch = find_launch(devices)
    share = launch.split(recipe.training.batch)
    dataset: Any
    if root is None:
        recipe, num_classes = resolve_auto(recipe, auto or [], STANDARD_SIZE), class_count(recipe.data.name)
        dataset = RandomImages(recipe.model.backbone.in_channels, recipe.training.crop, num_classes)
    else:
        data = open_data(recipe, root, cache)
        recipe, dataset = resolve_auto(recipe, auto or [], data.size), data.train
        num_classes = len(dataset.classes.names)
    prepare_process(launch.device)
    run = _ShortRun(recipe, dataset, num_classes, launch.device)
    free = free_memory(launch.device)
    if free is not None and launch.device.type == "cpu":
        free //= launch.devices  # which share it
    with progress("trying how many images fit") as step:
        largest, tried_all = largest_batch(run.fits, share, launch.device, free, step)
    images = min(recipe.training.device_batch or share, largest)
    reset_peak(launch.device)
    with progress("measuring the speed") as step:
        times = run(images, 1 + ITERATIONS, SECONDS, step)[1:]
    peak = peak_memory(launch.device) or None
    assert run.task is not None
    parts = {**dict(run.task.network.named_children()), "auxiliary": run.task.auxiliary}
    training = recipe.training
    return DryRun(
        training.iterations,
        training.batch,
        training.crop,
        num_classes,
        run.precision.name,
        _name(launch.device),
        launch.world_size,
        {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "random" if root is None else "real",
        tuple(times),
        Memory(images, peak, free, largest, tried_all),
        run.disk(),
    )


class RandomImages:
    """A few samples of noise."""

    def __init__(self, channels: int, size: tuple[int, int], num_classes: int) -> None:
        self.shape = channels, *size
        self.num_classes = num_classes

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Sample:
        image = torch.randint(256, self.shape, dtype=torch.uint8)
        return Sample(image, torch.randint(self.num_classes, self.shape[1:], dtype=torch.uint8), f"random {index}")


class _ShortRun:
    """Train a recipe for a few iterations, each time from scratch."""

    def __init__(self, recipe: Recipe, dataset: Any, num_classes: int, device: torch.device) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.num_classes = num_classes
        self.device = device
        self.precision = training_precision(recipe, device)
        self.task: SegmentationTask | None = None
        self.trainer: Trainer | None = None

    def __call__(
        self, images: int, iterations: int, seconds: float, step: Callable[[int, int], None] = lambda *_: None
    ) -> list[float]:
        """Train with batches of `images`; returns the seconds of every iteration."""
        self.task = self.trainer = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        loss = self.recipe.training.loss
        weighted = loss.class_weights is not None or loss.class_weighting != "none"
        training = replace(
            self.recipe.training,
            iterations=iterations,
            batch=images,
            device_batch=None,
            validate_every=10**9,
            workers=self.recipe.training.workers if iterations > 2 else 0,
        )
        recipe = replace(self.recipe, training=training)
        names = tuple(f"class {i}" for i in range(self.num_classes))
        palette = ((0, 0, 0),) * self.num_classes
        config = ModelConfig(recipe.model, names, palette, recipe.data.name, "dry run", recipe.evaluation)
        self.task = SegmentationTask(
            build_network(recipe.model.without_weights(), self.num_classes),
            config,
            training,
            self.precision,
            recipe.seed,
            torch.ones(self.num_classes) if weighted else None,
        )
        timer = _Timer(seconds, step)
        folder = Path(tempfile.gettempdir())  # where nothing is written
        self.trainer = make_trainer(training, Launch(self.device), self.precision.dtype, [timer], folder)
        self.trainer.fit(self.task, SegmentationDataModule(recipe, self.dataset, self.dataset, device=self.device))
        return timer.seconds

    def fits(self, images: int) -> bool:
        """Whether two iterations with so many images at a time fit; the second has the optimiser's state."""
        try:
            self(images, 2, math.inf)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if images == 1:
                raise RunFailed(out_of_memory_advice(self.recipe, 1)) from None
            return False
        return True

    def disk(self) -> Disk:
        """Sizes of a checkpoint and a model, which are written and removed."""
        assert self.task is not None
        assert self.trainer is not None
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, model = Path(folder) / "last.ckpt", Path(folder) / "model"
            self.trainer.save_checkpoint(checkpoint)
            save_model(model, self.task.model, self.task.config)
            sizes = checkpoint.stat().st_size, sum(file.stat().st_size for file in model.iterdir())
        training = self.recipe.training
        kept = training.iterations // training.keep_every if training.keep_every else 0
        return Disk(sizes[0], 1 + kept, sizes[1])


class _Timer(Callback):
    """Seconds from the end of one iteration to that of the next; stops training when it has taken long enough."""

    def __init__(self, limit: float, step: Callable[[int, int], None]) -> None:
        self.limit = limit
        self.step = step
        self.seconds: list[float] = []
        self._previous = 0.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        self._previous = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        if task.device.type == "cuda":
            torch.cuda.synchronize(task.device)
        now = time.perf_counter()
        self.seconds.append(now - self._previous)
        self._previous = now
        self.step(len(self.seconds), trainer.max_steps)
        if len(self.seconds) > 2 and sum(self.seconds[1:]) > self.limit:
            trainer.should_stop = True


def largest_batch(
    fits: Callable[[int], bool],
    share: int,
    device: torch.device,
    free: int | None,
    step: Callable[[int, int], None] = lambda *_: None,
) -> tuple[int, bool]:
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
        step(images, share)
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


CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with the memory limit of a container and its use."""


def free_memory(device: torch.device) -> int | None:
    """Bytes available to a run: free memory of a GPU, or of the machine or container; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    for limit, used in CGROUPS:
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return min(found, default=None)


def _name(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = hardware()
    return f"{found['cpu']}, {found['cores']} cores"
