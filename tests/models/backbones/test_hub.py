import socket
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from gffnet.errors import UserError
from gffnet.models import weights as hub
from gffnet.models.gffnet import build_backbone
from gffnet.models.weights import pretrained_file
from gffnet.recipe import BackboneRecipe

REPOSITORY = timm.get_pretrained_cfg("test_resnet").hf_hub_id


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache; no proxy; a client that must not be asked."""

    def must_not(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    monkeypatch.setattr(hub, "hf_hub_download", must_not)
    return tmp_path


def put(cache: Path, file: str, state: dict[str, torch.Tensor]) -> Path:
    """A file in the cache, laid out as the hub's client does."""
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123")
    path = folder / "snapshots" / "0123" / file
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def error(name: str = "test_resnet") -> str:
    with pytest.raises(UserError) as caught:
        pretrained_file(name)
    return str(caught.value)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_file_needs_no_network(cache: Path, file: str) -> None:
    reference = timm.create_model("test_resnet")
    path = put(cache, file, reference.state_dict())
    assert pretrained_file("test_resnet") == path
    backbone = build_backbone(BackboneRecipe("test_resnet"))
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, reference.state_dict()[name])


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_cached_weights_fit_other_input_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    reference = timm.create_model(name, num_classes=1000)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(reference.state_dict(), path)
    monkeypatch.setattr("gffnet.models.gffnet.pretrained_file", lambda _: path)
    backbone = build_backbone(BackboneRecipe(name, output_stride=None, in_channels=1)).eval()
    three = build_backbone(BackboneRecipe(name, output_stride=None)).eval()
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for x, y in zip(backbone(grey), three(grey.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_no_network_is_said_at_once_with_the_way_out() -> None:
    start = time.monotonic()
    message = error()
    assert time.monotonic() - start < 1
    assert "'imagenet' of backbone 'test_resnet'" in message
    assert "cannot be reached" in message
    assert f"`hf download {REPOSITORY} model.safetensors --local-dir .`" in message
    assert "--set model.backbone.weights=FILE" in message
    assert "--set model.backbone.weights=none" in message


def test_a_network_that_swallows_everything_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def connect(*_: object, **__: object) -> None:
        over.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", connect)
    start = time.monotonic()
    message = error()
    assert hub.PATIENCE <= time.monotonic() - start < hub.PATIENCE + 1
    assert "cannot be reached" in message
    over.set()


def test_the_configured_host_and_port_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        tried.append(address)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", connect)
    for endpoint in ("https://mirror.example", "http://mirror.example", "http://mirror.example:8080/hub"):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        assert "mirror.example cannot be reached" in error()
    assert tried == [("mirror.example", 443), ("mirror.example", 80), ("mirror.example", 8080)]


def test_offline_by_choice_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "reachable", None)
    assert "HF_HUB_OFFLINE is set" in error()


def test_behind_a_proxy_the_client_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    monkeypatch.setattr(hub.urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, file, revision: f"{repository}/{file}")
    assert pretrained_file("test_resnet") == Path(REPOSITORY, "model.safetensors")


class Answers:
    """A hub that is there: how it answers for each file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Exception | str) -> None:
        self.answers, self.asked = answers, []
        monkeypatch.setattr(hub, "reachable", lambda _: True)
        monkeypatch.setattr(hub, "hf_hub_download", self)

    def __call__(self, repository: str, file: str, revision: str | None) -> str:
        self.asked.append(file)
        answer = self.answers[file.partition(".")[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_safetensors_are_fetched_before_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, model="here", pytorch_model="there")
    assert pretrained_file("test_resnet") == Path("here")
    assert answers.asked == ["model.safetensors"]


def test_pickles_are_fetched_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    Answers(monkeypatch, model=EntryNotFoundError("no such file"), pytorch_model="there")
    assert pretrained_file("test_resnet") == Path("there")


def test_a_failed_download_is_not_tried_again_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, model=LocalEntryNotFoundError("connection lost"), pytorch_model="there")
    message = error()
    assert "the download failed: connection lost. On a machine" in message
    assert answers.asked == ["model.safetensors"]


def test_a_model_without_published_weights() -> None:
    assert "timm publishes none" in error("densenet264d")
