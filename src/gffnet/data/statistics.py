"""What a network must know of its images, found out from them: channels, white level, mean and standard deviation.

Of RGB images of 8 bits nothing need be found out: they have the statistics of the ImageNet weights.
"""

from collections.abc import Iterator
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gffnet.data.dataset import Dataset, evenly_spaced
from gffnet.data.io import (
    Header,
    Samples,
    as_array,
    bands_used,
    guess_white_level,
    largest_sample,
    read_header,
    read_stored,
    to_channels,
    wrong_bands,
)
from gffnet.data.transforms import seeded

MEASURED = 64
"""Images that are measured, evenly spaced, of a data set that has more."""
PIXELS = 2**14
"""Pixels of each from which mean and standard deviation are computed, on a grid; up to four times as many."""
LEAST_STD = 0.01
"""A channel with a smaller standard deviation, in 0..255, is constant: it gets 1."""
_OF_BANDS = (".npy", ".tif", ".tiff")
"""Suffixes of formats that hold any bands. Others hold grey or RGB, with alpha at most: that takes no header."""


class ImageStatistics(NamedTuple):
    """Of a sample of the images; mean and standard deviation of each channel, in 0..255."""

    white_level: float | None
    """What the files state, else the smallest of 255, 1023, 4095, 16383 and 65535 that no sample exceeds; None if all
    images are of 8 bits."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


def channels_of(header: Header) -> int:
    """The channels that a network of such images has: 3 for grey, RGB and what has alpha beside, else all bands."""
    return 3 if header.channels - header.alpha in (1, 3) else header.channels


def find_channels(dataset: Dataset) -> int:
    """`channels_of` the first image with a readable header; 3 if there is none."""
    for file in _files(dataset):
        if file.suffix.lower() not in _OF_BANDS:
            return 3
        if (header := read_header(file)) is not None:
            return channels_of(header)
    return 3


def find_inputs(dataset: Dataset) -> tuple[int, float | None]:
    """Channels and white level of a network that is trained on a data set. Raises as `measure`."""
    in_channels = find_channels(dataset)
    return in_channels, measure(dataset, in_channels).white_level if is_deep(dataset) else None


def check_bands(dataset: Dataset, in_channels: int) -> None:
    """Check by their headers that all images can be read with so many channels; unreadable ones are left out.

    Raises:
        UserError: one has other bands.
    """
    for file in _files(dataset):
        if in_channels in (1, 3) and file.suffix.lower() not in _OF_BANDS:
            continue
        header = read_header(file)
        if header is not None and not header.fits(in_channels):
            raise wrong_bands(f"image {file}", header.channels, in_channels, header.alpha)


def is_deep(dataset: Dataset) -> bool:
    """Whether an image among those that `measure` reads has more than eight bits a sample, by their headers."""
    files = _files(dataset)
    headers = (read_header(files[i]) for i in evenly_spaced(len(files), MEASURED))
    return any(header is not None and header.deep for header in headers)


def measure(dataset: Dataset, in_channels: int, white_level: float | None = None) -> ImageStatistics:
    """Measure up to `MEASURED` images; the same images always have the same statistics.

    Args:
        dataset: any.
        in_channels: channels that its images are read with.
        white_level: if it is known.

    Raises:
        UserError: an image cannot be read, has other channels, or has float samples and no `white_level` is given.
    """
    taken: list[tuple[str, Samples]] = []
    highest, stated, deep = 0.0, list[float | None](), False
    for what, samples in _read(dataset, in_channels):
        values = bands_used(samples.values, samples.colors, in_channels)
        if values.dtype not in (np.uint8, bool):
            high, deep = largest_sample(values), True
            if white_level is None and samples.white_level is None:
                guess_white_level(values, high, what)  # refuses those that have none
            highest = max(highest, high)
            stated.append(samples.white_level)
        step = max(1, isqrt(values.shape[0] * values.shape[1] // PIXELS))
        taken.append((what, samples._replace(values=samples.values[::step, ::step].copy())))
    if white_level is None and deep:
        known = [level for level in stated if level is not None]
        whole = len(known) == len(stated) and max(known) >= highest
        white_level = max(known) if whole else float(guess_white_level(np.empty(0, np.uint16), highest, "the images"))
    count, total, squares = 0, np.zeros(in_channels), np.zeros(in_channels)
    for what, samples in taken:
        levels = to_channels(samples, in_channels, white_level, what).reshape(-1, in_channels).astype(np.float64)
        count, total, squares = count + len(levels), total + levels.sum(0), squares + np.square(levels).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std = np.where(std < LEAST_STD, 1, std) if deep else np.maximum(std, 1)
    return ImageStatistics(white_level, tuple(mean.round(3).tolist()), tuple(std.round(3).tolist()))


def _files(dataset: Dataset) -> list[Path]:
    """The images that `Dataset.read` reads; none of a data set that reads its samples in a way of its own."""
    return [file for file, _ in dataset.files] if type(dataset).read is Dataset.read else []


def _read(dataset: Dataset, in_channels: int) -> Iterator[tuple[str, Samples]]:
    """Some images, as they are stored, with their names in errors."""
    files = _files(dataset)
    for index in evenly_spaced(len(dataset), MEASURED):
        if files:
            yield f"image {files[index]}", read_stored(files[index], in_channels)
            continue
        with seeded(index):
            yield dataset.name(index), Samples(as_array(dataset.read(index).image), in_channels, None)
