"""The poly schedule and the optimiser's parameter groups."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def poly(iteration: int, iterations: int, power: float) -> float:
    """The factor on the learning rate, `(1 - iteration / iterations) ** power`; 0 from the last iteration on."""
    return float(max(0.0, 1 - iteration / iterations) ** power)


def parameter_groups(
    backbone: nn.Module, new: Iterable[nn.Module], learning_rate: float, new_layers_multiplier: float
) -> list[dict[str, Any]]:
    """Two groups for the optimiser: the backbone at `learning_rate`, the new layers at a multiple of it."""
    fresh = [p for module in new for p in module.parameters()]
    return [
        {"name": "backbone", "params": list(backbone.parameters()), "lr": learning_rate},
        {"name": "new layers", "params": fresh, "lr": learning_rate * new_layers_multiplier},
    ]
