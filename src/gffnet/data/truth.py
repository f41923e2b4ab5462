"""The ground truth of images that are named by their files: those of a data set, however the path is written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gffnet.data.base import Dataset
from gffnet.errors import UserError, nearest


class Truth:
    """Label maps by the path of the image."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        """`datasets`: splits to look in, one after the other."""
        self._places: dict[Path, tuple[Dataset, int]] = {}
        self._names: dict[str, Path] = {}
        self._classes = tuple(datasets[0].classes.names) if datasets else None
        for dataset in datasets:
            for index, (image, _) in enumerate(dataset.files):
                self._places.setdefault(image.resolve(), (dataset, index))
                self._names.setdefault(dataset.name(index), image)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the labels, in their order; `None` without a data set."""
        return self._classes

    def image(self, name: Path) -> Path:
        """The file of the sample called `name`; a path that is there is left alone, as all are without a data set.

        Raises:
            UserError: there is neither such a file nor such a sample.
        """
        if name.exists() or not self._names:
            return name
        if str(name) not in self._names:
            raise UserError(
                f"{name} is no file, and no image of the data set is called so.{nearest(str(name), self._names)} "
                f"Its names are such as {next(iter(self._names))}."
            )
        return self._names[str(name)]

    def labels(self, image: Path) -> UInt8[np.ndarray, "h w"] | None:
        """Train ids at the size of the image, 255 where there is none; `None` for an image of no data set.

        Raises:
            UserError: the label map cannot be read, or is none of that image.
        """
        found = self._places.get(image.resolve())
        if found is None:
            return None
        dataset, index = found
        return dataset.open(index).labels()
