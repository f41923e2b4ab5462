"""What is told of the machine, against what the system tells otherwise; and of the checkout, against git."""

import getpass
import mmap
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gffnet.training import run_folder as machine
from gffnet.training.run_folder import commit, hardware, memory_in_use, versions


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds a package and a readme."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "checkout"
    (root / "src/package").mkdir(parents=True)
    (root / "src/package/__init__.py").write_text("")
    (root / "readme").write_text("")
    (root / ".gitignore").write_text("*.pyc\n/.venv/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_commit_is_that_of_the_checkout(checkout: Path) -> None:
    package, head = checkout / "src/package", git(checkout, "rev-parse", "HEAD")
    assert commit(package) == {"commit": head, "changes": False}
    (checkout / "notes").write_text("not in the package")
    (package / "__init__.pyc").write_text("ignored")
    assert commit(package) == {"commit": head, "changes": False}


@pytest.mark.parametrize("file", ["readme", "src/package/__init__.py", "src/package/new.py"])
def test_changes_show(file: str, checkout: Path) -> None:
    (checkout / file).write_text("changed")
    assert commit(checkout / "src/package") == {"commit": git(checkout, "rev-parse", "HEAD"), "changes": True}


def test_an_installed_package_has_no_commit(checkout: Path, tmp_path: Path) -> None:
    """Neither outside of a checkout nor where its environment lies in one."""
    for folder in (tmp_path / "site-packages/package", checkout / ".venv/package"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        assert commit(folder) is None


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    assert commit(tmp_path) is None


def test_git_may_be_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(checkout / "src/package") is None


def test_a_hook_of_another_repository_does_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "other"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout.parent))
    assert commit(checkout / "src/package") == {"commit": head, "changes": False}


def test_nothing_of_the_checkout_is_written_to(checkout: Path) -> None:
    os.utime(checkout / "readme", (1, 1))  # so that git status would refresh its index
    before = (checkout / ".git/index").read_bytes()
    commit(checkout / "src/package")
    assert (checkout / ".git/index").read_bytes() == before


def test_versions_are_those_in_use() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert all(found[name] == version(name) for name in ("gffnet", "torchvision", "timm", "lightning"))
    assert (found["cuda"] is None) == (found["cudnn"] is None) == (not torch.cuda.is_available())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", ("surely_no_such_package",))
    assert versions()["surely_no_such_package"] is None


def test_hardware_is_what_the_system_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hardware()
    assert found["cpu"]
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    if Path("/proc/meminfo").exists():
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        assert found["memory"] == pytest.approx(1024 * kilobytes, rel=0.01)
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_gpus_are_named_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [SimpleNamespace(name="GPU A", total_memory=80), SimpleNamespace(name="GPU B", total_memory=40)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    assert hardware()["gpus"] == [{"name": "GPU A", "memory": 80}, {"name": "GPU B", "memory": 40}]


def test_neither_the_machine_nor_its_user_is_named() -> None:
    text = f"{hardware()} {versions()}"
    assert "/" not in text.replace("/proc", "")
    for name in (socket.gethostname(), platform.node(), getpass.getuser()):
        assert name not in text.split("'")


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "sysconf", refuse)
    found = hardware()
    assert found["memory"] is None
    assert found["cpu"] == (platform.processor() or platform.machine())
    in_use = memory_in_use(torch.device("cpu"))  # the most that it took
    assert in_use is not None
    assert in_use > 10e6
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory_in_use(torch.device("cpu")) is None


def test_memory_in_use_grows_with_what_is_used() -> None:
    before = memory_in_use(torch.device("cpu"))
    with mmap.mmap(-1, 64 * 2**20) as pages:  # from the system: `malloc` may give out again what was freed before
        pages.write(b"\1" * len(pages))
        after = memory_in_use(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(64 * 2**20, rel=0.2)


def test_on_a_gpu_it_is_the_peak_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {1: 5}[device.index])
    assert memory_in_use(torch.device("cuda", 1)) == 5


@pytest.mark.gpu
def test_memory_on_a_gpu() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    torch.ones(2**20, device=device)
    assert memory_in_use(device) == torch.cuda.max_memory_allocated(device) >= 4 * 2**20
    assert versions()["cuda"] == torch.version.cuda
    assert hardware()["gpus"][0]["memory"] > 2**30
