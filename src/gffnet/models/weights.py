"""Weights of a backbone from a file.

A file is .safetensors, or what `torch.save` writes (.pth, .pt, .bin, .ckpt), which is read as tensors only, so that no
file can run code. It holds a state dict, bare or wrapped (`state_dict`, `model`, `backbone`). Its names stand as they
are or behind `module.`, `model.`, `encoder.`, `backbone.`; what lies outside such a prefix is no part of the backbone.
Names are timm's, which for ResNet are torchvision's too. torchvision's old names of DenseNet (`norm.1`) are understood,
and those that timm translates when it reads older files of its own.

Everything must fit but the classifier, which is left out, and the first convolution, which is made to fit the number
of input channels by timm's rule where the file has three.
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
from gffnet.models.backbones import Backbone
from gffnet.recipe import BackboneRecipe

# Whose weights are these? For the error that says they do not fit.


COUNTER = "num_batches_tracked"
"""The buffer of batch norms that old files lack; what it holds has no effect here."""

KNOWN: tuple[tuple[str, tuple[str, ...]], ...] = (
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
"""A name that tells a family, and the family's common models."""


def lookalike(state: Mapping[str, Tensor]) -> str | None:
    """The common timm model with exactly the names and shapes of `state`, classifier apart; None if there is none."""
    sizes = _sizes(state)
    for sign, names in KNOWN:
        for name in names if sign in state else ():
            with torch.device("meta"):
                expected = _sizes(timm.create_model(name, num_classes=0).state_dict())
            if all(sizes.get(key) == size for key, size in expected.items()) and len(sizes) - len(expected) <= 2:
                return name
    return None


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Size]:
    return {name: value.shape for name, value in state.items() if not name.endswith(COUNTER)}


State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "backbone")
PREFIXES = ("module.", "model.", "encoder.", "backbone.")


def read_weights_file(path: Path) -> State:
    """The tensors in a file, under the names they have there.

    Raises:
        UserError: the file does not exist, is damaged, or holds no tensors by name.
    """
    if not path.is_file():
        near = nearest(str(path), ("imagenet", "none"))
        raise UserError(f"weights file {path} does not exist.{near} model.backbone.weights: imagenet, none or a file.")
    if path.suffix not in SUFFIXES:
        raise UserError(f"weights file {path}: its name must end with {', '.join(SUFFIXES)}.")
    try:
        content = _read(path)
    except pickle.UnpicklingError:
        raise UserError(
            f"weights file {path} is no checkpoint, or holds Python objects besides tensors; those could run code and "
            "are not read. Save the weights alone: torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split()).partition(". ")[0] or "it ends too early"
        raise UserError(f"weights file {path} is damaged, or no checkpoint: {reason}. Fetch it again.") from None
    state = _tensors(content)
    if not state:
        raise UserError(f"weights file {path} holds no state dict, neither bare nor under {', '.join(WRAPPERS)}.")
    return state


def load_weights(backbone: Backbone, recipe: BackboneRecipe, state: State, path: Path) -> None:
    """Load tensors into a backbone.

    Args:
        backbone: what `recipe` builds; changed in place.
        recipe: names the model and its input channels.
        state: what `read_weights` found in the file `path`.
        path: named in errors.

    Raises:
        UserError: names or shapes differ; it says which, and whose weights they seem to be.
    """
    plain, classifier = _reference(recipe)
    expected = plain.state_dict()
    state = _translated(_unprefixed(state, expected))
    own = backbone.state_dict()
    if state.keys() == own.keys() and not _differences(own, state).any():
        backbone.load_state_dict(state)
        return
    found = []
    for candidate in (state, _updated(state, plain)):
        fitted = _adapted({name: value for name, value in candidate.items() if name not in classifier}, recipe)
        found.append(_differences(expected, fitted))
        if not found[-1].any():
            counters = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
            backbone.load_timm({**counters, **fitted})
            return
    raise _misfit(recipe, path, found[0], lookalike(state))


class Differences(NamedTuple):
    """How a state dict differs from the one a model has."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.missing or self.unexpected or self.shapes)


def _read(path: Path) -> Any:
    """The content of a file, whatever it is."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path, device="cpu")
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(content: Any) -> State:
    """The named tensors in the content of a file, out of their wrappers; empty if there are none."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        content = inner[0]
    return {}


def _unprefixed(state: State, expected: Iterable[str]) -> State:
    """`state` without the prefixes that training code puts before its names."""
    own = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in expected)]
    found = next((p for p in PREFIXES if p not in own and any(name.startswith(p) for name in state)), None)
    if found is None:
        return state
    return _unprefixed({n.removeprefix(found): value for n, value in state.items() if n.startswith(found)}, expected)


def _translated(state: State) -> State:
    """`state` with torchvision's old names of DenseNet in today's form: `denselayer1.norm.2` is `denselayer1.norm2`."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name): value for name, value in state.items()}


def _reference(recipe: BackboneRecipe) -> tuple[nn.Module, set[str]]:
    """The timm model without classifier or memory, and the names of the classifier's parameters."""
    with torch.device("meta"):
        whole, plain = (timm.create_model(recipe.name, num_classes=n, in_chans=recipe.in_channels) for n in (1000, 0))
    return plain, whole.state_dict().keys() - plain.state_dict().keys()


def _updated(state: State, plain: nn.Module) -> State:
    """`state` as timm itself would read it into the model `plain`: older names become today's."""
    translate = getattr(sys.modules[type(plain).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return dict(translate(dict(state), plain))
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state  # other names than it knows


def _adapted(state: State, recipe: BackboneRecipe) -> State:
    """`state` with the first convolutions fitted to the model's input channels, if they have three."""
    config = timm.get_pretrained_cfg(recipe.name)
    first = config.first_conv if config is not None else None
    names = [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first or ())]
    fits = [name for name in names if name in state and state[name].ndim == 4 and state[name].shape[1] == 3]
    return {**state, **{name: adapt_input_conv(recipe.in_channels, state[name]) for name in fits}}


def _differences(expected: Mapping[str, Tensor], state: State) -> Differences:
    """How `state` differs from the `expected` one."""
    return Differences(
        [name for name in expected if name not in state and not name.endswith(COUNTER)],
        [name for name in state if name not in expected],
        [
            f"{name} is {_size(state[name])}, not {_size(value)}"
            for name, value in expected.items()
            if name in state and state[name].shape != value.shape
        ],
    )


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _misfit(recipe: BackboneRecipe, path: Path, found: Differences, seems: str | None) -> UserError:
    """The error for weights that do not fit."""
    parts = []
    for names, what in (
        (found.missing, "missing"),
        (found.unexpected, "unexpected"),
        (found.shapes, "of another shape"),
    ):
        if names:
            parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    remedy = f"It seems to hold {seems}: set model.backbone.name={seems}, or give" if seems else "Give"
    return UserError(
        f"weights file {path} does not fit backbone {recipe.name!r}: {'; '.join(parts)}. {remedy} one of {recipe.name}."
    )


# `weights: imagenet`: the file of timm's own weights, from the local cache of the hub or the hub itself.
#
# Without a network the hub's client tries for most of a minute before it gives up. Here the cache is asked first, then
# whether the hub answers at all, for two seconds; the error that follows says how to bring the file here by hand.


HUB_PATIENCE = 2.0
"""Seconds that the hub has to accept a connection."""


def pretrained_file(name: str) -> Path:
    """The file of the weights that timm publishes for a model.

    Args:
        name: a timm model name, with or without a tag (`resnet50`, `resnet50.tv_in1k`).

    Raises:
        UserError: there are no such weights, or the file is not here and cannot be fetched.
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
        f"On a machine with a network: `hf download {repository} {files[0]} --local-dir .`; bring the file here and "
        "pass --set model.backbone.weights=FILE. Or start from random weights: --set model.backbone.weights=none."
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
    except Exception as error:  # what the client raises differs between its releases, and so do its parents
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{missing}, and the download failed: {reason.rstrip('.')}. {remedy}") from error


def _download(repository: str, files: list[str], revision: str | None) -> Path:
    """Fetch the first of `files` that the repository holds into the cache."""
    for file in files[:-1]:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:  # no answer, rather than the answer that there is no such file
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, files[-1], revision=revision))


def reachable(endpoint: str) -> bool:
    """Whether the host of a URL accepts a connection in time. Behind a proxy: taken for granted."""
    url = urlsplit(endpoint)
    host = url.hostname or ""
    proxies = urllib.request.getproxies()
    if (url.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return True
    answered = Event()

    def connect() -> None:
        port = url.port or (80 if url.scheme == "http" else 443)
        with suppress(OSError), socket.create_connection((host, port), timeout=HUB_PATIENCE):
            answered.set()

    # In a thread, since looking up a name knows no time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_PATIENCE)
    return answered.is_set()
