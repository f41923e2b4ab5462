"""Every context module against its definition."""

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from gffnet.models.context import Context, DenseASPP, NoContext, PyramidPooling, adaptive_averages
from tests.models import naive
from tests.models.naive import Size, assert_equal, assert_implementations_agree, bfloat16_errors, sides

BINS = (1, 2, 3, 6)

inherited = settings(suppress_health_check=[HealthCheck.differing_executors], max_examples=10)


class ContextContract:
    """Inherit, set `kind`, write `equation`."""

    kind: ClassVar[type[Context]]

    def equation(self, context: Any, x: Tensor) -> Tensor:
        """The module's definition, written out from its parameters."""
        raise NotImplementedError

    def build(self, in_channels: int = 8) -> Any:
        """The context with random weights, in float64."""
        return naive.randomized(self.kind(in_channels))

    @inherited
    @given(size=sides(13))
    def test_equals_its_definition(self, size: Size):
        context = self.build()
        x = torch.randn(2, 8, *size, dtype=torch.float64)
        before = x.clone()
        assert_equal(context(x), self.equation(context, before))
        assert_equal(x, before)

    @pytest.mark.parametrize(("in_channels", "out_channels"), [(512, 256), (1024, 256), (2048, 512)])
    def test_width_is_a_quarter_of_the_input_s_and_at_least_256(self, in_channels: int, out_channels: int):
        with torch.device("meta"):
            context = self.kind(in_channels)
            assert context(torch.zeros(2, in_channels, 5, 7)).shape == (2, out_channels, 5, 7)
        assert (context.in_channels, context.out_channels) == (in_channels, out_channels)

    def test_reference_and_efficient_agree_with_their_gradients(self):
        context, x = self.build(), torch.randn(2, 8, 7, 9, dtype=torch.float64)
        assert_implementations_agree(context, lambda m: m(x), [x])

    @pytest.mark.parametrize("size", [(6, 7), (1, 1)])
    def test_trains_with_one_image(self, size: Size):
        context = self.build().train()
        y = context(torch.randn(1, 8, *size, dtype=torch.float64))
        (y * torch.randn_like(y)).sum().backward()
        assert y.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in context.parameters())

    def test_training_reaches_every_parameter(self):
        context = self.build().train()
        y = context(torch.randn(2, 8, 12, 13, dtype=torch.float64))
        (y * torch.randn_like(y)).sum().backward()
        assert [name for name, p in context.named_parameters() if not p.grad.any()] == []

    def test_images_of_a_batch_are_independent(self):
        context, x = self.build(), torch.randn(3, 8, 7, 9, dtype=torch.float64)
        together = context(x)
        for i in range(3):
            assert_equal(context(x[i : i + 1]), together[i : i + 1])

    @pytest.mark.slow
    def test_bfloat16_error_is_close_to_that_of_the_reference(self):
        context, x = self.build(64), torch.randn(2, 64, 33, 33, dtype=torch.float64)
        efficient, reference = bfloat16_errors(context, lambda m, inputs: m(inputs[0]), [x])
        assert efficient <= 1.5 * reference


class TestPyramidPooling(ContextContract):
    kind = PyramidPooling

    def equation(self, context, x):
        """p_b = H_1x1(pool_bxb(x)), b = 1 2 3 6; y_0 = H_3x3([x, p_1, p_2, p_3, p_6])."""
        pooled = [
            naive.block(branch, F.adaptive_avg_pool2d(x, b))
            for branch, b in zip(context.branches, (1, 2, 3, 6), strict=True)
        ]
        return naive.block(context.project, naive.resized_cat([x, *pooled], x.shape[-2:]))


@pytest.mark.parametrize("height", [*range(1, 8), 12, 13, 20])
def test_adaptive_averages_are_those_of_torch_at_every_size(height):
    for width in (1, 2, 5, 6, 7, 11, 12, 19):
        x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
        ours = adaptive_averages(x, BINS)
        theirs = [F.adaptive_avg_pool2d(x, b) for b in BINS]
        assert_equal(ours, theirs)
        weights = [torch.randn_like(p) for p in theirs]
        gradients = [
            torch.autograd.grad(sum((p * w).sum() for p, w in zip(maps, weights, strict=True)), x)
            for maps in (ours, theirs)
        ]
        assert_equal(*gradients)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_adaptive_averages_in_bfloat16_round_three_times_where_torch_rounds_once(shift):
    """Sums of rows, sums of cells, averages: at most three times the error, and nothing lost in the weights."""
    low = (torch.randn(2, 16, 65, 65, dtype=torch.float64) + shift).bfloat16()
    for ours, b in zip(adaptive_averages(low, BINS), BINS, strict=True):
        exact = F.adaptive_avg_pool2d(low.double(), b)
        error, once = ((x.double() - exact).square().mean().sqrt() for x in (ours, F.adaptive_avg_pool2d(low, b)))
        assert ours.dtype == torch.bfloat16
        assert error <= 3 * once


def test_training_with_one_image_keeps_the_statistics_of_the_1x1_bin_only():
    context = PyramidPooling(8).train()
    context(torch.randn(1, 8, 6, 6))
    unchanged = [bool((branch.norm.running_mean == 0).all()) for branch in context.branches]
    assert unchanged == [True, False, False, False]


def test_parameters_for_a_resnet_101():
    """Four branches of 512, and a 3x3 convolution from 4096 to 512 channels."""
    with torch.device("meta"):
        context = PyramidPooling(2048)
    expected = 4 * (2048 * 512 + 2 * 512) + 4096 * 512 * 9 + 2 * 512
    assert sum(p.numel() for p in context.parameters()) == expected


class TestDenseASPP(ContextContract):
    kind = DenseASPP

    def equation(self, context, x):
        """z_i = H_{d_i}([x, z_1, ..., z_{i-1}]), y_0 = H([x, z_1, ..., z_5])."""
        maps = [naive.block(context.reduce, x)]
        for branch in context.branches:
            maps.append(naive.blocks(branch, torch.cat(maps, dim=1)))
        return naive.block(context.project, torch.cat(maps, dim=1))


def test_layers_are_those_of_the_paper():
    with torch.device("meta"):
        context = DenseASPP(1024)
    narrow, wide = zip(*[(b[0].conv, b[1].conv) for b in context.branches], strict=True)
    assert [conv.in_channels for conv in narrow] == [512, 576, 640, 704, 768]
    assert [(conv.in_channels, conv.out_channels) for conv in wide] == [(128, 64)] * 5
    assert [conv.dilation for conv in wide] == [(d, d) for d in (3, 6, 12, 18, 24)]


@pytest.mark.parametrize(("in_channels", "reduced"), [(512, 256), (1024, 512), (2048, 512)])
def test_the_input_is_halved_to_512_channels_at_most(in_channels, reduced):
    with torch.device("meta"):
        assert DenseASPP(in_channels).reduce.conv.out_channels == reduced


class TestNoContext(ContextContract):
    kind = NoContext

    def equation(self, context, x):
        return naive.block(context.project, x)
