"""Where the windows of a sliding window lie, and how many of them cover each pixel.

Windows have the size of the crop and begin at steps of `crop (1 - overlap)`; the last ends flush with the image. An
image smaller than the crop is one window, padded below and to the right with the mean colour. The number of windows
over a pixel is that over its row times that over its column:

    cover(y, x) = rows(y) · columns(x)
"""

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gffnet.errors import UserError
from gffnet.recipe import EvaluationRecipe

# Bilinear resizing of a part: some rows and columns of the resized map, from the rows and columns that they take.
#
# What `resize` does to a whole map, so that maps which are never there whole can be resized piece by piece:
#
#     place of target position t:  s = (t + 1/2) source / target - 1/2, kept within 0..source - 1
#     value = (1 - f) x[floor(s)] + f x[ceil(s)],  f = s - floor(s),  along rows, then along columns


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


class Axis(NamedTuple):
    """The windows along one axis of an image."""

    length: int
    """Of the image, in pixels."""
    crop: int
    """Of a window."""
    starts: tuple[int, ...]
    """Where windows begin, ascending."""

    def cover(self) -> Int[Tensor, "length"]:
        """How many windows cover each position of the image."""
        count = torch.zeros(self.length, dtype=torch.int64)
        for start in self.starts:
            count[start : start + self.crop] += 1
        return count

    def over(self, span: Span) -> "Axis":
        """Of these windows, those that cover any position of `span`."""
        starts = tuple(start for start in self.starts if start < span.stop and start + self.crop > span.first)
        return self._replace(starts=starts)


def axes(size: tuple[int, int], protocol: EvaluationRecipe) -> tuple[Axis, Axis]:
    """The windows over an image of `size` along rows and columns; one that is the image, where there is no crop."""
    crop = protocol.crop or size
    rows, columns = (
        Axis(length, side, tuple(window_starts(max(length, side), side, protocol.overlap)))
        for length, side in zip(size, crop, strict=True)
    )
    return rows, columns


def window_starts(length: int, crop: int, overlap: float) -> list[int]:
    """Where windows of `crop` begin along `length` >= crop pixels: steps of `crop (1 - overlap)`, the last flush."""
    step = max(1, round(crop * (1 - overlap)))
    return [*range(0, length - crop, step), length - crop]


def pad_to(image: Float[Tensor, "c _h _w"], size: tuple[int, int], mean: Sequence[float]) -> Float[Tensor, "c _h2 _w2"]:
    """The image with mean colour added below and to the right where it is smaller than `size`."""
    height, width = image.shape[-2:]
    if height >= size[0] and width >= size[1]:
        return image
    colour = torch.tensor(mean, dtype=image.dtype, device=image.device)[:, None, None]
    padded = colour.repeat(1, max(size[0], height), max(size[1], width))
    padded[:, :height, :width] = image
    return padded


# Class probabilities of an image at one scale, made window by window from the top down, and forgotten once used.
#
# Rows of windows are scored when rows of probabilities are asked for. Of the sums over windows only the rows from the
# first that is still wanted to the foot of the last row of windows are held.


Scorer = Callable[[Tensor], Tensor]
"""Windows (B, C, h, w) in grey levels 0..255, float → logits (B, K, h, w)."""


class ScaledImage:
    """The probabilities of an image at one scale, over a range of its columns."""

    def __init__(
        self,
        score: Scorer,
        image: UInt8[Tensor, "c h w"],
        scale: float,
        protocol: EvaluationRecipe,
        mean: Sequence[float],
        columns: Span,
        tallest: int,
        batch: int,
    ) -> None:
        """Nothing is scored yet.

        Args:
            score: the network.
            image: at its own size.
            scale: factor by which it is resized.
            protocol: crop, overlap and mirror images; scales are not read.
            mean: the colour of padding.
            columns: those of the image, at its own size, that will be asked for.
            tallest: the most rows of the image that will be asked for at once.
            batch: how many windows are scored at once.
        """
        self._score, self._image, self._mean, self._batch = score, image, mean, batch
        self._flip = protocol.flip
        self._source = (image.shape[-2], image.shape[-1])
        self.size = scaled_size(self._source, scale)
        rows, across = axes(self.size, protocol)
        self._columns = taken(columns, self.size[1], self._source[1])
        self._rows, self._across = rows, across.over(self._columns)
        twice = 2 if self._flip else 1  # every window is scored a second time, mirrored
        self._row_cover = rows.cover().to(image.device)
        self._column_cover = twice * across.cover()[self._columns.slice()].to(image.device)
        self._waiting = list(rows.starts)
        """Rows of windows that are not scored yet."""
        self._finished = 0
        """Rows above this one are averaged."""
        self._room = rows_held(self._source[0], self.size[0], rows.crop, tallest)
        self._top = 0
        """The first row that `_sums` holds."""
        self._sums: Tensor | None = None

    def resized(self, rows: Span, columns: Span) -> Float[Tensor, "k _h _w"]:
        """Probabilities at rows and columns of the image at its own size; may be a view, good until the next call.

        Rows must be asked for from the top down: what lies above those of the last call is gone.
        """
        needed = taken(rows, self.size[0], self._source[0])
        self._forget(needed.first)
        while self._finished < needed.stop:
            self._score_row(self._waiting.pop(0))
        assert self._sums is not None
        held = (Span(self._top, self._top + self._room), self._columns)
        return resize_part(self._sums, held, self.size, self._source, (rows, columns))

    def _score_row(self, top: int) -> None:
        """Score a row of windows, and average the rows that no further window covers."""
        foot = min(top + self._rows.crop, self.size[0])
        starts = self._across.starts
        for first in range(0, len(starts), self._batch):
            lefts = starts[first : first + self._batch]
            for left, part in zip(lefts, self._windows(top, lefts), strict=True):
                if self._sums is None:
                    self._sums = part.new_zeros(len(part), self._room, self._columns.length)
                begin, stop = max(left, self._columns.first), min(left + self._across.crop, self._columns.stop)
                target = self._sums[:, Span(top, foot).slice(self._top), Span(begin, stop).slice(self._columns.first)]
                target += part[:, : foot - top, begin - left : stop - left]
        assert self._sums is not None
        done = Span(self._finished, self._waiting[0] if self._waiting else self.size[0])
        rows = self._sums[:, done.slice(self._top)]
        rows /= (self._row_cover[done.slice()][:, None] * self._column_cover).to(rows.dtype)
        self._finished = done.stop

    def _windows(self, top: int, lefts: Sequence[int]) -> Float[Tensor, "n k h w"]:
        """Probabilities of windows of one row, summed with those of their mirror images where they are asked for."""
        crops = torch.stack([self._crop(top, left) for left in lefts])
        logits = self._score(torch.cat([crops, crops.flip(-1)]) if self._flip else crops)
        exact = torch.promote_types(logits.dtype, torch.float32)
        probabilities = logits.to(exact).softmax(1)
        if not self._flip:
            return probabilities
        own, mirrored = probabilities.chunk(2)
        return own + mirrored.flip(-1)

    def _crop(self, top: int, left: int) -> Float[Tensor, "c h w"]:
        """One window of the scaled image."""
        height, width = self._rows.crop, self._across.crop
        wanted = (Span(top, min(top + height, self.size[0])), Span(left, min(left + width, self.size[1])))
        rows, columns = (taken(*each) for each in zip(wanted, self._source, self.size, strict=True))
        part = self._image[:, rows.slice(), columns.slice()].float()
        scaled = resize_part(part, (rows, columns), self._source, self.size, wanted)
        return pad_to(scaled, (height, width), self._mean)

    def _forget(self, first: int) -> None:
        """Drop the rows above `first`, and make room below."""
        first = min(first, self._finished)
        gone, self._top = first - self._top, first
        if self._sums is not None and gone:
            kept = self._room - gone
            for sums in self._sums:  # one class after the other: a copy of all would double the memory
                sums[:kept] = sums[gone:].clone()
                sums[kept:] = 0


def rows_held(source: int, scaled: int, crop: int, tallest: int) -> int:
    """The most rows of a scaled image that are held at once, where `tallest` of the `source` rows are asked for."""
    return min(scaled, math.ceil(tallest * scaled / source) + 2 + crop)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size of an image at a scale, rounded to whole pixels."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


# Into which blocks an image is cut, so that the probabilities held at once fit into a budget.
#
# Held are, of every scale, the sums over windows of as many rows as a block needs and a row of windows covers, and the
# block itself as it is resized and averaged. Strips of columns cost time: windows that cover the border of two strips
# are scored for both. So the widest strips that fit are taken, and of these the tallest blocks.


_NARROWEST = 32
"""Pixels of a strip or block; below that all is borders."""


class Layout(NamedTuple):
    """The blocks of an image."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    memory: int
    """Bytes that the probabilities of one block take, with all that is held for it."""

    @property
    def tallest(self) -> int:
        """Rows of the tallest block."""
        return max(rows.length for rows in self.rows)


def plan(
    size: tuple[int, int], classes: int, protocol: EvaluationRecipe, memory: int | None, besides: int = 0
) -> Layout:
    """The blocks of an image of `size` of which each takes at most `memory` bytes; one, if that is None.

    `besides`: bytes of `memory` that other things than probabilities take.

    Raises:
        UserError: there are no such blocks.
    """
    height, width = size
    least = None
    for number in range(1, max(1, width // _NARROWEST) + 1):
        wide = -(-width // number)
        for tall in _heights(height):
            needed = block_memory(size, (tall, wide), classes, protocol)
            if memory is None or needed + besides <= memory:
                return Layout(_cut(height, tall), _cut(width, wide), needed)
            least = needed if least is None else min(least, needed)
    assert memory is not None
    whole = "the whole image is one window: give the model a crop, such as --crop 512x512, or "
    raise UserError(
        f"a memory of {_text(memory)} is too little for an image of {height}x{width} and {classes} classes: "
        f"{'' if protocol.crop else whole}give it {_text((least or 0) + besides)} or more."
    )


def block_memory(
    size: tuple[int, int], block: tuple[int, int], classes: int, protocol: EvaluationRecipe, item: int = 4
) -> int:
    """Bytes for the probabilities of a block of an image, with all that is held for it; `item`: bytes of a number."""
    tall, wide = block
    values, resized, largest = 0, False, 0
    for scale in protocol.scales:
        scaled = scaled_size(size, scale)
        crop = (protocol.crop or scaled)[0]
        columns = min(scaled[1], wide * scaled[1] // size[1] + 3)
        values += rows_held(size[0], scaled[0], crop, tall) * columns
        if scaled != size:
            resized = True
            largest = max(largest, 3 * tall * columns)  # two rows of the source and their mean, for every row
    if resized or len(protocol.scales) > 1:
        values += largest + 3 * tall * wide  # resized columns, the sum so far, and the next one
    return item * classes * values


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has taken so far, of the GPU's memory or the machine's; 0 if nobody knows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return most_resident() or 0


def most_resident() -> int | None:
    """The most bytes of the machine's memory that this process ever took; None where the system does not tell."""
    with suppress(OSError):  # Linux: `getrusage` would also count what the process that started this one took
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _heights(height: int) -> list[int]:
    """Heights of blocks to try: all, then halves of it."""
    heights = [height]
    while heights[-1] > _NARROWEST:
        heights.append(-(-heights[-1] // 2))
    return heights


def _cut(length: int, most: int) -> tuple[Span, ...]:
    """Spans of at most `most` positions, one after the other."""
    return tuple(Span(first, min(first + most, length)) for first in range(0, length, most))


def _text(memory: int) -> str:
    return f"{-(-memory // 10**6)}MB"
