"""The sliding window against a naive float64 implementation: windows, flips, scales, padding and resizing."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from gffnet.errors import UserError
from gffnet.inference.sliding_window import SlidingWindow, as_slice, resize_region, source_range, window_starts
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)
CLASSES = 4
overlaps = st.fractions(0, Fraction(7, 10), max_denominator=100).map(float)


def scorer() -> Callable[[Tensor], Tensor]:
    """Logits that depend on a pixel's neighbourhood and on the borders of the window."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(3, CLASSES, 5, padding=2).double()
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.002, generator=generator)
    return lambda x: conv(x.double()).detach()


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


# The naive implementation


def naive(score: Callable[[Tensor], Tensor], image: NDArray, protocol: EvaluationRecipe) -> NDArray[np.float64]:
    results = []
    for scale in protocol.scales:
        size = [max(1, int(np.rint(side * scale))) for side in image.shape[1:]]
        view = naive_resize(image.astype(np.float64), *size)
        results.append(naive_resize(naive_windows(score, view, protocol), *image.shape[1:]))
    return np.mean(results, axis=0)


def naive_windows(score: Callable[[Tensor], Tensor], view: NDArray, protocol: EvaluationRecipe) -> NDArray[np.float64]:
    """PSPNet's: the image is padded around to the crop; windows lie on a grid, and the last are moved back."""
    height, width = view.shape[1:]
    tall, wide = protocol.crop or (height, width)
    above, before = (max(crop - side, 0) // 2 for crop, side in ((tall, height), (wide, width)))
    padded = np.empty((3, max(height, tall), max(width, wide)))
    padded[:] = np.array(MEAN)[:, None, None]
    padded[:, above : above + height, before : before + width] = view
    total, count = np.zeros((CLASSES, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for top in naive_starts(padded.shape[1], tall, protocol.overlap):
        for left in naive_starts(padded.shape[2], wide, protocol.overlap):
            window = padded[:, top : top + tall, left : left + wide]
            windows = [naive_softmax(score, window)]
            if protocol.flip:
                windows.append(naive_softmax(score, window[:, :, ::-1])[:, :, ::-1])
            total[:, top : top + tall, left : left + wide] += np.mean(windows, axis=0)
            count[top : top + tall, left : left + wide] += 1
    return (total / count)[:, above : above + height, before : before + width]


def naive_softmax(score: Callable[[Tensor], Tensor], window: NDArray) -> NDArray[np.float64]:
    logits = score(torch.from_numpy(window.copy())[None])[0].numpy()
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)


def naive_starts(length: int, crop: int, overlap: float) -> list[int]:
    exact = Fraction(overlap).limit_denominator(1000)
    stride = math.ceil(crop * (1 - exact))
    windows = math.ceil(Fraction(length - crop, stride)) + 1
    return [min(i * stride, length - crop) for i in range(windows)]


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
def test_scales_and_flips(size: tuple[int, int], crop: tuple[int, int] | None, flip: bool) -> None:
    check(picture(*size), EvaluationRecipe(crop, scales=(0.5, 0.75, 1.0, 1.3, 2.0), flip=flip))


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    overlap=overlaps,
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
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    overlap=overlaps,
    flip=st.booleans(),
)
def test_any_windows(size: tuple[int, int], crop: tuple[int, int], overlap: float, flip: bool) -> None:
    check(picture(*size), EvaluationRecipe(crop, overlap, flip=flip))


# Properties of any protocol


@pytest.mark.parametrize(
    ("size", "overlap", "flip", "batch", "shapes"),
    [
        ((16, 24), 0.5, False, 1, [(1, 3, 16, 24)]),  # the image is one window
        ((33, 20), 0.5, False, 1, [(1, 3, 16, 24)] * 4),  # at rows 0, 8, 16, 17
        ((20, 100), 0.0, True, 3, [(6, 3, 16, 24)] * 3 + [(2, 3, 16, 24)]),  # five windows in each of two rows
    ],
)
def test_windows_and_their_flips_are_scored_at_once(
    size: tuple[int, int], overlap: float, flip: bool, batch: int, shapes: list[tuple[int, ...]]
) -> None:
    calls = []
    protocol = EvaluationRecipe((16, 24), overlap, flip=flip)
    window = SlidingWindow(lambda x: calls.append(tuple(x.shape)) or x, 3, protocol, batch=batch)
    window.labels(torch.zeros(3, *size, dtype=torch.uint8))
    assert calls == shapes


@pytest.mark.parametrize(
    ("crop", "scales", "passes"),
    [
        (None, (1.0,), [4, 2]),  # two images and their flips, then the third
        (None, (0.5, 1.5), [4, 2, 4, 2]),
        ((16, 24), (1.0,), [4] * 6),  # rows 0 and 4, columns 0 and 7 of each
    ],
)
def test_images_of_one_size_are_scored_together(
    crop: tuple[int, int] | None, scales: tuple[float, ...], passes: list[int]
) -> None:
    protocol, seen = EvaluationRecipe(crop, 0.5, scales, flip=True), []
    image = picture(20, 31)
    images = np.stack([image, image[:, ::-1], image[:, :, ::-1]])
    window = SlidingWindow(lambda x: seen.append(len(x)) or scorer()(x), CLASSES, protocol, MEAN, batch=2)
    found = window.labels_of_batch([*torch.from_numpy(images)])
    assert seen == passes
    for labels, each in zip(found, images, strict=True):
        assert (labels.numpy() == naive(scorer(), each, protocol).argmax(0)).mean() > 0.99


def test_the_image_is_not_modified() -> None:
    image = torch.from_numpy(picture(30, 40))
    SlidingWindow(lambda x: x.mul_(0), 3, EvaluationRecipe((16, 16))).labels(image)
    assert torch.equal(image, torch.from_numpy(picture(30, 40)))


def test_half_precision_logits_are_averaged_in_float32() -> None:
    """The sum over 25 windows and scales would lose digits in bfloat16."""
    protocol = EvaluationRecipe((16, 24), overlap=0.8, scales=(1.0, 1.5))
    window = SlidingWindow(lambda x: scorer()(x).bfloat16(), CLASSES, protocol)
    seen = window.probabilities(torch.from_numpy(picture(64, 64)))
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen.sum(0), torch.ones(64, 64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("score", "returned"),
    [
        (lambda x: x[:, :1], r"\(1, 1, 16, 24\)"),  # one logit of two classes: it would be broadcast to both
        (lambda x: x[:, :2, ::4, ::4], r"\(1, 2, 4, 6\)"),
        (lambda x: {"out": x[:, :2]}, "a dict"),
    ],
)
@pytest.mark.parametrize("ask", [SlidingWindow.labels, SlidingWindow.logits])
def test_other_than_logits_of_all_classes_at_every_pixel_are_refused(
    score: Any, returned: str, ask: Callable[[SlidingWindow, Tensor], Tensor]
) -> None:
    window = SlidingWindow(score, 2, EvaluationRecipe())
    with pytest.raises(UserError, match=rf"score returned {returned} .* must return logits \(1, 2, 16, 24\)"):
        ask(window, torch.from_numpy(picture(16, 24)))


def test_labels_of_more_classes_than_a_byte_has_are_refused() -> None:
    """They were the class modulo 256."""
    for classes in (256, 300):
        bias = torch.arange(classes)[:, None, None].float()
        window = SlidingWindow(lambda x, bias=bias: x[:, :1] * 0 + bias, classes, EvaluationRecipe())
        image = torch.zeros(3, 16, 16, dtype=torch.uint8)
        assert (window.probabilities(image).argmax(0) == classes - 1).all()
        if classes == 256:
            assert (window.labels(image) == 255).all()
        else:
            with pytest.raises(UserError, match="300 classes"):
                window.labels(image)


# Windows


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_windows_cover_all_and_end_flush(beyond: int, crop: int, overlap: float) -> None:
    length = crop + beyond - 1
    starts = window_starts(length, crop, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - crop
    steps = np.diff(starts)
    assert (steps > 0).all()  # none twice
    assert (steps <= crop).all()  # no gap
    assert len(set(steps[:-1])) <= 1


@pytest.mark.parametrize(
    ("crop", "overlap", "stride"),
    [
        (513, 1 / 3, 342),  # 513 * (1 - 1 / 3) is 342.00000000000006
        (513, 0.333333, 342),  # as commands print one third
        (512, 1 / 3, 342),  # 341.33
        (713, 1 / 3, 476),
        (473, 1 / 3, 316),
        (768, 1 / 3, 512),
        (100, 0.3, 70),
        (64, 0.5, 32),
        (65, 0.5, 33),
        (40, 0.0, 40),
        (10, 0.999, 1),
    ],
)
def test_strides_by_hand(crop: int, overlap: float, stride: int) -> None:
    assert window_starts(2 * crop + 1, crop, overlap)[1] == stride


@given(st.integers(1, 2000), overlaps)
def test_the_stride_is_rounded_up(crop: int, overlap: float) -> None:
    assert window_starts(5 * crop, crop, overlap) == naive_starts(5 * crop, crop, overlap)


def test_a_smaller_image_lies_in_the_middle_of_its_window() -> None:
    """Its padding is the mean color; where it is odd, there is more below and to the right."""
    seen: list[Tensor] = []
    protocol = EvaluationRecipe((16, 17))
    window = SlidingWindow(lambda x: seen.append(x) or x, 3, protocol, MEAN)  # type: ignore[func-returns-value]
    window.labels(torch.zeros(3, 5, 15, dtype=torch.uint8))
    assert len(seen) == 1
    expected = torch.tensor(MEAN)[:, None, None].repeat(1, 16, 17)
    expected[:, 5:10, 1:16] = 0
    assert torch.equal(seen[0][0], expected)


# Resizing

lengths = st.integers(1, 40)


def torch_resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]


def positions(draw: st.DataObject, length: int) -> range:
    first = draw.draw(st.integers(0, length - 1))
    return range(first, draw.draw(st.integers(first + 1, length)))


@given(lengths, lengths, lengths, lengths, st.data())
def test_a_resized_region_is_that_of_the_whole(h: int, w: int, height: int, width: int, data: st.DataObject) -> None:
    x = torch.rand(2, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(h * w))
    rows, columns = positions(data, height), positions(data, width)
    taken = source_range(rows, h, height), source_range(columns, w, width)
    origin = taken[0].start, taken[1].start
    part = x[:, as_slice(taken[0]), as_slice(taken[1])]
    found = resize_region(part, (h, w), (height, width), (rows, columns), origin)
    expected = torch_resize(x, (height, width))[:, as_slice(rows), as_slice(columns)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(lengths, lengths, st.data())
def test_the_source_range_is_all_that_counts_and_no_more(source: int, target: int, data: st.DataObject) -> None:
    """Each of its ends is needed or next to a position that is."""
    wanted = positions(data, target)
    found = source_range(wanted, source, target)
    matrix = torch_resize(torch.eye(source, dtype=torch.float64)[:, :, None], (target, 1))[:, as_slice(wanted), 0]
    used = matrix.abs().amax(1).nonzero().flatten().tolist()
    assert found.start <= min(used) <= found.start + 1
    assert max(used) <= found.stop - 1 <= max(used) + 1
    assert 0 <= found.start < found.stop <= source


def test_a_region_of_unchanged_size_is_a_view() -> None:
    x = torch.rand(2, 8, 9)
    part = resize_region(x, (20, 9), (20, 9), (range(4, 6), range(3, 9)), origin=(2, 0))
    assert torch.equal(part, x[:, 2:4, 3:])
    assert part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resizing_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert resize_region(torch.rand(1, 4, 4).to(dtype), (4, 4), (9, 9), (range(1, 5), range(9))).dtype == dtype
