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
        # Sizes are compared, never keys of a dictionary: in a network that is being exported they are symbols.
        sizes = [size_of(x) for x in maps]
        alike = [sizes.index(size) for size in sizes]
        ready: dict[tuple[tuple[int, ...], int], Tensor] = {}
        return [self._level(maps, level, alike, ready) for level in range(len(maps))]

    def _level(
        self, maps: Sequence[Tensor], level: int, alike: list[int], ready: dict[tuple[tuple[int, ...], int], Tensor]
    ) -> Tensor:
        """The sum at one level.

        Args:
            maps: of all levels.
            level: which.
            alike: for each level, the first one of its size.
            ready: what has been resized; it is kept here for other levels of the same size to use again.
        """
        groups: dict[int, tuple[int, ...]] = {}
        for i in range(len(maps)):
            if i != level or not self.others_only:
                key = i if self.plain else alike[i]
                groups[key] = (*groups.get(key, ()), i)
        parts = []
        for group in groups.values():
            if (group, alike[level]) not in ready:
                ready[group, alike[level]] = resize(_total([maps[i] for i in group]), size_of(maps[level]))
            parts.append(ready[group, alike[level]])
        return _total(parts)


def _total(maps: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors of one shape."""
    return sum(maps[1:], start=maps[0])
