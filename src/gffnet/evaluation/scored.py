"""What has been scored so far: counts that add up, whichever process counted them, and a line for every image."""

import io

import numpy as np
from jaxtyping import UInt8

from gffnet.evaluation.images import ImageScore, score_image
from gffnet.metrics.scoring import Scoring

_COUNTS = "counts/"
"""Before the names of the counts in a packed part."""


class Scored:
    """The scores of some of the images of a data set."""

    def __init__(self, classes: int, details: bool = True) -> None:
        """`details`: boundaries, distances and objects as well as the confusion matrix."""
        self.classes = classes
        self.counts = Scoring(classes, details=details)
        self.images: dict[int, ImageScore] = {}
        """By their place in the data set."""

    def update(self, index: int, labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]) -> None:
        """Add image `index`."""
        self.counts.update(labels, predicted)
        self.images[index] = score_image(labels, predicted, self.classes)

    def add(self, packed: bytes) -> None:
        """Add images that were scored elsewhere.

        Raises:
            ValueError: some of them are here already, or these are other counts.
        """
        with np.load(io.BytesIO(packed), allow_pickle=False) as part:
            counts = {name.removeprefix(_COUNTS): part[name] for name in part.files if name.startswith(_COUNTS)}
            rows = zip(*(part[name].tolist() for name in ("index", *ImageScore._fields)), strict=True)
            images = {index: ImageScore(*scores) for index, *scores in rows}
        if self.images.keys() & images.keys():
            raise ValueError("images were scored twice")
        if counts.keys() != self.counts.state().keys():
            raise ValueError("these are other counts")
        self.counts.add(counts)
        self.images |= images

    def pack(self) -> bytes:
        """All of it as bytes, which `add` takes."""
        index = np.array(list(self.images), np.int64)
        lines = {name: np.array([getattr(s, name) for s in self.images.values()]) for name in ImageScore._fields}
        file = io.BytesIO()
        counts = {f"{_COUNTS}{name}": count for name, count in self.counts.state().items()}
        np.savez(file, allow_pickle=False, index=index, **lines, **counts)
        return file.getvalue()
