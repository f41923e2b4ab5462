"""Prediction from and to object stores: what is written equals what a local folder gets."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gffnet import remote
from gffnet.cli.main import main
from gffnet.data.io import read_labels
from gffnet.errors import RunFailed, UserError
from gffnet.inference.batch import predict_files
from gffnet.inference.predictor import Predictor
from gffnet.inference.stream import predict_stream
from tests import tiny

upath = pytest.importorskip("upath", reason="pip install universal-pathlib")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny.predictor()


@pytest.fixture
def store() -> Iterator[Path]:
    """A folder of a store in memory, with three good photographs, one that is none, and what is no image."""
    folder = remote.open_url("memory://bucket/in")
    names = ["a.png", "deep/a.jpg", "deep/odd [x]?.png"]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            Image.fromarray(tiny.picture(i, 24 + i, 32)).save(file, "PNG")
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_bytes(b"no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder.parent / "text/a.txt").write_bytes(b"no image")
    yield folder.parent
    folder.parent.fs.store.clear()


def local_copy(folder: Path, to: Path) -> Path:
    for file in (file for file in folder.rglob("*") if file.is_file()):
        remote.download(file, to / str(file).removeprefix(f"{folder}/"))
    return to


def test_a_store_gets_what_a_folder_gets(store: Path, predictor: Predictor, tmp_path: Path) -> None:
    inputs, out = Path("memory://bucket/in"), Path("memory://bucket/out")  # as the command line has them
    for written, skipped in ((3, 0), (0, 3)):
        summary = predict_stream(predictor, [inputs], out)
        assert (summary.written, summary.skipped) == (written, skipped)
        assert [each["file"] for each in summary.to_mapping()["failed"]] == ["memory://bucket/in/bad.jpg"]
        assert "tmp" not in summary.failed[0][1], "where it was for a moment"
    found = local_copy(store / "out", tmp_path / "found")
    named = local_copy(store / "in", tmp_path / "in")
    wanted = predict_files(predictor, [named], tmp_path / "wanted")
    assert summary.areas == pytest.approx(wanted.areas, abs=1e-6)
    for image in ("a.png", "deep/a.jpg", "deep/odd [x]?.png"):
        plain = (tmp_path / "wanted/labels" / image).with_suffix(".png")
        for result in ("labels", "colour", "overlay"):
            stored = found / result / f"{image}.png"
            assert stored.read_bytes() == Path(str(plain).replace("/labels/", f"/{result}/")).read_bytes()
    assert {path.name for path in found.iterdir()} == {
        *("labels", "colour", "overlay", "legend.svg", "areas.csv", "predict.json", "failed.txt")
    }
    assert len((found / "areas.csv").read_text().splitlines()) == 4


def test_areas_of_results_that_a_killed_process_left(store: Path, predictor: Predictor, tmp_path: Path) -> None:
    inputs = Path("memory://bucket/in")
    for out in (Path("memory://bucket/out"), tmp_path / "out"):
        first = predict_stream(predictor, [inputs], out, results=["labels"])
        opened = remote.open_url(out) if remote.is_url(out) else out
        (opened / "areas.csv").unlink()
        again = predict_stream(predictor, [inputs], out, results=["labels"])
        assert (again.written, again.skipped, again.areas) == (0, 3, pytest.approx(first.areas, abs=1e-6))


def test_shards_overwriting_and_another_model(store: Path, predictor: Predictor) -> None:
    inputs, out = Path("memory://bucket/in"), Path("memory://bucket/out")
    found = [predict_stream(predictor, [inputs], out, shard=(i, 2)) for i in (1, 2)]
    assert sum(summary.written for summary in found) == 3
    other = tiny.predictor(seed=5)
    with pytest.raises(UserError, match="made differently: weights"):
        predict_stream(other, [inputs], out)
    assert predict_stream(other, [inputs], out, overwrite=True).written == 3


def test_from_a_folder_to_a_store(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    """Names are those of a folder."""
    Image.fromarray(tiny.picture(0)).save(tmp_path / "a.jpg")
    assert predict_stream(predictor, [tmp_path], Path("memory://bucket/out")).written == 1
    remote.download(store / "out/labels/a.png", tmp_path / "found.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "found.png"), predictor.predict(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["memory://bucket/none"], "memory://bucket/none"),
        (["memory://bucket/text"], "memory://bucket/text holds no image"),
        (["memory://bucket/in", "memory://bucket/out"], "a URL is predicted by itself"),
        (["nothing://bucket"], "Known are s3://"),
    ],
)
def test_urls_that_make_no_sense(
    inputs: list[str], message: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *inputs, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_urls_where_there_can_be_none(predictor: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--dataset", "camvid", "--root", ".", "--out", "s3://bucket/out"]) == 2
    assert "s3://bucket/out is a URL, and this has to be a path of this machine" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"use gffnet\.inference\.stream\.predict_stream"):
        predict_files(predictor, [Path("s3://bucket/in")], Path("out"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(UserError, match=r"s3://bucket/a: .* missing: pip install 'gffnet\[s3\]'"):
        remote.open_url("s3://bucket/a")


def test_a_connection_that_breaks(store: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails is made again; where every try fails, the run stops, and the next resumes it."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fs, lock = type(store.fs), threading.Lock()  # type: ignore[attr-defined]
    real, failed, always = fs.pipe_file, set[str](), True

    def pipe_file(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        with lock:
            fails = "overlay" in path if always else path not in failed
            failed.add(path)
        if fails:
            raise ConnectionResetError("connection reset by peer")
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(fs, "pipe_file", pipe_file)
    with pytest.raises(RunFailed, match=r"connection reset by peer.*run the same command again"):
        predict_stream(predictor, [Path("memory://bucket/in")], Path("memory://bucket/out"))
    always = False
    failed.clear()
    summary = predict_stream(predictor, [Path("memory://bucket/in")], Path("memory://bucket/out"))
    assert summary.written + summary.skipped == 3
    assert json.loads((store / "out/predict.json").read_bytes())["classes"]
