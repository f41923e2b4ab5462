"""`weights: imagenet`: the file of timm's own weights, from the local cache of the hub or the hub itself.

Without a network the hub's client tries for most of a minute before it gives up. Here the cache is asked first, then
whether the hub answers at all, for two seconds; the error that follows says how to bring the file here by hand.
"""

import socket
import urllib.request
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from gffnet.errors import UserError

PATIENCE = 2.0
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
        with suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE):
            answered.set()

    # In a thread, since looking up a name knows no time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()
