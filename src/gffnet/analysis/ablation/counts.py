"""What is counted with some gates closed: all that an evaluation counts, and the right pixels of every image by part.

The parts are the bands of distance to a boundary and the sizes of objects of `Scoring`. Their counts are kept for every
image, so that it can be told how much a difference owes to the images that happen to be there.
"""

import io

import numpy as np
from jaxtyping import Int64, UInt8

from gffnet.evaluation.images import score_image
from gffnet.evaluation.scored import Scored
from gffnet.metrics.scoring import BANDS, SIZES, Scoring, State

Parts = Int64[np.ndarray, "2 parts"]
"""Pixels that were predicted right, and labelled pixels: by band of distance, then by size of object."""

BAND_COUNT, SIZE_COUNT = len(BANDS) + 1, len(SIZES) + 1


class ClosingScored(Scored):
    """The scores of some of the images of a data set, with some gates closed."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.parts: dict[int, Parts] = {}
        """By the image's place in the data set."""

    def update(self, index: int, labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]) -> None:
        """Add image `index`."""
        own = Scoring(self.classes)
        own.update(labels, predicted)
        self.counts.add(own.state())
        self.images[index] = score_image(labels, predicted, self.classes)
        self.parts[index] = parts_of(own.state())

    def add(self, packed: bytes) -> None:
        """Add images that were scored elsewhere. Raises as `Scored.add`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            scored, index, parts = stored["scored"].tobytes(), stored["index"].tolist(), stored["parts"]
        super().add(scored)
        self.parts |= dict(zip(index, parts, strict=True))

    def pack(self) -> bytes:
        """All of it as bytes, which `add` takes."""
        index = np.array(list(self.parts), np.int64)
        parts = np.array(list(self.parts.values()), np.int64).reshape(-1, 2, BAND_COUNT + SIZE_COUNT)
        file = io.BytesIO()
        scored = np.frombuffer(super().pack(), np.uint8)
        np.savez(file, allow_pickle=False, scored=scored, index=index, parts=parts)
        return file.getvalue()


def parts_of(counts: State) -> Parts:
    """The right and the labelled pixels of every part, of the counts of a `Scoring`."""
    bands, sizes = counts["distance"], counts["size"]
    right = np.concatenate([bands.diagonal(axis1=1, axis2=2).sum(-1), sizes[..., 0].sum(1)])
    labelled = np.concatenate([bands.sum((1, 2)), sizes[..., :2].sum((1, 2))])
    return np.stack([right, labelled])
