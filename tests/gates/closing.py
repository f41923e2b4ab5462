"""A small CamVid of coarse scenes, and tiny networks with gates."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree, save

SIZE = (32, 48)
WINDOWS = EvaluationRecipe(crop=(24, 32), overlap=0.25, scales=(1.0, 0.75), flip=True)


def scenes(root: Path, count: int = 3) -> Path:
    """Images of blocks, and labels of blocks with an ignored stripe."""
    camvid_tree(root, train=1, val=count)
    for i in range(count):
        blocks = np.random.default_rng(i).integers(0, 11, (2, 3), dtype=np.uint8)
        labels = np.kron(blocks, np.ones((16, 16), np.uint8))
        labels[:, 40:43] = 11
        save(root / f"val/val_{i:03d}.png", tiny.picture(i, *SIZE))
        save(root / f"valannot/val_{i:03d}.png", labels)
    return root


def val(root: Path, count: int = 3) -> Dataset:
    """The data set of those scenes."""
    return open_dataset("camvid", scenes(root, count), "val")


@cache
def network(fusion: str = "gff") -> SegmentationModel:
    """A network whose gates differ from place to place; not to be changed."""
    of = tiny.recipe({**tiny.GFFNET, "fusion": fusion})
    built = tiny.network(of)
    with torch.no_grad():
        for convolution in built.fusion.gate_convs:
            convolution.weight.normal_(std=0.5)
    return built


def forced(of: SegmentationModel, biases: Mapping[int, float]) -> SegmentationModel:
    """The same network, but gate convolutions of some levels answer nothing but a bias."""
    copied = copy.deepcopy(of)
    with torch.no_grad():
        for level, bias in biases.items():
            copied.fusion.gate_convs[level - 1].weight.zero_()
            copied.fusion.gate_convs[level - 1].bias.fill_(bias)
    return copied


@cache
def learned() -> Predictor:
    """That network, ready to predict; not to be changed."""
    return predictor(network())


def predictor(of: SegmentationModel, fusion: str = "gff", **options: Any) -> Predictor:
    """Ready to predict."""
    config = tiny.config(tiny.recipe({**tiny.GFFNET, "fusion": fusion}))
    return Predictor(of, config, torch.device("cpu"), Precision(torch.float32, "for tests"), **options)
