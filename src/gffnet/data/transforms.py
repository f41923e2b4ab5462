"""A window of a scaled image, computed from the part of the image that it shows.

Scaling a whole image and cutting a window out of it throws most of the work away. Pixel i of a side of N pixels that
is scaled to S has its centre at `(i + 1/2) N/S` of the source, so pixels `first .. first + length - 1` need only the
source between `first N/S` and `(first + length) N/S`, and the filter's reach beside it. torch resamples from an edge
of what it is given, so the source must begin where a scaled pixel begins: at `(first - extra) N/S` for the smallest
`extra` that makes this a whole number, to within `PHASE`. The `extra` pixels are computed too, and dropped.

The result is the window of the whole scaled image: the labels exactly, the image but for a shift of at most `PHASE` of
a source pixel and the rounding to whole grey levels.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

from gffnet.data.catalog import IGNORE
from gffnet.data.dataset import Decoded, Opened, Pixels, Sample

PHASE = 1 / 64
"""The largest shift in source pixels; fixed-point bilinear warps, OpenCV's among them, place pixels on such a grid."""


class Span(NamedTuple):
    """One side of a window: `length` pixels from `first` on, of a side of `side` pixels that is scaled to `scaled`."""

    side: int
    scaled: int
    first: int
    length: int

    def nearest(self) -> NDArray[np.intp]:
        """The source pixel that holds the centre of every pixel of the window: `⌊(i + 1/2) N/S⌋`."""
        i = np.arange(self.first, self.first + self.length)
        return (2 * i + 1) * self.side // (2 * self.scaled)


class Source(NamedTuple):
    """What a side of a window is computed from."""

    part: slice
    """Of the source."""
    extra: int
    """Pixels that are computed before the window's first."""


def source_of(span: Span) -> Source:
    """The part of a side that a window needs, and how many pixels more it yields before the window's first."""
    n, s, first, length = span
    step = n / s
    reach = max(1.0, step)  # of the antialiased bilinear filter, in source pixels
    end = math.ceil((first + length) * step + reach) + 1
    if n == s:
        return Source(slice(first, first + length), 0)
    extra = np.arange(min(first, math.ceil(reach / step - 0.5)), first + 1)
    remainder = (first - extra) * n % s  # how far the source pixel before is, in S-ths
    fits = np.minimum(remainder, s - remainder) <= PHASE * s
    least = int(extra[np.argmax(fits)])  # the last one, at the image's edge, always fits
    return Source(slice(round((first - least) * step), min(n, end)), least)


def resample(
    image: UInt8[np.ndarray, "h w c"], rows: Span, columns: Span, sources: tuple[Source, Source], mirrored: bool = False
) -> UInt8[np.ndarray, "length_h length_w c"]:
    """The window of the scaled image, bilinear with antialiasing, and `mirrored` left to right if so asked.

    `image` is the part that `sources` name.
    """
    window = image
    if rows.side != rows.scaled or columns.side != columns.scaled:
        # In this order torch sees that channels lie last, and takes its fast path.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
        # interpolate() itself derives the size from the scale, and copies a side whose size comes out as it was.
        sizes = [
            computed + (computed == given) * (span.side != span.scaled)
            for span, source, given in zip((rows, columns), sources, pixels.shape[2:], strict=True)
            if (computed := source.extra + span.length)
        ]
        factors = [span.scaled / span.side for span in (rows, columns)]
        scaled = torch.ops.aten._upsample_bilinear2d_aa(pixels, sizes, False, *factors)
        top, left = (source.extra for source in sources)
        window = scaled[0].permute(1, 2, 0).numpy()[top : top + rows.length, left : left + columns.length]
    if mirrored:
        flipped = torch.from_numpy(np.require(window, requirements="W")).flip(1)  # numpy takes thirty times as long
        return np.ascontiguousarray(flipped.numpy())
    return np.array(window, order="C")


def resample_labels(
    labels: UInt8[np.ndarray, "h w"], rows: Span, columns: Span, sources: tuple[Source, Source], mirrored: bool = False
) -> UInt8[np.ndarray, "length_h length_w"]:
    """The window of the scaled labels, by the nearest pixel, `mirrored` if so asked.

    `labels` is the part that `sources` name.
    """
    down, across = (span.nearest() - source.part.start for span, source in zip((rows, columns), sources, strict=True))
    across = across[::-1] if mirrored else across
    # Rows are cheaper to pick than columns: pick first where that leaves fewer columns to pick from.
    if rows.length < labels.shape[0]:
        picked: NDArray[np.uint8] = np.take(np.take(labels, down, axis=0), across, axis=1, mode="clip")
    else:
        picked = np.take(np.take(labels, across, axis=1, mode="clip"), down, axis=0)
    return picked


# The paper's training augmentation: mirror, scale, crop and colour, the image and its labels alike.


class Draw(NamedTuple):
    """The random numbers of one view: all of them, whatever the settings, so that one does not shift the others."""

    mirrored: bool
    scale: float
    across: tuple[float, float]
    """Where between the first and the last position the crop lies, down and across, in [0, 1)."""
    shift: tuple[int, ...]
    """Grey levels added, one a channel."""


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, colour shift and mirroring of an image with its labels.

    The scale is uniform in `scales`, relative to the image; the crop's position is uniform over all that fit. Where a
    side of the scaled image is smaller than the crop, the image lies at a uniform position within the crop, and the
    rest has the mean colour and the label 255. The colour shift is one uniform whole number of grey levels a channel;
    the padding is not shifted, so that it is zero after normalisation.

    The image is resampled bilinearly with antialiasing, the labels by the nearest pixel; both align pixel centres. Only
    the part of the image that the crop shows is decoded, where it can be, and resampled: see `resample`.
    """

    crop: tuple[int, int]
    """Height and width."""
    scales: tuple[float, float]
    jitter: int
    """The colour shift is in `[-jitter, jitter]`."""
    flip: bool
    mean: tuple[float, ...]
    """Grey level of the padding, one a channel."""

    def __call__(
        self, image: UInt8[Tensor, "c h w"], labels: UInt8[Tensor, "h w"], rng: np.random.Generator
    ) -> tuple[UInt8[Tensor, "c crop_h crop_w"], UInt8[Tensor, "crop_h crop_w"]]:
        """A random view of the crop's size; the inputs are left as they are."""
        pixels = Pixels(image.permute(1, 2, 0).numpy(force=True), labels.numpy(force=True))
        view, view_labels, _ = self.view(Decoded(pixels, ""), rng)
        return view, view_labels

    def view(self, opened: Opened, rng: np.random.Generator, focus: tuple[int, int] | None = None) -> Sample:
        """A random view of an opened sample; of the positions, only those that show the pixel `focus`, if it is given.

        The image of the result lies in memory as its file does, channels last.
        """
        draw = self.draw(rng)
        spans = tuple(
            self._span(side, crop, draw.scale, u, None if focus is None else focus[axis])
            for axis, (side, crop, u) in enumerate(zip(opened.size, self.crop, draw.across, strict=True))
        )
        rows, columns = spans
        sources = source_of(rows), source_of(columns)
        part = opened.window(sources[0].part, sources[1].part)
        mirrored = self.flip and draw.mirrored
        image = resample(part.image, rows, columns, sources, mirrored)
        _shift(image, draw.shift)
        labels = resample_labels(part.labels, rows, columns, sources, mirrored)
        if labels.shape != self.crop:
            down, across = draw.across
            image, labels = self._pad(image, labels, (down, 1 - across if mirrored else across))
        return Sample(Image(torch.from_numpy(image).permute(2, 0, 1)), Mask(torch.from_numpy(labels)), opened.name)

    def draw(self, rng: np.random.Generator) -> Draw:
        """The random numbers of one view."""
        mirrored = rng.random() < 0.5
        scale = rng.uniform(*self.scales)
        down, across = rng.random(2)
        shift = rng.integers(-self.jitter, self.jitter, size=len(self.mean), endpoint=True)
        return Draw(mirrored, scale, (down, across), tuple(shift.tolist()))

    @staticmethod
    def _span(side: int, crop: int, scale: float, u: float, focus: int | None) -> Span:
        """One side of the crop; all of a side that is scaled to less than the crop."""
        scaled = max(1, round(side * scale))
        if scaled <= crop:
            return Span(side, scaled, 0, scaled)
        low, high = 0, scaled - crop
        if focus is not None:
            seen = (2 * focus + 1) * scaled // (2 * side)
            low, high = max(low, min(high, seen - crop + 1)), min(high, seen)
        return Span(side, scaled, low + int(u * (high - low + 1)), crop)

    def _pad(
        self, image: UInt8[np.ndarray, "h w c"], labels: UInt8[np.ndarray, "h w"], across: tuple[float, float]
    ) -> Pixels:
        """The image somewhere within the crop, with the mean colour around it."""
        row = np.tile(np.array([round(level) for level in self.mean], np.uint8), (1, self.crop[1], 1))
        padded = Pixels(np.repeat(row, self.crop[0], axis=0), np.full(self.crop, IGNORE, np.uint8))
        height, width = labels.shape
        top, left = (int(u * (crop - side + 1)) for u, crop, side in zip(across, self.crop, labels.shape, strict=True))
        for whole, part in zip(padded, (image, labels), strict=True):
            whole[top : top + height, left : left + width] = part
        return padded


def _shift(image: UInt8[np.ndarray, "h w c"], shift: tuple[int, ...]) -> None:
    """Add grey levels, one number a channel, and clip to 0..255; in place, and in eight bits throughout."""
    levels = np.tile(np.array(shift), image.shape[1])
    rows = image.reshape(image.shape[0], -1)  # a long row is added to faster than three channels
    np.maximum(rows, np.maximum(0, -levels).astype(np.uint8), out=rows)
    np.minimum(rows, np.minimum(255, 255 - levels).astype(np.uint8), out=rows)
    np.add(rows, levels.astype(np.uint8), out=rows)  # modulo 256, which is right: nothing leaves 0..255 now
