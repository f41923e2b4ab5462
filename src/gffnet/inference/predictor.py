"""The predictor: a trained network made ready for a device, from image to label map."""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gffnet.errors import UserError
from gffnet.inference.model_folder import ModelConfig, load_model
from gffnet.inference.precision import Precision, pick_device, pick_precision
from gffnet.inference.windows import probabilities
from gffnet.models.network import SceneParser
from gffnet.recipe import EvaluationRecipe
from gffnet.types import Gates, Pyramid


class Encoded(NamedTuple):
    """What one image is to the fusion: encode once, fuse as often as one likes."""

    reduced: Pyramid
    """The reduced maps, finest first."""
    gates: Gates | None
    """The learned gates, or `None` for a fusion without."""
    context: Tensor
    """`y_0`."""
    size: tuple[int, int]
    """Height and width of the image."""


class Predictor:
    """Label maps from images, with the protocol that the model was trained for unless told otherwise."""

    def __init__(self, network: SceneParser, config: ModelConfig, device: torch.device, precision: Precision) -> None:
        """`network` is copied: the one that came keeps its device, dtype and mode."""
        self.config = config
        self.device = device
        self.precision = precision
        prepared = copy.deepcopy(network).eval().to(device=device, dtype=precision.dtype)
        self.network: SceneParser = prepared.to(memory_format=torch.channels_last)

    def predict(self, image: UInt8[np.ndarray, "h w c"], protocol: EvaluationRecipe | None = None) -> np.ndarray:
        """RGB image, uint8 → class indices, uint8 (H, W)."""
        scores = self.probabilities(image, protocol)
        return scores.max(0).indices.to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
    def probabilities(
        self, image: UInt8[np.ndarray, "h w c"], protocol: EvaluationRecipe | None = None
    ) -> Float[Tensor, "k h w"]:
        """RGB image, uint8 → class probabilities, float32, on the device."""
        channels_first = self.tensor(image)
        protocol = self.config.evaluation if protocol is None else protocol
        return probabilities(lambda x: self.network(self._ready(x)).logits, channels_first, protocol, self.network.mean)

    @torch.inference_mode()
    def encode(self, image: UInt8[np.ndarray, "h w c"]) -> Encoded:
        """RGB image, uint8 → all that fusing needs, so that gates can be edited without running the backbone again.

        Raises:
            UserError: the model has no fusion.
        """
        network = self.network
        if network.fusion is None:
            raise UserError(f"model {self.config.recipe} has no fusion, so it has no maps to fuse and no gates.")
        pyramid, context = network.features(self._ready(self.tensor(image)[None]))
        reduced, gates = network.encode(pyramid, context)
        return Encoded(reduced, gates, context, (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def decode(self, encoded: Encoded, gates: Gates | None = None) -> Float[Tensor, "1 k h w"]:
        """Logits of an encoded image, with its own gates or with edited ones of the same shapes."""
        used = encoded.gates if gates is None else gates
        return self.network.assemble(encoded.reduced, used, encoded.context, encoded.size)

    def tensor(self, image: UInt8[np.ndarray, "h w c"]) -> UInt8[Tensor, "c h w"]:
        """An image array as a tensor on the device.

        Raises:
            UserError: its channels are not those that the model takes.
        """
        channels = self.config.model.backbone.in_channels
        if image.ndim != 3 or image.shape[2] != channels:
            raise UserError(f"an image is {image.shape}, but this model takes (height, width, {channels}).")
        whole = np.require(image, requirements=["C", "W"])  # a copy only where torch could not take the array
        return torch.from_numpy(whole).permute(2, 0, 1).to(self.device)

    def _ready(self, x: Tensor) -> Tensor:
        return x.to(memory_format=torch.channels_last)


def load(model: str | Path | None = None, device: str = "auto", precision: str = "auto") -> Predictor:
    """Open a MODEL (a run folder, a model folder or a checkpoint) for prediction.

    Args:
        model: where it is; `None`: the model that ships with the package.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto`, `float32` or `bfloat16`.

    Raises:
        UserError: there is no such model, or no such device.
    """
    if model is None:
        raise UserError(
            "no model ships with this version. Train one, such as `gffnet train streets/gffnet_r18 --root DIR`, "
            "and name its run folder: --model runs/streets/gffnet_r18."
        )
    network, config = load_model(model)
    place = pick_device(device)
    return Predictor(network, config, place, pick_precision(precision, place))
