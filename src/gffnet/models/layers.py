"""Building blocks of every part of the network, and the values that pass between the parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Pyramid: TypeAlias = Sequence[Float[Tensor, "b _c _h _w"]]
"""Feature maps `X_1..X_L` of one batch, finest first: `(B, C_l, H_l, W_l)`."""

Gates: TypeAlias = Sequence[Float[Tensor, "b _g _h _w"]]
"""Gate maps `G_1..G_L` in `[0, 1]`, finest first: `(B, 1, H_l, W_l)`, or one value per channel."""


class _DrawNothing(TorchFunctionMode):
    """Leaves tensors on the meta device as they are where random values are drawn."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


_RANDOM = {nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_}
_RANDOM |= {nn.init.xavier_normal_, nn.init.xavier_uniform_, Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}


@contextmanager
def meta_device() -> Iterator[None]:
    """`torch.device("meta")`, where random values are not drawn: torch imports its compiler for them, a second."""
    with torch.device("meta"), _DrawNothing():
        yield


class Output(NamedTuple):
    """The output of the network, in training and in evaluation."""

    logits: Float[Tensor, "b k h w"]
    """Scores of the K classes, at the size of the images."""
    gates: Gates | None
    """The gate maps that the fusion used; `None` for a fusion without gates."""


class Encoded(NamedTuple):
    """All that the network computes before fusion: encode images once, decode them with any gates."""

    reduced: Pyramid | None
    """The reduced maps, finest first; `None` for a network without fusion."""
    gates: Gates | None
    """The learned gates; `None` for a fusion without gates."""
    context: Float[Tensor, "b d _h _w"]
    """The context map `y_0`."""
    size: tuple[int, int]
    """Height and width of the logits that this is decoded to."""
    input_size: tuple[int, int]
    """Height and width of the images that the backbone was given, after scaling."""


class Norm(nn.BatchNorm2d):
    """Batch normalisation that uses its running statistics where a batch has a single value per channel.

    That happens in training with one image and a pooling bin of 1x1: a single value has no variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        return running_norm(self, x) if self.training and x.numel() == x.shape[1] else super().forward(x)


def running_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation by the running statistics, also in training."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU: every convolution but the gates and the classifier."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """`conv`: a convolution without bias, which receives the arguments of `forward`."""
        super().__init__()
        self.conv = conv
        self.norm = Norm(conv.out_channels)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, *inputs: Any) -> Tensor:
        """Inputs of the convolution → (B, out_channels, H, W), non-negative."""
        return F.relu(self.norm(self.conv(*inputs)), inplace=True)


def conv_block(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> ConvBlock:
    """Return a `ConvBlock` around a plain convolution that keeps height and width."""
    padding = dilation * (kernel_size // 2)
    return ConvBlock(nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False))


def separable_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a depthwise 3x3 convolution and a 1x1 `ConvBlock`, which keep height and width."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    return nn.Sequential(depthwise, conv_block(in_channels, out_channels, 1))


def init_predictor(conv: nn.Conv2d) -> None:
    """Initialise a gate or classifier, which no normalisation follows: weights from N(0, 0.01²), bias 0."""
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def require_positive(what: str, **counts: int | Sequence[int]) -> None:
    """Check the numbers of channels, levels, ... that `what` is built with.

    Raises:
        ValueError: one is not a positive integer; the message names the argument.
    """
    for name, value in counts.items():
        values = value if isinstance(value, Sequence) else [value]
        if not all(isinstance(number, Integral) and number > 0 for number in values):
            got = value if value is values[0] else list(values)
            raise ValueError(f"{what}: {name} must be a whole number above 0, not {got!r}")


def check_maps(module: nn.Module, maps: Pyramid, channels: Sequence[int], built: str = " was built for") -> None:
    """Check that a module gets the maps that it was built for.

    Args:
        module: whose name begins the error.
        maps: to check.
        channels: of each map.
        built: what the error says after that name.

    Raises:
        ValueError: another number of maps, or a map with another number of channels.
    """
    what = f"{type(module).__name__}{built}"
    if len(maps) != len(channels):
        raise ValueError(f"{what} {len(channels)} maps of {list(channels)} channels and got {len(maps)}")
    if (got := [x.shape[1] for x in maps]) != list(channels):
        raise ValueError(f"{what} maps of {list(channels)} channels, finest first, and got {got}")
