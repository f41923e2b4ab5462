"""Sliding window, scales and mirror images against a plain reading of the protocol in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from gffnet.inference.windows import pad_to, probabilities, window_starts
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)
CLASSES = 4


def scorer(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Scores that depend on a pixel's surroundings and on where the window's borders are; no grey levels are wasted."""
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(3, CLASSES, 5, padding=2).double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.002, generator=generator)
    return lambda x: conv(x.double()).detach()


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


# The protocol, written out


def naive(score: Callable[[Tensor], Tensor], image: NDArray, protocol: EvaluationRecipe) -> NDArray[np.float64]:
    results = []
    for scale in protocol.scales:
        size = [max(1, int(np.rint(side * scale))) for side in image.shape[1:]]
        view = naive_resize(image.astype(np.float64), *size)
        results.append(naive_resize(naive_windows(score, view, protocol), *image.shape[1:]))
        if protocol.flip:
            mirrored = naive_windows(score, view[:, :, ::-1], protocol)[:, :, ::-1]
            results.append(naive_resize(mirrored, *image.shape[1:]))
    return np.mean(results, axis=0)


def naive_windows(score: Callable[[Tensor], Tensor], view: NDArray, protocol: EvaluationRecipe) -> NDArray[np.float64]:
    if protocol.crop is None:
        return naive_softmax(score, view)
    height, width = view.shape[1:]
    tall, wide = protocol.crop
    padded = np.empty((3, max(height, tall), max(width, wide)))
    padded[:] = np.array(MEAN)[:, None, None]
    padded[:, :height, :width] = view
    total, count = np.zeros((CLASSES, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for top in naive_starts(padded.shape[1], tall, protocol.overlap):
        for left in naive_starts(padded.shape[2], wide, protocol.overlap):
            window = padded[:, top : top + tall, left : left + wide]
            total[:, top : top + tall, left : left + wide] += naive_softmax(score, window)
            count[top : top + tall, left : left + wide] += 1
    return (total / count)[:, :height, :width]


def naive_softmax(score: Callable[[Tensor], Tensor], window: NDArray) -> NDArray[np.float64]:
    logits = score(torch.from_numpy(window.copy())[None])[0].numpy()
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)


def naive_starts(length: int, crop: int, overlap: float) -> list[int]:
    starts = [0]
    while starts[-1] + crop < length:
        starts.append(min(starts[-1] + round(crop * (1 - overlap)), length - crop))
    return starts


def naive_resize(x: NDArray, height: int, width: int) -> NDArray[np.float64]:
    """Bilinear, pixel centres aligned, one axis after the other."""
    for axis, size in ((1, height), (2, width)):
        have = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, have - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def check(image: NDArray, protocol: EvaluationRecipe, within: float = 1e-6) -> None:
    ours = probabilities(scorer(), torch.from_numpy(image), protocol, MEAN)
    assert ours.dtype == torch.float32
    assert ours.shape == (CLASSES, *image.shape[1:])
    np.testing.assert_allclose(ours.numpy(), naive(scorer(), image, protocol), rtol=0, atol=within)


@pytest.mark.parametrize("size", [(16, 24), (15, 24), (16, 40), (50, 61), (7, 9), (90, 16), (1, 1), (1, 70)])
@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_one_scale(size: tuple[int, int], crop: tuple[int, int] | None) -> None:
    check(picture(*size), EvaluationRecipe(crop))


@pytest.mark.parametrize("size", [(31, 45), (12, 50), (1, 1)])
@pytest.mark.parametrize("crop", [None, (20, 17)])
@pytest.mark.parametrize("flip", [False, True])
def test_scales_and_mirror_images(size: tuple[int, int], crop: tuple[int, int] | None, flip: bool) -> None:
    check(picture(*size), EvaluationRecipe(crop, scales=(0.5, 0.75, 1.0, 1.3, 2.0), flip=flip))


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    overlap=st.floats(0, 0.9),
    scale=st.floats(0.3, 2),
    flip=st.booleans(),
)
def test_any_protocol(size: tuple[int, int], crop: tuple[int, int], overlap: float, scale: float, flip: bool) -> None:
    # Positions of pixels at odd scales have the rounding of float32, on up to 255 grey levels.
    check(picture(*size), EvaluationRecipe(crop, overlap, (1.0, scale), flip), within=1e-5)


# What must hold of any protocol


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_windows_cover_all_and_end_flush(beyond: int, crop: int, overlap: float) -> None:
    length = crop + beyond - 1
    starts = window_starts(length, crop, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - crop
    steps = np.diff(starts)
    assert (steps > 0).all()  # none twice
    assert (steps <= crop).all()  # no gap
    assert (steps[:-1] == max(1, round(crop * (1 - overlap)))).all()


def test_an_image_of_the_crops_size_is_one_window() -> None:
    calls = []
    image = torch.zeros(3, 16, 24, dtype=torch.uint8)
    probabilities(lambda x: calls.append(tuple(x.shape)) or x, image, EvaluationRecipe((16, 24)), MEAN)
    assert calls == [(1, 3, 16, 24)]


def test_every_window_has_the_size_of_the_crop() -> None:
    calls = []
    image = torch.zeros(3, 33, 20, dtype=torch.uint8)
    probabilities(lambda x: calls.append(tuple(x.shape)) or x, image, EvaluationRecipe((16, 24), overlap=0.5), MEAN)
    assert calls == [(1, 3, 16, 24)] * 4  # at rows 0, 8, 16, 17


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_a_constant_scorer_gives_constants(crop: tuple[int, int] | None, flip: bool) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    protocol = EvaluationRecipe(crop, scales=(0.75, 1.0, 1.75), flip=flip)
    result = probabilities(
        lambda x: logits[None, :, None, None].expand(1, -1, *x.shape[-2:]),
        torch.from_numpy(picture(37, 50)),
        protocol,
        MEAN,
    )
    torch.testing.assert_close(result, logits.softmax(0)[:, None, None].expand(4, 37, 50), rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_with_mirror_images_the_result_mirrors_with_the_image(crop: tuple[int, int] | None) -> None:
    image = torch.from_numpy(picture(30, 41))
    plain, mirrored = (
        probabilities(scorer(), view, EvaluationRecipe(crop, flip=True), MEAN) for view in (image, image.flip(-1))
    )
    torch.testing.assert_close(mirrored.flip(-1), plain, rtol=0, atol=1e-6)
    assert (plain.flip(-1) - plain).abs().max() > 1e-3


def test_scores_of_half_precision_are_averaged_in_float32() -> None:
    """Of 25 windows and scales the sum would lose digits in bfloat16."""
    seen = probabilities(
        lambda x: scorer()(x).bfloat16(),
        torch.from_numpy(picture(64, 64)),
        EvaluationRecipe((16, 24), overlap=0.8, scales=(1.0, 1.5)),
        MEAN,
    )
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.sum(0), torch.ones(64, 64), rtol=0, atol=1e-5)


# Padding


def test_padding_is_the_mean_colour_below_and_to_the_right() -> None:
    image = torch.from_numpy(picture(3, 4))[None].float()
    padded = pad_to(image, (5, 6), MEAN)
    assert padded.shape == (1, 3, 5, 6)
    torch.testing.assert_close(padded[:, :, :3, :4], image, rtol=0, atol=1e-4)
    mean = torch.tensor(MEAN)[:, None, None]
    assert torch.equal(padded[0, :, 3:], mean.expand(3, 2, 6))
    assert torch.equal(padded[0, :, :, 4:], mean.expand(3, 5, 2))


def test_what_is_large_enough_is_not_padded() -> None:
    image = torch.zeros(1, 3, 5, 6)
    assert pad_to(image, (5, 6), MEAN) is image
    assert pad_to(image, (4, 9), MEAN).shape == (1, 3, 5, 9)
