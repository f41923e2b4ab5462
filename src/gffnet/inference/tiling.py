"""Sliding-window inference within a memory limit: the image is predicted tile by tile.

The probabilities of all classes of a large image do not fit into memory: 100 megapixels of 150 classes take 60 GB. So
tiles are computed from the top down, and each is handed out before the next is computed. Of every scale, the sums over
windows are held for as many rows as a tile needs and a row of windows covers.

Tiles of the full width cost no extra time. Where even a low one does not fit, the image is divided into strips of
columns as well, and windows across the border of two strips are scored for both. So the widest strips that fit are
chosen, and for these the highest tiles.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from gffnet.data.large import LargeImage
from gffnet.errors import UserError
from gffnet.inference.sliding_window import (
    SlidingWindow,
    as_slice,
    axes,
    most_probable,
    resize_region,
    scaled_size,
    source_range,
)
from gffnet.models.ops import size_of
from gffnet.recipe import EvaluationRecipe

_SMALLEST = 32
"""Height and width of the smallest tiles, in pixels; in smaller ones, most windows would cross a border."""


class Tile(NamedTuple):
    """A tile of an image and its class probabilities."""

    rows: range
    columns: range
    probabilities: Float[Tensor, "k _h _w"]
    """Valid until the next tile is requested."""


@dataclass
class TiledWindow(SlidingWindow):
    """A `SlidingWindow` that computes an image in tiles, each within a memory limit."""

    memory: int = field(kw_only=True)
    """Limit in bytes."""
    reserved: int = field(default=0, kw_only=True)
    """Bytes of the limit that are taken by other things than probabilities."""

    @torch.inference_mode()
    def probabilities(self, image: Num[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        """Return the probabilities of all classes at every pixel. The result itself is not within the limit."""
        result: Tensor | None = None
        for rows, columns, tile in self.tiles(image):
            result = tile.new_empty(len(tile), *size_of(image)) if result is None else result
            result[:, as_slice(rows), as_slice(columns)] = tile
        assert result is not None
        return result

    @torch.inference_mode()
    def labels(self, image: Num[Tensor, "c h w"]) -> UInt8[Tensor, "h w"]:
        """Return the class of the highest probability at every pixel."""
        labels = torch.empty(size_of(image), dtype=torch.uint8, device=image.device)
        for rows, columns, tile in self.tiles(image):
            labels[as_slice(rows), as_slice(columns)] = most_probable(tile)
        return labels

    def labels_of_batch(self, images: Sequence[Num[Tensor, "c h w"]]) -> list[UInt8[Tensor, "h w"]]:
        """Return the labels of images, one after the other."""
        return [*map(self.labels, images)]

    @torch.inference_mode()
    def logits(self, image: Num[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        """Return logits whose softmax is `probabilities`. Neither is the result itself within the limit."""
        self.layout(image)  # one window is not tiled: it must fit
        return super().logits(image)

    def tiles(self, image: Num[Tensor, "c h w"] | LargeImage) -> Iterator[Tile]:
        """Yield the image tile by tile: strips of columns from the left, each from the top down.

        Raises:
            UserError: not even the smallest tiles fit into the memory.
        """
        layout = self.layout(image)
        for columns in layout.columns:
            views = [_ScaledView(self, image, scale, columns, len(layout.rows[0])) for scale in self.protocol.scales]
            for rows in layout.rows:
                yield Tile(rows, columns, _mean(views, rows, columns))

    def layout(self, image: Num[Tensor, "c h w"] | LargeImage) -> "Layout":
        """Return the division of the image into tiles. Raises as `plan_tiles`."""
        return plan_tiles((image.shape[-2], image.shape[-1]), self.classes, self.protocol, self.memory, self.reserved)


@torch.inference_mode()  # not around the generator, which would leave the mode on in its caller
def _mean(views: Sequence["_ScaledView"], rows: range, columns: range) -> Float[Tensor, "k _h _w"]:
    """Return the mean over the scales of an image; may be a view, valid until the next call."""
    total = views[0].resized(rows, columns)
    for i, view in enumerate(views[1:]):
        resized = view.resized(rows, columns)
        total = total.add_(resized) if i else total + resized
    return total.div_(len(views)) if len(views) > 1 else total


class _ScaledView:
    """The averaged probabilities of an image at one scale and over a range of columns, computed from the top down."""

    def __init__(
        self,
        window: SlidingWindow,
        image: Num[Tensor, "c h w"] | LargeImage,
        scale: float,
        columns: range,
        tallest: int,
    ) -> None:
        """Set up the view; no window is scored yet.

        Args:
            window: scores the windows.
            image: at its own size.
            scale: factor by which it is resized.
            columns: columns of the image, at its own size, that will be requested.
            tallest: the largest number of rows of the image that will be requested at once.
        """
        self._window, self._image = window, image
        self._source = image.shape[-2], image.shape[-1]
        self._size = scaled_size(self._source, scale)
        self._columns = source_range(columns, self._size[1], self._source[1])
        self._rows, across = axes(self._size, window.protocol)
        self._across = across.over(self._columns)
        self._row_cover = self._rows.cover().to(image.device)
        self._column_cover = across.cover()[as_slice(self._columns)].to(image.device)
        self._waiting = list(self._rows.starts)
        """First rows of the windows that are not scored yet."""
        self._finished = 0
        """Number of rows that are averaged."""
        self._held = rows_held(self._source[0], self._size[0], self._rows.crop, tallest)
        self._top = 0
        """First row that `_sums` holds."""
        self._sums: Tensor | None = None

    def resized(self, rows: range, columns: range) -> Float[Tensor, "k _h _w"]:
        """Return the probabilities at rows and columns of the image; may be a view, valid until the next call.

        Rows must be requested from the top down: those above the last call's are discarded.
        """
        needed = source_range(rows, self._size[0], self._source[0])
        self._discard_above(needed.start)
        while self._finished < needed.stop:
            self._score_row(self._waiting.pop(0))
        assert self._sums is not None
        return resize_region(
            self._sums, self._size, self._source, (rows, columns), origin=(self._top, self._columns.start)
        )

    def _score_row(self, top: int) -> None:
        """Score a row of windows and average the rows that no further window covers."""
        shown = self._rows.shown(top)
        starts = self._across.starts
        for first in range(0, len(starts), self._window.batch):
            lefts = starts[first : first + self._window.batch]
            windows = self._window.score_windows(self._image, self._size, top, lefts)
            for left, window in zip(lefts, windows, strict=True):
                if self._sums is None:
                    self._sums = window.new_zeros(len(window), self._held, len(self._columns))
                shared = range(max(left, self._columns.start), min(left + self._across.crop, self._columns.stop))
                target = self._sums[:, as_slice(shown, self._top), as_slice(shared, self._columns.start)]
                target += window[:, as_slice(shown, top), as_slice(shared, left)]
        assert self._sums is not None
        done = range(self._finished, self._waiting[0] if self._waiting else self._size[0])
        averaged = self._sums[:, as_slice(done, self._top)]
        averaged /= (self._row_cover[as_slice(done)][:, None] * self._column_cover).to(averaged.dtype)
        self._finished = done.stop

    def _discard_above(self, row: int) -> None:
        """Discard the rows above `row` and make room below."""
        row = min(row, self._finished)
        gone, self._top = row - self._top, row
        if self._sums is not None and gone:
            kept = self._held - gone
            for sums in self._sums:  # class by class: a copy of all would double the memory
                sums[:kept] = sums[gone:].clone()
                sums[kept:] = 0


# Memory


class Layout(NamedTuple):
    """The tiles of an image, the highest and widest first."""

    rows: tuple[range, ...]
    columns: tuple[range, ...]
    memory: int
    """Bytes that the probabilities of one tile take, with all that is held for them."""


def plan_tiles(
    size: tuple[int, int], classes: int, protocol: EvaluationRecipe, memory: int, reserved: int = 0
) -> Layout:
    """Divide an image of `size` into tiles that take at most `memory - reserved` bytes each.

    Raises:
        UserError: even the smallest tiles take more.
    """
    height, width = size
    heights = [height]
    while heights[-1] > _SMALLEST:
        heights.append(-(-heights[-1] // 2))
    least = math.inf
    for strips in range(1, max(1, width // _SMALLEST) + 1):
        wide = -(-width // strips)
        for tall in heights:
            needed = tile_memory(size, (tall, wide), classes, protocol)
            if needed + reserved <= memory:
                return Layout(_cut(height, tall), _cut(width, wide), needed)
            least = min(least, needed)
    remedy = f"give it {math.ceil((least + reserved) / 1e6)}MB or more."
    if protocol.crop is None:
        remedy = f"the whole image is one window: give the model a crop, such as --crop 512x512, or {remedy}"
    raise UserError(
        f"a memory of {math.ceil(memory / 1e6)}MB is too little for an image of {height}x{width} and {classes} "
        f"classes: {remedy}"
    )


def tile_memory(size: tuple[int, int], tile: tuple[int, int], classes: int, protocol: EvaluationRecipe) -> int:
    """Return the bytes that the probabilities of a tile of an image take, with all that is held for them."""
    tall, wide = tile
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
    return 4 * classes * values  # float32


def rows_held(source: int, scaled: int, crop: int, tallest: int) -> int:
    """Return how many rows of a scaled image are held at once, if `tallest` of the `source` rows are requested."""
    return min(scaled, math.ceil(tallest * scaled / source) + 2 + crop)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process so far, in bytes: the GPU's or the machine's; 0 if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return most_resident() or 0


def most_resident() -> int | None:
    """Return the peak resident memory of this process in bytes; None where the system does not report it."""
    with suppress(OSError):  # Linux: `getrusage` would also count the process that started this one
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cut(length: int, most: int) -> tuple[range, ...]:
    """Divide positions 0..length - 1 into ranges of at most `most`."""
    return tuple(range(first, min(first + most, length)) for first in range(0, length, most))
