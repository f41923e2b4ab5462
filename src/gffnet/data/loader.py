"""The stream of training samples: item k is the same whoever asks for it, and whenever."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Integer, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gffnet.data.cache.cached import Cached
from gffnet.data.dataset import Dataset, Decoded, Opened, Pixels, Sample
from gffnet.data.transforms import Augmentation
from gffnet.parallel import in_processes

# Class-balanced sampling: a share of the crops shows a class that is drawn evenly from all, however rare it is.
#
# For such a crop a class is drawn, all that occur being as likely; then a sample, all that hold the class being as
# likely; then one of the sample's pixels of that class, which the crop must show. The paper does without.


class Pick(NamedTuple):
    """What a crop should show."""

    sample: int
    """Its number."""
    label: int
    """Train id of the class."""


class ClassBalance:
    """Draws samples by their classes.

    Args:
        pixels: of every class in every sample.
        share: of the crops that are drawn so, in [0, 1].
    """

    def __init__(self, pixels: Integer[np.ndarray, "samples classes"], share: float) -> None:
        self.share = share
        self._samples = {int(label): np.flatnonzero(pixels[:, label]) for label in np.flatnonzero(pixels.any(0))}

    def pick(self, rng: np.random.Generator) -> Pick | None:
        """A sample and the class that a crop of it should show; None for the crops that are drawn as ever."""
        if not self._samples or rng.random() >= self.share:
            return None
        label = list(self._samples)[rng.integers(len(self._samples))]
        samples = self._samples[label]
        return Pick(int(samples[rng.integers(len(samples))]), label)


def pixel_of(labels: UInt8[np.ndarray, "h w"], label: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Row and column of a pixel of a class, all being as likely; None if there is none."""
    found = np.flatnonzero(labels == label)
    if not len(found):
        return None
    row, column = divmod(int(found[rng.integers(len(found))]), labels.shape[1])
    return row, column


def class_pixels(
    dataset: Dataset, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Int[np.ndarray, "samples classes"]:
    """Pixels of every class in every sample; read from the label maps with all processors, unless a cache knows them.

    Args:
        dataset: any.
        workers: processes; None: one a processor.
        progress: is called with (done, total) after every sample that is read.

    Raises:
        UserError: a label map cannot be read, or holds an id that it may not.
    """
    pixels = np.zeros((len(dataset), len(dataset.classes.names)), np.int64)
    unknown = []
    for i in range(len(dataset)):
        counts = dataset.class_pixels(i) if isinstance(dataset, Cached) else None
        if counts is None:
            unknown.append(i)
        else:
            pixels[i] = [counts.get(label, 0) for label in range(pixels.shape[1])]
    for done, (i, row) in enumerate(in_processes(partial(_count, dataset), unknown, workers if unknown else 1), 1):
        pixels[i] = row
        if progress:
            progress(done, len(unknown))
    return pixels


def _count(dataset: Dataset, index: int) -> tuple[int, NDArray[np.int64]]:
    """Pixels of every class in one sample."""
    file = dataset.files[index][1]
    ids, table = dataset.read_ids(file)
    counts = np.bincount(table(ids, file).ravel(), minlength=256)
    return index, counts[: len(dataset.classes.names)].astype(np.int64)


_ORDER, _VIEW, _PICK, _PIXEL = 0, 1, 2, 3
"""Which random numbers: the order of an epoch, the view of an item, the class that it should show, and which pixel."""


@runtime_checkable
class Samples(Protocol):
    """A data set, or a part of one; where it has the method `open`, as `Dataset` does, that is used."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Batch(NamedTuple):
    """Samples of one size."""

    image: UInt8[Tensor, "b 3 h w"]
    """In memory, channels lie last."""
    labels: UInt8[Tensor, "b h w"]
    names: tuple[str, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """The batch of `samples`; for a `DataLoader`'s `collate_fn`."""
    images, labels, names = zip(*samples, strict=True)
    channels_last = torch.stack([image.permute(1, 2, 0) for image in images])
    return Batch(channels_last.permute(0, 3, 1, 2), torch.stack(labels), names)


class TrainingStream(torch.utils.data.Dataset[Sample]):
    """`length` augmented samples, epoch after epoch, each epoch in an order of its own.

    Item k is position `k % n` of epoch `k // n` and seen through a view drawn for k. Both depend on `(seed, k)` alone:
    the number of workers, how they start, and where a resumed run begins change nothing. To resume at item k, sample
    `range(k, length)`.

    Args:
        dataset: n samples of any sizes.
        augmentation: makes the view.
        seed: of the stream.
        length: how many items.
        cache_bytes: samples that are decoded whole are kept in memory if the whole data set fits into so many bytes, in
            all workers together.
        balance: draws a share of the items by their classes instead.
    """

    def __init__(
        self,
        dataset: Samples,
        augmentation: Augmentation,
        seed: int,
        length: int,
        cache_bytes: int = 2**30,
        balance: ClassBalance | None = None,
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.length = length
        self.cache_bytes = cache_bytes
        self.balance = balance
        self._epoch, self._order = -1, np.empty(0, np.int64)
        self._cache: dict[int, Decoded] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> Sample:
        if not 0 <= k < self.length:
            raise IndexError(f"item {k} of a stream of {self.length}")
        pick, focus = self._pick(k), None
        opened = self._open(self._in_order(k) if pick is None else pick.sample)
        if pick is not None:
            focus = pixel_of(opened.labels(), pick.label, self._rng(_PIXEL, k))
        return self.augmentation.view(opened, self._rng(_VIEW, k), focus)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # a worker that is started afresh fills its own

    def index(self, k: int) -> int:
        """Which sample of the data set item k shows."""
        pick = self._pick(k)
        return self._in_order(k) if pick is None else pick.sample

    def _pick(self, k: int) -> Pick | None:
        """The class that item k should show, if it is drawn by classes."""
        return None if self.balance is None else self.balance.pick(self._rng(_PICK, k))

    def _in_order(self, k: int) -> int:
        """The sample of item k in the order of its epoch."""
        epoch, position = divmod(k, len(self.dataset))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._rng(_ORDER, epoch).permutation(len(self.dataset))
        return int(self._order[position])

    def _rng(self, what: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(what, number)))

    def _open(self, index: int) -> Opened:
        if index in self._cache:
            return self._cache[index]
        opened = opened_sample(self.dataset, index)
        worker = get_worker_info()
        copies = len(self.dataset) * (worker.num_workers if worker else 1)
        if isinstance(opened, Decoded) and sum(part.nbytes for part in opened.pixels) * copies <= self.cache_bytes:
            self._cache[index] = opened
        return opened


def opened_sample(dataset: Samples, index: int) -> Opened:
    """Sample `index` of any data set, opened by the data set itself where it can."""
    if hasattr(dataset, "open"):
        opened: Opened = dataset.open(index)
        return opened
    image, labels, name = dataset[index]
    return Decoded(Pixels(image.permute(1, 2, 0).contiguous().numpy(), labels.numpy()), name)
