"""Whether an exported file says what the network says: the same images through both, at sizes that differ."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gffnet.export.graph import TRACED
from gffnet.inference.exported import Exported
from gffnet.models.network import SceneParser


class Parity(NamedTuple):
    """How a file and the network agree on one batch of images."""

    batch: int
    height: int
    width: int
    agreement: float
    """Share of the pixels with the same label."""
    difference: float
    """Greatest difference of a probability."""

    @property
    def size(self) -> str:
        """`batch x height x width`."""
        return f"{self.batch}x{self.height}x{self.width}"


class Tolerance(NamedTuple):
    """What a file may differ by from the network in float32."""

    agreement: float
    """Least share of the pixels with the same label."""
    difference: float
    """Greatest difference of a probability."""

    def holds(self, parity: Parity) -> bool:
        """Whether a batch is within it; what is not a number is not."""
        return parity.agreement >= self.agreement and parity.difference <= self.difference


TOLERANCES = {
    "float32": Tolerance(0.9999, 1e-3),
    "float16": Tolerance(0.99, 0.1),
    "bfloat16": Tolerance(0.97, 0.5),
}


def sizes(smallest: int) -> list[tuple[int, int, int]]:
    """Batch, height and width of what is compared: the least, the traced, odd, portrait, and one like a photograph."""
    return [(1, smallest, smallest), TRACED, (1, 101, 163), (3, 233, 149), (1, 361, 483)]


def compare(exported: Exported, network: SceneParser) -> Iterator[Parity]:
    """The agreement at each of `sizes`, one after the other. `network`: in evaluation, float32, on the CPU."""
    for seed, size in enumerate(sizes(exported.record.smallest)):
        image = pictures(seed, (size[0], len(network.mean), *size[1:]))
        with torch.inference_mode():
            labels, probabilities = exported(image)
            expected = network(image).logits.softmax(1)
        same = (labels == expected.max(1).indices).double().mean()
        yield Parity(*size, same.item(), (probabilities - expected).abs().max().item())


def pictures(seed: int, shape: tuple[int, int, int, int]) -> UInt8[Tensor, "b c h w"]:
    """Blocks of colour of two sizes under fine noise: edges and flat parts, as photographs have them."""
    random = np.random.default_rng(seed)
    image: Any = random.integers(0, 40, shape)
    for side, range_of in ((32, 140), (8, 78)):
        coarse = random.integers(0, range_of, (*shape[:2], *(-(-length // side) for length in shape[2:])))
        image = image + np.kron(coarse, np.ones((side, side), int))[..., : shape[2], : shape[3]]
    return torch.from_numpy(image.astype(np.uint8))
