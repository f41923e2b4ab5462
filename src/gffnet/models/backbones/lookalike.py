"""Whose weights are these? For the error that says they do not fit."""

from collections.abc import Mapping

import timm
import torch
from torch import Size, Tensor

COUNTER = "num_batches_tracked"
"""The buffer of batch norms that old files lack; what it holds has no effect here."""

KNOWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "layer1.0.conv1.weight",
        (
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            *("resnet18d", "resnet34d", "resnet50c", "resnet50d", "resnet50s"),
            *("resnet101c", "resnet101d", "resnet101s", "resnet152c", "resnet152d", "resnet152s"),
            *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
        ),
    ),
    ("features.denseblock1.denselayer1.conv1.weight", ("densenet121", "densenet161", "densenet169", "densenet201")),
    (
        "stages.0.blocks.0.conv_dw.weight",
        ("convnext_atto", "convnext_nano", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    ),
    (
        "layers.0.blocks.0.attn.qkv.weight",
        tuple(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")),
    ),
    (
        "conv_stem.weight",
        (
            *(f"efficientnet_b{n}" for n in range(6)),
            *("mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100"),
        ),
    ),
)
"""A name that tells a family, and the family's common models."""


def lookalike(state: Mapping[str, Tensor]) -> str | None:
    """The common timm model with exactly the names and shapes of `state`, classifier apart; None if there is none."""
    sizes = _sizes(state)
    for sign, names in KNOWN:
        for name in names if sign in state else ():
            with torch.device("meta"):
                expected = _sizes(timm.create_model(name, num_classes=0).state_dict())
            if all(sizes.get(key) == size for key, size in expected.items()) and len(sizes) - len(expected) <= 2:
                return name
    return None


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Size]:
    return {name: value.shape for name, value in state.items() if not name.endswith(COUNTER)}
