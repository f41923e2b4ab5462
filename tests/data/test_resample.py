import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from gffnet.data.transforms import PHASE, Span, resample, resample_labels, source_of
from tests.data.trees import ids, picture


@st.composite
def spans(draw: st.DrawFn, largest: int = 90) -> Span:
    side = draw(st.integers(1, largest))
    scaled = max(1, round(side * draw(st.floats(0.3, 3.0))))
    first = draw(st.integers(0, scaled - 1))
    return Span(side, scaled, first, draw(st.integers(1, scaled - first)))


def weights(span: Span, shift: float = 0.0) -> NDArray[np.float64]:
    """The antialiased bilinear filter written out: a triangle a pixel, as wide as the wider of the two pixels."""
    step = span.side / span.scaled
    centres = (np.arange(span.first, span.first + span.length) + 0.5) * step + shift
    distance = np.abs(np.arange(span.side) + 0.5 - centres[:, None]) / max(1.0, step)
    triangle = np.maximum(0.0, 1.0 - distance)
    return triangle / triangle.sum(1, keepdims=True)


def window(image: NDArray[np.uint8], rows: Span, columns: Span) -> NDArray[np.uint8]:
    sources = source_of(rows), source_of(columns)
    return resample(image[sources[0].part, sources[1].part], rows, columns, sources)


@settings(max_examples=300)
@given(spans(), spans(), st.integers(0, 99))
@example(Span(9, 10, 1, 1), Span(2, 2, 1, 1), 0)  # as many pixels come out as go in
@example(Span(1000, 1001, 600, 40), Span(31, 65, 4, 50), 0)
def test_the_image_is_the_window_of_the_scaled_image_shifted_by_less_than_the_phase(
    rows: Span, columns: Span, seed: int
) -> None:
    """Against the filter in float64, at the shift that is left over on either side."""
    image = picture(seed, (rows.side, columns.side))
    shifts = []
    for span in (rows, columns):
        part, extra = source_of(span)
        shift = part.start - (span.first - extra) * span.side / span.scaled
        assert abs(shift) <= PHASE + 1e-9
        shifts.append(shift)
    exact = np.einsum("ih,hwc,jw->ijc", weights(rows, shifts[0]), image.astype(np.float64), weights(columns, shifts[1]))
    got = window(image, rows, columns)
    assert got.shape == (rows.length, columns.length, 3)
    assert np.abs(got - exact).max() <= 1.0 + 0.1  # torch rounds after each of the two passes


@given(spans(), spans(), st.integers(0, 99))
def test_at_the_image_s_edge_it_is_torch_s_own_result(rows: Span, columns: Span, seed: int) -> None:
    rows, columns = rows._replace(first=0), columns._replace(first=0)
    image = picture(seed, (rows.side, columns.side))
    whole = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        size=(rows.scaled, columns.scaled),
        mode="bilinear",
        antialias=True,
    )[0].permute(1, 2, 0)
    expected = whole[rows.first : rows.first + rows.length, columns.first : columns.first + columns.length].numpy()
    assert np.abs(window(image, rows, columns).astype(int) - expected).max() <= 1


@given(spans(300), spans(300), st.integers(0, 99))
def test_labels_are_exactly_the_window_of_the_scaled_labels(rows: Span, columns: Span, seed: int) -> None:
    labels = ids(seed, 255, (rows.side, columns.side))
    sources = source_of(rows), source_of(columns)
    got = resample_labels(labels[sources[0].part, sources[1].part], rows, columns, sources)
    down, across = (
        [math.floor((2 * i + 1) * span.side / (2 * span.scaled)) for i in range(span.first, span.first + span.length)]
        for span in (rows, columns)
    )
    np.testing.assert_array_equal(got, labels[np.ix_(down, across)])


@pytest.mark.parametrize("scaled", [700, 999, 1001, 1023, 1400, 2000])
def test_little_more_than_the_window_is_read_and_computed(scaled: int) -> None:
    """On average over positions; at scales next to 1 or 1.5, where pixels drift slowly past each other, more is."""
    more = []
    for first in range(0, scaled - 400):
        part, extra = source_of(Span(1000, scaled, first, 400))
        more.append(extra)
        assert part.stop - part.start <= (400 + extra) * 1000 / scaled + 2 * max(1, 1000 / scaled) + 3
    assert np.mean(more) < (60 if scaled in {700, 1400} else 320)


@given(spans(2000))
def test_the_source_lies_within_the_side(span: Span) -> None:
    part, extra = source_of(span)
    assert 0 <= part.start < part.stop <= span.side
    assert 0 <= extra <= span.first
