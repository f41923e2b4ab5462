"""The traced graph says what the network says, at every size, for every variant of the network."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from gffnet.export.export import ImageToLabels, smallest_side, trace
from gffnet.models.gffnet import SegmentationModel
from gffnet.recipe import ModelRecipe
from tests.export.networks import network, symbolic_sizes

SIZES = [(1, 16, 16), (2, 65, 47), (3, 33, 120), (1, 97, 31)]
VARIANTS = [
    {"context": "dense_aspp", "fusion": "concat", "dense_pyramid": "dense", "pyramid_kernel": 3},
    {"context": "none", "fusion": "addition", "dense_pyramid": "literal"},
    {"context": "none", "fusion": "gated_fpn", "dense_pyramid": "dense", "gate_channels": "each"},
]
"""Pyramid pooling and GFF are in the files that the other tests open, FPN in the coarse network."""


def images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def traced(of: SegmentationModel) -> torch.nn.Module:
    with symbolic_sizes():
        return trace(of, torch.float32).module()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_every_variant_at_sizes_that_were_not_traced(variant: dict[str, Any]) -> None:
    of = network(dataclasses.replace(ModelRecipe(), **variant))
    graph = traced(of)
    for seed, size in enumerate(SIZES):
        image = images(*size, seed)
        with torch.no_grad():
            found, logits = graph(image), of(image).logits
        probabilities = logits.softmax(1)
        torch.testing.assert_close(found["probabilities"], probabilities, rtol=0, atol=1e-5)
        assert (found["labels"] == logits.max(1).indices).double().mean() >= 0.9999
        assert found["labels"].dtype == torch.uint8
        assert probabilities.std((2, 3)).max() > 0.01  # or this would say little


def test_coarse_backbones_take_larger_images_at_least() -> None:
    """The coarsest map has two positions: a single one would be another graph."""
    of = network(dataclasses.replace(ModelRecipe(), context="none", fusion="fpn"), (4, 8, 16, 32))
    assert smallest_side(of) == 64
    graph = traced(of)
    with torch.no_grad():
        for size in ((1, 64, 64), (2, 65, 131)):
            image = images(*size)
            expected = of(image).logits.softmax(1)
            torch.testing.assert_close(graph(image)["probabilities"], expected, rtol=0, atol=1e-5)
        with pytest.raises(AssertionError, match=">= 64"):
            graph(images(1, 63, 80))


def test_the_network_that_came_is_left_as_it_was() -> None:
    of = network(ModelRecipe()).train()
    before = {name: value.clone() for name, value in of.state_dict().items()}
    wrapped = ImageToLabels(of, torch.bfloat16)
    assert of.training
    assert all(torch.equal(value, before[name]) for name, value in of.state_dict().items())
    assert {p.dtype for p in wrapped.parameters()} == {torch.bfloat16}
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in wrapped.modules())
