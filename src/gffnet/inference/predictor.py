"""The predictor: a trained network made ready for a device, from image to label map."""

import copy
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Num, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.data.io import as_array, as_rgb, read_image
from gffnet.errors import UserError
from gffnet.inference.exported import Exported, open_for_windows
from gffnet.inference.model_io import ModelConfig, hash_weights, is_exported, load_model, shipped_model
from gffnet.inference.precision import Precision, pick_device, pick_precision
from gffnet.inference.sliding_window import SlidingWindow
from gffnet.inference.tiling import Scorer, peak_memory, scaled_size
from gffnet.models.folding import fold_norms
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.layers import Encoded, Gates
from gffnet.models.ops import resize, size_of
from gffnet.recipe import EvaluationRecipe

# What a predictor takes for an image: a path, a PIL image, an array or a tensor.


ImageLike: TypeAlias = str | Path | PIL.Image.Image | NDArray[Any] | Tensor
"""A path, a PIL image of any mode, a uint8 array (H, W, C), or a uint8 tensor (C, H, W)."""


def as_tensor(image: ImageLike, channels: int) -> UInt8[Tensor, "c h w"]:
    """An image as a uint8 tensor (C, H, W) of `channels`, which may share its memory.

    Raises:
        UserError: a file cannot be read, or it is no image of so many channels in 0..255.
    """
    if isinstance(image, Tensor):
        _check(
            tuple(image.shape),
            image.dtype,
            image.ndim == 3 and image.shape[0] == channels,
            f"({channels}, height, width)",
        )
        return image
    if isinstance(image, str | Path):
        image = as_array(read_image(Path(image)))
    elif isinstance(image, PIL.Image.Image):
        image = as_rgb(image.copy(), "the image")
    _check(image.shape, image.dtype, image.ndim == 3 and image.shape[2] == channels, f"(height, width, {channels})")
    whole = np.require(image, requirements=["C", "W"])  # a copy only where torch could not take the array
    return torch.from_numpy(whole).permute(2, 0, 1)


def _check(shape: tuple[int, ...], dtype: Any, fits: bool, wanted: str) -> None:
    """Raise `UserError` unless an image has the shape that is wanted, some pixels, and is uint8."""
    if not fits or 0 in shape:
        raise UserError(f"an image is {shape}, but this model takes {wanted}.")
    if str(dtype).removeprefix("torch.") != "uint8":
        raise UserError(f"an image is {dtype}, but this model takes uint8, in 0..255. Scale and convert it to uint8.")


# At what scale an image is seen that is much larger than those that a network has learned from.
#
# A network knows things at the sizes that they had in training, and those of recipes are scaled by up to 2 there. In a
# photograph with ten times as many pixels a car is a wall of details. So where its model says how large its images were,
# n of whose areas the image has, an image is seen at the scale
#
#     s = 1.5 / sqrt(n)        if sqrt(n) > 2,  else 1
#
# Not so with windows: large images that are cut into tiles, as those from the air, show more things, not larger ones.


MOST = 2.0
"""Times the width and height that are left as they are."""
AIM = 1.5
"""Times the width and height that larger ones are seen at."""


def fitted_to(protocol: EvaluationRecipe, learned_from: tuple[int, int] | None) -> tuple[int, int] | None:
    """The height and width that much larger images are seen as if of; None: they are seen as they are."""
    return learned_from if protocol.crop is None else None


def fitting_scale(protocol: EvaluationRecipe, learned_from: tuple[int, int] | None, size: tuple[int, int]) -> float:
    """The scale that an image is seen at by a model's own protocol, of which the scales are factors.

    Args:
        protocol: of the model.
        learned_from: height and width of the images that it was trained on; None: not known.
        size: height and width of the image.
    """
    usual = fitted_to(protocol, learned_from)
    if usual is None:
        return 1.0
    times = sqrt(size[0] * size[1] / (usual[0] * usual[1]))
    return 1.0 if times <= MOST else float(f"{AIM / times:.3g}")


def fitted_protocol(
    protocol: EvaluationRecipe, learned_from: tuple[int, int] | None, size: tuple[int, int]
) -> EvaluationRecipe:
    """The protocol with its scales times `fitting_scale`."""
    scale = fitting_scale(protocol, learned_from, size)
    return protocol if scale == 1 else replace(protocol, scales=tuple(scale * own for own in protocol.scales))


_PIXEL = 16
"""Bytes a pixel of an image, its labels, and the pictures made of them."""


class Predictor:
    """Label maps from images, with the protocol that the model was trained for unless told otherwise.

    Batch normalisation is folded into the convolutions, and the weights are channels-last in the number format of
    `precision`.
    """

    weights: str
    """SHA-256 of the weights that came, the same for a model on any device, in any format or kind of file."""

    def __init__(
        self,
        network: SegmentationModel,
        config: ModelConfig,
        device: torch.device,
        precision: Precision,
        *,
        batch: int | None = None,
        memory: int | None = None,
        compiled: bool = False,
    ) -> None:
        """`network` is copied: the one that came keeps its device, dtype and mode. The others are those of `load`."""
        prepared = copy.deepcopy(network).eval().cpu()  # where folding gives the same weights whatever the device
        fold_norms(prepared, torch.zeros(1, len(network.mean), 64, 64))
        self._network: SegmentationModel = prepared.to(device, precision.dtype).to(memory_format=torch.channels_last)
        score = torch.compile(self._logits, dynamic=False) if compiled else self._logits
        self._begin(score, config, hash_weights(network), device, precision, batch, memory)

    def _begin(
        self,
        score: Scorer,
        config: ModelConfig,
        weights: str,
        device: torch.device,
        precision: Precision,
        batch: int | None,
        memory: int | None,
    ) -> None:
        """What any predictor is, whatever scores its windows."""
        self.config = config
        self.weights = weights
        self.device = device
        self.precision = precision
        self.batch = batch or (4 if device.type == "cuda" else 1)
        self.memory = memory
        self._score = score
        self._tried: set[tuple[tuple[int, int], bool]] = set()
        self._base = 0

    @property
    def network(self) -> SegmentationModel:
        """The network, to be taken apart.

        Raises:
            UserError: the model is an exported file, which has no parts.
        """
        return self._network

    @overload
    def predict(self, image: ImageLike, protocol: EvaluationRecipe | None = None) -> NDArray[np.uint8]: ...
    @overload
    def predict(
        self, image: list[Any] | tuple[Any, ...], protocol: EvaluationRecipe | None = None
    ) -> list[NDArray[np.uint8]]: ...
    def predict(self, image: Any, protocol: EvaluationRecipe | None = None) -> Any:
        """Class indices, uint8 (H, W), at the size of the image.

        Args:
            image: a path, a PIL image, a uint8 array (H, W, C) or tensor (C, H, W); or a list of such, of any sizes,
                which gives a list; or a tensor (B, C, H, W), which gives (B, H, W).
            protocol: crop, overlap, scales and mirror images; None: those of the model, by which an image that is much
                larger than those that it learned from is seen smaller (see `gffnet.inference.predictor`).

        Raises:
            UserError: a file cannot be read, or it is no image that the model takes.
        """
        if isinstance(image, list | tuple):
            return [self.predict(one, protocol) for one in image]
        if isinstance(image, Tensor) and image.ndim == 4:
            return np.stack([self.predict(one, protocol) for one in image])
        x = self.tensor(image)
        return self.window(protocol or self.protocol(size_of(x)), size_of(x)).labels(x).cpu().numpy()

    def probabilities(self, image: ImageLike, protocol: EvaluationRecipe | None = None) -> Float[Tensor, "k h w"]:
        """Class probabilities of an image, float32, on the device; `protocol` as `predict` has it."""
        x = self.tensor(image)
        return self.window(protocol or self.protocol(size_of(x))).probabilities(x)

    def protocol(self, size: tuple[int, int]) -> EvaluationRecipe:
        """The model's own for an image of a height and width."""
        return fitted_protocol(self.config.evaluation, self.config.learned_from, size)

    def scale(self, size: tuple[int, int]) -> float:
        """The scale that an image of a height and width is seen at whole: 1 unless it is much larger than usual."""
        return fitting_scale(self.config.evaluation, self.config.learned_from, size)

    def window(self, protocol: EvaluationRecipe | None = None, size: tuple[int, int] = (0, 0)) -> SlidingWindow:
        """The network with a protocol, for tensors on the device; it can give results block by block.

        `size`: that of the images to come, whose pixels are counted in where there is a limit on memory.
        """
        protocol = self.config.evaluation if protocol is None else protocol
        classes, mean = len(self.config.classes), self.config.model.mean
        besides = 0 if self.memory is None else self._besides(protocol) + _PIXEL * size[0] * size[1]
        return SlidingWindow(self._score, classes, protocol, mean, self.batch, self.memory, besides)

    @torch.inference_mode()
    def _besides(self, protocol: EvaluationRecipe) -> int:
        """Bytes that this process takes without an image, a batch of windows included."""
        before = peak_memory(self.device)
        if protocol.crop and (protocol.crop, protocol.flip) not in self._tried:
            windows = torch.zeros(
                self.batch * (1 + protocol.flip), self.config.model.backbone.in_channels, *protocol.crop
            )
            self._score(windows.to(self.device)).float().softmax(1)
            self._tried.add((protocol.crop, protocol.flip))
        # The peak itself counts only before the first image; later, what larger windows added to it.
        self._base = (self._base or before) + peak_memory(self.device) - before
        return self._base

    @torch.inference_mode()
    def encode(self, image: ImageLike, scale: float | None = None) -> Encoded:
        """An image → all that fusing needs, so that gates can be edited without running the backbone again.

        It is seen whole, at `scale` times its sides; None: as `predict` sees it, which is 1 but for large images.

        Raises:
            UserError: the model has no fusion.
        """
        if self.network.fusion is None:
            raise UserError(f"model {self.config.recipe} has no fusion, so it has no maps to fuse and no gates.")
        x = self.tensor(image)[None]
        scale = self.scale(size_of(x)) if scale is None else scale
        seen = resize(x.float(), scaled_size(size_of(x), scale))
        return self.encode_windows(seen)._replace(size=size_of(x))

    @torch.inference_mode()
    def encode_windows(self, x: Num[Tensor, "b c h w"]) -> Encoded:
        """The same of a batch of windows, of a model that has a fusion."""
        pyramid, context = self.network.features(x.contiguous(memory_format=torch.channels_last))
        reduced, gates = self.network.encode(pyramid, context)
        return Encoded(reduced, gates, context, size_of(x), size_of(x))

    @torch.inference_mode()
    def decode(self, encoded: Encoded, gates: Gates | None = None) -> Float[Tensor, "b k h w"]:
        """Logits of what was encoded, at its size, with its own gates or with edited ones of the same shapes."""
        used = encoded.gates if gates is None else gates
        return self.network.assemble(encoded.reduced, used, encoded.context, encoded.size)

    def tensor(self, image: ImageLike) -> UInt8[Tensor, "c h w"]:
        """An image as a tensor on the device.

        Raises:
            UserError: its channels are not those that the model takes.
        """
        return as_tensor(image, self.config.model.backbone.in_channels).to(self.device)

    def _logits(self, x: Tensor) -> Tensor:
        """Windows to their logits."""
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last)).logits
        return logits


class ExportedPredictor(Predictor):
    """The same from a file that `gffnet export` wrote: it answers images, and has no parts to look at."""

    def __init__(self, exported: Exported, *, batch: int | None = None, memory: int | None = None) -> None:
        """`exported`: opened to take floats. The others are those of `load`."""
        self._exported = exported
        record = exported.record
        precision = Precision(getattr(torch, record.precision), "as it was exported")
        score = exported.log_probabilities
        self._begin(score, record.config, record.weights, exported.device, precision, batch, memory)

    @property
    def network(self) -> SegmentationModel:
        """Raises `UserError`: there is none."""
        raise UserError(
            f"model {self._exported.path} is an exported file: it answers images, and has no gates and no maps to look "
            "at. Give the run folder that it was exported from."
        )


def load(
    model: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    batch: int | None = None,
    memory: int | None = None,
    compiled: bool = False,
) -> Predictor:
    """Open a MODEL (a run folder, a model folder, a checkpoint, an exported file or a name on the hub) for prediction.

    Args:
        model: where it is, or OWNER/NAME or OWNER/NAME@REVISION; `None`: the model that ships with the package.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto`, `float32` or `bfloat16`. An exported file has its own.
        batch: windows that are scored at once; None: 4 on a GPU, else 1.
        memory: bytes that the process may take, of the GPU's memory or the machine's: images whose class probabilities
            do not fit are made block by block. None: no limit.
        compiled: compile the network for the size of its windows, which takes a minute or so at the first of them.

    Raises:
        UserError: there is no such model, no such device, or an exported file cannot be run so.
    """
    model = shipped_model() if model is None else model
    if is_exported(model):
        exported = open_for_windows(Path(model), device, precision, compiled)
        return ExportedPredictor(exported, batch=batch, memory=memory)
    network, config = load_model(model)
    place = pick_device(device)
    chosen = pick_precision(precision, place)
    return Predictor(network, config, place, chosen, batch=batch, memory=memory, compiled=compiled)
