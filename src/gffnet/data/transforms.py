"""The paper's training augmentation: mirror, scale, crop and colour, the image and its labels alike."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from gffnet.data.catalog import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, colour shift and mirroring of an image with its labels.

    The scale is uniform in `scales`, relative to the image; the crop's position is uniform over all that fit. Where a
    side of the scaled image is smaller than the crop, the image lies at a uniform position within the crop, and the
    rest has the mean colour and the label 255. The colour shift is one uniform whole number of grey levels a channel;
    the padding is not shifted, so that it is zero after normalisation.

    The image is resampled bilinearly with antialiasing, the labels by the nearest pixel; both align pixel centres.
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
        # All random numbers first, whatever the settings: every image takes the same share of a generator's stream.
        mirrored = rng.random() < 0.5
        scale = rng.uniform(*self.scales)
        across = rng.random(2)
        shift = rng.integers(-self.jitter, self.jitter, size=len(self.mean), endpoint=True)

        size = [max(1, round(side * scale)) for side in labels.shape]
        image = F.resize(image, size, InterpolationMode.BILINEAR, antialias=True)
        labels = F.resize(labels[None], size, InterpolationMode.NEAREST_EXACT)[0]

        (top, view_top, height), (left, view_left, width) = (
            _place(side, crop, u) for side, crop, u in zip(size, self.crop, across, strict=True)
        )
        window = image[:, top : top + height, left : left + width].to(torch.int16)
        window = (window + torch.from_numpy(shift).to(torch.int16)[:, None, None]).clamp_(0, 255)

        view = torch.tensor([round(level) for level in self.mean], dtype=torch.uint8)[:, None, None]
        view = view.repeat(1, *self.crop)
        view[:, view_top : view_top + height, view_left : view_left + width] = window
        view_labels = torch.full(self.crop, IGNORE, dtype=torch.uint8)
        view_labels[view_top : view_top + height, view_left : view_left + width] = labels[
            top : top + height, left : left + width
        ]
        return (view.flip(-1), view_labels.flip(-1)) if self.flip and mirrored else (view, view_labels)


def _place(side: int, crop: int, u: float) -> tuple[int, int, int]:
    """Where the crop begins in the image and the image in the crop, and their common length; `u` is in [0, 1)."""
    offset = int(u * (abs(side - crop) + 1))
    return (offset, 0, crop) if side >= crop else (0, offset, side)
