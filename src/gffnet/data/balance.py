"""Class-balanced sampling: a share of the crops shows a class that is drawn evenly from all, however rare it is.

For such a crop a class is drawn, all that occur being as likely; then a sample, all that hold the class being as
likely; then one of the sample's pixels of that class, which the crop must show. The paper does without.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, UInt8
from numpy.typing import NDArray

from gffnet.data.base import Dataset
from gffnet.data.cache.cached import Cached
from gffnet.parallel import in_processes


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
