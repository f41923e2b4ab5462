"""The ops against convolutions, sums and resizing written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gffnet.models.ops import (
    ConcatConv2d,
    LevelSum,
    PooledConv2d,
    bilinear_matrix,
    resize,
    use_reference,
)
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    assert_equal,
    assert_implementations_agree,
    assert_stays_channels_last,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
    sides,
)


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


class TestResize:
    @given(sides(), sides(12))
    def test_resize_is_bilinear_between_four_neighbors(self, source, size):
        x = torch.randn(1, 1, *source, dtype=torch.float64)
        rows = x[0, 0].tolist()
        expected = [[bilinear_value(rows, i, j, size) for j in range(size[1])] for i in range(size[0])]
        assert_equal(resize(x, size)[0, 0], torch.tensor(expected, dtype=torch.float64))

    def test_a_map_of_the_size_asked_for_comes_back_as_it_is(self):
        x = torch.randn(1, 2, 5, 7)
        assert resize(x, (5, 7)) is x

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_bilinear_matrix_is_worked_out_finely_and_rounded_once(self, dtype):
        like = torch.zeros((), dtype=dtype)
        exact = bilinear_matrix([6], 129, torch.zeros((), dtype=torch.float64))
        got = bilinear_matrix([6], 129, like)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


class TestLevelSum:
    @pytest.mark.parametrize("others_only", [False, True])
    @pytest.mark.parametrize("reference", [False, True])
    @given(sizes=pyramid_sizes())
    def test_every_level_is_the_sum_of_the_resized_levels(self, others_only, reference, sizes):
        module = LevelSum(others_only)
        module.reference = reference
        maps = random_maps([3] * len(sizes), sizes)
        before = [x.clone() for x in maps]
        got = module(maps)
        for level, (total, size) in enumerate(zip(got, sizes, strict=True)):
            expected = torch.zeros(2, 3, *size, dtype=torch.float64)
            for i, x in enumerate(before):
                if i != level or not others_only:
                    expected += naive.resize(x, size)
            assert_equal(total, expected)
        assert_equal(maps, before)

    @pytest.mark.parametrize("others_only", [False, True])
    @pytest.mark.parametrize("sizes", [*BACKBONE_SIZES, [(3, 3)] * 3, [(1, 1), (4, 2)]])
    def test_reference_and_efficient_agree_with_their_gradients(self, others_only, sizes):
        maps = random_maps([3] * len(sizes), sizes)
        assert_implementations_agree(LevelSum(others_only), lambda m: m(maps), maps)

    def test_by_hand(self):
        ones = [torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 100.0)]
        assert [x.unique().tolist() for x in LevelSum(others_only=False)(ones)] == [[111], [111], [111]]
        assert [x.unique().tolist() for x in LevelSum(others_only=True)(ones)] == [[110], [101], [11]]

    @pytest.mark.parametrize("others_only", [False, True])
    @pytest.mark.parametrize("seed", range(3))
    def test_bfloat16_error_is_no_larger_than_that_of_the_reference(self, others_only, seed):
        torch.manual_seed(seed)
        maps = random_maps([16] * 4, [(32, 32), (16, 16), (16, 16), (16, 16)])
        efficient, reference = bfloat16_errors(LevelSum(others_only), lambda m, x: m(x), maps)
        assert efficient <= 1.1 * reference

    def test_a_large_map_of_its_own_leaves_no_trace_in_what_it_receives(self):
        """A total less the level's own map would lose the others' values in bfloat16."""
        own, other = torch.full((1, 1, 3, 3), 1024.0), torch.full((1, 1, 3, 3), 0.125)
        received = LevelSum(others_only=True)([own.bfloat16(), other.bfloat16()])[0]
        assert received.unique().tolist() == [0.125]


CHANNELS = (2, 3, 1, 4, 2)


def concat_conv(levels, kernel, bias):
    return naive.randomized(ConcatConv2d(CHANNELS[:levels], 3, kernel, bias=bias))


CASES = {
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


class TestConcatConv2d:
    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("reference", [False, True])
    @given(sizes=pyramid_sizes(least=1), size=sides(12))
    def test_equals_a_convolution_of_the_resized_and_concatenated_maps(self, kernel, bias, reference, sizes, size):
        module = concat_conv(len(sizes), kernel, bias)
        module.reference = reference
        maps = random_maps(module.map_channels, sizes)
        assert_equal(module(maps, size), naive.conv(module, naive.resized_cat(maps, size)))

    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize(("sizes", "size"), CASES.values(), ids=CASES)
    def test_reference_and_efficient_agree_with_their_gradients(self, kernel, sizes, size):
        module = concat_conv(len(sizes), kernel, bias=True)
        maps = random_maps(module.map_channels, sizes)
        assert_implementations_agree(module, lambda m: m(maps, size), maps)

    def test_a_tap_outside_the_map_adds_nothing(self):
        """A kernel of ones over a map of ones counts the taps inside: 4 in a corner, 6 on an edge, 9 elsewhere."""
        module = ConcatConv2d([1], 1, 3)
        nn.init.ones_(module.weight)
        counts = module([torch.ones(1, 1, 2, 2)], (4, 5))[0, 0]
        assert counts.tolist() == [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]

    def test_parameters_are_those_of_nn_conv2d(self):
        ours, conv = ConcatConv2d([2, 3], 4, 3, bias=True), nn.Conv2d(5, 4, 3, padding=1)
        ours.load_state_dict(conv.state_dict())
        maps = random_maps([2, 3], [(6, 5), (3, 3)], dtype=torch.float32)
        torch.testing.assert_close(ours(maps, (6, 5)), conv(naive.resized_cat(maps, (6, 5))))

    @pytest.mark.parametrize(("kernel", "most"), [(1, 1.5), (3, 1.75)])
    @pytest.mark.parametrize("seed", range(3))
    def test_bfloat16_error_is_close_to_that_of_the_reference(self, kernel, most, seed):
        """Partial results are rounded before they are added: about 1.25 times its error for 1x1, 1.53 for 3x3."""
        torch.manual_seed(seed)
        module = naive.randomized(ConcatConv2d([64] * 4, 64, kernel))
        maps = random_maps([64] * 4, [(32, 32), (16, 16), (16, 16), (8, 8)])
        efficient, reference = bfloat16_errors(module, lambda m, x: m(x, (32, 32)), maps)
        assert efficient <= most * reference

    def test_other_kernels_are_refused(self):
        with pytest.raises(ValueError, match="kernel_size must be 1 or 3, not 5"):
            ConcatConv2d([1], 1, 5)


class TestPooledConv2d:
    @pytest.mark.parametrize("reference", [False, True])
    @given(size=sides(13), pooled_sizes=st.lists(sides(7), min_size=1, max_size=4))
    def test_equals_a_convolution_of_the_map_and_the_resized_pooled_maps(self, reference, size, pooled_sizes):
        """The pooled maps may be coarser or finer than the map."""
        module = naive.randomized(PooledConv2d(3, 2, len(pooled_sizes), 4))
        module.reference = reference
        x, *pooled = random_maps(module.map_channels, [size, *pooled_sizes])
        assert_equal(module(x, pooled), naive.conv(module, naive.resized_cat([x, *pooled], size)))

    @pytest.mark.parametrize("size", [(7, 9), (1, 1), (1, 8), (12, 3)])
    def test_reference_and_efficient_agree_with_their_gradients(self, size):
        module = naive.randomized(PooledConv2d(3, 2, 4, 4))
        x, *pooled = random_maps(module.map_channels, [size, (1, 1), (2, 2), (3, 3), (6, 6)])
        assert_implementations_agree(module, lambda m: m(x, pooled), [x, *pooled])

    def test_stays_channels_last(self):
        module = PooledConv2d(8, 4, 4, 8).to(memory_format=torch.channels_last)
        maps = random_maps(module.map_channels, [(7, 9), (1, 1), (2, 2), (3, 3), (6, 6)], dtype=torch.float32)
        assert_stays_channels_last(lambda x, *pooled: module(x, pooled), maps, module.weight)

    def test_parameters_are_those_of_nn_conv2d(self):
        ours, conv = PooledConv2d(3, 2, 2, 4), nn.Conv2d(7, 4, 3, padding=1, bias=False)
        ours.load_state_dict(conv.state_dict())
        x, *pooled = random_maps([3, 2, 2], [(6, 5), (1, 1), (2, 2)], dtype=torch.float32)
        torch.testing.assert_close(ours(x, pooled), conv(naive.resized_cat([x, *pooled], (6, 5))))

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_bfloat16_error_is_close_to_that_of_the_reference(self, seed):
        """About 1.28 times that of the reference."""
        torch.manual_seed(seed)
        module = naive.randomized(PooledConv2d(64, 16, 4, 32))
        maps = random_maps(module.map_channels, [(33, 33), (1, 1), (2, 2), (3, 3), (6, 6)])
        efficient, reference = bfloat16_errors(module, lambda m, x: m(x[0], x[1:]), maps)
        assert efficient <= 1.5 * reference


def parts():
    return nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.ModuleList([ConcatConv2d([1, 1], 1, 3), LevelSum(True)]), PooledConv2d(1, 1, 1, 1)
    )


def references(module):
    return [part.reference for part in module.modules() if hasattr(part, "reference")]


class TestUseReference:
    def test_the_efficient_implementation_is_the_default(self):
        assert references(parts()) == [False, False, False]

    def test_it_reaches_every_part_and_goes_both_ways(self):
        module = parts()
        use_reference(module)
        assert references(module) == [True, True, True]
        use_reference(module, False)
        assert references(module) == [False, False, False]

    def test_the_choice_is_neither_parameter_nor_buffer(self):
        module = parts()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        use_reference(module)
        after = module.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())
