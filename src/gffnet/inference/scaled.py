"""Class probabilities of an image at one scale, made window by window from the top down, and forgotten once used.

Rows of windows are scored when rows of probabilities are asked for. Of the sums over windows only the rows from the
first that is still wanted to the foot of the last row of windows are held.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gffnet.inference.parts import Span, resize_part, taken
from gffnet.inference.windows import axes, pad_to
from gffnet.recipe import EvaluationRecipe

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
