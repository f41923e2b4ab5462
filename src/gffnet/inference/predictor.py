"""The predictor: a trained network on a device, from image to label map.

file → uint8 tensor (C, H, W) → sliding window over the network → probabilities (K, H, W) → labels (H, W)
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import sqrt
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Num, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.data.io import as_rgb, as_tensor, read_image
from gffnet.errors import UserError
from gffnet.inference.exported import Exported, open_for_windows
from gffnet.inference.precision import Precision, pick_device, pick_precision
from gffnet.inference.sliding_window import SlidingWindow, scaled_size
from gffnet.inference.tiling import TiledWindow, peak_memory
from gffnet.models.folding import fold_norms
from gffnet.models.gffnet import SegmentationModel, load_model
from gffnet.models.layers import Encoded, Gates
from gffnet.models.model_io import ModelConfig, hash_weights, is_exported, shipped_model
from gffnet.models.ops import resize, size_of
from gffnet.recipe import EvaluationRecipe, from_mapping

ImageLike: TypeAlias = str | Path | PIL.Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image of any mode, a uint8 array (H, W, C), or a uint8 tensor (C, H, W); (H, W) for one channel."""

Protocol: TypeAlias = EvaluationRecipe | Mapping[str, Any]
"""A protocol, or only the keys that differ from the model's own, such as `{"flip": True}`."""

_PIXEL_BYTES = 16
"""Memory per pixel of an image, its labels, and the pictures made of them."""


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
    """Number of windows that are scored at once."""
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
        """Prepare a copy of `network`, which itself keeps its device, dtype and mode. The rest is as for `load`."""
        self.config, self.device, self.precision = config, device, precision
        self.batch, self.memory = batch or (4 if device.type == "cuda" else 1), memory
        if isinstance(protocol, EvaluationRecipe):
            self.protocol, self._downscales = protocol, False
        else:
            mapping = {**asdict(config.evaluation), **(protocol or {})}
            self.protocol = from_mapping(EvaluationRecipe, mapping, "protocol")
            self._downscales = "scales" not in (protocol or {})
        self._tried: set[tuple[tuple[int, int], bool]] = set()
        self._base = 0
        self._network = network
        if isinstance(network, Exported):
            self.weights = network.record.weights
            return
        self.weights = hash_weights(network)
        prepared = copy.deepcopy(network).eval().cpu()  # folded on the CPU, the weights are the same for any device
        fold_norms(prepared, torch.zeros(1, len(network.mean), 64, 64))
        self._network = prepared.to(device, precision.dtype).to(memory_format=torch.channels_last)
        self._forward = torch.compile(self._network, dynamic=False) if compiled else self._network

    @property
    def network(self) -> SegmentationModel:
        """The network.

        Raises:
            UserError: the model is an exported file, which has no modules.
        """
        if isinstance(self._network, Exported):
            path = self._network.path
            raise UserError(
                f"model {path} is an exported file: it predicts images, and has no gates. Give its run folder."
            )
        return self._network

    @property
    def usual_size(self) -> tuple[int, int] | None:
        """Height and width of the training images, if much larger images are downscaled; else None (see `scale`)."""
        return self.config.learned_from if self._downscales and self.protocol.crop is None else None

    def scale(self, size: tuple[int, int]) -> float:
        """Return the scale at which an image of a height and width is predicted: 1, unless it is very large.

        A network recognises things at the sizes that they had in training, where recipes scale images by up to 2. In a
        photograph with ten times as many pixels a car is a wall of details. So if the whole image is one window and
        has n times the pixels of a training image, its scale is

            s = 1.5 / sqrt(n)   if sqrt(n) > 2,   else 1

        Large images that are predicted in windows, such as aerial ones, show more things instead of larger ones.
        """
        if self.usual_size is None:
            return 1.0
        ratio = sqrt(size[0] * size[1] / (self.usual_size[0] * self.usual_size[1]))
        return 1.0 if ratio <= 2 else float(f"{1.5 / ratio:.3g}")

    @overload
    def predict(self, image: ImageLike, protocol: EvaluationRecipe | None = None) -> NDArray[np.uint8]: ...
    @overload
    def predict(
        self, image: list[Any] | tuple[Any, ...], protocol: EvaluationRecipe | None = None
    ) -> list[NDArray[np.uint8]]: ...
    def predict(self, image: Any, protocol: EvaluationRecipe | None = None) -> Any:
        """Return class indices, uint8 (H, W), at the size of the image.

        Args:
            image: a path, a PIL image, a uint8 array (H, W, C) or tensor (C, H, W); a list of such images of any sizes,
                which gives a list; or a tensor (B, C, H, W), which gives (B, H, W).
            protocol: crop, overlap, scales and horizontal flip; None: `self.protocol`, by which an image that is much
                larger than the training images is downscaled (see `scale`).

        Raises:
            UserError: a file cannot be read, or the image is not one that the model takes.
        """
        if isinstance(image, list | tuple):
            return [self.predict(one, protocol) for one in image]
        if isinstance(image, Tensor) and image.ndim == 4:
            return np.stack([self.predict(one, protocol) for one in image])
        x = self.tensor(image)
        return self._window_for(x, protocol).labels(x).cpu().numpy()

    def probabilities(self, image: ImageLike, protocol: EvaluationRecipe | None = None) -> Float[Tensor, "k h w"]:
        """Return the class probabilities of an image, float32, on the device; `protocol` as for `predict`."""
        x = self.tensor(image)
        return self._window_for(x, protocol).probabilities(x)

    def _window_for(self, x: UInt8[Tensor, "c h w"], protocol: EvaluationRecipe | None) -> SlidingWindow:
        if protocol is None:
            protocol, scale = self.protocol, self.scale(size_of(x))
            if scale != 1:
                protocol = replace(protocol, scales=tuple(scale * each for each in protocol.scales))
        return self.window(protocol, size_of(x))

    def window(self, protocol: EvaluationRecipe | None = None, size: tuple[int, int] = (0, 0)) -> SlidingWindow:
        """Return the sliding window of a protocol over the network, for tensors on the device.

        With a limit on memory it is a `TiledWindow`, for images of `size`: their pixels count towards the limit.
        """
        protocol = self.protocol if protocol is None else protocol
        arguments = (self.score, len(self.config.classes), protocol, self.config.model.mean, self.batch)
        if self.memory is None:
            return SlidingWindow(*arguments)
        reserved = self._reserved(protocol) + _PIXEL_BYTES * size[0] * size[1]
        return TiledWindow(*arguments, memory=self.memory, reserved=reserved)

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

    def tensor(self, image: ImageLike) -> UInt8[Tensor, "c h w"]:
        """Return an image as a uint8 tensor on the device; on the CPU it may share the memory of the image.

        Raises:
            UserError: a file cannot be read, or the image is not uint8 with as many channels as the model takes.
        """
        channels = self.config.model.backbone.in_channels
        if isinstance(image, str | Path):
            image = read_image(image)
        elif isinstance(image, PIL.Image.Image):
            image = as_rgb(image.copy(), "the image")
        if image.ndim == 2 and channels == 1:
            image = image[None] if isinstance(image, Tensor) else image[:, :, None]
        shape, dtype = tuple(image.shape), str(image.dtype).removeprefix("torch.")
        axis, wanted = 2, f"(height, width, {channels})"
        if isinstance(image, Tensor):
            axis, wanted = 0, f"({channels}, height, width)"
        if len(shape) != 3 or 0 in shape or shape[axis] != channels:
            raise UserError(f"an image is {shape}, but this model takes {wanted}.")
        if dtype != "uint8":
            raise UserError(
                f"an image is {dtype}, but this model takes uint8, in 0..255. Scale and convert it to uint8."
            )
        if not isinstance(image, Tensor):  # copied only if torch cannot share the array
            image = as_tensor(np.require(image, requirements=["C", "W"]))
        return image.to(self.device)


def load(
    model: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    protocol: Protocol | None = None,
    batch: int | None = None,
    memory: int | None = None,
    compiled: bool = False,
) -> Predictor:
    """Open a model for prediction: a run folder, a model folder, a checkpoint, an exported file or a name on the hub.

    Args:
        model: path, or OWNER/NAME or OWNER/NAME@REVISION on the hub; None: the model that ships with the package.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto`, `float32` or `bfloat16`. An exported file has its own.
        protocol: to predict by instead of the model's own, or the keys that differ from it. Where it gives scales,
            large images are not downscaled.
        batch: windows that are scored at once; None: 4 on a GPU, else 1.
        memory: bytes that the process may take, of the GPU's memory or the machine's: images whose class probabilities
            do not fit are predicted in tiles. None: no limit.
        compiled: compile the network for the size of its windows, which takes about a minute at the first window.

    Raises:
        UserError: there is no such model or device, the protocol is not valid, or an exported file cannot be run so.
    """
    model = shipped_model() if model is None else model
    network: SegmentationModel | Exported
    if is_exported(model):
        network = open_for_windows(Path(model), device, precision, compiled)
        config, place = network.record.config, network.device
        kind = Precision(getattr(torch, network.record.precision), "as it was exported")
    else:
        network, config = load_model(model)
        place = pick_device(device)
        kind = pick_precision(precision, place)
    options: dict[str, Any] = {"protocol": protocol, "batch": batch, "memory": memory, "compiled": compiled}
    return Predictor(network, config, place, kind, **options)
