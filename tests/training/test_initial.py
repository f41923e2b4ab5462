"""What a start from a trained run takes over, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gffnet.errors import UserError
from gffnet.inference.model_folder import save_model
from gffnet.models.network import SceneParser
from gffnet.training.initial import start_from
from tests import tiny


def trained(folder: Path, model: dict[str, Any], classes: int = 11) -> SceneParser:
    recipe = tiny.recipe(model)
    network = tiny.network(recipe, classes, seed=1)
    config = tiny.config(recipe)
    names = tuple(f"class {i}" for i in range(classes))
    save_model(
        folder / "model", network, type(config)(**{**vars(config), "classes": names, "palette": ((0, 0, 0),) * classes})
    )
    return network


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_backbone_and_context_are_taken_over_and_the_rest_is_fresh(tmp_path: Path) -> None:
    source = trained(tmp_path, tiny.PSPNET)
    network = tiny.network(tiny.recipe(tiny.GFFNET), seed=2)
    head = {key: value.clone() for key, value in network.head.state_dict().items()}
    taken = start_from(tmp_path, network, whole=False)
    assert taken.loaded == ("backbone", "context")
    assert set(taken.fresh) == {"fusion", "pyramid", "head", "auxiliary head"}
    assert str(taken) == f"backbone, context; fresh: {', '.join(taken.fresh)}"
    assert equal(network.backbone, source.backbone)
    assert equal(network.context, source.context)
    assert all(torch.equal(value, network.head.state_dict()[key]) for key, value in head.items())


def test_the_whole_network_but_not_a_head_of_other_classes(tmp_path: Path) -> None:
    source = trained(tmp_path, tiny.GFFNET)
    network = tiny.network(tiny.recipe(tiny.GFFNET), seed=2)
    assert start_from(tmp_path, network, whole=True).fresh == ("auxiliary head",)
    assert equal(network, source)
    other = tiny.network(tiny.recipe(tiny.GFFNET), classes=7, seed=2)
    assert start_from(tmp_path, other, whole=True).fresh == ("head (for 7 classes instead of 11)", "auxiliary head")
    assert equal(other.pyramid, source.pyramid)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, {**tiny.PSPNET, "context": "none"})
    with pytest.raises(UserError, match=r"init_from .*context does not fit"):
        start_from(tmp_path, tiny.network(tiny.recipe(tiny.PSPNET)), whole=False)
    trained(tmp_path / "psp", tiny.PSPNET)
    with pytest.raises(UserError, match=r"fusion does not fit this recipe \(the run has none\)"):
        start_from(tmp_path / "psp", tiny.network(tiny.recipe(tiny.GFFNET)), whole=True)
    with pytest.raises(UserError, match="does not exist"):
        start_from(tmp_path / "none", tiny.network(tiny.recipe(tiny.PSPNET)), whole=False)
