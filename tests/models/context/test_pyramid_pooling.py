import pytest
import torch
import torch.nn.functional as F

from gffnet.models.context import BINS, PyramidPooling, adaptive_averages
from tests.models import naive
from tests.models.context.contract import ContextContract
from tests.models.naive import assert_equal


class TestPyramidPooling(ContextContract):
    kind = PyramidPooling

    def equation(self, context, x):
        """p_b = H_1x1(pool_bxb(x)), b = 1 2 3 6; y_0 = H_3x3([x, p_1, p_2, p_3, p_6])."""
        pooled = [
            naive.block(branch, F.adaptive_avg_pool2d(x, b))
            for branch, b in zip(context.branches, (1, 2, 3, 6), strict=True)
        ]
        return naive.block(context.project, naive.resized_cat([x, *pooled], x.shape[-2:]))


@pytest.mark.parametrize("height", range(1, 21))
def test_adaptive_averages_are_those_of_torch_at_every_size(height):
    for width in range(1, 21):
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
    kept = [bool((branch.norm.running_mean == 0).all()) for branch in context.branches]
    assert kept == [True, False, False, False]


def test_parameters_for_a_resnet_101():
    """Four branches of 512, and a 3x3 convolution from 4096 to 512 channels."""
    with torch.device("meta"):
        context = PyramidPooling(2048)
    expected = 4 * (2048 * 512 + 2 * 512) + 4096 * 512 * 9 + 2 * 512
    assert sum(p.numel() for p in context.parameters()) == expected
