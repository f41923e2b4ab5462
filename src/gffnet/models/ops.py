"""One function, two forms: as the paper writes it, and as it is cheapest to execute."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class EquivalentForms(nn.Module):
    """A module whose function has a plain form (as written) and a cheap one (as executed).

    Both have the same parameters and give the same values up to rounding; `plain` picks one. The plain form is there
    to be compared with: in tests, in the cost table, in benchmarks.
    """

    plain: bool = False


def use_reference(module: nn.Module, plain: bool = True) -> None:
    """Have `module` and all its parts execute their plain form (or, with False, the cheap one)."""
    for part in module.modules():
        if isinstance(part, EquivalentForms):
            part.plain = plain


# Bilinear resizing, and the same as matrices of the run-time size.
#
# Bilinear means `align_corners=False` without antialiasing throughout, as in the paper's field. It is linear, acts on
# each channel alone and on rows and columns one after the other: all that the cheap forms rest on.


def resize(x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """`x` resized bilinearly to `size` (height, width); `x` itself where it has that size."""
    if size_of(x) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of a map."""
    return x.shape[-2], x.shape[-1]


def bilinear_matrix(
    sources: Sequence[int], target: int, like: Tensor, reads: Sequence[int] = (0,)
) -> Float[Tensor, "{target} _n"]:
    """The matrices that resize rows of values to `target` values, as `resize` does along one axis, side by side.

    Target position `t` lies at `s = (t + 1/2) source / target - 1/2`, kept within the row, and takes a hat function
    around it: weight `max(0, 1 - |s - k|)` for value `k`.

    Args:
        sources: how many values each row has.
        target: how many it is to have.
        like: gives the device and the dtype.
        reads: every matrix stands there once for each of these: read so many places further on, zero beyond the ends.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    # All matrices in one: a few operations, also in an exported network, however many there are.
    columns = [(source, read, value) for source in sources for read in reads for value in range(source)]
    source, read, value = torch.tensor(columns, device=like.device, dtype=exact).unbind(1)
    here = torch.arange(target, device=like.device, dtype=exact)[:, None] + read
    place = ((here + 0.5) * source / target - 0.5).clamp(min=0).minimum(source - 1)
    weight = (1 - (place - value).abs()).clamp(min=0)
    return torch.where((here >= 0) & (here < target), weight, 0).to(like.dtype)


def averaging_mask(
    bins: Sequence[int], length: int, device: torch.device
) -> tuple[Bool[Tensor, "_cells {length}"], Int[Tensor, "_cells"]]:
    """Which of `length` values fall into each cell of adaptive average pooling to each of `bins`, and how many.

    Of `b` cells, cell `i` averages the values `p` from `floor(i length / b)` up to, not including,
    `ceil((i + 1) length / b)`, which are those of

        i length < (p + 1) b   and   p b < (i + 1) length

    Computed from the run-time length, so that an exported network pools rightly at every size.
    """
    cells, cell = torch.tensor([(b, i) for b in bins for i in range(b)], device=device)[:, None].unbind(2)
    place = torch.arange(length, device=device)
    inside = (cell * length < (place + 1) * cells) & (place * cells < (cell + 1) * length)
    return inside, inside.sum(1)


# Sums over the levels of a pyramid, each map resized to a target level.
#
# As written:   Σ_i resize(x_i, size_l), one resize a pair of levels.
# As executed:  maps of one resolution are summed before they are resized, for resizing is linear: with strides 4 8 8 8,
# two resizes replace six. The levels that a target takes are added up directly, never as a total less its own map,
# which would cancel in bfloat16.


class LevelSum(EquivalentForms):
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


# A convolution over the concatenation of maps of several resolutions.
#
# As written:   conv(concat(resize(x_1), ..., resize(x_n))),  every x resized to the target size first.
# As executed:  Σ over runs of maps of one resolution, because a convolution over a concatenation is a sum of convolutions
# of its parts:
#
# - maps of the target's resolution, and finer ones after resizing: one convolution of their concatenation;
# - coarser maps, 1x1: convolved where they are, then resized, for a 1x1 convolution commutes with resizing;
# - coarser maps, 3x3: the nine taps of the kernel are one 1x1 product at the low resolution; each tap's result is
#   resized, shifted by its offset and summed. A tap that falls outside the map adds nothing (zero padding).


class ConcatConv2d(nn.Conv2d, EquivalentForms):
    """A 1x1 or 3x3 convolution over maps of given `widths`, resized to one size and concatenated.

    Parameters are those of a plain `nn.Conv2d(sum(widths), out_channels, kernel)`.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, kernel: int, bias: bool = False) -> None:
        if kernel not in (1, 3):
            raise ValueError(f"kernel must be 1 or 3, not {kernel}")
        super().__init__(sum(widths), out_channels, kernel, padding=kernel // 2, bias=bias)
        self.widths = tuple(widths)

    def forward(  # type: ignore[override]  # a convolution of several maps
        self, maps: Sequence[Float[Tensor, "b _c _h _w"]], size: tuple[int, int]
    ) -> Float[Tensor, "b out h w"]:
        """`maps` of the given widths, any resolutions; the result has `size` (height, width)."""
        if self.plain:
            return super().forward(torch.cat([resize(x, size) for x in maps], dim=1))
        runs = _by_execution_size(maps, size)
        weights = self.weight.split([sum(x.shape[1] for x in run) for _, run in runs], dim=1)
        parts = []
        for (own_size, run), weight in zip(runs, weights, strict=True):
            resized = [resize(x, own_size) for x in run]
            x = torch.cat(resized, dim=1) if len(run) > 1 else resized[0]
            if own_size == tuple(size):
                parts.append(F.conv2d(x, weight, padding=self.padding))
            else:
                parts.append(upsampled_conv(x, weight, size))
        total = sum(parts[1:], start=parts[0])
        return total if self.bias is None else total + self.bias[:, None, None]


def _by_execution_size(maps: Sequence[Tensor], size: tuple[int, int]) -> list[tuple[tuple[int, int], list[Tensor]]]:
    """Runs of maps that are convolved at one resolution: their own if coarser, else the target's."""
    runs: list[tuple[tuple[int, int], list[Tensor]]] = []
    for x in maps:
        height, width = size_of(x)
        own_size = (height, width) if height <= size[0] and width <= size[1] else (size[0], size[1])
        if not runs or runs[-1][0] != own_size:
            runs.append((own_size, []))
        runs[-1][1].append(x)
    return runs


def upsampled_conv(
    x: Float[Tensor, "b c _h _w"], weight: Float[Tensor, "out c k k"], size: tuple[int, int]
) -> Float[Tensor, "b out h w"]:
    """`conv(resize(x, size), weight)` with zero padding, computed at the resolution of `x`; kernel 1 or 3."""
    out, channels, kernel, _ = weight.shape
    if kernel == 1:
        return resize(F.conv2d(x, weight), size)
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(9 * out, channels, 1, 1))
    by_row = [_shifted_sum(row.split(out, dim=1), (x.shape[-2], size[1]), dim=3) for row in taps.split(3 * out, dim=1)]
    return _shifted_sum(by_row, size, dim=2)


def _shifted_sum(taps: Sequence[Tensor], size: tuple[int, int], dim: int) -> Tensor:
    """The sum of three maps resized to `size`: the first read one place before, the last one place after, in `dim`."""
    before, centre, after = (resize(tap, size) for tap in taps)
    later, earlier = ((1, -1), (-1, 1)) if dim == 3 else ((0, 0, 1, -1), (0, 0, -1, 1))
    # Moved by padding with less than nothing at one end: the gradient of a slice would come back channels-first.
    return centre + F.pad(before, later) + F.pad(after, earlier)


# A 3x3 convolution over a map and a few pooled values that were resized to it.
#
# As written:   conv(concat(x, resize(p_1), ..., resize(p_n))),  p_i with i x i values a channel (pyramid pooling).
# As executed:  conv of `x` alone, plus what the pooled values add, worked out on the values themselves:
#
#     out[y, x] += Σ_rows Σ_columns  U_r[y + r - 1, i] · U_c[x + c - 1, j] · (w[:, r, c] · p[i, j])
#
# with `U` the bilinear matrices (`bilinear_matrix`), zero outside the map. `w · p` is a product of 1 + 4 + 9 + 36 = 50
# rows; the two matrices then spread it along the columns and along the rows. For ResNet-101 at 512x512, 38.7 GMAC become
# 0.2.


_TAPS = (-1, 0, 1)
"""Where a 3x3 kernel reads, along either axis."""


class PooledConv2d(nn.Conv2d, EquivalentForms):
    """A 3x3 convolution over a map of `width` channels and `branches` pooled maps of `branch_width` channels.

    Parameters are those of a plain `nn.Conv2d(width + branches * branch_width, out_channels, 3)`.
    """

    def __init__(self, width: int, branch_width: int, branches: int, out_channels: int) -> None:
        super().__init__(width + branches * branch_width, out_channels, 3, padding=1, bias=False)
        self.widths = (width, *[branch_width] * branches)

    def forward(  # type: ignore[override]  # a convolution of several maps
        self, x: Float[Tensor, "b c h w"], pooled: Sequence[Float[Tensor, "b p _i _j"]]
    ) -> Float[Tensor, "b out h w"]:
        """The map and its pooled branches, coarse and of any size."""
        if self.plain:
            return super().forward(torch.cat([x, *[resize(p, size_of(x)) for p in pooled]], dim=1))
        own, *others = self.weight.split(self.widths, dim=1)
        return F.conv2d(x, own, self.bias, padding=1) + spread_conv(pooled, others, size_of(x))


def spread_conv(
    pooled: Sequence[Float[Tensor, "b p _i _j"]],
    weights: Sequence[Float[Tensor, "out p 3 3"]],
    size: tuple[int, int],
) -> Float[Tensor, "b out h w"]:
    """`Σ conv(resize(p, size), w)` over pairs of a coarse map and a 3x3 kernel, zero padding."""
    height, width = size
    row_matrix = bilinear_matrix([p.shape[2] for p in pooled], height, pooled[0], _TAPS)
    column_matrix = bilinear_matrix([p.shape[3] for p in pooled], width, pooled[0], _TAPS)
    column_matrices = column_matrix.split([3 * p.shape[3] for p in pooled], dim=1)
    rows = []
    for p, weight, columns in zip(pooled, weights, column_matrices, strict=True):
        batch, channels, i, j = p.shape
        out = weight.shape[0]
        # Of a channels-last weight this is a view, and its gradient is channels-last: it is the largest weight of all.
        kernel = weight.permute(0, 2, 3, 1).reshape(9 * out, channels)
        taps = (kernel @ p.transpose(0, 1).flatten(1)).reshape(out, 3, 3, batch, i, j)
        taps = taps.permute(3, 1, 4, 2, 5, 0).reshape(batch, 3 * i, 3 * j, out)
        rows.append(columns @ taps)
    spread = row_matrix @ torch.cat(rows, dim=1).flatten(2)
    return spread.reshape(spread.shape[0], height, width, -1).permute(0, 3, 1, 2)
