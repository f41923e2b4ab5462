"""Every family of backbones: the contract, and against torchvision and timm."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.export import Dim

from gffnet.errors import UserError
from gffnet.models.backbones import (
    AvgPool2x2,
    Backbone,
    DenseNet,
    DilatedAvgPool2x2,
    ResNet,
    TimmPyramid,
    build_backbone,
)
from gffnet.recipe import BackboneRecipe


def randomized(backbone: Backbone) -> Backbone:
    """In double precision and evaluation, with no statistic or parameter at its initial value."""
    for name, value in backbone.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith(("running_var", "weight")) and value.ndim == 1:
            value.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            value.normal_(std=0.1)
    return backbone.double().eval()


@torch.no_grad()
def pyramid(backbone: Backbone, image: Tensor) -> list[Tensor]:
    return backbone(image)


class BackboneContract:
    recipe: ClassVar[BackboneRecipe]
    channels: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]]

    @pytest.fixture(scope="class")
    def backbone(self) -> Backbone:
        return build_backbone(self.recipe).eval()

    def test_declares_its_channels_and_strides(self, backbone: Backbone) -> None:
        assert backbone.channels == self.channels
        assert backbone.strides == self.strides

    @pytest.mark.parametrize("size", [(64, 96), (65, 97), (95, 33)])
    def test_maps_have_the_declared_channels_and_strides(self, backbone: Backbone, size: tuple[int, int]) -> None:
        maps = pyramid(backbone, torch.randn(2, 3, *size))
        expected = [
            (2, c, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
            for c, stride in zip(self.channels, self.strides, strict=True)
        ]
        assert [tuple(x.shape) for x in maps] == expected

    def test_stays_channels_last(self, backbone: Backbone) -> None:
        image = torch.randn(2, 3, 64, 96)
        expected = pyramid(backbone, image)
        twin = build_backbone(self.recipe).eval().to(memory_format=torch.channels_last)
        twin.load_state_dict(backbone.state_dict())
        maps = pyramid(twin, image.contiguous(memory_format=torch.channels_last))
        for x, y in zip(maps, expected, strict=True):
            assert x.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)

    def test_has_no_classifier_and_every_parameter_is_used(self) -> None:
        backbone = build_backbone(self.recipe).train()
        sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 96))).backward()
        unused = [name for name, p in backbone.named_parameters() if p.grad is None]
        assert unused == []

    def test_builds_on_the_meta_device(self) -> None:
        with torch.device("meta"):
            backbone = build_backbone(self.recipe)
            maps = backbone(torch.empty(1, 3, 512, 512))
        assert all(p.is_meta for p in backbone.parameters())
        assert [x.shape[1] for x in maps] == list(self.channels)

    def test_takes_other_input_channels(self) -> None:
        backbone = build_backbone(dataclasses.replace(self.recipe, in_channels=4)).eval()
        maps = pyramid(backbone, torch.randn(1, 4, 64, 64))
        assert [x.shape[1] for x in maps] == list(self.channels)


class TestResNet18(BackboneContract):
    recipe = BackboneRecipe("resnet18", "none", 8)
    channels = (64, 128, 256, 512)
    strides = (4, 8, 8, 8)


class TestResNet50d(BackboneContract):
    recipe = BackboneRecipe("resnet50d", "none", 16)
    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 16)


class TestResNet18WithStrides(BackboneContract):
    recipe = BackboneRecipe("resnet18", "none", None)
    channels = (64, 128, 256, 512)
    strides = (4, 8, 16, 32)


@pytest.mark.parametrize(
    "name", ["resnet101", "resnet152", "resnet101c", "resnet101s", "resnext50_32x4d", "seresnet50"]
)
def test_the_common_resnets_build(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 8))
    assert isinstance(backbone, ResNet)
    assert (backbone.channels, backbone.strides) == ((256, 512, 1024, 2048), (4, 8, 8, 8))


def test_resnet101_has_the_parameters_of_torchvisions() -> None:
    with torch.device("meta"):
        backbone, reference = build_backbone(BackboneRecipe("resnet101", "none")), torchvision.models.resnet101()
    count = sum(p.numel() for p in reference.parameters()) - sum(p.numel() for p in reference.fc.parameters())
    assert sum(p.numel() for p in backbone.parameters()) == count


@pytest.mark.parametrize(
    ("stride", "dilate"),
    [
        (8, [False, True, True]),
        *(pytest.param(s, d, marks=pytest.mark.slow) for s, d in ((16, [False, False, True]), (32, [False] * 3))),
    ],
)
def test_bottlenecks_are_dilated_as_torchvisions(stride: int, dilate: list[bool]) -> None:
    backbone = randomized(build_backbone(BackboneRecipe("resnet50", "none", stride)))
    reference = torchvision.models.resnet50(replace_stride_with_dilation=dilate).double().eval()
    outcome = reference.load_state_dict(backbone.state_dict(), strict=False)
    assert (outcome.missing_keys, outcome.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    taps: list[torch.Tensor] = []
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        layer.register_forward_hook(lambda _, __, output: taps.append(output))
    image = torch.randn(1, 3, 33, 49, dtype=torch.float64)
    with torch.no_grad():
        reference(image)
    for x, y in zip(pyramid(backbone, image), taps, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet18", "resnet26", "resnet18d"])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("size", [(32, 64), (75, 51)])
def test_a_dilated_network_sampled_is_the_strided_one(name: str, stride: int, size: tuple[int, int]) -> None:
    recipe = BackboneRecipe(name, "none", 32)
    strided = randomized(build_backbone(recipe))
    dilated = build_backbone(dataclasses.replace(recipe, output_stride=stride)).double().eval()
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    maps = zip(pyramid(dilated, image), pyramid(strided, image), dilated.strides, strided.strides, strict=True)
    for fine, coarse, small, large in maps:
        every = large // small
        torch.testing.assert_close(fine[..., ::every, ::every], coarse, rtol=1e-10, atol=1e-10)


def test_averaged_shortcuts_are_dilated_one_then_two() -> None:
    backbone = build_backbone(BackboneRecipe("resnet18d", "none", 8))
    averages = [part for part in backbone.modules() if isinstance(part, (AvgPool2x2, DilatedAvgPool2x2))]
    assert [getattr(part, "dilation", None) for part in averages] == [None, 1, 2]


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
    backbone = randomized(build_backbone(BackboneRecipe("resnet18d", "none", 32)))
    assert any(isinstance(part, AvgPool2x2) for part in backbone.modules())
    reference = timm.create_model("resnet18d", features_only=True, out_indices=(1, 2, 3, 4)).double().eval()
    reference.load_state_dict(backbone.state_dict())
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), reference(image), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


class TestDenseNet121(BackboneContract):
    recipe = BackboneRecipe("densenet121", "none", 8)
    channels = (256, 512, 1024, 1024)
    strides = (4, 8, 8, 8)


class TestDenseNet121WithStrides(BackboneContract):
    recipe = BackboneRecipe("densenet121", "none", 32)
    channels = (256, 512, 1024, 1024)
    strides = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("densenet161", (384, 768, 2112, 2208)),
        ("densenet169", (256, 512, 1280, 1664)),
        ("densenet201", (256, 512, 1792, 1920)),
    ],
)
def test_the_common_densenets_build(name: str, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 16))
    assert isinstance(backbone, DenseNet)
    assert (backbone.channels, backbone.strides) == (channels, (4, 8, 16, 16))


def torchvisions(backbone: nn.Module) -> nn.Module:
    """torchvision's DenseNet-121 with the same parameters."""
    reference = torchvision.models.densenet121().double().eval()
    outcome = reference.load_state_dict(backbone.state_dict(), strict=False)
    assert (outcome.missing_keys, outcome.unexpected_keys) == (["classifier.weight", "classifier.bias"], [])
    return reference.features


def rectified_norms(features: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """ReLU of every norm behind a dense block."""
    maps: list[torch.Tensor] = []
    for norm in (features.transition1.norm, features.transition2.norm, features.transition3.norm, features.norm5):
        norm.register_forward_hook(lambda _, __, output: maps.append(F.relu(output)))
    with torch.no_grad():
        features(image)
    return maps


def test_with_strides_it_is_torchvisions() -> None:
    backbone = randomized(build_backbone(BackboneRecipe("densenet121", "none", 32)))
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for x, y in zip(pyramid(backbone, image), rectified_norms(torchvisions(backbone), image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


def test_dilated_it_is_torchvisions_without_pooling() -> None:
    backbone = randomized(build_backbone(BackboneRecipe("densenet121", "none", 8)))
    features = torchvisions(backbone)
    features.transition2.pool = features.transition3.pool = nn.Identity()
    for block, dilation in ((features.denseblock3, 2), (features.denseblock4, 4)):
        for layer in block.values():
            weight = layer.conv2.weight
            layer.conv2 = nn.Conv2d(128, 32, 3, padding=dilation, dilation=dilation, bias=False).double()
            layer.conv2.weight = weight
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for x, y in zip(pyramid(backbone, image), rectified_norms(features, image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("block", "every", "channels"), [("denseblock3", 2, 256), ("denseblock4", 4, 512)])
@pytest.mark.parametrize("size", [(16, 12), (13, 11)])
def test_a_dilated_block_sampled_is_the_strided_one(
    block: str, every: int, channels: int, size: tuple[int, int]
) -> None:
    strided = randomized(build_backbone(BackboneRecipe("densenet121", "none", 32)))
    dilated = build_backbone(BackboneRecipe("densenet121", "none", 8)).double().eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        fine = dilated.features.get_submodule(block)(x)[..., ::every, ::every]
        coarse = strided.features.get_submodule(block)(x[..., ::every, ::every])
    torch.testing.assert_close(fine, coarse, rtol=1e-10, atol=1e-10)


SWIN = "swin_tiny_patch4_window7_224"


class TestConvNeXt(BackboneContract):
    recipe = BackboneRecipe("convnext_atto", "none", None)
    channels = (40, 80, 160, 320)
    strides = (4, 8, 16, 32)


@pytest.mark.slow
class TestEfficientNetDilated(BackboneContract):
    recipe = BackboneRecipe("efficientnet_b0", "none", 16)
    channels = (24, 40, 112, 320)
    strides = (4, 8, 16, 16)


class TestMobileNetV3(BackboneContract):
    recipe = BackboneRecipe("mobilenetv3_small_050", "none", 32)
    channels = (8, 16, 24, 288)
    strides = (4, 8, 16, 32)


@pytest.mark.slow
class TestSwin(BackboneContract):
    recipe = BackboneRecipe(SWIN, "none", None)
    channels = (96, 192, 384, 768)
    strides = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("name", "stride", "strides"),
    [
        ("hrnet_w18_small", None, (4, 8, 16, 32)),  # by itself it takes multiples of 32 only
        ("convnext_atto", 8, (4, 8, 8, 8)),
        ("regnety_002", 16, (4, 8, 16, 16)),
        ("vgg11", 32, (4, 8, 16, 32)),  # has six levels
    ],
)
def test_other_families(name: str, stride: int | None, strides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", stride)).eval()
        maps = pyramid(backbone, torch.empty(1, 3, 65, 97))
    assert backbone.strides == strides
    assert [x.shape[1:] for x in maps] == [
        (c, -(-65 // stride), -(-97 // stride)) for c, stride in zip(backbone.channels, strides, strict=True)
    ]


def test_maps_are_timms_where_no_padding_is_needed() -> None:
    backbone = build_backbone(BackboneRecipe("convnext_atto", "none", None)).eval()
    reference = timm.create_model("convnext_atto", features_only=True).eval()
    reference.load_state_dict(backbone.net.state_dict())
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), reference(image), strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("name", "stride"), [("tf_efficientnet_lite0", 32), ("tf_mixnet_s", 8)])
def test_a_constant_padding_is_the_one_that_timm_computes_from_the_size(name: str, stride: int) -> None:
    backbone = randomized(build_backbone(BackboneRecipe(name, "none", stride)))
    reference = timm.create_model(name, features_only=True, output_stride=stride, out_indices=(1, 2, 3, 4))
    reference.load_state_dict(backbone.net.state_dict())
    image = torch.randn(1, 3, 72, 91).double()
    padded = F.pad(image, (0, -91 % stride, 0, -72 % stride))
    with torch.no_grad():
        expected = reference.double().eval()(padded)
    for x, y in zip(pyramid(backbone, image), expected, strict=True):
        assert torch.equal(x, y[..., : x.shape[-2], : x.shape[-1]])


def test_channels_come_first_in_maps_of_a_model_that_has_them_last() -> None:
    backbone = build_backbone(BackboneRecipe(SWIN, "none", None)).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), backbone.net(image), strict=True):
            torch.testing.assert_close(x, y.permute(0, 3, 1, 2))


def test_swin_shifts_its_windows_in_every_stage() -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(SWIN, "none", None))
    shifts = [backbone.net.get_submodule(f"layers_{n}").blocks[1].shift_size for n in range(4)]
    assert shifts == [(3, 3)] * 4


def test_an_odd_image_is_one_padded_with_the_mean() -> None:
    backbone = build_backbone(BackboneRecipe("convnext_atto", "none", None)).eval()
    image = torch.randn(1, 3, 65, 70)
    padded = torch.zeros(1, 3, 96, 96)
    padded[..., :65, :70] = image
    for x, y in zip(pyramid(backbone, image), pyramid(backbone, padded), strict=True):
        torch.testing.assert_close(x, y[..., : x.shape[2], : x.shape[3]])


def pyramid_error(name: str, stride: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        TimmPyramid(BackboneRecipe(name, "none", stride))
    message = str(caught.value)
    assert message.startswith(f"backbone {name!r}")
    return message


def test_a_model_that_cannot_be_dilated_lists_what_it_can() -> None:
    assert "Allowed for output_stride: null in YAML, None in Python: its own, 32." in pyramid_error(SWIN, 8)


def test_a_model_that_can_be_dilated_elsewhere_lists_where(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def only_sixteen(*args: object, output_stride: int = 32, **options: object) -> object:
        assert output_stride in (16, 32)
        return create(*args, output_stride=output_stride, **options)

    monkeypatch.setattr(timm, "create_model", only_sixteen)
    assert "Allowed for output_stride: 16, null in YAML, None in Python: its own, 32." in pyramid_error(
        "convnext_atto", 8
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_tiny_patch16_224", "has only 3 levels, gffnet needs four. Use one with a pyramid"),
        ("hiera_tiny_224", "takes images of the size it was trained with only"),
        ("efficientformer_l1", "takes images of the size it was trained with only"),
        ("inception_v4", "crops its maps at the border"),
    ],
)
def test_models_that_are_no_backbone(name: str, said: str) -> None:
    assert said in pyramid_error(name)


def test_no_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", refuse)
    assert "returns no feature maps" in pyramid_error("convnext_atto")


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 6), (5, 9)])
def test_pooling_is_average_pooling_in_ceil_mode(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(AvgPool2x2()(x), F.avg_pool2d(x, 2, ceil_mode=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 2), (8, 12), (7, 11), (9, 13), (10, 6)])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_dilated_pooling_sampled_is_the_strided_one(size: tuple[int, int], dilation: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    fine = DilatedAvgPool2x2(dilation)(x)
    assert fine.shape == x.shape
    coarse = AvgPool2x2()(x[..., ::dilation, ::dilation])
    torch.testing.assert_close(fine[..., :: 2 * dilation, :: 2 * dilation], coarse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [AvgPool2x2(), DilatedAvgPool2x2(2)])
def test_pooling_stays_channels_last(pool: torch.nn.Module) -> None:
    x = torch.randn(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    assert pool(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["resnet10t", "resnetaa50", "resnetblur18", "resnetrs50", "ecaresnet26t", "senet154"])
def test_relatives_of_resnet_are_resnets(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 8))
    assert isinstance(backbone, ResNet)
    assert backbone.strides == (4, 8, 8, 8)


def test_a_name_may_have_a_tag() -> None:
    with torch.device("meta"):
        assert build_backbone(BackboneRecipe("resnet50.tv_in1k", "none")).channels[-1] == 2048


def build_error(recipe: BackboneRecipe) -> str:
    with pytest.raises(UserError) as caught:
        build_backbone(recipe)
    return str(caught.value)


def test_an_unknown_name_suggests_the_nearest() -> None:
    message = build_error(BackboneRecipe("resnet_50"))
    assert "backbone 'resnet_50' is no model of timm" in message
    assert "Did you mean 'resnet50'?" in message


def test_an_unknown_tag_suggests_the_nearest() -> None:
    message = build_error(BackboneRecipe("resnet50.tv_in1"))
    assert "Did you mean 'tv_in1k'?" in message
    assert "a1_in1k" in message


def test_a_missing_file_is_found_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    assert "does not exist" in build_error(BackboneRecipe("resnet18", "nowhere.pth"))


def test_imagenet_weights_are_looked_up_under_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def pretrained_file(name: str) -> Path:
        asked.append(name)
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.bin")
        return tmp_path / "weights.bin"

    monkeypatch.setattr("gffnet.models.backbones.pretrained_file", pretrained_file)
    build_backbone(BackboneRecipe("test_resnet"))
    assert asked == ["test_resnet"]


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "densenet121", "test_byobnet"])
def test_a_single_value_per_channel_is_normalised_by_the_running_statistics(name: str) -> None:
    """In training as in evaluation; other maps by the statistics of the batch."""
    torch.manual_seed(0)
    backbone = randomized(build_backbone(BackboneRecipe(name, "none", None)))
    image = torch.randn(1, 3, 20, 20).double()
    expected = pyramid(backbone, image)
    assert expected[-1].shape[2:] == (1, 1)
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in (norms[0], norms[-1])]
    norms[-1].train()  # of the coarsest map
    for x, y in zip(pyramid(backbone, image), expected, strict=True):
        torch.testing.assert_close(x, y)
    pyramid(backbone.train(), image)
    assert torch.equal(norms[-1].running_mean, before[1])
    assert not torch.equal(norms[0].running_mean, before[0])


# Swin is not here: tracing its windows with free sizes takes many minutes.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride"),
    [
        *(("resnet18", 8), ("resnet18d", 8), ("densenet121", 8), ("test_convnext", None), ("efficientnet_b0", 8)),
        ("tf_efficientnet_lite0", 32),  # with the paddings of TensorFlow
    ],
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
