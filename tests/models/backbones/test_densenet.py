import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from gffnet.models.backbones import DenseNet
from gffnet.models.gffnet import build_backbone
from gffnet.recipe import BackboneRecipe

from .contract import BackboneContract, pyramid, settled


class TestDenseNet121(BackboneContract):
    recipe = BackboneRecipe("densenet121", "none", 8)
    widths = (256, 512, 1024, 1024)
    strides = (4, 8, 8, 8)


class TestDenseNet121WithStrides(BackboneContract):
    recipe = BackboneRecipe("densenet121", "none", 32)
    widths = (256, 512, 1024, 1024)
    strides = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("densenet161", (384, 768, 2112, 2208)),
        ("densenet169", (256, 512, 1280, 1664)),
        ("densenet201", (256, 512, 1792, 1920)),
    ],
)
def test_the_common_densenets_build(name: str, widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 16))
    assert isinstance(backbone, DenseNet)
    assert (backbone.widths, backbone.strides) == (widths, (4, 8, 16, 16))


def torchvisions(backbone: nn.Module) -> nn.Module:
    """torchvision's DenseNet-121 with the same parameters."""
    reference = torchvision.models.densenet121().double().eval()
    outcome = reference.load_state_dict(backbone.state_dict(), strict=False)
    assert (outcome.missing_keys, outcome.unexpected_keys) == (["classifier.weight", "classifier.bias"], [])
    return reference.features


def taps(features: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """ReLU of every norm behind a dense block."""
    maps: list[torch.Tensor] = []
    for norm in (features.transition1.norm, features.transition2.norm, features.transition3.norm, features.norm5):
        norm.register_forward_hook(lambda _, __, output: maps.append(F.relu(output)))
    with torch.no_grad():
        features(image)
    return maps


def test_with_strides_it_is_torchvisions() -> None:
    backbone = settled(build_backbone(BackboneRecipe("densenet121", "none", 32)))
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for x, y in zip(pyramid(backbone, image), taps(torchvisions(backbone), image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


def test_dilated_it_is_torchvisions_without_pooling_and_with_holes() -> None:
    backbone = settled(build_backbone(BackboneRecipe("densenet121", "none", 8)))
    features = torchvisions(backbone)
    features.transition2.pool = features.transition3.pool = nn.Identity()
    for block, dilation in ((features.denseblock3, 2), (features.denseblock4, 4)):
        for layer in block.values():
            plain = layer.conv2
            layer.conv2 = nn.Conv2d(128, 32, 3, padding=dilation, dilation=dilation, bias=False).double()
            layer.conv2.weight = plain.weight
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for x, y in zip(pyramid(backbone, image), taps(features, image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("block", "every", "channels"), [("denseblock3", 2, 256), ("denseblock4", 4, 512)])
@pytest.mark.parametrize("size", [(16, 12), (13, 11)])
def test_a_dilated_block_sampled_is_the_plain_one(block: str, every: int, channels: int, size: tuple[int, int]) -> None:
    plain = settled(build_backbone(BackboneRecipe("densenet121", "none", 32)))
    dilated = build_backbone(BackboneRecipe("densenet121", "none", 8)).double().eval()
    dilated.load_state_dict(plain.state_dict())
    x = torch.randn(1, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        fine = dilated.features.get_submodule(block)(x)[..., ::every, ::every]
        coarse = plain.features.get_submodule(block)(x[..., ::every, ::every])
    torch.testing.assert_close(fine, coarse, rtol=1e-10, atol=1e-10)


def test_maps_are_rectified() -> None:
    backbone = settled(build_backbone(BackboneRecipe("densenet121", "none", 8)))
    for x in pyramid(backbone, torch.randn(1, 3, 64, 64, dtype=torch.float64)):
        assert x.min() == 0
        assert x.max() > 0
