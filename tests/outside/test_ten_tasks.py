"""Ten tasks of a user's day, as scripts that know the installed package only; each prints what it did.

`tasks/` has the scripts, `smp/` those that do the same, as far as it goes, with segmentation_models_pytorch.
`python -m tests.outside.test_ten_tasks` prints the lines of code of each.
"""

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from gffnet import registry
from gffnet.cli.main import main
from gffnet.data.datasets import DATASETS
from gffnet.models.fusion import FUSIONS
from tests.export.networks import symbolic_sizes
from tests.training.processes import forked

HERE = Path(__file__).parent
TASKS = {
    "build for 5 classes and 4 channels": ["build.py"],
    "fuse with 128 channels": ["channels.py"],
    "a training loop of one's own, with auxiliary head": ["loop.py"],
    "train on a torch data set": ["own_data.py"],
    "GFF in an encoder of smp and a model of torchvision": ["necks.py"],
    "predict images, arrays, tensors and batches": ["predict.py"],
    "a fusion and a data set of one's own, to the published model": ["plugin.py", "own_fusion.yaml", "own_fusion.sh"],
    "own loss, augmentation and optimiser": ["own_training.py"],
    "save, load, export, run with ONNX Runtime": ["deploy.py"],
    "logs, resume, best checkpoint": ["resume.py"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the scripts of the tasks. What they register and import is forgotten afterwards."""
    for script in (HERE / "tasks").iterdir():
        if script.is_file():
            (tmp_path / script.name).write_bytes(script.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with patch.dict(FUSIONS), patch.dict(DATASETS), patch.dict(registry._plugins):
        yield tmp_path
    for module in ("shapes", "plugin"):
        sys.modules.pop(module, None)


def printed(capfd: pytest.CaptureFixture[str], script: str) -> list[str]:
    """Run a script; what it printed on standard output."""
    runpy.run_path(script, run_name="__main__")
    lines = capfd.readouterr().out.splitlines()
    with capfd.disabled():
        print(f"\n{script}: ", *lines, sep="\n  ")
    return lines


def test_build_for_5_classes_and_4_channels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "build.py") == [
        "(2, 5, 64, 96) [(2, 1, 16, 24), (2, 1, 8, 12), (2, 1, 8, 12), (2, 1, 8, 12)]"
    ]


def test_fuse_with_128_channels(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "channels.py")[0].split()[1] == "640"  # y_0..y_4 of 128 channels each


def test_a_training_loop_of_ones_own(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = map(float, re.findall(r"\d+\.\d+", printed(capfd, "loop.py")[0]))
    assert after < before


@pytest.mark.slow  # as tests/training/test_python_api does
def test_train_on_a_torch_data_set(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = printed(capfd, "own_data.py")[-1]
    assert line.startswith("mIoU 0.")
    for name in ("best", "checkpoints", "history.jsonl", "model", "recipe.yaml", "run.json", "tensorboard"):
        assert f"'{name}'" in line


def test_gff_in_an_encoder_of_smp_and_a_model_of_torchvision(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "necks.py") == [
        "smp [(2, 64, 16, 24), (2, 64, 8, 12), (2, 64, 4, 6), (2, 64, 2, 3)]",
        "torchvision [(2, 64, 16, 24), (2, 64, 8, 12), (2, 64, 4, 6), (2, 64, 2, 3)]",
    ]


def test_predict_images_arrays_tensors_and_batches(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = printed(capfd, "predict.py")
    assert lines[:3] == ["True (72, 96)", "(2, 72, 96) (72, 96)", "(11, 72, 96) (11, 72, 96)"]
    assert lines[3].startswith("[(1, 1, 18, 24)")
    assert lines[4].startswith("(96, 72) {")
    assert sum(map(float, re.findall(r"\d\.\d+", lines[4]))) == pytest.approx(1, abs=0.05)


@pytest.mark.slow  # as tests/docs/test_extend does
def test_a_fusion_and_a_data_set_of_ones_own(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shapes = runpy.run_path("shapes.py")["Shapes"]
    for split, seed in (("train", 0), ("val", 1)):
        (folder / "pairs" / split).mkdir(parents=True)
        for index, (image, labels) in enumerate(map(shapes(4, seed).__getitem__, range(4))):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "pairs" / split / f"{index}.jpg", quality=95)
            Image.fromarray(labels.numpy().astype(np.uint8)).save(folder / "pairs" / split / f"{index}.png")
    for command in (folder / "own_fusion.sh").read_text().splitlines():
        assert main(shlex.split(command)[1:]) == 0, capfd.readouterr().err
        with capfd.disabled():
            print(f"\n{command}")
    assert "| FCN + maximum + DFP |" in (folder / "tables.md").read_text()
    card = (folder / "published/README.md").read_text()
    assert "fusion `maximum`" in card
    assert "--plugin plugin.py" in card
    with Image.open(folder / "predicted/labels/0.png") as labels:
        assert labels.size == (64, 64)
    # Another process, in which the plug-in is not imported: the error names it.
    with patch.dict(FUSIONS):
        del FUSIONS["maximum"], sys.modules["plugin"]
        assert main(["predict", "pairs/val/0.jpg", "--model", "published", "--out", "again"]) == 2
    assert "add --plugin plugin.py" in capfd.readouterr().err


@pytest.mark.slow
def test_own_loss_augmentation_and_optimiser(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "own_training.py")[-1].startswith("True [")


@pytest.mark.slow  # tests/export and tests/docs export and run files, too
def test_save_load_export_and_run_with_onnx_runtime(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a smaller network, and the command in this process."""
    script = folder / "deploy.py"
    small = '"test_resnet", context="none", fusion="addition", pyramid="none"'
    script.write_text(script.read_text().replace('"resnet18"', small))

    def run(command: list[str], check: bool) -> None:
        assert (command[0], check) == ("gffnet", True)
        with symbolic_sizes():
            assert main(command[1:]) == 0

    monkeypatch.setattr(subprocess, "run", run)
    line = printed(capfd, "deploy.py")[-1]
    assert line.endswith("of the labels agree")
    assert float(line.split()[0]) > 0.999


@pytest.mark.slow
def test_logs_resume_and_best_checkpoint(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # In a process of its own, since it sends itself a signal.
    done = forked(["resume.py"], folder, lambda words: runpy.run_path(*words, run_name="__main__") and None)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "stopped by SIGTERM" in lines[0]
    assert lines[1] == "8 iterations"
    assert lines[2] == "(64, 64)"


@pytest.mark.slow  # of another library
@pytest.mark.parametrize("script", sorted(path.name for path in (HERE / "smp").glob("*.py")))
def test_the_same_with_segmentation_models_pytorch_runs(
    folder: Path, capfd: pytest.CaptureFixture[str], script: str
) -> None:
    assert printed(capfd, str(HERE / "smp" / script))


def test_the_scripts_know_the_installed_package_only() -> None:
    for script in (HERE / "tasks").glob("*.py"):
        tree = [*ast.walk(ast.parse(script.read_text()))]
        modules = {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        assert not any(module.startswith("tests") for module in modules), script
        assert not {module for module in modules if module.startswith("gffnet.")} - {"gffnet.models.ops"}, script


def lines_of_code(file: Path) -> int:
    """Lines that are neither blank nor comments nor docstrings."""
    text = re.sub(r'""".*?"""', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


def table() -> str:
    """Lines of code by task, as Markdown."""
    rows = ["| task | gffnet | segmentation_models_pytorch |", "|---|---:|---:|"]
    for task, files in TASKS.items():
        own, smp = sum(lines_of_code(HERE / "tasks" / name) for name in files), HERE / "smp" / files[0]
        rows.append(f"| {task} | {own} | {lines_of_code(smp) if smp.is_file() else '—'} |")
    return "\n".join(rows)


def test_the_page_has_these_counts() -> None:
    assert table() in (HERE.parents[1] / "docs/index.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    print(table())
