"""`gffnet data check` as it is called."""

import json
from pathlib import Path

import pytest

from gffnet.cli.main import main
from gffnet.data.datasets import open_dataset
from tests.data.test_check import camvid
from tests.data.trees import folder_tree

Captured = pytest.CaptureFixture[str]


def test_a_sound_data_set(tmp_path: Path, capsys: Captured) -> None:
    assert main(["data", "check", "camvid", "--root", str(camvid(tmp_path)), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"data set 'camvid' at {tmp_path}: 3 warnings")
    assert err == ""


def test_data_of_ones_own_end_with_the_next_command(tmp_path: Path, capsys: Captured) -> None:
    root = folder_tree(tmp_path)
    assert main(["data", "check", "folder", "--root", str(root), "--workers", "1"]) == 0
    *_, verdict, command = capsys.readouterr().out.splitlines()
    assert verdict.startswith(f"data set 'folder' at {root}: 3 warnings")  # small images, and the same in both splits
    assert command == f"train on it: gffnet train folder/gffnet_lite0 --root {root}"


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["text", "json"])
def test_a_data_set_with_an_error(tmp_path: Path, capsys: Captured, json_too: list[str]) -> None:
    root = camvid(tmp_path)
    (root / "val/val_001.png").unlink()
    words = ["data", "check", "camvid", "--root", str(root), "--split", "val", *json_too]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert err == f"error: data set 'camvid' at {root}: image-missing. The remedies are listed with the findings.\n"
    if json_too:
        report = json.loads(out)
        assert (report["ok"], list(report["splits"])) == (False, ["val"])
        assert report["findings"][0]["files"] == ["val/val_001.png"]
    else:
        assert "val/val_001.png" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["camvit", "--root", "."], "Did you mean 'camvid'?"),
        (["camvid", "--root", "nowhere"], "nowhere: there is no such folder"),
        (["camvid"], "--root"),
        (["camvid", "--root", ".", "--workers", "0"], "--workers '0' must be a whole number, 1 or more"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: Captured) -> None:
    assert main(["data", "check", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, said in err, err.count("\n")) == ("", True, 1)


def test_a_cache_is_found_by_every_name_of_its_split(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    for folder in ("images", "masks"):
        (root / folder / "val").rename(root / folder / "Valid")
    assert main(["data", "cache", "folder", "--root", str(root)]) == 0
    for name in ("val", "Valid", "validation", "train+dev"):
        cache = open_dataset("folder", root, name).cache
        assert cache is not None
        assert cache.read(open_dataset("folder", root, name), 0) is not None
    assert sorted(path.name for path in (root / "gffnet_cache").iterdir()) == ["Valid", "train"]
    assert main(["data", "cache", "folder", "--root", str(root), "--split", "val", "--out", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Valid"]


@pytest.mark.parametrize("left", ["leftImg8bit", "gtFine"])
def test_street_scenes_are_not_added_to_others(tmp_path: Path, capsys: Captured, left: str) -> None:
    out, words = tmp_path / "streets", ["--train", "1", "--val", "0", "--size", "64x128"]
    (out / left / "train").mkdir(parents=True)
    assert main(["data", "streets", "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert f"--out {out} holds {left} already" in error
    assert error.count("\n") == 1
    (out / left / "train").rmdir()
    assert main(["data", "streets", "--out", str(out), *words]) == 0
    assert main(["data", "streets", "--out", str(out), *words]) == 2
