"""Parity of an exported file with the network: the same images through both, at several sizes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gffnet.inference.exported import Exported
from gffnet.models.gffnet import SegmentationModel

TRACED = (2, 128, 192)
"""Batch, height and width of the images that the graph is traced with."""


class Parity(NamedTuple):
    """Agreement of a file with the network on one batch of images."""

    batch: int
    height: int
    width: int
    agreement: float
    """Fraction of pixels with the same label."""
    difference: float
    """Largest absolute difference of a probability."""

    @property
    def size(self) -> str:
        """`batch x height x width`."""
        return f"{self.batch}x{self.height}x{self.width}"


class Tolerance(NamedTuple):
    """Deviation allowed from the network in float32."""

    agreement: float
    """Minimal fraction of pixels with the same label."""
    difference: float
    """Maximal absolute difference of a probability."""

    def holds(self, parity: Parity) -> bool:
        """Return whether a batch is within the tolerance; NaN is not."""
        return parity.agreement >= self.agreement and parity.difference <= self.difference


TOLERANCES = {
    "float32": Tolerance(0.9999, 1e-3),
    "float16": Tolerance(0.99, 0.1),
    "bfloat16": Tolerance(0.97, 0.5),
}


def parity_sizes(smallest: int) -> list[tuple[int, int, int]]:
    """Return batch, height and width of what is compared: smallest, traced, odd, portrait, and like a photograph."""
    return [(1, smallest, smallest), TRACED, (1, 101, 163), (3, 233, 149), (1, 361, 483)]


def compare(exported: Exported, network: SegmentationModel) -> Iterator[Parity]:
    """Yield the parity at each of `parity_sizes`. `network`: in evaluation mode, float32, on the CPU."""
    for seed, (batch, height, width) in enumerate(parity_sizes(exported.record.smallest)):
        images = random_images(seed, (batch, len(network.mean), height, width))
        with torch.inference_mode():
            labels, probabilities = exported(images)
            expected = network(images).logits.softmax(1)
        same = (labels == expected.max(1).indices).double().mean()
        yield Parity(batch, height, width, same.item(), (probabilities - expected).abs().max().item())


def random_images(seed: int, shape: tuple[int, int, int, int]) -> UInt8[Tensor, "b c h w"]:
    """Return colored blocks of two sizes under fine noise: edges and flat regions, as in photographs."""
    rng = np.random.default_rng(seed)
    images: Any = rng.integers(0, 40, shape)
    for side, high in ((32, 140), (8, 78)):
        coarse = rng.integers(0, high, (*shape[:2], *(-(-length // side) for length in shape[2:])))
        images = images + np.kron(coarse, np.ones((side, side), int))[..., : shape[2], : shape[3]]
    return torch.from_numpy(images.astype(np.uint8))
