"""The optimiser of a recipe, and which parameters it treats how.

Optimisers are torch's and timm's with their own defaults; the recipe sets the rates, weight decay and, for SGD, the
momentum. Weight decay is part of the gradient in `sgd`, `nesterov` and `adam`, and apart from it in `adamw`, `lion` and
`lamb`. LAMB (You et al., ICLR-20) counts it to the step whose length it fits to that of the weights; weights without
decay it steps as Adam does.
"""

from collections.abc import Iterator
from typing import Any

import torch
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from torch import nn

from gffnet.models.network import SceneParser
from gffnet.recipe import TrainingRecipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
POSITIONS = ("relative_position_bias_table", "rel_pos", "cpb_mlp", "attention_biases", "pos_embed")
"""What timm's models call the parameters that stand for positions, absolute or relative."""
SCALES = ("logit_scale",)
"""What they call scalars, one an attention head, that are kept in maps."""


def make_optimizer(network: SceneParser, auxiliary: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
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


def parameter_groups(network: SceneParser, auxiliary: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
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
