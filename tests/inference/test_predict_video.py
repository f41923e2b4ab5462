"""Prediction of a video: all of it or nothing."""

import json
import resource
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.colors import colourise, overlay
from gffnet.data.io import read_labels
from gffnet.errors import CannotWrite, UserError
from gffnet.inference.predictor import Predictor
from gffnet.inference.video import frames, predict_video, video_result
from tests import tiny
from tests.inference.clips import save_clip

RESULTS = ("labels", "colour", "overlay")
NAME = Path("deep/film")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny.predictor()


def predict(predictor: Predictor, path: Path, out: Path, results: tuple[str, ...] = RESULTS) -> int:
    """Predict a video; the number of frames that were told."""
    told: list[None] = []
    predict_video(
        predictor.predict, path, out, NAME, results, predictor.config.palette, advance=lambda: told.append(None)
    )
    return len(told)


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("height", "width"), [(40, 56), (41, 57)])
def test_frames_times_and_sizes_are_those_of_the_video(
    tmp_path: Path, predictor: Predictor, height: int, width: int
) -> None:
    times = [0, 40, 80, 95, 300, 340, 380]
    path = save_clip(tmp_path / "a.mkv", [tiny.picture(i, height, width) for i in range(7)], times=times, codec="ffv1")
    out = tmp_path / "out"
    assert predict(predictor, path, out) == 7
    maps = [f"labels/deep/film/{i:06d}.png" for i in range(7)]
    assert files(out) == {*maps, "labels/deep/film/frames.json", "colour/deep/film.mp4", "overlay/deep/film.mp4"}
    assert all(video_result(out, NAME, result).exists() for result in RESULTS)
    seconds = [time / 1000 for time in times]
    assert json.loads((out / "labels/deep/film/frames.json").read_text()) == {"seconds": seconds}
    palette = predictor.config.palette
    films = [list(frames(out / result / "deep/film.mp4")) for result in ("colour", "overlay")]
    assert [[float(frame.time) for frame in film] for film in films] == [seconds] * 2
    for i, frame in enumerate(frames(path)):
        labels = read_labels(out / maps[i])
        np.testing.assert_array_equal(labels, predictor.predict(frame.image))
        drawn = colourise(labels, palette), overlay(frame.image, labels, palette)
        for film, picture in zip(films, drawn, strict=True):
            assert film[i].image.shape == (height + height % 2, width + width % 2, 3)
            assert np.abs(film[i].image[:height, :width].astype(int) - picture).mean() < 25


def test_the_rate_is_kept(tmp_path: Path, predictor: Predictor) -> None:
    rate = Fraction(30000, 1001)
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(5)], rate)
    predict(predictor, path, tmp_path / "out", ("overlay",))
    assert files(tmp_path / "out") == {"overlay/deep/film.mp4"}
    assert {frame.rate for frame in frames(tmp_path / "out/overlay/deep/film.mp4")} == {rate}


def test_a_broken_video_leaves_nothing_and_no_thread(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mkv", [tiny.picture(i) for i in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = threading.active_count()
    with pytest.raises(UserError, match=r"frame \d+"):
        predict(predictor, path, tmp_path / "out")
    assert files(tmp_path / "out") == set()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [UserError("too large"), KeyboardInterrupt()])
def test_a_frame_that_fails(tmp_path: Path, predictor: Predictor, error: BaseException) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(8)])
    calls: list[None] = []

    def failing(image: np.ndarray) -> np.ndarray:
        calls.append(None)
        if len(calls) == 4:
            raise error
        return predictor.predict(image)

    palette = predictor.config.palette
    said = r"^frame 3: too large$" if isinstance(error, UserError) else None
    with pytest.raises(type(error), match=said):
        predict_video(failing, path, tmp_path / "out", NAME, RESULTS, palette, lambda: None)
    assert files(tmp_path / "out") == set()
    assert predict(predictor, path, tmp_path / "out") == 8


def test_what_a_killed_process_left_is_replaced(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(3)])
    for left in ("labels/deep/.film.part/000007.png", "labels/deep/film/frames.json", "labels/deep/film/000009.png"):
        (tmp_path / "out" / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / left).write_text("")
    predict(predictor, path, tmp_path / "out", ("labels",))
    maps = {f"labels/deep/film/{i:06d}.png" for i in range(3)}
    assert files(tmp_path / "out") == {*maps, "labels/deep/film/frames.json"}


def test_label_maps_of_images_are_not_replaced(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(3)])
    (tmp_path / "out/labels/deep/film").mkdir(parents=True)
    (tmp_path / "out/labels/deep/film/image.png").write_text("")
    with pytest.raises(UserError, match=r"would replace .*labels/deep/film, which holds others"):
        predict(predictor, path, tmp_path / "out")
    assert files(tmp_path / "out") == {"labels/deep/film/image.png"}


def test_a_disk_that_is_full(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(60)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        with pytest.raises(CannotWrite, match="File too large"):
            predict(predictor, path, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path / "out") == set()
