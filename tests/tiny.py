"""A recipe, networks and predictors small enough to train and predict with in a moment."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gffnet.data.camvid import CAMVID
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import Recipe, recipe_from_mapping

PSPNET: dict[str, Any] = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 32}
"""timm's miniature ResNet with pyramid pooling: 0.4 million parameters."""
GFFNET: dict[str, Any] = {**PSPNET, "fusion": "gff", "dense_pyramid": "dense"}


def recipe(model: dict[str, Any] = PSPNET, evaluation: dict[str, Any] | None = None, **training: Any) -> Recipe:
    """Six iterations of two crops on miniature CamVid."""
    mapping = {
        "model": model,
        "data": {"name": "camvid"},
        "training": {"iterations": 6, "batch": 2, "crop": [32, 48], "validate_every": 2, "workers": 0, **training},
        "evaluation": evaluation or {},
        "precision": "float32",
    }
    return recipe_from_mapping(mapping, "tests")


def config(of: Recipe, name: str = "tests/tiny") -> ModelConfig:
    return ModelConfig(of.model, CAMVID.names, CAMVID.palette, "camvid", name, of.evaluation)


def network(of: Recipe, classes: int = len(CAMVID.names), seed: int = 0) -> SegmentationModel:
    """An untrained network whose statistics and scores are as various as a trained one's."""
    torch.manual_seed(seed)
    built = build_network(of.model, classes)
    with torch.no_grad():
        built.head.classifier.weight.normal_(std=0.3)
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        built.train()(torch.from_numpy(np.stack([picture(i) for i in range(4)])).permute(0, 3, 1, 2))
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return built.eval()


def predictor(of: Recipe | None = None, dtype: torch.dtype = torch.float32, seed: int = 0) -> Predictor:
    of = of or recipe()
    return Predictor(network(of, seed=seed), config(of), torch.device("cpu"), Precision(dtype, "for tests"))


def picture(seed: int, height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """Blocks of color under fine noise, RGB."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 220, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
    return (blocks[:height, :width] + rng.integers(0, 36, (height, width, 3))).astype(np.uint8)
