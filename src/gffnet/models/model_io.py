"""Files of models, on the disk and on the hub: model folders, weights, checkpoints, and the model that ships.

A model folder holds no code:

    config.json                       network, classes, palette, protocol, ...: a `ModelConfig`
    model.safetensors                 all weights, or else
    model-00001-of-00003.safetensors  shards of them, and
    model.safetensors.index.json      {"metadata": {"total_size": bytes}, "weight_map": {weight: its shard}}

A MODEL, wherever gffnet takes one, is a model folder, a run folder (with a model folder `model/` in it), a checkpoint
of a run, an exported file (`gffnet.inference.exported`), or a name on the Hugging Face hub. Networks are made of them
by `gffnet.models.gffnet.load_model`.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit
from zipfile import is_zipfile

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
from torch import nn

import gffnet
from gffnet.console import screen, size_in_bytes
from gffnet.errors import Damaged, UserError, one_line
from gffnet.files import as_path, atomic_write, write_json
from gffnet.models.weights import StateDict, reachable
from gffnet.palette import voc_colors
from gffnet.recipe import EvaluationRecipe, ModelRecipe, from_mapping, recipe_names, validated
from gffnet.registry import plugin_of
from gffnet.remote import is_url, local_folder

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
CARD = "README.md"
LICENSE = "LICENSE"
"""File of a model folder with the text of its licence, if it has one of its own."""

SHIPPED = Path(gffnet.__file__).with_name("pretrained") / "camvid_gffnet_lite0"
"""The model folder that ships with the package, with a card and a licence of its own."""

_EXPORTED = (".onnx", ".xml", ".pt2")
_EMA = "average.network."
"""Prefix of the EMA weights in a checkpoint; that of the trained ones is `network.`."""

WeightFormat: TypeAlias = Literal["float32", "bfloat16", "float16"]


@validated
class ModelConfig:
    """A trained network, apart from its weights."""

    model: ModelRecipe
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    dataset: str
    """Data set that it was trained on; empty: not known."""
    recipe: str
    """Name of the recipe that it was trained with, or of the network."""
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    learned_from: tuple[int, int] | None = None
    """Height and width of most training images; None: not known."""
    plugins: tuple[str, ...] = ()
    """The plug-ins that register what the network consists of; they follow from `model`."""

    def __post_init__(self) -> None:
        used = [plugin for kind, name in self.model.names().items() if (plugin := plugin_of(kind, name))]
        # Files go by name: a model may be published.
        plugins = dict.fromkeys(Path(plugin).name for plugin in (*self.plugins, *used))
        object.__setattr__(self, "plugins", tuple(plugins))
        if not len(self.classes) == len(self.palette) > 0:
            raise UserError(f"it has {len(self.classes)} classes and {len(self.palette)} colors: one each is needed.")
        wrong = [color for color in self.palette if not all(0 <= level <= 255 for level in color)]
        if wrong:
            raise UserError(f"palette: color {wrong[0]} is not in 0..255.")
        if self.learned_from is not None and min(self.learned_from) < 1:
            raise UserError(f"learned_from {list(self.learned_from)} is not a height and width.")

    def to_text(self) -> str:
        """Return the config as JSON, as `config.json` holds it: files go by name, without their folders."""
        mapping = dataclasses.asdict(self)
        backbone = mapping["model"]["backbone"]
        backbone["weights"] = Path(backbone["weights"]).name
        return json.dumps(mapping, indent=1)


def untrained_config(model: ModelRecipe, classes: Sequence[str]) -> ModelConfig:
    """Return the config of a network of no data set, with a generated palette and a name such as `gffnet_resnet18`."""
    kind = "pspnet" if model.fusion == "none" else "gffnet"
    palette = tuple(islice(voc_colors(), len(classes)))
    return ModelConfig(model, tuple(classes), palette, dataset="", recipe=f"{kind}_{model.backbone.name}")


def read_model(model: str | Path) -> tuple[ModelConfig, StateDict, Path]:
    """Return the config and the weights of a MODEL, and the file that holds the weights.

    Raises:
        UserError: there is no such model, or its files are missing, damaged, or of different models.
    """
    model = local_folder(model) if is_url(model) else model
    path = as_path(model)
    if path.suffix == ".ckpt" and path.is_file():
        return *_read_checkpoint(path), path
    _refuse_recipe(model)
    if is_exported(model):
        raise UserError(f"model {path} is an exported file, which can predict and no more. Give its run folder.")
    folder = fetch(str(model)) if is_hub_name(model) else find_model(model)
    return read_config(folder), read_weights(folder), folder / WEIGHTS


def read_config(folder: Path, record: bool = False) -> ModelConfig:
    """Return the config in a model folder; of a `record`, plug-ins need not be imported.

    Raises:
        UserError: it is missing or not valid.
    """
    source = f"model config {folder / CONFIG}"
    try:
        mapping = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{source}: not valid ({error}); copy or train it again.") from None
    return from_mapping(ModelConfig, mapping, source, record)


def find_model(model: str | Path) -> Path:
    """Return the model folder of a MODEL given as a run folder or as the model folder itself.

    Raises:
        UserError: there is none.
    """
    _refuse_recipe(model)
    path = as_path(model)
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise UserError(f"model {path} does not exist. Give a run or model folder, or OWNER/NAME on the hub.")
    raise UserError(f"model {path} holds no {CONFIG}, nor does {path / 'model'}: it is no run or model folder.")


def _refuse_recipe(model: str | Path) -> None:
    """Refuse the name of a recipe, which looks like a name on the hub."""
    name = str(model)
    if not Path(model).exists() and name in recipe_names():
        raise UserError(
            f"model {name!r} is the name of a recipe, which has no weights. Train it (`gffnet train {name} --root "
            f"DIR`) and give its run folder, by default runs/{name}."
        )


def shipped_model() -> Path:
    """Return the folder of the model that ships with the package, which is used where none is named.

    Raises:
        UserError: this installation lacks it.
    """
    if not SHIPPED.is_dir():
        raise UserError("no model ships with this version. Train one, and name its run folder: --model RUN.")
    return SHIPPED


def is_exported(model: str | Path) -> bool:
    """Return whether a MODEL is an exported file, by its name."""
    path = as_path(model)
    return path.suffix in _EXPORTED and not path.is_dir()


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values of a network's state, whatever its device and layout."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name} {stored.dtype} {tuple(stored.shape)}\n".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_checkpoint(path: Path) -> tuple[ModelConfig, StateDict]:
    """Return the config and the weights of an unfinished run: its EMA, if the run has one."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)  # executes no code
        mapping, state = json.loads(stored["config"]), dict(stored["state_dict"])
    except Exception:  # the parser of a damaged file raises anything
        raise damaged_checkpoint(path, "Copy it again, or give the run folder, or best in it.") from None
    config = from_mapping(ModelConfig, mapping, f"model {path}")
    prefix = _EMA if any(key.startswith(_EMA) for key in state) else "network."
    return config, {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def damaged_checkpoint(path: Path, remedy: str) -> Damaged:
    """Return the error for a checkpoint that cannot be read: it says in plain words what is wrong with the file."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        cut = start == b"PK" and not is_zipfile(path)  # the index of a ZIP archive is at its end
        cause = "is damaged: it is truncated" if cut else "is no checkpoint of gffnet" if start else "is empty"
    except OSError as error:
        cause = f"cannot be read ({error.strerror})"
    return Damaged(f"checkpoint {path} {cause}. {remedy}")


# Weights files. In half precision, kernels are rounded to float16 or bfloat16. Vectors (biases, batch normalisation)
# stay float32: they are a thousandth of the bytes, and variances may exceed the range of float16. Weights that are read
# are float32 again. The files are split and named by huggingface_hub, whose own `save_torch_state_dict` is not atomic.

_HEADER_ENTRY = 160
"""Most bytes that a weight takes in the header of a file, besides its name."""


def write_weights(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    kind: WeightFormat = "float32",
    max_shard_size: str | None = None,
    config: str | None = None,
) -> None:
    """Write the weights of a network in place of those that are in the folder, each file atomically.

    Args:
        folder: the model folder.
        state: the weights by name.
        kind: dtype of kernels on the disk.
        max_shard_size: maximal size of a file, such as `16MB`; None: all in one file.
        config: the text of a `config.json` to write before them, once it is known that they can be written.

    Raises:
        UserError: one weight alone is larger than a shard, or is outside the range of float16.
        CannotWrite: there is no room.
    """
    stored = {name: _to_stored(name, value, kind) for name, value in state.items()}
    seen = Counter(value.untyped_storage().data_ptr() for value in stored.values())
    stored = {  # safetensors takes no weights that share memory, as tied ones do
        name: value.clone() if seen[value.untyped_storage().data_ptr()] > 1 else value for name, value in stored.items()
    }
    files = _split(stored, max_shard_size)
    if config is not None:
        atomic_write(folder / CONFIG, config)
    for name, shard in files.items():
        atomic_write(folder / name, safetensors.torch.save(shard, {"format": "pt"}))
    if WEIGHTS not in files:
        size = sum(value.nbytes for value in stored.values())
        places = {weight: name for name, shard in files.items() for weight in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})
    for old in folder.glob("model*.safetensors*"):
        if old.name not in files and (old.name == WEIGHTS or SHARD.fullmatch(old.name)):
            old.unlink()
    if WEIGHTS in files:
        (folder / INDEX).unlink(missing_ok=True)


def read_weights(folder: Path) -> StateDict:
    """Return the weights in a model folder, floats as float32.

    Raises:
        UserError: there are none, or files are missing, damaged, or of different models.
    """
    if not (folder / INDEX).is_file() or (folder / WEIGHTS).exists():
        return _read_file(folder / WEIGHTS)
    places, state = _read_index(folder / INDEX), StateDict()
    for name in sorted(set(places.values())):
        shard = _read_file(folder / name)
        if odd := sorted(shard.keys() ^ {weight for weight, place in places.items() if place == name}):
            raise UserError(
                f"model {folder / name}: weight {odd[0]!r} is not both in this shard and in {INDEX}: they are of "
                "different models. Copy or fetch the folder again."
            )
        state |= shard
    return state


def rounded(state: Mapping[str, torch.Tensor], kind: WeightFormat) -> StateDict:
    """Return the weights that `read_weights` returns after `write_weights(..., kind)`. Raises as `write_weights`."""
    return {name: _to_stored(name, value, kind).to(value.dtype) for name, value in state.items()}


def _to_stored(name: str, value: torch.Tensor, kind: WeightFormat) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    value = value.float() if value.dtype == torch.float64 else value
    if kind == "float32" or value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.to(getattr(torch, kind))
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise UserError(f"weight {name!r} has values above 65504, which float16 cannot hold. Choose bfloat16.")
    return half


def _split(stored: StateDict, max_shard_size: str | None) -> dict[str, StateDict]:
    """Return the weights of every file, by its name."""
    if max_shard_size is None:
        return {WEIGHTS: stored}
    limit = size_in_bytes(max_shard_size, "max_shard_size")
    room = limit - sum(_HEADER_ENTRY + len(name.encode()) for name in stored)
    name, largest = max(stored.items(), key=lambda item: item[1].nbytes)
    if largest.nbytes > room:
        least = math.ceil((limit - room + largest.nbytes) / 1e6)
        alone = f"weight {name!r} alone has {largest.nbytes / 1e6:.1f} MB"
        raise UserError(f"max_shard_size {max_shard_size}: {alone}, and is not divided. Give {least}MB or more.")
    split = split_torch_state_dict_into_shards(stored, max_shard_size=room)
    return {file: {name: stored[name] for name in names} for file, names in split.filename_to_tensors.items()}


def _read_file(path: Path) -> StateDict:
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"model {path.parent}: {path.name} is missing. Copy or fetch the folder again.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"model {path}: not a whole safetensors file ({error}); copy or train it again.") from None
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _read_index(path: Path) -> dict[str, str]:
    """Return the shard of every weight."""
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        places: dict[str, str] = dict(index["weight_map"])
        odd = [place for place in places.values() if not SHARD.fullmatch(place)]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"model index {path}: not valid: {error!r}. Copy or fetch the folder again.") from None
    if odd or not places:
        got = repr(odd[0]) if odd else "none"
        raise UserError(f"model index {path}: expected shards such as model-00001-of-00002.safetensors, got {got}.")
    return places


# The hub: huggingface.co, or the one that HF_ENDPOINT names. Only the config and safetensors are downloaded, into the
# cache of huggingface_hub. A newer version is looked for if the hub accepts a connection within two seconds and answers
# within five, since `snapshot_download` itself has no time limit. Otherwise, and for a commit, which cannot change, the
# cached version is used.

FILES = [CONFIG, WEIGHTS, "model-*-of-*.safetensors", INDEX]
"""Everything that is downloaded: nothing that could run code."""
PATIENCE = 5.0
"""Seconds that the hub has to answer, once it has accepted a connection."""

_CLIENT: dict[str, Any] = {"library_name": "gffnet", "library_version": gffnet.__version__}
_WORD = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?", re.ASCII)
_FILE_ENDINGS = (".ckpt", ".json", ".onnx", ".pt", ".pt2", ".pth", ".safetensors", ".xml", ".yaml")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_name(model: str | Path) -> bool:
    """Return whether a MODEL can only be a name on the hub.

    It is a text of the form OWNER/NAME or OWNER/NAME@REVISION, and there is no such path and no folder OWNER here.
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
    """Download a model from the hub unless it is in the cache, and return its folder in the cache.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION, where a revision is a branch, a tag or a commit.
        token: instead of that of `hf auth login`.
        cache_dir: instead of HF_HUB_CACHE.
        force_download: download it even if it is in the cache.
        local_files_only: use the cache only.

    Raises:
        UserError: there is no such model, or it is not in the cache and cannot be downloaded.
    """
    _refuse_recipe(name)
    repository, revision = _parse(name)
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}

    def snapshot(local: bool) -> Path:
        force = force_download and not local
        with _progress_bars():
            found = snapshot_download(
                repository, **options, **_CLIENT, force_download=force, local_files_only=local, allow_patterns=FILES
            )
        if not (Path(found) / CONFIG).is_file():
            raise UserError(f"model {name} is on the hub, but holds no {CONFIG}: it is no model of gffnet.")
        return Path(found)

    if revision and _COMMIT.fullmatch(revision) and not force_download:
        with suppress(LocalEntryNotFoundError):
            return snapshot(local=True)
    try:
        return snapshot(local_files_only or constants.HF_HUB_OFFLINE or not _answers(repository, revision, token))
    except UserError:
        raise
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        if local_files_only:
            reason = "only the cache may be used (local_files_only)"
        elif constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        elif isinstance(cause, HfHubHTTPError):
            reason = f"{_host()} answered: {_without_address(cause)}"
        else:
            reason = f"{_host()} cannot be reached"
        at = f" --revision {revision}" if revision else ""
        raise UserError(
            f"model {name}: there is no such folder here, nor in the cache {cache_dir or constants.HF_HUB_CACHE}, and "
            f"{reason}. On a machine with a network, run `hf download {repository}{at} --local-dir DIR`, bring DIR "
            "here and give --model ./DIR."
        ) from None
    except Exception as error:  # the client's exceptions differ between its releases
        raise _refused(f"model {name}", repository, revision, error) from None


def upload(
    folder: Path, repository: str, *, private: bool | None = None, token: str | None = None, message: str = "A model"
) -> str:
    """Upload a model folder to the hub in one commit, in place of the model that is there; return its address.

    A LICENSE that is there stays unless the folder has one: its owner may have added it.

    Raises:
        UserError: the name is not valid, the hub cannot be reached, or it refuses.
    """
    check_upload(repository)
    api = HfApi(token=token, **_CLIENT)
    try:
        with _progress_bars():
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                allow_patterns=[*FILES, CARD, LICENSE],
                delete_patterns=FILES,
            )
    except Exception as error:  # the client's exceptions differ between its releases
        raise _refused(f"model {repository} could not be uploaded to the hub", repository, None, error) from None
    return str(commit)


def check_upload(repository: str) -> None:
    """Check, before anything is written, that a model can be uploaded.

    Raises:
        UserError: the name is not valid, or the hub cannot be reached.
    """
    if _parse(repository)[1]:
        raise UserError(f"{repository!r} is no name on the hub: it must read OWNER/NAME, such as your-name/gffnet-r18.")
    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{_host()} cannot be reached"
        raise UserError(
            f"model {repository} cannot be uploaded to the hub: {reason}. Run `gffnet publish --out DIR`, and on a "
            f"machine with a network `hf upload {repository} DIR`."
        )


def _answers(repository: str, revision: str | None, token: str | bool | None) -> bool:
    """Return whether the hub answers in time, whatever it answers."""
    if not reachable(constants.ENDPOINT):
        return False
    try:
        HfApi(token=token).model_info(repository, revision=revision, timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        return True
    except Exception:  # the client's exceptions differ between its releases
        return False
    return True


def _parse(name: str) -> tuple[str, str | None]:
    """Return OWNER/NAME, and the revision if there is one."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise UserError(f"{name!r} is no name on the hub: it must read OWNER/NAME or OWNER/NAME@REVISION.")
    return parts[1], parts[2]


def _refused(what: str, repository: str, revision: str | None, error: Exception) -> UserError:
    """Return the error for a hub that answers and refuses."""
    page = f"{constants.ENDPOINT}/{repository}"
    response = error.response if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        reason = f"its owner gives access on request. Ask at {page}, then `hf auth login`."
    elif isinstance(error, RevisionNotFoundError):
        reason = f"it has no revision {revision!r}. See {page}/commits/main."
    elif isinstance(error, RepositoryNotFoundError):
        reason = f"{_host()} has no model {repository}, or it is private. Check the name, or `hf auth login`."
    elif isinstance(error, LocalTokenNotFoundError) or (response is not None and response.status_code in (401, 403)):
        reason = f"{_host()} requires a login: `hf auth login`, with a token that has the permission."
    elif isinstance(error, HFValidationError):
        reason = f"{_without_address(error)}."
    else:
        reason = f"{_host()} answered: {_without_address(error)}. Try again later."
    return UserError(f"{what}: {reason}")


def _without_address(error: BaseException) -> str:
    """Return the message of an error without the addresses that it names."""
    message = re.split(r" (?:for url|For more information)", one_line(error))[0]
    return message[:300].rstrip(".")


@contextmanager
def _progress_bars() -> Iterator[None]:
    """Show the client's progress bars on a terminal only."""
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
