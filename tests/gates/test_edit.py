from types import SimpleNamespace

import pytest
import torch

from gffnet.errors import UserError
from gffnet.gates.edit import MAX_SCALE, GateEdit, edit_gates, gate_count
from gffnet.models.fusion import Addition, Fusion

GATES = [torch.rand(1, 1, 4, 5), torch.rand(1, 1, 2, 3), torch.rand(1, 3, 2, 3)]


def test_no_edit_gives_the_gates_themselves():
    for edits in ({}, {1: GateEdit(), 3: GateEdit(scale=1.0)}):
        assert all(a is b for a, b in zip(edit_gates(GATES, edits), GATES, strict=True))


def test_a_value_holds_everywhere_and_comes_before_a_scale():
    kept = [gate.clone() for gate in GATES]
    edited = edit_gates(GATES, {2: GateEdit(value=0.25), 3: GateEdit(scale=2, value=1)})
    assert edited[0] is GATES[0]
    assert torch.equal(edited[1], torch.full((1, 1, 2, 3), 0.25))
    assert torch.equal(edited[2], torch.ones(1, 3, 2, 3))
    assert all(torch.equal(a, b) for a, b in zip(GATES, kept, strict=True))


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, MAX_SCALE])
def test_a_scaled_gate_stays_a_gate(scale):
    edited = edit_gates(GATES, {1: GateEdit(scale=scale)})[0]
    for before, after in zip(GATES[0].flatten().tolist(), edited.flatten().tolist(), strict=True):
        assert after == pytest.approx(min(1.0, scale * before))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({0: GateEdit()}, "gate level 0 does not exist.*levels 1, 2, 3; 1 is the finest"),
        ({4: GateEdit()}, "gate level 4 does not exist"),
        ({1: GateEdit(value=-0.1)}, r"gate value -0.1 of level 1 is outside 0\.\.1"),
        ({2: GateEdit(value=1.5)}, r"gate value 1.5 of level 2 is outside 0\.\.1"),
        ({2: GateEdit(value=float("nan"))}, r"gate value nan of level 2 is outside 0\.\.1"),
        ({2: GateEdit(scale=-1)}, r"gate scale -1 of level 2 is outside 0\.\.4"),
        ({2: GateEdit(scale=float("nan"))}, "gate scale nan of level 2"),
        ({2: GateEdit(scale=5)}, "gate scale 5 of level 2"),
    ],
)
def test_what_no_gate_can_be(edits, message):
    with pytest.raises(UserError, match=message):
        edit_gates(GATES, edits)


@pytest.mark.parametrize(
    ("edit", "changes"),
    [(GateEdit(), False), (GateEdit(scale=0.5), True), (GateEdit(value=0.0), True), (GateEdit(1.0, 1.0), True)],
)
def test_whether_an_edit_changes_anything(edit, changes):
    assert edit.changes is changes


def test_a_fusion_with_gates_that_is_no_gated_fusion_has_as_many_as_levels():
    class Own(Fusion):
        def gates(self, maps):
            return [x.mean(1, keepdim=True).sigmoid() for x in maps]

        def mix(self, reduced, gates):
            return [gate * x for gate, x in zip(gates, reduced, strict=True)]

    own = Own((2, 3, 4), 4)
    assert own.has_gates
    assert not Addition((2, 3), 4).has_gates
    assert gate_count(SimpleNamespace(network=SimpleNamespace(fusion=own))) == 3
