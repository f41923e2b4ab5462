"""Models of the hub: what is a name there, what is fetched, what is said where it cannot be."""

import json
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import gffnet
from gffnet.errors import UserError
from gffnet.inference.model_io import CARD, CONFIG, check_upload, fetch, is_hub_name, load_model, save_model, upload
from tests import tiny
from tests.inference.fake_hub import FakeHub, point_to, running

NAME = "somebody/tiny"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model folder in three shards, and what else people put there."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, tiny.network(tiny.recipe()), tiny.config(tiny.recipe()), max_shard_size="3MB")
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


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


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
def test_paths_are_no_names(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name(path)
    with pytest.raises(UserError):
        load_model(path)


def test_what_is_here_is_no_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody").mkdir()
    assert not is_hub_name(NAME)  # a run folder mistyped: its parent is here
    with pytest.raises(UserError, match=r"somebody/tiny does not exist\. Give a run folder, .* or a name on the hub"):
        load_model(NAME)
    assert not is_hub_name(Path("other/tiny"))


# Fetching


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


def test_a_download_that_broke_off_is_not_taken_for_the_model(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(NAME)
    next(folder.glob("model-00002*")).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set|model-00002\S* is missing"):
        load_model(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_model(NAME)


def test_fetched_anew(hub: FakeHub) -> None:
    fetch(NAME)
    hub.asked.clear()
    fetch(NAME, force_download=True)
    assert any(asked.startswith("GET") and asked.endswith(CONFIG) for asked in hub.asked)


# What cannot be had


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1", f"{NAME}@{'a' * 40}"])
def test_no_network_is_said_at_once_with_the_way_out(name: str, tmp_path: Path) -> None:
    start = time.monotonic()
    message = error(name)
    assert time.monotonic() - start < 1
    revision = name.partition("@")[2]
    at = f" --revision {revision}" if revision else ""
    assert message.startswith(f"model {name}: there is no such folder here")
    assert f"not in the hub's cache {tmp_path / 'cache'}, and 127.0.0.1:" in message
    assert f"`hf download {NAME}{at} --local-dir tiny`; bring the folder here and name it: --model ./tiny." in message


@pytest.mark.usefixtures("unplugged")
def test_a_hub_that_takes_connections_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.inference.model_io.PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert "cannot be reached" in error()
        assert 0.3 <= time.monotonic() - start < 3


def test_access_on_request(hub: FakeHub) -> None:
    hub.status, hub.code = 403, "GatedRepo"
    assert f"its owner gives access on request. Ask at {hub.endpoint}/other/model" in error("other/model")


def test_offline_by_choice_asks_nobody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing but the cache is to be asked" in error(local_files_only=True)
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
    with pytest.raises(UserError, match=r"cannot be reached\. Write the folder .*`hf upload me/mine DIR`"):
        upload(tmp_path, "me/mine")
    assert time.monotonic() - start < 1


def test_uploads_that_are_refused(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "me/mine@v1", "me/mine/too", ""):
        with pytest.raises(UserError, match="no name on the hub: it must read OWNER/NAME"):
            check_upload(name)
    hub.status = 401
    with pytest.raises(UserError, match=r"me/mine could not be put on the hub: .* Log in|log in: `hf auth login`"):
        upload(tmp_path, "me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        check_upload("me/mine")
