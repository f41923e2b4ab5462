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
from functools import cache
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
from torch import Size, Tensor, nn

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
        raise UserError(f"weights file {path} does not exist.{near} model.backbone.weights: imagenet, none or a file.")
    if path.suffix not in SUFFIXES:
        raise UserError(f"weights file {path}: its name must end with {', '.join(SUFFIXES)}.")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path, device="cpu")
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
    state = _unwrap(content)
    if not state:
        raise UserError(f"weights file {path} holds no state dict, neither bare nor under {', '.join(WRAPPERS)}.")
    return state


def _unwrap(content: Any) -> State:
    """Return the named tensors in the content of a file, without their wrappers; empty if there are none."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        content = inner[0]
    return {}


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
        UserError: names or shapes differ; the message lists them, and the model that the weights seem to be of.
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
    if state.keys() == own.keys() and not Differences.between(own, state):
        return state
    found = []
    for candidate in (state, _convert(state, reference)):
        without_classifier = {name: value for name, value in candidate.items() if name not in classifier}
        fitted = _adapt_input_channels(without_classifier, recipe)
        found.append(Differences.between(expected, fitted))
        if not found[-1]:
            counters = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
            return {**counters, **fitted}
    model = identify_model(state)
    remedy = f"It seems to hold {model}: set model.backbone.name={model}, or give" if model else "Give"
    raise UserError(
        f"weights file {path} does not fit backbone {recipe.name!r}: {found[0]}. {remedy} one of {recipe.name}."
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
    convert = getattr(sys.modules[type(reference).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), reference))
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state  # names that it does not know


def _adapt_input_channels(state: State, recipe: BackboneRecipe) -> State:
    """Adapt the first convolutions to the input channels of the model, where they have three."""
    config = timm.get_pretrained_cfg(recipe.name)
    first = config.first_conv if config is not None else None
    names = [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first or ())]
    rgb = [name for name in names if name in state and state[name].ndim == 4 and state[name].shape[1] == 3]
    return {**state, **{name: adapt_input_conv(recipe.in_channels, state[name]) for name in rgb}}


class Differences(NamedTuple):
    """The differences between a state dict and the one that a model expects; false if there are none."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    @classmethod
    def between(cls, expected: Mapping[str, Tensor], state: State) -> "Differences":
        """Compare names and shapes; counters may be missing."""
        return cls(
            [name for name in expected if name not in state and not name.endswith(COUNTER)],
            [name for name in state if name not in expected],
            [
                f"{name} is {_shape(state[name])}, not {_shape(value)}"
                for name, value in expected.items()
                if name in state and state[name].shape != value.shape
            ],
        )

    def __bool__(self) -> bool:
        return any(tuple(self))

    def __str__(self) -> str:
        parts = []
        for names, what in zip(self, ("missing", "unexpected", "of another shape"), strict=True):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return "; ".join(parts)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


COMMON_MODELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "layer1.0.conv1.weight",
        (
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            *("resnet18d", "resnet34d", "resnet50c", "resnet50d", "resnet50s"),
            *("resnet101c", "resnet101d", "resnet101s", "resnet152c", "resnet152d", "resnet152s"),
            *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
        ),
    ),
    ("features.denseblock1.denselayer1.conv1.weight", ("densenet121", "densenet161", "densenet169", "densenet201")),
    (
        "stages.0.blocks.0.conv_dw.weight",
        ("convnext_atto", "convnext_nano", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    ),
    (
        "layers.0.blocks.0.attn.qkv.weight",
        tuple(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")),
    ),
    (
        "conv_stem.weight",
        (
            *(f"efficientnet_b{n}" for n in range(6)),
            *("mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100"),
        ),
    ),
)
"""A parameter by which a family is recognized, and common models of the family."""


def identify_model(state: Mapping[str, Tensor]) -> str | None:
    """Return the common timm model with exactly the names and shapes of `state`, classifier apart, if there is one."""
    shapes = _shapes(state)
    for parameter, names in COMMON_MODELS:
        for name in names if parameter in state else ():
            expected = _model_shapes(name)
            if all(shapes.get(key) == shape for key, shape in expected.items()) and len(shapes) - len(expected) <= 2:
                return name
    return None


@cache
def _model_shapes(name: str) -> dict[str, Size]:
    """Return the shapes of a timm model without classifier."""
    with torch.device("meta"):
        return _shapes(timm.create_model(name, num_classes=0).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, Size]:
    return {name: value.shape for name, value in state.items() if not name.endswith(COUNTER)}


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
            f"weights 'imagenet' of backbone {name!r}: timm publishes none. Set model.backbone.weights=none or a file."
        )
    repository, _, revision = config.hf_hub_id.partition("@")
    named = config.hf_hub_filename
    files = [named] if named else [constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME]
    for file in files:
        cached = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    remedy = (
        f"On a machine with a network: `hf download {repository} {files[0]} --local-dir .`; copy the file here and "
        "pass --set model.backbone.weights=FILE. Or use random weights: --set model.backbone.weights=none."
    )
    missing = (
        f"weights 'imagenet' of backbone {name!r}: {repository} is not in the local cache {constants.HF_HUB_CACHE}"
    )
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{missing}, and HF_HUB_OFFLINE is set. {remedy}")
    if not reachable(constants.ENDPOINT):
        raise UserError(f"{missing}, and {urlsplit(constants.ENDPOINT).hostname} cannot be reached. {remedy}")
    try:
        return _download(repository, files, revision or None)
    except Exception as error:  # what the client raises differs between its releases
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{missing}, and the download failed: {reason.rstrip('.')}. {remedy}") from error


def _download(repository: str, files: list[str], revision: str | None) -> Path:
    """Download the first of `files` that the repository holds."""
    for file in files[:-1]:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:  # no answer; it is a subclass of the answer that there is no such file
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, files[-1], revision=revision))


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
