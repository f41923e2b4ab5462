"""Sliding-window inference: class probabilities averaged over windows, horizontal flips and scales.

    p = mean_s resize( Σ_w softmax(f(x_s)[w]) / n )

`x_s` is the image resized by scale s, `w` runs over its windows, and `n` counts the windows that cover a pixel. Windows
lie as in PSPNet's code. Along each axis they have the size of the crop and a stride of `ceil(crop (1 - overlap))`,
and the last one ends flush with the image. An image smaller than the crop is padded to it with the mean color on both
sides: `pad // 2` pixels above and on the left, the rest below and on the right. Resizing is bilinear, with
`align_corners=False`.

The averages of all classes are held for the whole image. `gffnet.inference.tiling` computes the same within a memory
limit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from gffnet.data.large import LargeImage
from gffnet.errors import UserError
from gffnet.models.ops import size_of
from gffnet.recipe import EvaluationRecipe


@dataclass
class SlidingWindow:
    """A network, or any callable, whose softmax is averaged as a protocol says.

        segment = SlidingWindow(my_network, classes=19, protocol=EvaluationRecipe(crop=(512, 512), flip=True))
        labels = segment.labels(image)  # uint8 (3, H, W) → uint8 (H, W)

    Images are tensors (C, H, W), uint8 or float32 in 0..255, on the device of the callable; everything stays there.
    """

    score: Callable[[Tensor], Tensor]
    """Windows (B, C, h, w), float in 0..255 → logits (B, K, h, w). B ≤ `batch`, twice that with horizontal flips."""
    classes: int
    """K."""
    protocol: EvaluationRecipe
    """Crop, overlap, scales and horizontal flip."""
    mean: Sequence[float] = (123.675, 116.28, 103.53)
    """The color of padding, one grey level per channel."""
    batch: int = 1
    """Number of windows that are scored at once."""

    @torch.inference_mode()
    def labels(self, image: Num[Tensor, "c h w"]) -> UInt8[Tensor, "h w"]:
        """Return the class of the highest probability at every pixel."""
        return most_probable(self.probabilities(image))

    @torch.inference_mode()
    def labels_of_batch(self, images: Sequence[Num[Tensor, "c h w"]]) -> list[UInt8[Tensor, "h w"]]:
        """Return the labels of images of one size, whose windows are scored together."""
        return [most_probable(each) for each in self._probabilities(images)]

    @torch.inference_mode()
    def probabilities(self, image: Num[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        """Return the probabilities of all classes at every pixel, in float32 (float64 if the network's are)."""
        return self._probabilities([image])[0]

    def _probabilities(self, images: Sequence[Num[Tensor, "c h w"]]) -> list[Float[Tensor, "k h w"]]:
        size, scales = size_of(images[0]), self.protocol.scales
        totals: list[Tensor] = []
        for scaled in (scaled_size(size, scale) for scale in scales):
            resized = [resize_region(each, scaled, size) for each in self._average_windows(images, scaled)]
            totals = [total.add_(each) for total, each in zip(totals, resized, strict=True)] if totals else resized
        return [total.div_(len(scales)) for total in totals] if len(scales) > 1 else totals

    @torch.inference_mode()
    def logits(self, image: Num[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        """Return logits whose softmax is `probabilities`, of the same dtype.

        They are those of `score` if the image is one window at its own size and without flip, else the logarithms of
        the probabilities, -inf for 0.
        """
        size = size_of(image)
        rows, columns = axes(size, self.protocol)
        sizes = {scaled_size(size, scale) for scale in self.protocol.scales}
        if self.protocol.flip or sizes != {size} or len(rows.starts) * len(columns.starts) > 1:
            return self.probabilities(image).log_()
        (top,), (left,) = rows.starts, columns.starts
        logits = self._logits(self._crop(image, size, top, left)[None])[0]
        shown = logits[:, as_slice(rows.shown(top), top), as_slice(columns.shown(left), left)]
        return shown.to(torch.promote_types(logits.dtype, torch.float32), copy=True)

    def _average_windows(
        self, images: Sequence[Num[Tensor, "c _h _w"]], size: tuple[int, int]
    ) -> list[Float[Tensor, "k _h2 _w2"]]:
        """Resize each image to `size` and average the probabilities of all windows that cover a pixel."""
        rows, columns = axes(size, self.protocol)
        windows = [*product(rows.starts, columns.starts, range(len(images)))]
        totals: list[Tensor] = []
        for first in range(0, len(windows), self.batch):
            some = windows[first : first + self.batch]
            crops = torch.stack([self._crop(images[index], size, top, left) for top, left, index in some])
            for (top, left, index), window in zip(some, self._score_crops(crops), strict=True):
                totals = totals or [window.new_zeros(self.classes, *size) for _ in images]
                tall, wide = rows.shown(top), columns.shown(left)
                shown = window[:, as_slice(tall, top), as_slice(wide, left)]
                totals[index][:, as_slice(tall), as_slice(wide)] += shown
        cover = (rows.cover()[:, None] * columns.cover()).to(totals[0])
        return [total.div_(cover) for total in totals]

    def score_windows(
        self, image: Num[Tensor, "c _h _w"] | LargeImage, size: tuple[int, int], top: int, lefts: Sequence[int]
    ) -> Float[Tensor, "n k _h2 _w2"]:
        """Return the probabilities of windows of one row, averaged with those of their flips if the protocol says so.

        Args:
            image: at its own size.
            size: height and width that it is resized to; the windows are cut out of that.
            top: first row of the windows; negative in an image that is padded.
            lefts: first column of each.
        """
        return self._score_crops(torch.stack([self._crop(image, size, top, left) for left in lefts]))

    def _score_crops(self, crops: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        logits = self._logits(torch.cat([crops, crops.flip(-1)]) if self.protocol.flip else crops)
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        if self.protocol.flip:
            direct, flipped = probabilities.chunk(2)
            probabilities = (direct + flipped.flip(-1)) / 2
        return probabilities

    def _logits(self, windows: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Score windows. Raises `UserError` unless the result is K logits at every pixel, as other shapes broadcast."""
        logits: Any = self.score(windows)
        expected = (len(windows), self.classes, *size_of(windows))
        if not isinstance(logits, Tensor) or logits.shape != expected:
            returned = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise UserError(
                f"score returned {returned} for windows {tuple(windows.shape)} and {self.classes} classes: it must "
                f"return logits {expected}, a tensor."
            )
        return logits

    def _crop(
        self, image: Num[Tensor, "c _h _w"] | LargeImage, size: tuple[int, int], top: int, left: int
    ) -> Float[Tensor, "c _h2 _w2"]:
        """Cut one window out of the image resized to `size`, resizing only what the window shows."""
        down, across = axes(size, self.protocol)
        region = down.shown(top), across.shown(left)
        rows, columns = (source_range(*each) for each in zip(region, image.shape[-2:], size, strict=True))
        source = image[:, as_slice(rows), as_slice(columns)].float()
        window = resize_region(source, (image.shape[-2], image.shape[-1]), size, region, (rows.start, columns.start))
        if size_of(window) == (down.crop, across.crop):
            return window
        color = torch.tensor(self.mean, dtype=window.dtype, device=window.device)[:, None, None]
        padded = color.repeat(1, down.crop, across.crop)
        padded[:, as_slice(region[0], top), as_slice(region[1], left)] = window
        return padded


def most_probable(probabilities: Float[Tensor, "k h w"]) -> UInt8[Tensor, "h w"]:
    """Return the class of the highest probability at every pixel. Raises `UserError` of more than 256 classes."""
    if len(probabilities) > 256:
        raise UserError(
            f"labels are uint8, but there are {len(probabilities)} classes: take probabilities(...).argmax(0)."
        )
    return probabilities.max(0).indices.to(torch.uint8)  # on a CPU, many times faster than `argmax`


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the height and width of an image at a scale, rounded to whole pixels."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


# Windows


class Axis(NamedTuple):
    """The windows along one axis of an image, in pixels."""

    length: int
    """Length of the image."""
    crop: int
    """Length of a window."""
    starts: tuple[int, ...]
    """First positions of the windows, ascending; of an image shorter than the crop, one that is negative."""

    def shown(self, start: int) -> range:
        """Return the positions of the image in the window at `start`; beyond them, it is padding."""
        return range(max(start, 0), min(start + self.crop, self.length))

    def cover(self) -> Int[Tensor, "length"]:
        """Count the windows that cover each position of the image."""
        count = torch.zeros(self.length, dtype=torch.int64)
        for start in self.starts:
            count[as_slice(self.shown(start))] += 1
        return count

    def over(self, positions: range) -> "Axis":
        """Return those of the windows that cover any of the positions."""
        starts = (start for start in self.starts if positions.start - self.crop < start < positions.stop)
        return self._replace(starts=tuple(starts))


def axes(size: tuple[int, int], protocol: EvaluationRecipe) -> tuple[Axis, Axis]:
    """Return the windows over an image of `size` along rows and columns; without a crop, the image is the window."""
    rows, columns = (
        Axis(length, crop, tuple(window_starts(length, crop, protocol.overlap)))
        for length, crop in zip(size, protocol.crop or size, strict=True)
    )
    return rows, columns


def window_starts(length: int, crop: int, overlap: float) -> list[int]:
    """Return the starts of windows of `crop` along `length` pixels: stride `ceil(crop (1 - overlap))`, the last flush.

    Along fewer pixels than `crop` there is one window, which begins at `-((crop - length) // 2)`.
    """
    if length < crop:
        return [-((crop - length) // 2)]
    stride = max(1, math.ceil(crop * (1 - overlap) - 1e-3))  # 342, not 343, of 513 at an overlap of 0.333333
    return [*range(0, length - crop, stride), length - crop]


# Bilinear resizing of a region, from the part of the source that it depends on. Target position t reads
#
#     (1 - f) x[floor(s)] + f x[ceil(s)],  s = clamp((t + 1/2) source / target - 1/2, 0, source - 1),  f = s - floor(s)
#
# along rows, then along columns.


def resize_region(
    x: Float[Tensor, "c _h _w"],
    source: tuple[int, int],
    target: tuple[int, int],
    region: tuple[range, range] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Float[Tensor, "c _h2 _w2"]:
    """Return a region of a map of size `source` resized to `target`.

    Args:
        x: the map, or a part of it that has all positions of `source_range`.
        source: height and width of the whole map.
        target: height and width that it is resized to.
        region: rows and columns of the result; None: all. Where nothing is resized, the result is a view of `x`.
        origin: row and column of the map that `x` begins at.
    """
    region = region or (range(target[0]), range(target[1]))
    for axis in (0, 1):
        x = _resize_axis(x, axis + 1, origin[axis], source[axis], target[axis], region[axis])
    return x


def source_range(positions: range, source: int, target: int) -> range:
    """Return the positions that `positions` depend on when `source` values are resized to `target`."""
    low, high, _ = _neighbors((positions[0], positions[-1]), source, target)
    return range(int(low[0]), int(high[-1]) + 1)


def as_slice(positions: range, origin: int = 0) -> slice:
    """Return the slice that selects `positions` in a map whose first position is `origin`."""
    return slice(positions.start - origin, positions.stop - origin)


def _resize_axis(x: Tensor, dim: int, origin: int, source: int, target: int, positions: range) -> Tensor:
    if source == target:
        return x[(slice(None),) * dim + (as_slice(positions, origin),)]
    if dim == 2 and origin == 0 and positions == range(target) and x.shape[dim] == source:
        # Whole rows: equal up to rounding, and faster.
        return F.interpolate(x[None], size=(x.shape[1], target), mode="bilinear", align_corners=False)[0]
    low, high, fraction = _neighbors(positions, source, target)
    low, high = ((place - origin).to(x.device) for place in (low, high))
    weight = fraction.to(x.dtype).to(x.device).reshape([-1 if axis == dim else 1 for axis in range(3)])
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)


def _neighbors(positions: Sequence[int], source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for each target position, its two source positions and the weight of the second."""
    at = torch.tensor(positions, dtype=torch.float64)
    place = ((at + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    low = place.floor()
    return low.long(), place.ceil().long(), place - low
