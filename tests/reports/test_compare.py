"""Comparisons: differing pixels, insets, figures, files."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.colors import colorize
from gffnet.data.dataset import Truth
from gffnet.data.datasets import open_files
from gffnet.data.io import as_array, read_image
from gffnet.errors import RunFailed, UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.reports.compare import (
    CHANGED,
    LOST,
    MIN_INSET,
    REFINED,
    Comparison,
    FigureOptions,
    Inset,
    NamedModel,
    Panel,
    comparison_figure,
    difference,
    difference_numbers,
    figure_bytes,
    find_insets,
    write_comparison,
)
from tests import tiny
from tests.data.trees import camvid_tree, ids, picture, save

NOTHING = Truth([])


@pytest.fixture(scope="module")
def pair():
    of = [tiny.predictor(tiny.recipe(model), seed=seed) for seed, model in enumerate((tiny.PSPNET, tiny.GFFNET))]
    return [NamedModel("PSPNet", of[0]), NamedModel("GFFNet", of[1])]


@pytest.fixture
def contenders(pair, monkeypatch):
    monkeypatch.setattr("gffnet.reports.compare.DPI", 40)  # figures of few pixels
    return pair


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


def test_labelled_images_much_larger_than_the_training_images_are_scored_as_evaluate_does(
    contenders, tmp_path, monkeypatch
):
    """Prediction without labels downscales them."""
    root = camvid_tree(tmp_path / "CamVid", train=1, val=1)
    path = save(root / "val/val_000.png", picture(0, (120, 160)))
    save(root / "valannot/val_000.png", ids(0, 12, (120, 160)))
    dataset = open_files("camvid", root, "val")
    for model in (one.predictor for one in contenders):
        monkeypatch.setattr(model, "config", dataclasses.replace(model.config, learned_from=(40, 50)))
        image = as_array(read_image(path))
        assert (model.predict(image) != model.predict(image, model.protocol)).any()
    numbers = write_comparison(contenders, [path], Truth([dataset]), tmp_path / "out")
    for name, model in contenders:
        scored = score_dataset(model, dataset, "camvid", "val", model.protocol, details=False).scores
        assert numbers["all"]["miou"][name] == pytest.approx(scored.miou)
        assert numbers["all"]["pixel_accuracy"][name] == pytest.approx(scored.pixel_accuracy)


def test_absent_classes_count_as_in_the_official_code(contenders, images, camvid, tmp_path, monkeypatch):
    for path in images:
        save(camvid / "valannot" / path.name, np.zeros((12, 16), np.uint8))  # sky alone
    monkeypatch.setattr("gffnet.reports.compare.absent_rule", lambda dataset: ("zero", "for tests"))
    truth = Truth([open_files("camvid", camvid, "val")])
    found = write_comparison(contenders, images, truth, tmp_path / "out")["all"]["miou"]
    for name, model in contenders:
        right = sum((model.predict(as_array(read_image(path))) == 0).sum() for path in images)
        assert found[name] == pytest.approx(right / (12 * 16 * len(images)) / 11)


def test_panels_and_windows_as_files_of_their_own(contenders, tmp_path):
    path = save(tmp_path / "photo.png", tiny.picture(0, 96, 120))
    look = FigureOptions("pdf", insets=1, panels=True)
    (record,) = write_comparison(
        [*contenders, NamedModel("again", contenders[0].predictor)], [path], NOTHING, tmp_path, look
    )["images"]
    assert record["figure"] == "photo.pdf"
    names = {file.stem for file in (tmp_path / "photo").iterdir()}
    panels = {"image", "model1", "model2", "model3", "difference"}
    windows = {f"{name}-inset1" for name in panels} if record["insets"] else set()
    assert names == panels | windows
    for number, (_, predictor) in enumerate(contenders, start=1):
        palette = predictor.config.palette
        expected = colorize(predictor.predict(as_array(read_image(path))), palette)
        assert np.array_equal(as_array(read_image(tmp_path / f"photo/model{number}.png")), expected)
    assert record["changed"] == 0, "the last model is the first"


def test_an_enlarged_window_mixes_no_colors(contenders, tmp_path):
    path = save(tmp_path / "photo.png", tiny.picture(0, 96, 120))
    out = tmp_path / "out"
    (record,) = write_comparison(contenders, [path], NOTHING, out, FigureOptions(insets=1, panels=True))["images"]
    (inset,) = record["insets"]
    part = as_array(read_image(out / "photo/model1.png"))
    part = part[inset["row"] : inset["row"] + inset["height"], inset["column"] : inset["column"] + inset["width"]]
    large = as_array(read_image(out / "photo/model1-inset1.png"))
    assert large.shape == (96, 120, 3)
    assert {tuple(c) for c in large.reshape(-1, 3)} == {tuple(c) for c in part.reshape(-1, 3)}
    mine = save(out / "photo/mine.png", picture(0, (8, 8)))
    write_comparison(contenders, [path], NOTHING, out, FigureOptions(insets=0, panels=True))
    assert not (out / "photo/model1-inset1.png").exists()
    assert mine.exists()


@pytest.mark.parametrize("name", ["photo.png", "photo/mine.png"])
def test_no_image_is_replaced(name, contenders, tmp_path):
    path = save(tmp_path / name, picture(0, (24, 32)))
    photo = save(tmp_path / "other/photo.png", picture(1, (24, 32)))
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(UserError, match=f"{name} is where results would be written: choose another --out"):
        write_comparison(contenders, [path, photo], NOTHING, tmp_path / "elsewhere", FigureOptions(panels=True))
    assert np.array_equal(as_array(read_image(path)), picture(0, (24, 32)))


def test_images_of_one_name_do_not_collide(contenders, tmp_path):
    paths = [save(tmp_path / folder / "a.png", picture(i, (24, 32))) for i, folder in enumerate("xy")]
    numbers = write_comparison(contenders, paths, NOTHING, tmp_path / "out")
    assert sorted(one["figure"] for one in numbers["images"]) == ["a-2.png", "a.png"]


def test_a_figure_whose_name_is_too_long_does_not_stop_the_others(contenders, truth, images, tmp_path, capsys):
    long = [save(tmp_path / folder / f"{'k' * 251}.png", picture(0, (24, 32))) for folder in "xy"]
    (tmp_path / "out").mkdir()  # the system looks for such a name in a folder that is there only
    with pytest.raises(RunFailed, match="1 of 3 images were left out"):
        write_comparison(contenders, [*long, images[0]], truth, tmp_path / "out")
    assert "File name too long. Its longest name has 257 bytes" in capsys.readouterr().err
    record = json.loads((tmp_path / "out/compare.json").read_text())
    assert {one["figure"] for one in record["images"]} == {long[0].name, images[0].name}
    assert record["all"]["images"] == 2


def test_models_that_cannot_be_compared(contenders, tmp_path):
    one, other = contenders
    with pytest.raises(UserError, match="names 1 model: a comparison needs two or more"):
        Comparison([one], NOTHING, tmp_path, FigureOptions())
    with pytest.raises(UserError, match="two models are named 'PSPNet'"):
        Comparison([one, NamedModel("PSPNet", other.predictor)], NOTHING, tmp_path, FigureOptions())
    strange = tiny.predictor()
    strange.config = dataclasses.replace(strange.config, classes=tuple("abcdefghijk"))
    with pytest.raises(UserError, match=r"PSPNet and x have different classes: class 0, .* 'sky' in P.* and 'a' in x"):
        Comparison([one, NamedModel("x", strange)], NOTHING, tmp_path, FigureOptions())


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


def test_an_image_too_large_is_left_out(contenders, images, tmp_path, monkeypatch, capsys):
    predictor = contenders[1].predictor
    predict = predictor.predict

    def limited(image, protocol):
        if image.shape[0] == 40:
            raise torch.OutOfMemoryError("no room\nat all")
        return predict(image, protocol)

    monkeypatch.setattr(predictor, "predict", limited)
    large = save(tmp_path / "large.png", picture(0, (40, 80)))
    with pytest.raises(RunFailed, match="1 of 2 images were left out"):
        write_comparison(contenders, [large, images[0]], NOTHING, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/compare.json").read_text())["images"]) == 1
    assert "large.png: the network cannot take its 40x80 pixels (no room)." in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UserError, match=r"image .*large\.png: the network cannot take"):
        write_comparison(contenders, [large], NOTHING, tmp_path / "other")


def test_an_interrupted_comparison_can_be_repeated(contenders, images, tmp_path, monkeypatch):
    """Even if it was killed, so that it had no time to write its numbers."""

    def interrupted(*_):
        raise KeyboardInterrupt

    look = FigureOptions(panels=True)
    with monkeypatch.context() as patch:
        patch.setattr("gffnet.reports.compare._write_panels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_comparison(contenders, images, NOTHING, tmp_path / "out", look)
    assert (tmp_path / "out" / images[0].name).exists()
    assert json.loads((tmp_path / "out/compare.json").read_text())["images"] == []
    assert len(write_comparison(contenders, images, NOTHING, tmp_path / "out", look)["images"]) == 3


MINE = '{"images": [{"figure": "photo.png"}]}'


@pytest.mark.parametrize("theirs", ["compare.json", "photo.png", "photo/image.png", "photo/notes.txt"])
@pytest.mark.parametrize("beside", ["nothing", "their own compare.json", "a comparison", "a comparison of photo"])
def test_files_of_others_are_not_replaced(theirs, beside, contenders, tmp_path):
    out, photo = tmp_path / "out", save(tmp_path / "photo.png", picture(0, (24, 32)))
    if beside == "a comparison":
        write_comparison(contenders, [save(tmp_path / "other.png", picture(1, (24, 32)))], NOTHING, out)
    if beside == "a comparison of photo":
        write_comparison(contenders, [photo], NOTHING, out)
        if theirs == "photo.png":
            return  # it is its figure
    (out / theirs).parent.mkdir(parents=True, exist_ok=True)
    (out / theirs).write_text(MINE)
    if beside == "their own compare.json":
        (out / "compare.json").write_text(MINE)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="is there already, and is not of an earlier command: choose another --out"):
        write_comparison(contenders, [photo], NOTHING, out, FigureOptions(panels=True))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_figures_of_earlier_comparisons_are_replaced(contenders, tmp_path):
    """Also those that the last one did not write."""
    out, paths = tmp_path / "out", [save(tmp_path / name, picture(0, (24, 32))) for name in ("a.png", "b.png")]
    look = FigureOptions(panels=True)
    for images in (paths[:1], paths[1:], paths[:1], paths):
        numbers = write_comparison(contenders, images, NOTHING, out, look)
    assert numbers["written"] == ["a", "a.png", "b", "b.png"]
    (out / "b.png").unlink()
    assert write_comparison(contenders, paths[:1], NOTHING, out, look)["written"] == ["a", "a.png", "b"]
    record = json.loads((out / "compare.json").read_text())
    del record["written"]  # as of a version that did not write it
    (out / "compare.json").write_text(json.dumps(record))
    assert write_comparison(contenders, paths[:1], NOTHING, out, look)["written"] == ["a", "a.png"]


LABELS = np.array([[0, 0, 1, 1, 255, 2]], np.uint8)
FIRST = np.array([[0, 1, 1, 0, 0, 0]], np.uint8)
LAST = np.array([[0, 0, 0, 2, 1, 0]], np.uint8)


def test_refined_lost_and_changed_pixel_by_pixel():
    of = difference(FIRST, LAST, LABELS, 3)
    assert of.refined.tolist() == [[False, True, False, False, False, False]]
    assert of.lost.tolist() == [[False, False, True, False, False, False]]
    assert of.changed.tolist() == [[False, True, True, True, True, False]]
    assert of.known.tolist() == [[True, True, True, True, False, True]]
    assert of.marks.tolist() == [[0, 1, -1, 0, 0, 0]]
    assert of.caption == "refined 20.00%, lost 20.00%"


def test_without_labels_what_changed_is_marked():
    of = difference(FIRST, LAST, None, 3)
    assert of.known is None
    assert of.marks.tolist() == [[0, 1, 1, 1, 1, 0]]
    assert of.caption == "66.67% of the pixels differ"
    drawn = of.picture(np.full((1, 6, 3), 200, np.uint8))
    assert (drawn == CHANGED).all(-1).tolist() == of.changed.tolist()
    assert [name for name, _ in of.colors] == ["differ"]


def test_the_picture_has_two_colors_on_dark_grey():
    of = difference(FIRST, LAST, LABELS, 3)
    drawn = of.picture(np.full((1, 6, 3), 200, np.uint8))
    assert (drawn == REFINED).all(-1).tolist() == of.refined.tolist()
    assert (drawn == LOST).all(-1).tolist() == of.lost.tolist()
    assert drawn[0, 0].tolist() == [90, 90, 90]


def test_the_colors_differ_in_lightness_of_blue_for_those_who_see_no_red_or_green():
    """Without one kind of cone, red and green fall together: what is left is blue against yellow."""
    refined, lost = (np.array(color, int) for color in (REFINED, LOST))
    assert refined[2] - lost[2] > 150
    assert lost[:2].mean() - refined[:2].mean() > 40


def test_the_shares_are_the_difference_of_the_accuracies():
    random = np.random.default_rng(0)
    labels, first, last = random.integers(0, 5, (3, 40, 50)).astype(np.uint8)
    labels[labels == 4] = 255
    of = difference(first, last, labels, 4)
    numbers = difference_numbers(of, labels, list("abcd"))
    known = labels < 4
    gain = (last == labels)[known].mean() - (first == labels)[known].mean()
    assert numbers["refined"] - numbers["lost"] == pytest.approx(gain)
    assert numbers["changed"] == pytest.approx((first != last).mean())
    for k, name in enumerate("abcd"):
        own = labels == k
        assert numbers["by_class"][name] == pytest.approx(
            {
                "pixels": own.sum(),
                "refined": ((last == k) & (first != k))[own].mean(),
                "lost": ((last != k) & (first == k))[own].mean(),
            }
        )


def test_numbers_without_labels_are_by_the_first_prediction():
    numbers = difference_numbers(difference(FIRST, LAST, None, 3), FIRST, list("abc"))
    assert numbers == {
        "changed": pytest.approx(4 / 6),
        "refined": None,
        "lost": None,
        "by_class": {"a": {"pixels": 4, "changed": 0.5}, "b": {"pixels": 2, "changed": 1}},
    }


def test_an_image_without_a_labelled_pixel():
    numbers = difference_numbers(
        difference(FIRST, LAST, np.full_like(LABELS, 255), 3), np.full_like(LABELS, 255), ["a"]
    )
    assert (numbers["refined"], numbers["lost"], numbers["by_class"]) == (0, 0, {})


PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
CLASSES = ["$a_b$", "_hidden", "<b>&"]


INSET = Inset(10, 20, 24, 24)


def figure(height=60, width=90, insets=(INSET,), labels=True):
    random = np.random.default_rng(0)
    truth, first, last = random.integers(0, 3, (3, height, width)).astype(np.uint8)
    truth[:5] = 255
    of = difference(first, last, truth if labels else None, 3)
    image = np.full((height, width, 3), 90, np.uint8)
    panels = [Panel("image", image, False), Panel("$x$", image, True), Panel("difference", of.picture(image), True)]
    return comparison_figure("t_$1$", panels, insets, [truth, first, last], CLASSES, PALETTE, of)


def pixels(of):
    return np.asarray(Image.open(io.BytesIO(figure_bytes(of, "png"))).convert("RGB"))


@pytest.mark.parametrize("size", [(30, 200), (60, 90), (200, 30)])
@pytest.mark.parametrize("insets", [(), (Inset(2, 3, 10, 20), Inset(15, 3, 10, 20))])
def test_pictures_keep_their_shape(size, insets):
    drawn = figure(*size, insets=insets)
    drawn.draw_without_rendering()
    assert len(drawn.axes) == 3 * (1 + len(insets))
    for i, axes in enumerate(drawn.axes):
        box = axes.get_window_extent()
        (image,) = axes.get_images()
        height, width = image.get_array().shape[:2]
        assert box.width / box.height == pytest.approx(width / height, rel=0.02), i
        assert box.width * box.height > 100 * 100


def test_insets_are_framed_and_show_their_part():
    drawn = figure()
    whole, below = drawn.axes[0], drawn.axes[1]
    (frame,) = whole.patches
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (19.5, 9.5, 24, 24)
    assert below.get_images()[0].get_array().shape == (24, 24, 3)
    assert below.get_images()[0].get_interpolation() == "bicubic"
    assert drawn.axes[3].get_images()[0].get_interpolation() == "nearest"


def test_the_legend_names_classes_and_marks_as_they_are():
    drawn = figure()
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()][3:] == ["not labelled", "refined", "lost"]
    assert {text.get_text() for text in legend.get_texts()[:3]} == set(CLASSES)
    assert "differ" in [text.get_text() for text in figure(labels=False).legends[0].get_texts()]
    seen = pixels(drawn)
    for color in (REFINED, LOST):
        assert (seen == color).all(-1).sum() > 500


def test_files_are_what_they_are_called_and_the_same_again():
    assert figure_bytes(figure(), "png").startswith(b"\x89PNG")
    pdf, svg = figure_bytes(figure(), "pdf"), figure_bytes(figure(), "svg")
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in re.sub(rb"\s", b"", pdf)
    assert b"<svg" in svg
    assert figure_bytes(figure(), "pdf") == pdf
    assert figure_bytes(figure(), "svg") == svg


def blob(marks, row, column, size, value=1):
    marks[row : row + size, column : column + size] = value


def test_the_densest_parts_are_found_densest_first_and_in_the_middle_of_their_windows():
    marks = np.zeros((200, 400), np.int8)
    blob(marks, 20, 40, 12)
    blob(marks, 120, 300, 24)
    blob(marks, 160, 100, 6)
    found = find_insets(marks, 3)
    assert [inset[2:] for inset in found] == [(50, 100)] * 3
    for inset, center in zip(found, ((132, 312), (26, 46), (163, 103)), strict=True):
        middle = (inset.row + inset.height / 2, inset.column + inset.width / 2)
        assert inset.cut(marks).any()
        if inset.column > 0:  # not pushed inside by the border
            assert middle == pytest.approx(center, abs=3)
    assert find_insets(marks, 1) == found[:1]


def test_what_was_lost_counts_against_its_surroundings():
    marks = np.zeros((200, 200), np.int8)
    blob(marks, 20, 20, 20)
    blob(marks, 25, 25, 20, -1)
    blob(marks, 150, 150, 8)
    assert find_insets(marks, 1)[0].cut(marks).sum() == 64


def test_nothing_to_see():
    assert find_insets(np.zeros((100, 100), np.int8), 3) == []
    assert find_insets(np.full((100, 100), -1), 3) == []
    marks = np.zeros((100, 100), np.int8)
    blob(marks, 50, 50, 10)
    assert len(find_insets(marks, 3)) == 1
    assert find_insets(marks, 0) == []


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 5), st.integers(0, 99))
def test_windows_lie_in_the_image_and_apart(height, width, count, seed):
    marks = (np.random.default_rng(seed).random((height, width)) < 0.1).astype(np.int8)
    found = find_insets(marks, count)
    assert len(found) <= count
    seen = np.zeros((height, width), int)
    for inset in found:
        assert inset.cut(marks).shape == (min(height, MIN_INSET), min(width, MIN_INSET))
        inset.cut(seen)[:] += 1
        assert inset.cut(marks).any()
    assert seen.max(initial=0) <= 1


def test_a_window_cuts_pictures_with_channels():
    picture = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    assert np.array_equal(Inset(1, 2, 2, 3).cut(picture), picture[1:3, 2:5])
