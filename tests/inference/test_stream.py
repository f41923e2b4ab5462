"""Prediction from and to object stores: what is written equals what a local folder gets."""

import json
import threading
from collections.abc import Callable, Iterator
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
from tests.inference.clips import save_clip

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


def test_large_images_into_a_store(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = tiny.predictor(tiny.recipe(evaluation={"crop": [16, 24]}))
    monkeypatch.setattr(predictor, "memory", 10**12)  # more than this process takes
    monkeypatch.setattr(type(predictor), "is_large", lambda *_: True)
    summary = predict_stream(predictor, [Path("memory://bucket/in")], Path("memory://bucket/out"))
    assert (summary.written, [path.name for path, _ in summary.failed]) == (3, ["bad.jpg"])
    remote.download(store / "out/labels/a.png.png", tmp_path / "found.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "found.png"), predictor.predict(tiny.picture(0, 24, 32)))


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


def test_shards_of_local_files_are_judged_by_all(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    """As `predict_files` does: the video is in another shard, and so is the second file."""
    save_clip(tmp_path / "a.mp4", [tiny.picture(0, 32, 32)] * 2)
    Image.fromarray(tiny.picture(0)).save(tmp_path / "b.png")
    summary = predict_stream(predictor, [tmp_path], Path("memory://bucket/out"), shard=(2, 2), smooth=0.2)
    assert (summary.written, summary.single, summary.noun) == (1, False, "file")
    assert json.loads((store / "out/predict.json").read_bytes())["sources"].keys() == {"a.mp4", "b.png"}
    assert not (store / "out/labels/a").exists()


def test_areas_that_cannot_be_counted_again_stop_the_run(
    store: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = [Path("memory://bucket/in")], Path("memory://bucket/out")
    predict_stream(predictor, inputs, out, results=["labels"])
    (store / "out/areas.csv").unlink()
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    break_once(monkeypatch, store, lambda method, path: method == "get_file" and "/labels/" in path, times=99)
    with pytest.raises(RunFailed, match=r"reading .*labels.* failed 4 times"):
        predict_stream(predictor, inputs, out, results=["labels"])


def break_once(
    monkeypatch: pytest.MonkeyPatch, store: Path, which: Callable[[str, str], bool], times: int = 1
) -> dict[tuple[str, str], int]:
    """Let requests of the store fail at first; returns how often each failed, by method and path."""
    fs: Any = type(store.fs)  # type: ignore[attr-defined]
    failed: dict[tuple[str, str], int] = {}

    def breaking(name: str, real: Any) -> Any:
        def request(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
            if which(name, path) and failed.get((name, path), 0) < times:
                failed[name, path] = failed.get((name, path), 0) + 1
                raise ConnectionResetError("connection reset by peer")
            return real(self, path, *arguments, **options)

        return request

    for name in ("_open", "pipe_file", "get_file", "modified", "rm_file"):
        monkeypatch.setattr(fs, name, breaking(name, getattr(fs, name)))
    return failed


def test_requests_for_the_files_beside_the_results_are_made_again(
    store: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = [Path("memory://bucket/in")], Path("memory://bucket/out")
    predict_stream(predictor, inputs, out)
    names = ("predict.json", "areas.csv", "legend.svg", "failed.txt")
    before = {name: (store / "out" / name).read_bytes() for name in names}
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    failed = break_once(monkeypatch, store, lambda method, path: path.endswith(names))
    assert predict_stream(predictor, inputs, out).skipped == 3
    assert {path.rpartition("/")[2] for _, path in failed} == set(names)
    assert {name: (store / "out" / name).read_bytes() for name in names} == before
    (store / "in/bad.jpg").unlink()
    failed.clear()
    assert predict_stream(predictor, inputs, out).failed == []
    assert ("rm_file", "/bucket/out/failed.txt") in failed
    assert not (store / "out/failed.txt").exists()
    (store / "in").fs.rm("/bucket/in", recursive=True)  # type: ignore[attr-defined]
    (store / "in/bad.jpg").write_bytes(b"no image")
    failed.clear()
    predict_stream(predictor, inputs, Path("memory://bucket/none"))
    assert ("pipe_file", "/bucket/none/predict.json") in failed
    assert (store / "none/predict.json").read_bytes() == b"{}\n"


def test_a_list_of_the_users_own_is_not_replaced(store: Path, predictor: Predictor) -> None:
    (store / "out/failed.txt").write_bytes(b"a: b\n")
    with pytest.raises(UserError, match=r"holds failed\.txt, but no predict\.json"):
        predict_stream(predictor, [Path("memory://bucket/in")], Path("memory://bucket/out"))
    assert (store / "out/failed.txt").read_bytes() == b"a: b\n"


class NoCredentialsError(Exception):
    """As botocore calls it."""


def test_without_credentials(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(self: Any, path: str, *_: Any, **__: Any) -> Any:
        raise NoCredentialsError("Unable to locate credentials")

    for name in ("_open", "info", "ls", "modified", "pipe_file"):
        monkeypatch.setattr(type(store.fs), name, refusing)  # type: ignore[attr-defined]
    Image.fromarray(tiny.picture(0)).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--out", "memory://bucket/out"]) == 2
    assert "predict.json needs credentials (Unable to locate credentials)" in capsys.readouterr().err


@pytest.mark.parametrize("stored", [True, False])
def test_keys_too_long_for_file_names(stored: bool, store: Path, predictor: Predictor, tmp_path: Path) -> None:
    """They do not stop the others; those whose results cannot be written are listed."""
    photo = (store / "in/a.png").read_bytes()
    tall = "/".join(["d" * 200] * 5) + "/a.png"  # below 1024 bytes, but not with labels/ and .png
    names = ["街" * 80 + ".png", "k" * 300 + ".png", "k" * 250 + ".png", *([tall] if stored else [])]
    remote.write({store / "in" / name: photo for name in names})
    out = Path("memory://bucket/" + "o" * 20) if stored else tmp_path / "out"
    for written in (4, 0):
        summary = predict_stream(predictor, [Path("memory://bucket/in")], out)
        assert (summary.written, summary.skipped) == (written, 4 - written)
        failed = {remote.as_url(path).removeprefix("memory://bucket/in/"): reason for path, reason in summary.failed}
        assert failed.keys() == {"bad.jpg", *names[1:]}
        assert all("File name too long" in failed[name] for name in names[1:3])
        assert all(f"cannot write {remote.as_url(out)}/labels/k" in failed[name] for name in names[1:3])
    if stored:
        assert "bytes, and stores take up to 1024" in failed[tall]
