"""Where windows lie, how many cover a pixel, and padding."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gffnet.inference.tiling import Span, axes, pad_to, window_starts
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)


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
def test_windows_over_a_span_are_those_that_share_a_pixel_with_it(
    length: int, crop: int, overlap: float, data: st.DataObject
) -> None:
    axis, _ = axes((length, 1), EvaluationRecipe((crop, 16), overlap))
    first = data.draw(st.integers(0, length - 1))
    span = Span(first, data.draw(st.integers(first + 1, length)))
    expected = [s for s in axis.starts if set(range(s, s + crop)) & set(range(span.first, span.stop))]
    assert list(axis.over(span).starts) == expected


def test_padding_is_the_mean_colour_below_and_to_the_right() -> None:
    image = torch.randint(0, 256, (3, 3, 4)).float()
    padded = pad_to(image, (5, 6), MEAN)
    assert padded.shape == (3, 5, 6)
    assert torch.equal(padded[:, :3, :4], image)
    mean = torch.tensor(MEAN)[:, None, None]
    assert torch.equal(padded[:, 3:], mean.expand(3, 2, 6))
    assert torch.equal(padded[:, :, 4:], mean.expand(3, 5, 2))


def test_what_is_large_enough_is_not_padded() -> None:
    image = torch.zeros(3, 5, 6)
    assert pad_to(image, (5, 6), MEAN) is image
    assert pad_to(image, (4, 9), MEAN).shape == (3, 5, 9)
