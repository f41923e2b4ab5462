"""Folded networks against the same networks unfolded."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from gffnet.models.folding import fold_norms
from gffnet.models.layers import Norm
from tests import tiny


def various(module: nn.Module) -> nn.Module:
    """Statistics and weights as a trained network's, in float64."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.uniform_(part.weight, -2, 2)
                nn.init.uniform_(part.bias, -1, 1)
    return module.double().eval()


def check(module: nn.Module, x: Tensor, folded: int, left: int = 0) -> None:
    changed = copy.deepcopy(module)
    assert fold_norms(changed, x) == folded
    assert sum(isinstance(part, nn.BatchNorm2d) for part in changed.modules()) == left
    with torch.no_grad():
        before, after = module(x), changed(x)
    if not isinstance(before, Tensor):
        before, after = before.logits, after.logits
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    assert before.std() > 1e-3


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_convolution_and_its_normalisation(bias: bool, affine: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5, affine=affine), nn.ReLU())
    check(various(module), torch.rand(2, 3, 9, 9).double(), folded=1)


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, None])
def test_a_normalisation_that_activates_leaves_its_activation(activation: type[nn.Module] | None) -> None:
    norm = BatchNormAct2d(5, act_layer=activation, apply_act=activation is not None)
    check(various(nn.Sequential(nn.Conv2d(3, 5, 3), norm)), torch.rand(2, 3, 9, 9).double() * 9, folded=1)


@pytest.mark.parametrize(
    "model",
    [
        tiny.PSPNET,
        tiny.GFFNET,
        {**tiny.GFFNET, "context": "dense_aspp"},
        {**tiny.GFFNET, "fusion": "gated_fpn", "pyramid_kernel": 3},
        {**tiny.GFFNET, "dense_pyramid": "literal"},
        {**tiny.GFFNET, "backbone": {"name": "resnet18d", "weights": "none", "output_stride": 8}},
        {**tiny.GFFNET, "backbone": {"name": "tf_efficientnet_lite0", "weights": "none", "output_stride": 32}},
    ],
)
def test_whole_networks(model: dict) -> None:
    network = various(tiny.network(tiny.recipe(model)))
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    left = sum(isinstance(part, nn.BatchNorm2d) for part in network.context.modules()) if "context" in model else 0
    folded = copy.deepcopy(network)
    count = fold_norms(folded, torch.zeros(1, 3, 64, 64))
    assert count + left >= norms > 10
    check(network, torch.randint(0, 256, (1, 3, 45, 61)).double(), count, norms - count)


def test_normalisations_before_a_convolution_stay() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1))
    check(various(module), torch.rand(2, 3, 5, 5).double(), folded=0, left=1)


class Twice(nn.Module):
    """One convolution with two uses, or one normalisation after two convolutions."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm = Norm(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.of == "conv":
            return self.one(self.norm(self.one(x)))
        return self.norm(self.one(x)) + self.norm(self.two(x))


@pytest.mark.parametrize("of", ["conv", "norm"])
def test_what_runs_twice_stays(of: str) -> None:
    check(various(Twice(of)), torch.rand(2, 3, 5, 5).double(), folded=0, left=1)


class Shared(nn.Module):
    """What the convolution returns is used beside the normalisation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + self.other(x)


def test_a_result_that_others_take_too_stays() -> None:
    check(various(Shared()), torch.rand(2, 3, 5, 5).double(), folded=0, left=1)
