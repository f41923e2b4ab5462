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
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

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
