"""Weights on the disk: whole or in shards, exact or rounded, and what is not taken for them."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from gffnet.errors import UserError
from gffnet.inference.model_io import (
    INDEX,
    WEIGHTS,
    State,
    WeightFormat,
    read_weights,
    rounded,
    size_in_bytes,
    write_weights,
)

KERNEL = (16, 8, 3, 3)


def state(seed: int = 0) -> State:
    """Twelve kernels of 4608 bytes, with a vector and a counter each."""
    random = torch.Generator().manual_seed(seed)
    weights = State()
    for number in range(12):
        weights[f"layer{number}.weight"] = torch.randn(KERNEL, generator=random)
        weights[f"layer{number}.variance"] = torch.rand(16, generator=random) * 1e6
        weights[f"layer{number}.count"] = torch.tensor(number)
    return weights


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file(tmp_path: Path) -> None:
    write_weights(tmp_path, state())
    assert names(tmp_path) == [WEIGHTS]
    assert same(read_weights(tmp_path), state())


def test_shards_hold_all_and_none_is_too_large(tmp_path: Path) -> None:
    write_weights(tmp_path, state(), max_shard_size="15KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) >= 5
    assert max(path.stat().st_size for path in shards) <= 15_000
    assert [path.name for path in shards] == [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]
    index = json.loads((tmp_path / INDEX).read_text())
    found = {}
    for path in shards:
        with safetensors.safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path.name)
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == 12 * (16 * 8 * 9 * 4 + 16 * 4 + 8)
    assert same(read_weights(tmp_path), state())


def test_all_in_one_shard_is_one_file(tmp_path: Path) -> None:
    write_weights(tmp_path, state(), max_shard_size="1 MB")
    assert names(tmp_path) == [WEIGHTS]


def test_other_shards_take_the_place_of_those_before(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("")
    for seed, limit in enumerate(("15KB", None, "25KB", "15KB", "25KB", None)):
        write_weights(tmp_path, state(seed), max_shard_size=limit)
        assert same(read_weights(tmp_path), state(seed))
        assert (WEIGHTS in names(tmp_path)) == (limit is None) == (INDEX not in names(tmp_path))
    assert names(tmp_path) == ["model.onnx", WEIGHTS]


@pytest.mark.parametrize(("kind", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_kernels_are_rounded_to_the_nearest_and_vectors_kept(tmp_path: Path, kind: str, bits: int) -> None:
    write_weights(tmp_path, state(), kind, "10KB")  # type: ignore[arg-type]
    read = read_weights(tmp_path)
    for name, value in state().items():
        assert read[name].dtype == value.dtype
        if value.ndim < 2:
            assert torch.equal(read[name], value)
            continue
        exact = value.double().numpy()
        step = np.exp2(np.maximum(np.floor(np.log2(np.abs(exact))), -14.0) - bits)  # between neighbours of the format
        assert (np.abs(read[name].double().numpy() - exact) <= step / 2).all()
        assert not torch.equal(read[name], value)
    sizes = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert sizes < 0.65 * sum(value.nbytes for value in state().values())


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_rounded_weights_are_those_that_come_back(tmp_path: Path, kind: WeightFormat) -> None:
    write_weights(tmp_path, state(), kind)
    read, ours = read_weights(tmp_path), rounded(state(), kind)
    assert read.keys() == ours.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, read[name], rtol=0, atol=0)


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    large = {"head.weight": torch.tensor([[1e5, 1.0]])}
    with pytest.raises(UserError, match=r"weight 'head\.weight' has values above 65504.*Choose bfloat16"):
        write_weights(tmp_path, large, "float16")
    assert names(tmp_path) == []
    write_weights(tmp_path, large, "bfloat16")
    odd = {"head.weight": torch.tensor([[float("inf"), float("nan")]])}
    write_weights(tmp_path, odd, "float16")  # they were so before
    assert not read_weights(tmp_path)["head.weight"].isfinite().any()


def test_a_weight_that_no_shard_can_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_shard_size 10KB: weight 'big' alone has 4\.0 MB.*Give 5MB or more, or"):
        write_weights(tmp_path, {"small": torch.zeros(3), "big": torch.zeros(1000, 1000)}, max_shard_size="10KB")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "size"), [("16MB", 16e6), ("1.5 GB", 1.5e9), ("2MiB", 2**21), ("1KB", 1e3), ("3GiB", 3 * 2**30)]
)
def test_sizes(text: str, size: float) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "16", "MB", "-1MB", "0MB", "16 mb", "1e3MB", "16TB", "16MB "])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UserError, match=r"must be a number with KB, MB, .* such as 16MB"):
        size_in_bytes(text)


# What is not whole


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_weights(tmp_path, state(), max_shard_size="15KB")
    return tmp_path


def first(folder: Path) -> Path:
    return sorted(folder.glob("model-*"))[0]


def message(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_weights(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_shard(sharded: Path) -> None:
    first(sharded).unlink()
    assert "model-00001-of-00012.safetensors is missing" in message(sharded)


def test_a_damaged_shard(sharded: Path) -> None:
    first(sharded).write_bytes(first(sharded).read_bytes()[:-1])
    assert "model-00001-of-00012.safetensors: not a whole safetensors file" in message(sharded)


def test_a_shard_of_another_model(sharded: Path) -> None:
    second = sorted(sharded.glob("model-*"))[1]
    first(sharded).write_bytes(second.read_bytes())
    assert "is in the shard or in model.safetensors.index.json, and not in both" in message(sharded)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', "\udcff"])
def test_a_damaged_index(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    assert f"model index {sharded / INDEX}: not valid" in message(sharded)


def test_an_index_without_weights(sharded: Path) -> None:
    (sharded / INDEX).write_text('{"weight_map": {}}')
    assert "it names no weights" in message(sharded)


@pytest.mark.parametrize("place", ["../model-00001-of-00002.safetensors", "/etc/passwd", "model.bin", "x.safetensors"])
def test_an_index_leads_out_of_the_folder(sharded: Path, place: str) -> None:
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a": place}}))
    assert f"{place!r} is no name of a shard" in message(sharded)


def test_no_weights_at_all(tmp_path: Path) -> None:
    assert "model.safetensors is missing; a model folder has it beside config.json" in message(tmp_path)
