"""What is initialised from a trained run, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet.errors import UserError
from gffnet.models.gffnet import SegmentationModel, load_model, save_model
from gffnet.models.ops import ConcatConv2d
from gffnet.training.finetune import initialize_from
from gffnet.training.train import train
from tests import tiny

CLASSES = tuple(f"class {i}" for i in range(11))


def trained(folder: Path, model: dict[str, Any], names: tuple[str, ...] = CLASSES) -> SegmentationModel:
    recipe = tiny.recipe(model)
    network = tiny.network(recipe, len(names), seed=1)
    config = tiny.config(recipe)
    palette = ((0, 0, 0),) * len(names)
    save_model(folder / "model", network, type(config)(**{**vars(config), "classes": names, "palette": palette}))
    return network


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_backbone_and_context_are_loaded_and_the_rest_is_fresh(tmp_path: Path) -> None:
    source = trained(tmp_path, tiny.PSPNET)
    network = tiny.network(tiny.recipe(tiny.GFFNET), seed=2)
    head = {key: value.clone() for key, value in network.head.state_dict().items()}
    loaded = initialize_from(tmp_path, network, CLASSES, whole=False)
    assert loaded == "backbone, context; fresh: fusion, pyramid, head, auxiliary head"
    assert equal(network.backbone, source.backbone)
    assert equal(network.context, source.context)
    assert all(torch.equal(value, network.head.state_dict()[key]) for key, value in head.items())


def test_the_whole_network(tmp_path: Path) -> None:
    source = trained(tmp_path, tiny.GFFNET)
    network = tiny.network(tiny.recipe(tiny.GFFNET), seed=2)
    loaded = initialize_from(tmp_path, network, CLASSES, whole=True)
    assert loaded == "backbone, context, fusion, pyramid, head; fresh: auxiliary head"
    assert equal(network, source)


def test_the_classifier_goes_by_the_names_of_classes(tmp_path: Path) -> None:
    """Other classes, one more, and two that both have, in another order."""
    source = trained(tmp_path, tiny.GFFNET, ("road", "sky", "tree"))
    names = ("car", "tree", "road", "pole")
    network = tiny.network(tiny.recipe(tiny.GFFNET), len(names), seed=2)
    before = {key: value.clone() for key, value in network.head.classifier.state_dict().items()}
    loaded = initialize_from(tmp_path, network, names, whole=True)
    assert loaded == (
        "backbone, context, fusion, pyramid, head for tree, road; fresh: head for car, pole, auxiliary head"
    )
    assert equal(network.pyramid, source.pyramid)
    for key, value in network.head.classifier.state_dict().items():
        theirs = source.head.classifier.state_dict()[key]
        assert torch.equal(value[1], theirs[2])
        assert torch.equal(value[2], theirs[0])
        assert torch.equal(value[[0, 3]], before[key][[0, 3]])


def test_a_classifier_of_other_classes_starts_fresh(tmp_path: Path) -> None:
    """As many classes, none of the same name."""
    trained(tmp_path, tiny.GFFNET)
    names = tuple(f"other {i}" for i in range(11))
    network = tiny.network(tiny.recipe(tiny.GFFNET), seed=2)
    before = {key: value.clone() for key, value in network.head.state_dict().items()}
    loaded = initialize_from(tmp_path, network, names, whole=True)
    assert loaded == (
        "backbone, context, fusion, pyramid; fresh: head for other 0, other 1, other 2, other 3, other 4 and 6 more "
        "classes, auxiliary head"
    )
    assert all(torch.equal(value, before[key]) for key, value in network.head.state_dict().items())


@pytest.mark.parametrize("name", ["Tree", "tree ", " TREE"])
def test_a_class_that_is_spelled_otherwise(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, tiny.GFFNET, ("road", "sky", "tree"))
    network = tiny.network(tiny.recipe(tiny.GFFNET), 3, seed=2)
    with caplog.at_level("WARNING", logger="gffnet"):
        initialize_from(tmp_path, network, ("road", "sky", name), whole=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"the head for class {name!r} is fresh: the run calls it 'tree', and what is loaded goes by the same name. "
        "Give it that name, or train on."
    ]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, {**tiny.PSPNET, "context": "none"})
    with pytest.raises(UserError, match=r"init_from .*context does not fit"):
        initialize_from(tmp_path, tiny.network(tiny.recipe(tiny.PSPNET)), CLASSES, whole=False)
    trained(tmp_path / "psp", tiny.PSPNET)
    with pytest.raises(UserError, match=r"fusion does not fit this recipe \(the run has none\)"):
        initialize_from(tmp_path / "psp", tiny.network(tiny.recipe(tiny.GFFNET)), CLASSES, whole=True)
    trained(tmp_path / "wide", {**tiny.GFFNET, "dense_pyramid": "none"})
    narrow = tiny.network(tiny.recipe({**tiny.GFFNET, "dense_pyramid": "none"}))
    narrow.head.classifier = ConcatConv2d([64], 11, 1, bias=True)
    with pytest.raises(UserError, match=r"head does not fit this recipe \(it takes \d+ channels instead of 64\)"):
        initialize_from(tmp_path / "wide", narrow, CLASSES, whole=True)
    with pytest.raises(UserError, match="does not exist"):
        initialize_from(tmp_path / "none", tiny.network(tiny.recipe(tiny.PSPNET)), CLASSES, whole=False)


def test_a_run_that_is_initialised_normalises_as_the_one_before(tmp_path: Path, camvid: Path) -> None:
    mean = [100.0, 101.0, 102.0]
    before = tiny.recipe({**tiny.PSPNET, "mean": mean}, iterations=2, validate_every=2)
    first = train(before, camvid, tmp_path / "first", progress=False)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**_without_inputs(tiny.recipe().to_mapping())}))
    changes = [f"training.init_from={first}", "training.iterations=1", "training.validate_every=1"]
    second = train(tmp_path / "tiny.yaml", camvid, tmp_path / "second", overrides=changes, progress=False)
    assert list(load_model(second)[1].model.mean) == mean


def _without_inputs(mapping: dict[str, Any]) -> dict[str, Any]:
    """A recipe that leaves mean and standard deviation open."""
    return {**mapping, "model": {key: value for key, value in mapping["model"].items() if key not in {"mean", "std"}}}
