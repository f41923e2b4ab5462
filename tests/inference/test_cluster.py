"""Prediction on Ray: the callable class in a pipeline, and the command on a cluster of which an actor is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.cli.main import main
from gffnet.errors import UserError
from gffnet.inference.batch import predict_files
from gffnet.inference.cluster import BatchPredictor
from gffnet.inference.predictor import load
from gffnet.models.gffnet import save_model
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.processes import free_port


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny.recipe()
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, tiny.network(recipe), tiny.config(recipe))
    return folder


def test_batches_get_a_column_of_label_maps(model: Path, tmp_path: Path) -> None:
    predictor = BatchPredictor(model, image="photo", labels="ids", device="cpu", precision="float32")
    wanted = load(model, "cpu", "float32")
    images = [tiny.picture(i) for i in range(3)]
    found = predictor({"photo": np.stack(images), "id": np.arange(3)})
    assert found.keys() == {"photo", "id", "ids"}
    np.testing.assert_array_equal(found["ids"], np.stack([wanted.predict(image) for image in images]))
    images[1] = tiny.picture(1, 30, 50)
    Image.fromarray(images[2]).save(tmp_path / "a.png")
    various = np.empty(3, object)
    various[:] = [*images[:2], str(tmp_path / "a.png")]
    for image, labels in zip(images, predictor({"photo": various})["ids"], strict=True):
        np.testing.assert_array_equal(labels, wanted.predict(image))
    with pytest.raises(UserError, match="no column 'photo', but image"):
        predictor({"image": various})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray", "photos"], "--ray photos: the address of a cluster is HOST:PORT"),
        (["--ray", "--shard", "1/2"], "--ray divides the files itself"),
    ],
)
def test_options_that_make_no_sense(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'gffnet[ray]'")
    Image.fromarray(tiny.picture(0)).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    Image.fromarray(tiny.picture(0)).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--ray"]) == 2
    assert "pip install 'gffnet[ray]'" in capsys.readouterr().err


KILLER = """
import os, signal
from gffnet.inference import batch

real, calls = batch.write_labels, []

def write_labels(*arguments, **options):
    real(*arguments, **options)
    calls.append(1)
    if len(calls) == 50 and os.environ.get("RAY_JOB_ID"):
        try:
            open({flag!r}, "x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

batch.write_labels = write_labels
"""


@pytest.mark.slow
def test_a_cluster_of_which_an_actor_is_killed(model: Path, tmp_path: Path) -> None:
    """Every good image is written once, as without Ray; bad ones are listed; the second run has nothing to do."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'gffnet[ray]'")
    photos, flag = tmp_path / "in", tmp_path / "killed"
    for i in range(150):
        path = photos / f"{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.picture(i, 24 + i % 2, 32)).save(path)
    bad = {str(photos / f"{i % 3}" / f"{i}.png") for i in (7, 70, 77)}
    for path in map(Path, bad):
        path.write_bytes(b"no image")
    (tmp_path / "killer.py").write_text(KILLER.format(flag=str(flag)))
    command = [sys.executable, "-m", "gffnet", "predict", str(photos), "--model", str(model), "--precision", "float32"]
    command += ["--ray", "local", "--json", "--out", str(tmp_path / "out"), "--plugin", str(tmp_path / "killer.py")]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert flag.exists(), first.stderr
    for run, written, skipped in ((first, 147, 0), (again, 0, 147)):
        assert run.returncode == 1, run.stderr
        found = json.loads(run.stdout)
        assert (found["written"], found["skipped"]) == (written, skipped)
        assert {each["file"] for each in found["failed"]} == bad
        assert "Traceback" not in run.stderr
    predict_files(load(model, "cpu", "float32"), [photos], tmp_path / "plain")

    def files(out: str) -> dict[str, bytes]:
        kept = (path for path in (tmp_path / out).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / out).as_posix(): path.read_bytes() for path in kept}

    assert files("out") == files("plain")


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of one core that was started in another folder."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'gffnet[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "elsewhere").mkdir()
    port = free_port()
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus", "1"]
    command += ["--include-dashboard=false", "--port", str(port), "--disable-usage-stats"]
    with tempfile.TemporaryDirectory() as temporary:  # the path of a socket in it must be short
        started = subprocess.Popen(
            [*command, f"--temp-dir={temporary}"],
            cwd=tmp_path / "elsewhere",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(60)


@pytest.mark.slow
def test_relative_paths_on_a_cluster_that_runs(
    head: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "model")
    root = camvid_tree(tmp_path / "CamVid", val=2)
    monkeypatch.chdir(tmp_path)
    how = ["--model", "model", "--precision", "float32", "--device", "cpu", "--ray", head]
    photos = root.relative_to(tmp_path) / "val"
    deadline = time.monotonic() + 60
    while main(["predict", str(photos), "--out", "out", *how]):
        assert "no Ray cluster that can be reached" in capfd.readouterr().err
        assert time.monotonic() < deadline
    assert len(list((tmp_path / "out/labels").iterdir())) == 2
    assert main(["evaluate", "--dataset", "camvid", "--root", "CamVid", "--out", "scores", *how]) == 0
    assert (tmp_path / "scores/scores.json").is_file()
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.slow
def test_evaluation_adds_up(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every score but the speed is that of one process; 40 images are two batches."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'gffnet[ray]'")
    from ray.data import DataContext

    settings = repr(DataContext.get_current())
    root = camvid_tree(tmp_path / "CamVid", val=40)
    model = Path(shutil.copytree(model, tmp_path / "model"))  # that would downscale images without a protocol
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "learned_from": [16, 24]}))
    words = ["evaluate", "--model", str(model), "--dataset", "camvid", "--root", str(root), "--split", "val"]
    words += ["--precision", "float32", "--json"]
    found = []
    for more in ([], ["--ray", "local"]):
        assert main([*words, *more, "--out", str(tmp_path / f"out{len(more)}")]) == 0
        found.append(json.loads(capfd.readouterr().out))
        found[-1].pop("images_per_second")
    assert found[0] == found[1]
    assert (tmp_path / "out0/images.csv").read_bytes() == (tmp_path / "out2/images.csv").read_bytes()
    assert repr(DataContext.get_current()) == settings  # for pipelines of the user's own in this process
