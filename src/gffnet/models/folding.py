"""Batch normalization folded into the preceding convolution, for inference.

    norm(conv(x)) = s · (w * x + b) + (β - s · μ) = (s w) * x + (s · (b - μ) + β),      s = γ / sqrt(σ² + ε)

In evaluation, batch normalization is an affine function per channel, which costs one pass over the map. Which
convolution precedes which normalization is observed in a forward pass, not derived from names. Normalizations that
follow anything else (those of DenseNet precede their convolutions) stay.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def fold_norms(network: nn.Module, example: Tensor) -> int:
    """Fold, in place, every batch normalization that is the only consumer of the output of a convolution.

    Args:
        network: in evaluation mode; its outputs stay the same up to rounding.
        example: any valid input.

    Returns:
        The number of normalizations folded.
    """
    with _Tracer() as tracer:
        modules = list(network.modules())
        hooks = [m.register_forward_hook(tracer.after_conv) for m in modules if isinstance(m, nn.Conv2d)]
        hooks += [m.register_forward_pre_hook(tracer.before_norm) for m in modules if _foldable(m)]
        try:
            network(example)
        finally:
            for hook in hooks:
                hook.remove()
    pairs = tracer.pairs()
    for conv, norm in pairs:
        _fold(conv, norm)
    folded = {norm for _, norm in pairs}
    for module in network.modules():
        for name, child in module.named_children():
            if child in folded:
                setattr(module, name, nn.Identity())
    return len(folded)


def _foldable(module: nn.Module) -> bool:
    """Return whether a module is a batch normalization and nothing else, such as timm's with an activation."""
    return (
        isinstance(module, nn.BatchNorm2d) and not any(True for _ in module.children()) and module.track_running_stats
    )


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Set weight and bias of `conv` to those of both, computed in float64."""
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


class _Tracer(TorchFunctionMode):
    """Records which normalization consumes the output of which convolution, and whether anything else does."""

    def __init__(self) -> None:
        super().__init__()
        self._outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
        """By `id` of the output, which is held so that no other tensor gets the same."""
        self._consumed: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
        self._uses: Counter[int] = Counter()
        self._calls: Counter[nn.Module] = Counter()

    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Return the convolutions and normalizations that were called once each, one feeding only the other."""
        uses = {conv: self._uses[key] for key, (conv, _) in self._outputs.items()}
        return [
            (conv, norm)
            for conv, norm in self._consumed
            if uses[conv] == 1 and self._calls[conv] == 1 and self._calls[norm] == 1
        ]

    def after_conv(self, conv: nn.Module, inputs: Any, output: Tensor) -> None:
        """Record the output of a convolution (a forward hook)."""
        assert isinstance(conv, nn.Conv2d)
        self._calls[conv] += 1
        self._outputs[id(output)] = (conv, output)

    def before_norm(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Record the input of a normalization (a forward pre-hook)."""
        assert isinstance(norm, nn.BatchNorm2d)
        self._calls[norm] += 1
        if id(inputs[0]) in self._outputs:
            self._consumed.append((self._outputs[id(inputs[0])][0], norm))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operations on the output of each convolution that return a tensor."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            for key in {id(leaf) for leaf in tree_leaves((args, kwargs))} & self._outputs.keys():
                self._uses[key] += 1
        return result
