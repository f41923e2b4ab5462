import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from gffnet.data.colors import colourise
from gffnet.data.dataset import Truth
from gffnet.data.datasets import open_files
from gffnet.data.io import as_array, read_image
from gffnet.errors import RunFailed, UserError
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.reports.compare import Comparison, Contender, Look, write_comparison
from tests import tiny
from tests.data.trees import camvid_tree, picture, save

NOTHING = Truth([])


@pytest.fixture(scope="module")
def contenders():
    of = [tiny.predictor(tiny.recipe(model), seed=seed) for seed, model in enumerate((tiny.PSPNET, tiny.GFFNET))]
    return [Contender("PSPNet", of[0]), Contender("GFFNet", of[1])]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Figures of few pixels, which are drawn in a moment."""
    monkeypatch.setattr("gffnet.reports.compare.DPI", 40)


@pytest.fixture
def camvid(tmp_path):
    return camvid_tree(tmp_path / "CamVid")


@pytest.fixture
def truth(camvid):
    return Truth([open_files("camvid", camvid, "val")])


@pytest.fixture
def images(camvid):
    return sorted((camvid / "val").glob("*.png"))


def test_numbers_are_those_of_the_predictions(contenders, images, truth, tmp_path):
    numbers = write_comparison(contenders, images, truth, tmp_path / "out")
    assert json.loads((tmp_path / "out/compare.json").read_text()) == numbers
    counts = [ConfusionMatrix(11), ConfusionMatrix(11)]
    by_name = {one["image"]: one for one in numbers["images"]}
    for path in images:
        labels, found = truth.labels(path), by_name[str(path)]
        answers = [one.predictor.predict(as_array(read_image(path))) for one in contenders]
        known = labels < 11
        for (name, _), of, answer in zip(contenders, counts, answers, strict=True):
            of.update(labels, answer)
            assert found["pixel_accuracy"][name] == pytest.approx((answer == labels)[known].mean())
        right = [answer == labels for answer in answers]
        assert found["refined"] == pytest.approx((right[1] & ~right[0])[known].mean())
        assert found["lost"] == pytest.approx((right[0] & ~right[1])[known].mean())
        assert found["figure"] == f"{path.stem}.png"
        assert Image.open(tmp_path / "out" / found["figure"]).width > 300
    gains = [one["refined"] - one["lost"] for one in numbers["images"]]
    assert gains == sorted(gains, reverse=True)
    assert numbers["all"]["miou"] == {name: of.scores().miou for (name, _), of in zip(contenders, counts, strict=True)}
    assert numbers["all"]["labelled"] == numbers["all"]["images"] == 3
    assert numbers["refined_by"] == {"of": "GFFNet", "over": "PSPNet"}
    assert numbers["models"][0]["weights_sha256"] == contenders[0].predictor.weights


def test_without_labels_what_changes_counts(contenders, images, tmp_path):
    numbers = write_comparison(contenders, images, NOTHING, tmp_path / "out")
    changed = [one["changed"] for one in numbers["images"]]
    assert changed == sorted(changed, reverse=True)
    assert changed[0] > 0
    assert {one["miou"] for one in numbers["images"]} == {one["refined"] for one in numbers["images"]} == {None}
    assert numbers["all"] == {"images": 3, "labelled": 0, "pixel_accuracy": None, "miou": None}


def test_some_images_with_labels_and_some_without(contenders, images, truth, tmp_path):
    other = save(tmp_path / "other.png", picture(9, (40, 60)))
    numbers = write_comparison(contenders, [other, *images], truth, tmp_path / "out")
    assert numbers["images"][-1]["image"] == str(other)
    assert (numbers["all"]["images"], numbers["all"]["labelled"]) == (4, 3)


def test_panels_and_windows_as_files_of_their_own(contenders, tmp_path):
    path = save(tmp_path / "photo.png", tiny.picture(0, 96, 120))
    look = Look("pdf", insets=1, panels=True)
    (record,) = write_comparison(
        [*contenders, Contender("again", contenders[0].predictor)], [path], NOTHING, tmp_path, look
    )["images"]
    assert record["figure"] == "photo.pdf"
    names = {file.stem for file in (tmp_path / "photo").iterdir()}
    panels = {"image", "model1", "model2", "model3", "difference"}
    windows = {f"{name}-inset1" for name in panels} if record["insets"] else set()
    assert names == panels | windows
    for number, (_, predictor) in enumerate(contenders, start=1):
        palette = predictor.config.palette
        expected = colourise(predictor.predict(as_array(read_image(path))), palette)
        assert np.array_equal(as_array(read_image(tmp_path / f"photo/model{number}.png")), expected)
    assert record["changed"] == 0, "the last model is the first"


def test_an_enlarged_window_mixes_no_colours(contenders, tmp_path):
    path = save(tmp_path / "photo.png", tiny.picture(0, 96, 120))
    (record,) = write_comparison(contenders, [path], NOTHING, tmp_path, Look(insets=1, panels=True))["images"]
    (inset,) = record["insets"]
    part = as_array(read_image(tmp_path / "photo/model1.png"))
    part = part[inset["row"] : inset["row"] + inset["height"], inset["column"] : inset["column"] + inset["width"]]
    large = as_array(read_image(tmp_path / "photo/model1-inset1.png"))
    assert large.shape == (96, 120, 3)
    assert {tuple(c) for c in large.reshape(-1, 3)} == {tuple(c) for c in part.reshape(-1, 3)}
    write_comparison(contenders, [path], NOTHING, tmp_path, Look(insets=0, panels=True))
    assert not (tmp_path / "photo/model1-inset1.png").exists()


def test_images_of_one_name_do_not_collide(contenders, tmp_path):
    paths = [save(tmp_path / folder / "a.png", picture(i, (24, 32))) for i, folder in enumerate("xy")]
    numbers = write_comparison(contenders, paths, NOTHING, tmp_path / "out")
    assert sorted(one["figure"] for one in numbers["images"]) == ["a-2.png", "a.png"]


def test_models_that_cannot_be_compared(contenders, tmp_path):
    one, other = contenders
    with pytest.raises(UserError, match="names 1 model: a comparison takes two or more"):
        Comparison([one], NOTHING, tmp_path, Look())
    with pytest.raises(UserError, match="two models are called 'PSPNet'"):
        Comparison([one, Contender("PSPNet", other.predictor)], NOTHING, tmp_path, Look())
    strange = tiny.predictor()
    strange.config = dataclasses.replace(strange.config, classes=tuple("abcdefghijk"))
    with pytest.raises(UserError, match=r"models PSPNet and x know different classes: 11 \(sky.* and 11 \(a, b, c, d"):
        Comparison([one, Contender("x", strange)], NOTHING, tmp_path, Look())


def test_unreadable_images_are_left_out_and_told(contenders, images, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png"):
        write_comparison(contenders, [broken], NOTHING, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RunFailed, match="1 of 2 images"):
        write_comparison(contenders, [broken, images[0]], NOTHING, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/compare.json").read_text())["images"]) == 1
    assert "broken.png" in capsys.readouterr().err
