"""Own data in Python: any map-style PyTorch data set of images and labels, as a `Dataset` of gffnet."""

import hashlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset
from torchvision.tv_tensors import Image, Mask

from gffnet.data.dataset import DATASETS, IGNORE, Classes, Dataset, Sample, evenly_spaced
from gffnet.data.transforms import seeded
from gffnet.errors import UserError
from gffnet.palette import MAX_CLASSES, voc_colors

IGNORED = (IGNORE, -1, -100)
"""The labels of own data that are ignored: ours, and two that are common elsewhere."""
LABEL_KEYS = ("mask", "labels", "label")
"""Where a sample that is a mapping may hold its labels; its image is at `image`."""
TRIED = 4
"""Samples that decide whether images of floats are in 0..1 or in 0..255."""

HASHED = 8
"""Samples whose contents are part of the fingerprint."""

log = logging.getLogger("gffnet")


def as_dataset(data: Any, classes: Any = None, in_channels: int = 3, argument: str = "train_data") -> Dataset:
    """Own data as a `Dataset`: one of gffnet's as it is (or the part that a `Subset` names), else a `MapStyleDataset`.

    Args:
        data: a `Dataset` of gffnet, or whatever `MapStyleDataset` takes.
        classes: as for `MapStyleDataset`; None: those of the data set, which only gffnet's have.
        in_channels: channels of the images that the network takes.
        argument: what `data` is called in errors.

    Raises:
        UserError: this is no map-style data set, or its classes are not known or others.
    """
    if isinstance(data, Subset) and isinstance(inner := as_gffnet(data), Dataset):
        data = inner
    if not isinstance(data, Dataset):
        return MapStyleDataset(data, classes, in_channels, argument)
    if classes is not None and parse_classes(classes).names != data.classes.names:
        raise UserError(
            f"classes: {argument} is a data set of gffnet, with {len(data.classes.names)} classes of its own "
            f"({', '.join(data.classes.names[:4])}, ...), and others are given. Leave classes out."
        )
    return data


def as_gffnet(data: Any) -> Any:
    """The samples of a gffnet `Dataset` that `Subset`s of it name, as a `Dataset`; anything else as it is."""
    if not isinstance(data, Subset):
        return data
    inner = as_gffnet(data.dataset)
    return inner.subset([int(i) for i in data.indices]) if isinstance(inner, Dataset) else data


def dataset_name(dataset: Dataset) -> str:
    """The name of a data set in a record: that of the registry, or else of its type."""
    if isinstance(dataset, MapStyleDataset):
        return type(_innermost(dataset.source)).__name__
    return next((name for name, kind in DATASETS.items() if kind is type(dataset)), type(dataset).__name__)


def describe(given: Any) -> str:
    """What a user gave, for a record: module and name of a function, of a class, or of an object's class."""
    given = getattr(given, "func", given)  # functools.partial
    named = given if inspect.isroutine(given) or isinstance(given, type) else type(given)
    return f"{named.__module__}.{named.__qualname__}"


def describe_data(data: Any) -> str:
    """The type and the length of own data, for a record: `mine.Shapes, 40 samples`."""
    with suppress(TypeError, NotImplementedError):  # no data set, which is said later
        return f"{describe(_innermost(data))}, {len(data)} samples"
    return describe(_innermost(data))


def _innermost(data: Any) -> Any:
    while isinstance(data, Subset):
        data = data.dataset
    return data


def parse_classes(classes: Any) -> Classes:
    """Classes from `Classes`, from their names, or from their number, which names them `class_0`, `class_1`, ...

    The colors are those of PASCAL VOC.

    Raises:
        UserError: there are none, too many, or two of one name.
    """
    if isinstance(classes, Classes):
        names = tuple(classes.names)
    elif isinstance(classes, int) and not isinstance(classes, bool):
        names = tuple(f"class_{i}" for i in range(classes))
    elif isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(n, str) for n in classes):
        names = tuple(classes)
    else:
        raise UserError(f"classes {classes!r}: allowed are a list of names, a number, or gffnet.Classes.")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise UserError(f"classes: there are {len(names)}; allowed are 1 to {MAX_CLASSES}, labelled 0, 1, ...")
    if isinstance(classes, Classes):
        return classes
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"classes: {twice!r} is there twice. Every class needs a name of its own.")
    return Classes(names, tuple(islice(voc_colors(), len(names))))


class MapStyleDataset(Dataset):
    """Any map-style data set (`len(data)`, `data[i]`) of images and labels, as a `Dataset` of gffnet.

    A sample is a tuple (image, labels), or a mapping with `image` and one of `mask`, `labels` and `label`; each is a
    tensor, an array or a PIL image. Arrays are (H, W, C), tensors (C, H, W).

    Images: uint8 (or (H, W) for one channel). Floats in 0..255 are rounded; floats in 0..1 are scaled by 255, with a
    warning. Which of the two they are is decided once, from a few samples.
    Labels: integers (H, W) or (1, H, W), or a PIL image of ids (modes L and P). 255, -1 and -100 are ignored.

    Args:
        source: the data.
        classes: their names, `Classes`, or their number.
        in_channels: channels that images must have.
        argument: what the data are called in errors.

    Raises:
        UserError: these are no such data; and by reading a sample, that it is not as above, with the remedy.
    """

    picklable = False
    random = True
    """Reading a sample may draw random numbers, as augmentation of the user's own does."""

    def __init__(self, source: Any, classes: Any, in_channels: int = 3, argument: str = "data") -> None:
        self.source = source
        self.in_channels = in_channels
        self.argument = argument
        self._check_source()
        if classes is None:
            raise UserError(
                f"classes: {argument} ({describe(source)}) does not say what its classes are. Give their names or "
                "their number in the order of the labels: classes=['road', 'car'] or classes=2."
            )
        self.classes = parse_classes(classes)
        self._scale = self._find_scale()

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """The index of sample `index`, in six digits."""
        return f"{index:06d}"

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """These samples, in this order."""
        part = type(self).__new__(type(self))
        part.__dict__.update(self.__dict__, source=Subset(self.source, list(indices)))
        return part

    def size(self, index: int) -> tuple[int, int] | None:
        """Height and width of sample `index`, as `read_labels` reads it. Raises as `read`."""
        height, width = self.read_labels(index).shape
        return height, width

    def file_sizes(self, index: int) -> list[int | None]:
        """Nothing: these samples are no files."""
        return []

    def contents(self) -> list[str]:
        """SHA-256 of images and labels of evenly spaced samples, the first and the last among them.

        The global generators are seeded meanwhile; a sample that is another when it is read again, by a generator of
        the data's own, counts as empty. Raises as `read`.
        """
        count = len(self)
        indices = evenly_spaced(count, HASHED)
        twice = [(self._digest(index), self._digest(index)) for index in indices]
        return [first if first == second else "" for first, second in twice]

    def _digest(self, index: int) -> str:
        with seeded(index):
            image, labels, _ = self.read(index)
        digest = hashlib.sha256(str(tuple(image.shape)).encode())
        for values in image, labels:
            digest.update(values.as_subclass(Tensor).numpy().tobytes())
        return digest.hexdigest()

    def meaning(self) -> str:
        """The type of the data."""
        return describe(_innermost(self.source))

    def read_labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The train ids of sample `index`, which are always the same even if reading draws. Raises as `read`."""
        with seeded(index):
            return self.read(index).labels.as_subclass(Tensor).numpy()

    def read(self, index: int) -> Sample:
        """Sample `index`, converted.

        Raises:
            UserError: image or labels are not as the class says.
        """
        where = f"{self.argument}[{index}]"
        given, labels = self._pair(index)
        image = to_image(given, self.in_channels, where, self._scale)
        label_map = to_labels(labels, len(self.classes.names), where)
        if image.shape[1:] != label_map.shape:
            raise UserError(
                f"{where}: the image is {image.shape[1]}x{image.shape[2]} (height x width) and its labels are "
                f"{label_map.shape[0]}x{label_map.shape[1]}: they must be of one size. Resize both alike, labels by "
                f"the nearest pixel.{_swapped(given, self.in_channels)}"
            )
        return Sample(Image(image), Mask(label_map), self.name(index))

    def _check_source(self) -> None:
        """Refuse what is no map-style data set, or an empty one."""
        source, argument = self.source, self.argument
        kind = describe(source)
        if isinstance(source, DataLoader):
            raise UserError(f"{argument} is a DataLoader: give its data set, {argument}=loader.dataset.")
        if isinstance(source, IterableDataset) or not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
            raise UserError(
                f"{argument} ({kind}) is no map-style data set: give an object with `len(data)` and `data[i]`, which "
                "returns (image, labels), such as a subclass of torch.utils.data.Dataset."
            )
        try:
            count = len(source)
        except (TypeError, NotImplementedError):
            raise UserError(f"{argument} ({kind}) has no length: add a method `__len__`.") from None
        if not count:
            raise UserError(f"{argument} ({kind}) has no samples.")

    def _pair(self, index: int) -> tuple[Any, Any]:
        """Image and labels of a sample, as they are given."""
        sample = self.source[index]
        where = f"{self.argument}[{index}]"
        if isinstance(sample, Mapping):
            key = next((key for key in LABEL_KEYS if key in sample), None)
            if "image" not in sample or key is None:
                raise UserError(
                    f"{where} is a mapping with {', '.join(map(repr, sample))}: it must have 'image' and one of "
                    f"{', '.join(map(repr, LABEL_KEYS))}."
                )
            return sample["image"], sample[key]
        if isinstance(sample, tuple | list) and len(sample) >= 2:
            return sample[0], sample[1]
        raise UserError(
            f"{where} is {_kind(sample)}: it must be a tuple (image, labels), or a mapping with 'image' and 'mask'."
        )

    def _find_scale(self) -> float | None:
        """What float images are multiplied by; None if images are no floats."""
        count, found = len(self), []
        with seeded(0):  # reading must not advance the random numbers of the caller
            for index in evenly_spaced(count, TRIED):
                image = self._pair(index)[0]
                if isinstance(image, PIL.Image.Image) or not _is_float(image):
                    return None
                values = _float_tensor(image)
                _check_range(values, f"{self.argument}[{index}]")
                found.append(float(values.max()))
        if max(found) > 1:
            return 1.0
        log.warning(
            "%s: images are floats in 0..1; they are scaled by 255 and rounded. The network takes 0..255 and "
            "normalises by itself: leave ToTensor and ToDtype(scale=True) out to save the work.",
            self.argument,
        )
        return 255.0


# Conversion


def to_image(given: Any, in_channels: int, where: str, scale: float | None = None) -> UInt8[Tensor, "c h w"]:
    """An image of own data as a uint8 tensor; floats are multiplied by `scale`, None: they are refused.

    Raises:
        UserError: shape, dtype or values are not those of an image.
    """
    if isinstance(given, PIL.Image.Image):
        given = _from_pil(given, in_channels, where)
    if not isinstance(given, Tensor | np.ndarray):
        raise UserError(f"{where}: the image is {_kind(given)}: it must be a tensor, an array or a PIL image.")
    is_array = isinstance(given, np.ndarray)
    image: Any = given
    if image.ndim == 2 and in_channels == 1:
        image = image[:, :, None] if is_array else image[None]
    if image.ndim != 3 or 0 in image.shape or image.shape[2 if is_array else 0] != in_channels:
        raise UserError(_wrong_shape(given, in_channels, where))
    if _is_float(image):
        if scale is None:
            raise UserError(
                f"{where}: the image is {_dtype(image)}, and the first ones are not: give uint8 images throughout."
            )
        image = _float_tensor(image)
        _check_range(image, where, 255 / scale)
        image = image.mul(scale).round().to(torch.uint8)
        is_array, image = False, image.permute(2, 0, 1) if is_array else image
    elif _dtype(image) != "uint8":
        raise UserError(f"{where}: the image is {_dtype(image)}: it must be uint8 in 0..255. {_remedy(image)}")
    # A copy, channels last: a transform may change it, and an array may be read-only or flipped.
    last = np.array(image, order="C") if is_array else image.detach().cpu().permute(1, 2, 0).numpy().copy(order="C")
    return torch.from_numpy(last).permute(2, 0, 1)


def to_labels(given: Any, num_classes: int, where: str) -> UInt8[Tensor, "h w"]:
    """Labels of own data as train ids, 255 where they are ignored.

    Raises:
        UserError: shape, dtype or values are not those of labels.
    """
    if isinstance(given, PIL.Image.Image):
        if given.mode not in {"1", "L", "P", "I", "I;16"}:
            raise UserError(
                f"{where}: the labels are a PIL image of mode {given.mode!r}: they must be ids, in mode L or P. Map "
                "colors to ids first; the data set `folder` reads masks of colors."
            )
        given = np.array(given)
    if not isinstance(given, Tensor | np.ndarray):
        raise UserError(f"{where}: the labels are {_kind(given)}: they must be a tensor, an array or a PIL image.")
    labels = given.as_subclass(Tensor).detach().cpu().numpy() if isinstance(given, Tensor) else given
    if labels.ndim == 3 and 1 in (labels.shape[0], labels.shape[-1]):
        labels = labels[0] if labels.shape[0] == 1 else labels[..., 0]
    if labels.ndim != 2 or 0 in labels.shape:
        one_hot = " Scores or one-hot maps: take their argmax over the classes." if labels.ndim == 3 else ""
        raise UserError(f"{where}: the labels are {tuple(labels.shape)}: they must be (H, W) or (1, H, W).{one_hot}")
    if labels.dtype.kind not in "iub":
        raise UserError(
            f"{where}: the labels are {labels.dtype}: they must be integers, the ids of the classes. ToTensor scales "
            "them to 0..1; use torch.from_numpy(numpy.array(mask)) or v2.PILToTensor instead."
        )
    ignored = np.isin(labels, IGNORED) if labels.dtype.kind == "i" else labels == IGNORE
    wrong = ((labels < 0) | (labels >= num_classes)) & ~ignored
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"{where}: label {labels[row, column]} at row {row}, column {column} is no class: allowed are 0 to "
            f"{num_classes - 1}, and 255, -1 and -100 for ignored pixels ({wrong.sum()} of {wrong.size} pixels are "
            "wrong). Map the ids, or give more classes."
        )
    return torch.from_numpy(np.where(ignored, IGNORE, labels).astype(np.uint8))


def _from_pil(image: PIL.Image.Image, in_channels: int, where: str) -> NDArray[Any]:
    if image.mode not in {"1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "PA", "RGBX"}:
        raise UserError(
            f"{where}: the image is a PIL image of mode {image.mode!r}: convert it to 8 bits a channel, such as RGB."
        )
    if in_channels == 3:
        return np.array(image.convert("RGB"))
    if image.mode in {"P", "PA"}:  # indices of colors
        image = image.convert("L" if in_channels == 1 else "RGB")
    return np.array(image.convert("L") if image.mode == "1" else image)


def _is_float(values: Any) -> bool:
    if isinstance(values, Tensor):
        return values.is_floating_point()
    return isinstance(values, np.ndarray) and values.dtype.kind == "f"


def _float_tensor(image: Any) -> Tensor:
    """Float images as a tensor; an array may be flipped, or in another byte order."""
    if isinstance(image, np.ndarray):
        image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    return torch.as_tensor(image)


def _check_range(values: Tensor, where: str, most: float = 255.0) -> None:
    """Refuse float images that are not in 0..1 or 0..255."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= most):  # NaN as well
        if np.isfinite(low) and np.isfinite(high):
            cause = f"has values from {low:.3g} to {high:.3g}, where 0 to {most:.3g} is allowed"
        else:
            cause = "has values that are not finite"
        raise UserError(
            f"{where}: the image {cause}. The network normalises by itself: leave Normalize out and give uint8 images."
        )


def _remedy(image: Any) -> str:
    kind = _dtype(image)
    if kind == "bool":
        return "Multiply it by 255."
    if "16" in kind:
        return "Divide 16-bit images by 257 (or by the largest level of the camera / 255) and convert them to uint8."
    return "Convert it: .to(torch.uint8) or .astype(numpy.uint8)."


def _wrong_shape(given: Any, in_channels: int, where: str) -> str:
    shape, is_array = tuple(given.shape), isinstance(given, np.ndarray)
    wanted = f"(height, width, {in_channels})" if is_array else f"({in_channels}, height, width)"
    text = f"{where}: the image is {'an array' if is_array else 'a tensor'} {shape}, which must be {wanted}."
    if swapped := _swapped(given, in_channels):
        return text + swapped
    channels = 1 if len(shape) == 2 else shape[2 if is_array else 0] if len(shape) == 3 else 0
    if 0 < channels <= 64 and channels != in_channels:
        text += (
            f" It has {channels} channel{'s' * (channels > 1)}, and the network takes {in_channels}: set the recipe's "
            f"model.backbone.in_channels={channels} (overrides=[...]), or convert the images."
        )
    return text


def _swapped(given: Any, in_channels: int) -> str:
    """The hint for an array that is laid out like a tensor, or the other way round."""
    if not isinstance(given, Tensor | np.ndarray) or given.ndim != 3:
        return ""
    if isinstance(given, np.ndarray) and given.shape[0] == in_channels != given.shape[2]:
        return " Arrays are (H, W, C) and tensors (C, H, W): this looks swapped. Use array.transpose(1, 2, 0)."
    if isinstance(given, Tensor) and given.shape[2] == in_channels != given.shape[0]:
        return " Arrays are (H, W, C) and tensors (C, H, W): this looks swapped. Use tensor.permute(2, 0, 1)."
    return ""


def _dtype(values: Any) -> str:
    return str(values.dtype).removeprefix("torch.")


def _kind(value: Any) -> str:
    return f"of type {describe(value)}" if not isinstance(value, tuple | list) else f"a sequence of {len(value)}"
