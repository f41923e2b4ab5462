"""Edited gates in every window against networks that have such gates by themselves."""

import numpy as np
import pytest
import torch

from gffnet.errors import UserError
from gffnet.gates.ablation import predict_edited
from gffnet.gates.edit import GateEdit
from gffnet.inference.tiling import tile_memory
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.analysis import closing

IMAGE = tiny.picture(7, *closing.SIZE)
WHOLE = EvaluationRecipe()
PADDED = EvaluationRecipe(crop=(48, 48))


@pytest.mark.parametrize(("protocol", "batch"), [(WHOLE, 1), (PADDED, 1), (closing.WINDOWS, 3)])
def test_closed_gates_are_those_of_a_network_that_answers_zero(protocol: EvaluationRecipe, batch: int) -> None:
    """Bit for bit, and so are the learned ones, before and after."""
    network = closing.network()
    levels = [(), (1,), (2, 4), ()]
    edits = [{level: GateEdit(value=0.0) for level in some} for some in levels]
    maps = list(predict_edited(closing.predictor(network, batch=batch), IMAGE, protocol, edits))
    for some, found in zip(levels, maps, strict=True):
        other = closing.predictor(closing.forced(network, dict.fromkeys(some, -1e4)), batch=batch)
        assert np.array_equal(found, other.predict(IMAGE, protocol))
    assert np.array_equal(maps[0], maps[3])
    assert len({found.tobytes() for found in maps}) == 3, "closing must do something"


def test_a_gate_at_a_constant() -> None:
    network = closing.network()
    value = float(torch.sigmoid(torch.tensor(0.7)))
    edits = [{3: GateEdit(value=value)}]
    (found,) = predict_edited(closing.predictor(network), IMAGE, closing.WINDOWS, edits)
    expected = closing.predictor(closing.forced(network, {3: 0.7})).predict(IMAGE, closing.WINDOWS)
    assert np.array_equal(found, expected)


def test_five_gates_of_a_gated_fpn() -> None:
    network = closing.network("gated_fpn")
    edits = [{level: GateEdit(value=0.0)} for level in range(1, 6)]
    maps = predict_edited(closing.predictor(network, "gated_fpn"), IMAGE, WHOLE, edits)
    for level, found in enumerate(maps, start=1):
        other = closing.predictor(closing.forced(network, {level: -1e4}), "gated_fpn")
        assert np.array_equal(found, other.predict(IMAGE, WHOLE)), level


def test_the_backbone_runs_once_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, seen = closing.predictor(closing.network()), []
    features = predictor.network.features
    monkeypatch.setattr(predictor.network, "features", lambda x: seen.append(len(x)) or features(x))
    predictor.predict(IMAGE, closing.WINDOWS)
    windows = len(seen)
    assert windows > 4
    list(predict_edited(predictor, IMAGE, closing.WINDOWS, [{}, {1: GateEdit(value=0.0)}, {}]))
    assert len(seen) == 2 * windows


def test_with_little_memory_windows_are_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is predicted in several blocks gives the same maps as one that is not."""
    network, protocol = closing.network(), EvaluationRecipe(crop=(16, 48), overlap=0.0)
    free, tight = closing.predictor(network), closing.predictor(network)
    image, size = tiny.picture(8, 96, 48), (96, 48)
    tight.memory = 16 * 96 * 48 + tile_memory(size, (48, 48), 11, protocol)
    monkeypatch.setattr(tight, "_reserved", lambda protocol: 0)
    assert len(tight.window(protocol, size).layout(tight.tensor(image)).rows) == 2
    edits = [{}, {2: GateEdit(value=1.0)}]
    for one, other in zip(*(predict_edited(p, image, protocol, edits) for p in (free, tight)), strict=True):
        assert (one == other).mean() > 0.999


def test_levels_and_models_without_them() -> None:
    with pytest.raises(UserError, match="gate level 5 does not exist"):
        list(predict_edited(closing.predictor(closing.network()), IMAGE, WHOLE, [{5: GateEdit(value=0.0)}]))
    with pytest.raises(UserError, match="has no gates: its fusion is 'none'"):
        list(predict_edited(tiny.predictor(), IMAGE, WHOLE, [{}]))
