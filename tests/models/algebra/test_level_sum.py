import pytest
import torch
from hypothesis import given

from gffnet.models.ops import LevelSum
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    assert_equal,
    assert_forms_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
)


@pytest.mark.parametrize("others_only", [False, True])
@pytest.mark.parametrize("plain", [False, True])
@given(sizes=pyramid_sizes())
def test_every_level_is_the_sum_of_the_resized_levels(others_only, plain, sizes):
    module = LevelSum(others_only)
    module.plain = plain
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
def test_both_forms_and_their_gradients_agree(others_only, sizes):
    maps = random_maps([3] * len(sizes), sizes)
    assert_forms_agree(LevelSum(others_only), lambda m: m(maps), maps)


def test_hand_made():
    ones = [torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 100.0)]
    assert [x.unique().tolist() for x in LevelSum(others_only=False)(ones)] == [[111], [111], [111]]
    assert [x.unique().tolist() for x in LevelSum(others_only=True)(ones)] == [[110], [101], [11]]


@pytest.mark.parametrize("others_only", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_error_is_no_larger_than_the_plain_form_s(others_only, seed):
    torch.manual_seed(seed)
    maps = random_maps([16] * 4, [(32, 32), (16, 16), (16, 16), (16, 16)])
    cheap, plain = bfloat16_errors(LevelSum(others_only), lambda m, x: m(x), maps)
    assert cheap <= 1.1 * plain


def test_a_large_map_of_its_own_leaves_no_trace_in_what_it_receives():
    """A total less the level's own map would lose the others' values in bfloat16."""
    own, other = torch.full((1, 1, 3, 3), 1024.0), torch.full((1, 1, 3, 3), 0.125)
    received = LevelSum(others_only=True)([own.bfloat16(), other.bfloat16()])[0]
    assert received.unique().tolist() == [0.125]
