"""The windows of an image, encoded once and decoded with as many sets of gates as one likes.

    logits = head(pyramid(y_0, fuse(reduced, edited gates))),      reduced, gates, y_0 = encode(window)

A sliding window asks for the same windows in the same order, whatever becomes of the gates. So the first pass over an
image keeps what it encodes, and the passes after it take that up one by one: the backbone runs once an image, by any
protocol. Learned gates, decoded so, give what the network itself gives, bit for bit: it is the same computation.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from gffnet.analysis.gate_edits import Edits, edit_gates
from gffnet.analysis.gated_image import gate_count
from gffnet.inference.predictor import Predictor
from gffnet.models.algebra.resize import size_of
from gffnet.recipe import EvaluationRecipe
from gffnet.types import Encoded


def predict_edited(
    predictor: Predictor, image: UInt8[np.ndarray, "h w c"], protocol: EvaluationRecipe, edits: Sequence[Edits]
) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """The label maps of an image by `protocol`, one for each of the `edits`.

    What the windows of the image are encoded to stays on the device until the last, unless the predictor has a limit
    on memory: then windows are encoded anew for every edit.

    Raises:
        UserError: the model has no gates, or there is no such level or value.
    """
    x = predictor.tensor(image)
    window = predictor.window(protocol, size_of(x))
    windows = _Windows(predictor, keep=predictor.memory is None)
    window.score = windows.score
    for each in edits:
        windows.begin(each)
        yield window.labels(x).cpu().numpy()


class _Windows:
    """Scores windows with edited gates, pass after pass."""

    def __init__(self, predictor: Predictor, keep: bool) -> None:
        """`keep`: what the first pass encodes; otherwise every pass encodes by itself."""
        gate_count(predictor)
        self._predictor, self._keep = predictor, keep
        self._kept: list[Encoded] = []
        self._edits: Edits = {}
        self._next = 0

    def begin(self, edits: Edits) -> None:
        """Begin a pass over all windows."""
        self._edits, self._next = edits, 0

    def score(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """The logits of the next batch of windows."""
        if self._next == len(self._kept):
            encoded = self._predictor.encode_windows(x)
            if self._keep:
                self._kept.append(encoded)
        else:
            encoded = self._kept[self._next]
        self._next += self._keep
        assert encoded.gates is not None
        return self._predictor.decode(encoded, edit_gates(encoded.gates, self._edits))
