"""The package: public names, version, and that nothing heavy is loaded before it is needed."""

import json
import os
import subprocess
import sys
from importlib import metadata, resources

import pytest

import gffnet

HEAVY = ("torch", "torchvision", "timm", "lightning", "numpy", "PIL", "matplotlib", "rich", "jinja2", "safetensors")
HEAVY += ("pydantic",)


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh Python has loaded after running `code`."""
    ask = f"import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{ask}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", gffnet.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(gffnet, name)
    assert value is getattr(gffnet, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__
    assert name in dir(gffnet)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'gffnet' has no attribute 'nonsense'"):
        gffnet.nonsense  # noqa: B018
    assert not hasattr(gffnet, "nonsense")


def test_the_version_is_that_of_the_installed_package() -> None:
    assert gffnet.__version__ == metadata.version("gffnet")


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("gffnet").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "import gffnet; gffnet.__version__; gffnet.__all__",
        "import gffnet.errors, gffnet.files, gffnet.cli.arguments",
        "from gffnet.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from gffnet.cli.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass",
        "from gffnet.cli.main import main\nmain(['cost', 'no/such', '--nonsense'])",
    ],
    ids=["import", "foundation", "help", "help-of-a-command", "bad-option"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded_after(code) == set()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["1000", "1", None]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", "1", None]),
        ({"OMP_WAIT_POLICY": "active"}, [None, None, "active"]),
    ],
)
def test_idle_threads_spin_for_a_short_time_unless_the_user_says_otherwise(
    given: dict[str, str], found: list[str | None]
) -> None:
    names = ["GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"]
    code = f"import gffnet, json, os; print(json.dumps([os.environ.get(name) for name in {names}]))"
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == found


def test_the_list_of_heavy_packages_can_be_seen_to_load() -> None:
    assert "numpy" in loaded_after("import numpy")
