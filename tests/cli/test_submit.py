"""`gffnet submit`: from a model folder to a checked archive."""

import dataclasses
import zipfile
from pathlib import Path

import pytest

from gffnet.cli.main import main
from gffnet.data.cityscapes import CITYSCAPES
from gffnet.models.gffnet import save_model
from tests import tiny
from tests.data.trees import cityscapes_tree, picture, save

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    recipe = tiny.recipe()
    config = dataclasses.replace(
        tiny.config(recipe), classes=CITYSCAPES.names, palette=CITYSCAPES.palette, dataset="streets"
    )
    save_model(tmp_path / "run/model", tiny.network(recipe, len(CITYSCAPES.names)), config)
    root = cityscapes_tree(tmp_path / "Cityscapes")
    save(root / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", picture(0))
    out = str(tmp_path / "out.zip")
    return ["submit", "--model", str(tmp_path / "run"), "--root", str(root), "--out", out, "--device", "cpu"]


@pytest.mark.parametrize(("split", "images", "official"), [("test", 1, 1525), ("val", 2, 500)])
def test_an_archive_is_written_and_checked(
    split: str, images: int, official: int, words: list[str], tmp_path: Path, capsys: Captured
) -> None:
    assert main([*words, "--split", split, "--scales", "1", "1.5", "--flip"]) == 0
    said = capsys.readouterr().err
    assert f"{images} images, but Cityscapes has {official} in {split}" in said
    assert f"{images} label maps, checked: {tmp_path / 'out.zip'}, 0.0 MB" in said
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == images


def test_scales_change_what_is_predicted(words: list[str], tmp_path: Path) -> None:
    archives = []
    for scales in ("1", "0.5"):
        assert main([*words, "--split", "val", "--scales", scales]) == 0
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            archives.append([archive.read(name) for name in archive.namelist()])
    assert archives[0] != archives[1]


def test_mistakes(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "other/model", tiny.network(recipe), tiny.config(recipe))
    assert main([*words[:2], str(tmp_path / "other"), *words[3:]]) == 2
    assert "knows the 11 classes of camvid" in capsys.readouterr().err
    assert main([*words[:4], str(tmp_path), *words[5:]]) == 2
    assert "split 'test' is not there" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*words[:6], str(tmp_path / "file/out.zip"), *words[7:]]) == 2
    assert f"cannot write {tmp_path / 'file/out.zip'}" in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
