"""A session: one image, encoded once by a model and fused with its gates as learned or as edited.

    image → X_l, G_l, y_0      once, by the backbone
    G → labels                 per edit, by fusion, pyramid and head:  decode(edit_gates(G))

Sessions are immutable. `SessionCache` holds the most recent ones, since encoded images are large.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Num, UInt8
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from gffnet.data.colors import displayable
from gffnet.gates.edit import Edits, edit_gates
from gffnet.inference.predictor import Predictor
from gffnet.inference.sliding_window import scaled_size
from gffnet.metrics.boundary import RING_NAMES, boundary_rings
from gffnet.models.layers import Encoded, Gates
from gffnet.recipe import EvaluationRecipe

MAX_SESSIONS = 6
EXPIRY_SECONDS = 3600.0

_MIN_PREVIEW_SIDE = 64
"""Images whose shorter side is below twice this get no preview: they are fast enough at full resolution."""


class Prediction(NamedTuple):
    """The most probable class of every pixel."""

    labels: UInt8[np.ndarray, "h w"]
    percent: UInt8[np.ndarray, "h w"]
    """Its probability in percent, rounded."""


class Changes(NamedTuple):
    """Fractions of pixels, 0..1, whose label differs from the prediction with the learned gates."""

    share: float
    by_class: dict[int, float]
    """Among the pixels of each class of the prediction with the learned gates."""
    by_distance: dict[str, float]
    """By distance to the boundaries of `Session.learned` in pixels (`RING_NAMES`); empty bins are left out."""


@dataclass(frozen=True, eq=False)
class Session:
    """An encoded image; made by `open_session`."""

    predictor: Predictor
    image: UInt8[np.ndarray, "h w 3"]
    """As it is shown."""
    encoded: Encoded | None
    """None for a model without a fusion."""
    preview: Encoded | None
    """The image encoded at half the resolution, decoded in a third of the time; None for small images."""
    learned: Prediction
    """With the learned gates."""
    learned_preview: Prediction | None
    """The same from `preview`: what a preview is compared with, since half the resolution alone changes labels."""
    rings: Integer[np.ndarray, "h w"]
    """Distance to the boundaries of `learned.labels`, as an index into `RING_NAMES`."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, smaller than `image` where the model was trained on smaller ones."""
        size = (self.image.shape[0], self.image.shape[1])
        return scaled_size(size, self.predictor.scale(size))

    @property
    def gates(self) -> Gates:
        """The learned gates, empty for a model without."""
        return (self.encoded and self.encoded.gates) or ()

    def predict(self, edits: Edits, preview: bool = False) -> Prediction:
        """Predict with edited gates; `preview`: at half the resolution where the session has a preview.

        Raises:
            UserError: a level does not exist, or a scale or value is out of range.
        """
        encoded = self.preview if preview and self.preview is not None else self.encoded
        gates = edit_gates((encoded and encoded.gates) or (), edits)
        if encoded is None or not any(edit.changes for edit in edits.values()):
            return self._baseline(preview)
        return _from_logits(self.predictor.decode(encoded, gates))

    def changes(self, prediction: Prediction, preview: bool = False) -> Changes:
        """Compare a prediction with the one with the learned gates; `preview`: a preview with a preview."""
        before = self._baseline(preview).labels
        changed = prediction.labels != before
        return Changes(
            share=float(changed.mean()),
            by_class=_shares(changed, before),
            by_distance={RING_NAMES[ring]: share for ring, share in _shares(changed, self.rings).items()},
        )

    def _baseline(self, preview: bool) -> Prediction:
        return self.learned_preview if preview and self.learned_preview is not None else self.learned


def open_session(predictor: Predictor, image: Num[np.ndarray, "h w c"]) -> Session:
    """Encode an image and predict with the learned gates.

    Raises:
        UserError: the model expects images of another kind.
    """
    encoded = preview = learned_preview = None
    scale = predictor.scale((image.shape[0], image.shape[1]))
    if predictor.network.fusion is None:
        probabilities = predictor.probabilities(image, EvaluationRecipe(scales=(scale,)))
        highest = probabilities.max(0)
        learned = _prediction(highest.indices, highest.values)
    else:
        encoded = predictor.encode(image, scale)
        learned = _from_logits(predictor.decode(encoded))
        if encoded.gates is not None and min(encoded.input_size) >= 2 * _MIN_PREVIEW_SIDE:
            preview = predictor.encode(image, scale / 2)
            learned_preview = _from_logits(predictor.decode(preview))
    rings = boundary_rings(learned.labels)
    return Session(predictor, displayable(image), encoded, preview, learned, learned_preview, rings)


def reduce_image(image: Num[np.ndarray, "h w c"], max_side: int) -> Num[np.ndarray, "_h _w c"]:
    """Downscale an image whose longer side has more than `max_side` pixels to that."""
    height, width = image.shape[:2]
    factor = max_side / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(image, -1, 0)]
    reduced = [np.asarray(channel.resize(size, Resampling.LANCZOS)) for channel in channels]
    clipped: np.ndarray = np.clip(np.stack(reduced, axis=-1), 0, 255)  # floats overshoot
    return clipped


@torch.inference_mode()
def _from_logits(logits: Float[Tensor, "1 k h w"]) -> Prediction:
    """The labels are the largest logits, as in `Predictor.predict`; their probability is 1 / Σ_k exp(z_k - max z)."""
    highest = logits[0].max(0)
    total = (logits[0].float() - highest.values.float()).exp_().sum(0)
    return _prediction(highest.indices, 1 / total)


def _prediction(labels: Tensor, probability: Tensor) -> Prediction:
    percent = (100 * probability).round().clamp(0, 100)
    return Prediction(labels.to(torch.uint8).cpu().numpy(), percent.to(torch.uint8).cpu().numpy())


def _shares(mask: Bool[np.ndarray, "h w"], groups: Integer[np.ndarray, "h w"]) -> dict[int, float]:
    """The fraction of `mask` within each group that occurs."""
    pixels = np.bincount(groups.ravel())
    inside = np.bincount(groups[mask], minlength=len(pixels))
    return {int(group): float(inside[group] / pixels[group]) for group in np.flatnonzero(pixels)}


class SessionExpired(Exception):
    """The session of a key is no longer in the cache."""


class SessionCache:
    """The most recently used sessions by secret keys: at most `max_sessions`, each for `seconds` after its last use."""

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        seconds: float = EXPIRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._seconds = seconds
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[float, Session]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: Session) -> str:
        """Add a session and return its key."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._sessions[key] = (self._clock(), session)
            self._expire()
        return key

    def get(self, key: str) -> Session:
        """Return the session of a key.

        Raises:
            SessionExpired: there is none, or no longer.
        """
        with self._lock:
            self._expire()
            if key not in self._sessions:
                raise SessionExpired
            session = self._sessions.pop(key)[1]
            self._sessions[key] = (self._clock(), session)  # the last one is the most recently used
            return session

    def drop(self, key: str | None) -> None:
        """Remove a session if it is in the cache."""
        with self._lock:
            if key is not None:
                self._sessions.pop(key, None)

    def _expire(self) -> None:
        latest = self._clock() - self._seconds
        while self._sessions and (
            len(self._sessions) > self._max_sessions or next(iter(self._sessions.values()))[0] < latest
        ):
            self._sessions.popitem(last=False)
