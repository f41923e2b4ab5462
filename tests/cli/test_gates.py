"""`gffnet gates`: its options, what it prints and writes, and its mistakes."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gffnet.cli.main import main
from gffnet.data.io import write_image
from gffnet.models.gffnet import save_model
from tests.data.trees import camvid_tree, cityscapes_tree, save
from tests.gates import networks

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command, with a tiny network."""
    save_model(tmp_path / "run/model", *networks.model())
    return ["gates", "--out", str(tmp_path / "out"), "--model", str(tmp_path / "run"), "--device", "cpu"]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    write_image(tmp_path / "photo.png", networks.image())
    return str(tmp_path / "photo.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = camvid_tree(tmp_path / "CamVid")
    save(root / "val/val_001.png", networks.image(3))
    save(root / "valannot/val_001.png", np.tile(np.arange(12, dtype=np.uint8), (62, 8))[:, :94])
    return root


def test_options_that_would_do_nothing_are_refused(words: list[str], photo: str, capsys: Captured) -> None:
    for more, said in ((["--value", "0.5"], "add --close 1"), (["--split", "test"], "say which with --dataset NAME")):
        assert main([*words, photo, *more]) == 2
        assert said in capsys.readouterr().err


def test_tables_are_printed(words: list[str], photo: str, capsys: Captured) -> None:
    assert main([*words, photo]) == 0
    out, err = capsys.readouterr()
    assert [f"G{level}" in out for level in range(1, 6)] == [True] * 4 + [False]
    assert "changed" not in out
    assert "gate maps: " in err
    assert main([*words, photo, "--close", "1", "--close", "3,2", "--value", "1"]) == 0
    out = capsys.readouterr().out
    assert "With gates opened" in out
    assert "G2 G3" in out
    assert "accuracy" not in out


def test_what_is_done_is_printed_where_an_image_cannot_be_read(
    words: list[str], photo: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "broken.png").write_bytes(b"none")
    assert main([*words, photo, str(tmp_path / "broken.png"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == len(json.loads(out)["by_image"]) == 1
    assert "1 of 2 images were left out" in err


def test_very_large_images_are_downscaled_unless_a_scale_is_given(
    words: list[str], photo: str, tmp_path: Path, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "run/model/config.json"
    model.write_text(json.dumps({**json.loads(model.read_text()), "learned_from": [16, 24]}))
    with caplog.at_level(logging.INFO, "gffnet"):
        assert main([*words, photo, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["by_image"][0]
    assert (numbers["size"], numbers["seen_at"]) == ([62, 94], [24, 36])  # 1.5 times
    assert caplog.messages[-1].endswith("the model was trained on 24x16: --scale 1 keeps their size")
    caplog.clear()
    with caplog.at_level(logging.INFO, "gffnet"):
        assert main([*words, photo, "--scale", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["by_image"][0]["seen_at"] == [62, 94]
    assert "downscaled" not in caplog.text


def test_a_sample_by_its_name_is_judged_by_its_labels(
    words: list[str], root: Path, tmp_path: Path, capsys: Captured
) -> None:
    data = ["--dataset", "camvid", "--root", str(root)]
    assert main([*words, "val_001", *data, "--close", "4", "--json"]) == 0
    printed = capsys.readouterr().out
    numbers = json.loads(printed)
    (closing,) = numbers["closings"]
    before, after = numbers["pixel_accuracy"], closing["pixel_accuracy"]
    assert after == pytest.approx(before - closing["became_wrong"]["share"] + closing["became_right"]["share"])
    assert numbers["by_image"][0]["image"] == str(root / "val/val_001.png")
    assert (tmp_path / "out/val_001/closed.png").exists()
    del numbers["by_image"]
    assert json.loads((tmp_path / "out/stats.json").read_text()) == numbers
    assert main([*words, "val_001", *data, "--close", "4"]) == 0
    out = capsys.readouterr().out
    for text in ("as learned", "became wrong", f"{100 * before:.2f}", f"{100 * after:.2f}"):
        assert text in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--close", "one"], "such as 1,2"),
        (["--close", "1", "--close", "7"], "gate level 7 does not exist"),
        (["--close", "1", "--value", "1.5"], "from 0, which closes a gate, to 1"),
        (["--close", "1", "--value", "half"], "from 0, which closes a gate, to 1"),
        (["--root", "."], "say which with --dataset NAME"),
        (["--dataset", "camvit", "--root", "."], "Did you mean 'camvid'?"),
    ],
)
def test_mistakes(options: list[str], said: str, words: list[str], photo: str, capsys: Captured) -> None:
    assert main([*words, photo, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_labels_of_other_classes_are_refused(words: list[str], photo: str, tmp_path: Path, capsys: Captured) -> None:
    root = cityscapes_tree(tmp_path / "cityscapes")
    assert main([*words, photo, "--dataset", "cityscapes", "--root", str(root)]) == 2
    assert "the model has 11 classes and cityscapes 19" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
