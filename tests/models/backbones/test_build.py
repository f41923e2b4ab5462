from pathlib import Path

import pytest
import timm
import torch
from timm.models import is_model_in_modules

from gffnet.errors import UserError
from gffnet.models import backbones as resnet
from gffnet.models import gffnet as build
from gffnet.models.backbones import TimmPyramid
from gffnet.models.gffnet import FAMILIES, build_backbone
from gffnet.recipe import BackboneRecipe


def test_every_row_names_a_module_of_timm() -> None:
    for module, _ in FAMILIES:
        assert any(is_model_in_modules(name, [module]) for name in timm.list_models())


@pytest.mark.parametrize("name", ["resnet10t", "resnetaa50", "resnetblur18", "resnetrs50", "ecaresnet26t", "senet154"])
def test_kin_of_resnet_are_resnets(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneRecipe(name, "none", 8))
    assert isinstance(backbone, resnet.ResNet)
    assert backbone.strides == (4, 8, 8, 8)


def test_other_models_are_timm_pyramids() -> None:
    with torch.device("meta"):
        assert isinstance(build_backbone(BackboneRecipe("regnety_002", "none", 8)), TimmPyramid)


def test_a_name_may_have_a_tag() -> None:
    with torch.device("meta"):
        assert build_backbone(BackboneRecipe("resnet50.tv_in1k", "none")).widths[-1] == 2048


def error(recipe: BackboneRecipe) -> str:
    with pytest.raises(UserError) as caught:
        build_backbone(recipe)
    return str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    message = error(BackboneRecipe("resnet_50"))
    assert "backbone 'resnet_50' is no model of timm" in message
    assert "Did you mean 'resnet50'?" in message


def test_an_unknown_tag_is_answered_with_the_nearest() -> None:
    message = error(BackboneRecipe("resnet50.tv_in1"))
    assert "Did you mean 'tv_in1k'?" in message
    assert "a1_in1k" in message


def test_no_channels() -> None:
    assert "in_channels is 0" in error(BackboneRecipe("resnet18", "none", in_channels=0))


def test_a_missing_file_is_found_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    assert "does not exist" in error(BackboneRecipe("resnet18", "nowhere.pth"))


def test_imagenet_weights_are_looked_up_under_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def pretrained_file(name: str) -> Path:
        asked.append(name)
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.bin")
        return tmp_path / "weights.bin"

    monkeypatch.setattr(build, "pretrained_file", pretrained_file)
    build_backbone(BackboneRecipe("test_resnet"))
    assert asked == ["test_resnet"]
