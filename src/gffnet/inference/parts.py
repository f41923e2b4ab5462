"""Bilinear resizing of a part: some rows and columns of the resized map, from the rows and columns that they take.

What `resize` does to a whole map, so that maps which are never there whole can be resized piece by piece:

    place of target position t:  s = (t + 1/2) source / target - 1/2, kept within 0..source - 1
    value = (1 - f) x[floor(s)] + f x[ceil(s)],  f = s - floor(s),  along rows, then along columns
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Span(NamedTuple):
    """Positions `first` up to, not including, `stop` along one axis."""

    first: int
    stop: int

    @property
    def length(self) -> int:
        """How many positions."""
        return self.stop - self.first

    def slice(self, begin: int = 0) -> slice:
        """The span in a map whose first position is `begin`."""
        return slice(self.first - begin, self.stop - begin)


def taken(span: Span, source: int, target: int) -> Span:
    """The source positions that target positions `span` take, when `source` values are resized to `target`."""
    (first, _, _), (_, last, _) = (_places(Span(at, at + 1), source, target) for at in (span.first, span.stop - 1))
    return Span(int(first), int(last) + 1)


def resize_part(
    x: Float[Tensor, "c _h _w"],
    held: tuple[Span, Span],
    source: tuple[int, int],
    target: tuple[int, int],
    wanted: tuple[Span, Span],
) -> Float[Tensor, "c _h2 _w2"]:
    """Rows and columns `wanted` of a map of size `source` resized to `target`.

    Args:
        x: the part of the map at hand.
        held: which rows and columns of the map it is; at least those `taken` by the wanted ones.
        source: size of the whole map.
        target: size it is resized to.
        wanted: rows and columns of the result. Where nothing is resized, the result is a view of `x`.
    """
    for axis in (0, 1):
        x = _resize_axis(x, axis + 1, held[axis].first, source[axis], target[axis], wanted[axis])
    return x


def _resize_axis(x: Tensor, dim: int, begin: int, source: int, target: int, wanted: Span) -> Tensor:
    """Resize along one axis of a map that begins at `begin`."""
    if source == target:
        return x.narrow(dim, wanted.first - begin, wanted.length)
    if dim == 2 and begin == 0 and wanted == (0, target) and x.shape[dim] == source:  # faster, where it is whole
        return F.interpolate(x[None], size=(x.shape[1], target), mode="bilinear", align_corners=False)[0]
    low, high, share = _places(wanted, source, target)
    low, high = ((place - begin).to(x.device) for place in (low, high))
    weight = share.to(x.dtype).to(x.device).reshape([-1 if axis == dim else 1 for axis in range(3)])
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)


def _places(span: Span, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each target position of `span`: the two source positions, and the share of the second."""
    at = torch.arange(span.first, span.stop, dtype=torch.float64)
    place = ((at + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    low = place.floor()
    return low.long(), place.ceil().long(), place - low
