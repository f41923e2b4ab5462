"""The rules of the source tree: imports go one way, without cycles, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "gffnet"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def test_imports_go_one_way() -> None:
    """In a process of its own: import-linter configures logging anew, which closes the output that others log to."""
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_package_has_its_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {name.strip(" ()") for layer in contracts[-1]["layers"] for name in layer.split("|")}
    parts = {
        f"gffnet.{path.stem}" for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    parts -= {"gffnet.__init__", "gffnet.__main__"}
    assert sorted(named ^ parts) == [], "in the layers contract or in the package, but not in both"


def test_nothing_is_called_utils():
    assert [str(path) for path in MODULES if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


def test_lightning_is_imported_by_training_only():
    users = {path.parts[0] for path in MODULES if any(name.split(".")[0] == "lightning" for name in imported(path))}
    assert users <= {"training"}


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a module imports, at any level."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
