"""The building blocks of the network written out as in a textbook, and functions to compare with them.

Everything here is computed from the parameters of a module and never calls its `forward`.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from gffnet.models.ops import use_reference

Size = tuple[int, int]


def resize(x: Tensor, size: Iterable[int]) -> Tensor:
    """Bilinear, `align_corners=False`."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def resized_cat(maps: Iterable[Tensor], size: Iterable[int]) -> Tensor:
    """All maps resized to `size` and concatenated."""
    size = tuple(size)
    return torch.cat([resize(x, size) for x in maps], dim=1)


def conv(module: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution with the parameters of `module` that keeps the size of `x`."""
    dilation = module.dilation[0]
    return F.conv2d(
        x, module.weight, module.bias, padding=dilation * (module.kernel_size[0] // 2), dilation=module.dilation
    )


def normalized(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation with the running statistics."""
    mean, var, weight, bias = (
        v[None, :, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def block(module: nn.Module, x: Tensor) -> Tensor:
    """Convolution, batch normalisation (running statistics), ReLU, with the parameters of a `ConvBlock`."""
    return normalized(module.norm, conv(module.conv, x)).clamp(min=0)


def blocks(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """One block after the other."""
    for module in modules:
        x = block(module, x)
    return x


def randomized(module: nn.Module) -> nn.Module:
    """`module` in evaluation and double precision, with no parameter or running statistic at a neutral value."""
    module.double().eval()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 2)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(mean=0.2, std=0.3)
            elif isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
                if part.bias is not None:
                    nn.init.normal_(part.bias)
    return module


def random_maps(
    channels: Sequence[int], sizes: Sequence[Size], batch: int = 2, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Random maps of these channels and sizes."""
    return [torch.randn(batch, c, *size, dtype=dtype) for c, size in zip(channels, sizes, strict=True)]


def assert_equal(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    """Equal up to float64 rounding, shapes and types too."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def sides(largest: int = 9) -> st.SearchStrategy[Size]:
    """Heights and channels of a map."""
    return st.tuples(st.integers(1, largest), st.integers(1, largest))


@st.composite
def strided_sizes(draw: st.DrawFn, levels: int) -> list[Size]:
    """The sizes of a backbone's maps, of one image of any size."""
    height, width = draw(sides(70))
    strides = draw(st.sampled_from([(4, 8, 8, 8, 8), (4, 8, 16, 16, 16), (4, 8, 16, 32, 32), (2, 4, 8, 16, 32)]))
    return [(-(-height // stride), -(-width // stride)) for stride in strides[:levels]]


@st.composite
def pyramid_sizes(draw: st.DrawFn, least: int = 2) -> list[Size]:
    """The sizes of 2 to 5 maps: those of a backbone, all of one size, or in no order at all."""
    levels = draw(st.integers(least, 5))
    equal = sides().map(lambda size: [size] * levels)
    in_no_order = st.lists(sides(), min_size=levels, max_size=levels)
    return draw(st.one_of(strided_sizes(levels), equal, in_no_order))


BACKBONE_SIZES: list[list[Size]] = [
    [(13, 17), (7, 9), (7, 9), (7, 9)],
    [(17, 13), (9, 7), (5, 4), (3, 2)],
]
"""Strides 4 8 8 8 and 4 8 16 32, odd."""


def assert_implementations_agree(module: nn.Module, run: Callable[[nn.Module], Any], inputs: Sequence[Tensor]) -> None:
    """Compare values and gradients, to parameters and `inputs`, of the reference and the efficient implementation."""
    for x in inputs:
        x.requires_grad_()
    results = []
    for reference in (True, False):
        use_reference(module, reference)
        outputs = run(module)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        generator = torch.Generator().manual_seed(1)
        total = sum((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in outputs)
        wanted = [*inputs, *module.parameters()]
        results.append((outputs, torch.autograd.grad(total, wanted, allow_unused=True)))
    use_reference(module, False)
    assert_equal(results[1], results[0])


def bfloat16_errors(
    module: nn.Module, run: Callable[[nn.Module, list[Tensor]], Any], inputs: list[Tensor]
) -> list[float]:
    """Root mean square errors in bfloat16 of the efficient implementation and of the reference, against float64."""
    errors = []
    with torch.no_grad():
        use_reference(module)
        exact = run(module, inputs)
        low = copy.deepcopy(module).bfloat16()
        for reference in (False, True):
            use_reference(low, reference)
            got = run(low, [x.bfloat16() for x in inputs])
            pairs = [(got, exact)] if isinstance(got, Tensor) else zip(got, exact, strict=True)
            errors.append(torch.cat([(a.double() - b).square().flatten() for a, b in pairs]).mean().sqrt().item())
        use_reference(module, False)
    return errors


def assert_stays_channels_last(run: Callable[..., Tensor], maps: Sequence[Tensor], *weights: Tensor) -> None:
    """Of channels-last maps, the result has its channels side by side in memory, and so have the gradients.

    A gradient that came back channels-first would be copied at every convolution before it.
    """
    maps = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in maps]
    y = run(*maps)
    gradients = torch.autograd.grad(y, [*maps, *weights], torch.ones_like(y))
    assert [x.stride(1) for x in (y, *gradients)] == [1] * (1 + len(gradients))
