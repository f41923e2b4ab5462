"""What a network costs (Table 3): parameters, multiply-accumulates (MACs) and FLOPs at any image size.

Counted on the meta device: nothing is computed, so ResNet-101 at any size takes a second. MACs are those of the
convolutions and matrix products of one image; FLOPs are twice that. `macs` is the reference network, as the paper
counts; `executed_macs` are those of the efficient forms (see `gffnet.models.ops`). The auxiliary head, which
exists in training only, is not counted.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gffnet.data.datasets import class_count
from gffnet.models.gffnet import build_network
from gffnet.models.layers import meta_device
from gffnet.models.ops import use_reference
from gffnet.recipe import ModelRecipe, Recipe


def costs(
    recipes: Sequence[tuple[str, Recipe]], size: tuple[int, int], num_classes: int | None = None
) -> list[dict[str, Any]]:
    """The cost of each named recipe for an image of `size` (height, width), with increments over the first, in percent.

    The networks have `num_classes`; None: as many as the data set of their recipe.

    Keys: `recipe`, `params`, `macs`, `flops`, `executed_macs`, `executed_flops`, `params_increase_percent`,
    `macs_increase_percent` and `executed_macs_increase_percent` (executed MACs over the first recipe's `macs`).
    """
    rows: list[dict[str, Any]] = []
    for name, recipe in recipes:
        row: dict[str, Any] = {
            "recipe": name,
            "height": size[0],
            "width": size[1],
            **cost(recipe.model, num_classes or class_count(recipe.data.name), size),
        }
        first = rows[0] if rows else row
        row["params_increase_percent"] = 100 * (row["params"] / first["params"] - 1)
        row["macs_increase_percent"] = 100 * (row["macs"] / first["macs"] - 1)
        row["executed_macs_increase_percent"] = 100 * (row["executed_macs"] / first["macs"] - 1)
        rows.append(row)
    return rows


def cost(model: ModelRecipe, num_classes: int, size: tuple[int, int]) -> dict[str, int]:
    """Parameters, MACs and FLOPs of a network for an image of `size`."""
    with meta_device():
        network = build_network(model.without_weights(), num_classes).eval()
        image = torch.empty(1, model.backbone.in_channels, *size)
    executed = count_macs(network, image)
    use_reference(network)
    reference = count_macs(network, image)
    return {
        "params": sum(p.numel() for p in network.parameters()),
        "macs": reference,
        "flops": 2 * reference,
        "executed_macs": executed,
        "executed_flops": 2 * executed,
    }


def count_macs(module: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulates of the convolutions and matrix products in one forward pass."""
    shapes_only = _ShapesOnly()  # type: ignore[no-untyped-call]  # torch's constructor
    with FlopCounterMode(display=False) as counter, shapes_only, torch.inference_mode():
        module(*inputs)
    return int(counter.get_total_flops()) // 2


class _ShapesOnly(TorchDispatchMode):
    """Answer two operations without MACs by empty maps: torch derives their shapes in Python, in most of the time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.batch_norm.default:
            return torch.empty_like(args[0])
        if func is torch.ops.aten.upsample_bilinear2d.vec and args[1] is not None:
            return args[0].new_empty((*args[0].shape[:2], *args[1]))
        return func(*args, **(kwargs or {}))
