"""A loss that is no number, or that runs away, stops the run; noise does not."""

import math

import pytest
import torch
from torch import Tensor

from gffnet.errors import RunFailed
from gffnet.training.callbacks import OVER, LossWatch


def losses(main: float, auxiliary: float = 1.0) -> Tensor:
    return torch.tensor([main, auxiliary])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_no_number_names_the_iteration_and_its_images(bad: float, which: int) -> None:
    watch = LossWatch(19)
    watch.see(0, losses(2.0), ("a", "b"))
    values = [2.0, 1.0]
    values[which] = bad
    with pytest.raises(RunFailed, match=r"^the loss of iteration 2 is not finite .* Its images: c, d\. The checkpoint"):
        watch.see(1, torch.tensor(values), ("c", "d"))


def test_a_guess_and_a_short_outburst_are_no_divergence() -> None:
    watch = LossWatch(19)
    for i in range(50):
        watch.see(i, losses(100.0 if i % OVER == 3 else math.log(19)), ("a",))


def test_a_loss_that_runs_away_is_stopped() -> None:
    watch = LossWatch(2)
    said = r"the loss has diverged: over the last 10 iterations up to (\d+) it was"
    with pytest.raises(RunFailed, match=said) as e:  # noqa: PT012
        for i in range(100):
            watch.see(i, losses(math.log(2) * 1.1**i), ("a",))
    mean = [sum(1.1**j for j in range(i - OVER + 1, i + 1)) / OVER for i in range(100)]
    first = next(i for i in range(OVER - 1, 100) if mean[i] > 10)
    assert f"up to {first + 1} it was {math.log(2) * mean[first]:.3g} on average" in str(e.value)


def test_on_a_gpu_losses_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands in for one: a loss on it cannot be read, so nothing may try before the time."""
    watch = LossWatch(19)
    for i in range(OVER - 1):
        watch.see(i, torch.empty(2, device="meta"), ("a",))
    looked: list[bool] = []
    monkeypatch.setattr(watch, "check", lambda: looked.append(True))
    watch.see(OVER - 1, torch.empty(2, device="meta"), ("a",))
    assert looked == [True]
