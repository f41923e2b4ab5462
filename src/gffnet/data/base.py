"""What every data set is: pairs of an image and a label file, read on access, with labels as train ids."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.tv_tensors import Image, Mask

from gffnet.data.catalog import Classes
from gffnet.data.images import read_image, read_labels
from gffnet.data.labels import LabelTable
from gffnet.data.layout import Files
from gffnet.errors import UserError


class Sample(NamedTuple):
    """An image with its labels, as torchvision's types, so that its v2 transforms know which is which."""

    image: UInt8[Tensor, "3 h w"]
    """RGB; a `tv_tensors.Image`."""
    labels: UInt8[Tensor, "h w"]
    """Train ids `0..n-1`, and 255 where a pixel is ignored; a `tv_tensors.Mask`."""
    name: str


class Pixels(NamedTuple):
    """The pixels of an image or a part of it, as files hold them: rows, columns, channels."""

    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]


@runtime_checkable
class Opened(Protocol):
    """A sample whose pixels are at hand, or are decoded where they are asked for."""

    @property
    def name(self) -> str:
        """Of its files."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part, within the image; not to be written to."""

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """The whole label map; not to be written to."""


class Decoded(NamedTuple):
    """An opened sample that is decoded whole."""

    pixels: Pixels
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.labels.shape
        return height, width

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part."""
        return Pixels(self.pixels.image[rows, columns], self.pixels.labels[rows, columns])

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """The whole label map."""
        return self.pixels.labels


class _WorkerError(UserError):
    """A `UserError` in a `DataLoader` worker, which torch makes anew from its traceback: only the message is kept."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


class Dataset(torch.utils.data.Dataset[Sample]):
    """Images with label maps; a data set derives from it and lists its files.

    Args:
        classes: in the order of the train ids.
        files: image and label map of every sample.
        table: from the ids that label maps store to train ids.
    """

    def __init__(self, classes: Classes, files: Files, table: LabelTable) -> None:
        self.classes = classes
        self.files = files
        self.table = table

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`. Raises as `open`."""
        return as_sample(self.open(index))

    def open(self, index: int) -> Opened:
        """Read sample `index`.

        Raises:
            UserError: a file cannot be read, sizes differ, or the label map holds an id that it may not.
        """
        try:
            return self._read(index)
        except UserError as error:
            raise (_WorkerError(str(error)) if get_worker_info() else error) from None

    def name(self, index: int) -> str:
        """The name of sample `index`: the file name of its image without the ending."""
        return self.files[index][0].stem

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a label file stores, `(H, W)`, and what they mean; other kinds of files override it.

        Raises:
            UserError: the file cannot be read.
        """
        return read_labels(label_file), self.table

    def meaning(self) -> str:
        """All that decides which train id a stored id becomes, but for the files themselves; for caches to compare."""
        return self.table.text()

    def _read(self, index: int) -> Opened:
        image_file, label_file = self.files[index]
        image = read_image(image_file)
        ids, table = self.read_ids(label_file)
        if image.shape[:2] != ids.shape:
            raise UserError(
                f"image {image_file} is {image.shape[1]}x{image.shape[0]} pixels, but its label map {label_file} is "
                f"{ids.shape[1]}x{ids.shape[0]}: they must be of one size. Restore the one that was scaled or cut."
            )
        return Decoded(Pixels(image, table(ids, label_file)), self.name(index))


def as_sample(opened: Opened) -> Sample:
    """All pixels of an opened sample, as tensors of their own."""
    height, width = opened.size
    image, labels = opened.window(slice(0, height), slice(0, width))
    channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return Sample(Image(channels_first), Mask(torch.from_numpy(labels.copy())), opened.name)
