import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gffnet.models.ops import averaging_mask, bilinear_matrix, resize, size_of
from tests.models.naive import assert_equal, sides


def bilinear_value(x, row, column, size):
    """One value of `x` (a list of rows) resized to `size`, from the definition: four neighbours and two fractions."""
    height, width = len(x), len(x[0])
    y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
    z = min(max((column + 0.5) * width / size[1] - 0.5, 0), width - 1)
    top, left = math.floor(y), math.floor(z)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    a, b = y - top, z - left
    return (1 - a) * ((1 - b) * x[top][left] + b * x[top][right]) + a * (
        (1 - b) * x[bottom][left] + b * x[bottom][right]
    )


@given(sides(), sides(12))
def test_resize_is_bilinear_between_four_neighbours(source, size):
    x = torch.randn(1, 1, *source, dtype=torch.float64)
    rows = x[0, 0].tolist()
    expected = [[bilinear_value(rows, i, j, size) for j in range(size[1])] for i in range(size[0])]
    assert_equal(resize(x, size)[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_size_is_height_and_width():
    assert size_of(torch.zeros(2, 3, 5, 7)) == (5, 7)


def test_a_map_of_the_size_asked_for_comes_back_as_it_is():
    x = torch.randn(1, 2, 5, 7)
    assert resize(x, (5, 7)) is x


@given(st.integers(1, 20), st.integers(1, 40))
def test_bilinear_matrix_is_what_interpolate_does_along_one_axis(source, target):
    x = torch.randn(1, 1, 1, source, dtype=torch.float64)
    expected = F.interpolate(x, size=(1, target), mode="bilinear", align_corners=False)
    assert_equal((bilinear_matrix([source], target, x) @ x[0, 0, 0]), expected[0, 0, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bilinear_matrix_is_worked_out_finely_and_rounded_once(dtype):
    like = torch.zeros((), dtype=dtype)
    exact = bilinear_matrix([6], 129, torch.zeros((), dtype=torch.float64))
    got = bilinear_matrix([6], 129, like)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


@given(st.integers(1, 8), st.integers(1, 20))
def test_averaging_mask_has_the_cells_of_adaptive_pooling(bins, length):
    mask, counts = averaging_mask([bins], length, torch.device("cpu"))
    for cell in range(bins):
        start, stop = math.floor(cell * length / bins), math.ceil((cell + 1) * length / bins)
        assert mask[cell].tolist() == [start <= place < stop for place in range(length)]
        assert counts[cell] == stop - start
