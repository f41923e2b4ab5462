"""Prediction of files and folders: names, results, resuming, failures, and the record of what made them."""

import csv
import dataclasses
import json
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.camvid import CAMVID
from gffnet.data.colors import legend_picture, overlay
from gffnet.data.dataset import Truth
from gffnet.data.io import EXTENSIONS, as_array, read_image, read_labels
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.gates.write import write_gates
from gffnet.inference import batch as module
from gffnet.inference import video
from gffnet.inference.batch import (
    AREAS,
    LEGEND,
    LISTED,
    RECORD,
    Notices,
    Summary,
    describe_prediction,
    is_done,
    open_folder,
    predict_files,
    result_names,
)
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from gffnet.reports.compare import FigureOptions, NamedModel, write_comparison
from tests import tiny
from tests.full_disk import full_after
from tests.inference.clips import save_clip

FOLDERS = ("labels", "colour", "overlay")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny.predictor()


def photo(path: Path, seed: int = 0, height: int = 24, width: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiny.picture(seed, height, width)).save(path)
    return path


def cut_short(path: Path) -> Path:
    photo(path)
    path.write_bytes(path.read_bytes()[:-300])
    return path


def written(out: Path) -> set[str]:
    """Paths of the label maps, which must equal those of the other two results; nothing else may be there."""
    found = {
        folder: {path.relative_to(out / folder) for path in (out / folder).rglob("*") if path.is_file()}
        for folder in FOLDERS
    }
    assert found["labels"] == found["colour"] == found["overlay"]
    names = {re.sub(r"-\d-of-\d", "", path.name) for path in out.iterdir()}  # of a shard
    assert names - {"failed.txt"} == {*FOLDERS, "predict.json", LEGEND, AREAS}
    return {path.as_posix() for path in found["labels"]}


# What is written


def test_the_three_results_of_an_image(tmp_path: Path, predictor: Predictor) -> None:
    path = photo(tmp_path / "street.jpg", height=33, width=47)
    assert predict_files(predictor, [path], tmp_path / "out").written == 1
    assert written(tmp_path / "out") == {"street.png"}
    image = as_array(read_image(path))
    labels = read_labels(tmp_path / "out/labels/street.png")
    np.testing.assert_array_equal(labels, predictor.predict(image))
    colors = np.array(CAMVID.palette)[labels]
    np.testing.assert_array_equal(as_array(read_image(tmp_path / "out/colour/street.png")), colors)
    seen = as_array(read_image(tmp_path / "out/overlay/street.png")).astype(float)
    np.testing.assert_allclose(seen, (image.astype(float) + colors) / 2, atol=0.51)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"results": ["color"]}, "results 'color' is unknown. Did you mean 'colour'"),
        ({"results": []}, "results is empty: name what to write, of labels, colour, overlay"),
        ({"shard": (0, 3)}, "shard (0, 3) must be (i, n)"),
        ({"shard": (4, 3)}, "shard (4, 3) must be (i, n)"),
        ({"shard": (0, 0)}, "shard (0, 0) must be (i, n)"),
    ],
)
def test_results_and_shards_that_cannot_be(
    tmp_path: Path, predictor: Predictor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        predict_files(predictor, [photo(tmp_path / "street.png")], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_ids_are_read_by_everyone(tmp_path: Path, predictor: Predictor) -> None:
    """Label maps are grey, since OpenCV turns a palette into colors; colour maps have ids and colors at once."""
    predict_files(predictor, [photo(tmp_path / "street.png", height=33, width=47)], tmp_path / "out")
    grey, colored = (str(tmp_path / "out" / result / "street.png") for result in ("labels", "colour"))
    labels = predictor.predict(tmp_path / "street.png")
    for ids in (
        cv2.imread(grey, cv2.IMREAD_UNCHANGED),
        cv2.imread(grey, cv2.IMREAD_GRAYSCALE),
        np.asarray(Image.open(grey)),
        np.asarray(Image.open(colored)),
        read_labels(Path(colored)),
    ):
        np.testing.assert_array_equal(ids, labels)
    colors = np.array(CAMVID.palette)[labels]
    np.testing.assert_array_equal(cv2.imread(colored)[..., ::-1], colors)
    np.testing.assert_array_equal(np.asarray(Image.open(colored).convert("RGB")), colors)


def rows_of(file: Path) -> dict[str, list[float]]:
    """The rows of a table of areas, whose heading has the classes."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        heading, *rows = csv.reader(text)
    assert heading == ["file", *CAMVID.names]
    assert [name for name, *_ in rows] == sorted(name for name, *_ in rows)
    return {name: [float(share) for share in shares] for name, *shares in rows}


def test_areas_are_those_of_the_label_maps(tmp_path: Path, predictor: Predictor) -> None:
    """Whatever is added, resumed, left over by a killed process or by another model."""
    names = ["a.png", "odd, name\n.png", "deep/b.png"]
    out = tmp_path / "out"

    def check(found: Summary, of: Predictor, only: list[str]) -> None:
        shares = rows_of(out / AREAS)
        assert shares.keys() == set(only)
        for name in only:
            wanted = of.areas(labels=read_labels(out / "labels" / name))
            np.testing.assert_allclose(shares[name], list(wanted.values()), atol=1e-6)
        np.testing.assert_allclose(list(found.areas.values()), np.mean([*shares.values()], axis=0), atol=1e-6)

    photo(tmp_path / "in" / names[0], 1)
    check(predict_files(predictor, [tmp_path / "in"], out), predictor, names[:1])
    for seed, name in enumerate(names[1:]):
        photo(tmp_path / "in" / name, seed + 2)
    check(predict_files(predictor, [tmp_path / "in"], out), predictor, names)
    stamp = (out / AREAS).stat().st_mtime_ns
    check(predict_files(predictor, [tmp_path / "in"], out), predictor, names)
    assert (out / AREAS).stat().st_mtime_ns == stamp, "nothing has changed"
    for left in ("", "file,other\na.png,1\n"):
        (out / AREAS).write_text(left)
        check(predict_files(predictor, [tmp_path / "in"], out), predictor, names)
    other = tiny.predictor(seed=5)
    check(predict_files(other, [tmp_path / "in" / names[0]], out, overwrite=True), other, names[:1])
    predict_files(predictor, [tmp_path / "in"], tmp_path / "shards", (2, 2))
    assert len(rows_of(tmp_path / "shards/areas-2-of-2.csv")) == 1


def test_the_legend_has_every_class(tmp_path: Path, predictor: Predictor) -> None:
    predict_files(predictor, [photo(tmp_path / "a.png")], tmp_path / "out")
    drawn = ElementTree.parse(tmp_path / "out" / LEGEND).getroot()
    tag = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in drawn.iter(f"{tag}text")] == [f"{k} {name}" for k, name in enumerate(CAMVID.names)]
    boxes = [box.get("fill") for box in drawn.iter(f"{tag}rect")][1:]
    assert boxes == ["#{:02x}{:02x}{:02x}".format(*color) for color in CAMVID.palette]
    ElementTree.fromstring(legend_picture(['<&"', "木"], [(1, 2, 3)] * 2))


def test_overwriting_replaces(tmp_path: Path, predictor: Predictor) -> None:
    path = photo(tmp_path / "a.png", seed=1)
    for seed in (1, 2):
        photo(path, seed)
        predict_files(predictor, [path], tmp_path / "out", overwrite=True)
    labels = read_labels(tmp_path / "out/labels/a.png")
    np.testing.assert_array_equal(labels, predictor.predict(tiny.picture(2, 24, 32)))


def test_files_of_a_folder_keep_their_place(tmp_path: Path, predictor: Predictor) -> None:
    for name in ("b.jpg", "deep/a.png", "deep/er/a.png", "dots.in.name/x.y.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("not an image")
    photo(tmp_path / "in/.hidden/c.png")
    photo(tmp_path / "elsewhere/single.png")
    assert predict_files(predictor, [tmp_path / "in", tmp_path / "elsewhere/single.png"], tmp_path / "out").written == 5
    assert written(tmp_path / "out") == {
        *("b.png", "deep/a.png", "deep/er/a.png", "dots.in.name/x.y.png"),
        "single.png",
    }


# Names


@pytest.mark.parametrize(
    ("files", "inputs", "names"),
    [
        (["a.jpg", "a.png", "b.jpg"], ["."], ["a.jpg", "a.png", "b"]),  # two of one name keep their suffix
        (["a.png"], ["a.png", "a.png", "."], ["a"]),  # a file that is given twice is predicted once
        (["a.png"], [".", "a.png"], ["a"]),
        (["in/a.png"], ["in/a.png", "./in/../in"], ["a"]),
        (["a.mp4", "a/0.png", "b.MOV", "c.mkv", "c.png"], ["."], ["a/0", "a.mp4", "b", "c.mkv", "c.png"]),
        (["a.jpg", "a.png/0.jpg", "b.png/0.jpg"], ["."], ["a.jpg", "a.png/0", "b.png/0"]),  # a.png would be a folder
    ],
)
def test_names_of_results(
    files: list[str], inputs: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = result_names(list(map(Path, inputs)), (*EXTENSIONS, *video.EXTENSIONS))
    assert [path.as_posix() for path in found.values()] == names


def test_names_are_told_apart_where_case_does_not(tmp_path: Path) -> None:
    for name in ("IMG_1.jpg", "img_1.png", "IMG_2.JPG"):
        (tmp_path / name).touch()
    found = result_names([tmp_path]).values()
    assert [path.as_posix() for path in found] == ["IMG_1.jpg", "IMG_2", "img_1.png"]


@pytest.mark.parametrize(
    ("files", "inputs", "message"),
    [
        (["one/a.png", "two/a.png"], ["one/a.png", "two/a.png"], r"inputs .*one/a\.png and .*two/a\.png would both be"),
        (["one/a.png", "two/a.png"], ["one", "two"], r"written as a\.png\. Predict them into different"),
        (["a.jpg", "a.png", "a.jpg.png"], ["."], r"would both be written as a\.jpg"),
        (["a.png"], ["a.png", "none"], r"none does not exist"),
    ],
)
def test_inputs_without_results_of_their_own(
    files: list[str], inputs: list[str], message: str, tmp_path: Path, predictor: Predictor
) -> None:
    for name in files:
        photo(tmp_path / "in" / name)
    with pytest.raises(UserError, match=message):
        predict_files(predictor, [tmp_path / "in" / name for name in inputs], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "x/", "x/y/"]), st.sampled_from("ab"), st.sampled_from([".png", ".jpg", ".bmp"])
        ),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_no_two_files_of_a_folder_share_results(tmp_path_factory: pytest.TempPathFactory, parts: list) -> None:
    root = tmp_path_factory.mktemp("in")
    for part in parts:
        path = root / "".join(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = result_names([root])
    assert sorted(path.relative_to(root).as_posix() for path in found) == sorted("".join(part) for part in parts)
    assert max(Counter(found.values()).values()) == 1


# Results that lie among the inputs


@pytest.mark.parametrize("out", ["in/results", "in/deep/results", "in", ".", "in/a.png.d", "link/results"])
def test_results_do_not_become_inputs(
    out: str, tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("in/a.png", "in/deep/b.png"):
        photo(tmp_path / name)
    (tmp_path / "link").symlink_to("in")
    for counts in ((2, 0), (0, 2), (0, 2)):
        summary = predict_files(predictor, [tmp_path / "in"], tmp_path / out)
        assert (summary.written, summary.skipped, summary.failed) == (*counts, [])
        assert len(list((tmp_path / out).rglob("*.png"))) == 6 + (2 if out in {"in", "."} else 0)
    assert not [message for message in caplog.messages if "left out" in message], (
        "by its own results, nobody is surprised"
    )


def test_results_of_earlier_commands_are_left_out_and_named(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    path = photo(tmp_path / "in/a.png", height=64, width=64)
    gated = tiny.predictor(tiny.recipe(tiny.GFFNET))
    predict_files(predictor, [path], tmp_path / "in/one")
    write_gates(gated, [path], tmp_path / "in/two")
    both = [NamedModel("x", predictor), NamedModel("y", gated)]
    write_comparison(both, [path], Truth([]), tmp_path / "in/three", FigureOptions(panels=True))
    photo(tmp_path / "in/three/mine.png")
    caplog.clear()
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "out").written == 2
    assert written(tmp_path / "out") == {"a.png", "three/mine.png"}
    assert [message for message in caplog.messages if "left out" in message] == [
        f"left out: colour, labels, legend.svg and 1 more in {tmp_path}/in/one, the results of an earlier command",
        f"left out: a, a.png in {tmp_path}/in/three, the results of an earlier command",
        f"left out: g1.png, g2.png, g3.png and 4 more in {tmp_path}/in/two/a, the results of an earlier command",
    ]


def test_results_that_are_named_as_inputs(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a pattern of the shell."""
    path, out = photo(tmp_path / "a.png"), tmp_path / "results"
    predict_files(predictor, [path], out)
    caplog.clear()
    assert predict_files(predictor, sorted(tmp_path.rglob("*.png")), out).skipped == 1
    assert f"left out: {out}/colour/a.png and what else lies among the results in {out}" in caplog.messages
    with pytest.raises(UserError, match=r"colour/a\.png lies among the results in .*: choose another --out"):
        predict_files(predictor, [out / "colour"], out)
    assert predict_files(predictor, [out / "colour"], tmp_path / "other").written == 1


# Shards


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition(tmp_path: Path, predictor: Predictor, count: int) -> None:
    for i in range(5):
        photo(tmp_path / f"in/{i}.png", height=8, width=8)
    shares = []
    for index in range(1, count + 1):
        out = tmp_path / f"out{index}"
        number = predict_files(predictor, [tmp_path / "in"], out, (index, count)).written
        shares.append(written(out) if number else set())
        assert number == len(shares[-1])
    assert sorted(name for share in shares for name in share) == [f"{i}.png" for i in range(5)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Resuming


def test_an_image_without_one_of_its_results_is_predicted_again(tmp_path: Path, predictor: Predictor) -> None:
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert predict_files(predictor, [path], out, results=["labels"]).written == 1
    assert sorted(path.name for path in out.iterdir()) == [AREAS, "labels", LEGEND, "predict.json"]
    assert predict_files(predictor, [path], out, results=["labels"]).skipped == 1
    assert predict_files(predictor, [path], out).written == 1
    assert written(out) == {"a.png"}


def test_results_of_two_models_are_not_mixed(tmp_path: Path, predictor: Predictor) -> None:
    """Not even if a run with --overwrite is interrupted, and resumed without."""
    for i in range(4):
        photo(tmp_path / f"in/{i}.png", i)
    out, other = tmp_path / "out", tiny.predictor(seed=1)
    predict_files(predictor, [tmp_path / "in"], out)
    with pytest.raises(UserError, match=r"made differently: weights \w{12} there, \w{12} now\. Choose another"):
        predict_files(other, [tmp_path / "in"], out)
    assert predict_files(other, [tmp_path / "in"], out, (1, 2), overwrite=True).written == 2
    summary = predict_files(other, [tmp_path / "in"], out)
    assert (summary.written, summary.skipped) == (2, 2)
    for i in range(4):
        labels = read_labels(out / f"labels/{i}.png")
        np.testing.assert_array_equal(labels, other.predict(as_array(read_image(tmp_path / f"in/{i}.png"))))


# Files that cannot be read


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


OTHER_FILES: dict[str, Callable[[Path], Path]] = {
    "other suffix": lambda path: photo(path.with_suffix(".jpg")),
    "suffix in capitals": lambda path: renamed(path, "a.PNG"),
    "other folder": lambda path: photo(path.parent / "b/a.png", seed=1),
    "replaced": lambda path: photo(path, height=48),
}


@pytest.mark.parametrize("other", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_result_of_another_file_is_not_taken_for_that_of_this(
    other: Callable[[Path], Path], tmp_path: Path, predictor: Predictor
) -> None:
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    bytes_there = path.stat().st_size
    predict_files(predictor, [path], out)
    new, before = other(path), (out / "labels/a.png").read_bytes()
    said = f"holds a of a.png ({bytes_there} bytes), which is not {new} ({new.stat().st_size} bytes). Choose another"
    with pytest.raises(UserError, match=re.escape(said)):
        predict_files(predictor, [new], out)
    assert (out / "labels/a.png").read_bytes() == before
    photo(tmp_path / "b.png")
    with pytest.raises(UserError, match=re.escape(said)):
        predict_files(predictor, [tmp_path / "b.png", new], out)
    assert predict_files(predictor, [new], out, overwrite=True).written == 1
    np.testing.assert_array_equal(read_labels(out / "labels/a.png"), predictor.predict(as_array(read_image(new))))
    assert predict_files(predictor, [new], out).skipped == 1


def test_a_video_of_another_format(tmp_path: Path, predictor: Predictor) -> None:
    for name in ("clip.mp4", "clip.mkv"):
        save_clip(tmp_path / name, [tiny.picture(0, 32, 32)] * 2)
    predict_files(predictor, [tmp_path / "clip.mp4"], tmp_path / "out")
    with pytest.raises(UserError, match=r"holds clip of clip\.mp4 \(.* bytes\), which is not .*clip\.mkv"):
        predict_files(predictor, [tmp_path / "clip.mkv"], tmp_path / "out")
    photo(tmp_path / "clip.png")  # its results have names of their own
    assert predict_files(predictor, [tmp_path / "clip.png"], tmp_path / "out").written == 1


def test_replacing_results_of_other_files_goes_on_after_an_interrupt(tmp_path: Path, predictor: Predictor) -> None:
    """What was not replaced yet is of another file: it does not count as done."""
    out = tmp_path / "out"
    for name in "ab":
        predict_files(predictor, [photo(tmp_path / f"{name}.png")], out)
        for result in FOLDERS:
            os.utime(out / result / f"{name}.png", (time.time() - 1,) * 2)
    others = [photo(tmp_path / f"{name}.jpg") for name in "ab"]
    names = {path: Path(path.stem) for path in others}
    assert open_folder(out, describe_prediction(predictor), overwrite=True, names=names) > 0
    assert predict_files(predictor, others, out).written == 2


def test_moved_files_and_folders_without_sources_are_continued(tmp_path: Path, predictor: Predictor) -> None:
    path, out = photo(tmp_path / "in/a.png"), tmp_path / "out"
    predict_files(predictor, [tmp_path / "in"], out)
    (tmp_path / "in").rename(tmp_path / "moved")
    assert predict_files(predictor, [tmp_path / "moved"], out).skipped == 1
    record = json.loads((out / RECORD).read_text())
    del record["sources"]
    (out / RECORD).write_text(json.dumps(record))
    assert predict_files(predictor, [photo(path, height=40)], out).skipped == 1


@pytest.mark.parametrize("made", [False, True])
def test_a_run_that_writes_nothing_does_not_bind_the_next(made: bool, tmp_path: Path, predictor: Predictor) -> None:
    out = tmp_path / "out"
    if made:
        (out / "labels").mkdir(parents=True)
    assert predict_files(predictor, [cut_short(tmp_path / "a.png")], out).failed
    assert predict_files(tiny.predictor(seed=1), [photo(tmp_path / "a.png")], out).written == 1


def test_one_bad_file_among_good_ones(tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        photo(tmp_path / "in" / name)
    bad, out = cut_short(tmp_path / "in/b [1].png"), tmp_path / "out"
    for counts in ((2, 0), (0, 2)):
        summary = predict_files(predictor, [tmp_path / "in"], out)
        assert (summary.written, summary.skipped) == counts
        assert [path for path, _ in summary.failed] == [bad]
        assert written(out) == {"a.png", "c.png"}
        assert f"left out: {bad}: it is damaged or cut short" in capsys.readouterr().err
        assert (out / "failed.txt").read_text().startswith(f"{bad}: it is damaged or cut short")
        with pytest.raises(RunFailed, match=r"1 of 3 files failed and were left out; they are listed in .*failed\.txt"):
            summary.print()
    photo(bad)
    predict_files(predictor, [tmp_path / "in"], out).print()
    assert not (out / "failed.txt").exists()


def test_a_shard_lists_its_own_failures(tmp_path: Path, predictor: Predictor) -> None:
    for name in "abc":
        cut_short(tmp_path / f"in/{name}.png")
    predict_files(predictor, [tmp_path / "in"], tmp_path / "out", (2, 3))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["failed-2-of-3.txt", "predict.json"]
    assert (tmp_path / "out/failed-2-of-3.txt").read_text().startswith(f"{tmp_path}/in/b.png: ")


def test_a_single_bad_file(tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cut_short(tmp_path / "b.png")
    with pytest.raises(UserError, match=f"^{bad}: it is damaged or cut short"):
        predict_files(predictor, [bad], tmp_path / "out").print()
    assert capsys.readouterr().err == ""  # once is enough


def test_a_decoder_that_fails_otherwise(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(path: Path, *how: Any) -> object:
        if path.name == "b.png":
            raise MemoryError
        return read_image(path, *how)

    monkeypatch.setattr("gffnet.inference.predictor.read_input", reading)
    for name in "abc":
        photo(tmp_path / f"in/{name}.png")
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert summary.failed == [(tmp_path / "in/b.png", "it cannot be decoded (MemoryError: )")]
    assert written(tmp_path / "out") == {"a.png", "c.png"}


# Images that the network cannot take


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room\nat all"), RuntimeError("no room"), MemoryError()])
def test_an_image_too_large(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    predict = predictor.predict

    def limited(images: list[torch.Tensor]) -> list[np.ndarray]:
        if images[0].shape[1] > 30:
            raise error
        return predict(images)

    monkeypatch.setattr(predictor, "predict", limited)
    for i in range(3):
        photo(tmp_path / f"in/{i}.png", height=40 if i == 0 else 24)
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    reason = "no memory" if isinstance(error, MemoryError) else "no room"
    assert summary.failed == [(tmp_path / "in/0.png", f"the network cannot take its 40x32 pixels ({reason}).")]
    assert written(tmp_path / "out") == {"1.png", "2.png"}


def test_images_that_do_not_fit_together_are_predicted_one_by_one(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, score = list[int](), predictor.score

    def limited(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        if len(windows) > 1:
            raise torch.OutOfMemoryError("no room")
        return score(windows)

    monkeypatch.setattr(predictor, "batch", 2)
    monkeypatch.setattr(predictor, "score", limited)
    for i in range(5):
        photo(tmp_path / f"in/{i}.png", height=40 if i == 2 else 24)
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert (summary.written, summary.failed) == (5, [])
    assert written(tmp_path / "out") == {f"{i}.png" for i in range(5)}
    assert sizes == [2, 1, 1, 2, 1, 1, 1]


def test_a_device_that_fails_stops_the_run(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(images: list[torch.Tensor]) -> list[np.ndarray]:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")

    monkeypatch.setattr(predictor, "predict", failing)
    with pytest.raises(RunFailed, match=r"^the device failed: CUDA error: unspecified launch failure\. Run the same"):
        predict_files(predictor, [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")], tmp_path / "out")


# Images larger than memory


@pytest.fixture(scope="module")
def windowed() -> Predictor:
    return tiny.predictor(tiny.recipe(evaluation={"crop": [32, 32], "overlap": 0.0}))


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.png"])
@pytest.mark.parametrize("free", [170_000, 300_000])
def test_an_image_larger_than_memory_has_the_same_results(
    name: str, free: int, windowed: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is above Pillow's limit. What is free beside the network is little: the least is several strips."""
    pixels, path = tiny.picture(1, 400, 64), tmp_path / "in" / name
    path.parent.mkdir()
    if name == "a.npy":
        np.save(path, pixels)
    elif name == "a.tif":
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32), compression="deflate")
    else:
        Image.fromarray(pixels).save(path)
    photo(tmp_path / "in/small.png")
    predict_files(windowed, [tmp_path / "in"], tmp_path / "whole")
    monkeypatch.setattr("gffnet.data.large._AT_ONCE", 50 * 64)
    monkeypatch.setattr("gffnet.inference.predictor._WRITING_BYTES", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    monkeypatch.setattr(windowed, "memory", windowed._reserved(windowed.protocol) + free)
    shapes: list[tuple[range, range]] = []
    monkeypatch.setattr(module.LabelFile, "write", spy(module.LabelFile.write, shapes))
    summary = predict_files(windowed, [tmp_path / "in"], tmp_path / "out")
    if name == "a.png" and free == 170_000:
        assert "to decode its 64x400 pixels takes 1 MB, and 0 MB of the memory are free" in summary.failed[0][1]
        return
    assert (summary.written, summary.failed) == (2, [])
    assert written(tmp_path / "out") == {"a.png", "small.png"}
    assert sum(len(rows) * len(columns) for rows, columns in shapes) == 400 * 64
    assert len(shapes) > 5
    assert (len(shapes[0][1]) == 64) == (free == 300_000), "else in strips of columns"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for folder in FOLDERS:
        one, two = (np.asarray(Image.open(tmp_path / out / folder / "a.png")) for out in ("whole", "out"))
        assert (one != two).mean() < 1e-3, "labels differ where two classes are equally probable"
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".", "tmp"))]
    assert predict_files(windowed, [tmp_path / "in"], tmp_path / "out").skipped == 2


def test_a_large_image_that_cannot_be_written_is_not_counted(
    windowed: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        path = tmp_path / f"in/{name}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, tiny.picture(1, 400, 64), photometric="rgb", tile=(32, 32), compression="deflate")
    monkeypatch.setattr("gffnet.inference.predictor._WRITING_BYTES", 0)
    monkeypatch.setattr(windowed, "memory", windowed._reserved(windowed.protocol) + 300_000)
    (tmp_path / "out/overlay/b.png").mkdir(parents=True)
    summary = predict_files(windowed, [tmp_path / "in"], tmp_path / "out")
    assert ([path.name for path, _ in summary.failed], summary.written) == (["b.tif"], 1)
    assert rows_of(tmp_path / "out/areas.csv").keys() == {"a.png"}


def spy(write: Any, calls: list[Any]) -> Any:
    def writing(self: Any, rows: range, columns: range, labels: Any) -> None:
        calls.append((rows, columns))
        write(self, rows, columns, labels)

    return writing


def test_an_image_above_the_limit_is_refused_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, path = tiny.predictor(), photo(tmp_path / "a.png", 1, 90, 70)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    ((_, reason),) = predict_files(predictor, [path], tmp_path / "out").failed
    assert "is of 70x90 = 6,300 pixels, and files of more than 6,000 are refused" in reason
    predictor.memory = 10**10
    assert predict_files(predictor, [path], tmp_path / "out").written == 1
    assert predictor.predict(path).shape == (90, 70)
    predictor.memory = predictor._reserved(predictor.protocol) + 50_000
    ((_, reason),) = predict_files(predictor, [path], tmp_path / "other").failed
    assert "the whole image of 70x90 pixels is one window, which does not fit into a memory of" in reason


# Results that cannot be written


def test_the_output_folder_is_a_file(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(CannotWrite, match=r"^cannot write .*out/predict\.json: "):
        predict_files(predictor, [photo(tmp_path / "a.png")], tmp_path / "out")


def test_a_model_that_takes_other_channels(tmp_path: Path) -> None:
    backbone = {**tiny.PSPNET["backbone"], "in_channels": 4}
    recipe = tiny.recipe({**tiny.PSPNET, "backbone": backbone})
    network = tiny.build_network(recipe.model, 11)
    base = tiny.predictor()
    predictor = Predictor(network, tiny.config(recipe), base.device, base.precision)
    photo(tmp_path / "in/color.png")
    bands = np.dstack([tiny.picture(0), tiny.picture(1)[..., 0]])
    tifffile.imwrite(tmp_path / "in/bands.tif", bands, photometric="minisblack", planarconfig="contig")
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert (summary.written, len(summary.failed)) == (1, 1)
    message = "has 3 bands, but the model takes 4: train one that takes them, with --set model.backbone.in_"
    assert message in summary.failed[0][1]
    labels = np.asarray(Image.open(tmp_path / "out/labels/bands.png"))
    np.testing.assert_array_equal(labels, predictor.predict(bands))
    shown = np.asarray(Image.open(tmp_path / "out/overlay/bands.png"))
    np.testing.assert_array_equal(shown, overlay(bands[..., :3], labels, predictor.config.palette))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"k" * 251 + ".jpg", "k" * 251 + ".png"}, "File name too long. Its longest name has 259 bytes"),  # + .png
        ({"b.png"}, "Is a directory. A folder has this name"),
        ({"b.mp4"}, "Is a directory. A folder has this name"),
    ],
)
def test_a_result_whose_name_is_not_taken_does_not_stop_the_others(
    bad: set[str], said: str, tmp_path: Path, predictor: Predictor
) -> None:
    for name in ("a.png", "c.png", *bad):
        photo(tmp_path / "in" / name) if name != "b.mp4" else save_clip(tmp_path / "in" / name, [tiny.picture(0)])
    (tmp_path / "out/labels/b.png").mkdir(parents=True)
    (tmp_path / "out/overlay/b.mp4").mkdir(parents=True)
    for overwrite in (True, False):
        summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out", overwrite=overwrite)
        assert (summary.written, summary.skipped) == ((2, 0) if overwrite else (0, 2))
        assert {path.name for path, _ in summary.failed} == bad
        assert all(said in reason for _, reason in summary.failed)
        with pytest.raises(RunFailed, match=r"failed and were left out; they are listed in .*failed\.txt"):
            summary.print()
    for name in ("a.png", "c.png"):
        assert all((tmp_path / "out" / folder / name).is_file() for folder in FOLDERS)
    assert not list((tmp_path / "out").rglob("*.part"))


def test_names_as_long_as_the_file_system_takes(tmp_path: Path, predictor: Predictor) -> None:
    for stem in ("k" * 236, "k" * 237, "街" * 83 + "kk"):
        photo(tmp_path / f"in/{stem}.png")
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "out").written == 3
    assert written(tmp_path / "out") == {path.name for path in (tmp_path / "in").iterdir()}


@pytest.mark.parametrize("writes", [1, 2, 5])
def test_a_disk_that_fills_up_stops_the_run(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    for i in range(20):
        photo(tmp_path / f"in/{i}.png")
    full_after(monkeypatch, writes)
    with pytest.raises(CannotWrite, match="No space left on device"):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == (
        writes if writes > 1 else 0
    )  # the record alone is removed


def test_an_interrupt_leaves_no_part_and_no_thread(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, threads = predictor.predict, threading.active_count()
    calls = []

    def interrupted(image: torch.Tensor) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return predict(image)

    monkeypatch.setattr(predictor, "predict", interrupted)
    for i in range(20):
        photo(tmp_path / f"in/{i}.png")
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert threading.active_count() == threads
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "out").written >= 17


# Videos


@pytest.mark.parametrize("smooth", [None, 0.2])
def test_a_model_of_one_channel_sees_videos_in_grey(tmp_path: Path, smooth: float | None) -> None:
    backbone = {**tiny.PSPNET["backbone"], "in_channels": 1}
    of = tiny.recipe({**tiny.PSPNET, "backbone": backbone})
    torch.manual_seed(0)
    network = tiny.build_network(of.model, 11)
    predictor = Predictor(network, tiny.config(of), torch.device("cpu"), Precision(torch.float32, "for tests"))
    save_clip(tmp_path / "film.mp4", [tiny.picture(i) for i in range(2)])
    assert predict_files(predictor, [tmp_path / "film.mp4"], tmp_path / "out", smooth=smooth).written == 1
    frame = next(iter(video.frames(tmp_path / "film.mp4"))).image
    grey = np.array(Image.fromarray(frame).convert("L"))
    labels = read_labels(min((tmp_path / "out/labels/film").glob("*.png")))
    np.testing.assert_array_equal(labels, predictor.predict(grey))


def test_videos_and_images_of_a_folder(tmp_path: Path, predictor: Predictor) -> None:
    photo(tmp_path / "in/a.png")
    save_clip(tmp_path / "in/deep/film.mp4", [tiny.picture(i) for i in range(3)])
    (tmp_path / "in/broken.webm").write_bytes(b"nothing")
    for counts in ((2, 0), (0, 2)):
        summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
        assert (summary.written, summary.skipped) == counts
        assert [path.name for path, _ in summary.failed] == ["broken.webm"]
    assert (tmp_path / "out/overlay/deep/film.mp4").is_file()
    assert len(list((tmp_path / "out/labels/deep/film").glob("*.png"))) == 3
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "out", overwrite=True).written == 2


Captured = pytest.CaptureFixture[str]


def make_summary(out: Path, failures: int = 0, **options: object) -> Summary:
    made = Summary(out, ("labels", "overlay"), **options)  # type: ignore[arg-type]
    for i in range(failures):
        made.fail(Path(f"in/{i} [x].png"), "it is\ndamaged")
    return made


@pytest.mark.parametrize(
    ("written", "skipped", "said"),
    [
        (180, 0, "180 images written, 0 were there already"),
        (1, 1, "1 image written, 1 was there already"),
        (0, 20, "0 images written, 20 were there already"),
    ],
)
def test_all_went_well(written: int, skipped: int, said: str, capsys: Captured) -> None:
    made = make_summary(Path("out [1]"))
    made.written, made.skipped = written, skipped
    made.print()
    assert capsys.readouterr().err == f"{said}: out [1]/labels, overlay\n"


def test_failures_are_printed_at_once_and_at_the_end(capsys: Captured) -> None:
    made = make_summary(Path("out"), failures=LISTED + 7)
    made.written = 100
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "left out: in/0 [x].png: it is damaged"
    assert len(lines) == LISTED + 7
    with pytest.raises(
        RunFailed, match=r"^57 of 157 files failed and were left out; they are listed in out/failed\.txt"
    ):
        made.print()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "failed: in/0 [x].png: it is damaged"
    assert lines[LISTED:] == ["and 7 more", "100 images written, 0 were there already: out/labels, overlay"]


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    made = make_summary(tmp_path)
    made.fail(Path("a\udcff.png"), "it is empty")
    made.write_failed()
    assert (tmp_path / "failed.txt").read_bytes() == b"a\xff.png: it is empty\n"


# Notices


@pytest.mark.parametrize(("remedy", "said"), [("", ""), ("--scales 1 keeps it", ": --scales 1 keeps it")])
def test_every_notice_is_logged_once(caplog: pytest.LogCaptureFixture, remedy: str, said: str) -> None:
    notices = Notices(changed(learned_from=(360, 480)), remedy)
    with caplog.at_level(logging.INFO, "gffnet"):
        notices.before((360, 480))
        notices.before((360, 480))
        assert caplog.messages == ["float32 on cpu: for tests"]
        notices.before((3024, 4032), scale=1.0)
        assert len(caplog.messages) == 1, "the scale was requested"
        notices.before((3024, 4032))
        notices.before((3000, 4000))
    assert caplog.messages[1:] == [
        f"large images are downscaled (4032x3024 by 0.179), because the model was trained on 480x360{said}"
    ]


# The record


def test_a_link_that_leads_in_a_circle(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(UserError, match=r"^cannot read .*predict\.json: Too many levels .*\. Choose another --out\.$"):
        open_folder(tmp_path / "out", describe_prediction(predictor), overwrite=False)


def refused(out: Path, predictor: Predictor) -> str:
    before = (out / RECORD).read_bytes() if (out / RECORD).exists() else None
    with pytest.raises(UserError, match=r"Choose another --out, or") as error:
        open_folder(out, describe_prediction(predictor), overwrite=False)
    assert before == ((out / RECORD).read_bytes() if (out / RECORD).exists() else None)
    return str(error.value)


def test_a_new_folder_and_the_same_again(tmp_path: Path, predictor: Predictor) -> None:
    out = tmp_path / "deep/out"
    assert open_folder(out, describe_prediction(predictor), overwrite=False) == 0
    before = (out / RECORD).stat().st_mtime_ns
    for overwrite in (False, True):
        assert open_folder(out, describe_prediction(tiny.predictor()), overwrite) == 0
    assert (out / RECORD).stat().st_mtime_ns == before
    record = json.loads((out / RECORD).read_text())
    assert (record["recipe"], record["weights"]) == ("tests/tiny", predictor.weights)
    assert record["protocol"] == {"crop": None, "overlap": 1 / 3, "scales": [1.0], "flip": False}
    assert (record["precision"], record["classes"]) == ("float32", list(predictor.config.classes))


def changed(**changes: Any) -> Predictor:
    config = dataclasses.replace(tiny.config(tiny.recipe()), **changes)
    return Predictor(tiny.network(tiny.recipe()), config, torch.device("cpu"), Precision(torch.float32, "for tests"))


def test_what_differs_is_named(tmp_path: Path, predictor: Predictor) -> None:
    open_folder(tmp_path, describe_prediction(predictor), overwrite=False)
    windows, other = EvaluationRecipe(crop=(32, 48), scales=(0.75, 1.0)), tiny.predictor(seed=1)
    own = "(crop None, overlap 0.3333333333333333, scales 1.0, flip False)"
    for made, difference in {
        changed(recipe="tests/other"): "recipe tests/tiny there, tests/other now",
        changed(
            evaluation=windows
        ): f"protocol {own} there, {own.replace('None', '32x48').replace('1.0', '0.75x1.0')} now",
        changed(learned_from=(360, 480)): "large_images None there, seen as if of 480x360 now",
        changed(classes=("moon", *CAMVID.names[1:])): "other classes",
        changed(palette=((1, 2, 3), *CAMVID.palette[1:])): "other palette",
        tiny.predictor(dtype=torch.bfloat16): "precision float32 there, bfloat16 now",
        other: f"weights {predictor.weights[:12]} there, {other.weights[:12]} now",
    }.items():
        assert f"made differently: {difference}. Choose" in refused(tmp_path, made)


def test_predictions_without_a_record(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "labels").mkdir()  # an empty folder says nothing
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/a.png").touch()
    assert "holds overlay/, but no predict.json that says of which model" in refused(tmp_path, predictor)
    assert open_folder(tmp_path, describe_prediction(predictor), overwrite=True) > 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("failed.txt", "of my own"),
        ("failed.txt", "a: b\n"),
        ("failed.txt", ""),
        ("areas.csv", "a,b\n"),
        ("legend.svg", "<svg/>"),
    ],
)
def test_files_of_the_users_own_are_not_replaced(name: str, text: str, tmp_path: Path, predictor: Predictor) -> None:
    path = photo(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"holds {name}, but no predict\.json"):
        predict_files(predictor, [path], tmp_path)
    assert (tmp_path / name).read_text() == text
    assert predict_files(predictor, [path], tmp_path, overwrite=True).written == 1


def test_a_list_of_failures_alone_does_not_bind_the_next_command(tmp_path: Path, predictor: Predictor) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"no image")
    assert len(predict_files(predictor, [tmp_path / "in"], tmp_path / "out").failed) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"failed.txt", "predict.json"}
    assert len(predict_files(predictor, [tmp_path / "in"], tmp_path / "out").failed) == 2
    photo(tmp_path / "in/a.png")
    photo(tmp_path / "in/b.png")
    (tmp_path / "out" / LEGEND).touch()
    with pytest.raises(UserError, match=rf"holds {LEGEND}, but no predict\.json that says of which model"):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    (tmp_path / "out" / LEGEND).unlink()
    other = tiny.predictor(seed=1)
    assert predict_files(other, [tmp_path / "in"], tmp_path / "out").written == 2
    assert not (tmp_path / "out/failed.txt").exists()


def test_results_that_another_model_leaves_are_named(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        photo(tmp_path / f"in/{name}.png")
    predict_files(tiny.predictor(seed=1), [tmp_path / "in"], tmp_path / "out")
    predict_files(predictor, [tmp_path / "in/a.png"], tmp_path / "out", overwrite=True)
    assert f"2 results in {tmp_path}/out, such as b.png, are not predicted again: they stay as they were" in caplog.text


def test_overwriting_makes_old_results_count_no_more(tmp_path: Path, predictor: Predictor) -> None:
    old, new = tmp_path / "labels/old.png", tmp_path / "labels/new.png"
    open_folder(tmp_path, describe_prediction(tiny.predictor(seed=1)), overwrite=False)
    old.parent.mkdir()
    old.touch()
    os.utime(old, (time.time() - 1,) * 2)
    since = open_folder(tmp_path, describe_prediction(predictor), overwrite=True)
    new.touch()
    assert not is_done(old, since)
    assert is_done(new, since)
    assert not is_done(tmp_path / "labels/none.png", since)
    for overwrite in (True, False):  # a second process of the same run, and a later one
        assert open_folder(tmp_path, describe_prediction(predictor), overwrite) == since


def test_another_process_writes_the_record_first(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = json.dumps({**describe_prediction(tiny.predictor(seed=1)), "since": 0.0})
    monkeypatch.setattr(module, "write_json", lambda path, value: path.write_text(theirs))
    with pytest.raises(UserError, match="made differently: weights"):
        open_folder(tmp_path, describe_prediction(predictor), overwrite=False)
