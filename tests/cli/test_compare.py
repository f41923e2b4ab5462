"""`gffnet compare`: its arguments, what it prints, and what it says to mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.cli.compare import split_models
from gffnet.cli.main import main
from gffnet.models.gffnet import save_model
from tests import tiny
from tests.data.trees import camvid_tree, cityscapes_tree, save

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of few pixels, which are drawn in a moment."""
    monkeypatch.setattr("gffnet.reports.compare.DPI", 40)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs of tiny networks."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, model) in enumerate((("psp", tiny.PSPNET), ("gff", tiny.GFFNET))):
        recipe = tiny.recipe(model)
        save_model(folder / name / "model", tiny.network(recipe, seed=seed), tiny.config(recipe, f"tests/{name}"))
    return [str(folder / "psp"), str(folder / "gff")]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.fromarray(tiny.picture(0)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def test_images_may_follow_the_models_or_go_before(
    models: list[str], photo: str, tmp_path: Path, capsys: Captured
) -> None:
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--insets", "0"]
    for words in (
        ["--models", *models, photo, *out],
        [photo, "--models", *models, *out],
        [*out, "--models", *models, photo],
    ):
        assert main(["compare", *words]) == 0
        assert (tmp_path / "out/photo.png").is_file()
        (tmp_path / "out/photo.png").unlink()
    printed = " ".join(capsys.readouterr().out.split())
    assert "Where tests/psp and tests/gff differ" in printed
    assert "not known without labels" in printed
    assert "improved" not in printed  # nobody knows


def test_what_is_done_is_printed_where_an_image_cannot_be_read(
    models: list[str], photo: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "broken.png").write_bytes(b"none")
    words = ["--models", *models, photo, str(tmp_path / "broken.png"), "--out", str(tmp_path / "out"), "--json"]
    assert main(["compare", *words, "--device", "cpu", "--insets", "0"]) == 1
    out, err = capsys.readouterr()
    assert [Path(image["image"]).name for image in json.loads(out)["images"]] == ["photo.png"]
    assert "1 of 2 images were left out" in err


def test_models_are_told_from_images(models: list[str], tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "last.ckpt")
    assert split_models(["a", "b", "c.png", *models]) == (["a", "b"], ["c.png", *models])
    assert split_models([*models, models[0], checkpoint, "c"]) == ([*models, models[0], checkpoint], ["c"])
    assert split_models(models) == (models, [])


def test_scores_are_printed_most_improved_first(models: list[str], tmp_path: Path, capsys: Captured) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    data = ["--dataset", "camvid", "--root", str(root), "--device", "cpu", "--insets", "0"]
    words = ["compare", "--models", *models, "val_002", "val_000", *data, "--out", str(tmp_path / "out")]
    assert main([*words, "--names", "one", "other"]) == 0
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "out/compare.json").read_text())
    places = [printed.index(Path(image["image"]).stem) for image in numbers["images"]]
    assert places == sorted(places)
    assert "other over one" in printed
    assert f"{100 * numbers['all']['miou']['other']:.2f}" in printed
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["refined_by"] == {"of": "tests/gff", "over": "tests/psp"}
    assert err == f"comparisons: {tmp_path / 'out'}\n"


def test_images_without_a_labelled_pixel(models: list[str], tmp_path: Path, capsys: Captured) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    for name in ("val_000", "val_002"):
        path = root / "valannot" / f"{name}.png"
        save(path, np.full_like(np.asarray(Image.open(path)), 11))
    data = ["--dataset", "camvid", "--root", str(root), "--device", "cpu", "--insets", "0"]
    assert main(["compare", "--models", *models, "val_000", "val_002", *data, "--out", str(tmp_path / "out")]) == 0
    assert "val_000" in capsys.readouterr().out


def test_models_of_one_recipe_are_called_by_where_they_are(models: list[str], photo: str, tmp_path: Path) -> None:
    same = f"{models[0]}/model"
    out = tmp_path / "out"
    words = ["--models", models[0], same, models[1], photo, "--out", str(out), "--device", "cpu", "--insets", "0"]
    assert main(["compare", *words]) == 0
    numbers = json.loads((out / "compare.json").read_text())
    assert [model["name"] for model in numbers["models"]] == [models[0], same, "tests/gff"]


def test_labels_of_other_classes(models: list[str], photo: str, tmp_path: Path, capsys: Captured) -> None:
    data = ["--dataset", "cityscapes", "--root", str(cityscapes_tree(tmp_path / "Cityscapes"))]
    assert main(["compare", "--models", *models, photo, "--out", str(tmp_path / "out"), *data]) == 2
    assert (
        "the model has 11 classes and cityscapes 19: class 0, counted from 0, is 'sky' in the model"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "PSP", "GFF", "--out", "out"], "no IMAGE is named"),
        (["--models", "PSP", "--out", "out", "PHOTO"], "names 1 model"),
        (["--models", "PSP", "nowhere", "PHOTO", "--out", "out"], "model nowhere does not exist"),
        (["--models", "PSP", "EMPTY", "PHOTO", "--out", "out"], "holds no config.json"),
        (["--models", "PSP", "GFF", "none.png", "--out", "out"], "none.png does not exist"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "PHOTO"], "cannot write"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "out", "--names", "a"], "--names has 1 names for 2 models"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "out", "--names", "a", "a"], "two models are named 'a'"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "out", "--insets", "7"], "--insets '7' must be"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "out", "--format", "jpg"], "invalid choice: 'jpg'"),
        (["--models", "PSP", "GFF", "PHOTO", "--out", "out", "--root", "data"], "say which with --dataset"),
        (["PHOTO", "--out", "out"], "--models"),
    ],
)
def test_mistakes(words: list[str], said: str, models: list[str], photo: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    places = {"PSP": models[0], "GFF": models[1], "PHOTO": photo, "EMPTY": str(tmp_path / "empty")}
    assert main(["compare", *[places.get(word, word) for word in words]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
