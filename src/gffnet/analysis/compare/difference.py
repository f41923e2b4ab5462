"""Where two label maps of an image differ, and which of them is right there.

With labels `y`, a first prediction `a` and a last one `b`, over the labelled pixels:

    refined = (b = y) and (a ≠ y)          lost = (a = y) and (b ≠ y)

so that the pixel accuracy of `b` less that of `a` is the share of refined pixels less that of lost ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8, UInt8

from gffnet.data.colour import MARK, highlight

REFINED, LOST, CHANGED = (86, 200, 255), (255, 150, 20), MARK
"""A light blue and an orange, which differ for every kind of colour vision, on a dark image."""


@dataclass(frozen=True, eq=False)
class Difference:
    """The pixels that matter, as masks of the image's size."""

    changed: Bool[np.ndarray, "h w"]
    """Predictions differ, labelled or not."""
    known: Bool[np.ndarray, "h w"] | None
    """There is a label; None: there are no labels at all."""
    refined: Bool[np.ndarray, "h w"]
    """The last prediction is right and the first is not; nowhere, if nothing is known."""
    lost: Bool[np.ndarray, "h w"]
    """The other way round."""

    @property
    def marks(self) -> Int8[np.ndarray, "h w"]:
        """What to look at closely: 1 where refined and -1 where lost, or 1 where changed."""
        better = self.changed if self.known is None else self.refined
        marks: np.ndarray = better.astype(np.int8) - self.lost
        return marks

    @property
    def caption(self) -> str:
        """The shares in words; those of refined and lost pixels are of the labelled ones."""
        if self.known is None:
            return f"changed {self.changed.mean():.2%}"
        return f"refined {_share(self.refined, self.known):.2%}, lost {_share(self.lost, self.known):.2%}"

    @property
    def colours(self) -> list[tuple[str, tuple[int, int, int]]]:
        """What the colours of `picture` stand for."""
        return [("changed", CHANGED)] if self.known is None else [("refined", REFINED), ("lost", LOST)]

    def picture(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image dark and grey, with the pixels that matter in bright colours."""
        if self.known is None:
            return highlight(image, self.changed, CHANGED)
        drawn: np.ndarray = highlight(image, self.refined, REFINED)
        drawn[self.lost] = LOST
        return drawn


def difference(
    first: UInt8[np.ndarray, "h w"],
    last: UInt8[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"] | None,
    classes: int,
) -> Difference:
    """What the last prediction has otherwise than the first; labels of `classes` and above are none."""
    changed: np.ndarray = first != last
    if labels is None:
        nothing = np.zeros_like(changed)
        return Difference(changed, None, nothing, nothing)
    known: np.ndarray = labels < classes
    return Difference(changed, known, known & changed & (last == labels), known & changed & (first == labels))


def difference_numbers(of: Difference, by: UInt8[np.ndarray, "h w"], names: Sequence[str]) -> dict[str, Any]:
    """Shares of pixels as plain values: `changed`, of all, and with labels `refined` and `lost`, of the labelled ones.

    `by_class` has the same for the pixels of every class of `by` that occurs: the labels, or the first prediction.
    """
    masks = {"changed": of.changed} if of.known is None else {"refined": of.refined, "lost": of.lost}
    pixels = np.bincount(by.ravel(), minlength=256)[: len(names)]
    counts = {what: np.bincount(by[mask], minlength=256)[: len(names)] for what, mask in masks.items()}
    return {
        "changed": float(of.changed.mean()),
        "refined": None if of.known is None else _share(of.refined, of.known),
        "lost": None if of.known is None else _share(of.lost, of.known),
        "by_class": {
            name: {"pixels": int(pixels[k]), **{what: int(count[k]) / int(pixels[k]) for what, count in counts.items()}}
            for k, name in enumerate(names)
            if pixels[k]
        },
    }


def _share(part: Bool[np.ndarray, "h w"], whole: Bool[np.ndarray, "h w"]) -> float:
    """Of the pixels of `whole`, those of `part`; of none, none."""
    return int(part.sum()) / max(int(whole.sum()), 1)
