"""Weights of backbones: from a file (`weights: FILE`), or those that timm publishes (`weights: imagenet`).

A file is .safetensors, or what `torch.save` writes (.pth, .pt, .bin, .ckpt), read as tensors only, so that no file can
run code. It holds a state dict, bare or under `state_dict`, `model` or `backbone`. Names may stand behind `module.`,
`model.`, `encoder.` or `backbone.`; what lacks such a prefix that others have is not part of the backbone. Names are
timm's, which for ResNet are torchvision's too, or the backbone's own. torchvision's old names of DenseNet (`norm.1`)
and those that timm itself converts are understood.

Everything must fit but the classifier, which is dropped, and the first convolution, which timm's rule adapts to the
number of input channels where the file has three.
"""

import pickle
import re
import socket
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import safetensors.torch
import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import adapt_input_conv
from torch import Tensor, nn

from gffnet.errors import UserError, nearest
from gffnet.recipe import BackboneRecipe

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "backbone")
PREFIXES = ("module.", "model.", "encoder.", "backbone.")
COUNTER = "num_batches_tracked"
"""Buffer of batch normalization that old files lack; it has no effect here."""


def read_weights(path: Path) -> State:
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
        reason = " ".join(str(error).split()).partition(". ")[0] or "it ends too early"
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


def fit_weights(state: State, own: Mapping[str, Tensor], recipe: BackboneRecipe, path: Path) -> State:
    """Fit tensors from a file to a backbone.

    Args:
        state: tensors by name, as `read_weights` returns them.
        own: state dict of the backbone.
        recipe: names the timm model and its input channels.
        path: the file, named in errors.

    Returns:
        All parameters and buffers of the timm model but the classifier's under timm's names, or those of `own`.

    Raises:
        UserError: names or shapes differ; the message lists them.
    """
    with torch.device("meta"):
        full, reference = (
            timm.create_model(recipe.name, num_classes=n, in_chans=recipe.in_channels) for n in (1000, 0)
        )
    expected = reference.state_dict()
    classifier = full.state_dict().keys() - expected.keys()
    state = _strip_prefixes(state, expected)
    # torchvision's old names of DenseNet: denselayer1.norm.2 is denselayer1.norm2.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name): value for name, value in state.items()}
    if state.keys() == own.keys() and not differences(own, state):
        return state
    found = []
    for candidate in (state, _convert(state, reference)):
        without_classifier = {name: value for name, value in candidate.items() if name not in classifier}
        fitted = _adapt_input_channels(without_classifier, recipe)
        found.append(differences(expected, fitted))
        if not found[-1]:
            counters = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
            return {**counters, **fitted}
    raise UserError(
        f"weights file {path} does not fit backbone {recipe.name!r}: {found[0]}. Give a file of {recipe.name}, or name "
        "the backbone that the file holds."
    )


def _strip_prefixes(state: State, expected: Iterable[str]) -> State:
    """Remove the prefixes that training code adds to names, and all entries without them."""
    own = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in expected)]
    found = next((p for p in PREFIXES if p not in own and any(name.startswith(p) for name in state)), None)
    if found is None:
        return state
    return _strip_prefixes(
        {n.removeprefix(found): value for n, value in state.items() if n.startswith(found)}, expected
    )


def _convert(state: State, reference: nn.Module) -> State:
    """Convert names of older releases as timm does when it loads weights into the model `reference`."""
    convert = getattr(sys.modules[type(reference).__module__], "checkpoint_filter_fn", lambda state, _: state)
    with suppress(AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return dict(convert(dict(state), reference))
    return state  # names that timm does not know


def _adapt_input_channels(state: State, recipe: BackboneRecipe) -> State:
    """Adapt the first convolutions to the input channels of the model, where they have three."""
    config = timm.get_pretrained_cfg(recipe.name)
    first = config.first_conv if config is not None else None
    names = [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first or ())]
    rgb = [name for name in names if name in state and state[name].ndim == 4 and state[name].shape[1] == 3]
    return {**state, **{name: adapt_input_conv(recipe.in_channels, state[name]) for name in rgb}}


def differences(expected: Mapping[str, Tensor], state: State) -> str:
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


HUB_TIMEOUT = 2.0
"""Seconds within which the hub must accept a connection."""


def pretrained_file(name: str) -> Path:
    """Return the file of the weights that timm publishes for a model, from the hub's cache or the hub.

    Args:
        name: a timm model name, with or without a tag (`resnet50`, `resnet50.tv_in1k`).

    Raises:
        UserError: there are no such weights, or the file is not in the cache and cannot be downloaded.
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
    reason = ""
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif not reachable(constants.ENDPOINT):
        reason = f"{urlsplit(constants.ENDPOINT).hostname} cannot be reached"
    for file in () if reason else files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except Exception as error:  # what the client raises differs between its releases
            reason = f"the download failed: {' '.join(str(error).split()).rstrip('.') or type(error).__name__}"
            # Only the answer that there is no such file leads to the next; no answer is a subclass of it.
            if isinstance(error, LocalEntryNotFoundError) or not isinstance(error, EntryNotFoundError):
                break
    raise UserError(
        f"weights 'imagenet' of backbone {name!r}: {repository} is not in the local cache {constants.HF_HUB_CACHE}, "
        f"and {reason}. On a machine with a network: `hf download {repository} {files[0]} --local-dir .`; copy the "
        "file here and give it: --set model.backbone.weights=FILE, in Python pretrained=FILE. Or random weights: --set "
        "model.backbone.weights=none, in Python pretrained=False."
    )


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
