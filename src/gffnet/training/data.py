"""Batches for training, single images for validation: of every process its own share."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from gffnet.data.dataset import IGNORE, Sample
from gffnet.data.loader import ClassBalance, TrainingStream, collate
from gffnet.data.transforms import Augmentation
from gffnet.recipe import Recipe
from gffnet.training.launch import Launch


class Shares(Sampler[list[int]]):
    """The items of a stream that one process takes in iteration `first`, `first + 1`, ...

    Iteration i is items `i batch, ..., (i + 1) batch - 1` however many processes share them: process r takes the r-th
    part of them. The length is that of the whole stream: Lightning counts on from the iteration of the checkpoint, and
    ends an epoch where that count meets the length.
    """

    def __init__(self, first: int, iterations: int, batch: int, rank: int = 0, processes: int = 1) -> None:
        """`batch` must be a multiple of `processes`."""
        self.first = first
        self.iterations = iterations
        self.batch = batch
        self.share = batch // processes
        self.offset = rank * self.share

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self.iterations):
            start = iteration * self.batch + self.offset
            yield list(range(start, start + self.share))

    def __len__(self) -> int:
        return self.iterations


class Part(Dataset[Sample]):
    """The samples of a data set that one of several processes validates on: each is in one part.

    Without padding: Lightning's own sampler would count some twice to make the parts equal. A part that would be empty,
    which Lightning does not take, has one sample of which nothing counts.
    """

    def __init__(self, dataset: Any, rank: int, processes: int) -> None:
        self.dataset = dataset
        self.indices = range(rank, len(dataset), processes)

    def __len__(self) -> int:
        return max(1, len(self.indices))

    def __getitem__(self, index: int) -> Sample:
        if self.indices:
            own: Sample = self.dataset[self.indices[index]]
            return own
        image, labels, name = self.dataset[0]
        return Sample(image, torch.full_like(labels, IGNORE), name)


class SegmentationDataModule(LightningDataModule):
    """The training stream from an iteration on, and the validation split, each image once over all processes."""

    def __init__(
        self,
        recipe: Recipe,
        train: Any,
        val: Any,
        first_iteration: int,
        launch: Launch,
        balance: ClassBalance | None = None,
    ) -> None:
        """`train`, `val`: data sets; `first_iteration`: where a resumed run goes on."""
        super().__init__()
        training = recipe.training
        augmentation = Augmentation(training.crop, training.scales, training.jitter, training.flip, recipe.model.mean)
        length = training.iterations * training.batch
        self.stream = TrainingStream(train, augmentation, recipe.seed, length, balance=balance)
        self.shares = Shares(first_iteration, training.iterations, training.batch, launch.rank, launch.processes)
        self.val = val if launch.processes == 1 else Part(val, launch.rank, launch.processes)
        on_cpu = launch.device.type == "cpu"
        # Training on the CPU wants the cores itself: one loading process for every two of them is enough.
        cores = max(1, (os.cpu_count() or 1) // launch.devices)
        self.most_workers = max(1, cores // 2) if on_cpu else cores
        self.workers = min(training.workers, self.most_workers)
        self.pin = not on_cpu

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of crops, in the order of the stream."""
        return DataLoader(
            self.stream,
            batch_sampler=self.shares,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin,
            worker_init_fn=leave_stopping_to_the_run,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """One whole image at a time; on a GPU, other processes read ahead."""
        workers = self.workers if self.pin else 0
        return DataLoader(self.val, batch_size=None, num_workers=workers, worker_init_fn=leave_stopping_to_the_run)


def leave_stopping_to_the_run(worker: int) -> None:
    """Have a process that loads data outlive a request to stop, which Ctrl-C and schedulers send to all processes.

    The run ends it: it finishes its iteration first, for which it may need more data.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
