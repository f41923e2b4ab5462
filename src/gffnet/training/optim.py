"""The optimiser of a recipe, and which parameters it treats how.

Optimisers are torch's and timm's with their own defaults; the recipe sets the rates, weight decay and, for SGD, the
momentum. Weight decay is part of the gradient in `sgd`, `nesterov` and `adam`, and apart from it in `adamw`, `lion` and
`lamb`. LAMB (You et al., ICLR-20) counts it to the step whose length it fits to that of the weights; weights without
decay it steps as Adam does.
"""

import copy
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import torch
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from torch import Tensor, nn

from gffnet.models.gffnet import SegmentationModel
from gffnet.recipe import TrainingRecipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
POSITIONS = ("relative_position_bias_table", "rel_pos", "cpb_mlp", "attention_biases", "pos_embed")
"""What timm's models call the parameters that stand for positions, absolute or relative."""
SCALES = ("logit_scale",)
"""What they call scalars, one an attention head, that are kept in maps."""


def make_optimizer(network: SegmentationModel, auxiliary: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The optimiser of a network and its auxiliary head, with the groups of `parameter_groups`."""
    groups, rate = parameter_groups(network, auxiliary, recipe), recipe.learning_rate
    # `fused` has a CPU do all the steps of Adam in one pass over memory, in a third of the time. On a GPU it would
    # unscale the gradients of float16 by itself, after they are clipped.
    fused = all(p.device.type == "cpu" for group in groups for p in group["params"]) or None
    match recipe.optimizer:
        case "sgd" | "nesterov":
            nesterov = recipe.optimizer == "nesterov"
            return torch.optim.SGD(groups, rate, momentum=recipe.momentum, nesterov=nesterov)
        case "adam":
            return torch.optim.Adam(groups, rate, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, rate, fused=fused)
        case "lion":
            lion: torch.optim.Optimizer = Lion(groups, rate)
            return lion
        case "lamb":
            # timm's LAMB clips gradients to 1 by default; here training.clip_gradients alone says whether.
            lamb: torch.optim.Optimizer = Lamb(groups, rate, max_grad_norm=None)
            return lamb


def parameter_groups(network: SegmentationModel, auxiliary: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """The parameters that are trained, by learning rate and weight decay; groups without any are left out.

    `backbone` has the learning rate times `backbone_multiplier`; `new layers`, all others and the auxiliary head, times
    `new_layers_multiplier`. With `decay_norms_and_biases` false, each leaves what `is_decayed` does not hold for to a
    group of its own, `... without decay`.
    """
    old = {id(p) for p in network.backbone.parameters()}
    rates = {
        "backbone": recipe.learning_rate * recipe.backbone_multiplier,
        "new layers": recipe.learning_rate * recipe.new_layers_multiplier,
    }
    groups: dict[str, dict[str, Any]] = {
        name + suffix: {"name": name + suffix, "params": [], "lr": rate, "weight_decay": decay}
        for name, rate in rates.items()
        for suffix, decay in (("", recipe.weight_decay), (" without decay", 0.0))
    }
    for module, name, parameter in _owned(network, auxiliary):
        decayed = recipe.decay_norms_and_biases or is_decayed(module, name, parameter)
        group = ("backbone" if id(parameter) in old else "new layers") + ("" if decayed else " without decay")
        groups[group]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def is_decayed(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay acts on a parameter even if `decay_norms_and_biases` is false.

    It does not on biases, normalisation, other vectors and scalars (as of LayerScale), and positions.

    Args:
        module: which owns it.
        name: its full name.
        parameter: itself.
    """
    if parameter.ndim <= 1 or isinstance(module, NORMS) or name.rpartition(".")[2] == "bias":
        return False
    return not any(part in name for part in POSITIONS + SCALES)


def _owned(*roots: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Every parameter that is trained, once, with the module that owns it and its full name."""
    seen: set[int] = set()
    for root in roots:
        for path, module in root.named_modules():
            for name, parameter in module.named_parameters(prefix=path, recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield module, name, parameter


# The schedule of the learning rate: poly, after a linear rise where the recipe has one.


def learning_rate_factor(iteration: int, iterations: int, power: float, warm_up: int = 0) -> float:
    """The factor on the learning rate: that of `poly`, times `(iteration + 1) / warm_up` in the first `warm_up`.

    So the rise meets the schedule where it ends, and no iteration is lost at a rate of 0 (Goyal et al., 2017,
    sec. 2.2).
    """
    rise = min(1.0, (iteration + 1) / warm_up) if warm_up else 1.0
    return rise * poly(iteration, iterations, power)


def poly(iteration: int, iterations: int, power: float) -> float:
    """The factor on the learning rate, `(1 - iteration / iterations) ** power`; 0 from the last iteration on."""
    return float(max(0.0, 1 - iteration / iterations) ** power)


# The moving average of a network's weights.
#
# After the n-th step of the optimiser, n = 1, 2, ..., which made the weights `w_n`:
#
#     a_n = d_n a_{n-1} + (1 - d_n) w_n        d_n = min(decay, (1 + n) / (10 + n))        a_0 = w_0
#
# The decay grows from 2/11, as that of TensorFlow's `ExponentialMovingAverage` does where it is told the number of
# updates: the average is over the last tenth or so of the steps until `decay` is reached (0.999 after 8990 steps), and 10
# steps leave less than 0.01 % of the initial weights in it. With a constant decay, the default of torch's `swa_utils` and
# of timm, a run of 10 000 steps at 0.9998 would end with 14 % of the weights that it began with.


Network = TypeVar("Network", bound=nn.Module)


class ExponentialMovingAverage(nn.Module, Generic[Network]):
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

    def train(self, mode: bool = True) -> "ExponentialMovingAverage[Network]":
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
