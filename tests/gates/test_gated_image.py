import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gffnet.errors import UserError
from gffnet.gates.edit import Closing, GatedImage, GateResult, became, gate_count, gate_map
from gffnet.recipe import EvaluationRecipe, load_recipe
from tests.gates import networks


@pytest.fixture(scope="module")
def predictor():
    return networks.predictor()


@pytest.fixture(scope="module")
def image():
    return networks.image(7)


def test_maps_are_the_gates_resized_bilinearly(predictor, image):
    gates = predictor.encode(image).gates
    result = GatedImage(predictor, image).learned
    assert len(result.maps) == 4
    for gate, found in zip(gates, result.maps, strict=True):
        expected = F.interpolate(gate, size=image.shape[:2], mode="bilinear", align_corners=False)[0, 0].numpy()
        assert found.dtype == np.float32
        assert found.std() > 0.01, "a map without structure would test nothing"
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_prediction_is_that_of_the_whole_network(predictor, image):
    result = GatedImage(predictor, image).learned
    assert result.prediction.dtype == np.uint8
    assert len(np.unique(result.prediction)) > 1
    assert (result.prediction == predictor.predict(image)).mean() > 0.999


def test_an_image_much_larger_than_those_of_training_is_seen_as_predict_sees_it(image):
    predictor = networks.predictor()
    height, width = image.shape[:2]
    predictor.config = dataclasses.replace(predictor.config, learned_from=(height // 4, width // 4))
    result = GatedImage(predictor, image).learned
    assert result.prediction.shape == result.maps[0].shape == (height, width)
    assert (result.prediction == predictor.predict(image)).mean() > 0.98
    assert (result.prediction == predictor.predict(image, EvaluationRecipe())).mean() < 0.98
    whole = GatedImage(predictor, image, scale=1.0)
    assert whole.input_size == (height, width)
    assert (whole.learned.prediction == predictor.predict(image, EvaluationRecipe())).mean() > 0.999
    assert GatedImage(predictor, image).input_size == (23, 34)  # 1.5 times (15, 23), nearly
    assert np.array_equal(
        GatedImage(predictor, image, scale=0.365).close([1]).prediction,
        GatedImage(predictor, image).close([1]).prediction,
    )


def test_a_gate_a_channel_is_shown_as_the_mean_over_channels(image):
    predictor = networks.predictor(gate_channels="each")
    gates = predictor.encode(image).gates
    assert gates[0].shape[1] == 32
    expected = F.interpolate(gates[0].mean(1, keepdim=True), size=image.shape[:2], mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(GatedImage(predictor, image).learned.maps[0], expected, rtol=0, atol=1e-6)


def test_gates_in_bfloat16_are_shown_in_float32():
    gate = torch.rand(1, 1, 3, 4, dtype=torch.bfloat16)
    found = gate_map(gate, (6, 8))
    np.testing.assert_allclose(found, F.interpolate(gate.float(), size=(6, 8), mode="bilinear")[0, 0].numpy())
    assert found.dtype == np.float32


def test_gated_fpn_has_a_gate_for_the_context_map(image):
    gated = GatedImage(networks.predictor("camvid/pspnet_r18_gated_fpn"), image)
    assert len(gated.learned.maps) == 5
    assert gated.close([5]).levels == (5,)


def test_closing_no_gate_changes_nothing(predictor, image):
    closing = GatedImage(predictor, image).close([])
    assert np.array_equal(closing.prediction, GatedImage(predictor, image).learned.prediction)
    assert not closing.changed.any()
    assert closing.share == 0
    encoded = predictor.encode(image)
    assert torch.equal(predictor.decode(encoded, list(encoded.gates)), predictor.decode(encoded))


@pytest.mark.parametrize("levels", [[1], [4], [2, 3], [1, 2, 3, 4]])
def test_closing_is_a_forward_pass_with_gates_that_answer_zero(predictor, image, levels):
    forced = copy.deepcopy(predictor.network)
    with torch.no_grad():
        for level in levels:
            forced.fusion.gate_convs[level - 1].weight.zero_()
            forced.fusion.gate_convs[level - 1].bias.fill_(-1e4)
        logits, gates = forced(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert all(not gates[level - 1].any() for level in levels)

    encoded = predictor.encode(image)
    edited = [torch.zeros_like(g) if i in levels else g for i, g in enumerate(encoded.gates, start=1)]
    found = predictor.decode(encoded, edited)
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, predictor.decode(encoded), atol=1e-2), "closing must do something"

    closing = GatedImage(predictor, image).close(levels)
    assert closing.levels == tuple(levels)
    assert np.array_equal(closing.prediction, found[0].argmax(0).numpy())
    assert np.array_equal(closing.changed, closing.prediction != GatedImage(predictor, image).learned.prediction)


def test_one_opens_a_gate(predictor, image):
    encoded = predictor.encode(image)
    edited = [torch.ones_like(encoded.gates[0]), *encoded.gates[1:]]
    expected = predictor.decode(encoded, edited)[0].argmax(0).numpy()
    assert np.array_equal(GatedImage(predictor, image).close([1], value=1.0).prediction, expected)


def test_an_image_is_encoded_once(predictor, image, monkeypatch):
    calls = []
    encode = predictor.encode
    monkeypatch.setattr(predictor, "encode", lambda *seen: calls.append(1) or encode(*seen))
    gated = GatedImage(predictor, image)
    shares = [gated.close([level]).share for level in range(1, 5)]
    assert len(calls) == 1
    assert shares == [GatedImage(predictor, image).close([level]).share for level in range(1, 5)]


@pytest.mark.parametrize("level", [0, 5, -1])
def test_a_level_that_does_not_exist(predictor, image, level):
    with pytest.raises(UserError, match=rf"gate level {level} does not exist.*levels 1, 2, 3, 4"):
        GatedImage(predictor, image).close([1, level])


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_value_that_no_gate_has(predictor, image, value):
    with pytest.raises(UserError, match=r"outside 0\.\.1"):
        GatedImage(predictor, image).close([1], value)


@pytest.mark.parametrize("recipe", ["camvid/pspnet_r18", "camvid/pspnet_r18_addition"])
def test_a_model_without_gates(recipe, image):
    predictor = networks.predictor(recipe, backbone=load_recipe(recipe).model.backbone)
    fusion = predictor.config.model.fusion
    with pytest.raises(UserError, match=rf"model '{recipe}' has no gates: its fusion is '{fusion}'") as caught:
        GatedImage(predictor, image)
    gated = ("gffnet_r18", "gffnet_r18_literal", "pspnet_r18_gated_fpn", "pspnet_r18_gff")
    assert str(caught.value).endswith(f"recipes that have them: {', '.join(f'camvid/{name}' for name in gated)}.")


def test_how_many_gates_there_are(predictor):
    assert gate_count(predictor) == 4


def test_what_becomes_of_pixels():
    """Class before, class after, and the label, of every pixel of a row."""
    before, after, truth = (
        np.array([row], np.uint8) for row in ([0, 0, 0, 1, 1, 2], [0, 1, 1, 0, 2, 0], [0, 0, 1, 0, 0, 255])
    )
    of = became(GateResult((), before), Closing((1,), after, before != after), truth)
    assert of.wrong.tolist() == [[False, True, False, False, False, False]]
    assert of.right.tolist() == [[False, False, True, True, False, False]]
