"""The data of a run: training batches from an iteration on, and single validation images, divided among the ranks."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Mapping
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler, Subset

from gffnet.data.custom_transform import CustomTransform
from gffnet.data.dataset import IGNORE, Sample
from gffnet.data.loader import ClassBalance, TrainingStream, Views, collate, fixed_samples
from gffnet.data.map_style import describe
from gffnet.data.transforms import Augmentation, ColorJitter
from gffnet.errors import UserError, one_line
from gffnet.parallel import available_cores
from gffnet.recipe import Recipe


class IterationSampler(Sampler[list[int]]):
    """The items of a stream that one rank loads in iterations `first`, ..., `iterations - 1`.

    Iteration i consists of the items `i batch, ..., (i + 1) batch - 1` whatever the world size: rank r takes the r-th
    part of them. The length is that of the whole stream: Lightning continues counting from the iteration of the
    checkpoint, and ends the epoch where that count meets the length.
    """

    def __init__(self, first: int, iterations: int, batch: int, rank: int = 0, world_size: int = 1) -> None:
        """Initialise; `batch` must be a multiple of `world_size`."""
        self.first = first
        self.iterations = iterations
        self.batch = batch
        self.rank_batch = batch // world_size
        self.offset = rank * self.rank_batch

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self.iterations):
            start = iteration * self.batch + self.offset
            yield list(range(start, start + self.rank_batch))

    def __len__(self) -> int:
        return self.iterations


def rank_subset(dataset: Any, rank: int, world_size: int) -> Any:
    """The samples that one rank validates on; every sample belongs to exactly one rank.

    Lightning's distributed sampler pads the ranks to equal length and would count some samples twice. A rank without a
    sample, which Lightning does not allow, gets one of which all labels are ignored.
    """
    indices = range(rank, len(dataset), world_size)
    if indices:
        return Subset(dataset, indices)
    image, labels, name = dataset[0]
    return [Sample(image, torch.full_like(labels, IGNORE), name)]


def check_pickling(workers: int, given: Mapping[str, Any]) -> None:
    """Check that what is given in Python can be sent to loading processes, where these are no copies of this one.

    Args:
        workers: loading processes.
        given: what they need, by the argument of `train`.

    Raises:
        UserError: it cannot be pickled.
    """
    if not workers or multiprocessing.get_start_method() == "fork":
        return
    for argument, value in given.items():
        try:
            with Path(os.devnull).open("wb") as nowhere:
                ForkingPickler(nowhere, pickle.HIGHEST_PROTOCOL).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"{argument} ({describe(getattr(value, 'source', value))}) cannot be pickled, as it must be for "
                f"processes that load data: {one_line(error)[:200]}. Define functions and classes at the "
                "top of a module, without lambda; or load in the process that trains, with training.workers=0."
            ) from None


def divide_cores(workers: int, processes: int = 1) -> tuple[int, int]:
    """Loading processes and threads of each of so many processes that train on this machine's CPU.

    Together they are no more than its cores. At most one core of four loads, and of fewer than four none: the training
    process then loads a batch before each iteration, which is faster on two cores (docs/speed.md). OMP_NUM_THREADS
    stays as it is, with a loading process for three threads: other trainings may have the rest of the cores.

    Args:
        workers: loading processes that are wanted.
        processes: that train.
    """
    share, threads = max(1, available_cores() // processes), torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return max(0, min(workers, max(1, threads // 3), share - threads)), threads
    threads = min(threads, share - min(workers, share // 4))
    return min(workers, share - threads), threads


def _color_jitter(recipe: Recipe) -> ColorJitter | None:
    """The random changes of color of a recipe.

    Raises:
        UserError: its images are not grey or RGB.
    """
    given = {field.name: getattr(recipe.training, field.name) for field in fields(ColorJitter)}
    if not any(given.values()):
        return None
    if (channels := recipe.model.backbone.in_channels) not in {1, 3}:
        key = next(key for key, value in given.items() if value)
        raise UserError(
            f"training.{key} {given[key]:g} is for images of one or three channels, and these have {channels}: set it "
            "to 0, or give a transform in Python, see docs/training.md."
        )
    return ColorJitter(**given)


class SegmentationDataModule(LightningDataModule):
    """Training batches of a recipe from an iteration on, and its validation images, for one rank."""

    def __init__(
        self,
        recipe: Recipe,
        train: Any,
        val: Any,
        first_iteration: int = 0,
        *,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        rank: int = 0,
        world_size: int = 1,
        processes_per_node: int = 1,
        balance: ClassBalance | None = None,
        transform: Any = None,
    ) -> None:
        """Initialise.

        Args:
            recipe: of the run.
            train: the training data set.
            val: the validation data set.
            first_iteration: of a resumed run.
            device: that the batches go to; decides how many processes load them.
            rank: of this process.
            world_size: number of training processes.
            processes_per_node: training processes that share the cores of a machine.
            balance: of class-balanced sampling.
            transform: in place of random scale, flip and color jitter (see `CustomTransform`).

        Raises:
            UserError: data or transform cannot be sent to loading processes.
        """
        super().__init__()
        training, mean = recipe.training, recipe.model.mean
        augmentation: Views
        if transform is not None:
            augmentation = CustomTransform(transform, training.crop, mean, len(train.classes.names))
        else:
            colors = _color_jitter(recipe)
            augmentation = Augmentation(training.crop, training.scales, training.jitter, training.flip, mean, colors)
        length = training.iterations * training.batch
        self.stream = TrainingStream(train, augmentation, recipe.seed, length, balance=balance)
        self.sampler = IterationSampler(first_iteration, training.iterations, training.batch, rank, world_size)
        self.val = rank_subset(fixed_samples(val), rank, world_size)
        on_cpu = device.type == "cpu"
        cores = max(1, available_cores() // processes_per_node)
        self.max_workers = divide_cores(cores, processes_per_node)[0] if on_cpu else cores
        self.workers = min(training.workers, self.max_workers)
        self.pin_memory = not on_cpu
        own = {"train_data": train, "transform": transform} | ({} if on_cpu else {"val_data": val})
        check_pickling(self.workers, own)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of crops, in the order of the stream."""
        return DataLoader(
            self.stream,
            batch_sampler=self.sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory,
            worker_init_fn=ignore_stop_signals,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Whole images, one at a time; on a GPU, other processes prefetch them."""
        workers = self.workers if self.pin_memory else 0
        return DataLoader(self.val, batch_size=None, num_workers=workers, worker_init_fn=ignore_stop_signals)


def ignore_stop_signals(worker: int) -> None:
    """Make a loading process ignore Ctrl-C and SIGTERM, which terminals and schedulers send to all processes.

    The run finishes its iteration first, for which it may need more data, and then ends its loading processes.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
