"""Models on the hub, huggingface.co or the one that HF_ENDPOINT names: by OWNER/NAME, or OWNER/NAME@REVISION.

Fetched are config and safetensors and nothing else, into the cache of the hub's client. Whether there is a newer
version is asked only where the hub takes a connection within two seconds and answers within five; else, and for a
commit (40 hexadecimal digits), which cannot change, what is in the cache will do.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

import gffnet
from gffnet.console import screen
from gffnet.errors import UserError
from gffnet.models.backbones.hub import reachable

FILES = ("config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
"""All that is fetched: nothing that could run code."""
CARD = "README.md"
PATIENCE = 5.0
"""Seconds that the hub has to answer, once it has accepted a connection."""

_WORD = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?", re.ASCII)
_FILE_ENDINGS = (".ckpt", ".json", ".onnx", ".pt", ".pt2", ".pth", ".safetensors", ".yaml")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_name(model: str | Path) -> bool:
    """Whether a MODEL can only be a name on the hub.

    It is text that reads OWNER/NAME or OWNER/NAME@REVISION, and here are no such file or folder and no folder OWNER.
    """
    name = _NAME.fullmatch(model) if isinstance(model, str) else None
    if name is None or name[1].endswith(_FILE_ENDINGS):
        return False
    return not Path(model).exists() and not Path(name[1].partition("/")[0]).is_dir()


def fetch(
    name: str,
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """The folder in the cache that holds a model of the hub, fetched if need be.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION, where a revision is a branch, a tag or a commit.
        token: to use instead of that of `hf auth login`.
        cache_dir: to use instead of HF_HUB_CACHE.
        force_download: fetch it although it is in the cache.
        local_files_only: ask the cache only.

    Raises:
        UserError: there is no such model, or it is not in the cache and cannot be fetched.
    """
    repository, revision = _split(name)

    def snapshot(local: bool) -> Path:
        with _bars():
            folder = snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                force_download=force_download and not local,
                local_files_only=local,
                allow_patterns=list(FILES),
                library_name="gffnet",
                library_version=gffnet.__version__,
            )
        if not (Path(folder) / FILES[0]).is_file():
            raise UserError(f"model {name} is on the hub, but holds no {FILES[0]}: it is no model of gffnet.")
        return Path(folder)

    if revision and _COMMIT.fullmatch(revision) and not force_download:
        with suppress(LocalEntryNotFoundError):
            return snapshot(local=True)
    try:
        return snapshot(local_files_only or constants.HF_HUB_OFFLINE or not _answers(repository, revision, token))
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        raise _missing(name, cache_dir, local_files_only, error) from None
    except Exception as error:  # what the client raises differs between its releases
        raise _refused(f"model {name}", repository, revision, error) from None


def upload(
    folder: Path, repository: str, *, private: bool | None = None, token: str | None = None, message: str = "A model"
) -> str:
    """Put a model folder on the hub, in place of the one that is there, in one commit; returns its address.

    Raises:
        UserError: the name is none, the hub cannot be reached, or it refuses.
    """
    check_upload(repository)
    api = HfApi(token=token, library_name="gffnet", library_version=gffnet.__version__)
    try:
        with _bars():
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                allow_patterns=[*FILES, CARD],
                delete_patterns=list(FILES),
            )
    except Exception as error:  # what the client raises differs between its releases
        raise _refused(f"model {repository} could not be put on the hub", repository, None, error) from None
    return str(commit)


def check_upload(repository: str) -> None:
    """Refuse early what could not be uploaded.

    Raises:
        UserError: the name is none, or the hub cannot be reached.
    """
    name = _NAME.fullmatch(repository)
    if name is None or name[2]:
        raise UserError(f"{repository!r} is no name on the hub: it must read OWNER/NAME, such as your-name/gffnet-r18.")
    how = "Write the folder (`gffnet publish --out DIR`), and on a machine with a network: "
    remedy = f"{how}`hf upload {repository} DIR`."
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"model {repository} cannot be put on the hub: HF_HUB_OFFLINE is set. {remedy}")
    if not reachable(constants.ENDPOINT):
        raise UserError(f"model {repository} cannot be put on the hub: {_host()} cannot be reached. {remedy}")


def _answers(repository: str, revision: str | None, token: str | bool | None) -> bool:
    """Whether the hub answers in time, whatever it says: what fetches has no time limit of its own."""
    if not reachable(constants.ENDPOINT):
        return False
    try:
        HfApi(token=token).model_info(repository, revision=revision, timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        return True
    except Exception:  # what the client raises differs between its releases
        return False
    return True


def _split(name: str) -> tuple[str, str | None]:
    """OWNER/NAME, and the revision if there is one."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise UserError(f"{name!r} is no name on the hub: it must read OWNER/NAME or OWNER/NAME@REVISION.")
    return parts[1], parts[2]


def _missing(name: str, cache_dir: str | Path | None, asked_cache_only: bool, error: Exception) -> UserError:
    """The error for a model that is not in the cache and cannot be fetched now."""
    repository, revision = _split(name)
    if asked_cache_only:
        reason = "nothing but the cache is to be asked (local_files_only)"
    elif constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif isinstance(error.__cause__, HfHubHTTPError):
        reason = f"{_host()} answered: {_short(error.__cause__)}"
    else:
        reason = f"{_host()} cannot be reached"
    own = repository.partition("/")[2]
    at = f" --revision {revision}" if revision else ""
    return UserError(
        f"model {name}: there is no such folder here, a model of this name is not in the hub's cache "
        f"{cache_dir or constants.HF_HUB_CACHE}, and {reason}. On a machine with a network: "
        f"`hf download {repository}{at} --local-dir {own}`; bring the folder here and name it: --model ./{own}."
    )


def _refused(what: str, repository: str, revision: str | None, error: Exception) -> UserError:
    """The error for a hub that answers and does not do what it is asked."""
    if isinstance(error, GatedRepoError):
        return UserError(
            f"{what}: its owner gives access on request. Ask at {_page(repository)}, then `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{what}: it has no revision {revision!r}. See {_page(repository)}/commits/main.")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"{what}: {_host()} has no model {repository}, or it is private. Check the name (a folder of that name is "
            "not here either), or log in: `hf auth login`."
        )
    if isinstance(error, LocalTokenNotFoundError) or (
        isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code in (401, 403)
    ):
        return UserError(
            f"{what}: {_host()} wants to know who you are. Log in: `hf auth login`, with a token that may."
        )
    if isinstance(error, HFValidationError):
        return UserError(f"{what}: {_short(error)}.")
    return UserError(f"{what}: {_host()} answered: {_short(error)}. Try again later.")


def _short(error: BaseException) -> str:
    """What an error says, without the addresses that it was met at."""
    told = re.split(r" (?:for url|For more information)", " ".join(str(error).split()))[0]
    return told[:300].rstrip(".") or type(error).__name__


@contextmanager
def _bars() -> Iterator[None]:
    """The client's progress bars where a person sees them, and else none."""
    if screen.is_terminal or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _host() -> str:
    return urlsplit(constants.ENDPOINT).netloc


def _page(repository: str) -> str:
    return f"{constants.ENDPOINT}/{repository}"
