"""Class probabilities and labels of an image by the protocol of the paper, of any network and within any memory.

    p = mean over scales of resize( mean over windows that cover a pixel, and their mirror images, of softmax(logits) )

Probabilities of all classes of a large image take more memory than there is: 100 megapixels of 150 classes 60 GB. They
are made block by block, from the top down, and each block is handed out before the next is made.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gffnet.inference.tiling import Layout, ScaledImage, Scorer, Span, plan
from gffnet.recipe import EvaluationRecipe


class Block(NamedTuple):
    """A part of an image, and its probabilities."""

    rows: Span
    columns: Span
    probabilities: Float[Tensor, "k _h _w"]
    """Float32 (float64 where the network is); good until the next block is asked for."""


class SlidingWindow:
    """A network, or any callable, with the protocol that its answers are averaged by.

        segment = SlidingWindow(my_network, classes=19, protocol=EvaluationRecipe(crop=(512, 512), flip=True))
        labels = segment.labels(image)  # uint8 (3, H, W) → uint8 (H, W)

    Images are uint8 tensors (C, H, W), on the device that the callable computes on; everything stays there.
    """

    def __init__(
        self,
        score: Scorer,
        classes: int,
        protocol: EvaluationRecipe,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        batch: int = 1,
        memory: int | None = None,
        besides: int = 0,
    ) -> None:
        """What is scored, and how.

        Args:
            score: windows (B, C, h, w), float in 0..255 → logits (B, K, h, w). B is at most `batch`, twice that
                with mirror images.
            classes: K.
            protocol: crop, overlap, scales and mirror images.
            mean: the colour of padding, in grey levels a channel.
            batch: how many windows are scored at once.
            memory: bytes that may be taken; None: as many as it takes to make an image in one block.
            besides: those of them that other things than probabilities take.
        """
        self.score, self.classes, self.protocol = score, classes, protocol
        self.mean, self.batch, self.memory, self.besides = tuple(mean), batch, memory, besides

    @torch.inference_mode()
    def probabilities(self, image: UInt8[Tensor, "c h w"]) -> Float[Tensor, "k h w"]:
        """The probabilities of all classes at every pixel, at the image's size."""
        whole: Tensor | None = None
        for rows, columns, part in self.blocks(image):
            if whole is None:
                whole = part.new_empty(len(part), *image.shape[-2:])
            whole[:, rows.slice(), columns.slice()] = part
        assert whole is not None
        return whole

    @torch.inference_mode()
    def labels(self, image: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "h w"]:
        """The class of highest probability at every pixel."""
        labels = torch.empty(image.shape[-2:], dtype=torch.uint8, device=image.device)
        for rows, columns, part in self.blocks(image):
            # Indices of `max` come many times faster than those of `argmax` on a CPU.
            labels[rows.slice(), columns.slice()] = part.max(0).indices
        return labels

    def blocks(self, image: UInt8[Tensor, "c h w"]) -> Iterator[Block]:
        """The image block by block: strips of columns from the left, each from the top down; one, if memory allows.

        Raises:
            UserError: not even narrow strips fit into the memory.
        """
        layout = self.layout(image)
        for columns in layout.columns:
            views = [
                ScaledImage(self.score, image, scale, self.protocol, self.mean, columns, layout.tallest, self.batch)
                for scale in self.protocol.scales
            ]
            for rows in layout.rows:
                yield Block(rows, columns, _mean(views, rows, columns))

    def layout(self, image: UInt8[Tensor, "c h w"]) -> Layout:
        """How the image is cut into blocks."""
        return plan((image.shape[-2], image.shape[-1]), self.classes, self.protocol, self.memory, self.besides)


@torch.inference_mode()  # not around what yields: whoever takes a block is none of our business
def _mean(views: Sequence[ScaledImage], rows: Span, columns: Span) -> Float[Tensor, "k _h _w"]:
    """The mean over the scales of an image; may be a view, good until the next call."""
    total = views[0].resized(rows, columns)
    for i, view in enumerate(views[1:]):
        part = view.resized(rows, columns)
        total = total.add_(part) if i else total + part
    return total.div_(len(views)) if len(views) > 1 else total
