"""Small networks whose gates differ from pixel to pixel, and images of more than one class."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel, save_model
from tests import tiny

ADDITION: dict[str, Any] = {**tiny.PSPNET, "fusion": "addition", "dense_pyramid": "dense"}
GATED_FPN: dict[str, Any] = {**tiny.PSPNET, "fusion": "gated_fpn", "dense_pyramid": "dense"}


def network(model: dict[str, Any] = tiny.GFFNET) -> SegmentationModel:
    built = tiny.network(tiny.recipe(model))
    with torch.no_grad():
        for convolution in getattr(built.fusion, "gate_convs", []):
            convolution.weight.normal_(std=0.3)
    return built


def predictor(model: dict[str, Any] = tiny.GFFNET) -> Predictor:
    config = tiny.config(tiny.recipe(model))
    return Predictor(network(model), config, torch.device("cpu"), Precision(torch.float32, "for tests"))


def folder(path: Path, model: dict[str, Any] = tiny.GFFNET) -> Path:
    """A model folder at `path`."""
    save_model(path, network(model), tiny.config(tiny.recipe(model)))
    return path


def image(height: int = 136, width: int = 200) -> NDArray[np.uint8]:
    return tiny.picture(3, height, width)
