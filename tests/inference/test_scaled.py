"""One scale of an image, asked for from the top down."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gffnet.inference.tiling import ScaledImage, Span, rows_held, scaled_size
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)


def score(x: Tensor) -> Tensor:
    return torch.cat([x.double(), x.double().flip(1)], dim=1)[:, :4] / 50


def image(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.floats(0.3, 2),
    st.integers(1, 30),
    st.booleans(),
    st.data(),
)
def test_row_by_row_it_is_the_whole(
    height: int, width: int, scale: float, tallest: int, flip: bool, data: st.DataObject
) -> None:
    protocol = EvaluationRecipe((16, 20), 0.4, flip=flip)
    picture = image(height, width)
    first = data.draw(st.integers(0, width - 1))
    columns = Span(first, data.draw(st.integers(first + 1, width)))
    whole = ScaledImage(score, picture, scale, protocol, MEAN, Span(0, width), height, 1)
    expected = whole.resized(Span(0, height), columns).clone()
    strip = ScaledImage(score, picture, scale, protocol, MEAN, columns, tallest, 3)
    for top in range(0, height, tallest):
        rows = Span(top, min(top + tallest, height))
        found = strip.resized(rows, columns)
        torch.testing.assert_close(found, expected[:, rows.slice()], rtol=0, atol=1e-9)
    torch.testing.assert_close(expected.sum(0), torch.ones(height, columns.length).double(), rtol=0, atol=1e-6)


def test_windows_are_scored_when_their_rows_are_wanted_and_once() -> None:
    seen = []
    protocol = EvaluationRecipe((16, 16), 0)
    view = ScaledImage(lambda x: seen.append(x) or x, image(64, 16), 1.0, protocol, MEAN, Span(0, 16), 8, 1)
    assert not seen
    counts = []
    for top in range(0, 64, 8):
        view.resized(Span(top, top + 8), Span(0, 16))
        counts.append(len(seen))
    assert counts == [1, 1, 2, 2, 3, 3, 4, 4]


def test_only_windows_over_the_columns_are_scored() -> None:
    seen = []
    protocol = EvaluationRecipe((16, 16), 0)
    view = ScaledImage(lambda x: seen.append(x) or x, image(16, 160), 1.0, protocol, MEAN, Span(30, 40), 16, 1)
    view.resized(Span(0, 16), Span(30, 40))
    assert len(seen) == 2  # those at columns 16 and 32


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((360, 480), 0.75, (270, 360)), ((1, 1), 0.5, (1, 1)), ((5, 7), 1.5, (8, 10)), ((3, 100), 1 / 8, (1, 12))],
)
def test_scaled_sizes_are_whole_pixels(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert scaled_size(size, scale) == expected


def test_never_more_rows_are_held_than_there_are() -> None:
    assert rows_held(source=100, scaled=150, crop=40, tallest=100) == 150
    assert rows_held(source=100, scaled=150, crop=40, tallest=10) == 15 + 2 + 40
