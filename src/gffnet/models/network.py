"""The network of the paper's Figure 3: backbone, context, fusion, pyramid, head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from gffnet.models.algebra.resize import size_of
from gffnet.models.backbones.base import Backbone
from gffnet.models.context.base import Context
from gffnet.models.dense_pyramid import FeaturePyramid
from gffnet.models.fusion.base import Fusion
from gffnet.models.heads import Head
from gffnet.types import Gates, Output, Pyramid


class SceneParser(nn.Module):
    """PSPNet or DenseASPP, optionally with a fusion and a (dense) feature pyramid.

    It never sees a loss, a label or a mode: it returns `Output(logits, gates)` in training and evaluation alike.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: Context,
        fusion: Fusion | None,
        pyramid: FeaturePyramid | None,
        head: Head,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """`fusion` and `pyramid` come together or not at all; `mean`, `std` in grey levels, one per input channel."""
        super().__init__()
        self.backbone = backbone
        self.context = context
        self.fusion = fusion
        self.pyramid = pyramid
        self.head = head
        self.mean = tuple(mean)
        self.std = tuple(std)

    def forward(self, image: Num[Tensor, "b c h w"]) -> Output:
        """Image, uint8 or float in 0..255, (B, C, H, W) → logits (B, K, H, W) and the gates (finest first)."""
        pyramid, context = self.features(image)
        return self.decode(pyramid, context, size_of(image))

    def features(self, image: Num[Tensor, "b c h w"]) -> tuple[Pyramid, Tensor]:
        """Image → the pyramid `X_1..X_4` and the context map `y_0`."""
        pyramid = self.backbone(self.normalise(image))
        return pyramid, self.context(pyramid[-1])

    def normalise(self, image: Num[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`(image - mean) / std` per channel, reckoned in float32 or finer, in the dtype of the weights."""
        dtype = next(self.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        mean, std = (torch.tensor(v, dtype=exact, device=image.device)[:, None, None] for v in (self.mean, self.std))
        return image.to(exact, copy=True).sub_(mean).div_(std).to(dtype)

    def encode(self, maps: Pyramid, context: Tensor) -> tuple[list[Tensor], Gates | None]:
        """The reduced maps and the gates of a pyramid: all that a fusion works on."""
        assert self.fusion is not None
        if self.fusion.takes_context:
            maps = [*maps, context]
        return self.fusion.reduce(maps), self.fusion.gates(maps)

    def decode(self, pyramid: Pyramid, context: Tensor, size: tuple[int, int]) -> Output:
        """`X_1..X_4` and `y_0` → logits of `size` and the gates."""
        if self.fusion is None:
            return Output(self.head([context], size), None)
        reduced, gates = self.encode(pyramid, context)
        return Output(self.assemble(reduced, gates, context, size), gates)

    def assemble(self, reduced: Pyramid, gates: Gates | None, context: Tensor, size: tuple[int, int]) -> Tensor:
        """Reduced maps, gates (as learned, or edited) and `y_0` → logits of `size`."""
        assert self.fusion is not None
        assert self.pyramid is not None
        fused = self.fusion.fuse(reduced, gates)
        if self.fusion.takes_context:
            *fused, context = fused
        out: Tensor = self.head(self.pyramid(context, fused), size)
        return out
