"""What training computes for a part of a batch, for the task that trains and for the rehearsal that is counted."""

from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Integer, Num
from torch import Tensor, nn

from gffnet.models.algebra.resize import size_of
from gffnet.models.network import SceneParser


def both_losses(
    network: SceneParser,
    auxiliary: nn.Module,
    loss: nn.Module,
    images: Num[Tensor, "b c h w"],
    labels: Integer[Tensor, "b h w"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Main and auxiliary loss of images and labels, summed as `ParsingLoss` does.

    Args:
        network: whose logits make the main loss.
        auxiliary: head on `X_3`, whose logits make the other.
        loss: a `ParsingLoss`.
        images: uint8, or float in 0..255.
        labels: train ids, 255 where a pixel is ignored.
    """
    size = size_of(images)
    pyramid, context = network.features(images)
    logits = network.decode(pyramid, context, size).logits
    return loss(logits, labels), loss(auxiliary(pyramid[2], size), labels)


def lower_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Where the forward pass runs in `dtype`: autocast, which does nothing for float32."""
    lower: AbstractContextManager[None] = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    return lower


def batch_norms(*parts: nn.Module) -> list[nn.Module]:
    """All batch normalisation in some modules, of every kind that torch and timm have."""
    return [m for part in parts for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
