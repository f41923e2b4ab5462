"""Optimisers, learning-rate schedules, and the exponential moving average (EMA) of the weights.

Optimisers are torch's and timm's with their own defaults; the recipe sets learning rates, weight decay and, for SGD,
the momentum. Weight decay is part of the gradient in `sgd`, `nesterov` and `adam`, and decoupled in `adamw`, `lion` and
`lamb`. LAMB (You et al., ICLR-20) includes it in the step whose norm it scales to that of the weights; weights without
decay are updated as by Adam.

Of the schedules, `cosine`, `one_cycle` and `step` are torch's `CosineAnnealingLR`, `OneCycleLR` (with its defaults, but
a constant momentum) and `MultiStepLR`. They are factors of the iteration here, so that a warm-up can precede them.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from torch import Tensor, nn

from gffnet.models.gffnet import SegmentationModel
from gffnet.recipe import TrainingRecipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
POSITIONS = ("relative_position_bias_table", "rel_pos", "cpb_mlp", "attention_biases", "pos_embed")
"""Names in timm of parameters that encode positions, absolute or relative."""
SCALES = ("logit_scale",)
"""Names in timm of scalars per attention head that are stored with more than one dimension."""


def make_optimizer(network: SegmentationModel, auxiliary: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The optimiser of a network and its auxiliary head, with the groups of `parameter_groups`."""
    groups, rate = parameter_groups(network, auxiliary, recipe), recipe.learning_rate
    # On a CPU, `fused` takes all steps of Adam in one pass over memory, in a third of the time. On a GPU it would
    # unscale float16 gradients itself, after they are clipped.
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
            # timm's LAMB clips gradients to 1 by default; here only training.clip_gradients decides.
            lamb: torch.optim.Optimizer = Lamb(groups, rate, max_grad_norm=None)
            return lamb


def parameter_groups(network: SegmentationModel, auxiliary: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """The trainable parameters by learning rate and weight decay, without empty groups.

    `backbone` has the learning rate times `backbone_multiplier`; `new layers`, all others and the auxiliary head, times
    `new_layers_multiplier`. With `decay_norms_and_biases` false, the parameters for which `is_decayed` is false form
    groups of their own, `... without decay`.
    """
    in_backbone = set(network.backbone.parameters())
    rates = {
        "backbone": recipe.learning_rate * recipe.backbone_multiplier,
        "new layers": recipe.learning_rate * recipe.new_layers_multiplier,
    }
    groups: dict[str, dict[str, Any]] = {
        name + suffix: {"name": name + suffix, "params": [], "lr": rate, "weight_decay": decay}
        for name, rate in rates.items()
        for suffix, decay in (("", recipe.weight_decay), (" without decay", 0.0))
    }
    seen: set[nn.Parameter] = set()
    for root in (network, auxiliary):
        for path, module in root.named_modules():
            for name, parameter in module.named_parameters(prefix=path, recurse=False):
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    decayed = recipe.decay_norms_and_biases or is_decayed(module, name, parameter)
                    group = "backbone" if parameter in in_backbone else "new layers"
                    groups[group if decayed else f"{group} without decay"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def is_decayed(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies to a parameter even if `decay_norms_and_biases` is false.

    It does not apply to biases, normalisation, other vectors and scalars (such as LayerScale), and positions.

    Args:
        module: its owner.
        name: its full name.
        parameter: the parameter.
    """
    if parameter.ndim <= 1 or isinstance(module, NORMS) or name.rpartition(".")[2] == "bias":
        return False
    return not any(part in name for part in POSITIONS + SCALES)


def poly(iteration: int, iterations: int, power: float) -> float:
    """The factor `(1 - iteration / iterations) ** power` on the learning rate; 0 from the last iteration on."""
    return float(max(0.0, 1 - iteration / iterations) ** power)


def cosine(iteration: float, iterations: float) -> float:
    """The factor `(1 + cos(π · iteration / iterations)) / 2` (Loshchilov and Hutter, ICLR-17), without restarts."""
    return (1 + math.cos(math.pi * min(1.0, iteration / iterations))) / 2


def one_cycle(iteration: int, iterations: int) -> float:
    """The factor of the 1cycle policy (Smith and Topin, 2018): from 1/25 up to 1, then down to 1/250,000.

    The rise takes 30 % of the iterations; both ways are half a cosine.
    """
    low, lowest, peak, last = 1 / 25, 1 / 250_000, 0.3 * iterations - 1, iterations - 1
    iteration = min(iteration, last)
    if iteration <= peak:
        return low + (1 - low) * (1 - cosine(iteration, peak))
    return lowest + (1 - lowest) * cosine(iteration - peak, last - peak)


def steps(iteration: int, iterations: int, milestones: Sequence[float], factor: float) -> float:
    """`factor` to the power of the milestones that have passed, each a fraction of the iterations."""
    return float(factor ** sum(iteration >= round(milestone * iterations) for milestone in milestones))


def learning_rate_factor(iteration: int, training: TrainingRecipe) -> float:
    """The factor on the learning rate at an iteration, counted from 0.

    The schedule of the recipe, times `(iteration + 1) / warm_up` in the first `warm_up` iterations (Goyal et al., 2017,
    sec. 2.2): the warm-up ends on the schedule, and no iteration has a learning rate of 0.
    """
    of, rise = training.iterations, 1.0
    if training.warm_up:
        rise = min(1.0, (iteration + 1) / training.warm_up)
    match training.schedule:
        case "poly":
            return rise * poly(iteration, of, training.power)
        case "cosine":
            return rise * cosine(iteration, of)
        case "one_cycle":
            return rise * one_cycle(iteration, of)
        case "step":
            return rise * steps(iteration, of, training.milestones, training.step_factor)


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """The schedule of a recipe, which steps after every iteration.

    When it is restored, the learning rates are those of this recipe, whatever the checkpoint had: a run that is trained
    further has another schedule.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, training: TrainingRecipe) -> None:
        super().__init__(optimizer, lambda iteration: learning_rate_factor(iteration, training))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the iteration, and set the learning rates of the optimiser, which must be restored before."""
        super().load_state_dict(state_dict)
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


class ExponentialMovingAverage(nn.Module):
    """A copy of a network with the exponential moving average of its weights.

    After the n-th optimiser step, n = 1, 2, ..., with the weights w_n:

        a_n = d_n a_{n-1} + (1 - d_n) w_n        d_n = min(decay, (1 + n) / (10 + n))        a_0 = w_0

    The decay grows from 2/11, as in TensorFlow's `ExponentialMovingAverage` with `num_updates`: the average is over
    about the last tenth of the steps until `decay` is reached (0.999 after 8990 steps), and after 10 steps the initial
    weights have a share below 0.01 %. With a constant decay, the default of torch's `swa_utils` and of timm, 10,000
    steps at 0.9998 would leave them a share of 14 %.

    The average is stored and updated in float32. Buffers, such as running statistics, are those of the network at its
    last step. The copy stays in evaluation mode and is not trained.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Initialise; `decay`, above 0 and at most 1, averages over about `1 / (1 - decay)` steps."""
        super().__init__()
        self.network = copy.deepcopy(network).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def train(self, mode: bool = True) -> "ExponentialMovingAverage":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average after an optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [w.float() for w in network.parameters()]
        torch._foreach_lerp_(list(self.network.parameters()), weights, 1 - decay)
        if buffers := list(self.network.buffers()):
            torch._foreach_copy_(buffers, list(network.buffers()))

    # The number of updates is no buffer: on a GPU, every update would have to wait for the device to read it.

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)
