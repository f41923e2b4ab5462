"""A file of a data set, and what must come of its mutants where they are accepted."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.data.dataset import Dataset


class Target(NamedTuple):
    """A file of a data set, and what should come of its mutants."""

    file: Path
    read: Callable[[], str]
    """Reads the data set as training does, and asserts that what is accepted is right; says how it was accepted."""
    heads: list[bytes]
    """Other files, whose beginning some mutants have."""
    mutable: int | None = None
    """Only so many bytes at the beginning are changed in place; None: all."""


def same(labels: object, expected: NDArray) -> None:
    np.testing.assert_array_equal(np.asarray(labels), expected)


def sample_reader(
    dataset: Dataset, index: int, expected: Callable[[], NDArray], image: NDArray | None = None
) -> Callable[[], str]:
    """Reads one sample: its labels must be `expected` then, and its pixels `image`, if given."""

    def read() -> str:
        sample = dataset[index]
        assert sample.image.shape == (3, *sample.labels.shape)
        same(sample.labels, expected())
        if image is not None:
            same(sample.image.permute(1, 2, 0), image)
        return "accepted"

    return read


def unchanged(dataset: Dataset, index: int = 0) -> Callable[[], NDArray]:
    before = np.array(dataset[index].labels)
    return lambda: before


def image_of(dataset: Dataset, index: int = 0) -> NDArray:
    return np.array(dataset[index].image.permute(1, 2, 0))


def heads(*paths: Path) -> list[bytes]:
    return [path.read_bytes() for path in paths]
