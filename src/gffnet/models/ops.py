"""Convolutions and sums over maps of several resolutions: each as the paper writes it, and as it is executed.

Every `EquivalentForms` module has a *reference* implementation, the definition written out, and an *efficient* one with
the same parameters and, up to rounding, the same values. All of them follow from three facts:

- Bilinear resizing (`align_corners=False`, no antialiasing, as throughout this field) is linear and acts on each
  channel separately. It commutes with sums over maps and with 1x1 convolutions.
- A convolution over a concatenation is the sum of convolutions of the parts.
- Resizing is separable: a product with one matrix for the rows and one for the columns.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class EquivalentForms(nn.Module):
    """A module with a reference and an efficient implementation of one function.

    `reference` selects one. The reference is there to compare with: in tests, in the cost table, in benchmarks.
    """

    reference: bool = False


def use_reference(module: nn.Module, reference: bool = True) -> None:
    """Select the reference (or, with False, the efficient) implementation in `module` and all its submodules."""
    for part in module.modules():
        if isinstance(part, EquivalentForms):
            part.reference = reference


def size_of(x: Tensor) -> tuple[int, int]:
    """Return height and width of a map (..., H, W)."""
    return x.shape[-2], x.shape[-1]


def resize(x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Resize `x` bilinearly to `size` (height, width); `x` itself where it has that size."""
    if size_of(x) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class LevelSum(EquivalentForms):
    """For every level l, Σ_i resize(x_i, size_l) over all levels i, or over all but l itself (`others_only`).

    Reference: one resize per pair of levels. Efficient: maps of one resolution are summed before they are resized; with
    strides 4 8 8 8, two resizes replace six. The terms of a level are added up directly, never computed as the total
    minus its own map, which would cancel in bfloat16.
    """

    def __init__(self, others_only: bool) -> None:
        super().__init__()
        self.others_only = others_only

    def forward(self, maps: Sequence[Float[Tensor, "b c _h _w"]]) -> list[Float[Tensor, "b c _h _w"]]:
        """L ≥ 2 maps of the same number of channels → L maps of the same sizes."""
        # Sizes are compared, never used as keys: in a network that is being exported they are symbols.
        sizes = [size_of(x) for x in maps]
        first_of_size = [sizes.index(size) for size in sizes]
        resized: dict[tuple[tuple[int, ...], int], Tensor] = {}  # by levels and target, for later levels to reuse
        sums = []
        for level, target in enumerate(first_of_size):
            groups: dict[int, tuple[int, ...]] = {}
            for i in range(len(maps)):
                if i != level or not self.others_only:
                    key = i if self.reference else first_of_size[i]
                    groups[key] = (*groups.get(key, ()), i)
            for group in groups.values():
                if (group, target) not in resized:
                    resized[group, target] = resize(_sum([maps[i] for i in group]), sizes[level])
            sums.append(_sum([resized[group, target] for group in groups.values()]))
        return sums


def _sum(maps: Sequence[Tensor]) -> Tensor:
    """Sum one or more tensors of one shape."""
    return sum(maps[1:], start=maps[0])


class ConcatConv2d(nn.Conv2d, EquivalentForms):
    """A 1x1 or 3x3 convolution of several maps, resized to one size and concatenated.

    Reference: conv(concat(resize(x_1), ..., resize(x_n))). Efficient: a sum over runs of maps of one resolution,

    - maps of the target size, and finer ones after resizing: one convolution of their concatenation;
    - coarser maps, 1x1: convolved at their own resolution, then resized;
    - coarser maps, 3x3: the nine taps of the kernel are one 1x1 product at the low resolution; the result of each tap
      is resized, shifted by its offset and summed. A tap outside the map adds nothing (zero padding).

    Parameters are those of `nn.Conv2d(sum(in_channels), out_channels, kernel_size)`.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, kernel_size: int, bias: bool = False) -> None:
        """`in_channels`: channels of each map."""
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size must be 1 or 3, not {kernel_size}")
        super().__init__(sum(in_channels), out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.map_channels = tuple(in_channels)

    def forward(  # type: ignore[override]  # a convolution of several maps
        self, maps: Sequence[Float[Tensor, "b _c _h _w"]], size: tuple[int, int]
    ) -> Float[Tensor, "b out h w"]:
        """Maps of any resolutions → (B, out_channels, *size)."""
        if self.reference:
            return super().forward(torch.cat([resize(x, size) for x in maps], dim=1))

        def run_size(x: Tensor) -> tuple[int, int]:
            """The resolution at which a map is convolved: its own if coarser, else the target's."""
            height, width = size_of(x)
            return (height, width) if height <= size[0] and width <= size[1] else (size[0], size[1])

        runs = [(size_of_run, list(run)) for size_of_run, run in groupby(maps, run_size)]
        weights = self.weight.split([sum(x.shape[1] for x in run) for _, run in runs], dim=1)
        terms = []
        for (size_of_run, run), weight in zip(runs, weights, strict=True):
            resized = [resize(x, size_of_run) for x in run]
            x = torch.cat(resized, dim=1) if len(run) > 1 else resized[0]
            if size_of_run == tuple(size):
                terms.append(F.conv2d(x, weight, padding=self.padding))
            else:
                terms.append(upsampled_conv(x, weight, size))
        total = _sum(terms)
        return total if self.bias is None else total + self.bias[:, None, None]


def upsampled_conv(
    x: Float[Tensor, "b c _h _w"], weight: Float[Tensor, "out c k k"], size: tuple[int, int]
) -> Float[Tensor, "b out h w"]:
    """Compute `conv(resize(x, size), weight)` with zero padding at the resolution of `x`; kernel 1 or 3."""
    out, channels, kernel_size, _ = weight.shape
    if kernel_size == 1:
        return resize(F.conv2d(x, weight), size)
    taps = F.conv2d(x, weight.permute(2, 3, 0, 1).reshape(9 * out, channels, 1, 1))
    by_row = [_shifted_sum(row.split(out, dim=1), (x.shape[-2], size[1]), dim=3) for row in taps.split(3 * out, dim=1)]
    return _shifted_sum(by_row, size, dim=2)


def _shifted_sum(taps: Sequence[Tensor], size: tuple[int, int], dim: int) -> Tensor:
    """Resize three maps to `size` and add them, the first shifted by +1 and the last by -1 along `dim`."""
    before, center, after = (resize(tap, size) for tap in taps)
    later, earlier = ((1, -1), (-1, 1)) if dim == 3 else ((0, 0, 1, -1), (0, 0, -1, 1))
    # Shifted by negative padding: the gradient of a slice would come back channels-first.
    return center + F.pad(before, later) + F.pad(after, earlier)


class PooledConv2d(nn.Conv2d, EquivalentForms):
    """A 3x3 convolution of a map and of a few pooled maps that are resized to it (pyramid pooling).

    Reference: conv(concat(x, resize(p_1), ..., resize(p_n))), p_i with i x i values per channel. Efficient: the
    convolution of `x` alone, plus the contribution of the pooled values, computed on the values themselves:

        out[y, x] += Σ_rows Σ_columns  U_r[y + r - 1, i] · U_c[x + c - 1, j] · (w[:, r, c] · p[i, j])

    with `U` the bilinear matrices (`bilinear_matrix`), zero outside the map. `w · p` is a product of
    1 + 4 + 9 + 36 = 50 rows. For ResNet-101 at 512x512, 38.7 GMAC become 0.2.

    Parameters are those of `nn.Conv2d(in_channels + branches * branch_channels, out_channels, 3)`.
    """

    def __init__(self, in_channels: int, branch_channels: int, branches: int, out_channels: int) -> None:
        """`in_channels`: of the map; `branch_channels`: of each of the `branches` pooled maps."""
        super().__init__(in_channels + branches * branch_channels, out_channels, 3, padding=1, bias=False)
        self.map_channels = (in_channels, *[branch_channels] * branches)

    def forward(  # type: ignore[override]  # a convolution of several maps
        self, x: Float[Tensor, "b c h w"], pooled: Sequence[Float[Tensor, "b p _i _j"]]
    ) -> Float[Tensor, "b out h w"]:
        """A map and its pooled branches, of any size → (B, out_channels, H, W)."""
        if self.reference:
            return super().forward(torch.cat([x, *[resize(p, size_of(x)) for p in pooled]], dim=1))
        own, *others = self.weight.split(self.map_channels, dim=1)
        return F.conv2d(x, own, self.bias, padding=1) + spread_conv(pooled, others, size_of(x))


def spread_conv(
    pooled: Sequence[Float[Tensor, "b p _i _j"]],
    weights: Sequence[Float[Tensor, "out p 3 3"]],
    size: tuple[int, int],
) -> Float[Tensor, "b out h w"]:
    """Compute `Σ conv(resize(p, size), w)`, zero padding, over pairs of a coarse map and a 3x3 kernel."""
    height, width = size
    taps_at = (-1, 0, 1)  # where a 3x3 kernel reads, along either axis
    row_matrix = bilinear_matrix([p.shape[2] for p in pooled], height, pooled[0], taps_at)
    column_matrix = bilinear_matrix([p.shape[3] for p in pooled], width, pooled[0], taps_at)
    column_matrices = column_matrix.split([3 * p.shape[3] for p in pooled], dim=1)
    rows = []
    for p, weight, columns in zip(pooled, weights, column_matrices, strict=True):
        batch, channels, i, j = p.shape
        out = weight.shape[0]
        # A view where the weight is channels-last, and so is its gradient: this is the largest weight of the network.
        kernel = weight.permute(0, 2, 3, 1).reshape(9 * out, channels)
        taps = (kernel @ p.transpose(0, 1).flatten(1)).reshape(out, 3, 3, batch, i, j)
        taps = taps.permute(3, 1, 4, 2, 5, 0).reshape(batch, 3 * i, 3 * j, out)
        rows.append(columns @ taps)
    spread = row_matrix @ torch.cat(rows, dim=1).flatten(2)
    return spread.reshape(spread.shape[0], height, width, -1).permute(0, 3, 1, 2)


def bilinear_matrix(
    sources: Sequence[int], target: int, like: Tensor, offsets: Sequence[int] = (0,)
) -> Float[Tensor, "{target} _n"]:
    """Return the matrices that resize rows of values to `target` values, as `resize` does along one axis, side by side.

    Target position t reads the source at s = (t + 1/2) · source / target - 1/2, clamped to the row, with the weights
    max(0, 1 - |s - k|) of values k.

    Args:
        sources: length of each row.
        target: length after resizing.
        like: tensor whose device and dtype the result has.
        offsets: for each of them, every matrix is repeated with t shifted by so many positions, zero beyond the ends.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    # All matrices as one: few operations, also in an exported graph, however many matrices there are.
    columns = [(source, offset, k) for source in sources for offset in offsets for k in range(source)]
    source, offset, k = torch.tensor(columns, device=like.device, dtype=exact).unbind(1)
    t = torch.arange(target, device=like.device, dtype=exact)[:, None] + offset
    s = ((t + 0.5) * source / target - 0.5).clamp(min=0).minimum(source - 1)
    weight = (1 - (s - k).abs()).clamp(min=0)
    return torch.where((t >= 0) & (t < target), weight, 0).to(like.dtype)


def averaging_mask(
    bins: Sequence[int], length: int, device: torch.device
) -> tuple[Bool[Tensor, "_cells {length}"], Int[Tensor, "_cells"]]:
    """Return which of `length` values each cell of adaptive average pooling to each of `bins` covers, and how many.

    Cell i of b covers the values p with floor(i · length / b) <= p < ceil((i + 1) · length / b), that is

        i · length < (p + 1) · b   and   p · b < (i + 1) · length

    Computed from the run-time length, so that an exported network pools correctly at every size.
    """
    cells, cell = torch.tensor([(b, i) for b in bins for i in range(b)], device=device)[:, None].unbind(2)
    p = torch.arange(length, device=device)
    covered = (cell * length < (p + 1) * cells) & (p * cells < (cell + 1) * length)
    return covered, covered.sum(1)
