"""The predictor: images of every kind in, labels out, by any protocol and in any precision."""

import copy
import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from gffnet.errors import UserError
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor, load
from gffnet.inference.tiling import TiledWindow
from gffnet.models.gffnet import save_model
from gffnet.recipe import EvaluationRecipe
from tests import tiny

FLOAT32 = Precision(torch.float32, "for tests")
CPU = torch.device("cpu")
RGB = tiny.predictor()


@pytest.fixture(scope="module")
def pspnet() -> Predictor:
    return tiny.predictor()


@pytest.fixture(scope="module")
def gffnet() -> Predictor:
    return tiny.predictor(tiny.recipe(tiny.GFFNET))


@torch.no_grad()
def logits(predictor: Predictor, image: np.ndarray) -> torch.Tensor:
    """The network's logits of an image, without the predictor."""
    return predictor.network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]).logits[0]


@pytest.mark.parametrize("size", [(40, 56), (33, 47), (1, 1), (8, 90)])
def test_an_image_becomes_the_classes_of_the_highest_scores(gffnet: Predictor, size: tuple[int, int]) -> None:
    image = tiny.picture(5, *size)
    predicted = gffnet.predict(image)
    assert (predicted.dtype, predicted.shape) == (np.uint8, size)
    probabilities = gffnet.probabilities(image)
    torch.testing.assert_close(probabilities, logits(gffnet, image).softmax(0))
    assert not probabilities.requires_grad
    np.testing.assert_array_equal(predicted, probabilities.argmax(0).numpy())
    assert len(np.unique(predicted)) >= min(3, predicted.size)  # otherwise the tests here would prove little


def test_the_protocol_is_the_models_own_unless_another_is_given() -> None:
    windows = EvaluationRecipe((16, 24), overlap=0.5)
    of = dataclasses.replace(tiny.recipe(), evaluation=windows)
    predictor, image = tiny.predictor(of), tiny.picture(5)
    whole = predictor.probabilities(image, EvaluationRecipe())
    torch.testing.assert_close(whole, logits(predictor, image).softmax(0))
    assert torch.equal(predictor.probabilities(image), predictor.probabilities(image, windows))
    assert (predictor.probabilities(image) - whole).abs().max() > 0.01
    np.testing.assert_array_equal(predictor.predict(image), predictor.probabilities(image).argmax(0).numpy())


def test_an_image_much_larger_than_the_training_images_is_downscaled() -> None:
    predictor, small, large = trained_at((30, 30)), tiny.picture(5, 40, 40), tiny.picture(5, 120, 120)
    whole, seen = EvaluationRecipe(), EvaluationRecipe(scales=(0.375,))  # 1.5 / 4
    assert torch.equal(predictor.probabilities(small), predictor.probabilities(small, whole))
    assert torch.equal(predictor.probabilities(large), predictor.probabilities(large, seen))
    assert (predictor.probabilities(large) - predictor.probabilities(large, whole)).abs().max() > 0.01
    np.testing.assert_array_equal(predictor.predict(large), predictor.predict(large, seen))


def test_the_given_network_is_not_modified() -> None:
    network = tiny.network(tiny.recipe()).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    predictor = Predictor(network, tiny.config(tiny.recipe()), CPU, Precision(torch.bfloat16, "for tests"))
    predictor.predict(tiny.picture(0))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    nn.init.zeros_(network.head.classifier.weight)
    assert predictor.network.head.classifier.weight.abs().sum() > 0


@pytest.mark.parametrize("model", [tiny.PSPNET, tiny.GFFNET], ids=["pspnet", "gffnet"])
def test_bfloat16_agrees_with_float32(model: dict) -> None:
    exact, rough = (tiny.predictor(tiny.recipe(model), dtype) for dtype in (torch.float32, torch.bfloat16))
    images = [tiny.picture(seed, 64, 96) for seed in range(4)]
    agreement = np.mean([exact.predict(image) == rough.predict(image) for image in images])
    assert agreement > 0.95
    assert rough.probabilities(images[0]).dtype == torch.float32
    difference = torch.stack([(exact.probabilities(i) - rough.probabilities(i)).abs().mean() for i in images]).mean()
    assert 0 < difference < 0.01


# Several images


def test_lists_of_images_of_any_kind_and_size(gffnet: Predictor, tmp_path: Path) -> None:
    pictures = [tiny.picture(seed, 30 + seed, 50 - seed) for seed in range(4)]
    path = tmp_path / "picture.png"
    Image.fromarray(pictures[0]).save(path)
    forms = [path, Image.fromarray(pictures[1]), pictures[2], torch.from_numpy(pictures[3]).permute(2, 0, 1)]
    for found, picture in zip(gffnet.predict(forms), pictures, strict=True):
        np.testing.assert_array_equal(found, gffnet.predict(picture))
    assert gffnet.predict([]) == []


def test_images_of_one_size_are_predicted_together(gffnet: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, passes = copy.copy(gffnet), list[tuple[int, ...]]()
    predictor.batch = 3
    score = predictor.score
    monkeypatch.setattr(predictor, "score", lambda x: passes.append(tuple(x.shape)) or score(x))
    large, small = (tiny.picture(0, *size) for size in ((48, 64), (40, 56)))
    pictures = [*map(np.ascontiguousarray, (large, small, large[::-1], small[::-1], large[:, ::-1], large))]
    found = predictor.predict(pictures)
    assert passes == [(3, 3, 48, 64), (2, 3, 40, 56), (1, 3, 48, 64)]
    for labels, picture in zip(found, pictures, strict=True):
        assert labels.shape == picture.shape[:2]
        assert (labels == gffnet.predict(picture)).mean() > 0.999
    assert predictor.images_at_once((20_000, 20_000)) == 1


def test_a_batch_in_one_array_or_tensor(gffnet: Predictor) -> None:
    pictures = np.stack([tiny.picture(seed) for seed in range(3)])
    expected = np.stack(gffnet.predict(list(pictures)))
    assert expected.shape == (3, 40, 56)
    for batch in (pictures, torch.from_numpy(pictures).permute(0, 3, 1, 2)):
        np.testing.assert_array_equal(gffnet.predict(batch), expected)
        for ask in (gffnet.probabilities, gffnet.logits):
            assert torch.equal(ask(batch), torch.stack([ask(picture) for picture in pictures]))


def test_probabilities_and_logits_of_a_list(gffnet: Predictor) -> None:
    pictures = [tiny.picture(seed, 30 + seed, 50 - seed) for seed in range(2)]
    for ask in (gffnet.probabilities, gffnet.logits):
        found = ask(pictures)
        assert isinstance(found, list)
        for one, picture in zip(found, pictures, strict=True):
            assert torch.equal(one, ask(picture))


def test_an_empty_batch_is_refused(gffnet: Predictor) -> None:
    with pytest.raises(UserError, match=r"an image is \(0, 3, 8, 8\)"):
        gffnet.predict(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))


# Logits


def test_logits_of_one_window_are_the_networks_own(gffnet: Predictor) -> None:
    image = tiny.picture(5)
    found = gffnet.logits(image)
    torch.testing.assert_close(found, logits(gffnet, image))
    assert not found.requires_grad
    padded = gffnet.logits(image, crop=(64, 64))  # the crop is larger than the image
    torch.testing.assert_close(padded.softmax(0), gffnet.probabilities(image, crop=(64, 64)))
    assert (padded.logsumexp(0).abs() > 0.1).any()  # logarithms of probabilities would have 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"flip": True}, {"scales": 0.5}, {"scales": (1.0, 1.5)}, {"crop": 32}, {"crop": (64, 64)}, {"crop": (64, 32)}],
)
def test_the_softmax_of_logits_is_the_probabilities(gffnet: Predictor, changes: dict[str, Any]) -> None:
    image = tiny.picture(5)
    expected = gffnet.probabilities(image, **changes)
    torch.testing.assert_close(gffnet.logits(image, **changes).softmax(0), expected, rtol=0, atol=1e-6)


def test_logits_of_a_downscaled_image_and_in_half_precision() -> None:
    predictor, large = trained_at((30, 30)), tiny.picture(5, 120, 120)
    torch.testing.assert_close(predictor.logits(large).softmax(0), predictor.probabilities(large), rtol=0, atol=1e-6)
    half = tiny.predictor(dtype=torch.bfloat16)
    assert half.logits(tiny.picture(5)).dtype == torch.float32


# Changes of the protocol


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({"flip": True}, EvaluationRecipe((16, 24), 0.5, flip=True)),
        ({"scales": (0.75, 1)}, EvaluationRecipe((16, 24), 0.5, (0.75, 1.0))),
        ({"scales": [0.5]}, EvaluationRecipe((16, 24), 0.5, (0.5,))),
        pytest.param({"scales": 2}, EvaluationRecipe((16, 24), 0.5, (2.0,)), marks=pytest.mark.slow),
        ({"crop": (32, 16), "overlap": 0.25}, EvaluationRecipe((32, 16), 0.25)),
        ({"crop": 32}, EvaluationRecipe((32, 32), 0.5)),
        (
            {"crop": np.int64(32), "scales": np.array([0.5]), "flip": np.True_},
            EvaluationRecipe((32, 32), 0.5, (0.5,), True),
        ),
        ({"crop": (np.int64(32), 16), "scales": np.float32(0.5)}, EvaluationRecipe((32, 16), 0.5, (0.5,))),
        ({"crop": "none"}, EvaluationRecipe(None, 0.5)),
        ({"crop": None, "flip": None}, EvaluationRecipe((16, 24), 0.5)),
    ],
)
def test_keywords_change_the_protocol_of_one_call(changes: dict[str, Any], protocol: EvaluationRecipe) -> None:
    of = dataclasses.replace(tiny.recipe(), evaluation=EvaluationRecipe((16, 24), overlap=0.5))
    predictor, image = tiny.predictor(of), tiny.picture(5)
    expected = predictor.probabilities(image, protocol)
    assert torch.equal(predictor.probabilities(image, **changes), expected)
    assert torch.equal(predictor.probabilities(image, {k: v for k, v in changes.items() if v is not None}), expected)
    np.testing.assert_array_equal(predictor.predict(image, **changes), expected.argmax(0).numpy())
    given = predictor.probabilities(image, EvaluationRecipe(overlap=0.5), flip=True)
    assert torch.equal(given, predictor.probabilities(image, EvaluationRecipe(overlap=0.5, flip=True)))


def test_large_images_are_downscaled_unless_the_call_gives_scales_or_windows() -> None:
    predictor, large = trained_at((30, 30)), tiny.picture(5, 120, 120)
    for changes, scale in (({"flip": True}, 0.375), ({"scales": 1}, 1.0), ({"crop": 48}, 1.0)):
        protocol = dataclasses.replace(EvaluationRecipe(), flip="flip" in changes, scales=(scale,))
        protocol = dataclasses.replace(protocol, crop=(48, 48) if "crop" in changes else None)
        assert torch.equal(predictor.probabilities(large, **changes), predictor.probabilities(large, protocol))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flipp": True}, "protocol: flipp is unknown"),
        ({"scales": 0}, "protocol: scales"),
        ({"scales": ()}, "protocol: scales"),
        ({"overlap": 1.0}, "protocol: overlap"),
        ({"crop": (0, 4)}, "protocol: crop"),
        ({"crop": "whole"}, "crop 'whole' must be a height and width, the side of a square, or 'none'"),
    ],
)
def test_a_wrong_change_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RGB.predict(tiny.picture(5), changes)
    if changes in ({"scales": 0}, {"overlap": 1.0}, {"crop": (0, 4)}):
        with pytest.raises(UserError, match=message):
            RGB.predict(tiny.picture(5), **changes)


# Pictures and shares


def test_the_overlay_is_image_and_colors(gffnet: Predictor) -> None:
    image, labels = tiny.picture(5), gffnet.predict(tiny.picture(5))
    colors = np.array(gffnet.config.palette, np.uint8)[labels]
    for opacity, expected in ((0.0, image), (1.0, colors), (0.25, np.rint(0.75 * image + 0.25 * colors))):
        found = gffnet.overlay(image, opacity=opacity)
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found), expected)
    assert np.array_equal(gffnet.overlay(image), gffnet.overlay(image, torch.from_numpy(labels).long()))
    unknown = np.full(labels.shape, 255)
    np.testing.assert_array_equal(np.asarray(gffnet.overlay(image, unknown)), image)
    grey = gffnet.overlay(image[:, :, 0], labels, opacity=0)
    np.testing.assert_array_equal(np.asarray(grey), np.stack([image[:, :, 0]] * 3, axis=-1))


@pytest.mark.parametrize(
    ("labels", "opacity", "message"),
    [
        (np.zeros((4, 4), np.uint8), 0.5, r"the labels are \(4, 4\), but the image is \(40, 56\)"),
        (np.zeros((40, 56)), 0.5, "labels are float64"),
        (None, 1.5, "opacity 1.5 must be in 0..1"),
    ],
)
def test_no_overlay(labels: Any, opacity: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RGB.overlay(tiny.picture(5), labels, opacity)


def test_areas_are_shares_of_the_pixels(gffnet: Predictor) -> None:
    names = gffnet.config.classes
    labels = np.array([[0, 0, 1, 255], [0, 10, 10, 3]])
    expected = dict.fromkeys(names, 0.0) | {names[0]: 3 / 8, names[1]: 1 / 8, names[3]: 1 / 8, names[10]: 2 / 8}
    found = gffnet.areas(labels=labels)
    assert found == expected
    assert list(found) == list(names)
    assert gffnet.areas(labels=torch.from_numpy(labels).to(torch.uint8)) == expected
    image = tiny.picture(5)
    assert gffnet.areas(image) == gffnet.areas(labels=gffnet.predict(image))
    assert sum(gffnet.areas(image).values()) == pytest.approx(1)
    for wrong in ({}, {"image": image, "labels": labels}):
        with pytest.raises(UserError, match="either an image or labels"):
            gffnet.areas(**wrong)
    with pytest.raises(UserError, match="labels are float64"):
        gffnet.areas(labels=labels / 2)


# Windows at once, and memory


def test_neither_batch_nor_memory_change_what_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.inference.predictor.peak_memory", lambda device: 10**9)
    protocol = EvaluationRecipe((32, 32), 0.5, (0.75, 1.0), True)
    of = dataclasses.replace(tiny.recipe(), evaluation=protocol)
    network, config, image = tiny.network(of), tiny.config(of), tiny.picture(3, 90, 130)
    expected = Predictor(network, config, CPU, FLOAT32).probabilities(image)
    changed = Predictor(network, config, CPU, FLOAT32, batch=3, memory=10**9 + 800_000)
    window = changed.window()
    assert isinstance(window, TiledWindow)
    assert len(window.layout(changed.tensor(image)).rows) > 1
    torch.testing.assert_close(changed.probabilities(image), expected, rtol=0, atol=1e-5)
    assert (changed.predict(image) == expected.max(0).indices.numpy()).mean() > 0.999


def test_memory_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes without an image, a batch of windows included, and the pixels of the image count."""
    monkeypatch.setattr("gffnet.inference.predictor.peak_memory", lambda device: 10**9)
    protocol = EvaluationRecipe((32, 32))
    of = tiny.recipe()
    predictor = Predictor(tiny.network(of), tiny.config(of), CPU, FLOAT32, memory=10**9 + 16 * 4000 * 4000)
    message = r"a memory of 1256MB is too little for an image of 4000x4000 and 11 classes: give it ([0-9]+)MB or more"
    with pytest.raises(UserError, match=message) as error:
        predictor.predict(np.zeros((4000, 4000, 3), np.uint8), protocol)
    assert 1256 < int(str(error.value).split("give it ")[1].split("MB")[0]) < 1300


def test_memory_of_earlier_images_is_available_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([100, 150, 900, 900, 900, 930])  # before and after a window; an image has come between
    monkeypatch.setattr("gffnet.inference.predictor.peak_memory", lambda device: next(peaks))
    predictor = Predictor(tiny.network(tiny.recipe()), tiny.config(tiny.recipe()), CPU, FLOAT32, memory=10**9)
    reserved = [predictor.window(EvaluationRecipe((side, side))).reserved for side in (32, 32, 48)]
    assert reserved == [150, 150, 180]


def test_normalisation_is_folded(gffnet: Predictor) -> None:
    network = tiny.network(tiny.recipe(tiny.GFFNET))
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in gffnet.network.modules())
    image = tiny.picture(5)
    with torch.no_grad():
        expected = network(torch.from_numpy(image).permute(2, 0, 1)[None]).logits[0].softmax(0)
    torch.testing.assert_close(gffnet.probabilities(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_it_predicts_the_same() -> None:
    of = dataclasses.replace(tiny.recipe(tiny.GFFNET), evaluation=EvaluationRecipe((32, 48), flip=True))
    network, config, image = tiny.network(of), tiny.config(of), tiny.picture(3, 90, 130)
    eager, compiled = (Predictor(network, config, CPU, FLOAT32, compiled=on) for on in (False, True))
    torch.testing.assert_close(compiled.probabilities(image), eager.probabilities(image), rtol=0, atol=1e-4)


# Arrays as other libraries hand them out


def test_views_and_read_only_arrays(pspnet: Predictor) -> None:
    image = tiny.picture(5)
    expected = pspnet.predict(image)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    fixed = image.copy()
    fixed.setflags(write=False)
    larger = np.zeros((50, 60, 3), np.uint8)
    larger[5:45, 2:58] = image
    with warnings.catch_warnings(action="error"):
        for same in (bgr[:, :, ::-1], fixed, larger[5:45, 2:58], np.asfortranarray(image)):
            np.testing.assert_array_equal(pspnet.predict(same), expected)
    np.testing.assert_array_equal(image, tiny.picture(5))  # and left as it was


def one_channel() -> Predictor:
    backbone = {**tiny.PSPNET["backbone"], "in_channels": 1}
    recipe = tiny.recipe({**tiny.PSPNET, "backbone": backbone, "mean": [100.0], "std": [50.0]})
    torch.manual_seed(0)
    return Predictor(tiny.build_network(recipe.model, 11), tiny.config(recipe), CPU, FLOAT32)


def test_a_model_for_one_channel(tmp_path: Path) -> None:
    predictor = one_channel()
    grey = np.ascontiguousarray(tiny.picture(5)[:, :, 0])
    tensor, image = torch.from_numpy(grey), Image.fromarray(grey)
    image.save(tmp_path / "grey.png")
    expected = torch.from_numpy(grey)[None]
    same = [grey, grey[:, :, None], tensor, tensor[None], image, image.convert("RGB"), tmp_path / "grey.png"]
    for form in [*same, np.stack([grey] * 3, axis=-1)]:
        assert torch.equal(predictor.tensor(form), expected)
    probabilities = predictor.probabilities(grey, EvaluationRecipe((32, 64)))
    assert probabilities.shape == (11, 40, 56)
    assert torch.equal(predictor.probabilities(tensor[None, None], crop=(32, 64))[0], probabilities)
    assert np.asarray(predictor.overlay(grey)).shape == (40, 56, 3)
    color = Image.fromarray(tiny.picture(5))
    color.save(tmp_path / "color.png")
    assert torch.equal(predictor.tensor(color), predictor.tensor(tmp_path / "color.png"))
    with pytest.raises(UserError, match=r"in color, but this model takes one channel: .* image.convert\('L'\)"):
        predictor.predict(tiny.picture(5))
    with pytest.raises(UserError, match=r"takes \(height, width, 1\)"):
        predictor.predict(np.zeros((4, 5, 2), np.uint8))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_pillow_s_modes_of_more_bands_are_for_models_of_as_many(mode: str) -> None:
    bands = len(mode)
    backbone = {**tiny.PSPNET["backbone"], "in_channels": bands}
    recipe = tiny.recipe({**tiny.PSPNET, "backbone": backbone, "mean": [9.0] * bands, "std": [9.0] * bands})
    predictor = Predictor(tiny.build_network(recipe.model, 11), tiny.config(recipe), CPU, FLOAT32)
    image = Image.fromarray(tiny.picture(0, 12, 17)).convert(mode)
    image.putalpha(77)
    assert torch.equal(predictor.tensor(image), torch.from_numpy(np.array(image)).permute(2, 0, 1))
    with pytest.raises(UserError, match=rf"the image has 3 bands, but the model takes {bands}"):
        predictor.tensor(image.convert("RGB"))


def test_greyscale_images_are_rgb_as_their_files_are(tmp_path: Path) -> None:
    grey = np.ascontiguousarray(tiny.picture(5)[:, :, 0])
    Image.fromarray(grey).save(tmp_path / "grey.png")
    expected = RGB.tensor(tmp_path / "grey.png")
    assert expected.shape == (3, 40, 56)
    for form in (grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert torch.equal(RGB.tensor(form), expected)
        np.testing.assert_array_equal(RGB.predict(form), RGB.predict(tmp_path / "grey.png"))
    batch = np.stack([grey, grey.T.reshape(grey.shape)])[..., None]
    np.testing.assert_array_equal(RGB.predict(batch), np.stack([RGB.predict(batch[0]), RGB.predict(batch[1])]))


# An image encoded once


@pytest.mark.parametrize("fusion", ["gff", "gated_fpn", "concat", "addition", "fpn", "none"])
def test_encode_and_decode_are_the_networks_forward(fusion: str) -> None:
    pyramid = "none" if fusion == "none" else "dense"
    predictor = tiny.predictor(tiny.recipe({**tiny.PSPNET, "fusion": fusion, "dense_pyramid": pyramid}))
    image = tiny.picture(5, 37, 51)
    encoded = predictor.encode(image)
    assert encoded.size == (37, 51)
    assert (encoded.gates is None) == (fusion not in {"gff", "gated_fpn"})
    torch.testing.assert_close(predictor.decode(encoded)[0], logits(predictor, image))
    if encoded.gates is not None:
        with torch.no_grad():
            gates = predictor.network(torch.from_numpy(image).permute(2, 0, 1)[None]).gates
        torch.testing.assert_close(list(encoded.gates), list(gates))
    assert torch.equal(predictor.decode(encoded, encoded.gates), predictor.decode(encoded))


@pytest.mark.parametrize(
    ("scale", "learned_from", "seen"),
    [
        (0.5, None, (60, 40)),
        (None, None, (120, 80)),
        (None, (60, 40), (120, 80)),
        (None, (30, 20), (45, 30)),
        (1.0, (30, 20), (120, 80)),
    ],
)
def test_an_image_is_encoded_at_a_scale(
    scale: float | None, learned_from: tuple[int, int] | None, seen: tuple[int, int]
) -> None:
    of = tiny.recipe(tiny.GFFNET)
    config = dataclasses.replace(tiny.config(of), learned_from=learned_from)
    predictor, image = Predictor(tiny.network(of), config, CPU, FLOAT32), tiny.picture(5, 120, 80)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    smaller = torch.nn.functional.interpolate(x, seen, mode="bilinear", align_corners=False)
    encoded, expected = predictor.encode(image, scale), predictor.encode_windows(smaller)
    assert (encoded.size, encoded.input_size) == ((120, 80), seen)
    torch.testing.assert_close(list(encoded.gates), list(expected.gates))
    logits = predictor.decode(encoded)
    torch.testing.assert_close(logits, predictor.decode(expected._replace(size=(120, 80))))


def test_gates_are_those_of_the_network(gffnet: Predictor, pspnet: Predictor) -> None:
    image = tiny.picture(5)
    found = gffnet.gates(image)
    with torch.no_grad():
        gates = gffnet.network(torch.from_numpy(image).permute(2, 0, 1)[None]).gates
    torch.testing.assert_close(found, [gate[0] for gate in gates])
    assert [gate.shape for gate in found] == [(1, 10, 14), (1, 5, 7), (1, 5, 7), (1, 5, 7)]
    with pytest.raises(UserError, match="has no gates: its fusion is 'none'"):
        pspnet.gates(image)


@torch.no_grad()
def test_decode_with_edited_gates(gffnet: Predictor) -> None:
    """With all gates closed, Eq. (5) leaves each level to itself; with all open, twice its own map and no other."""
    encoded = gffnet.encode(tiny.picture(5))
    first = gffnet.decode(encoded)
    for value in (0.0, 1.0):
        refine, pyramid, head = gffnet.network.fusion.refinements, gffnet.network.pyramid, gffnet.network.head
        fused = [module((1 + value) * x) for module, x in zip(refine, encoded.reduced, strict=True)]
        expected = head(pyramid(encoded.context, fused), encoded.size)
        edited = [torch.full_like(gate, value) for gate in encoded.gates]
        torch.testing.assert_close(gffnet.decode(encoded, edited), expected, rtol=1e-4, atol=1e-4)
        assert (expected - first).abs().max() > 0.1
    assert torch.equal(gffnet.decode(encoded), first)  # the encoded image is as it was


# Images


def test_one_picture_in_every_form(tmp_path: Path) -> None:
    picture = tiny.picture(0, 12, 17)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = torch.from_numpy(picture).permute(2, 0, 1)
    forms = (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(picture), picture, expected)
    for form in forms:
        assert torch.equal(RGB.tensor(form), expected)


def test_arrays_and_tensors_are_not_copied() -> None:
    picture = tiny.picture(0)
    RGB.tensor(picture)[0, 0, 0] = 77
    assert picture[0, 0, 0] == 77
    tensor = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert RGB.tensor(tensor) is tensor


@pytest.mark.parametrize("channels", [1, 3])
def test_pillows_deep_images_have_the_white_level_of_the_model(tmp_path: Path, channels: int) -> None:
    """Whatever their own largest sample suggests."""
    model = {**tiny.PSPNET, "white_level": 65535.0}
    model["backbone"] = {**model["backbone"], "in_channels": channels}
    of = tiny.recipe(model)
    network = tiny.build_network(of.model, len(tiny.CAMVID.names))
    predictor = Predictor(network, tiny.config(of), CPU, FLOAT32)
    deep = np.arange(12 * 17, dtype=np.uint16).reshape(12, 17) * 10
    for image in (Image.fromarray(deep), Image.fromarray(deep.astype(np.uint8))):
        image.save(tmp_path / "image.png")
        assert torch.equal(predictor.tensor(image), predictor.tensor(tmp_path / "image.png"))
    expected = torch.from_numpy(deep.astype(np.float64) / 257)
    torch.testing.assert_close(predictor.tensor(Image.fromarray(deep))[0].double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pillows_modes_become_rgb_as_their_files_do(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(tiny.picture(0, 12, 17))
    deep = Image.fromarray(np.arange(12 * 17, dtype=np.uint16).reshape(12, 17) * 321)
    image = deep if mode == "I;16" else picture.convert(mode)
    path = tmp_path / ("image.tif" if mode in {"CMYK", "LA"} else "image.png")
    image.save(path)
    before = image.tobytes()
    assert torch.equal(RGB.tensor(image), RGB.tensor(path))
    assert (image.mode, image.tobytes()) == (mode, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5), np.uint8), r"an image is \(0, 5\), but this model takes \(height, width, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"an image is \(3, 4, 5\), but this model takes \(height, width, 3\)"),
        (np.zeros((4, 5, 4), np.uint8), r"an image is \(4, 5, 4\), but this model takes \(height, width, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"an image is \(0, 5, 3\)"),
        (
            torch.zeros(4, 5, 3, dtype=torch.uint8),
            r"an image is \(4, 5, 3\), but this model takes \(3, height, width\)",
        ),
        (
            np.full((4, 5, 3), 0.5),
            r"an image is float64, but this model takes uint8, in 0..255. Its values are in 0..1: "
            r"give \(255 \* image\).round\(\).astype\(np.uint8\)",
        ),
        (torch.rand(3, 4, 5), r"is float32, .* give \(255 \* image\).round\(\).to\(torch.uint8\)"),
        (torch.rand(3, 4, 5).half(), r"is float16, .* give \(255 \* image\)"),
        (torch.full((3, 4, 5), -1.25), r"Its values are in -1.25..-1.25: undo the normalisation"),
        (np.full((4, 5, 3), 200.0), r"Give image.round\(\).astype\(np.uint8\)"),
        (np.zeros((4, 5, 3), np.uint16), r"an image is uint16, but this model takes uint8, in 0..255. Scale and"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"takes \(3, height, width\): image.permute\(2, 0, 1\)"),
        (np.zeros((3, 4, 5), np.uint8), r"takes \(height, width, 3\): image.transpose\(1, 2, 0\)"),
        (Image.new("F", (4, 5)), r"the image: 32-bit float samples have no known white level"),
    ],
)
def test_not_an_image(image: Any, message: str) -> None:
    for ask in (RGB.predict, RGB.probabilities, RGB.logits, RGB.overlay, RGB.areas):
        with pytest.raises(UserError, match=message):
            ask(image)


def test_images_of_another_kind_and_wrong_batches() -> None:
    for ask in (RGB.tensor, RGB.predict, RGB.logits):
        with pytest.raises(UserError, match="an image is a dict: give a path"):
            ask({"image": tiny.picture(0)})
    with pytest.raises(UserError, match=r"an image is float32, .* give \(255 \* image\)"):
        RGB.predict(torch.rand(2, 3, 4, 5))
    with pytest.raises(UserError, match=r"an image is \(2, 3, 4, 5\), but this model takes \(3, height, width\)"):
        RGB.overlay(torch.zeros(2, 3, 4, 5, dtype=torch.uint8))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read image .*gone.png: no such file"):
        RGB.tensor(tmp_path / "gone.png")


# The scale of large images


def trained_at(size: tuple[int, int] | None, evaluation: EvaluationRecipe | None = None, **options: Any) -> Predictor:
    """A predictor whose training images had this size."""
    own = evaluation or EvaluationRecipe()
    config = dataclasses.replace(tiny.config(tiny.recipe()), learned_from=size, evaluation=own)
    return Predictor(NETWORK, config, CPU, FLOAT32, **options)


NETWORK = tiny.network(tiny.recipe())
SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((360, 480), 1),
        ((720, 960), 1),
        ((480, 1280), 1),  # as wide as a street, no more pixels
        ((90, 120), 1),
        ((3024, 4032), 0.179),  # 1.5 x 480 / 4032
        ((4032, 3024), 0.179),
        ((1080, 1440), 0.5),
    ],
)
def test_scales_by_hand(size: tuple[int, int], scale: float) -> None:
    assert trained_at((360, 480)).scale(size) == scale


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_downscaled_image_has_one_and_a_half_times_the_usual_size(a: int, b: int, h: int, w: int) -> None:
    predictor = copy.copy(RGB)
    predictor.config = dataclasses.replace(RGB.config, learned_from=(a, b))
    scale = predictor.scale((h, w))
    ratio = math.sqrt(h * w / (a * b))
    assert 0 < scale <= 1
    assert (scale == 1) == (ratio <= 2)
    if scale < 1:
        assert scale * ratio == pytest.approx(1.5, rel=5e-3)


def test_the_scales_of_the_protocol_are_factors_of_it() -> None:
    image = tiny.picture(5, 120, 120)
    found = trained_at((40, 40), EvaluationRecipe(scales=(1.0, 1.5), flip=True)).probabilities(image)
    expected = trained_at(None).probabilities(image, EvaluationRecipe(scales=(0.5, 0.75), flip=True))
    assert torch.equal(found, expected)


# Opening


@pytest.mark.parametrize(
    ("given_protocol", "protocol", "scale"),
    [
        (None, EvaluationRecipe(overlap=0.5), 0.375),
        ({"flip": True}, EvaluationRecipe(overlap=0.5, flip=True), 0.375),
        ({"crop": (48, 48)}, EvaluationRecipe((48, 48), 0.5), 1),
        ({"scales": (1.0,)}, EvaluationRecipe(overlap=0.5), 1),
        (EvaluationRecipe(), EvaluationRecipe(), 1),
        (EvaluationRecipe((48, 48)), EvaluationRecipe((48, 48)), 1),
    ],
)
def test_a_protocol_given_to_load_replaces_the_models_own(
    given_protocol: Any, protocol: EvaluationRecipe, scale: float, tmp_path: Path
) -> None:
    """Images are downscaled unless scales are given."""
    config = trained_at((30, 30), EvaluationRecipe(overlap=0.5)).config
    save_model(tmp_path, NETWORK, config)
    predictor, image = load(tmp_path, "cpu", "float32", protocol=given_protocol), tiny.picture(5, 120, 120)
    assert (predictor.protocol, predictor.scale((120, 120)), predictor.config) == (protocol, scale, config)
    expected = dataclasses.replace(protocol, scales=(scale,))
    assert torch.equal(predictor.probabilities(image), trained_at(None).probabilities(image, expected))


def test_a_network_in_memory_predicts_as_its_folder_does(tmp_path: Path) -> None:
    config = trained_at(None).config
    save_model(tmp_path, NETWORK, config)
    network = tiny.network(tiny.recipe()).train()
    for no_model, kind in ((network, "SegmentationModel"), (torch.nn.Conv2d(3, 5, 1), "Conv2d")):
        with pytest.raises(UserError, match=f"a {kind} has no config"):
            load(no_model, "cpu", "float32")  # type: ignore[arg-type]
    network.config = config
    predictor, image = load(network, "cpu", "float32", protocol={"flip": True}), tiny.picture(5)
    expected = load(tmp_path, "cpu", "float32").probabilities(image, flip=True)
    assert torch.equal(predictor.probabilities(image), expected)
    assert network.training


def test_the_representation_names_the_model_and_says_that_it_is_frozen(gffnet: Predictor) -> None:
    assert repr(gffnet) == (
        "Predictor(tests/tiny: test_resnet with pyramid pooling, Gated Fully Fusion and a Dense Feature Pyramid, "
        "11 classes; whole images; float32 on cpu; network: folded and frozen)"
    )
    assert not any(parameter.requires_grad for parameter in gffnet.network.parameters())


def test_an_unknown_protocol_key(tmp_path: Path) -> None:
    save_model(tmp_path, NETWORK, trained_at(None).config)
    with pytest.raises(UserError, match="flipp"):
        load(tmp_path, "cpu", "float32", protocol={"flipp": True})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": "8GB"}, "memory '8GB' must be a number of bytes"),
        ({"memory": 0}, "memory 0 must be a number of bytes above 0"),
        ({"batch": 0}, "batch 0 must be a whole number"),
        ({"batch": 1.5}, "batch 1.5 must be a whole number"),
        ({"precision": torch.bfloat16}, "precision 'torch.bfloat16' is unknown. Did you mean 'bfloat16'"),
    ],
)
def test_a_wrong_argument_is_named_when_the_model_is_loaded(given: dict[str, Any], message: str) -> None:
    """Not when it first predicts."""
    network = tiny.network(tiny.recipe())
    network.config = trained_at(None).config
    with pytest.raises(UserError, match=message):
        load(network, "cpu", **{"precision": "float32", **given})


def test_the_model_is_looked_for_before_the_device(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none", device="nonsense")
