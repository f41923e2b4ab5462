"""Resized parts against the same rows and columns of a map that torch resizes whole."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gffnet.inference.tiling import Span, resize_part, taken

lengths = st.integers(1, 40)


def whole(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]


def spans(draw: st.DataObject, length: int) -> Span:
    first = draw.draw(st.integers(0, length - 1))
    return Span(first, draw.draw(st.integers(first + 1, length)))


@given(lengths, lengths, lengths, lengths, st.data())
def test_any_part_is_that_of_the_whole(h: int, w: int, height: int, width: int, data: st.DataObject) -> None:
    x = torch.rand(2, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(h * w))
    rows, columns = spans(data, height), spans(data, width)
    held = (taken(rows, h, height), taken(columns, w, width))
    part = resize_part(x[:, held[0].slice(), held[1].slice()], held, (h, w), (height, width), (rows, columns))
    torch.testing.assert_close(part, whole(x, (height, width))[:, rows.slice(), columns.slice()], rtol=0, atol=1e-12)


@given(lengths, lengths, st.data())
def test_what_is_taken_is_all_that_counts_and_no_more(source: int, target: int, data: st.DataObject) -> None:
    """The rest of the source may hold anything; each of its ends is needed or next to one that is."""
    wanted = spans(data, target)
    span = taken(wanted, source, target)
    matrix = whole(torch.eye(source, dtype=torch.float64)[:, :, None], (target, 1))[:, wanted.slice(), 0]
    used = matrix.abs().amax(1).nonzero().flatten().tolist()
    assert span.first <= min(used) <= span.first + 1
    assert max(used) <= span.stop - 1 <= max(used) + 1
    assert 0 <= span.first < span.stop <= source


def test_what_keeps_its_size_is_a_view() -> None:
    x = torch.rand(2, 8, 9)
    held = (Span(2, 10), Span(0, 9))
    part = resize_part(x, held, (20, 9), (20, 9), (Span(4, 6), Span(3, 9)))
    assert torch.equal(part, x[:, 2:4, 3:])
    assert part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_a_span_within_a_map_that_begins_elsewhere() -> None:
    assert Span(5, 9).slice(3) == slice(2, 6)
    assert Span(5, 9).length == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_number_format(dtype: torch.dtype) -> None:
    span = (Span(0, 4), Span(0, 4))
    assert resize_part(torch.rand(1, 4, 4).to(dtype), span, (4, 4), (9, 9), (Span(1, 5), Span(0, 9))).dtype == dtype
