"""The model folder: `config.json` (network, classes, protocol) and safetensors (weights). No code in either."""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import safetensors
import safetensors.torch
import torch
from huggingface_hub import HfApi, constants, snapshot_download, split_torch_state_dict_into_shards
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
from gffnet.files import atomic_write
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.weights import reachable
from gffnet.recipe import EvaluationRecipe, ModelRecipe, from_mapping, validated

# Weights in safetensors files: one, or shards with an index; float32, or half of that on the disk.
#
# DIR/model.safetensors                  all weights, or else
# DIR/model-00001-of-00003.safetensors   ... some of them, and
# DIR/model.safetensors.index.json       {"metadata": {"total_size": bytes}, "weight_map": {weight: name of its shard}}
#
# In half precision, kernels of convolutions are rounded to float16 or bfloat16. Vectors (biases, batch normalisation)
# stay float32: they are a thousandth of the bytes, and variances may not fit into float16. What is read is float32 again.


WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")

WeightFormat: TypeAlias = Literal["float32", "bfloat16", "float16"]
State: TypeAlias = dict[str, torch.Tensor]

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ENTRY = 160
"""Bytes that the header of a file needs at most for a weight, besides its name."""


def write_weights(
    folder: Path, state: Mapping[str, torch.Tensor], kind: WeightFormat = "float32", max_shard_size: str | None = None
) -> None:
    """Write the weights of a network in place of those that are in the folder.

    Args:
        folder: where to; each file appears whole or not at all.
        state: the weights by name.
        kind: number format of kernels on the disk.
        max_shard_size: bytes that no file may be larger than, such as `16MB`; None: all in one file.

    Raises:
        UserError: a weight alone is larger, or lies outside of what float16 can hold.
        CannotWrite: there is no room.
    """
    stored = {name: _stored(name, value, kind) for name, value in state.items()}
    files = _shards(stored, max_shard_size)
    for name, shard in files.items():
        atomic_write(folder / name, safetensors.torch.save(shard, {"format": "pt"}))
    if WEIGHTS not in files:
        size = sum(value.nbytes for value in stored.values())
        places = {weight: name for name, shard in files.items() for weight in shard}
        index = json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=1)
        atomic_write(folder / INDEX, index.encode())
    for old in folder.glob("model*.safetensors*"):
        if old.name not in files and (old.name == WEIGHTS or SHARD.fullmatch(old.name)):
            old.unlink()
    if WEIGHTS in files:
        (folder / INDEX).unlink(missing_ok=True)


def read_weights(folder: Path) -> State:
    """The weights in a folder, floats as float32.

    Raises:
        UserError: there are none, or files are missing, damaged, or not of one another.
    """
    if not (folder / INDEX).is_file() or (folder / WEIGHTS).exists():
        return _read_file(folder / WEIGHTS)
    places, state = _read_index(folder / INDEX), State()
    for name in sorted(set(places.values())):
        shard = _read_file(folder / name)
        wanted = {weight for weight, place in places.items() if place == name}
        if shard.keys() != wanted:
            odd = sorted(shard.keys() ^ wanted)[0]
            raise UserError(
                f"model {folder / name}: weight {odd!r} is in the shard or in {INDEX}, and not in both: they are of "
                "different models. Copy or fetch the folder again."
            )
        state |= shard
    return state


def rounded(state: Mapping[str, torch.Tensor], kind: WeightFormat) -> State:
    """Weights as they come back from files of a number format: `read_weights` after `write_weights`.

    Raises:
        UserError: a weight lies outside of what float16 can hold.
    """
    return {name: _stored(name, value, kind).to(value.dtype) for name, value in state.items()}


def size_in_bytes(text: str) -> int:
    """`16MB` → 16,000,000.

    Raises:
        UserError: it reads otherwise.
    """
    parts = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([KMG]i?B)", text)
    if not (parts and float(parts[1])):
        raise UserError(f"max_shard_size {text!r} must be a number with {', '.join(_UNITS)}, such as 16MB.")
    return int(float(parts[1]) * _UNITS[parts[2]])


def _stored(name: str, value: torch.Tensor, kind: WeightFormat) -> torch.Tensor:
    """A weight as it is written."""
    value = value.detach().cpu().contiguous()
    if kind == "float32" or value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.to(getattr(torch, kind))
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise UserError(f"weight {name!r} has values above 65504, which float16 cannot hold. Choose bfloat16.")
    return half


def _shards(stored: State, max_shard_size: str | None) -> dict[str, State]:
    """The weights of every file, by its name."""
    if max_shard_size is None:
        return {WEIGHTS: stored}
    limit = size_in_bytes(max_shard_size)
    room = limit - sum(_ENTRY + len(name.encode()) for name in stored)  # whatever the header of a shard takes
    name, largest = max(stored.items(), key=lambda item: item[1].nbytes)
    if largest.nbytes > room:
        least = math.ceil((limit - room + largest.nbytes) / 1e6)
        half = ", or write it in half precision" if largest.dtype == torch.float32 else ""
        raise UserError(
            f"max_shard_size {max_shard_size}: weight {name!r} alone has {largest.nbytes / 1e6:.1f} MB, and a weight "
            f"is not divided. Give {least}MB or more{half}."
        )
    split = split_torch_state_dict_into_shards(stored, max_shard_size=room)
    return {file: {name: stored[name] for name in names} for file, names in split.filename_to_tensors.items()}


def _read_file(path: Path) -> State:
    """The weights in one file."""
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(
            f"model {path.parent}: {path.name} is missing; a model folder has it beside config.json."
        ) from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"model {path}: not a whole safetensors file ({error}); copy or train it again.") from None
    halves = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in halves else value for name, value in state.items()}


def _read_index(path: Path) -> dict[str, str]:
    """The shard of every weight."""
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        places: dict[str, str] = dict(index["weight_map"])
        odd = [place for place in places.values() if not SHARD.fullmatch(place)]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"model index {path}: not valid: {error!r}. Copy or fetch the folder again.") from None
    if odd or not places:
        what = f"{odd[0]!r} is no name of a shard" if odd else "it names no weights"
        raise UserError(f"model index {path}: {what}, such as model-00001-of-00002.safetensors.")
    return places


# Models on the hub, huggingface.co or the one that HF_ENDPOINT names: by OWNER/NAME, or OWNER/NAME@REVISION.
#
# Fetched are config and safetensors and nothing else, into the cache of the hub's client. Whether there is a newer
# version is asked only where the hub takes a connection within two seconds and answers within five; else, and for a
# commit (40 hexadecimal digits), which cannot change, what is in the cache will do.


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


CONFIG = "config.json"
EXPORTED = (".onnx", ".pt2")
"""How the names of exported files end."""
AVERAGED = "average.network."
"""Before the names of the averaged weights in a checkpoint; the trained ones are in `network.`."""


@validated
class ModelConfig:
    """What a trained network is, besides its weights."""

    model: ModelRecipe
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    dataset: str
    recipe: str
    """Name of the recipe that it was trained with."""
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    learned_from: tuple[int, int] | None = None
    """Height and width that its training images had, mostly; None: not known."""

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.palette) > 0:
            raise UserError(f"it has {len(self.classes)} classes and {len(self.palette)} colours: one each is needed.")
        wrong = [colour for colour in self.palette if not all(0 <= level <= 255 for level in colour)]
        if wrong:
            raise UserError(f"palette: colour {wrong[0]} is not in 0..255.")
        if self.learned_from is not None and min(self.learned_from) < 1:
            raise UserError(f"learned_from {list(self.learned_from)} is no height and width.")

    def to_text(self) -> str:
        """The config as JSON, as `config.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def save_model(
    folder: Path,
    network: SegmentationModel,
    config: ModelConfig,
    weights: WeightFormat = "float32",
    max_shard_size: str | None = None,
) -> None:
    """Write the model folder. Each file appears whole or not at all.

    `weights` and `max_shard_size` are `kind` and `max_shard_size` of `write_weights`, and errors as well.
    """
    write_weights(folder, network.state_dict(), weights, max_shard_size)
    atomic_write(folder / CONFIG, config.to_text().encode())


def hash_weights(network: SegmentationModel) -> str:
    """SHA-256 over the names, number formats, shapes and values of a network's state, wherever it is kept."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name} {stored.dtype} {tuple(stored.shape)}\n".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(model: str | Path) -> tuple[SegmentationModel, ModelConfig]:
    """The network and the config of a MODEL: a run folder, a model folder, a checkpoint of a run (.ckpt), or a
    name on the hub.

    Raises:
        UserError: no such model, files missing, damaged, or not of one another.
    """
    path = Path(model)
    if path.suffix == ".ckpt" and path.is_file():
        return _load_checkpoint(path)
    if is_exported(model):
        raise UserError(
            f"model {path} is an exported file, which can predict and no more. Give the run folder that it was "
            "exported from."
        )
    folder = fetch(str(model)) if is_hub_name(model) else find_model(model)
    config = _read_config(folder / CONFIG)
    return _filled(config, read_weights(folder), folder / WEIGHTS), config


def is_exported(model: str | Path) -> bool:
    """Whether a MODEL is an exported file, as its name says."""
    path = Path(model)
    return path.suffix in EXPORTED and not path.is_dir()


def _load_checkpoint(path: Path) -> tuple[SegmentationModel, ModelConfig]:
    """The network of a run as it was in the midst of training: the averaged one, where the run has one."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)  # which executes nothing
        config = from_mapping(ModelConfig, json.loads(stored["config"]), f"model {path}")
        state: dict[str, torch.Tensor] = stored["state_dict"]
    except UserError:
        raise
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model {path}: not a whole checkpoint of gffnet ({reason}).") from None
    averaged = any(key.startswith(AVERAGED) for key in state)
    prefix = AVERAGED if averaged else "network."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return _filled(config, weights, path), config


def _filled(config: ModelConfig, weights: dict[str, torch.Tensor], path: Path) -> SegmentationModel:
    """The network of a config with `weights`, which are those in the file `path`."""
    network = _unfilled(config)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {path}: these weights are not of the network in {CONFIG}: {reason}") from None
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def _unfilled(config: ModelConfig) -> SegmentationModel:
    """The network of a config, to be filled with its weights."""
    recipe = config.model.without_weights()
    with torch.device("meta"):
        network = build_network(recipe, len(config.classes))
    if network.state_dict().keys() >= {name for name, _ in network.named_buffers()}:
        return network
    return build_network(recipe, len(config.classes))  # some constants are not stored, but computed when it is built


def find_model(model: str | Path) -> Path:
    """The model folder of a MODEL given as a run folder or as the model folder itself.

    Raises:
        UserError: there is none.
    """
    path = Path(model)
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise UserError(
            f"model {path} does not exist. Give a run folder, such as runs/camvid/gffnet_r18, or a name on the hub, "
            "OWNER/NAME."
        )
    raise UserError(f"model {path} holds no {CONFIG}, nor does {path / 'model'}: it is no run or model folder.")


def _read_config(path: Path) -> ModelConfig:
    """The config in a file, checked."""
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), f"model config {path}")
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"model config {path}: not valid: {error}") from None


# Libraries that say more than anybody asked for, kept from the terminal.


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log records below errors, and nothing printed, while this lasts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# The model that ships with the package, which is meant where none is named.


SHIPPED = Path(gffnet.__file__).with_name("pretrained") / "camvid_gffnet_r18"
"""Its model folder, with a card and a licence of its own."""


def shipped_model() -> Path:
    """The model folder.

    Raises:
        UserError: this installation lacks it.
    """
    if not SHIPPED.is_dir():
        raise UserError(
            "no model ships with this version. Train one, such as `gffnet train streets/gffnet_r18 --root DIR`, "
            "and name its run folder: --model runs/streets/gffnet_r18."
        )
    return SHIPPED
