"""Device and precision on any hardware, and the memory allocator."""

import subprocess
import sys

import pytest
import torch

from gffnet.errors import UserError
from gffnet.inference.precision import pick_device, pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AMX, AVX = "_is_amx_tile_supported", "_is_avx512_bf16_supported"


@pytest.mark.parametrize(
    ("amx", "avx", "dtype", "reason"),
    [
        (True, True, torch.bfloat16, "the CPU has AMX"),
        (True, False, torch.bfloat16, "the CPU has AMX"),
        (False, True, torch.bfloat16, "the CPU has AVX-512 BF16"),
        (False, False, torch.float32, "the CPU lacks AMX and AVX-512 BF16"),
        (None, None, torch.float32, "the CPU lacks AMX and AVX-512 BF16"),
    ],
)
def test_the_cpu_decides(
    monkeypatch: pytest.MonkeyPatch, amx: bool | None, avx: bool | None, dtype: torch.dtype, reason: str
) -> None:
    for name, answer in ((AMX, amx), (AVX, avx)):
        if answer is None:  # a version of torch that cannot tell
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
    assert pick_precision("auto", CPU) == (dtype, reason)


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [
        ((7, 5), torch.float32, "the GPU lacks native bfloat16"),
        ((8, 0), torch.bfloat16, "the GPU computes bfloat16 natively"),
        ((9, 0), torch.bfloat16, "the GPU computes bfloat16 natively"),
    ],
)
def test_the_gpu_decides(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision("auto", CUDA) == (dtype, reason)


def test_other_devices_compute_in_float32() -> None:
    assert pick_precision("auto", torch.device("mps")) == (torch.float32, "the safe choice on mps")


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", [CPU, CUDA, torch.device("mps")])
def test_what_is_asked_for_is_taken(name: str, device: torch.device) -> None:
    picked = pick_precision(name, device)
    assert picked == (getattr(torch, name), "as asked")
    assert picked.describe(device) == f"{name} on {device}: as asked"


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, available: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device() == torch.device(device)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x", "meta"])
def test_a_device_that_cannot_be_used(name: str) -> None:
    with pytest.raises(UserError, match=f"^device '{name}' cannot be used here: [^\n]+$"):
        pick_device(name)


CODE = """
import resource, torch
from gffnet.inference.precision import keep_pages

def faults():
    for _ in range(20):  # until it has grown enough
        torch.ones(2**24)  # 64 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
keep_pages()
print(default, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_is_kept() -> None:
    """Page faults of five tensors of 64 MB, each freed before the next, without and with it."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    default, kept = map(int, done.stdout.split())
    assert kept < 500
    assert default > 10 * kept
