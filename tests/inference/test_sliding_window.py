"""The sliding window against a naive float64 implementation: windows, flips, scales, padding and resizing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from gffnet.inference.sliding_window import (
    SlidingWindow,
    as_slice,
    axes,
    pad_to,
    resize_region,
    scaled_size,
    source_range,
    window_starts,
)
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)
CLASSES = 4


def scorer(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Logits that depend on a pixel's neighbourhood and on the borders of the window."""
    generator = torch.Generator().manual_seed(seed)
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
def test_scales_and_flips(size: tuple[int, int], crop: tuple[int, int] | None, flip: bool) -> None:
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


# Properties of any protocol


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


def test_windows_of_a_row_and_their_flips_are_one_batch() -> None:
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
def test_flipping_the_image_flips_the_result(crop: tuple[int, int] | None) -> None:
    """For windows that are placed symmetrically."""
    image = torch.from_numpy(picture(30, 40))
    window = SlidingWindow(scorer(), CLASSES, EvaluationRecipe(crop, flip=True), MEAN)
    direct, flipped = (window.probabilities(view) for view in (image, image.flip(-1)))
    torch.testing.assert_close(flipped.flip(-1), direct, rtol=0, atol=1e-6)
    assert (direct.flip(-1) - direct).abs().max() > 1e-3


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
    assert (steps[:-1] == max(1, round(crop * (1 - overlap)))).all()


sides = st.integers(1, 90)


@given(sides, sides, st.integers(16, 60), st.integers(16, 60), st.floats(0, 0.9))
def test_cover_counts_the_windows_over_a_pixel(height: int, width: int, tall: int, wide: int, overlap: float) -> None:
    rows, columns = axes((height, width), EvaluationRecipe((tall, wide), overlap))
    counted = np.zeros((max(height, tall), max(width, wide)), int)
    for top in rows.starts:
        for left in columns.starts:
            counted[top : top + tall, left : left + wide] += 1
    cover = rows.cover()[:, None] * columns.cover()
    np.testing.assert_array_equal(cover.numpy(), counted[:height, :width])
    assert cover.min() >= 1


def test_without_a_crop_the_image_is_the_window() -> None:
    for axis, length in zip(axes((7, 300), EvaluationRecipe()), (7, 300), strict=True):
        assert axis == (length, length, (0,))


@given(sides, st.integers(16, 60), st.floats(0, 0.9), st.data())
def test_windows_over_positions_are_those_that_share_a_pixel_with_them(
    length: int, crop: int, overlap: float, data: st.DataObject
) -> None:
    axis, _ = axes((length, 1), EvaluationRecipe((crop, 16), overlap))
    first = data.draw(st.integers(0, length - 1))
    positions = range(first, data.draw(st.integers(first + 1, length)))
    expected = [s for s in axis.starts if set(range(s, s + crop)) & set(positions)]
    assert list(axis.over(positions).starts) == expected


def test_padding_is_the_mean_color_below_and_to_the_right() -> None:
    image = torch.randint(0, 256, (3, 3, 4)).float()
    padded = pad_to(image, (5, 6), MEAN)
    assert padded.shape == (3, 5, 6)
    assert torch.equal(padded[:, :3, :4], image)
    mean = torch.tensor(MEAN)[:, None, None]
    assert torch.equal(padded[:, 3:], mean.expand(3, 2, 6))
    assert torch.equal(padded[:, :, 4:], mean.expand(3, 5, 2))


def test_large_enough_images_are_not_padded() -> None:
    image = torch.zeros(3, 5, 6)
    assert pad_to(image, (5, 6), MEAN) is image
    assert pad_to(image, (4, 9), MEAN).shape == (3, 5, 9)


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


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((360, 480), 0.75, (270, 360)), ((1, 1), 0.5, (1, 1)), ((5, 7), 1.5, (8, 10)), ((3, 100), 1 / 8, (1, 12))],
)
def test_scaled_sizes_are_whole_pixels(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert scaled_size(size, scale) == expected
