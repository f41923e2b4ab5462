"""Weights in safetensors files: one, or shards with an index; float32, or half of that on the disk.

DIR/model.safetensors                  all weights, or else
DIR/model-00001-of-00003.safetensors   ... some of them, and
DIR/model.safetensors.index.json       {"metadata": {"total_size": bytes}, "weight_map": {weight: name of its shard}}

In half precision, kernels of convolutions are rounded to float16 or bfloat16. Vectors (biases, batch normalisation)
stay float32: they are a thousandth of the bytes, and variances may not fit into float16. What is read is float32 again.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import safetensors
import safetensors.torch
import torch
from huggingface_hub import split_torch_state_dict_into_shards

from gffnet.errors import UserError
from gffnet.files import write_whole

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
        write_whole(folder / name, safetensors.torch.save(shard, {"format": "pt"}))
    if WEIGHTS not in files:
        size = sum(value.nbytes for value in stored.values())
        places = {weight: name for name, shard in files.items() for weight in shard}
        index = json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=1)
        write_whole(folder / INDEX, index.encode())
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
