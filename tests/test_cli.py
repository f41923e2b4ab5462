"""The command line: what it prints, what it exits with, and that it says what is wrong in one line."""

import dataclasses
import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gffnet.cli import cost
from gffnet.cli import main as main_module
from gffnet.cli.arguments import print_json
from gffnet.cli.data import COMMANDS as DATA_COMMANDS
from gffnet.cli.main import COMMANDS, expand_home, main
from gffnet.console import DASH, MINUS, Results, make_table, screen
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.inference.predictor import load
from gffnet.models import model_io
from gffnet.models.gffnet import save_model
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.processes import Forked

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
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removesuffix("\n")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_and_import_leave_what_is_heavy_alone() -> None:
    loaded = (
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'timm', 'lightning', 'PIL', 'numpy', 'matplotlib'})"
    )
    assert python(f"import sys, gffnet.cli.main; gffnet.cli.main.make_parser().format_help(); {loaded}").strip() == ""


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
        (["train", "camvid/gffnet_r18", "--set", "training.itrations=1"], "Did you mean training.iterations?"),
        (["train", "camvid/gffnet_r18", "--set", "training.iterations"], "section.key=value"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "--model", "nowhere", "--dataset", "camvid", "--root", "."], "nowhere does not exist"),
        (["predict", "photo.png", "--out", "out", "--model", "m", "--shard", "3/2"], "1 <= i <= n"),
        (["gates", "photo.png", "--out", "out", "--model", "m", "--close", "one"], "1,2"),
        (["data", "streets", "--out", "out", "--train", "-1", "--val", "1"], "train"),
        (["data", "streets", "--out", "out", "--train", "few", "--val", "1"], "few"),
        (["data", "street"], "Did you mean 'streets'?"),
        (["data"], "See gffnet data --help."),
        (["cost", "camvid/gffnet_r18", "--size", "0x512"], "HxW"),
        (["cost", "."], "recipe '.' is unknown"),
        (["train", "camvid/gffnet_r18", "--rot", "x"], "Did you mean '--root'? See gffnet train --help."),
        (["train", "camvid/gffnet_r18", "--root", "nowhere"], "nowhere: there is no such folder"),
        (["train", "camvid/gffnet_r18", "--set", "model.fusion=gfff"], "Did you mean 'gff'?"),
        (["train", "camvid/gffnet_r18", "--set", "training.batch=[1"], "not valid YAML"),
        (["train", "camvid/gffnet_r18", "--set", "training=3"], "training must hold"),
        (["train", "camvid/gffnet_r18", "--lr", "0.1"], "Did you mean training.learning_rate? Values of the recipe"),
        (["train", "camvid/gffnet_r18", "--epochs=9"], "training.iterations; an epoch has images / training.batch"),
        (["train", "camvid/gffnet_r18", "--batch-size", "4"], "Did you mean training.batch? Values of the recipe are"),
        (["train", "camvid/gffnet_r18", "--device", "cuda"], "--devices N takes N of them, and CUDA_VISIBLE_DEVICES"),
        (["train", "camvid/gffnet_r18", "--gpus", "2"], "Did you mean '--devices'?"),
        (["train", "camvid/gffnet_r18", "--work-dir", "r"], "Did you mean '--out'?"),
        (["train", "camvid/gffnet_r18", "--data_dir=d"], "Did you mean '--root'?"),
        (["train", "camvid/gffnet_r18", "--devices", "cuda:1"], "--devices 1 with CUDA_VISIBLE_DEVICES=1"),
        (["predict", "photo.png", "--out", "out", "--weights", "m"], "Did you mean '--model'?"),
        (["evaluate", "--gpu", "0", "--dataset", "camvid", "--root", "."], "Did you mean '--device'?"),
        (["evaluate", "--model", "m", "--dataset", "camvid"], "--root"),
        (["evaluate", "--model", "m", "--dataset", "camvid", "--root", ".", "--scales", "0"], "above 0"),
        (["evaluate", "--model", "m", "--dataset", "camvid", "--root", ".", "--precision", "half"], "invalid choice"),
        (["evaluate", "--model", ".", "--dataset", "camvid", "--root", "."], "no run or model folder"),
        (["predict", "--out", "out", "--model", "m"], "INPUT"),
        (["data", "streets", "--out", "out", "--train", "1", "--val", "1", "--size", "8x8"], "64x128"),
        (["data", "streets", "--out", "out", "--train", "0", "--val", "0"], "at least one scene"),
        (
            ["data", "streets", "--out", "pyproject.toml", "--train", "1", "--val", "0"],
            "pyproject.toml is a file, not a folder",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line(words: list[str], said: str, capsys: Captured) -> None:
    assert said in fails(capsys, *words)


def test_street_scenes_that_are_refused_leave_no_folder(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    fails(capsys, "data", "streets", "--out", str(out), "--train", "0", "--val", "0")
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "photo.png", "--out", "out"],
        ["evaluate", "--dataset", "camvid", "--root", "."],
        ["gates", "photo.png", "--out", "out"],
    ],
)
def test_no_model_where_none_ships(
    words: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_io, "SHIPPED", tmp_path / "none")
    assert "no model ships" in fails(capsys, *words)


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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_data_that_comes_to_light_in_training(
    workers: int, camvid: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Also in a process of its own, from which errors come with a traceback."""
    for i in range(5):
        Image.fromarray(np.full((12, 16), 12, np.uint8)).save(camvid / f"trainannot/train_{i:03d}.png")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(json.dumps(tiny.recipe(workers=workers).to_mapping()))
    assert main(["train", str(recipe), "--root", str(camvid), "--out", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith(f"error: label map {camvid}/trainannot/train_00")
    assert "value 12 at row 0, column 0 is no label id: they are 0..11." in last


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


def test_an_error_is_one_line_whatever_it_is_about(capsys: Captured) -> None:
    assert fails(capsys, "cost", "two\nlines.yaml").startswith("error: recipe file two lines.yaml does not exist.")


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--dataset", "camvid", "--root", "CAMVID", "--model", "MODEL", "--out", "FILE"],
        ["predict", "PHOTO", "--model", "MODEL", "--out", "FILE"],
        ["gates", "PHOTO", "--model", "MODEL", "--out", "FILE"],
        ["train", "RECIPE", "--root", "CAMVID", "--out", "FILE"],
        ["demo", "--out", "FILE"],
    ],
    ids=lambda words: words[0],
)
def test_the_output_folder_is_a_file(
    words: list[str], tmp_path: Path, camvid: Path, model: str, photo: Path, capsys: Captured
) -> None:
    file, recipe = tmp_path / "file", tmp_path / "mine.yaml"
    file.write_text("")
    recipe.write_text(json.dumps(tiny.recipe(iterations=2).to_mapping()))
    place = {"CAMVID": camvid, "MODEL": model, "PHOTO": photo, "FILE": file, "RECIPE": recipe}
    line = fails(capsys, *[str(place.get(word, word)) for word in words])
    assert f"cannot write {file}" in line


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


def test_names_with_brackets_are_shown_as_they_are(
    tmp_path: Path, camvid: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = tiny.recipe()
    config = dataclasses.replace(tiny.config(of, "my [bold]recipe[/x] :car:"))
    save_model(tmp_path / "run [1]/model", tiny.network(of), config)
    words = ["evaluate", "--model", str(tmp_path / "run [1]"), "--dataset", "camvid", "--root", str(camvid)]
    assert main(words) == 0
    assert "my [bold]recipe[/x] :car:" in " ".join(capsys.readouterr().out.split())
    monkeypatch.chdir(tmp_path)
    Path("mine [1].yaml").write_text(json.dumps(of.to_mapping()))
    assert main(["cost", "mine [1].yaml", "--size", "32x32"]) == 0
    assert "mine [1].yaml" in capsys.readouterr().out
    photo = tmp_path / "photo [1].png"
    Image.fromarray(tiny.picture(0)).save(photo)
    assert main(["predict", str(photo), "--model", words[2], "--out", str(tmp_path / "out [/b]")]) == 0
    expected = f"1 image written, 0 were there already: {tmp_path}/out [/b]/labels, colour, overlay"
    assert capsys.readouterr().err.splitlines()[-1] == expected


# In a process of its own


def gffnet(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    command = [sys.executable, "-m", "gffnet", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


def test_a_mistake_seen_from_outside() -> None:
    done = gffnet("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: argument COMMAND: invalid choice: 'trian'")
    assert done.stderr.endswith("Did you mean 'train'? See gffnet --help.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="no sh")
@pytest.mark.parametrize(("closed", "lines"), [(">&-", 1), ("2>&-", 0), (">&- 2>&-", 0)])
def test_a_stream_that_is_closed_from_the_start(closed: str, lines: int) -> None:
    command = ["sh", "-c", f'"$0" -m gffnet trian {closed}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", lines)


def test_the_version_seen_from_outside() -> None:
    done = gffnet("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gffnet {metadata.version('gffnet')}\n", "")


def test_standard_output_holds_the_json_alone(camvid: Path, model: str) -> None:
    words = ("evaluate", "--model", model, "--dataset", "camvid", "--root", str(camvid), "--json", "--device", "cpu")
    done = gffnet(*words)
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == 3
    assert done.stdout.startswith("{\n")


ENCODINGS = ["utf-8", "cp932", "cp949", "cp437", "cp1252", "latin-1", "ascii", "gbk", "euc-jp"]
SAID = "a — b − c ± d → 道路 caf\u00e9 \udc93.png"
"""Signs of ours, names of classes, and the name of a file that is not in UTF-8."""


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_output_of_another_encoding(encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Windows redirects it, and in the C locale: of every command, since `main` sees to it."""
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, file in written.items():
        monkeypatch.setattr(f"sys.{name}", io.TextIOWrapper(file, encoding, errors, write_through=True))

    def run(_: object) -> None:
        print(SAID)
        Results(width=60).print(make_table(["class", DASH], [[SAID, MINUS]]))
        print_json({"name": SAID})
        screen.print(SAID)
        logging.getLogger("gffnet").warning(SAID)
        raise UserError(SAID)

    monkeypatch.setattr(cost, "run", run)
    assert main(["cost", "x"]) == 2
    out, err = (file.getvalue().decode(encoding) for file in written.values())
    for text in (out.splitlines()[0], err.splitlines()[0], err.splitlines()[-1].removeprefix("error: ")):
        assert text.startswith(("a — b ", "a - b "))
        assert re.search(r" b [−-] c ", text) or encoding == "cp932"  # whose minus comes back as another one
        assert re.search(r" c (±|\+/-) d (→|->) ", text)
        assert text.endswith("\\udc93.png")
        assert "道路" in text or "\\u9053\\u8def" in text
        assert text.count("?") == 0
    assert json.loads(out[out.index("{") :]) == {"name": SAID}


def test_names_of_files_in_another_encoding(
    tmp_path: Path, model: str, camvid: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """As of an archive that was packed in Japan and unpacked on Linux: no command fails at them."""
    name = os.fsdecode("道路".encode("cp932"))
    try:
        for folder in ("val", "valannot"):
            (camvid / folder / "val_000.png").rename(camvid / folder / f"{name}.png")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (camvid / "val.txt").unlink()
    monkeypatch.chdir(tmp_path)
    data = ["--dataset", "camvid", "--root", str(camvid)]
    for words in (
        ["data", "cache", "camvid", "--root", str(camvid), "--split", "val"],
        ["evaluate", "--model", model, *data, "--out", "scores", "--no-details"],
        ["compare", f"{camvid}/val/{name}.png", "--models", model, f"{model}/model", "--names", "a", "b", "--out", "c"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert "\\udc93\\udcb9" in Path("scores/images.csv").read_text(encoding="utf-8")


def test_an_encoding_that_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PYTHONIOENCODING=ascii:replace`."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii", "replace", write_through=True))
    monkeypatch.setattr(cost, "run", lambda _: print("a — b"))
    assert main(["cost", "x"]) == 0
    assert written.getvalue() == b"a ? b\n"


def test_standard_output_is_full_or_closed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(main_module, "_discard_output", lambda: None)
    monkeypatch.setattr(cost, "run", full)
    assert main(["cost", "x"]) == 2
    assert capfd.readouterr().err == (
        "error: cannot write standard output: No space left on device. Free some space first.\n"
    )
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr(cost, "run", lambda _: print("nothing"))
    assert main(["cost", "x"]) == 0


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("~", "HOME"),
        ("~/a b", "HOME/a b"),
        ("--out=~/x", "HOME/x"),
        ("--out=~", "HOME"),
        ("data.root=~/x", "HOME/x"),
        ("model.backbone.weights=~/w.pth", "HOME/w.pth"),
        ("--set=training.init_from=~/run", "HOME/run"),
        ("training.init_from=~", None),  # null in YAML
        ("a~/b", None),
        ("~nobody-of-this-name/x", None),
        ("--close=1~2", None),
    ],
)
def test_home_in_arguments(word: str, expanded: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    before = word[: word.rindex("~")]
    assert expand_home(word) == (word if expanded is None else before + expanded.replace("HOME", "/home/me"))


def test_home_in_a_command_and_in_python(
    camvid: Path, model: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("HOME", str(camvid.parent))
    monkeypatch.chdir("/")
    home = "~/" + Path(model).name
    words = ["--dataset", "camvid", "--root=~/CamVid", "--out", "~/scores", "--no-details", "--json"]
    assert main(["evaluate", "--model", home, *words]) == 0
    scores = json.loads(capsys.readouterr().out)["per_class"]
    assert (camvid.parent / "scores/scores.json").is_file()
    predictor = load(home)
    assert evaluate(predictor, root="~/CamVid", details=False).scores.per_class == scores
    np.testing.assert_array_equal(predictor.predict("~/photo.png"), predictor.predict(photo))


def test_a_terminal_that_knows_ascii_only(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    assert main(["cost", "streets/pspnet_r18", "--size", "32x32"]) == 0
    assert capsys.readouterr().err == ""
    assert "| streets/pspnet_r18 |" in written.getvalue().decode("ascii")


@pytest.mark.parametrize(("json_too", "unbuffered"), [([], "1"), (["--json"], "")], ids=["table", "json"])
def test_a_reader_that_leaves(json_too: list[str], unbuffered: str) -> None:
    """As in `gffnet cost ... | head`: nothing is said, and it is no failure."""
    code = (  # the modules that take seconds are replaced
        "import sys; from types import SimpleNamespace; from gffnet.cli.main import main;"
        "sys.modules['gffnet.recipe'] = SimpleNamespace(load_recipe=str);"
        "sys.modules['gffnet.reports.cost'] = SimpleNamespace(costs=lambda *_: ["
        "dict.fromkeys(('params', 'macs', 'flops', 'executed_macs', 'params_increase_percent',"
        "'macs_increase_percent', 'executed_macs_increase_percent'), 1) | {'recipe': 'x'}]);"
        "print('ready', file=sys.stderr, flush=True); sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "cost", "streets/pspnet_r18", *json_too]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stderr.readline() == "ready\n"
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_interrupted_training_says_how_to_go_on(camvid: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(json.dumps(tiny.recipe(iterations=100_000, checkpoint_every=3, validate_every=50).to_mapping()))
    run = tmp_path / "run"
    training = Forked(["train", recipe, "--root", camvid, "--out", run], tmp_path / "log")
    try:
        while not (run / "checkpoints/last.ckpt").is_file():
            assert training.process.is_alive()
            time.sleep(0.05)
        training.kill(signal.SIGINT)
        code, err = training.wait()
    finally:
        training.process.kill()
    assert code == 130
    assert err.splitlines()[-1] == f"error: interrupted: resume it with gffnet train --resume {run}"
    assert "Traceback" not in err
    assert not (run / "model").exists()


def test_an_interrupt_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cost, "run", interrupted)
    assert main(["cost", "streets/pspnet_r18"]) == 130
    assert "interrupted" in capsys.readouterr().err


def own_process(main: str) -> "subprocess.CompletedProcess[str]":
    """A process of `script` with another `main`, and with a function of somebody else's to be called at its end."""
    code = (
        "import atexit, gc, sys, gffnet.cli.main as cli\n"
        f"def main():\n    atexit.register(end)\n    {main}\n"
        "def end(): print('end', gc.get_threshold()[0], len(gc.callbacks))\n"
        "cli.main = main\n"
        "cli.script()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("objects", "threshold"), [(1_000, 1_000_000), (1_100_000, 10_000)], ids=["late", "then often"]
)
def test_a_process_of_its_own_looks_for_garbage_late(objects: int, threshold: int) -> None:
    done = own_process(f"return len([[] for _ in range({objects})]) % 7")
    assert done.stdout == f"end {threshold} {int(threshold == 1_000_000)}\n"
    assert done.returncode == objects % 7


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        ("print('done', end=''); return 0", 0, ""),
        ("print('done', end=''); sys.exit(2)", 2, ""),
        ("print('done', end=''); sys.exit()", 0, ""),
        ("print('done', end=''); sys.exit('why')", 1, "why\n"),
        ("print('done', end=''); 1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; print('done', end='', flush=True); os.close(2); return 3", 3, ""),
    ],
)
def test_it_ends_with_the_exit_code_and_all_that_was_printed(main: str, code: int, said: str) -> None:
    done = own_process(main)
    assert (done.returncode, done.stdout) == (code, "doneend 1000000 1\n")
    assert done.stderr.endswith(said)


def test_it_does_not_take_its_objects_apart() -> None:
    left = own_process("global kept; kept = type('A', (), {'__del__': lambda _: print('taken apart')})(); return 0")
    assert left.stdout == "end 1000000 1\n"
