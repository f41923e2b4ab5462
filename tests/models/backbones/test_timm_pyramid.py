import pytest
import timm
import torch

from gffnet.errors import UserError
from gffnet.models.backbones import TimmPyramid
from gffnet.models.gffnet import build_backbone
from gffnet.recipe import BackboneRecipe

from .contract import BackboneContract, pyramid

SWIN = "swin_tiny_patch4_window7_224"


class TestConvNeXt(BackboneContract):
    recipe = BackboneRecipe("convnext_atto", "none", None)
    widths = (40, 80, 160, 320)
    strides = (4, 8, 16, 32)


class TestEfficientNetDilated(BackboneContract):
    recipe = BackboneRecipe("efficientnet_b0", "none", 16)
    widths = (24, 40, 112, 320)
    strides = (4, 8, 16, 16)


class TestMobileNetV3(BackboneContract):
    recipe = BackboneRecipe("mobilenetv3_small_050", "none", 32)
    widths = (8, 16, 24, 288)
    strides = (4, 8, 16, 32)


class TestSwin(BackboneContract):
    recipe = BackboneRecipe(SWIN, "none", None)
    widths = (96, 192, 384, 768)
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
        (width, -(-65 // stride), -(-97 // stride)) for width, stride in zip(backbone.widths, strides, strict=True)
    ]


def test_maps_are_timms_where_no_padding_is_needed() -> None:
    backbone = build_backbone(BackboneRecipe("convnext_atto", "none", None)).eval()
    reference = timm.create_model("convnext_atto", features_only=True).eval()
    reference.load_state_dict(backbone.net.state_dict())
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), reference(image), strict=True):
            torch.testing.assert_close(x, y)


def test_channels_come_first_in_maps_of_a_model_that_has_them_last() -> None:
    backbone = build_backbone(BackboneRecipe(SWIN, "none", None)).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for x, y in zip(pyramid(backbone, image), backbone.net(image), strict=True):
            torch.testing.assert_close(x, y.permute(0, 3, 1, 2))


def test_swin_shifts_its_windows_in_every_stage() -> None:
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


def error(name: str, stride: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        TimmPyramid(BackboneRecipe(name, "none", stride))
    message = str(caught.value)
    assert message.startswith(f"backbone {name!r}")
    return message


def test_a_model_that_cannot_be_dilated_says_what_it_can() -> None:
    assert "output_stride to null; null is its own, 32" in error(SWIN, 8)


def test_a_model_that_can_be_dilated_elsewhere_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def only_sixteen(*args: object, output_stride: int = 32, **options: object) -> object:
        assert output_stride in (16, 32)
        return create(*args, output_stride=output_stride, **options)

    monkeypatch.setattr(timm, "create_model", only_sixteen)
    assert "output_stride to 16 or null; null is its own, 32" in error("convnext_atto", 8)


def test_fewer_than_four_levels() -> None:
    assert "only 3 levels" in error("nest_tiny")
    assert "only 3 levels" in error("vit_tiny_patch16_224")


@pytest.mark.parametrize("name", ["hiera_tiny_224", "maxvit_tiny_tf_224", "efficientformer_l1"])
def test_one_size_of_image_only(name: str) -> None:
    assert "of the size it was trained with only" in error(name)


def test_maps_off_their_grid() -> None:
    assert "cuts its maps at the border" in error("inception_v4")


def test_no_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", refuse)
    assert "gives no feature maps" in error("convnext_atto")
