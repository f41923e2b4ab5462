"""An image in a model, encoded once, and what the network sees in it with its gates as learned or as edited.

    image → X_l, G_l, y_0      once, by the backbone
    G → labels                 for every edit, by fusion, pyramid and head:  decode(edit_gates(G))

A session is a value: nothing in it changes, so that any number of questions may be asked of it in any order.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from gffnet.gates.edit import Edits, edit_gates, gate_map
from gffnet.gates.statistics import RING_NAMES, boundary_rings
from gffnet.inference.predictor import Predictor
from gffnet.inference.tiling import scaled_size
from gffnet.models.layers import Encoded, Gates
from gffnet.recipe import EvaluationRecipe

_COARSE_SIDE = 64
"""Images whose shorter side is below twice this have no preview: they are quick as they are."""


class Seen(NamedTuple):
    """What the network sees."""

    labels: UInt8[np.ndarray, "h w"]
    percent: UInt8[np.ndarray, "h w"]
    """Probability of the label, rounded, 0..100."""


class Changes(NamedTuple):
    """Which share of the pixels has another label than with the learned gates, in 0..1."""

    share: float
    by_class: dict[int, float]
    """Of the pixels of each class, as it was seen with the learned gates."""
    by_distance: dict[str, float]
    """By distance to the boundaries that were seen, in pixels (`RING_NAMES`); without empty rings."""


@dataclass(frozen=True, eq=False)
class Session:
    """An image in a model; `open_session` makes one."""

    predictor: Predictor
    image: UInt8[np.ndarray, "h w 3"]
    encoded: Encoded | None
    """`None` for a model without fusion."""
    coarse: Encoded | None
    """The image at half its sides, whose result comes in a third of the time; `None` where it is small anyway."""
    learned: Seen
    rings: Integer[np.ndarray, "h w"]
    """Distance to the boundaries of `learned.labels`, as an index into `RING_NAMES`."""

    @property
    def seen_size(self) -> tuple[int, int]:
        """Height and width that the backbone saw the image at: smaller where its like is not what it learned from."""
        size = (self.image.shape[0], self.image.shape[1])
        return scaled_size(size, self.predictor.scale(size))

    @property
    def gates(self) -> Gates:
        """The learned gates; empty for a model without."""
        return (self.encoded and self.encoded.gates) or ()

    @property
    def maps(self) -> tuple[Float32[np.ndarray, "h w"], ...]:
        """The learned gates as maps of the size of the image."""
        return tuple(gate_map(gate, self.learned.labels.shape) for gate in self.gates)

    def see(self, edits: Edits, quick: bool = False) -> Seen:
        """What the network sees with edited gates; if `quick`, roughly: of the image at half its sides.

        Raises:
            UserError: there is no such level, scale or value.
        """
        gates = edit_gates(self.gates, edits)
        if self.encoded is None or not any(edit.changes for edit in edits.values()):
            return self.learned
        if quick and self.coarse is not None and self.coarse.gates is not None:
            return _seen(self.predictor.decode(self.coarse, edit_gates(self.coarse.gates, edits)))
        return _seen(self.predictor.decode(self.encoded, gates))

    def changes(self, seen: Seen) -> Changes:
        """How `seen` differs from what is seen with the learned gates."""
        changed = seen.labels != self.learned.labels
        return Changes(
            share=float(changed.mean()),
            by_class=_shares(changed, self.learned.labels),
            by_distance={RING_NAMES[ring]: share for ring, share in _shares(changed, self.rings).items()},
        )


def open_session(predictor: Predictor, image: UInt8[np.ndarray, "h w 3"]) -> Session:
    """Encode an image, and see it with the learned gates.

    Raises:
        UserError: the model takes other images.
    """
    encoded = coarse = None
    scale = predictor.scale((image.shape[0], image.shape[1]))
    if predictor.network.fusion is None:
        seen = _most_probable(predictor.probabilities(image, EvaluationRecipe(scales=(scale,))))
    else:
        encoded = predictor.encode(image, scale)
        seen = _seen(predictor.decode(encoded))
        if encoded.gates is not None and min(encoded.seen) >= 2 * _COARSE_SIDE:
            coarse = predictor.encode(image, scale / 2)
    return Session(predictor, image, encoded, coarse, seen, boundary_rings(seen.labels))


def reduced(image: UInt8[np.ndarray, "h w 3"], most: int) -> UInt8[np.ndarray, "_h _w 3"]:
    """The image with its longer side at most `most` pixels."""
    height, width = image.shape[:2]
    factor = most / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(Image.fromarray(image).resize(size, Resampling.LANCZOS))


@torch.inference_mode()
def _seen(logits: Float[Tensor, "1 k h w"]) -> Seen:
    """Labels are the greatest logits, as everywhere; their probability is  1 / Σ_k exp(z_k - max z)."""
    highest = logits[0].max(0)
    total = (logits[0].float() - highest.values.float()).exp_().sum(0)
    return _as_seen(highest.indices, 1 / total)


@torch.inference_mode()
def _most_probable(probabilities: Float[Tensor, "k h w"]) -> Seen:
    highest = probabilities.max(0)
    return _as_seen(highest.indices, highest.values)


def _as_seen(labels: Tensor, probability: Tensor) -> Seen:
    percent = (100 * probability).round().clamp(0, 100)
    return Seen(labels.to(torch.uint8).cpu().numpy(), percent.to(torch.uint8).cpu().numpy())


def _shares(mask: Bool[np.ndarray, "h w"], groups: Integer[np.ndarray, "h w"]) -> dict[int, float]:
    """The share of `mask` among the pixels of each group that has any."""
    pixels = np.bincount(groups.ravel())
    inside = np.bincount(groups[mask], minlength=len(pixels))
    return {int(group): float(inside[group] / pixels[group]) for group in np.flatnonzero(pixels)}
