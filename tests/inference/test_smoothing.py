"""Smoothing: the average follows the motion of the picture, forgets with time, and has no past where there is none."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gffnet.data.io import read_labels, write_image
from gffnet.errors import UserError
from gffnet.inference.batch import predict_files
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.inference.smoothing import Smoothing
from gffnet.inference.tiling import TiledWindow
from gffnet.inference.video import frames
from tests import tiny
from tests.inference.clips import save_clip

SECONDS = 0.1
WINDOWS = {"crop": [24, 32], "overlap": 0.25, "scales": [0.75, 1.0], "flip": True}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny.predictor()


def texture(seed: int, height: int = 96, width: int = 160) -> NDArray[np.uint8]:
    """Noise that is smooth enough to be followed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload, no-any-return]


def maps(seed: int, height: int = 96, width: int = 160) -> torch.Tensor:
    """Class probabilities that change slowly from pixel to pixel."""
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 30, (height, width, 11)), (0, 0), 6)
    return torch.from_numpy(smooth).permute(2, 0, 1).softmax(0).float().contiguous()


@pytest.mark.parametrize(("height", "width"), [(96, 160), (7, 90), (1, 1)])
def test_of_a_still_picture_it_is_the_exponential_average(predictor: Predictor, height: int, width: int) -> None:
    """p_t = q_t + exp(-Δ / τ) (p_{t-1} - q_t), in float64."""
    smoothing, picture = Smoothing(predictor, SECONDS), texture(0, height, width)
    average = np.zeros(())
    for i, (before, time) in enumerate(pairwise([-np.inf, 0.2, 0.24, 0.255, 0.5])):
        own = maps(i, height, width)
        weight = np.exp((before - time) / SECONDS)
        average = (1 - weight) * own.double().numpy() + weight * average
        np.testing.assert_allclose(smoothing.update(picture, own, time).numpy(), average, atol=1e-6)
        torch.testing.assert_close(own, maps(i, height, width))


@pytest.mark.parametrize(("down", "right"), [(0, 5), (-3, 2)])
def test_it_follows_the_picture(predictor: Predictor, down: int, right: int) -> None:
    """What moved by whole pixels is averaged with itself; what came in from outside has no past."""
    smoothing, first = Smoothing(predictor, SECONDS), maps(0)
    smoothing.update(texture(0), first, 0.0)
    own = maps(1)
    moved = np.roll(texture(0), (down, right), (0, 1))
    found = smoothing.update(moved, own, 0.04)
    weight = np.exp(-0.04 / SECONDS)
    followed = own + weight * (first.roll((down, right), (1, 2)) - own)
    inner = np.s_[:, 12:-12, 12:-12]
    assert (found - followed)[inner].abs().mean() < 0.05 * (followed - own)[inner].abs().mean()
    if right == 5:  # columns 0 to 4 came in
        torch.testing.assert_close(found[:, 10:-10, :2], own[:, 10:-10, :2], atol=0.05, rtol=0)


def test_a_cut_has_no_past(predictor: Predictor) -> None:
    smoothing, after = Smoothing(predictor, SECONDS), maps(1)
    smoothing.update(texture(0), maps(0), 0.0)
    torch.testing.assert_close(smoothing.update(texture(1), after, 0.04), after, rtol=0, atol=0)


def test_what_appears_has_no_past(predictor: Predictor) -> None:
    smoothing, before, after = Smoothing(predictor, SECONDS), maps(0), maps(1)
    smoothing.update(texture(0), before, 0.0)
    picture = texture(0)
    picture[30:60, 40:80] = 255 * (picture[30:60, 40:80] < 128)
    found = smoothing.update(picture, after, 0.04)
    change = (found - after).abs().mean(0) / (before - after).abs().mean(0)
    assert change[35:55, 45:75].mean() < 0.1
    assert change[:, 100:].mean() == pytest.approx(np.exp(-0.04 / SECONDS), abs=0.02)


@pytest.mark.parametrize(("size", "time"), [((20, 30), 0.5), ((30, 20), 0.6), ((20, 30), 0.4)])
def test_it_begins_anew(predictor: Predictor, size: tuple[int, int], time: float) -> None:
    """Where time stands still or runs back, and where the size changes."""
    smoothing = Smoothing(predictor, SECONDS)
    smoothing.update(texture(0, 20, 30), maps(0, 20, 30), 0.5)
    own = maps(1, *size)
    torch.testing.assert_close(smoothing.update(texture(0, *size), own, time), own, rtol=0, atol=0)


@pytest.mark.parametrize("evaluation", [{}, WINDOWS], ids=["whole", "windows"])
def test_label_maps_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: dict[str, object]) -> None:
    """They are those of the averaged probabilities of its frames at their times; in tiles, too."""
    predictor = tiny.predictor(tiny.recipe(evaluation=evaluation))
    picture, noise = texture(0, 40, 56).astype(int), np.random.default_rng(1)
    pictures = [np.clip(picture + noise.normal(0, 12, (40, 56, 1)), 0, 255).astype(np.uint8) for _ in range(4)]
    times = [0, 40, 55, 300]
    path = save_clip(tmp_path / "film.mkv", pictures, times=times, codec="ffv1")
    smoothing = Smoothing(predictor, SECONDS)
    expected, changed = [], []
    for frame, time in zip(frames(path), times, strict=True):
        own = predictor.probabilities(frame.image)
        average = smoothing.update(frame.image, own, time / 1000)
        first, second = average.topk(2, dim=0).values
        expected.append((average.argmax(0).numpy(), (first - second > 1e-4).numpy()))
        changed.append((own.argmax(0) != average.argmax(0)).float().mean().item())
    assert changed[0] == 0
    assert min(changed[1:3]) > 0.01
    if evaluation:
        monkeypatch.setattr("gffnet.inference.predictor.peak_memory", lambda device: 10**9)
        held = (3 * 4 * 11 + 64) * 40 * 56
        predictor.memory = 10**9 + 16 * 40 * 56 + held + 420_000
        window = predictor.window(size=(40, 56), held=held)
        assert isinstance(window, TiledWindow)
        assert len(window.layout(torch.zeros(3, 40, 56)).rows) > 1
    predict_files(predictor, [path], tmp_path / "out", results=["labels"], smooth=SECONDS)
    for i, (labels, certain) in enumerate(expected):
        assert certain.mean() > 0.99
        found = read_labels(tmp_path / f"out/labels/film/{i:06d}.png")
        np.testing.assert_array_equal(found[certain], labels[certain])


def test_it_needs_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.inference.predictor.peak_memory", lambda device: 10**9)
    limited = tiny.predictor(tiny.recipe(evaluation=WINDOWS))
    limited.memory = 10**9 + 16 * 40 * 56 + 420_000
    limited.predict(tiny.picture(0))
    with pytest.raises(UserError, match=r"too little for an image of 40x56 and 11 classes: give it .*MB or more"):
        Smoothing(limited, SECONDS).predict(tiny.picture(0), 0.0)


def test_what_cannot_be_smoothed(tmp_path: Path, predictor: Predictor) -> None:
    write_image(tmp_path / "a.png", tiny.picture(0))
    with pytest.raises(UserError, match="none of the inputs is one"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", smooth=SECONDS)
    path = save_clip(tmp_path / "b.mp4", [tiny.picture(0)])
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be a number of seconds above 0"):
            predict_files(predictor, [path], tmp_path / "out", smooth=wrong)
    assert not (tmp_path / "out").exists()
    predict_files(predictor, [path], tmp_path / "out")
    with pytest.raises(UserError, match=r"smooth None there, 0\.1 now"):
        predict_files(predictor, [path], tmp_path / "out", smooth=SECONDS)


def test_a_model_of_other_channels_is_refused() -> None:
    backbone = {**tiny.PSPNET["backbone"], "in_channels": 4}
    of = tiny.recipe({**tiny.PSPNET, "backbone": backbone})
    network = tiny.build_network(of.model, 11)
    predictor = Predictor(network, tiny.config(of), torch.device("cpu"), Precision(torch.float32, "for tests"))
    with pytest.raises(UserError, match="but this model takes"):
        Smoothing(predictor, SECONDS).predict(tiny.picture(0), 0.0)
