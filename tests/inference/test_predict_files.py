"""Prediction of files: what is written where, and what becomes of those that cannot be read."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.catalog import CAMVID
from gffnet.data.images import read_image, read_labels
from gffnet.errors import RunFailed, UserError
from gffnet.inference.predict_files import predict_files, result_names
from gffnet.inference.predictor import Predictor
from tests import tiny

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
    """Places of the label maps, which those of the other two must equal; nothing else may lie there."""
    found = {
        folder: {path.relative_to(out / folder) for path in (out / folder).rglob("*") if path.is_file()}
        for folder in FOLDERS
    }
    assert found["labels"] == found["colour"] == found["overlay"]
    assert {path.name for path in out.iterdir()} == set(FOLDERS)
    return {path.as_posix() for path in found["labels"]}


# What is written


def test_the_three_results_of_an_image(tmp_path: Path, predictor: Predictor) -> None:
    path = photo(tmp_path / "street.jpg", height=33, width=47)
    assert predict_files(predictor, [path], tmp_path / "out") == 1
    assert written(tmp_path / "out") == {"street.png"}
    image = read_image(path)
    labels = read_labels(tmp_path / "out/labels/street.png")
    np.testing.assert_array_equal(labels, predictor.predict(image))
    colours = np.array(CAMVID.palette)[labels]
    np.testing.assert_array_equal(read_image(tmp_path / "out/colour/street.png"), colours)
    seen = read_image(tmp_path / "out/overlay/street.png").astype(float)
    np.testing.assert_allclose(seen, (image.astype(float) + colours) / 2, atol=0.51)


def test_predicting_again_replaces(tmp_path: Path, predictor: Predictor) -> None:
    path = photo(tmp_path / "a.png", seed=1)
    for seed in (1, 2):
        photo(path, seed)
        predict_files(predictor, [path], tmp_path / "out")
    labels = read_labels(tmp_path / "out/labels/a.png")
    np.testing.assert_array_equal(labels, predictor.predict(tiny.picture(2, 24, 32)))


def test_files_of_a_folder_keep_their_place(tmp_path: Path, predictor: Predictor) -> None:
    for name in ("b.jpg", "deep/a.png", "deep/er/a.png", "dots.in.name/x.y.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("not an image")
    photo(tmp_path / "in/.hidden/c.png")
    photo(tmp_path / "elsewhere/single.png")
    assert predict_files(predictor, [tmp_path / "in", tmp_path / "elsewhere/single.png"], tmp_path / "out") == 5
    assert written(tmp_path / "out") == {
        *("b.png", "deep/a.png", "deep/er/a.png", "dots.in.name/x.y.png"),
        "single.png",
    }


# Names


def names(inputs: list[Path]) -> list[str]:
    return [path.as_posix() for path in result_names(inputs).values()]


def test_two_of_one_name_keep_their_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        photo(tmp_path / name)
    assert names([tmp_path]) == ["a.jpg", "a.png", "b"]


def test_a_file_named_twice_is_predicted_once(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    assert names([tmp_path / "a.png", tmp_path / "a.png", tmp_path]) == ["a"]
    assert names([tmp_path, tmp_path / "a.png"]) == ["a"]


def test_two_spellings_of_a_path_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "in/a.png")
    monkeypatch.chdir(tmp_path)
    assert names([Path("in/a.png"), tmp_path / "in/a.png", Path("in/../in")]) == ["a"]


def test_two_files_that_would_overwrite_each_other(tmp_path: Path, predictor: Predictor) -> None:
    inputs = [photo(tmp_path / "one/a.png"), photo(tmp_path / "two/a.png")]
    message = r"inputs .*one/a\.png and .*two/a\.png would both be written as a\.png\. Predict them into different"
    for given_inputs in (inputs, [path.parent for path in inputs]):
        with pytest.raises(UserError, match=message):
            predict_files(predictor, given_inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_like_anothers_with_its_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png"):
        photo(tmp_path / name)
    with pytest.raises(UserError, match=r"would both be written as a\.jpg"):
        result_names([tmp_path])


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


def test_no_such_input(tmp_path: Path, predictor: Predictor) -> None:
    with pytest.raises(UserError, match=r"none does not exist"):
        predict_files(predictor, [photo(tmp_path / "a.png"), tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Shards


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition(tmp_path: Path, predictor: Predictor, count: int) -> None:
    for i in range(5):
        photo(tmp_path / f"in/{i}.png", height=8, width=8)
    shares = []
    for index in range(1, count + 1):
        out = tmp_path / f"out{index}"
        number = predict_files(predictor, [tmp_path / "in"], out, (index, count))
        shares.append(written(out) if number else set())
        assert number == len(shares[-1])
    assert sorted(name for share in shares for name in share) == [f"{i}.png" for i in range(5)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Files that cannot be read


def test_one_bad_file_among_good_ones(tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        photo(tmp_path / "in" / name)
    bad = cut_short(tmp_path / "in/b [1].png")
    with pytest.raises(
        RunFailed, match=r"1 of 3 images could not be read and were left out; the others are in .*out\."
    ):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    assert written(tmp_path / "out") == {"a.png", "c.png"}
    assert f"left out: cannot read image {bad}: " in capsys.readouterr().err


def test_a_single_bad_file(tmp_path: Path, predictor: Predictor, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cut_short(tmp_path / "b.png")
    with pytest.raises(UserError, match=f"^cannot read image {bad}: it is damaged or cut short"):
        predict_files(predictor, [bad], tmp_path / "out")
    assert "left out" not in capsys.readouterr().err  # once is enough
    assert not (tmp_path / "out").exists()


def test_only_bad_files(tmp_path: Path, predictor: Predictor) -> None:
    for name in "ab":
        cut_short(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=r"not one of 2 images could be read: cannot read image .*a\.png"):
        predict_files(predictor, [tmp_path], tmp_path / "out")


# Results that cannot be written are no fault of the images


@pytest.mark.parametrize("images", [1, 3])
def test_the_output_folder_is_a_file(tmp_path: Path, predictor: Predictor, images: int) -> None:
    for i in range(images):
        photo(tmp_path / f"in/{i}.png")
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"^cannot write .*out/labels/0\.png: "):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")


def test_a_model_that_takes_other_channels_fails_at_the_first_image(tmp_path: Path) -> None:
    backbone = {**tiny.PSPNET["backbone"], "in_channels": 1}
    recipe = tiny.recipe({**tiny.PSPNET, "backbone": backbone, "mean": [100.0], "std": [50.0]})
    network = tiny.build_network(recipe.model, 11)
    base = tiny.predictor()
    predictor = Predictor(network, tiny.config(recipe), base.device, base.precision)
    for i in range(2):
        photo(tmp_path / f"in/{i}.png")
    with pytest.raises(UserError, match=r"^an image is \(24, 32, 3\), but this model takes \(height, width, 1\)"):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
