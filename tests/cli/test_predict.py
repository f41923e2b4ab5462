"""`gffnet predict` on many files of every kind, good and bad, whole, in shards, and killed."""

import dataclasses
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.cli.main import main
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import save_model
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.inference.clips import save_clip
from tests.training.processes import Forked

Captured = pytest.CaptureFixture[str]

GOOD, BAD = 180, 20


def save_good(path: Path, i: int) -> Path:
    """An image of one of nine kinds, small, its size different from its neighbours'."""
    image = Image.fromarray(tiny.picture(i, 16 + i % 7, 24 + i % 5))
    grey = image.convert("L")
    kinds = {
        "rgb.png": image,
        "grey.png": grey,
        "deep.png": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "alpha.png": image.convert("RGBA"),
        "palette.png": image.convert("P"),
        "colour.jpg": image,
        "print.JPG": image.convert("CMYK"),
        "a.tif": image,
        "a.webp": image,
    }
    name, made = list(kinds.items())[i % len(kinds)]
    path = path / f"{i:03d}-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return path


def save_bad(path: Path, i: int) -> Path:
    """A file that is no image, or not a whole one."""
    folder = path / "torn"
    good = save_good(folder, 9 * i + (0 if i % 2 else 5))  # a PNG or a JPEG
    content = good.read_bytes()
    good.unlink()
    kinds = [b"", content[: len(content) // 2], b"<html>not found</html>", bytes(500), content[:9]]
    bad = folder / f"bad {i} [x]{good.suffix}"
    bad.write_bytes(kinds[i % len(kinds)])
    return bad


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 files in nested folders, 20 of them bad."""
    root = tmp_path_factory.mktemp("many") / "in"
    for i in range(GOOD):
        save_good(root / ["", "one", "one/deep er", "two.of"][i % 4], i)
    for i in range(BAD):
        save_bad(root, i)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


def save_tiny(folder: Path) -> Path:
    recipe = tiny.recipe()
    save_model(folder / "model", tiny.network(recipe), tiny.config(recipe))
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run over all of them writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert predict(many, model, out) == 1
    return out


def predict(inputs: Path, model: Path, out: Path, *more: str) -> int:
    common = ["--model", str(model), "--device", "cpu", "--precision", "float32"]
    return main(["predict", str(inputs), "--out", str(out), *common, *more])


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def test_all_good_files_are_written_and_all_bad_ones_listed(many: Path, whole: Path) -> None:
    names = {path.relative_to(many).with_suffix(".png").as_posix() for path in many.rglob("*-*")}
    assert len(names) == GOOD
    assert set(files(whole)) == {f"{result}/{name}" for result in ("labels", "colour", "overlay") for name in names}
    for path in many.rglob("*-*"):
        with (
            Image.open(path) as image,
            Image.open(whole / "labels" / path.relative_to(many).with_suffix(".png")) as seen,
        ):
            assert seen.size == image.size
            seen.load()
    lines = (whole / "failed.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == sorted(str(path) for path in many.rglob("bad *"))
    assert all(len(line.split(": ", 1)[1]) > 20 for line in lines)


def test_a_second_run_writes_and_predicts_nothing(
    many: Path, model: Path, whole: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "predict", None)
    stamps = {path: path.stat().st_mtime_ns for path in (whole, *whole.rglob("*"))}
    assert predict(many, model, whole, "--json") == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["written"], summary["skipped"], summary["out"]) == (0, GOOD, str(whole))
    assert len(summary["failed"]) == BAD
    assert set(summary["failed"][0]) == {"file", "reason"}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    lines = err.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == ["left"] * BAD + ["failed:"] * BAD + ["0", "error:"]
    assert lines[-2] == f"0 images written, {GOOD} were there already: {whole}/labels, colour, overlay"
    assert lines[-1].startswith(
        f"error: {BAD} of {GOOD + BAD} files failed and were left out; they are listed in {whole}"
    )


def test_a_killed_run_leaves_no_file_in_part_and_is_continued(
    many: Path, model: Path, whole: Path, tmp_path: Path
) -> None:
    words = ["predict", many, "--out", tmp_path / "out", "--model", model, "--device", "cpu", "--precision", "float32"]
    run = Forked(words, tmp_path / "log")
    labels = tmp_path / "out/labels"
    while run.process.is_alive() and len(list(labels.rglob("*.png")) if labels.is_dir() else ()) < 20:
        time.sleep(0.005)
    run.kill(signal.SIGKILL)
    code, said = run.wait()
    assert code == -9, said
    left = files(tmp_path / "out")
    assert all(path.name.startswith(".") for path in (tmp_path / "out").rglob("*.part"))
    complete = files(whole)
    assert 0 < len(left) < len(complete)
    assert left.items() <= complete.items()
    assert predict(many, model, tmp_path / "out") == 1
    assert files(tmp_path / "out") == complete


def test_what_is_written_can_be_chosen(model: Path, tmp_path: Path, capsys: Captured) -> None:
    photo = save_good(tmp_path / "in", 0)
    assert predict(photo, model, tmp_path / "out", "--write", "overlay", "labels") == 0
    assert set(files(tmp_path / "out")) == {"labels/000-rgb.png", "overlay/000-rgb.png"}
    printed, said = capsys.readouterr()
    assert said == f"1 image written, 0 were there already: {tmp_path}/out/labels, overlay\n"
    heading, *lines = printed.splitlines()
    assert heading == "Share of the pixels, in percent"
    shares = [float(line.split()[-1]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-6)
    assert predict(photo, model, tmp_path / "out", "--write", "mask") == 2


def test_it_logs_how_it_computes_if_there_is_something_to_predict(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(2):
        save_good(tmp_path / "in", i)
    for messages in (["float32 on cpu: as asked"], []):  # the second time, all is there
        caplog.clear()
        with caplog.at_level("INFO", logger="gffnet"):
            assert predict(tmp_path / "in", model, tmp_path / "out") == 0
        assert caplog.messages == messages


def test_predictions_are_continued_in_their_precision(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`auto` is what it was; with `--overwrite`, what it is now."""
    caplog.set_level("INFO", logger="gffnet")
    for i, (now, more) in enumerate([("bfloat16", []), ("float32", []), ("float32", ["--overwrite"])]):
        save_good(tmp_path / "in", i)
        monkeypatch.setenv("GFFNET_PRECISION", now)
        assert predict(tmp_path / "in", model, tmp_path / "out", "--precision", "auto", *more) == 0
    told = "as GFFNET_PRECISION says"
    assert caplog.messages == [f"bfloat16 on cpu: {told}", "bfloat16 on cpu: as recorded", f"float32 on cpu: {told}"]
    assert json.loads((tmp_path / "out/predict.json").read_text())["precision"] == "float32"


def test_a_video(model: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    film = save_clip(tmp_path / "in/film.mp4", [tiny.picture(i) for i in range(4)])
    for said in ("1 file written, 0 were there already", "0 files written, 1 was there already"):
        assert predict(film, model, tmp_path / "out") == 0
        assert capsys.readouterr().err == f"{said}: {tmp_path}/out/labels, colour, overlay\n"
    assert set(files(tmp_path / "out")) == {f"labels/film/{i:06d}.png" for i in range(4)}
    assert predict(film, model, tmp_path / "smooth", "--smooth", "0.1") == 0
    assert json.loads((tmp_path / "smooth/predict.json").read_text())["smooth"] == 0.1
    capsys.readouterr()
    assert predict(film, model, tmp_path / "none", "--smooth", "much") == 2
    assert capsys.readouterr().err == "error: --smooth 'much' must be a number of seconds above 0, such as 0.2.\n"
    film.write_bytes(b"")
    assert predict(film, model, tmp_path / "out", "--overwrite") == 2
    assert capsys.readouterr().err.startswith(f"error: {film}: ")
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(film, model, tmp_path / "none") == 2
    assert "pip install 'gffnet[video]'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("more", "scale", "said"),
    [
        ([], 0.375, True),
        (["--scales", "1"], 1.0, False),
        (["--crop", "none"], 0.375, True),
        (["--crop", "48x48"], 1.0, False),
    ],
)
def test_large_images_are_downscaled_unless_the_protocol_says_otherwise(
    more: list[str], scale: float, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gffnet")
    recipe = tiny.recipe()
    config = dataclasses.replace(tiny.config(recipe), learned_from=(30, 30))
    save_model(tmp_path / "model", tiny.network(recipe), config)
    image = tiny.picture(5, 120, 120)
    Image.fromarray(image).save(tmp_path / "large.png")
    arguments = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--precision", "float32"]
    assert main(["predict", str(tmp_path / "large.png"), *arguments, *more]) == 0
    protocol = EvaluationRecipe(crop=(48, 48) if "48x48" in more else None, scales=(scale,))
    wanted = tiny.predictor(recipe).predict(image, protocol)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/labels/large.png")), wanted)
    assert ("(120x120 by 0.375), because the model was trained on 30x30" in caplog.text) == said


@pytest.mark.slow
def test_one_photograph_needs_no_compiler_and_no_training(model: Path, tmp_path: Path) -> None:
    """Each of these takes 0.2 to 1.5 s to import, where predicting takes a few seconds in all."""
    slow = {"torch._dynamo", "sympy", "wandb", "lightning", "matplotlib", "scipy", "torchmetrics", "onnxruntime", "av"}
    save_good(tmp_path / "in", 0)
    words = ["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", str(model), "--json"]
    code = (
        "import sys; from gffnet.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        "from gffnet.models.backbones import BackboneRecipe, build_backbone, meta_device\n"
        "with meta_device(): build_backbone(BackboneRecipe('tf_efficientnet_lite0', output_stride=32))\n"
        f"print(*{slow!r} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (json.loads(done.stdout)["written"], done.stderr.splitlines()[-1:]) == (1, [""]), done.stderr
