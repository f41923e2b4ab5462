"""Model folders, weights files and the model that ships: what is saved is loaded, and nothing else is."""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch import nn

from gffnet.data.camvid import CAMVID, CamVid
from gffnet.data.dataset import IGNORE
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.inference.predictor import load
from gffnet.models import model_io
from gffnet.models.gffnet import load_model, save_model
from gffnet.models.model_card import SECTIONS
from gffnet.models.model_io import (
    CONFIG,
    INDEX,
    WEIGHTS,
    StateDict,
    WeightFormat,
    find_model,
    hash_weights,
    read_weights,
    rounded,
    shipped_model,
    write_weights,
)
from gffnet.recipe import EvaluationRecipe, ModelRecipe, load_recipe
from tests import tiny
from tests.data.trees import real
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


def test_a_network_in_channels_last_and_in_training_is_saved_the_same(saved: Path, tmp_path: Path) -> None:
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
    assert read.model.backbone.weights == "gone.pth", "by name: folders are not published"


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
    with pytest.raises(UserError, match=r"model .*/none does not exist\. Give a run or model folder"):
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
        ("\udcff{}", "not valid"),
        ('{"model": {', "not valid"),
        ("null", "must hold `key: value` lines, got None"),
        ("[1]", "must hold `key: value` lines"),
        ("{}", "model is missing"),
        ('{"model": {}}', "classes is missing"),
    ],
)
def test_a_damaged_config(copy: Path, text: str, message: str) -> None:
    (copy / CONFIG).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"model/config\.json: [^\n]*{message}"):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(pallete=[]), r"pallete is unknown\. Did you mean palette\?"),
        (lambda c: c["model"].update(fusoin="gff"), r"model\.fusoin is unknown\. Did you mean model\.fusion\?"),
        (lambda c: c["model"].update(fusion="gfff"), r"model\.fusion: must be one of .* got 'gfff'"),
        (lambda c: c["model"]["backbone"].update(name="resnt18"), "backbone 'resnt18' is no model of timm"),
        (lambda c: c["evaluation"].update(scales=[0]), r"evaluation\.scales\[0\]: must be greater than 0"),
        (lambda c: c.update(classes=[1, 2]), r"classes\[0\]: must be a valid string, got 1"),
        (lambda c: c.update(palette=[[0, 0]] * 11), r"palette\[0\]\[2\] is missing"),
        (lambda c: c.pop("palette"), "palette is missing"),
        (lambda c: c.update(palette=[[0, 0, 0]]), "it has 11 classes and 1 colors: one each"),
        (lambda c: c.update(palette=[[0, 0, 256]] * 11), r"palette: color \(0, 0, 256\) is not in 0\.\.255"),
        (lambda c: c.update(classes=[], palette=[]), "it has 0 classes and 0 colors"),
        (lambda c: c.update(learned_from=[360, 0]), r"learned_from \[360, 0\] is not a height and width"),
    ],
)
def test_an_invalid_config(copy: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
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
    with pytest.raises(UserError, match=r"model\.safetensors is missing\. Copy or fetch"):
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


# Weights files

KERNEL = (16, 8, 3, 3)


def state(seed: int = 0) -> StateDict:
    """Twelve kernels of 4608 bytes, with a vector and a counter each."""
    random = torch.Generator().manual_seed(seed)
    weights = StateDict()
    for number in range(12):
        weights[f"layer{number}.weight"] = torch.randn(KERNEL, generator=random)
        weights[f"layer{number}.variance"] = torch.rand(16, generator=random) * 1e6
        weights[f"layer{number}.count"] = torch.tensor(number)
    return weights


def same_state(a: StateDict, b: StateDict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file(tmp_path: Path) -> None:
    write_weights(tmp_path, state())
    assert names(tmp_path) == [WEIGHTS]
    assert same_state(read_weights(tmp_path), state())


def test_shards_hold_all_and_none_is_too_large(tmp_path: Path) -> None:
    write_weights(tmp_path, state(), max_shard_size="15KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) >= 5
    assert max(path.stat().st_size for path in shards) <= 15_000
    assert [path.name for path in shards] == [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]
    index = json.loads((tmp_path / INDEX).read_text())
    found = {}
    for path in shards:
        with safetensors.safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path.name)
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == 12 * (16 * 8 * 9 * 4 + 16 * 4 + 8)
    assert same_state(read_weights(tmp_path), state())


def test_all_in_one_shard_is_one_file(tmp_path: Path) -> None:
    write_weights(tmp_path, state(), max_shard_size="1 MB")
    assert names(tmp_path) == [WEIGHTS]


def test_other_shards_take_the_place_of_those_before(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("")
    for seed, limit in enumerate(("15KB", None, "25KB", "15KB", "25KB", None)):
        write_weights(tmp_path, state(seed), max_shard_size=limit)
        assert same_state(read_weights(tmp_path), state(seed))
        assert (WEIGHTS in names(tmp_path)) == (limit is None) == (INDEX not in names(tmp_path))
    assert names(tmp_path) == ["model.onnx", WEIGHTS]


@pytest.mark.parametrize(("kind", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_kernels_are_rounded_to_the_nearest_and_vectors_are_exact(tmp_path: Path, kind: str, bits: int) -> None:
    write_weights(tmp_path, state(), kind, "10KB")  # type: ignore[arg-type]
    read = model_io.read_weights(tmp_path)
    for name, value in state().items():
        assert read[name].dtype == value.dtype
        if value.ndim < 2:
            assert torch.equal(read[name], value)
            continue
        exact = value.double().numpy()
        step = np.exp2(np.maximum(np.floor(np.log2(np.abs(exact))), -14.0) - bits)  # between neighbours of the format
        assert (np.abs(read[name].double().numpy() - exact) <= step / 2).all()
        assert not torch.equal(read[name], value)
    sizes = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert sizes < 0.65 * sum(value.nbytes for value in state().values())


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_rounded_weights_are_those_that_come_back(tmp_path: Path, kind: WeightFormat) -> None:
    write_weights(tmp_path, state(), kind)
    read, ours = read_weights(tmp_path), rounded(state(), kind)
    assert read.keys() == ours.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, read[name], rtol=0, atol=0)


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    large = {"head.weight": torch.tensor([[1e5, 1.0]])}
    with pytest.raises(UserError, match=r"weight 'head\.weight' has values above 65504.*Choose bfloat16"):
        write_weights(tmp_path, large, "float16")
    assert names(tmp_path) == []
    write_weights(tmp_path, large, "bfloat16")
    odd = {"head.weight": torch.tensor([[float("inf"), float("nan")]])}
    write_weights(tmp_path, odd, "float16")  # they were so before
    assert not read_weights(tmp_path)["head.weight"].isfinite().any()


def test_a_weight_that_no_shard_can_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_shard_size 10KB: weight 'big' alone has 4\.0 MB.*Give 5MB or more"):
        model_io.write_weights(
            tmp_path, {"small": torch.zeros(3), "big": torch.zeros(1000, 1000)}, max_shard_size="10KB"
        )
    assert names(tmp_path) == []


# Incomplete weights


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_weights(tmp_path, state(), max_shard_size="15KB")
    return tmp_path


def first(folder: Path) -> Path:
    return sorted(folder.glob("model-*"))[0]


def message(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_weights(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_shard(sharded: Path) -> None:
    first(sharded).unlink()
    assert "model-00001-of-00012.safetensors is missing" in message(sharded)


def test_a_damaged_shard(sharded: Path) -> None:
    first(sharded).write_bytes(first(sharded).read_bytes()[:-1])
    assert "model-00001-of-00012.safetensors: not a whole safetensors file" in message(sharded)


def test_a_shard_of_another_model(sharded: Path) -> None:
    second = sorted(sharded.glob("model-*"))[1]
    first(sharded).write_bytes(second.read_bytes())
    assert "is not both in this shard and in model.safetensors.index.json" in message(sharded)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "not valid") for text in ("", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', "\udcff")),
        ('{"weight_map": {}}', "expected shards such as model-00001-of-00002.safetensors, got none"),
        *(
            (json.dumps({"weight_map": {"a": place}}), f"such as model-00001-of-00002.safetensors, got {place!r}")
            for place in ("../model-00001-of-00002.safetensors", "/etc/passwd", "model.bin", "x.safetensors")
        ),
    ],
)
def test_a_damaged_index(sharded: Path, text: str, reason: str) -> None:
    """An index that leads out of the folder among them."""
    (sharded / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    assert f"model index {sharded / INDEX}: " in message(sharded)
    assert reason in message(sharded)


# The model that ships


def test_its_files_are_small_and_it_has_a_card_and_a_license_of_its_own() -> None:
    folder = shipped_model()
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert sum(sizes) <= 8_000_000
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert "CC BY-NC 4.0" in (folder / "LICENSE").read_text(encoding="utf-8")
    for heading in (*SECTIONS, "Limits"):
        assert f"\n## {heading}\n" in card.text


def test_it_is_the_network_of_its_recipe() -> None:
    network, config = load_model(shipped_model())
    assert config.recipe == "camvid/long/gffnet_lite0"
    assert config.model == load_recipe(config.recipe).model
    assert config.classes == CAMVID.names
    assert config.learned_from == (360, 480)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(3.84e6, rel=1e-3)


def test_it_labels_photographs_of_a_car_and_of_a_phone() -> None:
    predictor, val = load(), CamVid(real("CamVid"), "val")
    for index in range(0, len(val), 25):
        labels = val[index].labels.numpy()
        assert (predictor.predict(val[index].image) == labels)[labels != IGNORE].mean() > 0.8
    sample = val[39]
    photograph = Image.fromarray(sample.image.permute(1, 2, 0).numpy()).resize((2400, 1800))
    labels = np.asarray(Image.fromarray(sample.labels.numpy()).resize((2400, 1800), Image.Resampling.NEAREST))
    found = predictor.predict(photograph)
    assert (found == labels)[labels != IGNORE].mean() > 0.9


@pytest.mark.slow
def test_its_card_has_the_score_that_it_gets() -> None:
    predictor = load()
    scores = score_dataset(
        predictor, CamVid(real("CamVid"), "val"), "camvid", "val", predictor.config.evaluation, details=False
    ).scores
    card = ModelCard.load(shipped_model() / "README.md").data.eval_results[0]
    assert (card.metric_name, card.dataset_split) == ("mIoU", "val")
    assert scores.miou == pytest.approx(card.metric_value, abs=5e-4)  # rounding differs between processors


def test_it_is_opened_if_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "model", tiny.network(recipe), tiny.config(recipe))
    monkeypatch.setattr(model_io, "SHIPPED", tmp_path / "model")
    image = tiny.picture(0)
    found, expected = (load(model, "cpu", "float32").predict(image) for model in (None, tmp_path / "model"))
    np.testing.assert_array_equal(found, expected)


def test_an_installation_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_io, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no model ships with this version\. Train one, and name"):
        load()


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    weight = torch.rand(3, 3)
    model_io.write_weights(tmp_path, {"one": weight, "other": weight})
    read = model_io.read_weights(tmp_path)
    assert torch.equal(read["one"], weight)
    assert torch.equal(read["other"], weight)
