"""The command line: what it prints, what it exits with, and that it says what is wrong in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.cli import COMMANDS, DATA_COMMANDS, main
from gffnet.commands import cost
from gffnet.inference.model_folder import save_model
from tests import tiny
from tests.data.trees import camvid_tree

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model folder of a tiny GFFNet of CamVid's classes."""
    recipe = tiny.recipe(tiny.GFFNET)
    save_model(tmp_path / "run/model", tiny.network(recipe), tiny.config(recipe))
    return str(tmp_path / "run")


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(tiny.picture(0)).save(path)
    return path


def fails(captured: Captured, *arguments: str) -> str:
    """The one line on standard error of a command that is refused with exit code 2."""
    assert main(list(arguments)) == 2
    out, err = captured.readouterr()
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in err
    return line


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_and_import_leave_what_is_heavy_alone() -> None:
    loaded = (
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'timm', 'lightning', 'PIL', 'numpy', 'matplotlib'})"
    )
    assert python(f"import sys, gffnet, gffnet.cli; gffnet.cli.make_parser().format_help(); {loaded}").strip() == ""


@pytest.mark.parametrize("words", [[], *[[name] for name in COMMANDS], *[["data", name] for name in DATA_COMMANDS]])
def test_every_command_has_help(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    assert "usage: gffnet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["evalute"], "Did you mean 'evaluate'?"),
        (["cost"], "RECIPE"),
        (["cost", "cityscapes/gffnet_r11"], "Did you mean 'cityscapes/gffnet_r101'?"),
        (["cost", "camvid/gffnet_r18", "--size", "512"], "HxW"),
        (["cost", "camvid/gffnet_r18", "--jsno"], "Did you mean '--json'?"),
        (["train", "camvid/gffnet_r18"], "--root"),
        (["train", "camvid/gffnet_r18", "--set", "training.itrations=1"], "Did you mean 'iterations'?"),
        (["train", "camvid/gffnet_r18", "--set", "training.iterations"], "section.key=value"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "--model", "nowhere", "--dataset", "camvid", "--root", "."], "nowhere does not exist"),
        (["predict", "photo.png", "--out", "out"], "no model ships"),
        (["predict", "photo.png", "--out", "out", "--model", "m", "--shard", "3/2"], "1 <= i <= n"),
        (["gates", "photo.png", "--out", "out", "--model", "m", "--close", "one"], "1,2"),
        (["data", "streets", "--out", "out", "--train", "-1", "--val", "1"], "train"),
        (["data", "streets", "--out", "out", "--train", "few", "--val", "1"], "few"),
        (["data", "street"], "Did you mean 'streets'?"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words: list[str], said: str, capsys: Captured) -> None:
    assert said in fails(capsys, *words)


def test_mistakes_in_data(camvid: Path, model: str, capsys: Captured) -> None:
    evaluate = ("evaluate", "--model", model, "--dataset", "camvid", "--root")
    assert str(camvid / "none") in fails(capsys, *evaluate, str(camvid / "none"))
    assert "Did you mean 'camvid'?" in fails(capsys, *evaluate[:4], "camvit", "--root", str(camvid))
    (camvid / "valannot/val_001.png").unlink()
    assert "val_001.png" in fails(capsys, *evaluate, str(camvid))
    Image.fromarray(np.full((12, 16), 77, np.uint8)).save(camvid / "valannot/val_001.png")
    line = fails(capsys, *evaluate, str(camvid))
    assert "val_001.png" in line
    assert "77" in line
    whole = (camvid / "val/val_000.png").read_bytes()
    (camvid / "val/val_000.png").write_bytes(whole[: len(whole) // 2])
    assert "val_000.png" in fails(capsys, *evaluate, str(camvid))


def test_weights_of_another_architecture(camvid: Path, model: str, tmp_path: Path, capsys: Captured) -> None:
    weights = f"model.backbone.weights={model}/model/model.safetensors"
    out = str(tmp_path / "out")
    line = fails(
        capsys,
        "train",
        "camvid/gffnet_r18",
        "--root",
        str(camvid),
        "--out",
        out,
        "--set",
        weights,
        "--set",
        "precision=float32",
    )
    assert "model.safetensors" in line
    assert not Path(out, "model").exists()


def test_unreadable_photographs(tmp_path: Path, model: str, photo: Path, capsys: Captured) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(photo.read_bytes()[:200])
    out = str(tmp_path / "out")
    assert "torn.png" in fails(capsys, "predict", str(torn), "--out", out, "--model", model)
    assert "none.png" in fails(capsys, "predict", "none.png", "--out", out, "--model", model)
    assert main(["predict", str(torn), str(photo), "--out", out, "--model", model]) == 1
    assert Path(out, "labels/photo.png").is_file()


def test_photographs_of_every_kind(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = Image.fromarray(tiny.picture(1, 40, 64))
    image.convert("L").save(folder / "grey.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(folder / "rotated.jpg", exif=exif)
    assert main(["predict", str(folder), "--out", str(tmp_path / "out"), "--model", model]) == 0
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "out/labels").iterdir()}
    assert sizes == {"grey": (64, 40), "cmyk": (64, 40), "sixteen": (64, 40), "rotated": (40, 64)}


def test_scores_as_json_and_nothing_else(camvid: Path, model: str, tmp_path: Path, capsys: Captured) -> None:
    words = ["evaluate", "--model", model, "--dataset", "camvid", "--root", str(camvid), "--out", str(tmp_path / "s")]
    assert main([*words, "--json", "--flip", "--scales", "0.75", "1.25"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == json.loads((tmp_path / "s/scores.json").read_text())
    assert scores["images"] == 3
    assert scores["protocol"]["flip"] is True
    assert scores["protocol"]["scales"] == [0.75, 1.25]
    assert main(words) == 0
    assert "bicyclist" in capsys.readouterr().out


def test_costs_as_json_and_as_a_table(capsys: Captured) -> None:
    assert main(["cost", "streets/pspnet_r18", "streets/gffnet_r18", "--size", "64x128", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["recipe"] for row in rows] == ["streets/pspnet_r18", "streets/gffnet_r18"]
    assert main(["cost", "streets/pspnet_r18", "--size", "64x128"]) == 0
    assert f"{rows[0]['params'] / 1e6:.2f} M" in capsys.readouterr().out


def test_gates_are_drawn(photo: Path, model: str, tmp_path: Path) -> None:
    assert main(["gates", str(photo), "--out", str(tmp_path / "gates"), "--model", model, "--close", "1,2"]) == 0
    assert {"gates.png", "closed.png", "g4.png"} <= {path.name for path in (tmp_path / "gates/photo").iterdir()}


def test_streets_are_written(tmp_path: Path) -> None:
    words = ["data", "streets", "--out", str(tmp_path), "--train", "1", "--val", "1", "--size", "64x128"]
    assert main(words) == 0
    assert len(list(tmp_path.rglob("*_labelIds.png"))) == 2


def test_a_run_is_named_after_its_recipe(camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(json.dumps(tiny.recipe(iterations=2).to_mapping()))  # JSON is YAML
    assert main(["train", "mine.yaml", "--root", str(camvid)]) == 0
    assert Path("runs/mine/model/model.safetensors").is_file()
    assert main(["train", "mine.yaml", "--root", str(camvid)]) == 2


def test_an_interrupt_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cost, "run", interrupted)
    assert main(["cost", "streets/pspnet_r18"]) == 130
    assert "interrupted" in capsys.readouterr().err
