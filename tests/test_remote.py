"""Copies of objects: data sets and models at a URL, and the limit of the cache."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from gffnet import remote
from gffnet.cli.main import main
from gffnet.data.datasets import _copied_root, open_dataset
from gffnet.data.io import READ_LATER, read_header, read_image
from gffnet.errors import RunFailed, UserError
from gffnet.inference.predictor import load
from gffnet.models.gffnet import save_model
from gffnet.recipe import validated_split
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree
from tests.export.networks import exported_file

pytest.importorskip("upath", reason="pip install universal-pathlib")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a store in memory, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_room", remote._Room())
    _copied_root.cache_clear()
    folder = remote.open_url("memory://bucket")
    yield folder
    folder.fs.store.clear()  # type: ignore[attr-defined]


def put(local: Path, to: Path) -> None:
    remote.write(
        {to / file.relative_to(local).as_posix(): file.read_bytes() for file in local.rglob("*") if file.is_file()}
    )


def taken(folder: Path) -> int:
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def test_copies_are_made_when_they_are_read_and_stay_within_the_limit(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (100, 200 + i, 3), np.uint8) for i in range(30)]  # 60 KB each, as PNG
    for i, image in enumerate(images):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"in/{i:02d}.png")
    (tmp_path / "in/classes.yaml").write_text("names: [a]")
    put(tmp_path / "in", store / "data")
    monkeypatch.setenv(remote.SIZE, "1MB")
    root = remote.local_folder("memory://bucket/data", later=READ_LATER)
    files = sorted(root.glob("*.png"))
    assert [file.stat().st_size for file in files] == [(tmp_path / "in" / file.name).stat().st_size for file in files]
    assert taken(root) < 20_000, "only what is no image is here"
    assert (root / "classes.yaml").read_text() == "names: [a]"
    header = read_header(files[7])
    assert header is not None
    assert header.size == (100, 207)
    for _ in range(2):
        for file, image in zip(files, images, strict=True):
            np.testing.assert_array_equal(read_image(file).permute(1, 2, 0), image)
            assert taken(root) < 1_100_000
    assert not list(root.rglob("*.part"))
    (store / "data/03.png").unlink()
    (store / "data/04.png").write_bytes((tmp_path / "in/05.png").read_bytes())
    root = remote.local_folder("memory://bucket/data", later=READ_LATER)
    assert not (root / "03.png").exists()
    np.testing.assert_array_equal(read_image(root / "04.png").permute(1, 2, 0), images[5])
    for size in ("plenty", "1.2.3GB", ".GB"):
        monkeypatch.setenv(remote.SIZE, size)
        with pytest.raises(UserError, match=f"GFFNET_CACHE_SIZE={size} must be a size"):
            remote._limit()


def test_objects_of_zeros_are_fetched_a_few_times(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They look like copies that have no content yet."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(bytes(5000))
    put(tmp_path / "in", store / "data")
    fetched, download = [], remote.download
    monkeypatch.setattr(remote, "download", lambda *of: (fetched.append(1), download(*of)))
    root = remote.local_folder("memory://bucket/data", later=READ_LATER)
    assert read_header(root / "a.png") is None
    with pytest.raises(UserError, match=r"a\.png"):
        read_image(root / "a.png")
    assert len(fetched) < 6


def test_copies_that_were_removed_are_no_duplicates(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "own"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for i in range(6):
        np.save(root / f"images/{i}.npy", rng.integers(0, 256, (300, 400, 3), np.uint8))
        Image.fromarray(rng.integers(0, 2, (300, 400), np.uint8)).save(root / f"masks/{i}.png")
    (root / "classes.yaml").write_text("classes: [a, b]")
    put(root, store / "own")
    monkeypatch.setenv(remote.SIZE, "1MB")
    main(["data", "check", "folder", "--root", "memory://bucket/own", "--workers", "1", "--json"])
    assert not [f for f in json.loads(capsys.readouterr().out)["findings"] if f["code"].startswith("identical")]


def test_a_data_set_at_a_url_trains_the_same(store: Path, tmp_path: Path) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    put(root, store / "CamVid")
    recipe = tiny.recipe(iterations=2, validate_every=2)
    runs = [
        train(recipe, place, tmp_path / out, progress=False)
        for place, out in ((root, "local"), (Path("memory://bucket/CamVid"), "stored"))
    ]
    one, other = (load_file(run / "model/model.safetensors") for run in runs)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert '"root": "memory://bucket/CamVid"' in (runs[1] / "run.json").read_text()
    assert len(open_dataset("camvid", Path("memory://bucket/CamVid"), "val")) == len(
        open_dataset("camvid", root, "val")
    )


def test_a_data_set_at_a_url_is_checked_and_cached(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written into the current folder, as if the URL were a path in it."""
    root, here, cache = camvid_tree(tmp_path / "CamVid"), tmp_path / "here", tmp_path / "decoded"
    put(root, store / "CamVid")
    here.mkdir()
    monkeypatch.chdir(here)
    url = "memory://bucket/CamVid"
    findings = []
    for place in (str(root), url):
        code = main(["data", "check", "camvid", "--root", place, "--workers", "1", "--json"])
        result = json.loads(capsys.readouterr().out)
        findings.append((code, result["ok"], [item["code"] for item in result["findings"]]))
    assert findings[0] == findings[1]
    assert main(["data", "cache", "camvid", "--root", url]) == 2
    assert f"--root {url} is no folder here: name the folder of its cache with --out DIR" in capsys.readouterr().err
    assert main(["data", "cache", "camvid", "--root", url, "--out", str(cache)]) in {0, None}
    assert f"train with it: gffnet train RECIPE --root {url}" in " ".join(capsys.readouterr().err.split())
    samples = [open_dataset("camvid", place, "train", there) for place, there in ((root, None), (Path(url), cache))]
    assert all(torch.equal(one.image, other.image) for one, other in zip(*samples, strict=True))
    assert list(here.iterdir()) == []


def test_a_model_at_a_url(store: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "model", tiny.network(recipe), tiny.config(recipe))
    put(tmp_path / "model", store / "runs/mine/model")
    found, wanted = load("memory://bucket/runs/mine", "cpu", "float32"), load(tmp_path / "model", "cpu", "float32")
    assert found.weights == wanted.weights
    with pytest.raises(UserError, match="memory://bucket/none"):
        load("memory://bucket/none")
    assert main(["publish", "memory://bucket/runs/mine", "--out", str(tmp_path / "published")]) == 0
    assert load(tmp_path / "published").weights == wanted.weights


def test_an_exported_file_at_a_url(store: Path, tmp_path: Path) -> None:
    """Of OpenVINO, its weights are fetched as well."""
    files = exported_file("openvino", tmp_path)
    put(tmp_path, store / "exported")
    found = load(f"memory://bucket/exported/{files.name}")
    image = tiny.picture(0, 48, 64)
    np.testing.assert_array_equal(found.predict(image), load(files).predict(image))


def fail(monkeypatch: pytest.MonkeyPatch, store: Path, method: str, within: str, errors: list[Exception]) -> None:
    """Let calls of a method of the store with paths that contain `within` raise `errors`, one after the other."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fs: Any = type(store.fs)  # type: ignore[attr-defined]
    real = getattr(fs, method)

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        if errors and any(within in each for each in arguments if isinstance(each, str)):
            raise errors.pop()
        return real(self, *arguments, **options)

    monkeypatch.setattr(fs, method, failing)


def test_a_listing_that_fails_leaves_nothing_out(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again; where it fails every time, that is an error, and copies stay."""
    data, errors = store / "data", list[Exception]()
    remote.write({data / name: b"1" for name in ("b.png", "deep/c.png", "a.png")})
    root = remote.local_folder("memory://bucket/data")
    fail(monkeypatch, store, "ls", "/deep", errors)
    errors += [ConnectionResetError("connection reset by peer")]
    assert [*remote.list_files(data, [".png"])] == ["a.png", "b.png", "deep/c.png"]
    errors += [ConnectionResetError("connection reset by peer")] * 9
    with pytest.raises(RunFailed, match=r"listing .*/deep failed 4 times"):
        [*remote.list_files(data, [".png"])]
    with pytest.raises(RunFailed, match=r"listing .*/deep failed 4 times"):
        remote.local_folder("memory://bucket/data")
    assert (root / "deep/c.png").read_bytes() == b"1"
    for call in (remote.holds_any, lambda folder: [*remote.list_files(folder, [".png"])]):
        errors[:] = [PermissionError("no")]
        with pytest.raises(UserError, match="deep cannot be listed: no"):
            call(data / "deep")


def test_a_look_that_fails_is_made_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.write({store / "a.png": b"1"})
    fail(monkeypatch, store, "info", "a.png", [ConnectionResetError("connection reset by peer")] * 3)
    assert [*remote.list_files(store / "a.png", [".png"])] == [""]


def test_copies_of_single_objects_stay_within_the_limit(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.SIZE, "4MB")
    remote.write({store / f"{i}.ckpt": bytes([i + 1]) * 1_500_000 for i in range(4)})
    for i in (0, 1, 2, 3, 0):
        assert remote.local_folder(f"memory://bucket/{i}.ckpt").read_bytes() == bytes([i + 1]) * 1_500_000
        assert taken(remote._copies()) < 4_000_000


def test_who_reads_the_url_of_copies_reads_all_of_it(store: Path) -> None:
    remote.write({store / "data/a.png": b"1"})
    record = remote.local_folder("memory://bucket/data", later=[".png"]).parent / "url.json"
    written = record.stat().st_mtime_ns
    with record.open() as opened:
        remote.local_folder("memory://bucket/data", later=[".png"])
        assert record.stat().st_mtime_ns == written
        remote.local_folder("memory://bucket/data")
        assert json.load(opened) == ["memory://bucket/data", ".png"], "it was replaced, not rewritten"
    assert json.loads(record.read_text()) == ["memory://bucket/data"]


@pytest.mark.parametrize("size", [10, 1000])
def test_a_store_that_may_not_be_written_to(
    size: int, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files are written at once, large ones by parts."""
    monkeypatch.setattr(remote, "_WHOLE", 100)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(bytes(size))
    for method in ("pipe_file", "put_file"):
        fail(monkeypatch, store, method, "a.png", [PermissionError("no")])
    with pytest.raises(UserError, match=r"cannot write .*a\.png: no\. Check the bucket, and that you may write to it"):
        remote.upload(tmp_path / "out", store)


@pytest.mark.parametrize("bad", ["../out.txt", "a/../../out.txt", "a//b.txt", "./b.txt", "/b.txt"])
def test_keys_that_are_no_paths_are_left_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    """They would be written over other files, also outside the cache."""
    (tmp_path / "cache").mkdir()
    put_text = {"good/a.txt": b"a", bad: b"bad"}
    entries = [(f"/bucket/data/{inside}", len(text), 0.0) for inside, text in put_text.items()]
    remote.write({store / "data/good/a.txt": b"a"})
    monkeypatch.setattr(remote, "_objects", lambda folder: iter(entries))
    root = remote.local_folder("memory://bucket/data")
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name not in {".lock", "url.json"}]
    assert files == [root / "good/a.txt"]
    assert list(remote.list_files(store / "data", (".txt",))) == ["good/a.txt"]
    assert f"left out: object {bad!r}" in caplog.text


def test_a_cache_that_cannot_be_made(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the URL is to blame."""
    remote.write({store / "data/a.txt": b"a"})
    cache = tmp_path / "cache/gffnet/objects"

    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(UserError, match=rf"^cannot write {cache}/[0-9a-f]+: Permission denied. Set XDG_CACHE_HOME to"):
        remote.local_folder("memory://bucket/data")


def test_the_split_of_a_run_in_a_store(store: Path, tmp_path: Path) -> None:
    """Of the run, its best network and its checkpoints."""
    mapping = tiny.recipe().to_mapping()
    mapping["data"]["val_split"] = "only_0006R0"
    for folder in ("best", "checkpoints"):
        (tmp_path / "run" / folder).mkdir(parents=True)
        (tmp_path / "run" / folder / "last.ckpt").write_bytes(b"0")
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump(mapping))
    put(tmp_path / "run", store / "run")
    for model in ("run", "run/best", "run/checkpoints/last.ckpt"):
        assert validated_split(tmp_path / model, "camvid") == "only_0006R0"
        assert validated_split(tmp_path / model, "ade20k") == "val"
        assert validated_split(f"memory://bucket/{model}", "camvid") == "only_0006R0"
    assert validated_split("memory://bucket", "camvid") == "val"
