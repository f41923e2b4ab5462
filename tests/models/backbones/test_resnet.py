import dataclasses

import pytest
import timm
import torch
import torchvision
from torch import nn

from gffnet.models.backbones import Halve, HalveDilated, ResNet
from gffnet.models.gffnet import build_backbone
from gffnet.recipe import BackboneRecipe

from .contract import BackboneContract, pyramid, settled


class TestResNet18(BackboneContract):
    recipe = BackboneRecipe("resnet18", "none", 8)
    widths = (64, 128, 256, 512)
    strides = (4, 8, 8, 8)


class TestResNet50d(BackboneContract):
    recipe = BackboneRecipe("resnet50d", "none", 16)
    widths = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 16)


class TestResNet18WithStrides(BackboneContract):
    recipe = BackboneRecipe("resnet18", "none", None)
    widths = (64, 128, 256, 512)
    strides = (4, 8, 16, 32)


@pytest.mark.parametrize(
    "name", ["resnet101", "resnet152", "resnet101c", "resnet101s", "resnext50_32x4d", "seresnet50"]
)
def test_the_common_resnets_build(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 8))
    assert isinstance(backbone, ResNet)
    assert (backbone.widths, backbone.strides) == ((256, 512, 1024, 2048), (4, 8, 8, 8))


def test_resnet101_has_the_parameters_of_torchvisions() -> None:
    with torch.device("meta"):
        backbone, reference = build_backbone(BackboneRecipe("resnet101", "none")), torchvision.models.resnet101()
    count = sum(p.numel() for p in reference.parameters()) - sum(p.numel() for p in reference.fc.parameters())
    assert sum(p.numel() for p in backbone.parameters()) == count


@pytest.mark.parametrize(
    ("stride", "dilate"), [(8, [False, True, True]), (16, [False, False, True]), (32, [False] * 3)]
)
def test_bottlenecks_are_dilated_as_torchvisions(stride: int, dilate: list[bool]) -> None:
    backbone = settled(build_backbone(BackboneRecipe("resnet50", "none", stride)))
    reference = torchvision.models.resnet50(replace_stride_with_dilation=dilate).double().eval()
    outcome = reference.load_state_dict(backbone.state_dict(), strict=False)
    assert (outcome.missing_keys, outcome.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    taps: list[torch.Tensor] = []
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        layer.register_forward_hook(lambda _, __, output: taps.append(output))
    image = torch.randn(1, 3, 65, 97, dtype=torch.float64)
    with torch.no_grad():
        reference(image)
    for x, y in zip(pyramid(backbone, image), taps, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18d"])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_a_dilated_network_sampled_is_the_strided_one(name: str, stride: int, size: tuple[int, int]) -> None:
    recipe = BackboneRecipe(name, "none", 32)
    strided = settled(build_backbone(recipe))
    dilated = build_backbone(dataclasses.replace(recipe, output_stride=stride)).double().eval()
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    maps = zip(pyramid(dilated, image), pyramid(strided, image), dilated.strides, strided.strides, strict=True)
    for fine, coarse, small, large in maps:
        every = large // small
        torch.testing.assert_close(fine[..., ::every, ::every], coarse, rtol=1e-10, atol=1e-10)


def test_averaged_shortcuts_are_dilated_one_then_two() -> None:
    backbone = build_backbone(BackboneRecipe("resnet18d", "none", 8))
    averages = [part for part in backbone.modules() if isinstance(part, (Halve, HalveDilated))]
    assert [str(part) for part in averages] == ["Halve()", "HalveDilated(step=1)", "HalveDilated(step=2)"]


def test_basic_blocks_are_dilated_two_then_four() -> None:
    backbone = build_backbone(BackboneRecipe("resnet18", "none", 8))
    convolutions = [
        (name, part.dilation[0])
        for name, part in backbone.named_modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and name.startswith(("layer3", "layer4"))
    ]
    assert [dilation for _, dilation in convolutions] == [1, 2, 2, 2, 2, 4, 4, 4]


@pytest.mark.parametrize("size", [(64, 96), (65, 71)])
def test_averaged_shortcuts_are_timms(size: tuple[int, int]) -> None:
    backbone = settled(build_backbone(BackboneRecipe("resnet18d", "none", 32)))
    assert any(isinstance(part, Halve) for part in backbone.modules())
    reference = timm.create_model("resnet18d", features_only=True, out_indices=(1, 2, 3, 4)).double().eval()
    reference.load_state_dict(backbone.state_dict())
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), reference(image), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
