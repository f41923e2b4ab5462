import pytest
import timm
import torch
import torchvision

from gffnet.models.weights import KNOWN, lookalike


def state(name: str, classes: int = 1000) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=classes).state_dict()


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50d", "resnet101", "densenet161", "convnext_tiny", "efficientnet_b0"]
)
@pytest.mark.parametrize("classes", [0, 19])
def test_a_common_model_is_known_with_and_without_its_classifier(name: str, classes: int) -> None:
    assert lookalike(state(name, classes)) == name


def test_torchvisions_resnet_is_known() -> None:
    with torch.device("meta"):
        assert lookalike(torchvision.models.resnet34().state_dict()) == "resnet34"


def test_counters_do_not_matter() -> None:
    assert lookalike({k: v for k, v in state("resnet18").items() if "num_batches" not in k}) == "resnet18"


def test_something_else_is_not_guessed() -> None:
    assert lookalike({"a.weight": torch.zeros(3)}) is None
    assert lookalike({k: v for k, v in state("resnet50").items() if "layer4" not in k}) is None
    assert lookalike({**state("resnet18"), **{f"decoder.{n}": torch.zeros(1) for n in range(9)}}) is None


def test_every_known_model_has_its_familys_sign() -> None:
    for sign, names in KNOWN:
        assert sign in state(names[0])
        assert all(timm.is_model(name) for name in names)
