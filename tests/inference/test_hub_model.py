"""The network with its config: what is saved is a model folder, and any MODEL can be opened."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, ModelHubMixin

import gffnet
from gffnet.errors import UserError
from gffnet.inference.model_io import CONFIG, hash_weights, load_model, save_model
from gffnet.inference.pretrained import PretrainedModel
from gffnet.models.gffnet import SegmentationModel
from tests import tiny
from tests.inference.fake_hub import FakeHub, point_to, running

IMAGE = torch.from_numpy(tiny.picture(5)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def trained() -> PretrainedModel:
    recipe = tiny.recipe(tiny.GFFNET)
    return PretrainedModel(tiny.network(recipe), tiny.config(recipe))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(FakeHub()) as fake:
        point_to(fake.endpoint, str(tmp_path / "cache"), monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield fake


@torch.inference_mode()
def logits(network: Any) -> torch.Tensor:
    out: torch.Tensor = network(IMAGE).logits
    return out


def test_it_is_the_network_and_a_model_of_the_hub(trained: PretrainedModel) -> None:
    assert gffnet.PretrainedModel is PretrainedModel
    assert isinstance(trained, SegmentationModel)
    assert isinstance(trained, ModelHubMixin)
    plain = tiny.network(tiny.recipe(tiny.GFFNET))
    assert trained.state_dict().keys() == plain.state_dict().keys()
    assert hash_weights(trained) == hash_weights(plain)
    torch.testing.assert_close(logits(trained), logits(plain))
    assert not trained.training


@pytest.mark.parametrize("model", [tiny.PSPNET, tiny.GFFNET], ids=["pspnet", "gffnet"])
def test_what_it_saves_any_command_opens(model: dict[str, Any], tmp_path: Path) -> None:
    recipe = tiny.recipe(model)
    PretrainedModel(tiny.network(recipe), tiny.config(recipe)).save_pretrained(tmp_path)
    network, config = load_model(tmp_path)
    assert config == tiny.config(recipe)
    assert hash_weights(network) == hash_weights(tiny.network(recipe))
    torch.testing.assert_close(logits(network), logits(tiny.network(recipe)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", CONFIG, "model.safetensors"]


def test_it_opens_what_training_saves(trained: PretrainedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained, trained.config)
    for place in (tmp_path, str(tmp_path / "model")):  # a run folder, a model folder
        opened = PretrainedModel.from_pretrained(place)
        assert opened.config == trained.config
        assert hash_weights(opened) == hash_weights(trained)
        torch.testing.assert_close(logits(opened), logits(trained))
        assert all(parameter.requires_grad for parameter in opened.parameters())


def test_shards_in_half_precision(trained: PretrainedModel, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path, weights="bfloat16", max_shard_size="2MB")
    assert len(list(tmp_path.glob("model-*"))) > 2
    opened = PretrainedModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    rounded = copy.deepcopy(trained)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.bfloat16())
    assert hash_weights(opened) == hash_weights(rounded) != hash_weights(trained)
    torch.testing.assert_close(logits(opened), logits(rounded))
    assert "Kernels are stored as bfloat16" in (tmp_path / "README.md").read_text()


def test_a_copy_is_like_it(trained: PretrainedModel) -> None:
    other = copy.deepcopy(trained)
    assert other.config == trained.config
    assert hash_weights(other) == hash_weights(trained)
    torch.testing.assert_close(logits(other), logits(trained))


def test_a_card_that_is_there_is_kept(trained: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    trained.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_unknown_options_are_refused(trained: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        trained.save_pretrained(tmp_path / "new", max_shard="16MB")
    with pytest.raises(TypeError):
        PretrainedModel.from_pretrained(tmp_path, classes=3)  # type: ignore[call-arg]


def test_through_the_hub_and_back(trained: PretrainedModel, hub: FakeHub) -> None:
    address = trained.push_to_hub("me/tiny", license="mit", weights="float16", max_shard_size="2MB", private=True)
    commit, files = hub.commits["me/tiny"][-1]
    assert address.endswith(f"/me/tiny/commit/{commit}")
    assert hub.private["me/tiny"]
    assert max(len(data) for data in files.values()) <= 2_000_000
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "mit"
    assert "--model me/tiny" in card.text
    opened = PretrainedModel.from_pretrained("me/tiny")
    assert opened.config == trained.config
    assert (logits(opened).argmax(1) == logits(trained).argmax(1)).float().mean() > 0.99
    again = PretrainedModel.from_pretrained("me/tiny", revision=commit, local_files_only=True)
    assert hash_weights(again) == hash_weights(opened)


def test_a_revision_of_a_folder(trained: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"revision 'v1': .* is no name on the hub"):
        PretrainedModel.from_pretrained(tmp_path, revision="v1")


@pytest.mark.parametrize("name", ["mine", "./me/tiny"])
def test_a_push_to_no_name_saves_nothing(trained: PretrainedModel, name: str) -> None:
    with pytest.raises(UserError, match="no name on the hub"):
        trained.push_to_hub(name)
