"""The paper's training augmentation: horizontal flip, scale, crop and color shift of an image and its labels.

Scaling a whole image and cutting a crop out of it wastes most of the work, so the crop is computed from the part of the
image that it shows (`resample`). torchvision's v2 transforms scale first and crop then, which takes several times as
long, and draw other random numbers: with them a run recorded earlier could not be resumed exactly.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Num, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image, Mask

from gffnet.data.dataset import IGNORE, Sample
from gffnet.data.io import as_tensor

# Random numbers. Own data and transforms draw from the global generators of torch, numpy and Python.


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random`, and restore their states afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


# Resampling. Pixel i of a side of N pixels that is scaled to S has its centre at `(i + 1/2) N/S` of the source, so
# pixels `first .. first + length - 1` need the source between `first N/S` and `(first + length) N/S`, and the filter's
# reach beside it. torch resamples from an edge of its input, so the source must begin where a scaled pixel begins: at
# `(first - extra) N/S`, for the smallest `extra` for which this is a whole number to within `PHASE`. The extra pixels
# are computed and dropped. The labels are exactly those of the scaled label map; the image is that of the scaled image
# but for a shift of at most `PHASE` source pixels and the rounding to whole grey levels.

PHASE = 1 / 64
"""Largest shift in source pixels; fixed-point bilinear warps, such as OpenCV's, place pixels on such a grid."""


class Span(NamedTuple):
    """One side of a crop: `length` pixels from `first` on, of a side of `side` pixels that is scaled to `scaled`."""

    side: int
    scaled: int
    first: int
    length: int

    def nearest(self) -> NDArray[np.intp]:
        """The source pixel that holds the centre of each pixel of the crop: `⌊(i + 1/2) N/S⌋`."""
        i = np.arange(self.first, self.first + self.length)
        return (2 * i + 1) * self.side // (2 * self.scaled)


class Source(NamedTuple):
    """What one side of a crop is computed from."""

    part: slice
    """Of the source."""
    extra: int
    """Pixels that are computed before the crop's first, and dropped."""


def source_of(span: Span) -> Source:
    """Find the part of a side that a crop needs."""
    n, s, first, length = span
    step = n / s
    reach = max(1.0, step)  # of the antialiased bilinear filter, in source pixels
    end = math.ceil((first + length) * step + reach) + 1
    if n == s:
        return Source(slice(first, first + length), 0)
    extra = np.arange(min(first, math.ceil(reach / step - 0.5)), first + 1)
    remainder = (first - extra) * n % s  # distance to the source pixel before, in S-ths
    fits = np.minimum(remainder, s - remainder) <= PHASE * s
    least = int(extra[np.argmax(fits)])  # the last one, at the image's edge, always fits
    return Source(slice(round((first - least) * step), min(n, end)), least)


def resample(
    image: Num[Tensor, "c h w"], rows: Span, columns: Span, sources: tuple[Source, Source], flip: bool = False
) -> Num[np.ndarray, "length_h length_w c"]:
    """Crop the scaled image, bilinearly with antialiasing, and flip it horizontally if asked to.

    `image` is the part that `sources` name. The result is an array of its own, of the same dtype, channels last.
    """
    window = image
    if rows.side != rows.scaled or columns.side != columns.scaled:
        pixels = image[None].contiguous(memory_format=torch.channels_last)  # for torch's fast kernel
        # interpolate() itself derives the size from the scale, and copies a side whose size comes out unchanged.
        sizes = [
            computed + (computed == given) * (span.side != span.scaled)
            for span, source, given in zip((rows, columns), sources, image.shape[1:], strict=True)
            if (computed := source.extra + span.length)
        ]
        factors = [span.scaled / span.side for span in (rows, columns)]
        scaled = torch.ops.aten._upsample_bilinear2d_aa(pixels, sizes, False, *factors)
        top, left = (source.extra for source in sources)
        window = scaled[0, :, top : top + rows.length, left : left + columns.length]
    channels_last = window.permute(1, 2, 0)
    # numpy takes thirty times as long to flip.
    return np.array(channels_last.flip(1) if flip else channels_last, order="C")


def resample_labels(
    labels: UInt8[np.ndarray, "h w"], rows: Span, columns: Span, sources: tuple[Source, Source], flip: bool = False
) -> UInt8[np.ndarray, "length_h length_w"]:
    """Crop the scaled labels, by the nearest pixel, and flip them horizontally if asked to.

    `labels` is the part that `sources` name.
    """
    down, across = (span.nearest() - source.part.start for span, source in zip((rows, columns), sources, strict=True))
    across = across[::-1] if flip else across
    # Rows are cheaper to pick than columns: pick them first where that leaves fewer pixels to pick columns from.
    if rows.length < labels.shape[0]:
        picked: NDArray[np.uint8] = np.take(np.take(labels, down, axis=0), across, axis=1, mode="clip")
    else:
        picked = np.take(np.take(labels, across, axis=1, mode="clip"), down, axis=0)
    return picked


@dataclass(frozen=True)
class ColorJitter:
    """Random changes of light, color and sharpness, for streets and cameras that training has not seen.

    In this order, each by torchvision: brightness, contrast and saturation are multiplied by a factor that is uniform
    in [1 - x, 1 + x], the hue is shifted by up to x of the color circle, and a Gaussian blur of 0.1 to 2 pixels is
    applied with the probability `blur`.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0

    def __call__(self, image: Num[np.ndarray, "h w c"], rng: np.random.Generator) -> Num[np.ndarray, "h w c"]:
        """A changed copy of an image of one or three channels, uint8 or float32 in 0..255, of the same dtype."""
        changes = rng.uniform(-1, 1, 4)
        blurred, sigma = rng.random(2)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        if is_float := pixels.is_floating_point():
            pixels = pixels / 255  # torchvision's range
        for strength, change, adjust in (
            (self.brightness, changes[0], functional.adjust_brightness),
            (self.contrast, changes[1], functional.adjust_contrast),
            (self.saturation, changes[2], functional.adjust_saturation),
        ):
            if strength:
                pixels = adjust(pixels, float(1 + strength * change))
        if self.hue:
            pixels = functional.adjust_hue(pixels, float(self.hue * changes[3]))
        if blurred < self.blur:
            width = 0.1 + 1.9 * float(sigma)
            pixels = functional.gaussian_blur(pixels, [2 * math.ceil(2 * width) + 1] * 2, [width, width])
        if is_float:
            pixels = pixels * 255
        return np.array(pixels.permute(1, 2, 0), order="C")


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, color shift, color jitter and horizontal flip of an image with its labels.

    The scale is uniform in `scales`, relative to the image; the crop's position is uniform over all that fit. Where a
    side of the scaled image is smaller than the crop, the image lies at a uniform position within the crop, and the
    rest has the mean color and the label 255. The color shift is one uniform whole number of grey levels a channel; the
    padding is not shifted, so that it is zero after normalisation. Images have any number of channels, as uint8 or,
    where they are deeper, as float32 in 0..255; views have the dtype of their image.

    The image is resampled bilinearly with antialiasing, the labels by the nearest pixel; both align pixel centres.
    """

    crop: tuple[int, int]
    """Height and width."""
    scales: tuple[float, float]
    jitter: int
    """The color shift is in `[-jitter, jitter]`."""
    flip: bool
    mean: tuple[float, ...]
    """Grey level of the padding, one a channel."""
    color_jitter: ColorJitter | None = None
    """Of images of one or three channels."""

    def __call__(
        self, image: Num[Tensor, "c h w"], labels: UInt8[Tensor, "h w"], rng: np.random.Generator
    ) -> tuple[Num[Tensor, "c crop_h crop_w"], UInt8[Tensor, "crop_h crop_w"]]:
        """A random view of the crop's size; the inputs are not changed."""
        view = self.view(Sample(image, labels, ""), rng)
        return view.image, view.labels

    def view(self, sample: Sample, rng: np.random.Generator, focus: tuple[int, int] | None = None) -> Sample:
        """A random view of a sample; with `focus`, only positions that show this pixel (row, column) are drawn.

        Only the part of the sample that the view shows is touched.
        """
        # All random numbers are drawn, whatever the settings, so that no setting shifts the others.
        flip = bool(rng.random() < 0.5) and self.flip
        scale = rng.uniform(*self.scales)
        down, across = rng.random(2)
        levels = rng.integers(-self.jitter, self.jitter, size=len(self.mean), endpoint=True)
        rows, columns = (
            self._span(side, crop, scale, u, None if focus is None else focus[axis])
            for axis, (side, crop, u) in enumerate(zip(sample.labels.shape, self.crop, (down, across), strict=True))
        )
        sources = source_of(rows), source_of(columns)
        part = tuple(source.part for source in sources)
        image = resample(sample.image.as_subclass(Tensor)[:, *part], rows, columns, sources, flip)
        labels = resample_labels(sample.labels.as_subclass(Tensor).numpy()[part], rows, columns, sources, flip)
        _shift(image, levels)
        if self.color_jitter is not None:
            image = self.color_jitter(image, rng)
        if labels.shape != self.crop:
            image, labels = self._pad(image, labels, (down, 1 - across if flip else across))
        return Sample(Image(as_tensor(image)), Mask(torch.from_numpy(labels)), sample.name)

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
        self, image: Num[np.ndarray, "h w c"], labels: UInt8[np.ndarray, "h w"], position: tuple[float, float]
    ) -> tuple[Num[np.ndarray, "crop_h crop_w c"], UInt8[np.ndarray, "crop_h crop_w"]]:
        """Place the image within the crop, with the mean color around it."""
        mean = self.mean if image.dtype.kind == "f" else [round(level) for level in self.mean]
        row = np.tile(np.array(mean, image.dtype), (1, self.crop[1], 1))
        padded, padded_labels = np.repeat(row, self.crop[0], axis=0), np.full(self.crop, IGNORE, np.uint8)
        height, width = labels.shape
        top, left = int(position[0] * (self.crop[0] - height + 1)), int(position[1] * (self.crop[1] - width + 1))
        inside = slice(top, top + height), slice(left, left + width)
        padded[inside], padded_labels[inside] = image, labels
        return padded, padded_labels


def _shift(image: Num[np.ndarray, "h w c"], shift: NDArray[np.int64]) -> None:
    """Add grey levels, one number a channel, and clip to 0..255; in place, and uint8 in eight bits throughout."""
    if image.dtype != np.uint8:
        np.clip(np.add(image, shift.astype(image.dtype), out=image), 0, 255, out=image)
        return
    levels = np.tile(shift, image.shape[1])
    rows = image.reshape(image.shape[0], -1)  # adding to a long row is faster than to three channels
    np.maximum(rows, np.maximum(0, -levels).astype(np.uint8), out=rows)
    np.minimum(rows, np.minimum(255, 255 - levels).astype(np.uint8), out=rows)
    np.add(rows, levels.astype(np.uint8), out=rows)  # modulo 256, which is right: nothing leaves 0..255 now
