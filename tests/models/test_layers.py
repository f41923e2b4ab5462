import pytest
import torch
from torch import nn

from gffnet.models.layers import ConvBlock, Norm, conv_block, init_predictor
from tests.models import naive
from tests.models.naive import assert_equal


def test_norm_is_batch_normalisation_where_there_is_more_than_one_value():
    ours, theirs = naive.randomized(Norm(3)).train(), nn.BatchNorm2d(3).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    assert_equal(ours(x), theirs(x))
    assert_equal(ours.state_dict(), theirs.state_dict())


def test_norm_of_one_value_a_channel_uses_its_running_statistics_and_leaves_them():
    norm = naive.randomized(Norm(3)).train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(1, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    y = norm(x)
    assert_equal(y, naive.normalized(norm, x))
    assert_equal(norm.state_dict(), before)
    y.sum().backward()
    assert_equal(x.grad, (norm.weight / (norm.running_var + norm.eps).sqrt())[None, :, None, None])
    assert_equal(norm.bias.grad, torch.ones(3, dtype=torch.float64))


def test_norm_in_evaluation_is_the_same_for_one_value_and_for_many():
    norm = naive.randomized(Norm(3))
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    assert_equal(norm(x)[..., 1:2, 1:2], norm(x[..., 1:2, 1:2]))


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 4)])
def test_block_is_convolution_normalisation_and_relu_at_the_size_of_its_map(kernel, dilation):
    block = naive.randomized(conv_block(3, 4, kernel, dilation))
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    y = block(x)
    assert y.shape == (2, 4, 7, 9)
    assert_equal(y, naive.block(block, x))


def test_block_leaves_its_input_as_it_is():
    block, x = conv_block(3, 4, 1), torch.randn(2, 3, 4, 4)
    before = x.clone()
    block(x)
    assert torch.equal(x, before)


def test_block_starts_with_variance_kept_through_relu():
    """Kaiming, fan out: weights of variance 2 / (out · kernel²)."""
    weight = ConvBlock(nn.Conv2d(64, 128, 3, bias=False)).conv.weight
    assert weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.05)


@pytest.mark.parametrize("bias", [False, True])
def test_gates_and_classifiers_start_near_zero(bias):
    conv = nn.Conv2d(512, 64, 1, bias=bias)
    init_predictor(conv)
    assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert conv.bias is None or not conv.bias.any()
