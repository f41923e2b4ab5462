"""`gffnet export`, and predicting and scoring with the file it wrote."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.cli.main import main
from gffnet.inference.predictor import load
from gffnet.models import model_io
from gffnet.models.gffnet import load_model, save_model
from gffnet.models.model_io import hash_weights
from tests import tiny
from tests.data.trees import camvid_tree
from tests.export.networks import exported_file, symbolic_sizes

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a tiny network."""
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny.recipe({**tiny.PSPNET, "context": "none"}, evaluation={"crop": [32, 48], "overlap": 0.25})
    save_model(folder / "model", tiny.network(recipe), tiny.config(recipe))
    return folder


def test_from_a_run_to_predictions_and_scores(run: Path, tmp_path: Path, capsys: Captured) -> None:
    out, root = tmp_path / "model.pt2", camvid_tree(tmp_path / "CamVid")
    with symbolic_sizes():
        assert main(["export", "--model", str(run), "--to", "pt2", "--out", str(out), "--json"]) == 0
    written, said = capsys.readouterr()
    told = json.loads(written)
    assert told["bytes"] == out.stat().st_size
    assert f"model: {out}, {out.stat().st_size / 1e6:.1f} MB" in said
    assert len(said.splitlines()) == 1
    Image.fromarray(tiny.picture(0, 75, 130)).save(tmp_path / "photo.png")
    labels, scores = [], []
    for name, model in (("file", out), ("folder", run)):
        place = ["--model", str(model), "--device", "cpu", "--precision", "float32"]
        assert main(["predict", str(tmp_path / "photo.png"), "--out", str(tmp_path / name), *place]) == 0
        labels.append(np.asarray(Image.open(tmp_path / name / "labels/photo.png")))
        capsys.readouterr()
        assert main(["evaluate", *place, "--dataset", "camvid", "--root", str(root), "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert (labels[0] == labels[1]).mean() >= 0.9999
    assert scores[0]["protocol"] == scores[1]["protocol"]
    assert scores[0]["protocol"]["crop"] == [32, 48]
    assert scores[0]["miou"] == pytest.approx(scores[1]["miou"], abs=1e-3)


@pytest.mark.slow
def test_the_model_that_ships_by_default(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_io, "SHIPPED", run / "model")
    with symbolic_sizes():
        assert main(["export", "--to", "pt2", "--out", str(tmp_path / "model.pt2")]) == 0
    assert load(tmp_path / "model.pt2").weights == hash_weights(load_model(run)[0])


@pytest.mark.slow
def test_an_onnx_file_predicts(tmp_path: Path) -> None:
    Image.fromarray(tiny.picture(0, 75, 130)).save(tmp_path / "photo.png")
    words = ["--model", str(exported_file("onnx", tmp_path)), "--crop", "48x64", "--scales", "0.75", "1", "--flip"]
    assert main(["predict", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), *words]) == 0
    assert Image.open(tmp_path / "out/labels/photo.png").size == (130, 75)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--to": "onxx"}, "invalid choice: 'onxx'"),
        ({"--out": "model.onnx"}, "--out model.onnx must end with .pt2"),
        ({"--model": "none"}, "model none does not exist"),
        ({"--to": "onnx", "--out": "a.onnx", "--precision": "bfloat16"}, "--to onnx takes float32 or float16"),
    ],
)
def test_mistakes(change: dict[str, str], message: str, run: Path, capsys: Captured) -> None:
    words = {"--model": str(run), "--to": "pt2", "--out": "model.pt2", **change}
    assert main(["export", *(word for pair in words.items() for word in pair)]) == 2
    written, said = capsys.readouterr()
    assert written == ""
    assert message in said
    assert len(said.splitlines()) == 1


def test_an_exported_file_has_no_gates_and_is_not_exported_again(tmp_path: Path, capsys: Captured) -> None:
    path = exported_file("onnx", tmp_path)
    Image.fromarray(tiny.picture(0)).save(tmp_path / "photo.png")
    assert main(["gates", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), "--model", str(path)]) == 2
    assert "is an exported file: it predicts images, and has no gates" in capsys.readouterr().err
    assert main(["export", "--model", str(path), "--to", "pt2", "--out", str(tmp_path / "a.pt2")]) == 2
    assert "is an exported file, which can predict and no more" in capsys.readouterr().err


def test_help_loads_no_onnx() -> None:
    code = (
        "import sys, gffnet\nfrom gffnet.cli.main import main\n"
        "try: main(['export', '--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'onnx', 'onnxscript', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
