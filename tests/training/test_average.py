"""The moving average against a loop in float64."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gffnet.training.optim import ExponentialMovingAverage
from tests import tiny


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))


@torch.no_grad()
def train_a_step(net: nn.Module) -> None:
    """Change everything in it, as a step of training does."""
    net.train()(torch.randn(2, 2, 5, 5))
    for p in net.parameters():
        p.add_(0.1 * torch.randn_like(p))


def trained(net: nn.Module, average: "ExponentialMovingAverage[nn.Module]", steps: int) -> list[list[Tensor]]:
    """The weights after each of some steps, which the average takes in."""
    seen = []
    for _ in range(steps):
        train_a_step(net)
        average.update(net)
        seen.append([p.detach().double().clone() for p in net.parameters()])
    return seen


@given(decay=st.floats(0.01, 1), steps=st.integers(1, 30), seed=st.integers(0, 1000))
def test_it_is_its_equation(decay: float, steps: int, seed: int) -> None:
    net = network(seed)
    average = ExponentialMovingAverage(net, decay)
    wanted = [p.detach().double().clone() for p in net.parameters()]
    for n, weights in enumerate(trained(net, average, steps), 1):
        d = min(decay, (1 + n) / (10 + n))
        wanted = [d * a + (1 - d) * w for a, w in zip(wanted, weights, strict=True)]
    for a, b in zip(average.network.parameters(), wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_initial_weights_are_soon_forgotten() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    average = ExponentialMovingAverage(net, 0.9998)
    nn.init.zeros_(net.weight)
    share = 1.0
    for n in range(1, 11):
        average.update(net)
        share *= (1 + n) / (10 + n)
    assert average.network.weight.item() == pytest.approx(share, rel=1e-4)
    assert share < 1e-4


@pytest.mark.parametrize(("decay", "reached"), [(0.5, 8), (0.999, 8990)])
def test_its_decay_is_reached_when_it_is_said_to_be(decay: float, reached: int) -> None:
    for updates, wanted in [(reached - 1, (1 + reached) / (10 + reached)), (10 * reached, decay)]:
        net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(net.weight)
        average = ExponentialMovingAverage(net, decay)
        average.updates = updates
        nn.init.ones_(net.weight)
        average.update(net)
        assert average.network.weight.item() == pytest.approx(1 - wanted, rel=1e-4)
    assert (1 + reached) / (10 + reached) == pytest.approx(decay, abs=1e-12)


def test_buffers_are_those_of_the_last_step() -> None:
    net = network()
    average = ExponentialMovingAverage(net, 0.9)
    trained(net, average, 3)
    buffers = dict(net.named_buffers())
    assert buffers["1.num_batches_tracked"] == 3
    assert {name: b.tolist() for name, b in average.network.named_buffers()} == {
        name: b.tolist() for name, b in buffers.items()
    }
    assert not {b.data_ptr() for b in buffers.values()} & {b.data_ptr() for b in average.network.buffers()}


def test_a_resumed_average_goes_on_exactly() -> None:
    net = network()
    average: ExponentialMovingAverage[nn.Module] = ExponentialMovingAverage(net, 0.999)
    trained(net, average, 4)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    resumed: ExponentialMovingAverage[nn.Module] = ExponentialMovingAverage(network(1), 0.999)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        train_a_step(net)
        average.update(net)
        resumed.update(net)
    states = average.state_dict(), resumed.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    assert average.updates == resumed.updates == 7


def test_it_stays_in_evaluation_mode_and_untrained_within_what_is_trained() -> None:
    net = network().train()
    whole = nn.ModuleList([net, ExponentialMovingAverage(net, 0.9)])
    whole.train()
    average = whole[1]
    assert all(module.training for module in net.modules())
    assert not any(module.training for module in average.network.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in average.parameters())
    assert [id(p) for p in whole.parameters() if p.requires_grad] == [id(p) for p in net.parameters()]
    train_a_step(net)
    average.update(net)
    assert not any(p.requires_grad for p in average.parameters())


def test_weights_of_half_precision_are_averaged_in_float32() -> None:
    """A step of (1 - decay) of a difference is far below what half precision can tell apart."""
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(net.weight)
    average = ExponentialMovingAverage(net, 0.999)
    average.updates = 100_000
    nn.init.constant_(net.weight, 2.0)
    average.update(net)
    assert average.network.weight.dtype == torch.float32
    assert average.network.weight.item() == pytest.approx(1.001)


def test_shared_weights_stay_shared_and_a_network_of_the_package_works() -> None:
    one = nn.Linear(2, 2)
    average = ExponentialMovingAverage(nn.Sequential(one, one), 0.9)
    assert average.network[0] is average.network[1]
    net = tiny.network(tiny.recipe(tiny.GFFNET)).to(memory_format=torch.channels_last)
    averaged = ExponentialMovingAverage(net, 0.9)
    averaged.update(net)
    image = torch.from_numpy(tiny.picture(0)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert torch.allclose(averaged.network(image).logits, net.eval()(image).logits, atol=1e-5)
