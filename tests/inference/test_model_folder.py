"""The model folder: what is saved comes back, and nothing else is taken for it."""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gffnet.errors import UserError
from gffnet.inference.model_io import CONFIG, WEIGHTS, ModelConfig, find_model, hash_weights, load_model, save_model
from gffnet.inference.predictor import load
from gffnet.recipe import EvaluationRecipe, ModelRecipe
from tests import tiny
from tests.models.stub import StubBackbone


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; read only."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, tiny.network(tiny.recipe()), tiny.config(tiny.recipe()))
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((saved / name).read_bytes())
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def bits(network: nn.Module) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {
        key: (value.dtype, tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes())
        if value.ndim
        else (value.dtype, (), bytes(str(value.item()), "ascii"))
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("model", [tiny.PSPNET, tiny.GFFNET], ids=["pspnet", "gffnet"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, model: dict[str, Any]) -> None:
    network = tiny.network(tiny.recipe(model))
    with torch.no_grad():
        odd = network.head.classifier.weight.view(-1)
        odd[:4] = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-42])
    save_model(tmp_path, network, tiny.config(tiny.recipe(model)))
    loaded, _ = load_model(tmp_path)
    assert bits(loaded) == bits(network)
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())  # it can be trained on


def test_a_network_in_channels_last_and_in_training_is_saved_alike(saved: Path, tmp_path: Path) -> None:
    network = tiny.network(tiny.recipe()).to(memory_format=torch.channels_last).train()
    save_model(tmp_path, network, tiny.config(tiny.recipe()))
    assert network.training
    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_the_config_comes_back_whole(tmp_path: Path) -> None:
    base = tiny.config(tiny.recipe())
    config = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, context="none", dropout=0.25, mean=(1.0, 2.0, 3.5)),
        classes=("street, wet", "tree [old]"),
        palette=((1, 2, 3), (255, 0, 7)),
        evaluation=EvaluationRecipe((32, 48), 0.5, (0.75, 1.0), True),
        learned_from=(40, 56),
    )
    network = tiny.network(dataclasses.replace(tiny.recipe(), model=config.model), 2)
    save_model(tmp_path, network, config)
    loaded, read = load_model(tmp_path)
    assert read == config
    assert loaded.mean == (1.0, 2.0, 3.5)
    assert loaded.head.classifier.out_channels == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]


def test_saving_again_replaces(saved: Path, copy: Path) -> None:
    other = tiny.network(tiny.recipe(), seed=1)
    save_model(copy, other, tiny.config(tiny.recipe()))
    assert bits(load_model(copy)[0]) == bits(other)
    assert bits(load_model(saved)[0]) != bits(other)


def test_a_run_folder_leads_to_its_model(saved: Path) -> None:
    run = saved.parent
    assert find_model(saved) == find_model(run) == find_model(str(run)) == saved
    assert bits(load_model(str(run))[0]) == bits(load_model(saved)[0])


def test_the_weights_of_the_backbone_are_not_fetched_again(tmp_path: Path) -> None:
    """The config names where the backbone's weights came from, which may be gone."""
    recipe = tiny.recipe()
    gone = dataclasses.replace(recipe.model.backbone, weights=str(tmp_path / "gone.pth"))
    config = dataclasses.replace(tiny.config(recipe), model=dataclasses.replace(recipe.model, backbone=gone))
    save_model(tmp_path, tiny.network(recipe), config)
    loaded, read = load_model(tmp_path)
    assert bits(loaded) == bits(tiny.network(recipe))
    assert read.model.backbone.weights == str(tmp_path / "gone.pth")


class WithTable(StubBackbone):
    """A backbone with a constant that is computed when it is built, and not stored, as Swin's are."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(5.0), persistent=False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [x + self.table.sum() for x in super().forward(image)]


def test_constants_that_are_not_stored_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.models.gffnet.build_backbone", lambda recipe: WithTable())
    network = tiny.network(tiny.recipe())
    save_model(tmp_path, network, tiny.config(tiny.recipe()))
    loaded, _ = load_model(tmp_path)
    image = torch.from_numpy(tiny.picture(0)).permute(2, 0, 1)[None]
    torch.testing.assert_close(loaded(image).logits, network(image).logits)


# What is not a model


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model .*/none does not exist\. Give a run folder, such as runs/"):
        load_model(tmp_path / "none")


@pytest.mark.parametrize("file", [False, True])
def test_not_a_model(tmp_path: Path, file: bool) -> None:
    path = tmp_path / "thing"
    path.write_text("") if file else path.mkdir()
    with pytest.raises(UserError, match=r"thing holds no config\.json, nor does .*thing/model: it is no run or model"):
        load_model(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid"),
        ('{"model": {', "not valid"),
        ("null", "must hold `key: value` lines, got None"),
        ("[1]", "must hold `key: value` lines"),
        ("{}", "model is missing"),
        ('{"model": {}}', "classes is missing"),
    ],
)
def test_a_damaged_config(copy: Path, text: str, message: str) -> None:
    (copy / CONFIG).write_text(text)
    with pytest.raises(UserError, match=rf"model/config\.json: [^\n]*{message}"):
        load_model(copy)


def test_a_config_that_is_no_text(copy: Path) -> None:
    (copy / CONFIG).write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"config\.json: not valid"):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(pallete=[]), r"pallete is unknown\. Did you mean 'palette'\?"),
        (lambda c: c["model"].update(fusoin="gff"), r"model\.fusoin is unknown\. Did you mean 'fusion'\?"),
        (lambda c: c["model"].update(fusion="gfff"), r"model\.fusion: expected one of .* got 'gfff'"),
        (lambda c: c["model"]["backbone"].update(name="resnt18"), "backbone 'resnt18' is no model of timm"),
        (lambda c: c["evaluation"].update(scales=[0]), r"evaluation\.scales: expected"),
        (lambda c: c.update(classes=[1, 2]), "classes: expected a list of texts"),
        (lambda c: c.update(palette=[[0, 0]] * 11), "palette: expected"),
        (lambda c: c.pop("palette"), "palette is missing"),
        (lambda c: c.update(palette=[[0, 0, 0]]), "it has 11 classes and 1 colours: one each"),
        (lambda c: c.update(palette=[[0, 0, 256]] * 11), r"palette: colour \(0, 0, 256\) is not in 0\.\.255"),
        (lambda c: c.update(classes=[], palette=[]), "it has 0 classes and 0 colours"),
        (lambda c: c.update(learned_from=[360, 0]), r"learned_from \[360, 0\] is no height and width"),
    ],
)
def test_a_config_of_another_version_or_mistyped(
    copy: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(copy, change)
    with pytest.raises(UserError, match=message) as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)


def test_keys_with_defaults_may_be_missing(copy: Path) -> None:
    keys = ("evaluation", "learned_from")
    edit(copy, lambda config: ([config.pop(key) for key in keys], config["model"].pop("pyramid_kernel")))
    _, config = load_model(copy)
    assert config.learned_from is None
    assert (config.evaluation, config.model.pyramid_kernel) == (EvaluationRecipe(), ModelRecipe().pyramid_kernel)


def test_missing_weights(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing; a model folder has it beside config\.json"):
        load_model(copy)


@pytest.mark.parametrize("damage", ["empty", "short", "long", "garbage", "folder"])
def test_damaged_weights(copy: Path, damage: str) -> None:
    path = copy / WEIGHTS
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "short": whole[:-100], "long": whole + b"x", "garbage": b"\xff" * 500}[damage])
    with pytest.raises(UserError, match=r"model\.safetensors: not a whole safetensors file \([^\n]+\); copy or train"):
        load_model(copy)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_no_file_can_run_code(copy: Path, tmp_path: Path, write: Callable[[Any, Any], None]) -> None:
    target = tmp_path / "exploded"
    for name in (WEIGHTS, CONFIG):
        with (copy / name).open("wb") as file:
            write({"weights": Bomb(target)}, file)
        with pytest.raises(UserError):
            load_model(copy)
        assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # the bomb is a bomb


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["model"].update(fusion="gff"),
        lambda c: c["model"].update(context="none"),
        lambda c: c["model"]["backbone"].update(name="resnet18"),
        lambda c: c.update(classes=c["classes"][:-1], palette=c["palette"][:-1]),
    ],
    ids=["fusion", "context", "backbone", "classes"],
)
def test_weights_of_another_network(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(copy, change)
    with pytest.raises(UserError, match=r"these weights are not of the network in config\.json: ") as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_load_opens_it_for_prediction(saved: Path) -> None:
    predictor = load(saved, "cpu", "float32")
    assert predictor.config == tiny.config(tiny.recipe())
    image = tiny.picture(3)
    assert (predictor.predict(image) == tiny.predictor().predict(image)).all()


def test_a_model_config_is_frozen(saved: Path) -> None:
    config: ModelConfig = load_model(saved)[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.recipe = "other"  # type: ignore[misc]


def test_the_hash_depends_on_weights_alone(tmp_path: Path) -> None:
    recipe = tiny.recipe()
    network = tiny.network(recipe)
    before = hash_weights(network)
    save_model(tmp_path, network, tiny.config(recipe))
    assert (
        hash_weights(load_model(tmp_path)[0]) == before == hash_weights(network.to(memory_format=torch.channels_last))
    )
    assert len(before) == 64
    assert before != hash_weights(tiny.network(recipe, seed=1))
    with torch.no_grad():
        network.head.classifier.bias[0] += 1e-3
    assert hash_weights(network) != before
