"""Edited gates: an image is encoded once and decoded with its gates as learned, closed, opened, held or scaled.

An edited gate replaces the learned one in Eq. (5),

    X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i

so the result is what the network would compute if its gate convolutions returned the edited gates. Where G_l is open
(1), level l sends its map to the others; where it is closed (0), it receives theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from gffnet.errors import UserError
from gffnet.inference.predictor import ImageLike, Predictor
from gffnet.inference.sliding_window import most_probable
from gffnet.models.fusion import FUSIONS, GatedFusion
from gffnet.models.layers import Gates
from gffnet.models.ops import resize
from gffnet.recipe import load_recipe, recipe_names

MAX_SCALE = 4.0
"""Largest factor that a gate is scaled by."""


class GateEdit(NamedTuple):
    """An edit of one gate map: `min(scale · G, 1)`, or `value` everywhere."""

    scale: float = 1.0
    """In 0..`MAX_SCALE`; 1 leaves the gate as it is, bit for bit."""
    value: float | None = None
    """In 0 (closed) .. 1 (open); None: the scaled gate."""

    @property
    def changes(self) -> bool:
        """Whether the gate is not left as it was learned."""
        return self.value is not None or self.scale != 1.0


Edits = Mapping[int, GateEdit]
"""Edits by level, 1 the finest; the other gates stay as learned."""


def edit_gates(gates: Gates, edits: Edits) -> Gates:
    """Return the gates `G_1..G_L` with some of them edited, and leave `gates` alone.

    Raises:
        UserError: there is no such level, scale or value.
    """
    for level, edit in edits.items():
        if not 1 <= level <= len(gates):
            allowed = ", ".join(str(known) for known in range(1, len(gates) + 1))
            raise UserError(f"gate level {level} does not exist. This model has levels {allowed}; 1 is the finest.")
        if edit.value is not None and not 0 <= edit.value <= 1:
            raise UserError(f"gate value {edit.value:g} of level {level} is outside 0..1: 0 closes a gate, 1 opens it.")
        if not 0 <= edit.scale <= MAX_SCALE:
            raise UserError(
                f"gate scale {edit.scale:g} of level {level} is outside 0..{MAX_SCALE:g}: 0 closes a gate, "
                "1 leaves it as it is."
            )
    edited = []
    for level, gate in enumerate(gates, start=1):
        edit = edits.get(level, GateEdit())
        if edit.value is not None:
            gate = torch.full_like(gate, edit.value)
        elif edit.changes:
            gate = (gate * edit.scale).clamp(max=1)
        edited.append(gate)
    return edited


@dataclass(frozen=True, eq=False)
class GateResult:
    """The learned gates of an image, and the prediction with them."""

    maps: tuple[Float32[np.ndarray, "h w"], ...]
    """`G_1..G_L` in [0, 1], finest first, at the size of the image; the mean over channels where each has its own."""
    prediction: UInt8[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class Closing:
    """The prediction with some gates edited."""

    levels: tuple[int, ...]
    """The levels whose gates were edited, 1 the finest."""
    prediction: UInt8[np.ndarray, "h w"]
    changed: Bool[np.ndarray, "h w"]
    """Where the prediction differs from the one with the learned gates."""

    @property
    def share(self) -> float:
        """Share of changed pixels."""
        return float(self.changed.mean())


class Became(NamedTuple):
    """Pixels with a label whose prediction an edit of gates made wrong or right."""

    wrong: Bool[np.ndarray, "h w"]
    """Right with the learned gates, and no longer (the paper's Figure 7b)."""
    right: Bool[np.ndarray, "h w"]
    """Wrong with the learned gates, and no longer."""


def became(learned: GateResult, closing: Closing, truth: UInt8[np.ndarray, "h w"]) -> Became:
    """Find the pixels that became wrong and those that became right; ignored ones, of label 255, are neither."""
    return Became(closing.changed & (learned.prediction == truth), closing.changed & (closing.prediction == truth))


class GatedImage:
    """An image that was encoded once, to be decoded with its gates as learned or edited.

    It is predicted whole, as one window, so that every level has one gate map.
    """

    def __init__(self, predictor: Predictor, image: ImageLike, scale: float | None = None) -> None:
        """Encode `image` at `scale` (None: as `predict` does). All results have the size of the image.

        Raises:
            UserError: the model's fusion has no gates.
        """
        gate_count(predictor)
        self._predictor, self._encoded = predictor, predictor.encode(image, scale)
        assert self._encoded.gates is not None
        self._gates: Gates = self._encoded.gates
        self.learned = GateResult(
            maps=tuple(gate_map(gate, self._encoded.size) for gate in self._gates),
            prediction=self._predict(self._gates),
        )

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width at which the backbone was given the image."""
        return self._encoded.input_size

    def close(self, levels: Sequence[int], value: float = 0.0) -> Closing:
        """Decode with the gates of `levels` at `value`. Raises as `edit`."""
        return self.edit({level: GateEdit(value=value) for level in levels})

    def edit(self, edits: Edits) -> Closing:
        """Decode with edited gates.

        Raises:
            UserError: there is no such level, scale or value.
        """
        prediction = self._predict(edit_gates(self._gates, edits))
        return Closing(tuple(sorted(edits)), prediction, prediction != self.learned.prediction)

    def _predict(self, gates: Gates) -> UInt8[np.ndarray, "h w"]:
        logits = self._predictor.decode(self._encoded, gates)
        labels: np.ndarray = most_probable(logits[0]).cpu().numpy()
        return labels


def gate_map(gate: Tensor, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Resize a gate (1, 1 or C, h, w) to a map of `size`, bilinearly, after the mean over its channels."""
    resized = resize(gate.float().mean(1, keepdim=True), size)
    result: np.ndarray = resized[0, 0].clamp(0, 1).cpu().numpy()
    return result


def gate_count(predictor: Predictor) -> int:
    """Return the number of gates of the model, one for each level.

    Raises:
        UserError: its fusion has none.
    """
    fusion = predictor.network.fusion
    if fusion is not None and fusion.has_gates:
        return len(fusion.in_channels)
    config = predictor.config
    gated = [name for name in FUSIONS if issubclass(FUSIONS[name], GatedFusion)]
    recipes = {name: recipe.model for name in recipe_names() if (recipe := load_recipe(name)).model.fusion in gated}
    of_dataset = [name for name in recipes if name.rpartition("/")[0] == config.dataset] or [*recipes]
    backbone = config.model.backbone.name
    related = [name for name in of_dataset if recipes[name].backbone.name == backbone] or of_dataset
    raise UserError(
        f"model {config.recipe!r} has no gates: its fusion is {config.model.fusion!r}. "
        f"Fusions with gates are {' and '.join(gated)}; recipes that have them: {', '.join(related)}."
    )
