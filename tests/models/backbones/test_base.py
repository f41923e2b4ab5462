import pytest
import torch

from gffnet.models.backbones import Backbone, create, four
from gffnet.recipe import BackboneRecipe


def test_the_contract_itself_computes_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Backbone()(torch.zeros(1, 3, 8, 8))


def test_create_makes_timms_model_with_the_recipes_channels() -> None:
    with torch.device("meta"):
        net = create(BackboneRecipe("test_resnet", in_channels=5), None, num_classes=7)
    assert net.conv1[0].in_channels == 5
    assert net.fc.out_features == 7


def test_four_takes_four() -> None:
    assert four([1, 2, 3, 4]) == (1, 2, 3, 4)
    with pytest.raises(ValueError):
        four([1, 2, 3])
