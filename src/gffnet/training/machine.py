"""What a run runs on and with: hardware, versions, the commit of the code. Nothing names the machine or its folders."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import gffnet
from gffnet.inference.memory import most_resident

_PACKAGES = ("gffnet", "torch", "torchvision", "timm", "lightning", "numpy")
_OTHER_CHECKOUTS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"}
"""Variables by which git takes another checkout for the one around a folder, as it sets them for its hooks."""


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, GPUs. What the system does not tell is None."""
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory": _memory(),
        "gpus": [
            {"name": found.name, "memory": found.total_memory}
            for found in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ],
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that decide what a run computes; CUDA and cuDNN where there is a GPU for them."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    found["torch"] = torch.__version__  # names its build, too
    gpu = torch.cuda.is_available()
    cudnn = torch.backends.cudnn.version() if gpu and torch.backends.cudnn.is_available() else None
    return {**found, "cuda": torch.version.cuda if gpu else None, "cudnn": None if cudnn is None else str(cudnn)}


def commit(package: Path = Path(gffnet.__file__).parent) -> dict[str, Any] | None:
    """The git commit of the checkout that the package lies in, and whether the checkout has changes.

    None for an installed package, even one that lies in somebody's checkout, and where git is missing or refuses.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")  # of the whole checkout
    added = _git(package, "ls-files", "--others", "--exclude-standard")  # in the package: notes and runs do not count
    if head is None or changed is None or added is None:
        return None
    return {"commit": head, "changes": bool(changed or added)}


def memory_in_use(device: torch.device) -> int | None:
    """Bytes: on an NVIDIA GPU the most that tensors ever took, else what the process takes; None: it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return most_resident()  # the system does not tell what it takes now


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command says about the checkout around `folder`; None if it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in _OTHER_CHECKOUTS}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
