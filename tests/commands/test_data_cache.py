"""`gffnet data cache`, and that training and evaluation find what it wrote."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from gffnet.cli.main import main
from tests import tiny
from tests.data.trees import camvid_tree, save

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def test_all_splits_are_cached_and_kept(root: Path, capsys: Captured) -> None:
    for written, kept in ((5, 0), (0, 5)):
        assert main(["data", "cache", "camvid", "--root", str(root)]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"train: {written} samples decoded, {kept} were there: ")
        assert lines[0].endswith(f"MB in {root / 'gffnet_cache'}")
        assert lines[1].startswith("val: ")
    assert len(list((root / "gffnet_cache").rglob("*.flat"))) == 5  # the frames of val are the first of train's


def test_test_is_left_out_where_there_is_val(root: Path, capsys: Captured) -> None:
    for name in ("test", "testannot"):
        (root / name).mkdir()
        save(root / name / "a.png", np.zeros((12, 16) if name == "testannot" else (12, 16, 3), np.uint8))
    assert main(["data", "cache", "camvid", "--root", str(root), "--compress"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["train", "val"]
    assert main(["data", "cache", "camvid", "--root", str(root), "--compress", "--split", "test+val"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["test", "val"]


def test_training_and_evaluation_use_it(
    tmp_path: Path, root: Path, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, cache, run = tmp_path / "tiny.yaml", str(tmp_path / "cache"), str(tmp_path / "run")
    recipe.write_text(yaml.safe_dump(tiny.recipe(iterations=2).to_mapping()))
    assert main(["data", "cache", "camvid", "--root", str(root), "--out", cache]) == 0
    assert f"train with it: gffnet train RECIPE --root {root} --cache {cache}" in capsys.readouterr().err
    assert main(["train", str(recipe), "--root", str(root), "--out", run, "--cache", cache]) == 0
    assert f"cache {cache}: 5 of 5 samples of train" in caplog.text
    capsys.readouterr()
    words = ["evaluate", "--model", run, "--dataset", "camvid", "--root", str(root), "--json"]
    scores = []
    for more in ([], ["--cache", cache]):
        assert main([*words, *more]) == 0
        scores.append(yaml.safe_load(capsys.readouterr().out))
    assert scores[0]["per_class"] == scores[1]["per_class"]


def test_what_cannot_be_read_is_left_out(root: Path, capsys: Captured) -> None:
    bad = root / "train" / "train_001.png"
    bad.write_bytes(b"")
    assert main(["data", "cache", "camvid", "--root", str(root)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train: 4 samples decoded")
    assert lines[1].startswith(f"left out: cannot read image {bad}: the file is empty")
    assert lines[-1] == (
        "error: 1 samples could not be read and are not in the cache; gffnet data check camvid --root "
        f"{root} finds them all."
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["camvit", "--root", "."], "data set 'camvit' is unknown. Did you mean 'camvid'?"),
        (["camvid", "--root", "nowhere"], "data set 'camvid' at nowhere: there is no such folder."),
        (["camvid", "--root", ".", "--split", "vall"], "data set 'camvid' at .: the folder does not look like"),
        (["camvid"], "the following arguments are required: --root"),
    ],
)
def test_mistakes(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "cache", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {said}")


def test_a_cache_that_is_not_there(root: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["train", "camvid/gffnet_r18", "--root", str(root), "--cache", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"--cache {tmp_path}: there is no cache. `gffnet data cache camvid --root {root} --out {tmp_path}`" in error
