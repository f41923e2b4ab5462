"""Weights of backbones: files of every form, misfits, damage; and timm's own from the hub's cache."""

import hashlib
import importlib.util
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import torchvision
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import nn

from gffnet.data.io import read_image
from gffnet.errors import UserError
from gffnet.models import weights
from gffnet.models.backbones import build_backbone
from gffnet.models.gffnet import GFFNet
from gffnet.models.weights import WHEELS, StateDict, Wheel, pretrained_file, read_weights_file
from gffnet.recipe import BackboneRecipe
from tests.data.trees import real


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may reach a network, and none may depend on there being none."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("tests have no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


SMALL = "test_resnet"
"""A ResNet of half a million parameters."""


def state(name: str = SMALL, classes: int = 7) -> StateDict:
    return timm.create_model(name, num_classes=classes).state_dict()


def loaded(path: Path, name: str = SMALL, stride: int | None = None, channels: int = 3) -> StateDict:
    return build_backbone(BackboneRecipe(name, str(path), stride, channels)).state_dict()


def check(found: StateDict, expected: StateDict, classifier: str = "fc.") -> None:
    expected = {name: value for name, value in expected.items() if not name.startswith(classifier)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def prefixed(prefix: str) -> Callable[[StateDict], StateDict]:
    return lambda state: {prefix + name: value for name, value in state.items()}


FORMS: dict[str, Callable[[StateDict], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": 0.8},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "backbone": lambda state: {"backbone": state},
    "nested": lambda state: {"state_dict": {"model": state}},
    "distributed": prefixed("module."),
    "distributed backbone": prefixed("module.backbone."),
    "encoder": prefixed("encoder."),
    "with a head": lambda state: {**prefixed("backbone.")(state), "decode_head.conv.weight": torch.zeros(3)},
    "wrapped and prefixed": lambda state: {"state_dict": prefixed("model.backbone.")(state)},
    "without counters": lambda state: {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")},
}


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_what_torch_saves(self, tmp_path: Path, form: str) -> None:
        path, original = tmp_path / "weights.pth", state()
        torch.save(FORMS[form](original), path)
        check(loaded(path), original)

    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt"])
    def test_its_other_names(self, tmp_path: Path, suffix: str) -> None:
        path, original = tmp_path / f"weights{suffix}", state()
        torch.save(original, path)
        check(loaded(path), original)

    def test_half_precision(self, tmp_path: Path) -> None:
        path, original = tmp_path / "weights.pth", {n: v.half() for n, v in state().items() if v.is_floating_point()}
        torch.save(original, path)
        found = loaded(path)
        check({name: found[name] for name in original if name in found}, {n: v.float() for n, v in original.items()})

    @pytest.mark.parametrize("form", ["bare", "distributed", "with a head", "without counters"])
    def test_safetensors(self, tmp_path: Path, form: str) -> None:
        path, original = tmp_path / "weights.safetensors", state()
        safetensors.torch.save_file(FORMS[form](original), path)
        check(loaded(path), original)

    def test_the_old_format_of_torch(self, tmp_path: Path) -> None:
        path, original = tmp_path / "weights.pth", state()
        torch.save(original, path, _use_new_zipfile_serialization=False)
        check(loaded(path), original)


class TestNames:
    def test_torchvisions_resnet(self, tmp_path: Path) -> None:
        path, original = tmp_path / "resnet18.pth", torchvision.models.resnet18().state_dict()
        torch.save(original, path)
        check(loaded(path, "resnet18", 8), original)

    def test_torchvisions_densenet_under_its_old_names(self, tmp_path: Path) -> None:
        path, original = tmp_path / "densenet121.pth", torchvision.models.densenet121().state_dict()
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in original.items()}
        assert "features.denseblock1.denselayer1.norm.1.weight" in old
        torch.save({n: v for n, v in old.items() if not n.endswith("num_batches_tracked")}, path)
        check(loaded(path, "densenet121", 8), original, "classifier.")

    @pytest.mark.parametrize(
        ("name", "stride"),
        [
            ("test_convnext", 8),
            ("mobilenetv3_small_050", None),
            pytest.param("regnetx_002", 16, marks=pytest.mark.slow),
            pytest.param("xception41", 8, marks=pytest.mark.slow),
        ],
    )
    def test_timm_pyramids(self, tmp_path: Path, name: str, stride: int | None) -> None:
        """Their parameters change their names when timm takes the features out; what they compute does not."""
        path, whole = tmp_path / "weights.pth", timm.create_model(name).eval()
        torch.save(whole.state_dict(), path)
        reference = timm.create_model(
            name, features_only=True, pretrained=True, pretrained_cfg_overlay={"file": str(path), "custom_load": False}
        )
        backbone = build_backbone(BackboneRecipe(name, str(path), stride))
        check(backbone.net.state_dict(), reference.state_dict(), "none")

    @pytest.mark.slow
    def test_swin_and_its_older_names(self, tmp_path: Path) -> None:
        """timm moved the down-sampling of Swin from the end of a stage to the start of the next."""
        name, path = "swin_tiny_patch4_window7_224", tmp_path / "weights.pth"
        today = state(name, 1000)
        old = {
            re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", n): today[n]
            for n in today
        }
        old = {n.replace("head.fc.", "head."): v for n, v in old.items()}
        torch.save(old, path)
        found = loaded(path, name)
        for parameter in ("layers.1.downsample.reduction.weight", "layers.3.blocks.1.mlp.fc2.weight"):
            assert torch.equal(found[f"net.{parameter.replace('.', '_', 1)}"], today[parameter])

    @pytest.mark.parametrize("name", ["test_convnext", SMALL])
    def test_a_backbones_own_names(self, tmp_path: Path, name: str) -> None:
        original = build_backbone(BackboneRecipe(name, "none", None)).state_dict()
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file({f"backbone.{n}": v for n, v in original.items()}, path)
        check(loaded(path, name), original)


class TestInputChannels:
    @pytest.mark.parametrize(("channels", "name"), [(1, "resnet18"), (6, "test_convnext")])
    def test_the_first_convolution_is_adapted(self, tmp_path: Path, channels: int, name: str) -> None:
        """Grey images through the adapted network answer as through the original."""
        path = tmp_path / "weights.pth"
        torch.save(state(name), path)
        three, other = (build_backbone(BackboneRecipe(name, str(path), None, n)).eval() for n in (3, channels))
        grey = torch.randn(1, 1, 64, 64)
        with torch.no_grad():
            for x, y in zip(three(grey.repeat(1, 3, 1, 1)), other(grey.repeat(1, channels, 1, 1)), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)

    def test_four_channels_repeat_the_first(self, tmp_path: Path) -> None:
        path, original = tmp_path / "weights.pth", state("resnet18")
        torch.save(original, path)
        found, three = loaded(path, "resnet18", channels=4)["conv1.weight"], original["conv1.weight"]
        torch.testing.assert_close(found, 0.75 * torch.cat([three, three[:, :1]], dim=1))

    def test_a_file_with_the_right_number_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path, original = tmp_path / "weights.pth", timm.create_model(SMALL, in_chans=4).state_dict()
        torch.save(original, path)
        check(loaded(path, channels=4), original)

    def test_another_number_does_not_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        torch.save(timm.create_model("resnet18", in_chans=4).state_dict(), path)
        message = error(path, "resnet18", 5)
        assert "1 of another shape (conv1.weight is (64, 4, 7, 7), not (64, 5, 7, 7))" in message


def error(path: Path, name: str = SMALL, channels: int = 3) -> str:
    with pytest.raises(UserError) as caught:
        loaded(path, name, channels=channels)
    message = str(caught.value)
    assert message.startswith(f"weights file {path}")
    assert "\n" not in message
    return message


def shapes(name: str, classes: int) -> StateDict:
    """A state dict without content, which takes no room in a file."""
    with torch.device("meta"):
        sizes = {key: value.shape for key, value in state(name, classes).items()}
    return {key: torch.zeros(()).expand(size) for key, size in sizes.items()}


class TestMisfits:
    def test_another_depth(self, tmp_path: Path) -> None:
        torch.save(shapes("resnet18", 1000), tmp_path / "weights.pth")
        message = error(tmp_path / "weights.pth", "resnet50")
        assert "does not fit backbone 'resnet50'" in message
        assert re.search(r"\d+ missing \(layer1.0.conv3.weight, .*, \.\.\.\)", message)
        assert "of another shape (layer1.0.conv1.weight is (64, 64, 3, 3), not (64, 64, 1, 1)" in message
        assert message.endswith("Give a file of resnet50, or name the backbone that the file holds.")

    def test_a_deeper_network_is_not_cut_short(self, tmp_path: Path) -> None:
        """All of ResNet-50 is in ResNet-101, under the same names and in the same shapes."""
        torch.save(shapes("resnet101", 0), tmp_path / "weights.pth")
        message = error(tmp_path / "weights.pth", "resnet50")
        assert re.search(r": \d+ unexpected \(layer3.6", message)

    def test_nothing_known(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(3), "b": torch.zeros(())}, tmp_path / "weights.pth")
        message = error(tmp_path / "weights.pth")
        assert "2 unexpected (a, b). Give a file of test_resnet, or" in message

    def test_a_missing_parameter(self, tmp_path: Path) -> None:
        incomplete = state()
        del incomplete["layer4.0.bn1.weight"]
        torch.save(incomplete, tmp_path / "weights.pth")
        assert ": 1 missing (layer4.0.bn1.weight). Give" in error(tmp_path / "weights.pth")

    def test_names_that_timm_would_translate_but_are_wrong(self, tmp_path: Path) -> None:
        torch.save({"patch_embed.proj.weight": torch.zeros(3)}, tmp_path / "weights.pth")
        assert "does not fit" in error(tmp_path / "weights.pth", "swin_tiny_patch4_window7_224")


class Runs:
    """An object that runs code when it is unpickled the ordinary way."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


class TestInvalidFiles:
    def test_missing(self, tmp_path: Path) -> None:
        assert "does not exist" in error(tmp_path / "weights.pth")
        assert "does not exist" in error(tmp_path)

    def test_a_misspelt_word(self) -> None:
        assert "Did you mean 'imagenet'?" in error(Path("imagnet"))

    def test_another_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "weights.npz").write_bytes(b"numbers")
        assert "must end with .safetensors, .pth" in error(tmp_path / "weights.npz")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
    def test_cut_off(self, tmp_path: Path, suffix: str, share: float) -> None:
        path, original = tmp_path / f"weights{suffix}", state()
        safetensors.torch.save_file(original, path) if suffix == ".safetensors" else torch.save(original, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        message = error(path)
        assert "is damaged, or no checkpoint" in message or "is no checkpoint" in message

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("content", [b"<html>404</html>", b"version https://git-lfs", bytes(64), b"PK\3\4rest"])
    def test_no_checkpoint(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        message = error(path)
        assert "no checkpoint" in message
        assert "weights_only" not in message

    @pytest.mark.parametrize(
        "content", [torch.zeros(3), {}, {"epoch": 3}, [torch.zeros(3)], {"state_dict": {"lr": 0.1}}]
    )
    def test_no_state_dict(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "weights.pth")
        assert "holds no state dict" in error(tmp_path / "weights.pth")

    @pytest.mark.parametrize("modern", [True, False])
    def test_no_file_runs_code(self, tmp_path: Path, modern: bool) -> None:
        path, trace = tmp_path / "weights.pth", tmp_path / "it ran"
        torch.save({"state_dict": state(), "hidden": Runs(trace)}, path, _use_new_zipfile_serialization=modern)
        assert "could run code" in error(path)
        assert not trace.exists()

    def test_a_whole_module(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2), tmp_path / "weights.pth")
        assert "Save the weights alone" in error(tmp_path / "weights.pth")


def test_reading_a_weights_file_keeps_the_names_of_the_file(tmp_path: Path) -> None:
    torch.save({"model": {"module.a": torch.ones(2)}}, tmp_path / "weights.pth")
    assert list(read_weights_file(tmp_path / "weights.pth")) == ["module.a"]


REPOSITORY = timm.get_pretrained_cfg("test_resnet").hf_hub_id


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache; no proxy; a client that must not be asked."""

    def must_not(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights.urllib.request, "getproxies", dict)
    monkeypatch.setattr(weights, "hf_hub_download", must_not)
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


def hub_error(name: str = "test_resnet") -> str:
    with pytest.raises(UserError) as caught:
        pretrained_file(name)
    return str(caught.value)


class Answers:
    """A hub that is there: how it answers for each file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Exception | str) -> None:
        self.answers, self.asked = answers, []
        monkeypatch.setattr(weights, "reachable", lambda _: True)
        monkeypatch.setattr(weights, "hf_hub_download", self)

    def __call__(self, repository: str, file: str, revision: str | None) -> str:
        self.asked.append(file)
        answer = self.answers[file.partition(".")[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.usefixtures("cache")
class TestHub:
    @pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
    def test_a_cached_file_needs_no_network(self, cache: Path, file: str) -> None:
        reference = timm.create_model("test_resnet")
        path = put(cache, file, reference.state_dict())
        assert pretrained_file("test_resnet") == path
        backbone = build_backbone(BackboneRecipe("test_resnet"))
        for name, value in backbone.state_dict().items():
            assert torch.equal(value, reference.state_dict()[name])

    @pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
    def test_cached_weights_fit_other_input_channels(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        reference = timm.create_model(name, num_classes=1000)
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file(reference.state_dict(), path)
        monkeypatch.setattr("gffnet.models.backbones.pretrained_file", lambda _: path)
        backbone = build_backbone(BackboneRecipe(name, output_stride=None, in_channels=1)).eval()
        three = build_backbone(BackboneRecipe(name, output_stride=None)).eval()
        grey = torch.randn(1, 1, 64, 64)
        with torch.no_grad():
            for x, y in zip(backbone(grey), three(grey.expand(-1, 3, -1, -1)), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)

    def test_no_network_is_said_at_once_with_the_way_out(self) -> None:
        start = time.monotonic()
        message = hub_error()
        assert time.monotonic() - start < 10
        assert "'imagenet' of backbone 'test_resnet'" in message
        assert "cannot be reached" in message
        assert f"`hf download {REPOSITORY} model.safetensors --local-dir .`" in message
        assert "--set model.backbone.weights=FILE" in message
        assert "--set model.backbone.weights=none" in message

    @pytest.mark.slow
    def test_a_network_that_swallows_everything_is_given_up_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        over = threading.Event()

        def connect(*_: object, **__: object) -> None:
            over.wait(60)
            raise OSError

        monkeypatch.setattr(socket, "create_connection", connect)
        start = time.monotonic()
        message = hub_error()
        assert weights.HUB_TIMEOUT <= time.monotonic() - start < weights.HUB_TIMEOUT + 20
        assert "cannot be reached" in message
        over.set()

    def test_the_configured_host_and_port_are_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tried = []

        def connect(address: tuple[str, int], timeout: float) -> None:
            tried.append(address)
            raise OSError

        monkeypatch.setattr(socket, "create_connection", connect)
        for endpoint in ("https://mirror.example", "http://mirror.example", "http://mirror.example:8080/hub"):
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            assert "mirror.example cannot be reached" in hub_error()
        assert tried == [("mirror.example", 443), ("mirror.example", 80), ("mirror.example", 8080)]

    def test_hf_hub_offline_is_respected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(weights, "reachable", None)
        assert "HF_HUB_OFFLINE is set" in hub_error()

    def test_behind_a_proxy_the_client_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(weights.urllib.request, "getproxies", lambda: {"https": "http://proxy.example:3128"})
        monkeypatch.setattr(weights.urllib.request, "proxy_bypass", lambda host: False)
        monkeypatch.setattr(weights, "hf_hub_download", lambda repository, file, revision: f"{repository}/{file}")
        assert pretrained_file("test_resnet") == Path(REPOSITORY, "model.safetensors")

    def test_safetensors_are_fetched_before_pickles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = Answers(monkeypatch, model="here", pytorch_model="there")
        assert pretrained_file("test_resnet") == Path("here")
        assert answers.asked == ["model.safetensors"]

    def test_pickles_are_fetched_where_there_is_nothing_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Answers(monkeypatch, model=EntryNotFoundError("no such file"), pytorch_model="there")
        assert pretrained_file("test_resnet") == Path("there")

    def test_a_failed_download_is_not_tried_again_under_another_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = Answers(monkeypatch, model=LocalEntryNotFoundError("connection lost"), pytorch_model="there")
        message = hub_error()
        assert "the download failed: connection lost. On a machine" in message
        assert answers.asked == ["model.safetensors"]

    def test_a_model_without_published_weights(self) -> None:
        assert "timm publishes none" in hub_error("densenet264d")


EFFICIENTNET = "test_efficientnet"
"""An EfficientNet of a third of a million parameters."""


def foreign(state: StateDict) -> StateDict:
    """The tensors under names such as EfficientNet-PyTorch's, in the same order."""
    names = [f"_blocks.{number}.{name.rpartition('.')[2]}" for number, name in enumerate(state)]
    return dict(zip(["_conv_stem.weight", *names[1:]], state.values(), strict=True))


def install(monkeypatch: pytest.MonkeyPatch, site: Path, state: StateDict | None, sha256: str | None = None) -> Path:
    """Install a wheel with weights of `EFFICIENTNET`, whose code must not run; None: not one file of it."""
    wheel = Wheel("weights-of-a-test", "models/efficientnet.pth", sha256 or "")
    path = site / wheel.module / wheel.file
    if state is not None:
        path.parent.mkdir(parents=True)
        (site / wheel.module / "__init__.py").write_text("raise AssertionError('its code was run')")
        torch.save(state, path)
        wheel = wheel._replace(sha256=sha256 or hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(weights, "WHEELS", {timm.get_pretrained_cfg(EFFICIENTNET).hf_hub_id: wheel})
    return path


@pytest.fixture
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("cache")
class TestWheels:
    @pytest.mark.parametrize("name", [EFFICIENTNET, f"{EFFICIENTNET}.r160_in1k"])
    @pytest.mark.parametrize("is_offline", [False, True])
    def test_an_installed_wheel_needs_no_network(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, is_offline: bool
    ) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
        monkeypatch.setattr(weights, "reachable", None)
        expected = state(EFFICIENTNET, 1000)
        path = install(monkeypatch, tmp_path / "site", foreign(expected))
        assert pretrained_file(name) == path
        found = build_backbone(BackboneRecipe(name, output_stride=None)).net.state_dict()
        assert len(found) == 80
        for key, value in found.items():
            assert torch.equal(value, expected[key]), key

    def test_the_cache_is_looked_into_first(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        install(monkeypatch, cache / "site", state(EFFICIENTNET))
        monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_, **__: "cached")
        assert pretrained_file(EFFICIENTNET) == Path("cached")

    def test_a_model_without_a_wheel_ignores_those_of_others(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        install(monkeypatch, tmp_path / "site", state(EFFICIENTNET))
        message = hub_error()
        assert "not in the local cache" in message
        assert "cannot be reached" in message
        assert "pip install" not in message

    @pytest.mark.usefixtures("offline")
    def test_what_is_nowhere_names_every_place_and_remedy(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        install(monkeypatch, tmp_path / "site", None)
        message = hub_error(EFFICIENTNET)
        assert f"not in the local cache {tmp_path}" in message
        assert "the package weights-of-a-test is not installed, and HF_HUB_OFFLINE is set" in message
        assert "pip install 'gffnet[imagenet]'" in message
        assert "`hf download timm/test_efficientnet.r160_in1k model.safetensors --local-dir .`" in message
        assert "--set model.backbone.weights=none" in message

    def test_weights_that_are_not_the_known_ones_are_not_read(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = install(monkeypatch, tmp_path / "site", state(EFFICIENTNET), sha256="0" * 64)
        message = hub_error(EFFICIENTNET)
        assert f"{path}, are not the file that gffnet knows" in message
        assert f"its SHA-256 is {hashlib.sha256(path.read_bytes()).hexdigest()}, not {'0' * 64}" in message
        assert "pip install --force-reinstall --no-deps weights-of-a-test==" in message

    def test_a_wheel_without_its_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        install(monkeypatch, tmp_path / "site", state(EFFICIENTNET)).unlink()
        assert "are missing. Install it again" in hub_error(EFFICIENTNET)

    @pytest.mark.parametrize("change", ["shape", "order", "fewer"])
    def test_tensors_that_do_not_fit_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
    ) -> None:
        tensors = foreign(state(EFFICIENTNET, 1000))
        names = [*tensors]
        if change == "shape":
            tensors[names[7]] = torch.zeros(3)
        elif change == "fewer":
            del tensors[names[7]]
        else:
            tensors = {name: tensors[name] for name in [*names[:2], names[3], names[2], *names[4:]]}
        path = install(monkeypatch, tmp_path / "site", tensors)
        with pytest.raises(UserError, match=f"weights file {re.escape(str(path))} does not fit backbone") as caught:
            build_backbone(BackboneRecipe(EFFICIENTNET, output_stride=None))
        assert ("1 of another shape" in str(caught.value)) == (change == "shape")

    def test_the_names_are_understood_in_a_file_too(self, tmp_path: Path) -> None:
        expected = state(EFFICIENTNET, 1000)
        torch.save(foreign(expected), tmp_path / "weights.pth")
        found = build_backbone(BackboneRecipe(EFFICIENTNET, str(tmp_path / "weights.pth"), None)).net.state_dict()
        assert torch.equal(found["conv_stem.weight"], expected["conv_stem.weight"])


LITE0 = "timm/tf_efficientnet_lite0.in1k"


@pytest.mark.usefixtures("offline")
class TestEfficientNetLite:
    """The wheels that `gffnet[imagenet]` installs."""

    @pytest.fixture(params=[LITE0, *(pytest.param(name, marks=pytest.mark.slow) for name in WHEELS if name != LITE0)])
    def name(self, request: pytest.FixtureRequest) -> str:
        if importlib.util.find_spec(WHEELS[request.param].module) is None:
            pytest.skip("no weights here: pip install 'gffnet[imagenet]'")
        return request.param.partition("/")[2]

    @pytest.fixture
    def whole(self, name: str) -> nn.Module:
        """timm's network with its classifier and all tensors of the wheel in their order."""
        network = timm.create_model(name).eval()
        found = torch.load(pretrained_file(name), weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), found.values(), strict=True)))
        return network

    def test_the_whole_network_knows_a_church(self, whole: nn.Module) -> None:
        pixels = read_image(real("ADEChallengeData2016_sample") / "images/validation/ADE_val_00000001.jpg")
        image = F.interpolate(pixels[None].float() / 127.5 - 1, (224, 224), mode="bilinear", antialias=True)
        with torch.no_grad():
            best = whole(image)[0].topk(3).indices.tolist()
        church, bell_cote = 497, 442  # of ImageNet's 1000 classes
        assert {church, bell_cote} < {*best}

    def test_the_backbone_computes_the_maps_of_the_whole_network(self, name: str, whole: nn.Module) -> None:
        image = torch.randn(1, 3, 96, 64)
        with torch.no_grad():
            maps = build_backbone(BackboneRecipe(name, output_stride=32)).eval()(image)
            expected = whole.forward_intermediates(image, intermediates_only=True)[-4:]
        for x, y in zip(maps, expected, strict=True):
            torch.testing.assert_close(x, y)

    @pytest.mark.slow
    @pytest.mark.parametrize(("in_channels", "stride"), [(1, 8), (4, 16)])
    def test_other_input_channels_and_output_strides(
        self, name: str, whole: nn.Module, in_channels: int, stride: int
    ) -> None:
        backbone = build_backbone(BackboneRecipe(name, output_stride=stride, in_channels=in_channels))
        assert backbone.strides[-1] == stride
        expected, rgb = whole.state_dict(), whole.conv_stem.weight
        stems = {1: rgb.sum(1, keepdim=True), 4: torch.cat([rgb, rgb[:, :1]], 1) * 3 / 4}
        for key, value in backbone.net.state_dict().items():
            if key == "conv_stem.weight":
                torch.testing.assert_close(value, stems[in_channels])
            else:
                assert torch.equal(value, expected[key]), key

    def test_a_constructor_takes_their_mean_and_std(self, name: str, whole: nn.Module) -> None:
        network = GFFNet(name, 5, channels=8, output_stride=32, pretrained=True)
        assert network.mean == network.std == (127.5, 127.5, 127.5)
        assert torch.equal(network.backbone.net.conv_stem.weight, whole.conv_stem.weight)
