"""Networks small enough to be run many times, with gates that differ from place to place."""

import dataclasses
from typing import Any

import numpy as np
import torch

from gffnet.data.camvid import CAMVID
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import load_recipe

HEIGHT, WIDTH = 62, 94
CLASSES = CAMVID.names


def image(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Coarse random blocks under fine noise, so that gates and predictions vary over several scales."""
    random = np.random.default_rng(seed)
    blocks = np.kron(random.integers(0, 220, (8, 12, 3)), np.ones((8, 8, 1)))[: size[0], : size[1]]
    return (blocks + random.integers(0, 36, blocks.shape)).astype(np.uint8)


def model(recipe: str = "camvid/gffnet_r18", **changes: Any) -> tuple[SegmentationModel, ModelConfig]:
    """An untrained network of a recipe on timm's miniature ResNet, its statistics settled on a few images."""
    torch.manual_seed(1)
    of = load_recipe(
        recipe, ["model.backbone.name=test_resnet", "model.backbone.weights=none", "model.channels=32"]
    ).model
    of = dataclasses.replace(of, **changes)
    network = build_network(of, len(CLASSES))
    with torch.no_grad():
        for convolution in getattr(network.fusion, "gate_convs", []):
            convolution.weight.normal_(std=0.3)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(torch.stack([torch.from_numpy(image(seed)).permute(2, 0, 1) for seed in range(2)]))
    return network, ModelConfig(of, CLASSES, CAMVID.palette, "camvid", recipe)


def predictor(recipe: str = "camvid/gffnet_r18", **changes: Any) -> Predictor:
    """A predictor of that network."""
    network, config = model(recipe, **changes)
    return Predictor(network, config, torch.device("cpu"), Precision(torch.float32, "for tests"))
