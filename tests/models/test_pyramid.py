import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gffnet.models.ops import use_reference
from gffnet.models.pyramid import DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    assert_equal,
    assert_implementations_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
    sides,
)

CHANNELS = 4
KINDS = [FeaturePyramid, DenseFeaturePyramid, LiteralDensePyramid]
contexts = st.sampled_from([2, CHANNELS, 7])


def built(kind, context_channels, levels, kernel=1):
    options = {} if kind is FeaturePyramid else {"kernel_size": kernel}
    return naive.randomized(kind(context_channels, levels, CHANNELS, **options))


def inputs(context_channels, context_size, sizes):
    return random_maps([context_channels, *[CHANNELS] * len(sizes)], [context_size, *sizes])


def first(pyramid, context):
    """`y_0` in `CHANNELS` channels."""
    return context if context.shape[1] == CHANNELS else naive.block(pyramid.reduce_context, context)


def prose(pyramid, context, fused):
    """Eq. (6) as the prose has it: y_i = H_i([y_0, ..., y_{i-1}, X̃_{L+1-i}])."""
    levels = len(fused)
    y = {0: first(pyramid, context)}
    for i in range(1, levels + 1):
        own = fused[levels + 1 - i - 1]  # X̃_{L+1-i}: X̃_1 is fused[0]
        size = own.shape[-2:]
        y[i] = naive.block(pyramid.blocks[i - 1], naive.resized_cat([*(y[j] for j in range(i)), own], size))
    return [y[i] for i in range(levels + 1)]


def literal(pyramid, context, fused):
    """Eq. (6) as printed: y_i = H_i([y_0, X̃_L, ..., X̃_{L+2-i}]), all at the finest resolution."""
    levels = len(fused)
    y = [first(pyramid, context)]
    for i in range(1, levels + 1):
        above = [fused[level - 1] for level in range(levels, levels + 2 - i - 1, -1)]
        y.append(naive.block(pyramid.blocks[i - 1], naive.resized_cat([y[0], *above], fused[0].shape[-2:])))
    return [*y, fused[0]]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("kind", "equation"), [(DenseFeaturePyramid, prose), (LiteralDensePyramid, literal)])
@given(sizes=pyramid_sizes(least=1), context_size=sides(), context_channels=contexts)
def test_equals_equation_6(kind, equation, reference, kernel, sizes, context_size, context_channels):
    pyramid = built(kind, context_channels, len(sizes), kernel)
    use_reference(pyramid, reference)
    context, *fused = inputs(context_channels, context_size, sizes)
    assert_equal(pyramid(context, fused), equation(pyramid, context, fused))


@given(sizes=pyramid_sizes(), context_size=sides(), context_channels=contexts)
def test_without_dense_connections_the_maps_come_back_topmost_first(sizes, context_size, context_channels):
    pyramid = built(FeaturePyramid, context_channels, len(sizes))
    context, *fused = inputs(context_channels, context_size, sizes)
    assert_equal(pyramid(context, fused), [first(pyramid, context), *fused[::-1]])


def test_the_literal_pyramid_leaves_the_finest_map_out_of_its_blocks():
    pyramid = built(LiteralDensePyramid, CHANNELS, 4)
    context, *fused = inputs(CHANNELS, (7, 9), BACKBONE_SIZES[0])
    *before, _ = pyramid(context, fused)
    fused[0] = torch.randn_like(fused[0])
    *after, last = pyramid(context, fused)
    assert_equal(after, before)
    assert last is fused[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context_channels", [2, CHANNELS, 7])
@pytest.mark.parametrize("sizes", BACKBONE_SIZES)
def test_out_channels_are_those_of_the_maps_returned(kind, context_channels, sizes):
    pyramid = built(kind, context_channels, 4)
    maps = pyramid(inputs(context_channels, sizes[-1], sizes)[0], inputs(context_channels, sizes[-1], sizes)[1:])
    assert tuple(x.shape[1] for x in maps) == pyramid.out_channels
    assert tuple(maps[0].shape[-2:]) == sizes[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_map_of_the_same_channels_is_not_reduced(kind):
    context, *fused = inputs(CHANNELS, (7, 9), BACKBONE_SIZES[0])
    pyramid = built(kind, CHANNELS, 4)
    assert isinstance(pyramid.reduce_context, nn.Identity)
    assert pyramid(context, fused)[0] is context


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_reference_and_efficient_agree_with_their_gradients(kind, kernel):
    pyramid = built(kind, 7, 4, kernel)
    context, *fused = inputs(7, (7, 9), BACKBONE_SIZES[0])
    assert_implementations_agree(pyramid, lambda m: m(context, fused), [context, *fused])


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_every_parameter(kind):
    pyramid = built(kind, 7, 4).train()
    context, *fused = inputs(7, (7, 9), BACKBONE_SIZES[0])
    sum((x * torch.randn_like(x)).sum() for x in pyramid(context, fused)).backward()
    assert [name for name, p in pyramid.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_are_independent(kind):
    pyramid = built(kind, 7, 4)
    context, *fused = inputs(7, (7, 9), BACKBONE_SIZES[0])
    together = pyramid(context, fused)
    for i in range(2):
        alone = pyramid(context[i : i + 1], [x[i : i + 1] for x in fused])
        assert_equal(alone, [x[i : i + 1] for x in together])


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_error_is_close_to_that_of_the_reference(kind):
    pyramid = naive.randomized(kind(64, 4, 32))
    maps = random_maps([64, 32, 32, 32, 32], [(16, 16), (32, 32), (16, 16), (16, 16), (16, 16)])
    efficient, reference = bfloat16_errors(pyramid, lambda m, x: m(x[0], x[1:]), maps)
    assert efficient <= 1.5 * reference


def parameters(pyramid):
    return sum(p.numel() for p in pyramid.parameters())


def test_parameters():
    """`y_0` from 512 to 256 channels, and blocks of 256 channels: 2 + 3 + 4 + 5 to 256, or 1 + 2 + 3 + 4."""
    reduction, block, norm = 512 * 256, 256 * 256, 2 * 256
    with torch.device("meta"):
        assert parameters(FeaturePyramid(512)) == reduction + norm
        assert parameters(FeaturePyramid(256)) == 0
        assert parameters(DenseFeaturePyramid(512)) == reduction + 14 * block + 5 * norm == 1_051_136
        assert parameters(DenseFeaturePyramid(512, kernel_size=3)) == reduction + 9 * 14 * block + 5 * norm
        assert parameters(LiteralDensePyramid(512)) == reduction + 10 * block + 5 * norm
