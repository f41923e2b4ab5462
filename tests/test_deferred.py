"""Imports put off until something of them is called."""

import subprocess
import sys
from pathlib import Path

import pytest

from gffnet.deferred import deferred

MODULE = """
print("loaded")
def add(a, b=1): return a + b
def twice(function=None, *, times=2):
    if function is None: return lambda function: twice(function, times=times)
    return lambda *x: times * function(*x)
"""
USER = """
import pack.inner
from pack.inner import add, twice
@twice
def one(x): return x
@twice(times=3)
def other(x): return x
class A:
    @twice
    def size(self): return 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").touch()
    (tmp_path / "pack/inner.py").write_text(MODULE)
    (tmp_path / "user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pack", "pack.inner", "user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("first", ["add(2, b=5) == 7", "one(4) == 8", "other(4) == 12", "A().size() == 10"])
def test_a_module_is_loaded_by_the_first_call(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    with deferred("pack.inner"):
        import user  # type: ignore[import-not-found]
    assert "pack.inner" not in sys.modules
    assert capsys.readouterr().out == ""
    assert eval(first, vars(user))
    assert capsys.readouterr().out == "loaded\n"
    assert (user.add(1), user.one(1), user.other(1), user.A().size()) == (2, 2, 3, 10)
    import pack.inner as module  # type: ignore[import-not-found]

    assert module.__file__


@pytest.mark.usefixtures("folder")
def test_what_is_loaded_or_not_installed_stays_as_it_is() -> None:
    import pack.inner as module

    with deferred("pack.inner", "nowhere_to_be_found", "nowhere_to_be_found.inner"):
        assert sys.modules["pack.inner"] is module
        with pytest.raises(ModuleNotFoundError):
            import nowhere_to_be_found  # type: ignore[import-not-found]  # noqa: F401
    assert sys.modules["pack.inner"] is module


@pytest.mark.slow
def test_the_compiler_is_there_for_whoever_wants_it() -> None:
    """timm and torchvision, imported without it, do what they do with it."""
    code = (
        "import sys, torch, gffnet.models, torchvision\n"
        "from timm.models import naflexvit\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "boxes = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])\n"
        "x = torch.arange(16.0).reshape(1, 1, 4, 4)\n"
        "print(torchvision.ops.roi_align(x, boxes, 1, aligned=True).item())\n"
        "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item())\n"
        "assert 'torch._dynamo' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["7.5", "2.0"], done.stderr
