"""Batch normalisation folded into the preceding convolution, for inference.

    norm(conv(x)) = s · (w * x + b) + (β - s · μ) = (s w) * x + (s · (b - μ) + β),      s = γ / sqrt(σ² + ε)

In evaluation, batch normalisation is an affine function per channel, which costs one pass over the map. Which
convolution precedes which normalisation is observed in a forward pass, not derived from names. Normalisations that
follow anything else (those of DenseNet precede their convolutions) stay.
"""

from collections import Counter
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def fold_norms(network: nn.Module, example: Any) -> int:
    """Fold, in place, every batch normalisation that is the only consumer of the output of a convolution.

    Args:
        network: in evaluation mode; its outputs stay the same up to rounding.
        example: any valid input.

    Returns:
        The number of normalisations folded. Of timm's `BatchNormAct2d`, the activation stays.
    """
    with _Tracer() as tracer:
        hooks = []
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                hooks.append(module.register_forward_hook(tracer.after_conv))
            elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and _is_known(module):
                hooks.append(module.register_forward_pre_hook(tracer.before_norm))
        try:
            network(example)
        finally:
            for hook in hooks:
                hook.remove()
    folded = set()
    for conv, norm in tracer.pairs():
        folded.add(norm)
        # In float64, rounded once.
        values = (conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        bias, mean, variance, gamma, beta = (None if value is None else value.double() for value in values)
        assert mean is not None
        assert variance is not None
        weight, bias = fuse_conv_bn_weights(conv.weight.double(), bias, mean, variance, norm.eps, gamma, beta)
        conv.weight, conv.bias = (nn.Parameter(value.to(conv.weight.dtype), False) for value in (weight, bias))
    for module in network.modules():
        for name, child in module.named_children():
            if child in folded:
                setattr(module, name, child.act if isinstance(child, BatchNormAct2d) else nn.Identity())
    return len(folded)


def _is_known(norm: nn.BatchNorm2d) -> bool:
    """Whether a module only normalises, or is timm's, which then activates; its dropout is for training only."""
    return isinstance(norm, BatchNormAct2d) or not [*norm.children()]


class _Tracer(TorchFunctionMode):
    """Records which normalisation consumes the output of which convolution, and whether anything else does."""

    def __init__(self) -> None:
        super().__init__()
        self._outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
        """By `id` of the output, which is held so that no other tensor gets the same."""
        self._consumed: list[tuple[int, nn.BatchNorm2d]] = []
        self._uses: Counter[int] = Counter()
        self._calls: Counter[nn.Module] = Counter()

    def pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """The convolutions and normalisations that were called once each, one feeding only the other."""
        found = [(self._outputs[key][0], norm) for key, norm in self._consumed if self._uses[key] == 1]
        return [(conv, norm) for conv, norm in found if self._calls[conv] == self._calls[norm] == 1]

    def after_conv(self, conv: Any, inputs: Any, output: Tensor) -> None:
        self._calls[conv] += 1
        self._outputs[id(output)] = (conv, output)

    def before_norm(self, norm: Any, inputs: tuple[Tensor, ...]) -> None:
        self._calls[norm] += 1
        if id(inputs[0]) in self._outputs:
            self._consumed.append((id(inputs[0]), norm))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operations on the output of each convolution that return a tensor."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._uses.update({id(leaf) for leaf in tree_leaves((args, kwargs))} & self._outputs.keys())
        return result
