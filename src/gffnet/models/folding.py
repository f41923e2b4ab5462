"""Batch normalisation folded into the convolution before it, for inference.

    norm(conv(x)) = s · (w * x) + (b - s · μ) = (s w) * x + (b + s · (β_conv - μ)),      s = γ / sqrt(σ² + ε)

In evaluation a normalisation is an affine function of each channel, so it costs a pass over the map for nothing. Which
convolution precedes which normalisation is seen in a forward pass, not guessed from names. Normalisations that follow
anything else (DenseNet's come first) stay as they are.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def fold_norms(network: nn.Module, example: Tensor) -> int:
    """Fold, in place, every batch normalisation of `network` that alone takes what a convolution returns.

    Args:
        network: in evaluation; its values stay the same up to rounding.
        example: any input that it takes.

    Returns:
        How many were folded.
    """
    with _Watch() as watch:
        parts = list(network.modules())
        hooks = [part.register_forward_hook(watch.after_conv) for part in parts if isinstance(part, nn.Conv2d)]
        hooks += [part.register_forward_pre_hook(watch.before_norm) for part in parts if _plain_norm(part)]
        try:
            network(example)
        finally:
            for hook in hooks:
                hook.remove()
    pairs = watch.pairs()
    for conv, norm in pairs:
        _fold(conv, norm)
    folded = {norm for _, norm in pairs}
    for module in network.modules():
        for name, child in module.named_children():
            if child in folded:
                setattr(module, name, nn.Identity())
    return len(folded)


class _Watch(TorchFunctionMode):
    """Sees which normalisation takes the result of which convolution, and whether anything else does."""

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[int, tuple[nn.Conv2d, Tensor]] = {}
        """By the identity of the result, which is kept so that no other tensor gets it."""
        self._taken: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
        self._uses: Counter[int] = Counter()
        self._runs: Counter[nn.Module] = Counter()

    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The convolutions and normalisations that ran once each, the one into the other and nothing else."""
        used = {conv: self._uses[key] for key, (conv, _) in self._results.items()}
        return [
            (conv, norm)
            for conv, norm in self._taken
            if used[conv] == 1 and self._runs[conv] == 1 and self._runs[norm] == 1
        ]

    def after_conv(self, conv: nn.Module, inputs: Any, result: Tensor) -> None:
        """A hook."""
        assert isinstance(conv, nn.Conv2d)
        self._runs[conv] += 1
        self._results[id(result)] = (conv, result)

    def before_norm(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook."""
        assert isinstance(norm, nn.BatchNorm2d)
        self._runs[norm] += 1
        if id(inputs[0]) in self._results:
            self._taken.append((self._results[id(inputs[0])][0], norm))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operations that take a convolution's result and give a tensor."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            for key in {id(leaf) for leaf in tree_leaves((args, kwargs))} & self._results.keys():
                self._uses[key] += 1
        return result


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give `conv` the weights that do what both did; reckoned in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
    shift = -norm.running_mean.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = shift * scale + (norm.bias.double() if norm.affine else 0)
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)


def _plain_norm(module: nn.Module) -> bool:
    """Whether it is a batch normalisation and nothing besides, as timm's with an activation is."""
    return (
        isinstance(module, nn.BatchNorm2d) and not any(True for _ in module.children()) and module.track_running_stats
    )
