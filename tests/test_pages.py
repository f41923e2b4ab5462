"""Memory that is freed is used again without a page fault."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from gffnet.inference.precision import keep_pages

if sys.argv[1] == "keep":
    keep_pages()
for _ in range(20):  # until it has grown enough
    torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of five tensors of 64 MB, each freed before the next, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_is_kept() -> None:
    kept = faults("keep")
    assert kept < 500
    assert faults("default") > 10 * kept
