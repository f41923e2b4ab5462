"""The predictor: a trained network on a device, from image to label map.

file → tensor (C, H, W) in 0..255 → sliding window over the network → probabilities (K, H, W) → labels (H, W)
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import sqrt
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Num, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.data.colors import displayable, overlay
from gffnet.data.io import as_array, as_tensor, from_pillow, lifted_limit, read_header, read_input, to_grey
from gffnet.data.large import LargeImage, open_large
from gffnet.errors import UserError
from gffnet.files import as_path
from gffnet.inference.exported import Exported, open_for_windows
from gffnet.inference.precision import Precision, pick_device, pick_precision
from gffnet.inference.sliding_window import SlidingWindow, scaled_size
from gffnet.inference.tiling import TiledWindow, peak_memory, plan_tiles
from gffnet.models.gffnet import SegmentationModel, load_model
from gffnet.models.layers import Encoded, Gates
from gffnet.models.model_card import describe_network
from gffnet.models.model_io import ModelConfig, hash_weights, is_exported, shipped_model
from gffnet.models.ops import resize, size_of
from gffnet.parallel import available_cores, batches, limit_threads
from gffnet.recipe import EvaluationRecipe, from_mapping
from gffnet.remote import is_url, local_folder

ImageLike: TypeAlias = str | Path | PIL.Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image (not of modes F and I), a uint8 array (H, W, C) or (H, W), or a uint8 tensor (C, H, W) or (H, W).

Without channels, or with one, it is greyscale: three equal channels to a model of RGB images. To a model of one
channel, three that are equal are one, as files of greyscale images are read. To a model with a white level, which was
trained on images deeper than 8 bits, it may be float32 in 0..255: `255 * value / white_level`.
"""

Several: TypeAlias = list[Any] | tuple[Any, ...]
"""Images of any kinds and sizes."""

Protocol: TypeAlias = EvaluationRecipe | Mapping[str, Any]
"""A protocol, or only the keys that differ from the model's own, such as `{"flip": True}`."""

Scales: TypeAlias = float | Sequence[float] | None
Crop: TypeAlias = int | tuple[int, int] | Literal["none"] | None


class Changes(TypedDict, total=False):
    """Keys of the protocol that one call changes, as `Predictor.predict` has them; None: as it is."""

    scales: Scales
    flip: bool | None
    crop: Crop
    overlap: float | None


_PIXEL_BYTES = 16
"""Memory per pixel of an image, its labels, and the pictures made of them."""
_WHOLE_BYTES = 64
"""The same with what is computed on the way to the pictures, where they are made as a whole."""
_WRITING_BYTES = 2**27
"""Memory for the results of a large image, which are written a few rows at a time."""


class Predictor:
    """Label maps from images, by the model's own protocol unless another is given.

    Batch normalisation is folded into the convolutions; the weights are channels-last in the dtype of `precision`.
    """

    config: ModelConfig
    protocol: EvaluationRecipe
    """The protocol that images are predicted by: the model's, with the changes that were given."""
    weights: str
    """SHA-256 of the weights as they were loaded: the same for a model on any device, in any dtype and file format."""
    device: torch.device
    precision: Precision
    batch: int
    """Number of windows that are scored at once, of one image or of several of one size."""
    memory: int | None
    """Limit in bytes; None: no limit."""

    def __init__(
        self,
        network: SegmentationModel | Exported,
        config: ModelConfig,
        device: torch.device,
        precision: Precision,
        *,
        protocol: Protocol | None = None,
        batch: int | None = None,
        memory: int | None = None,
        compiled: bool = False,
    ) -> None:
        """Prepare a copy of `network`, which itself keeps its device, dtype and mode. The rest is as for `load`.

        Raises:
            UserError: the protocol, `batch` or `memory` is not valid.
        """
        if batch is not None and not (isinstance(batch, Integral) and batch >= 1):
            raise UserError(f"batch {batch!r} must be a whole number, 1 or more, or None.")
        if memory is not None and not (isinstance(memory, Real) and memory > 0):
            raise UserError(f"memory {memory!r} must be a number of bytes above 0, such as 8_000_000_000, or None.")
        self.config, self.device, self.precision = config, device, precision
        self.batch, self.memory = batch or (4 if device.type == "cuda" else 1), memory
        self._compiled = compiled
        self.protocol, self._downscales = config.evaluation, True
        self.protocol, self._downscales = self.resolve_protocol(protocol, {})
        self._tried: set[tuple[tuple[int, int], bool]] = set()
        self._base = 0
        self._network = network
        if isinstance(network, Exported):
            self.weights = network.record.weights
            return
        self.weights = hash_weights(network)
        prepared = copy.deepcopy(network).eval().cpu()  # folded on the CPU, the weights are the same for any device
        self._network = prepared.fold().to(device, precision.dtype).to(memory_format=torch.channels_last)
        self._forward = torch.compile(self._network, dynamic=False) if compiled else self._network

    def __repr__(self) -> str:
        """Name the model, its network, and how it is computed."""
        config, protocol = self.config, self.protocol
        windows = f"windows of {protocol.crop[0]}x{protocol.crop[1]}" if protocol.crop else "whole images"
        form = "an exported file" if isinstance(self._network, Exported) else "folded and frozen"
        return (
            f"Predictor({config.recipe}: {describe_network(config).replace('`', '')}, {len(config.classes)} classes; "
            f"{windows}; {self.precision.name} on {self.device}; network: {form})"
        )

    @property
    def network(self) -> SegmentationModel:
        """The network as it predicts: folded and frozen (`SegmentationModel.fold`), in `precision`, on `device`.

        It can be neither trained nor saved: `gffnet.load_model(MODEL)` returns one that can.

        Raises:
            UserError: the model is an exported file, which has no modules.
        """
        if isinstance(self._network, Exported):
            path = self._network.path
            raise UserError(
                f"model {path} is an exported file: it predicts images, and has no gates. Give its run folder."
            )
        return self._network

    # How images are predicted

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """Height and width of the training images, if much larger images are downscaled; else None (see `scale`)."""
        return self._usual_size(self.protocol, self._downscales)

    def _usual_size(self, protocol: EvaluationRecipe, downscales: bool) -> tuple[int, int] | None:
        return self.config.learned_from if downscales and protocol.crop is None else None

    def scale(self, size: tuple[int, int]) -> float:
        """Return the scale at which an image of a height and width is predicted: 1, unless it is very large.

        A network recognises things at the sizes that they had in training, where recipes scale images by up to 2. In a
        photograph with ten times as many pixels a car is a wall of details. So if the whole image is one window and
        has n times the pixels of a training image, its scale is

            s = 1.5 / sqrt(n)   if sqrt(n) > 2,   else 1

        Large images that are predicted in windows, such as aerial ones, show more things instead of larger ones.
        """
        return _scale(size, self.usual_size)

    def resolve_protocol(self, protocol: Protocol | None, changes: Changes) -> tuple[EvaluationRecipe, bool]:
        """Return the protocol with its changes, and whether by it large images are downscaled.

        Raises:
            UserError: a key is unknown, or a value is not valid.
        """
        base, downscales, keys = self.protocol, self._downscales, dict[str, Any]()
        if isinstance(protocol, EvaluationRecipe):
            base, downscales = protocol, False
        elif protocol is not None:
            keys.update(protocol)
        keys.update({key: value for key, value in changes.items() if value is not None})
        keys = {key: _python_values(value) for key, value in keys.items()}
        if isinstance(scales := keys.get("scales"), float | int):
            keys["scales"] = (scales,)
        if isinstance(crop := keys.get("crop"), int):
            keys["crop"] = (crop, crop)
        elif isinstance(crop, str):
            if crop != "none":
                raise UserError(f"crop {crop!r} must be a height and width, the side of a square, or 'none'.")
            keys["crop"] = None
        if keys:
            base = from_mapping(EvaluationRecipe, {**asdict(base), **keys}, "protocol")
        return base, downscales and "scales" not in keys

    def _at_scale(self, size: tuple[int, int], protocol: EvaluationRecipe, downscales: bool) -> EvaluationRecipe:
        """Return the protocol at the scale at which an image of a size is predicted."""
        scale = _scale(size, self._usual_size(protocol, downscales))
        return replace(protocol, scales=tuple(scale * each for each in protocol.scales))

    # Labels, probabilities, logits

    @overload
    def predict(
        self, image: ImageLike, protocol: Protocol | None = None, **changes: Unpack[Changes]
    ) -> NDArray[np.uint8]: ...
    @overload
    def predict(
        self, image: Several, protocol: Protocol | None = None, **changes: Unpack[Changes]
    ) -> list[NDArray[np.uint8]]: ...
    def predict(
        self,
        image: Any,
        protocol: Protocol | None = None,
        *,
        scales: Scales = None,
        flip: bool | None = None,
        crop: Crop = None,
        overlap: float | None = None,
    ) -> Any:
        """Return class indices, uint8 (H, W), at the size of the image: indices into `config.classes`.

        Args:
            image: an image, see `ImageLike`; a list of images of any kinds and sizes, which gives a list; or a batch,
                a uint8 array (B, H, W, C) or tensor (B, C, H, W), which gives (B, H, W).
            protocol: an `EvaluationRecipe`, or the keys that differ from `self.protocol`; None: `self.protocol`, by
                which an image that is much larger than the training images is downscaled (see `scale`).
            scales: in place of the protocol's, one or several factors above 0. No image is downscaled then.
            flip: whether to average with the prediction of the horizontally flipped image.
            crop: height and width of the sliding window, or the side of a square one; `"none"`: the whole image.
            overlap: of neighbouring windows, as a fraction of the crop, in [0, 1).

        Raises:
            UserError: a file cannot be read, the image is not one that the model takes, or the protocol is not valid.
        """
        changes: Changes = {"scales": scales, "flip": flip, "crop": crop, "overlap": overlap}

        def ask(images: Sequence[Tensor], window: SlidingWindow) -> list[NDArray[np.uint8]]:
            return [labels.cpu().numpy() for labels in window.labels_of_batch(images)]

        return self._for_each(image, protocol, changes, ask, np.stack)

    @overload
    def probabilities(
        self, image: ImageLike, protocol: Protocol | None = None, **changes: Unpack[Changes]
    ) -> Tensor: ...
    @overload
    def probabilities(
        self, image: Several, protocol: Protocol | None = None, **changes: Unpack[Changes]
    ) -> list[Tensor]: ...
    def probabilities(
        self,
        image: Any,
        protocol: Protocol | None = None,
        *,
        scales: Scales = None,
        flip: bool | None = None,
        crop: Crop = None,
        overlap: float | None = None,
    ) -> Any:
        """Return the class probabilities, float32 (K, H, W), on the device; at each pixel they add up to 1.

        Arguments and errors are as for `predict`: a list gives a list, a batch (B, K, H, W).
        """
        changes: Changes = {"scales": scales, "flip": flip, "crop": crop, "overlap": overlap}
        return self._for_each(
            image, protocol, changes, lambda images, window: [*map(window.probabilities, images)], torch.stack
        )

    @overload
    def logits(self, image: ImageLike, protocol: Protocol | None = None, **changes: Unpack[Changes]) -> Tensor: ...
    @overload
    def logits(self, image: Several, protocol: Protocol | None = None, **changes: Unpack[Changes]) -> list[Tensor]: ...
    def logits(
        self,
        image: Any,
        protocol: Protocol | None = None,
        *,
        scales: Scales = None,
        flip: bool | None = None,
        crop: Crop = None,
        overlap: float | None = None,
    ) -> Any:
        """Return logits, float32 (K, H, W), on the device: their softmax is `probabilities`.

        If the image is one window at its own size, without flip, they are the network's own. Where probabilities are
        averaged or resized (windows, flip, scales, an image that is downscaled), they are the logarithms of these, -inf
        for 0; so they are for an exported file. Arguments and errors are as for `predict`: a list gives a list, a batch
        (B, K, H, W).
        """
        changes: Changes = {"scales": scales, "flip": flip, "crop": crop, "overlap": overlap}
        return self._for_each(
            image, protocol, changes, lambda images, window: [*map(window.logits, images)], torch.stack
        )

    def _for_each(
        self,
        image: Any,
        protocol: Protocol | None,
        changes: Changes,
        ask: Callable[[Sequence[Tensor], SlidingWindow], list[Any]],
        stack: Callable[[list[Any]], Any],
    ) -> Any:
        """Call `ask` with images of one size and their sliding window, until all images are done."""
        resolved, downscales = self.resolve_protocol(protocol, changes)

        def tensor(image: Any) -> Num[Tensor, "c h w"]:
            if self.memory is not None:
                self._reserved(resolved)  # measured before there is an image
            return self.tensor(image)

        several = isinstance(image, list | tuple)
        is_batch = isinstance(image, np.ndarray | Tensor) and image.ndim == 4 and len(image) > 0
        found: dict[int, Any] = {}
        for some in batches(
            enumerate(map(tensor, image if several or is_batch else [image])),
            lambda each: (each[1].shape, each[1].dtype),
            lambda each: self.images_at_once(size_of(each[1])),
        ):
            size = size_of(some[0][1])
            window = self.window(self._at_scale(size, resolved, downscales), size)
            found.update(zip((index for index, _ in some), ask([x for _, x in some], window), strict=True))
        results = [found[index] for index in range(len(found))]
        return results if several else stack(results) if is_batch else results[0]

    def images_at_once(self, size: tuple[int, int]) -> int:
        """Return how many images of a height and width `predict` scores together: up to `batch`.

        Their probabilities take at most a gigabyte; with a limit on memory it is one image, and so it is if the network
        is compiled, which would be repeated for every number of images.
        """
        if self.memory is not None or self._compiled:
            return 1
        return max(1, min(self.batch, 2**30 // (4 * len(self.config.classes) * size[0] * size[1])))

    def overlay(
        self, image: ImageLike, labels: NDArray[Any] | Tensor | None = None, opacity: float = 0.5
    ) -> PIL.Image.Image:
        """Return the image as a PIL image (RGB), covered with the colors of its classes.

        An image of other than three channels, or of more than 8 bits, is shown as `gffnet.data.colors.displayable`
        makes it.

        Args:
            image: one image, see `ImageLike`.
            labels: class indices (H, W), an array or a tensor; None: those of `predict`. A pixel of no class, such as
                255, is left as it is.
            opacity: of the colors, in 0..1: `(1 - opacity) image + opacity colors`.

        Raises:
            UserError: as for `predict`; the labels are of another size.
        """
        if not 0 <= opacity <= 1:
            raise UserError(f"opacity {opacity} must be in 0..1: 0 shows the image only, 1 the colors only.")
        x = self.tensor(image)
        found = self.predict(x) if labels is None else _label_array(labels)
        if found.shape != size_of(x):
            raise UserError(
                f"the labels are {found.shape}, but the image is {size_of(x)}: give the labels of this image."
            )
        pixels = displayable(as_array(x.cpu()))
        return PIL.Image.fromarray(overlay(pixels, found, self.config.palette, opacity))

    def areas(self, image: ImageLike | None = None, *, labels: NDArray[Any] | Tensor | None = None) -> dict[str, float]:
        """Return the share of the pixels, in 0..1, that each class has, by its name, in the order of the classes.

        Args:
            image: one image, see `ImageLike`, which is predicted as by `predict`.
            labels: instead of an image, class indices of any shape. Pixels of no class, such as 255, count towards the
                whole, so that the shares may add up to less than 1.

        Raises:
            UserError: as for `predict`; both or neither of `image` and `labels` are given.
        """
        if (image is None) == (labels is None):
            raise UserError("areas() takes either an image or labels=...: give one of them.")
        if isinstance(image, list | tuple):
            raise UserError("areas(): give one image, not a list of them.")
        if getattr(image, "ndim", 3) == 2 and 0 not in getattr(image, "shape", ()):
            raise UserError(
                "areas(): a 2-D array may be a label map, areas(labels=array), or a greyscale image: "
                "areas(PIL.Image.fromarray(array))."
            )
        found = self.predict(image) if image is not None else _label_array(labels)
        names = self.config.classes
        counts = np.bincount(found[(found >= 0) & (found < len(names))].ravel(), minlength=len(names))
        return {name: count / found.size for name, count in zip(names, counts.tolist(), strict=True)}

    # The sliding window

    def window(
        self, protocol: EvaluationRecipe | None = None, size: tuple[int, int] = (0, 0), held: int = 0
    ) -> SlidingWindow:
        """Return the sliding window of a protocol over the network, for tensors on the device.

        With a limit on memory it is a `TiledWindow`, for images of `size`: their pixels count towards the limit.

        Args:
            protocol: None: the one by which `predict` predicts an image of `size`.
            size: height and width of the image.
            held: further bytes that count towards the limit.
        """
        protocol = protocol or self._at_scale(size, self.protocol, self._downscales)
        return self._window(protocol, _PIXEL_BYTES * size[0] * size[1] + held)

    def _window(self, protocol: EvaluationRecipe, image_bytes: int) -> SlidingWindow:
        arguments = (self.score, len(self.config.classes), protocol, self.config.model.mean, self.batch)
        if self.memory is None:
            return SlidingWindow(*arguments)
        return TiledWindow(*arguments, memory=self.memory, reserved=self._reserved(protocol) + image_bytes)

    def is_large(self, path: Path) -> bool:
        """Return whether there is a limit on memory into which an image file does not fit as a whole, with results."""
        header = read_header(path) if self.memory is not None else None
        if header is None or self.memory is None:
            return False
        protocol = self._at_scale(header.size, self.protocol, self._downscales)
        a_pixel = _WHOLE_BYTES if protocol.crop else _PIXEL_BYTES  # without a crop, it cannot be read in parts
        a_pixel += 16 * max(3, header.channels) * header.deep
        needed = self._reserved(protocol) + a_pixel * header.size[0] * header.size[1]
        try:
            plan_tiles(header.size, len(self.config.classes), protocol, self.memory, needed)
        except UserError:
            return True
        return False

    def open_large(self, path: Path) -> tuple[LargeImage, TiledWindow]:
        """Open an image file to be read a part at a time, and the window to predict its tiles by.

        Raises:
            UserError: it cannot be read so and cannot be decoded within the limit either, or it is one window.
        """
        header, memory, model = read_header(path), self.memory, self.config.model
        if header is None or memory is None:
            raise UserError(f"cannot read image {path} a part at a time: set a limit on memory.")
        (height, width), on_cpu = header.size, self.device.type == "cpu"
        protocol = self._at_scale(header.size, self.protocol, self._downscales)
        if protocol.crop is None:
            raise UserError(
                f"the whole image of {width}x{height} pixels is one window, which does not fit into a memory of "
                f"{memory / 1e6:g}MB: give the model a crop, such as --crop 512x512, or allow more."
            )
        room = memory - _WRITING_BYTES - (self._reserved(protocol) if on_cpu else 0)
        rows = math.ceil((protocol.crop[0] + 2) / min(protocol.scales)) + 2
        image = open_large(path, model.backbone.in_channels, model.white_level, rows, room)
        image.device = self.device
        window = self._window(protocol, image.held + _WRITING_BYTES if on_cpu else 0)
        assert isinstance(window, TiledWindow)
        return image, window

    @torch.inference_mode()
    def _reserved(self, protocol: EvaluationRecipe) -> int:
        """Return the bytes that this process takes without an image, a batch of windows included."""
        before = peak_memory(self.device)
        if protocol.crop and (protocol.crop, protocol.flip) not in self._tried:
            number, channels = self.batch * (1 + protocol.flip), self.config.model.backbone.in_channels
            self.score(torch.zeros(number, channels, *protocol.crop, device=self.device)).float().softmax(1)
            self._tried.add((protocol.crop, protocol.flip))
        # The peak itself counts only before the first image; later, only what larger windows add to it.
        self._base = (self._base or before) + peak_memory(self.device) - before
        return self._base

    def score(self, windows: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return the logits of windows (log-probabilities by an exported file). All predictions use this method."""
        if isinstance(self._network, Exported):
            return self._network.log_probabilities(windows)
        logits: Tensor = self._forward(windows.contiguous(memory_format=torch.channels_last)).logits
        return logits

    # Gates

    @torch.inference_mode()
    def encode(self, image: ImageLike, scale: float | None = None) -> Encoded:
        """Encode an image, so that it can be decoded with other gates without running the backbone again.

        Args:
            image: as for `predict`; it is one window.
            scale: factor by which it is resized; None: as `predict` does, 1 but for large images.
        """
        x = self.tensor(image)[None]
        scale = self.scale(size_of(x)) if scale is None else scale
        seen = resize(x.float(), scaled_size(size_of(x), scale))
        return self.encode_windows(seen)._replace(size=size_of(x))

    @torch.inference_mode()
    def encode_windows(self, x: Num[Tensor, "b c h w"]) -> Encoded:
        """Encode a batch of windows."""
        return self.network.encode(x.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def decode(self, encoded: Encoded, gates: Gates | None = None) -> Float[Tensor, "b k h w"]:
        """Return the logits of an encoded image at its size, with its own gates or with `gates` of the same shapes."""
        return self.network.decode(encoded, gates)

    def gates(self, image: ImageLike, scale: float | None = None) -> list[Float[Tensor, "c _h _w"]]:
        """Return the gate maps of an image, finest first: L tensors (C, H_l, W_l), float32 in 0..1, on the device.

        C is 1, or with `gate_channels: each` that of the fused maps. The image is one window; for `scale` see `encode`.

        Raises:
            UserError: as for `predict`; the model has no gates.
        """
        gates = self.encode(image, scale).gates
        if gates is None:
            fusion = self.config.model.fusion
            raise UserError(
                f"model {self.config.recipe!r} has no gates: its fusion is {fusion!r}. Give one with 'gff'."
            )
        return [gate[0].float() for gate in gates]

    # Images

    def read(self, path: str | Path) -> Num[Tensor, "c h w"]:
        """Read a file with the channels and the white level of the model. Raises as `gffnet.data.io.read_image`.

        A limit on memory lifts that on pixels to what fits.
        """
        model = self.config.model
        with lifted_limit((self.memory or 0) / _PIXEL_BYTES):
            return read_input(path, model.backbone.in_channels, model.white_level)

    def tensor(self, image: Any) -> Num[Tensor, "c h w"]:
        """Return an `ImageLike` as a tensor (C, H, W) on the device; on the CPU it may share its memory.

        Raises:
            UserError: a file cannot be read, or the image is not of a dtype and channels that the model takes.
        """
        if isinstance(image, str | Path):
            image = self.read(as_path(image))
        elif isinstance(image, PIL.Image.Image):
            model = self.config.model
            image = as_tensor(from_pillow(image.copy(), model.backbone.in_channels, model.white_level))
        elif not isinstance(image, np.ndarray | Tensor):
            raise UserError(f"an image is a {type(image).__name__}: give a path, a PIL image, an array or a tensor.")
        x = self._with_channels(image)
        self._check_levels(x)
        if not isinstance(x, Tensor):  # copied only if torch cannot share the array
            x = as_tensor(np.require(x, requirements=["C", "W"]))
        channels = self.config.model.backbone.in_channels
        if len(x) == 1 < channels:
            x = x.expand(channels, -1, -1)
        elif len(x) > channels:
            if not (torch.equal(x[0], x[1]) and torch.equal(x[0], x[2])):
                raise UserError(
                    f"an image is {tuple(x.shape)}, in color, but this model takes one channel: make it greyscale, "
                    "such as by image.convert('L') of PIL."
                )
            x = x[:1]
        return x.to(self.device)

    def frame(self, rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "c h w"]:
        """Return a frame of a video as a tensor, grey for a model of one channel, as `read` returns a file."""
        return as_tensor(to_grey(rgb) if self.config.model.backbone.in_channels == 1 else rgb)

    def _check_levels(self, image: NDArray[Any] | Tensor) -> None:
        """Raise `UserError` unless an image is uint8, or float32 in 0..255 to a model with a white level."""
        level, dtype = self.config.model.white_level, str(image.dtype).removeprefix("torch.")
        if dtype == "uint8":
            return
        if level is None:
            raise UserError(_dtype_error(image))
        if dtype != "float32":
            raise UserError(
                f"an image is {dtype}, but this model takes uint8, or float32 in 0..255: give the path of its file, or "
                f"255 * image / {level:g} as float32."
            )
        low, high = float(image.min()), float(image.max())
        if not 0 <= low <= high <= 255:
            raise UserError(f"an image is float32 in {low:.3g}..{high:.3g}, but this model takes it in 0..255.")

    def _with_channels(self, image: NDArray[Any] | Tensor) -> NDArray[Any] | Tensor:
        """Return the image with an axis of channels, if it is an image that the model takes."""
        channels, is_tensor = self.config.model.backbone.in_channels, isinstance(image, Tensor)
        allowed = {1: (1, 3), 3: (1, 3)}.get(channels, (channels,))
        shape = tuple(image.shape)
        if image.ndim == 2 and 1 in allowed and 0 not in shape:
            return image[None] if is_tensor else image[:, :, None]
        if image.ndim == 3 and 0 not in shape and shape[0 if is_tensor else 2] in allowed:
            return image
        wanted = f"({channels}, height, width)" if is_tensor else f"(height, width, {channels})"
        remedy = "permute(2, 0, 1)" if is_tensor else "transpose(1, 2, 0)"
        swapped = image.ndim == 3 and shape[2 if is_tensor else 0] == channels
        raise UserError(f"an image is {shape}, but this model takes {wanted}{f': image.{remedy}' if swapped else ''}.")


def _scale(size: tuple[int, int], usual: tuple[int, int] | None) -> float:
    """The scale of an image of `size` whose training images have the `usual` size."""
    if usual is None:
        return 1.0
    ratio = sqrt(size[0] * size[1] / (usual[0] * usual[1]))
    return 1.0 if ratio <= 2 else float(f"{1.5 / ratio:.3g}")


def _python_values(value: object) -> Any:
    """NumPy's numbers and arrays, alone or in a sequence, as Python's, which protocols hold."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_python_values(each) for each in value] if isinstance(value, list | tuple) else value


def _label_array(labels: Any) -> NDArray[Any]:
    found = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if found.dtype.kind not in "iu" or not found.size:
        raise UserError(f"labels are {found.dtype} of shape {found.shape}: give class indices, an array of integers.")
    return found


def _dtype_error(image: NDArray[Any] | Tensor) -> str:
    """What is wrong with an image that is not uint8, and the remedy for the values that it has."""
    dtype = str(image.dtype).removeprefix("torch.")
    error = f"an image is {dtype}, but this model takes uint8, in 0..255"
    if not dtype.startswith(("float", "bfloat")):
        return f"{error}. Scale and convert it to uint8."
    low, high = float(image.min()), float(image.max())
    convert = "round().to(torch.uint8)" if isinstance(image, Tensor) else "round().astype(np.uint8)"
    if low < 0:
        return f"{error}. Its values are in {low:.3g}..{high:.3g}: undo the normalisation, and convert it to uint8."
    if high <= 1:
        return f"{error}. Its values are in 0..1: give (255 * image).{convert}."
    return f"{error}. Give image.{convert}."


def load(
    model: str | Path | SegmentationModel | None = None,
    device: str = "auto",
    precision: str | Precision = "auto",
    *,
    protocol: Protocol | None = None,
    batch: int | None = None,
    memory: int | None = None,
    compiled: bool = False,
) -> Predictor:
    """Open a model for prediction: a run folder, a model folder, a checkpoint, an exported file or a name on the hub.

    The predictor's network is folded and frozen; `gffnet.load_model` returns one that can be trained.

    Args:
        model: path, URL, or OWNER/NAME or OWNER/NAME@REVISION on the hub; a network with a `config`, such as
            `gffnet.GFFNet`, of which a copy predicts; None: the model that ships with the package.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `float32`, `bfloat16`, or `auto`: the faster of them here, which is measured once and then read from
            a cache. An exported file has its own.
        protocol: to predict by instead of the model's own, or the keys that differ from it. Where it gives scales,
            large images are not downscaled.
        batch: windows that are scored at once, of one image or of several of one size; None: 4 on a GPU, else 1.
        memory: bytes that the process may take, of the GPU's memory or the machine's: images whose class probabilities
            do not fit are predicted in tiles. None: no limit.
        compiled: compile the network for the size of its windows, which takes about a minute at the first window.

    Raises:
        UserError: there is no such model, device or precision, the protocol, `batch` or `memory` is not valid, or an
            exported file cannot be run so.
    """
    model = shipped_model() if model is None else model
    weights: Path | None = None
    if isinstance(model, str | Path) and is_url(model):
        if str(model).endswith(".xml"):  # of OpenVINO, whose weights lie beside it
            weights = local_folder(f"{str(model).removesuffix('.xml')}.bin")
        model = local_folder(model)
    limit_threads(available_cores())
    network: SegmentationModel | Exported
    if not isinstance(model, str | PathLike):
        network, config = model, getattr(model, "config", None)
        if not isinstance(config, ModelConfig):
            raise UserError(
                f"a {type(model).__name__} has no config, so its classes are not known: give a gffnet.GFFNet, or the "
                "path of a model. Any other network predicts by gffnet.SlidingWindow."
            )
        place = pick_device(device)
        kind = pick_precision(precision, place, network)
    elif is_exported(model):
        network = open_for_windows(
            as_path(model), device, precision if isinstance(precision, str) else "auto", compiled, weights
        )
        config, place = network.record.config, network.device
        kind = Precision(getattr(torch, network.record.precision), "as it was exported")
    else:
        network, config = load_model(model)
        place = pick_device(device)
        kind = pick_precision(precision, place, network)
    options: dict[str, Any] = {"protocol": protocol, "batch": batch, "memory": memory, "compiled": compiled}
    return Predictor(network, config, place, kind, **options)
