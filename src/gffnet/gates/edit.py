"""Gates as one wants them: closed, opened, held at a value, or stronger and weaker than the network learned them.

An edited gate goes where the learned one went, into Eq. (5):

    X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i

so whatever is computed with edited gates is what the network would compute if its gate convolutions gave them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from gffnet.errors import UserError
from gffnet.inference.predictor import Predictor
from gffnet.models.fusion import FUSIONS, GatedFusion
from gffnet.models.layers import Encoded, Gates
from gffnet.models.ops import resize
from gffnet.recipe import load_recipe, recipe_names

MOST_SCALE = 4.0
"""Gates are made stronger by this factor at most."""


class GateEdit(NamedTuple):
    """What becomes of one gate map: `min(scale · G, 1)`, or `value` everywhere."""

    scale: float = 1.0
    """From 0 to `MOST_SCALE`; 1 leaves the gate as it is, bit for bit."""
    value: float | None = None
    """From 0, closed, to 1, open; None: the scaled gate."""

    @property
    def changes(self) -> bool:
        """Whether the gate is not left as it was learned."""
        return self.value is not None or self.scale != 1.0


Edits = Mapping[int, GateEdit]
"""What becomes of the gates, by level, 1 the finest; of those that are not named: they stay as they were learned."""


def edit_gates(gates: Gates, edits: Edits) -> Gates:
    """The gates `G_1..G_L` with those of some levels (1 the finest) edited; `gates` itself is left alone.

    Raises:
        UserError: there is no such level, scale or value.
    """
    check_levels(list(edits), len(gates))
    for level, edit in edits.items():
        if edit.value is not None and not 0 <= edit.value <= 1:
            raise UserError(f"gate value {edit.value:g} of level {level} is outside 0..1: 0 closes a gate, 1 opens it.")
        if not 0 <= edit.scale <= MOST_SCALE:
            raise UserError(
                f"gate scale {edit.scale:g} of level {level} is outside 0..{MOST_SCALE:g}: 0 closes a gate, "
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


def check_levels(levels: list[int], count: int) -> None:
    """Whether `levels` are among 1..`count`.

    Raises:
        UserError: one is not.
    """
    for level in levels:
        if not 1 <= level <= count:
            allowed = ", ".join(str(known) for known in range(1, count + 1))
            raise UserError(f"gate level {level} does not exist. This model has levels {allowed}; 1 is the finest.")


# An image whose gates can be looked at and closed, encoded once.
#
#     X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i            Eq. (5)
#
# Where gate `G_l` is open (1) level `l` sends its map to the others, where it is closed (0) it receives theirs. Closing
# a gate means to fuse again with `G_l` at zero everywhere. Images are taken whole, at one scale, so that there is one
# gate map a level; sliding windows and multi-scale averages have many.


@dataclass(frozen=True, eq=False)
class GateResult:
    """The learned gates of an image, and what the network sees with them."""

    maps: tuple[Float32[np.ndarray, "h w"], ...]
    """`G_1..G_L` in [0, 1], finest first, at the size of the image; the mean over channels where each has its own."""
    prediction: UInt8[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class Closing:
    """What the network sees with some gates edited."""

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
    """What an edit of gates did to pixels whose class is known."""

    wrong: Bool[np.ndarray, "h w"]
    """Right with the learned gates, and no longer (the paper's Figure 7b)."""
    right: Bool[np.ndarray, "h w"]
    """Wrong with the learned gates, and no longer."""


def became(learned: GateResult, closing: Closing, truth: UInt8[np.ndarray, "h w"]) -> Became:
    """Which pixels became wrong and which right; ignored ones, of label 255, neither."""
    return Became(closing.changed & (learned.prediction == truth), closing.changed & (closing.prediction == truth))


class GatedImage:
    """An image that went through the backbone once, to be fused with its gates as learned or as edited."""

    def __init__(self, predictor: Predictor, image: UInt8[np.ndarray, "h w c"], scale: float | None = None) -> None:
        """Encode `image`, seen at `scale` (None: as `predict` sees it); all that is answered has its own size.

        Raises:
            UserError: the model's fusion has no gates.
        """
        self._predictor = predictor
        self._encoded, self._gates = _encode(predictor, image, scale)
        self.learned = GateResult(
            maps=tuple(gate_map(gate, self._encoded.size) for gate in self._gates),
            prediction=self._predict(self._gates),
        )

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width that the backbone saw the image at."""
        return self._encoded.input_size

    def close(self, levels: Sequence[int], value: float = 0.0) -> Closing:
        """Fuse with the gates of `levels` at `value`. Raises as `edit`."""
        return self.edit({level: GateEdit(value=value) for level in levels})

    def edit(self, edits: Edits) -> Closing:
        """Fuse with edited gates.

        Raises:
            UserError: there is no such level, scale or value.
        """
        prediction = self._predict(edit_gates(self._gates, edits))
        return Closing(tuple(sorted(edits)), prediction, prediction != self.learned.prediction)

    def _predict(self, gates: Gates) -> UInt8[np.ndarray, "h w"]:
        logits = self._predictor.decode(self._encoded, gates)
        labels: np.ndarray = logits[0].max(0).indices.to(torch.uint8).cpu().numpy()
        return labels


def gate_map(gate: Tensor, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """A gate `(1, 1 or C, h, w)` as a map of `size`: the mean over channels, resized bilinearly."""
    resized = resize(gate.float().mean(1, keepdim=True), size)
    result: np.ndarray = resized[0, 0].clamp(0, 1).cpu().numpy()
    return result


def gate_count(predictor: Predictor) -> int:
    """How many gates the model has: one a level.

    Raises:
        UserError: its fusion has none.
    """
    fusion = predictor.network.fusion
    if isinstance(fusion, GatedFusion):
        return len(fusion.gate_convs)
    config = predictor.config
    gated = [name for name in FUSIONS if issubclass(FUSIONS[name], GatedFusion)]
    recipes = [name for name in recipe_names() if load_recipe(name).model.fusion in gated]
    related = [name for name in recipes if name.rpartition("/")[0] == config.dataset] or recipes
    raise UserError(
        f"model {config.recipe!r} has no gates: its fusion is {config.model.fusion!r}. "
        f"Fusions with gates are {' and '.join(gated)}; recipes that have them: {', '.join(related)}."
    )


def _encode(predictor: Predictor, image: np.ndarray, scale: float | None) -> tuple[Encoded, Gates]:
    """The encoded image and its gates."""
    gate_count(predictor)
    encoded = predictor.encode(image, scale)
    assert encoded.gates is not None
    return encoded, encoded.gates
