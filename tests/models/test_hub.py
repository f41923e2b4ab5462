"""Models of the hub, by name and through GFFNet: download, upload, cache, and errors without a network."""

import copy
import json
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, constants

import gffnet
from gffnet.errors import UserError
from gffnet.models.gffnet import GFFNet, SegmentationModel, load_model, save_model
from gffnet.models.model_io import CARD, CONFIG, check_upload, fetch, hash_weights, is_hub_name, upload
from tests import tiny
from tests.models.fake_hub import FakeHub, point_to, running
from tests.training.processes import free_port

NAME = "somebody/tiny"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model folder in three shards, and what else people put there."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, tiny.network(tiny.recipe()), tiny.config(tiny.recipe()), max_shard_size="700KB")
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(there) >= 4
    return {**there, "README.md": b"# a card", "pytorch_model.bin": pickle.dumps(1), "setup.py": b"raise SystemExit"}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one model, an empty cache, and a working folder with nothing in it."""
    with running(FakeHub()) as fake:
        fake.commit(NAME, files)
        point_to(fake.endpoint, str(tmp_path / "cache"), monkeypatch)
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        yield fake


@pytest.fixture
def unplugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and an empty cache."""
    point_to(f"http://127.0.0.1:{free_port()}", str(tmp_path / "cache"), monkeypatch)
    monkeypatch.chdir(tmp_path)


def error(name: str = NAME, **options: bool) -> str:
    with pytest.raises(UserError) as caught:
        fetch(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names


@pytest.mark.parametrize(
    "name", [NAME, "a/b", "some-body_1/gffnet.v2", f"{NAME}@main", f"{NAME}@v1.0", f"{NAME}@refs/pr/1"]
)
def test_names_on_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name)


@pytest.mark.parametrize(
    "path",
    [
        "model",
        "./a/b",
        "../a/b",
        "/a/b",
        "~/a",
        "a/b/c",
        "a/b/",
        "-a/b",
        "a/last.ckpt",
        "a/m.onnx",
        "a/m.pt2",
        "",
        "a b/c",
    ],
)
def test_paths_are_not_names(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name(path)
    with pytest.raises(UserError):
        load_model(path)


def test_what_is_here_is_no_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody").mkdir()
    assert not is_hub_name(NAME)  # a run folder mistyped: its parent is here
    with pytest.raises(
        UserError, match=r"somebody/tiny does not exist\. Give a run or model folder, or OWNER/NAME on the hub"
    ):
        load_model(NAME)
    assert not is_hub_name(Path("other/tiny"))


# Downloading


def test_a_model_of_the_hub_is_a_model(hub: FakeHub) -> None:
    predictor = gffnet.load(NAME, "cpu", "float32")
    assert predictor.config == tiny.config(tiny.recipe())
    image = tiny.picture(3)
    assert (predictor.predict(image) == tiny.predictor().predict(image)).all()


def test_only_config_and_safetensors_are_fetched(hub: FakeHub, files: dict[str, bytes]) -> None:
    folder = fetch(NAME)
    wanted = {name for name in files if name == CONFIG or name.startswith("model")}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: files[name] for name in wanted}
    assert not any("pytorch_model.bin" in asked or "setup.py" in asked for asked in hub.asked)


def test_the_newest_is_fetched_and_a_revision_stays(hub: FakeHub, files: dict[str, bytes]) -> None:
    first = hub.commits[NAME][0][0]
    load_model(NAME)
    config = json.loads(files[CONFIG])
    hub.commit(NAME, {**files, CONFIG: json.dumps({**config, "recipe": "newer"}).encode()})
    assert load_model(NAME)[1].recipe == "newer"
    assert load_model(f"{NAME}@{first}")[1].recipe == "tests/tiny"


def test_what_is_in_the_cache_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, commit = fetch(NAME), hub.commits[NAME][0][0]
    hub.asked.clear()
    assert fetch(f"{NAME}@{commit}") == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(NAME) == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch(NAME, local_files_only=True) == folder
    assert hub.asked == []
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert fetch(NAME) == folder


def test_a_hub_out_of_order(hub: FakeHub) -> None:
    folder = fetch(NAME)
    hub.status = 403
    assert fetch(NAME) == folder  # the cache will do
    assert "other/model" in error("other/model")


def test_an_interrupted_download_is_not_used(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(NAME)
    next(folder.glob("model-00002*")).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set|model-00002\S* is missing"):
        load_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_model(NAME)


def test_forced_download(hub: FakeHub) -> None:
    fetch(NAME)
    hub.asked.clear()
    fetch(NAME, force_download=True)
    assert any(asked.startswith("GET") and asked.endswith(CONFIG) for asked in hub.asked)


# Errors


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1", f"{NAME}@{'a' * 40}"])
def test_without_a_network_the_error_is_immediate_and_names_a_remedy(name: str, tmp_path: Path) -> None:
    start = time.monotonic()
    message = error(name)
    assert time.monotonic() - start < 10
    revision = name.partition("@")[2]
    at = f" --revision {revision}" if revision else ""
    assert message.startswith(f"model {name}: there is no such folder here")
    assert f"nor in the cache {tmp_path / 'cache'}, and 127.0.0.1:" in message
    assert f"run `hf download {NAME}{at} --local-dir DIR`, bring DIR here and give --model ./DIR." in message


@pytest.mark.usefixtures("unplugged")
def test_a_hub_that_accepts_connections_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.models.model_io.PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert "cannot be reached" in error()
        assert 0.3 <= time.monotonic() - start < 10


def test_access_on_request(hub: FakeHub) -> None:
    hub.status, hub.code = 403, "GatedRepo"
    assert f"its owner gives access on request. Ask at {hub.endpoint}/other/model" in error("other/model")


def test_offline_mode_makes_no_request(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "only the cache may be used" in error(local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in error()
    assert hub.asked == []


def test_no_such_model(hub: FakeHub) -> None:
    assert "has no model nobody/none, or it is private. Check the name" in error("nobody/none")
    assert "has no revision 'v9'" in error(f"{NAME}@v9")
    assert "has no revision 'aaaa" in error(f"{NAME}@{'a' * 40}")
    assert "no name on the hub: it must read OWNER/NAME" in error("no name")


def test_a_model_of_another_library(hub: FakeHub) -> None:
    hub.commit("other/bare", {"pytorch_model.bin": b"x", "README.md": b"x"})
    assert "holds no config.json: it is no model of gffnet" in error("other/bare")
    hub.commit("other/bert", {CONFIG: b'{"architectures": ["Bert"]}', "model.safetensors": b""})
    with pytest.raises(UserError, match=r"config\.json: architectures is unknown\. .*Allowed: model, classes"):
        load_model("other/bert")


def test_a_config_can_make_nothing_run_or_be_fetched(hub: FakeHub, files: dict[str, bytes]) -> None:
    """Neither a backbone that lies elsewhere on the hub or on this machine, nor weights that are pickled."""
    for name in ("hf_hub:evil/model", "hf-hub:evil/model", "local-dir:/tmp"):
        config = json.loads(files[CONFIG])
        config["model"]["backbone"]["name"] = name
        hub.commit("evil/model", {**files, CONFIG: json.dumps(config).encode()})
        with pytest.raises(UserError, match="is no model of timm"):
            load_model("evil/model")
    config = json.loads(files[CONFIG])
    config["model"]["backbone"]["weights"] = "pytorch_model.bin"
    hub.commit("evil/model", {**files, CONFIG: json.dumps(config).encode()})
    network, _ = load_model("evil/model")
    assert torch.equal(network.head.classifier.weight, tiny.network(tiny.recipe()).head.classifier.weight)


# Uploading


def test_what_is_uploaded_comes_back(hub: FakeHub, tmp_path: Path) -> None:
    recipe = tiny.recipe()
    network = tiny.network(recipe, seed=1)
    save_model(tmp_path / "model", network, tiny.config(recipe))
    (tmp_path / "model" / CARD).write_text("# a card")
    (tmp_path / "model/notes.txt").write_text("mine")
    address = upload(tmp_path / "model", "me/mine", private=True)
    assert address == f"{hub.endpoint}/me/mine/commit/{hub.commits['me/mine'][-1][0]}"
    assert hub.private["me/mine"]
    assert set(hub.commits["me/mine"][-1][1]) == {CONFIG, "model.safetensors", CARD}
    back, config = load_model("me/mine")
    assert config == tiny.config(recipe)
    assert all(
        torch.equal(a, b) for a, b in zip(back.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_an_upload_takes_the_place_of_what_was_there(hub: FakeHub, tmp_path: Path) -> None:
    """Shards that are left would be weights of another model."""
    save_model(tmp_path, tiny.network(tiny.recipe(), seed=1), tiny.config(tiny.recipe()))
    upload(tmp_path, NAME)
    left = set(hub.commits[NAME][-1][1])
    assert left == {CONFIG, "model.safetensors", "README.md", "pytorch_model.bin", "setup.py"}


@pytest.mark.usefixtures("unplugged")
def test_an_upload_without_a_network(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"cannot be reached\. Run `gffnet publish --out DIR`, .*`hf upload me/mine DIR`"
    ):
        upload(tmp_path, "me/mine")
    assert time.monotonic() - start < 10


def test_refused_uploads(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "me/mine@v1", "me/mine/too", ""):
        with pytest.raises(UserError, match="no name on the hub: it must read OWNER/NAME"):
            check_upload(name)
    hub.status = 401
    with pytest.raises(UserError, match=r"me/mine could not be uploaded to the hub: .*`hf auth login`"):
        upload(tmp_path, "me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        check_upload("me/mine")


# The network and the hub

IMAGE = torch.from_numpy(tiny.picture(5)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def trained() -> GFFNet:
    recipe = tiny.recipe(tiny.GFFNET)
    network = GFFNet("test_resnet", 11, channels=32)
    network.load_state_dict(tiny.network(recipe).state_dict())
    network.config = tiny.config(recipe)
    return network.eval()


@torch.inference_mode()
def logits(network: Any) -> torch.Tensor:
    out: torch.Tensor = network(IMAGE).logits
    return out


def test_it_is_the_network(trained: GFFNet) -> None:
    assert isinstance(trained, SegmentationModel)
    plain = tiny.network(tiny.recipe(tiny.GFFNET))
    assert trained.state_dict().keys() == plain.state_dict().keys()
    assert hash_weights(trained) == hash_weights(plain)
    torch.testing.assert_close(logits(copy.deepcopy(trained)), logits(plain))
    assert not trained.training


def test_what_it_saves_is_opened_as_a_model(trained: GFFNet, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["README.md", CONFIG, "model.safetensors"]
    for place in (tmp_path, str(tmp_path / "model")):  # a run folder, a model folder
        opened, (network, config) = GFFNet.from_pretrained(place), load_model(place)
        assert opened.config == config == trained.config
        assert hash_weights(opened) == hash_weights(network) == hash_weights(trained)
        torch.testing.assert_close(logits(opened), logits(trained))
        assert all(parameter.requires_grad for parameter in opened.parameters())


def test_shards_in_half_precision(trained: GFFNet, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path, weights="bfloat16", max_shard_size="400KB")
    assert len(list(tmp_path.glob("model-*"))) > 2
    opened = GFFNet.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    rounded = copy.deepcopy(trained)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.bfloat16())
    assert hash_weights(opened) == hash_weights(rounded) != hash_weights(trained)
    torch.testing.assert_close(logits(opened), logits(rounded))
    assert "Kernels are stored as bfloat16" in (tmp_path / "README.md").read_text()


def test_a_card_that_is_there_is_kept(trained: GFFNet, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    trained.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_through_the_hub_and_back(trained: GFFNet, hub: FakeHub) -> None:
    address = trained.push_to_hub("me/tiny", license="mit", weights="float16", max_shard_size="400KB", private=True)
    commit, files = hub.commits["me/tiny"][-1]
    assert address.endswith(f"/me/tiny/commit/{commit}")
    assert hub.private["me/tiny"]
    assert max(len(data) for data in files.values()) <= 400_000
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "mit"
    assert "--model me/tiny" in card.text
    opened = GFFNet.from_pretrained("me/tiny")
    assert opened.config == trained.config
    assert (logits(opened).argmax(1) == logits(trained).argmax(1)).float().mean() > 0.99
    again = GFFNet.from_pretrained("me/tiny", revision=commit, local_files_only=True)
    assert hash_weights(again) == hash_weights(opened)


def test_a_revision_of_a_folder(trained: GFFNet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"revision 'v1': .* is no name on the hub"):
        GFFNet.from_pretrained(tmp_path, revision="v1")


@pytest.mark.parametrize("name", ["mine", "./me/tiny"])
def test_a_push_to_no_name_saves_nothing(trained: GFFNet, name: str) -> None:
    with pytest.raises(UserError, match="no name on the hub"):
        trained.push_to_hub(name)
