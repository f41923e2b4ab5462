"""A transform of the user's own in place of the augmentation of a recipe."""

import inspect
from typing import Any

import numpy as np
import torch
from jaxtyping import Num, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from torchvision.tv_tensors import Image, Mask

from gffnet.data.dataset import Sample, WorkerError
from gffnet.data.io import as_array, as_tensor
from gffnet.data.loader import pixel_of
from gffnet.data.map_style import describe, to_labels
from gffnet.data.transforms import Augmentation, seeded
from gffnet.errors import UserError


class CustomTransform:
    """A transform of the user's own, then a random crop (or padding) to the size of the recipe's crop.

    It is called in one of two ways:

    - `transform(image=array (H, W, C), mask=array (H, W))`, which returns a mapping with `image` and `mask`, if it is
      one of albumentations, or takes keywords only (`def f(**data)`, `def f(*, image, mask)`);
    - `transform(image, labels)` with a `tv_tensors.Image` (C, H, W) and a `tv_tensors.Mask` (H, W), which returns both,
      otherwise: the transforms of torchvision v2, modules and functions.

    Images and labels are uint8 before and after it; images of more than 8 bits are float32 in 0..255. 255 is an ignored
    label. The global generators of torch, numpy and `random`, and the random numbers of albumentations' `Compose`, are
    seeded for every item, so that an item depends on neither the number of workers nor where a run was resumed. A
    generator that the transform has of its own is not.

    With class balance, the crop is placed so that it shows a pixel of the drawn class, if the transform has left one.

    Args:
        transform: the transform.
        crop: height and width of the result.
        mean: grey level of the padding, one a channel.
        num_classes: labels are below it, or 255.

    Raises:
        UserError: the transform takes other arguments; and by calling it, that its result is not as above.
    """

    def __init__(self, transform: Any, crop: tuple[int, int], mean: tuple[float, ...], num_classes: int) -> None:
        self.transform = transform
        self.crop = crop
        self.num_classes = num_classes
        self.name = describe(transform)
        self.keywords = takes_keywords(transform)
        # The crop and the padding are those of the recipe's own augmentation.
        self._crop = Augmentation(crop, (1.0, 1.0), 0, False, mean)

    def view(self, sample: Sample, rng: np.random.Generator, focus: tuple[int, int] | None = None) -> Sample:
        """A random view of a sample; with `focus`, one that shows the class of this pixel (row, column), if possible.

        Raises:
            UserError: the transform does not return what it should.
        """
        label = None if focus is None else int(sample.labels[focus])
        try:
            with seeded(seed := int(rng.integers(2**32))):
                image, labels = self._call(sample, seed)
        except UserError as error:
            raise (WorkerError(str(error)) if get_worker_info() else error) from None
        place = None if label is None else pixel_of(labels.numpy(), label, rng)
        return self._crop.view(Sample(Image(image), Mask(labels), sample.name), rng, place)

    def _call(self, sample: Sample, seed: int) -> tuple[Num[Tensor, "c h w"], UInt8[Tensor, "h w"]]:
        """Transform a copy of a sample, which may be kept in memory for the next time."""
        image, labels = sample.image.as_subclass(Tensor).clone(), sample.labels.as_subclass(Tensor).clone()
        if not self.keywords:
            result = self.transform(Image(image), Mask(labels))
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise UserError(
                    f"transform {self.name} returned {type(result).__name__}: it must return (image, labels)."
                )
            return self._check(result[0], result[1], image)
        if hasattr(self.transform, "set_random_seed"):
            self.transform.set_random_seed(seed)
        result = self.transform(image=np.ascontiguousarray(as_array(image)), mask=labels.numpy())
        try:
            return self._check(result["image"], result["mask"], image)
        except (TypeError, LookupError):
            raise UserError(
                f"transform {self.name} is called with image= and mask=, and must return a mapping with both."
            ) from None

    def _check(self, image: Any, labels: Any, given: Tensor) -> tuple[Num[Tensor, "c h w"], UInt8[Tensor, "h w"]]:
        """The result of the transform, of an image that was `given`, as tensors."""
        channels, dtype = len(given), str(given.dtype).removeprefix("torch.")
        if isinstance(image, np.ndarray) and image.ndim == 3:
            image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        if not isinstance(image, Tensor) or image.ndim != 3 or len(image) != channels:
            what = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))}"
            raise UserError(
                f"transform {self.name} returned {what} as the image: allowed are a tensor ({channels}, H, W) and an "
                f"array (H, W, {channels}). Leave conversions to other types and color spaces out."
            )
        if image.dtype != given.dtype:
            returned = str(image.dtype).removeprefix("torch.")
            raise UserError(
                f"transform {self.name} returned a {returned} image: it must be {dtype}, in 0..255. Leave ToDtype and "
                "Normalize out: the network normalises its input itself."
            )
        image = image.as_subclass(Tensor)
        label_map = to_labels(labels, self.num_classes, f"transform {self.name}")
        if image.shape[1:] != label_map.shape:
            raise UserError(
                f"transform {self.name} returned an image of {tuple(image.shape[1:])} and labels of "
                f"{tuple(label_map.shape)}: they must be of one size. Transform both alike."
            )
        pixels: NDArray[Any] = image.permute(1, 2, 0).contiguous().numpy()
        return as_tensor(pixels), label_map


def takes_keywords(transform: Any) -> bool:
    """Whether a transform is called as those of albumentations are; otherwise it takes image and labels.

    Raises:
        UserError: it can be called in neither way.
    """
    if not callable(transform):
        raise UserError(f"transform {transform!r} cannot be called: give a function or a transform.")
    if any(kind.__module__.partition(".")[0] in {"albumentations", "albucore"} for kind in type(transform).__mro__):
        return True
    try:
        signature = inspect.signature(transform.forward if isinstance(transform, nn.Module) else transform)
    except (TypeError, ValueError):  # a function written in C
        return False
    if _fits(signature, 2):
        return False
    if _fits(signature, 0, "image", "mask"):
        return True
    raise UserError(
        f"transform {describe(transform)} takes {signature}: it must take (image, labels) and return both, or image= "
        "and mask= as those of albumentations. Of torchvision, use transforms.v2, which transform both alike."
    )


def _fits(signature: inspect.Signature, positional: int, *names: str) -> bool:
    try:
        signature.bind(*[None] * positional, **dict.fromkeys(names))
    except TypeError:
        return False
    return True
