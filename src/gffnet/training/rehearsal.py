"""Training without data: what is computed for a part of a batch, to be counted and timed before a run."""

from contextlib import AbstractContextManager
from math import prod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gffnet.models.build import build_network
from gffnet.recipe import Recipe
from gffnet.training.auxiliary import AuxiliaryHead
from gffnet.training.losses import ParsingLoss
from gffnet.training.objective import batch_norms, both_losses, lower_precision


class Setup(NamedTuple):
    """What is to be trained, and how it is computed."""

    recipe: Recipe
    classes: int
    """Of the data set."""
    device: torch.device
    dtype: torch.dtype
    """Number format of the forward pass."""

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.recipe.model.backbone.in_channels

    def precision(self) -> AbstractContextManager[None]:
        """Where the forward pass runs, as in training."""
        return lower_precision(self.device, self.dtype)


class Rehearsal(nn.Module):
    """Network, auxiliary head and loss of a recipe, with random weights.

    Builds on the current default device: within `torch.device("meta")` it costs nothing.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__()
        training = recipe.training
        network = build_network(recipe.model.without_weights(), classes)
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary = AuxiliaryHead(network.backbone.widths[2], classes, dropout=recipe.model.dropout)
        self.auxiliary_weight = training.auxiliary_weight
        weighted = training.loss.class_weights is not None or training.loss.class_weighting != "none"
        self.loss = ParsingLoss(training.loss, torch.ones(classes) if weighted else None)
        if training.freeze_norms:
            for norm in batch_norms(self):
                norm.eval().requires_grad_(False)

    def forward(self, images: UInt8[Tensor, "b c h w"], labels: UInt8[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The loss that gradients are taken of."""
        images = images.contiguous(memory_format=torch.channels_last)
        main, auxiliary = both_losses(self.network, self.auxiliary, self.loss, images, labels)
        total: Tensor = (main + self.auxiliary_weight * auxiliary) / labels.numel()
        return total


class Flops(NamedTuple):
    """Floating point operations of one image: twice the multiply-accumulates of convolutions and matrix products."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.forward + self.backward


def count_flops(rehearsal: nn.Module, channels: int, crop: tuple[int, int]) -> Flops:
    """The FLOPs of training on one image of `channels` and size `crop`, for a rehearsal on the meta device.

    The backward pass of a convolution is two products as large as the forward one: for the gradient of its weight, and
    for that of its input, which the first layer need not have. Resizing, normalisation, activations, the loss and the
    step of the optimiser are not counted.
    """
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        loss = rehearsal(*random_batch(1, channels, crop, 2, torch.device("meta")))
        forward = int(counter.get_total_flops())
        loss.backward()
    rehearsal.zero_grad()
    return Flops(forward, int(counter.get_total_flops()) - forward)


def _backward(gradient: Any, x: Any, weight: Any, *options: Any, **_: Any) -> int:
    """FLOPs of a convolution's backward pass; torch's own formula takes grouped convolutions for full ones."""
    transposed, wanted = options[4], options[7]  # `wanted`: which gradients, of the input, the weight, the bias
    places = x if transposed else gradient
    return int(2 * prod(places) * prod(weight[1:]) * sum(wanted[:2]))


def random_batch(
    images: int, channels: int, crop: tuple[int, int], classes: int, device: torch.device
) -> tuple[UInt8[Tensor, "b c h w"], UInt8[Tensor, "b h w"]]:
    """Images and labels as training loads them; of noise."""
    return (
        torch.randint(256, (images, channels, *crop), dtype=torch.uint8, device=device),
        torch.randint(classes, (images, *crop), dtype=torch.uint8, device=device),
    )


def count_parameters(rehearsal: Rehearsal) -> dict[str, int]:
    """Parameters of each part of the network, and of the auxiliary head."""
    parts = {**dict(rehearsal.network.named_children()), "auxiliary": rehearsal.auxiliary}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
