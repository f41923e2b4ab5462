"""Batches for training, single images for validation."""

import os
from collections.abc import Iterator
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from gffnet.console import progress
from gffnet.data.balance import ClassBalance, class_pixels
from gffnet.data.stream import TrainingStream, collate
from gffnet.data.transforms import Augmentation
from gffnet.recipe import Recipe


class Remaining(Sampler[int]):
    """Items `first`, `first + 1`, ... of a stream; its length is that of the whole stream.

    Lightning counts on from the iteration of the checkpoint, and ends an epoch where that count meets the length.
    """

    def __init__(self, first: int, length: int) -> None:
        self.first = first
        self.length = length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.length))

    def __len__(self) -> int:
        return self.length


class ParsingData(LightningDataModule):
    """The training stream from an iteration on, and the validation split in order."""

    def __init__(self, recipe: Recipe, train: Any, val: Any, first_iteration: int, on_cpu: bool) -> None:
        """`train`, `val`: data sets; `first_iteration`: where a resumed run goes on; `on_cpu`: where training runs."""
        super().__init__()
        training = recipe.training
        self.batch = training.batch
        self.val = val
        augmentation = Augmentation(training.crop, training.scales, training.jitter, training.flip, recipe.model.mean)
        balance = None
        if training.class_balance > 0:
            with progress("counting classes") as step:
                balance = ClassBalance(class_pixels(train, progress=step), training.class_balance)
        length = training.iterations * training.batch
        self.stream = TrainingStream(train, augmentation, recipe.seed, length, balance=balance)
        self.first = first_iteration * training.batch
        # Training on the CPU wants the cores itself: one loading process for every two of them is enough.
        cores = os.cpu_count() or 1
        self.workers = min(training.workers, max(1, cores // 2) if on_cpu else cores)
        self.pin = not on_cpu

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of crops, in the order of the stream."""
        return DataLoader(
            self.stream,
            self.batch,
            sampler=Remaining(self.first, len(self.stream)),
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """One whole image at a time."""
        return DataLoader(self.val, batch_size=None, num_workers=0)
