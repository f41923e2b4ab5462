"""Backbones export with free batch, height and width."""

import pytest
import torch
from torch.export import Dim

from gffnet.models.gffnet import build_backbone
from gffnet.recipe import BackboneRecipe

from .contract import pyramid


# Swin is not here: tracing its windows with free sizes takes many minutes.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride"),
    [("resnet18", 8), ("resnet18d", 8), ("densenet121", 8), ("test_convnext", None), ("efficientnet_b0", 8)],
)
def test_an_exported_backbone_takes_any_size(name: str, stride: int | None) -> None:
    backbone = build_backbone(BackboneRecipe(name, "none", stride)).eval()
    free = {0: Dim("b", max=64), 2: Dim("h", min=64, max=4096), 3: Dim("w", min=64, max=4096)}
    exported = torch.export.export(backbone, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(free,)).module()
    for size in ((64, 96), (75, 131), (160, 97)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for x, y in zip(exported(image), pyramid(backbone, image), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
