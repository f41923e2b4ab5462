"""Sums over the levels of a pyramid, each map resized to a target level.

As written:   Σ_i resize(x_i, size_l), one resize a pair of levels.
As executed:  maps of one resolution are summed before they are resized, for resizing is linear: with strides 4 8 8 8,
two resizes replace six. The levels that a target takes are added up directly, never as a total less its own map,
which would cancel in bfloat16.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from gffnet.models.algebra.forms import TwoForms
from gffnet.models.algebra.resize import resize, size_of


class LevelSum(TwoForms):
    """For every level l, `Σ_i resize(x_i, size_l)` over all levels i, or over all but l itself (`others_only`)."""

    def __init__(self, others_only: bool) -> None:
        super().__init__()
        self.others_only = others_only

    def forward(self, maps: Sequence[Float[Tensor, "b c _h _w"]]) -> list[Float[Tensor, "b c _h _w"]]:
        """L >= 2 maps of one width → L maps, of the sizes of the maps that came."""
        ready: dict[tuple[tuple[int, ...], tuple[int, int]], Tensor] = {}
        return [self._level(maps, level, ready) for level in range(len(maps))]

    def _level(
        self, maps: Sequence[Tensor], level: int, ready: dict[tuple[tuple[int, ...], tuple[int, int]], Tensor]
    ) -> Tensor:
        """The sum at one level; `ready` keeps what other levels of the same size can use again."""
        size = size_of(maps[level])
        groups: dict[object, tuple[int, ...]] = {}
        for i, x in enumerate(maps):
            if i != level or not self.others_only:
                key = i if self.plain else x.shape
                groups[key] = (*groups.get(key, ()), i)
        parts = []
        for group in groups.values():
            if (group, size) not in ready:
                ready[group, size] = resize(_total([maps[i] for i in group]), size)
            parts.append(ready[group, size])
        return _total(parts)


def _total(maps: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors of one shape."""
    return sum(maps[1:], start=maps[0])
