"""The stream of training samples, reproducible item by item; class-balanced sampling; samples for scoring."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Integer, Num, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gffnet.data.dataset import Dataset, Sample
from gffnet.data.transforms import seeded
from gffnet.parallel import in_processes

# Class-balanced sampling: a fraction of the crops shows a class that is drawn uniformly, however rare it is. First the
# class is drawn among those that occur, then a sample among those that hold it, then one of the sample's pixels of that
# class, which the crop must show. The paper does without.


class Pick(NamedTuple):
    """What a crop must show."""

    sample: int
    """Its index."""
    label: int
    """Train id of the class."""


class ClassBalance:
    """Draws samples by their classes.

    Args:
        pixels: of every class in every sample.
        share: fraction of the crops that are drawn by class, in [0, 1].
    """

    def __init__(self, pixels: Integer[np.ndarray, "samples classes"], share: float) -> None:
        self.share = share
        self._samples = {int(label): np.flatnonzero(pixels[:, label]) for label in np.flatnonzero(pixels.any(0))}

    def pick(self, rng: np.random.Generator) -> Pick | None:
        """A sample and the class that a crop of it must show; None for crops that are not drawn by class."""
        if not self._samples or rng.random() >= self.share:
            return None
        label = list(self._samples)[rng.integers(len(self._samples))]
        samples = self._samples[label]
        return Pick(int(samples[rng.integers(len(samples))]), label)


def pixel_of(labels: UInt8[np.ndarray, "h w"], label: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Draw row and column of a pixel of a class, uniformly; None if there is none."""
    found = np.flatnonzero(labels == label)
    if not len(found):
        return None
    row, column = divmod(int(found[rng.integers(len(found))]), labels.shape[1])
    return row, column


def class_pixels(
    dataset: Dataset, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Int[np.ndarray, "samples classes"]:
    """Count the pixels of every class in every sample, from the label maps.

    Args:
        dataset: any.
        workers: processes; None: one a processor. A data set that is not `picklable` is counted in this process.
        progress: is called with (done, total) after every sample.

    Raises:
        UserError: a label map cannot be read or holds an illegal id.
    """
    pixels = np.zeros((len(dataset), len(dataset.classes.names)), np.int64)
    workers = workers if dataset.picklable else 1
    counts = in_processes(partial(_count, dataset), range(len(dataset)), workers)
    for done, (index, row) in enumerate(counts, 1):
        pixels[index] = row
        if progress:
            progress(done, len(dataset))
    return pixels


def _count(dataset: Dataset, index: int) -> tuple[int, NDArray[np.int64]]:
    counts = np.bincount(dataset.labels(index).ravel(), minlength=256)
    return index, counts[: len(dataset.classes.names)].astype(np.int64)


# The stream.

_ORDER, _VIEW, _PICK, _PIXEL, _READ = 0, 1, 2, 3, 4
"""Which random numbers: the order of an epoch, the view of an item, the class that it must show, which pixel, and those
of the data set's own."""


@runtime_checkable
class Samples(Protocol):
    """A data set, or a part of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@runtime_checkable
class Views(Protocol):
    """What draws a view of a sample: an `Augmentation`, or a `CustomTransform`."""

    def view(self, sample: Sample, rng: np.random.Generator, focus: tuple[int, int] | None = None) -> Sample: ...


class Batch(NamedTuple):
    """Samples of one size."""

    image: Num[Tensor, "b c h w"]
    """uint8, or float32 if one of the images is; channels lie last in memory."""
    labels: UInt8[Tensor, "b h w"]
    names: tuple[str, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """Batch samples; for a `DataLoader`'s `collate_fn`."""
    images, labels, names = zip(*samples, strict=True)
    channels_last = torch.stack([image.permute(1, 2, 0) for image in images])
    return Batch(channels_last.permute(0, 3, 1, 2), torch.stack(labels), names)


class TrainingStream(torch.utils.data.Dataset[Sample]):
    """`length` augmented samples, epoch after epoch, each epoch shuffled.

    Item k is position `k % n` of epoch `k // n`, in a view drawn for k. Both depend on `(seed, k)` alone: the number of
    workers, how they start, and where a resumed run begins change nothing. To resume at item k, sample
    `range(k, length)`.

    Args:
        dataset: n samples of any sizes.
        augmentation: draws the views.
        seed: of the stream.
        length: number of items.
        cache_bytes: decoded samples are kept in memory if the whole data set fits into this many bytes, in all workers
            together.
        balance: draws a fraction of the items by class.
    """

    def __init__(
        self,
        dataset: Samples,
        augmentation: Views,
        seed: int,
        length: int,
        cache_bytes: int = 2**30,
        balance: ClassBalance | None = None,
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.length = length
        # Samples of a cache on disk are mapped into memory already, and hold a file open each; random ones differ.
        self.random = getattr(dataset, "random", False)
        self.cache_bytes = 0 if self.random or getattr(dataset, "cache", None) else cache_bytes
        self.balance = balance
        self._epoch, self._order = -1, np.empty(0, np.int64)
        self._cache: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> Sample:
        if not 0 <= k < self.length:
            raise IndexError(f"item {k} of a stream of {self.length}")
        pick, focus = self._pick(k), None
        index = self._in_order(k) if pick is None else pick.sample
        if self.random:
            with seeded(int(self._rng(_READ, k).integers(2**32))):
                sample = self._sample(index)
        else:
            sample = self._sample(index)
        if pick is not None:
            focus = pixel_of(sample.labels.numpy(), pick.label, self._rng(_PIXEL, k))
        return self.augmentation.view(sample, self._rng(_VIEW, k), focus)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # spawned workers fill their own

    def index(self, k: int) -> int:
        """The index of the sample that item k shows."""
        pick = self._pick(k)
        return self._in_order(k) if pick is None else pick.sample

    def _pick(self, k: int) -> Pick | None:
        return None if self.balance is None else self.balance.pick(self._rng(_PICK, k))

    def _in_order(self, k: int) -> int:
        """The sample of item k in the order of its epoch."""
        epoch, position = divmod(k, len(self.dataset))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._rng(_ORDER, epoch).permutation(len(self.dataset))
        return int(self._order[position])

    def _rng(self, what: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(what, number)))

    def _sample(self, index: int) -> Sample:
        if index in self._cache:
            return self._cache[index]
        sample = self.dataset[index]
        worker = get_worker_info()
        copies = len(self.dataset) * (worker.num_workers if worker else 1)
        if (sample.image.nbytes + sample.labels.nbytes) * copies <= self.cache_bytes:
            self._cache[index] = sample
        return sample


class FixedSamples(torch.utils.data.Dataset[Sample]):
    """The samples of a data set that may draw random numbers, which are the same whenever they are read.

    Args:
        dataset: any.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        with seeded(index):
            sample: Sample = self.dataset[index]
        return sample


def fixed_samples(dataset: Any) -> Any:
    """A data set to score on, whose samples must not depend on what was drawn before."""
    return FixedSamples(dataset) if getattr(dataset, "random", False) else dataset
