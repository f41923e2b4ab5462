"""Sliding window, scales, mirrored windows and blocks against a plain reading of the protocol in float64."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gffnet.errors import UserError
from gffnet.inference.sliding_window import SlidingWindow
from gffnet.inference.tiling import block_memory
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
    return np.mean(results, axis=0)


def naive_windows(score: Callable[[Tensor], Tensor], view: NDArray, protocol: EvaluationRecipe) -> NDArray[np.float64]:
    height, width = view.shape[1:]
    tall, wide = protocol.crop or (height, width)
    padded = np.empty((3, max(height, tall), max(width, wide)))
    padded[:] = np.array(MEAN)[:, None, None]
    padded[:, :height, :width] = view
    total, count = np.zeros((CLASSES, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for top in naive_starts(padded.shape[1], tall, protocol.overlap):
        for left in naive_starts(padded.shape[2], wide, protocol.overlap):
            window = padded[:, top : top + tall, left : left + wide]
            windows = [naive_softmax(score, window)]
            if protocol.flip:
                windows.append(naive_softmax(score, window[:, :, ::-1])[:, :, ::-1])
            total[:, top : top + tall, left : left + wide] += np.mean(windows, axis=0)
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


def check(image: NDArray, protocol: EvaluationRecipe, within: float = 1e-6, batch: int = 1) -> None:
    ours = SlidingWindow(scorer(), CLASSES, protocol, MEAN, batch).probabilities(torch.from_numpy(image))
    assert ours.dtype == torch.float64
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
    batch=st.integers(1, 5),
)
def test_any_protocol(
    size: tuple[int, int], crop: tuple[int, int], overlap: float, scale: float, flip: bool, batch: int
) -> None:
    # Positions of pixels at odd scales have the rounding of float32, on up to 255 grey levels.
    check(picture(*size), EvaluationRecipe(crop, overlap, (1.0, scale), flip), within=1e-5, batch=batch)


@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    overlap=st.floats(0, 0.9),
    scales=st.lists(st.floats(0.3, 2), min_size=1, max_size=3),
    share=st.floats(0.05, 1),
)
def test_blocks_within_a_memory_are_the_image(
    size: tuple[int, int], crop: tuple[int, int], overlap: float, scales: list[float], share: float
) -> None:
    """Whatever the memory allows, each pixel comes once, and its probabilities are those of the whole."""
    protocol = EvaluationRecipe(crop, overlap, tuple(scales))
    image = torch.from_numpy(picture(*size))
    memory = int(share * block_memory(size, size, CLASSES, protocol))
    window = SlidingWindow(scorer(), CLASSES, protocol, MEAN, memory=memory)
    try:
        layout = window.layout(image)
    except UserError:
        assert memory < block_memory(size, (min(32, size[0]), min(63, size[1])), CLASSES, protocol)
        return
    assert layout.memory <= memory
    whole = SlidingWindow(scorer(), CLASSES, protocol, MEAN).probabilities(image)
    seen = torch.zeros(size, dtype=torch.int64)
    for rows, columns, part in window.blocks(image):
        seen[rows.slice(), columns.slice()] += 1
        torch.testing.assert_close(part, whole[:, rows.slice(), columns.slice()], rtol=0, atol=1e-5)
    assert (seen == 1).all()
    assert torch.equal(window.labels(image), window.probabilities(image).max(0).indices.to(torch.uint8))


class Held(TorchDispatchMode):
    """The most bytes that the results of all operations took at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                size = tensor.untyped_storage().nbytes()
                self.known.add(key)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(tensor.untyped_storage(), self.freed, key, size)
        return result

    def freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def test_blocks_hold_no_more_than_they_say() -> None:
    """All that is made for probabilities, at the most: counted by what torch holds."""
    size, protocol = (300, 500), EvaluationRecipe((40, 40), scales=(0.75, 1.0, 1.5))
    image = torch.from_numpy(picture(*size))
    flat = torch.rand(1, 50, 40, 40)
    for memory in (20_000_000, 40_000_000):
        window = SlidingWindow(lambda x: flat, 50, protocol, MEAN, memory=memory)
        layout = window.layout(image)
        with Held() as held:
            for _ in window.blocks(image):
                pass
        # Besides, the window at hand, its softmax, and part of the image: 4 MB.
        assert 0.5 * layout.memory < held.most < layout.memory + 4_000_000


# What must hold of any protocol


def test_an_image_of_the_crops_size_is_one_window() -> None:
    calls = []
    image = torch.zeros(3, 16, 24, dtype=torch.uint8)
    SlidingWindow(lambda x: calls.append(tuple(x.shape)) or x, 3, EvaluationRecipe((16, 24))).labels(image)
    assert calls == [(1, 3, 16, 24)]


def test_every_window_has_the_size_of_the_crop() -> None:
    calls = []
    image = torch.zeros(3, 33, 20, dtype=torch.uint8)
    protocol = EvaluationRecipe((16, 24), overlap=0.5)
    SlidingWindow(lambda x: calls.append(tuple(x.shape)) or x, 3, protocol).labels(image)
    assert calls == [(1, 3, 16, 24)] * 4  # at rows 0, 8, 16, 17


def test_windows_of_a_row_and_their_mirror_images_are_scored_together() -> None:
    calls = []
    image = torch.zeros(3, 20, 100, dtype=torch.uint8)
    protocol = EvaluationRecipe((16, 24), overlap=0, flip=True)
    SlidingWindow(lambda x: calls.append(len(x)) or x, 3, protocol, batch=3).labels(image)
    assert calls == [6, 4] * 2  # five windows in each of two rows


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [None, (16, 24)])
def test_a_constant_scorer_gives_constants(crop: tuple[int, int] | None, flip: bool) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    protocol = EvaluationRecipe(crop, scales=(0.75, 1.0, 1.75), flip=flip)
    window = SlidingWindow(lambda x: logits[None, :, None, None].expand(len(x), -1, *x.shape[-2:]), 4, protocol)
    result = window.probabilities(torch.from_numpy(picture(37, 50)))
    torch.testing.assert_close(result, logits.softmax(0)[:, None, None].expand(4, 37, 50), rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop", [None, (30, 24)])
def test_with_mirror_images_the_result_mirrors_with_the_image(crop: tuple[int, int] | None) -> None:
    """Where windows lie alike from both sides."""
    image = torch.from_numpy(picture(30, 40))
    window = SlidingWindow(scorer(), CLASSES, EvaluationRecipe(crop, flip=True), MEAN)
    plain, mirrored = (window.probabilities(view) for view in (image, image.flip(-1)))
    torch.testing.assert_close(mirrored.flip(-1), plain, rtol=0, atol=1e-6)
    assert (plain.flip(-1) - plain).abs().max() > 1e-3


def test_the_images_pixels_are_left_as_they_are() -> None:
    image = torch.from_numpy(picture(30, 40))
    SlidingWindow(lambda x: x.mul_(0), 3, EvaluationRecipe((16, 16))).labels(image)
    assert torch.equal(image, torch.from_numpy(picture(30, 40)))


def test_scores_of_half_precision_are_averaged_in_float32() -> None:
    """Of 25 windows and scales the sum would lose digits in bfloat16."""
    protocol = EvaluationRecipe((16, 24), overlap=0.8, scales=(1.0, 1.5))
    window = SlidingWindow(lambda x: scorer()(x).bfloat16(), CLASSES, protocol)
    seen = window.probabilities(torch.from_numpy(picture(64, 64)))
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.sum(0), torch.ones(64, 64), rtol=0, atol=1e-5)
