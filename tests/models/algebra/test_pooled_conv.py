import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gffnet.models.ops import PooledConv2d, spread_conv
from tests.models import naive
from tests.models.naive import (
    assert_equal,
    assert_forms_agree,
    assert_stays_channels_last,
    bfloat16_errors,
    random_maps,
    sides,
)


@pytest.mark.parametrize("plain", [False, True])
@given(size=sides(13), pooled_sizes=st.lists(sides(7), min_size=1, max_size=4))
def test_equals_a_convolution_of_the_map_and_the_resized_pooled_maps(plain, size, pooled_sizes):
    """The pooled maps may be coarser or finer than the map."""
    module = naive.randomised(PooledConv2d(3, 2, len(pooled_sizes), 4))
    module.plain = plain
    x, *pooled = random_maps(module.widths, [size, *pooled_sizes])
    assert_equal(module(x, pooled), naive.conv(module, naive.resized_cat([x, *pooled], size)))


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (1, 8), (12, 3)])
def test_both_forms_and_their_gradients_agree(size):
    module = naive.randomised(PooledConv2d(3, 2, 4, 4))
    x, *pooled = random_maps(module.widths, [size, (1, 1), (2, 2), (3, 3), (6, 6)])
    assert_forms_agree(module, lambda m: m(x, pooled), [x, *pooled])


def test_stays_channels_last():
    module = PooledConv2d(8, 4, 4, 8).to(memory_format=torch.channels_last)
    maps = random_maps(module.widths, [(7, 9), (1, 1), (2, 2), (3, 3), (6, 6)], dtype=torch.float32)
    assert_stays_channels_last(lambda x, *pooled: module(x, pooled), maps, module.weight)


@given(size=sides(13), source=sides(7))
def test_spread_conv_is_the_sum_of_convolutions_after_resizing(size, source):
    pooled = random_maps([2, 2], [source, (1, 1)])
    weights = [torch.randn(4, 2, 3, 3, dtype=torch.float64) for _ in pooled]
    expected = sum(F.conv2d(naive.resize(p, size), w, padding=1) for p, w in zip(pooled, weights, strict=True))
    assert_equal(spread_conv(pooled, weights, size), expected)


def test_parameters_are_those_of_a_plain_convolution():
    ours, plain = PooledConv2d(3, 2, 2, 4), nn.Conv2d(7, 4, 3, padding=1, bias=False)
    ours.load_state_dict(plain.state_dict())
    x, *pooled = random_maps([3, 2, 2], [(6, 5), (1, 1), (2, 2)], dtype=torch.float32)
    torch.testing.assert_close(ours(x, pooled), plain(naive.resized_cat([x, *pooled], (6, 5))))


@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_error_is_near_the_plain_form_s(seed):
    """About 1.28 times the plain form's."""
    torch.manual_seed(seed)
    module = naive.randomised(PooledConv2d(64, 16, 4, 32))
    maps = random_maps(module.widths, [(33, 33), (1, 1), (2, 2), (3, 3), (6, 6)])
    cheap, plain = bfloat16_errors(module, lambda m, x: m(x[0], x[1:]), maps)
    assert cheap <= 1.5 * plain
