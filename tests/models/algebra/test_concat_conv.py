import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gffnet.models.ops import ConcatConv2d, _shifted_sum, upsampled_conv
from tests.models import naive
from tests.models.naive import (
    assert_equal,
    assert_forms_agree,
    assert_stays_channels_last,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
    sides,
)

WIDTHS = (2, 3, 1, 4, 2)


def built(levels, kernel, bias):
    return naive.randomised(ConcatConv2d(WIDTHS[:levels], 3, kernel, bias=bias))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("plain", [False, True])
@given(sizes=pyramid_sizes(least=1), size=sides(12))
def test_equals_a_convolution_of_the_resized_and_concatenated_maps(kernel, bias, plain, sizes, size):
    module = built(len(sizes), kernel, bias)
    module.plain = plain
    maps = random_maps(module.widths, sizes)
    assert_equal(module(maps, size), naive.conv(module, naive.resized_cat(maps, size)))


HAND_MADE = {
    "equal": ([(5, 7), (5, 7)], (5, 7)),
    "coarser": ([(3, 4), (2, 1)], (5, 7)),
    "finer": ([(9, 11), (6, 8)], (5, 7)),
    "coarser, equal and finer": ([(9, 11), (5, 7), (3, 4), (3, 4)], (5, 7)),
    "coarser in height, finer in width": ([(3, 11), (5, 7)], (5, 7)),
    "coarser in height, equal in width": ([(3, 7), (5, 7)], (5, 7)),
    "coarser, apart": ([(3, 4), (5, 7), (3, 4), (5, 7)], (5, 7)),
    "of one value": ([(1, 1), (1, 1)], (5, 7)),
    "to one value": ([(4, 4), (1, 1)], (1, 1)),
    "to one row": ([(1, 2), (3, 3)], (1, 9)),
    "to one column": ([(2, 1), (1, 1)], (9, 1)),
}


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("sizes", "size"), HAND_MADE.values(), ids=HAND_MADE)
def test_both_forms_and_their_gradients_agree(kernel, sizes, size):
    module = built(len(sizes), kernel, bias=True)
    maps = random_maps(module.widths, sizes)
    assert_forms_agree(module, lambda m: m(maps, size), maps)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("size", [(3, 4), (5, 7)])
def test_sums_of_shifted_maps_stay_channels_last(dim, size):
    taps = random_maps([4] * 3, [size] * 3, dtype=torch.float32)
    assert_stays_channels_last(lambda *maps: _shifted_sum(maps, (5, 7), dim), taps)


@given(source=sides(6), more=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_upsampled_conv_is_a_convolution_after_upsampling(source, more):
    size = (source[0] + more[0], source[1] + more[1])
    x, weight = random_maps([2], [source])[0], torch.randn(3, 2, 3, 3, dtype=torch.float64)
    assert_equal(upsampled_conv(x, weight, size), F.conv2d(naive.resize(x, size), weight, padding=1))


def test_a_tap_outside_the_map_adds_nothing():
    """A kernel of ones over a map of ones counts the taps inside: 4 in a corner, 6 on an edge, 9 elsewhere."""
    module = ConcatConv2d([1], 1, 3)
    nn.init.ones_(module.weight)
    counts = module([torch.ones(1, 1, 2, 2)], (4, 5))[0, 0]
    assert counts.tolist() == [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]


def test_parameters_are_those_of_a_plain_convolution():
    ours, plain = ConcatConv2d([2, 3], 4, 3, bias=True), nn.Conv2d(5, 4, 3, padding=1)
    ours.load_state_dict(plain.state_dict())
    maps = random_maps([2, 3], [(6, 5), (3, 3)], dtype=torch.float32)
    torch.testing.assert_close(ours(maps, (6, 5)), plain(naive.resized_cat(maps, (6, 5))))


@pytest.mark.parametrize(("kernel", "most"), [(1, 1.5), (3, 1.75)])
@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_error_is_near_the_plain_form_s(kernel, most, seed):
    """Partial results are rounded before they are added: about 1.25 times its error for 1x1, 1.53 for 3x3."""
    torch.manual_seed(seed)
    module = naive.randomised(ConcatConv2d([64] * 4, 64, kernel))
    maps = random_maps([64] * 4, [(32, 32), (16, 16), (16, 16), (8, 8)])
    cheap, plain = bfloat16_errors(module, lambda m, x: m(x, (32, 32)), maps)
    assert cheap <= most * plain


def test_other_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel must be 1 or 3, not 5"):
        ConcatConv2d([1], 1, 5)
