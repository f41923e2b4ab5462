"""The moving average of a network's weights.

After the n-th step of the optimiser, n = 1, 2, ..., which made the weights `w_n`:

    a_n = d_n a_{n-1} + (1 - d_n) w_n        d_n = min(decay, (1 + n) / (10 + n))        a_0 = w_0

The decay grows from 2/11, as that of TensorFlow's `ExponentialMovingAverage` does where it is told the number of
updates: the average is over the last tenth or so of the steps until `decay` is reached (0.999 after 8990 steps), and 10
steps leave less than 0.01 % of the initial weights in it. With a constant decay, the default of torch's `swa_utils` and
of timm, a run of 10 000 steps at 0.9998 would end with 14 % of the weights that it began with.
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(nn.Module, Generic[Network]):
    """A copy of a network whose weights are the moving average of the network's.

    The average is held and reckoned in float32. Buffers, such as running statistics, are those of the network at its
    last step. The copy stays in evaluation mode and is not trained; it and the number of updates are in `state_dict`,
    so that a resumed run goes on exactly.
    """

    def __init__(self, network: Network, decay: float) -> None:
        """`decay`: its limit, above 0 and at most 1; with 0.999 the average is over about 1000 steps."""
        super().__init__()
        self.network = copy.deepcopy(network).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def train(self, mode: bool = True) -> "MovingAverage[Network]":
        """Set the mode of the module, but never that of the average."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Take in the network's weights after a step of the optimiser."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [w.float() for w in network.parameters()]
        torch._foreach_lerp_(list(self.network.parameters()), weights, 1 - decay)
        if buffers := list(self.network.buffers()):
            torch._foreach_copy_(buffers, list(network.buffers()))

    # The number of updates is a number on the processor: a buffer lies on the device, which every update would have to
    # wait for to read it.

    def get_extra_state(self) -> Tensor:
        """The number of updates, for `state_dict`."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a number of updates."""
        self.updates = int(state)
