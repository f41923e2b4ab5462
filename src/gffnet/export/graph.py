"""The network as a graph of free batch, height and width, with everything in it that an image needs.

    image uint8 (B, C, H, W) → normalise → network, batch normalisation folded → logits
    labels = argmax logits,  probabilities = softmax logits

Sizes are symbols while the graph is made. Where the network compares two of them (maps of one resolution are added
before they are resized), the answer holds for every image of at least `smallest_side` pixels; a `.pt2` file asserts it
each time it runs.
"""

import copy

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from gffnet.inference.quiet import quiet
from gffnet.models.folding import fold_norms
from gffnet.models.network import SceneParser

TRACED = (2, 128, 192)
"""Batch, height and width of the image that the graph is made with."""


class ImageToLabels(nn.Module):
    """What a file computes: a batch of images → their labels and the probabilities of all classes."""

    def __init__(self, network: SceneParser, dtype: torch.dtype) -> None:
        """`network` is copied; `dtype`: the number format of its weights."""
        super().__init__()
        prepared = copy.deepcopy(network).eval().cpu()
        fold_norms(prepared, torch.zeros(1, len(network.mean), 64, 64))
        prepared.head.dropout = nn.Dropout2d(0)
        self.network = prepared.to(dtype).to(memory_format=torch.channels_last)

    def forward(self, image: UInt8[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """Image (B, C, H, W) → labels, uint8 (B, H, W), and probabilities, float32 (B, K, H, W)."""
        logits = self.network(image.contiguous(memory_format=torch.channels_last)).logits.float()
        return {"labels": logits.max(1).indices.to(torch.uint8), "probabilities": logits.softmax(1)}


def smallest_side(network: SceneParser) -> int:
    """The least height and width of an image, in pixels: two positions of the coarsest map."""
    return 2 * max(network.backbone.strides)


@torch.no_grad()
def trace(network: SceneParser, dtype: torch.dtype) -> ExportedProgram:
    """The graph of `ImageToLabels`."""
    batch, height, width = TRACED
    image = torch.randint(0, 256, (batch, len(network.mean), height, width), dtype=torch.uint8)
    least = smallest_side(network)
    free = {0: Dim("batch", min=1), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    with quiet():
        program = torch.export.export(
            ImageToLabels(network, dtype).eval(),
            (image,),
            dynamic_shapes=(free,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program
