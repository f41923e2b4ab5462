"""Gates as one wants them: closed, opened, held at a value, or stronger and weaker than the network learned them.

An edited gate goes where the learned one went, into Eq. (5):

    X̃_l = (1 + G_l) · X_l + (1 - G_l) · Σ_{i≠l} G_i · X_i

so whatever is computed with edited gates is what the network would compute if its gate convolutions gave them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from gffnet.errors import UserError
from gffnet.types import Gates

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
