"""The training loss: cross-entropy over the labelled pixels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from gffnet.data.catalog import IGNORE


def parsing_loss(logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the pixels whose label is not 255, in float32; 0 if there are none."""
    targets = labels.to(torch.int64)
    total = F.cross_entropy(logits.float(), targets, ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)
