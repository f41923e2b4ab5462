"""The stream of training samples: item k is the same whoever asks for it, and whenever."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import get_worker_info

from gffnet.data.base import Sample
from gffnet.data.transforms import Augmentation

_ORDER, _VIEW = 0, 1
"""Which random numbers: the order of an epoch, or the view of an item."""


@runtime_checkable
class Samples(Protocol):
    """A data set, or a part of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Batch(NamedTuple):
    """Samples of one size."""

    image: UInt8[Tensor, "b 3 h w"]
    labels: UInt8[Tensor, "b h w"]
    names: tuple[str, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """The batch of `samples`; for a `DataLoader`'s `collate_fn`."""
    images, labels, names = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.stack(labels), names)


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
        cache_bytes: decoded samples are kept in memory if the whole data set fits into so many bytes, in every worker.
    """

    def __init__(
        self, dataset: Samples, augmentation: Augmentation, seed: int, length: int, cache_bytes: int = 2**30
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.length = length
        self.cache_bytes = cache_bytes
        self._epoch, self._order = -1, np.empty(0, np.int64)
        self._cache: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> Sample:
        if not 0 <= k < self.length:
            raise IndexError(f"item {k} of a stream of {self.length}")
        sample = self._read(self.index(k))
        image, labels = self.augmentation(sample.image, sample.labels, self._rng(_VIEW, k))
        return Sample(image, labels, sample.name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # a worker that is started afresh fills its own

    def index(self, k: int) -> int:
        """Which sample of the data set item k shows."""
        epoch, position = divmod(k, len(self.dataset))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._rng(_ORDER, epoch).permutation(len(self.dataset))
        return int(self._order[position])

    def _rng(self, what: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(what, number)))

    def _read(self, index: int) -> Sample:
        if index in self._cache:
            return self._cache[index]
        sample = self.dataset[index]
        worker = get_worker_info()
        copies = len(self.dataset) * (worker.num_workers if worker else 1)
        if (sample.image.nbytes + sample.labels.nbytes) * copies <= self.cache_bytes:
            self._cache[index] = sample
        return sample
