"""Videos: every frame with its time is read, predicted and written, all of them or none."""

import json
import re
import resource
import threading
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from gffnet.data.colors import colorize, overlay
from gffnet.data.io import EXTENSIONS as IMAGES
from gffnet.data.io import read_labels
from gffnet.errors import CannotWrite, UserError
from gffnet.files import atomic_folder
from gffnet.inference.batch import result_names
from gffnet.inference.predictor import Predictor
from gffnet.inference.video import (
    EXTENSIONS,
    Frame,
    clip,
    frames,
    is_video,
    predict_video,
    pyav,
    video_result,
)
from tests import tiny
from tests.inference.clips import save_clip

SMOOTH = [
    np.stack(np.broadcast_arrays(np.arange(64) * 3, np.arange(48)[:, None] * 4, 20 * i), -1).astype(np.uint8)
    for i in range(12)
]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov", "a.mpg", "a: 1 [b].m4v"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_every_frame_is_read(tmp_path: Path, name: str, rate: Fraction) -> None:
    codec = "mpeg2video" if name.endswith("mpg") else "mpeg4"
    read = list(frames(save_clip(tmp_path / name, SMOOTH, rate, codec=codec)))
    assert [frame.number for frame in read] == list(range(12))
    for frame, picture in zip(read, SMOOTH, strict=True):
        assert np.abs(frame.image.astype(int) - picture).mean() < 10
    seconds = [float(frame.time - read[0].time) for frame in read]
    np.testing.assert_allclose(seconds, np.arange(12) / float(rate), atol=0.0011)
    assert abs(read[0].rate - rate) < 0.1


def test_a_video_that_was_taken_upright(tmp_path: Path) -> None:
    """The file says: turn clockwise by 90 degrees."""
    path = save_clip(tmp_path / "a.mp4", SMOOTH)
    plain = [frame.image for frame in frames(path)]
    content = path.read_bytes()
    one, none, last = (1 << 16).to_bytes(4), bytes(4), (1 << 30).to_bytes(4)
    upright = one + none * 3 + one + none * 3 + last
    turned = none + one + none + (-(1 << 16)).to_bytes(4, signed=True) + none * 4 + last
    header = content.index(b"tkhd")
    path.write_bytes(content[:header] + content[header:].replace(upright, turned, 1))
    for frame, picture in zip(frames(path), plain, strict=True):
        np.testing.assert_array_equal(frame.image, np.rot90(picture, -1))


CODECS = {".webm": "libvpx", ".flv": "flv", ".wmv": "wmv2", ".asf": "wmv2", ".3gp": "h263", ".3g2": "h263"}
MPEG2 = {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".mpe", ".vob", ".m2v", ".mxf"}


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_every_suffix_is_that_of_a_video(tmp_path: Path, suffix: str) -> None:
    codec = CODECS.get(suffix, "mpeg2video" if suffix in MPEG2 else "mpeg4")
    container = {".f4v": "mp4", ".qt": "mov", ".divx": "avi", ".mpe": "mpeg", ".ogv": "matroska", ".mts": "mpegts"}
    pictures = [np.full((96, 128, 3), 90, np.uint8)] * 4  # H.263 has few sizes
    path = save_clip(tmp_path / f"a{suffix.upper()}", pictures, codec=codec, container=container.get(suffix))
    assert is_video(path)
    read = list(frames(path))
    assert len(read) == 4
    assert read[0].image.shape == (96, 128, 3)
    assert abs(read[0].image.mean() - 90) < 5


def unreadable(*_: object) -> NoReturn:
    raise PermissionError


def test_a_program_in_typescript_is_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.ts", "b.mts"):
        (tmp_path / name).write_text("export const width: number = 128;\n" * 20)
        assert not is_video(tmp_path / name)
    save_clip(tmp_path / "c.ts", SMOOTH, codec="mpeg2video")
    (tmp_path / "d.png").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", unreadable)
        assert is_video(tmp_path / "c.ts")  # whose prediction fails, by its name
    assert sorted(path.name for path in result_names([tmp_path], (*IMAGES, *EXTENSIONS))) == ["c.ts", "d.png"]


# Broken ones


def broken(path: Path) -> str:
    with pytest.raises(UserError, match=r"^cannot read video ") as error:
        list(frames(path))
    assert str(path) in str(error.value)
    assert "Copy or download it again." in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_no_video(tmp_path: Path, content: bytes) -> None:
    assert "No such file" in broken(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(content)
    broken(tmp_path / "a.mp4")


def test_sound_alone(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert "no moving pictures" in broken(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.webm", "web.mp4"])
@pytest.mark.parametrize("share", [0.6, 0.8])
def test_a_video_cut_short(tmp_path: Path, name: str, share: float) -> None:
    """The frame at which it ends is named."""
    pictures = [tiny.picture(i, 48, 64) for i in range(100)]
    codec = "libvpx" if name.endswith("webm") else "mpeg4"
    path = save_clip(tmp_path / name, pictures, codec=codec, index_first=name == "web.mp4")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    named = re.search(r"frame (\d+)", broken(path))
    assert named is not None
    assert 5 <= int(named[1]) <= 95


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_last_picture_shown_for_long_is_no_cut(tmp_path: Path, name: str) -> None:
    """As at the end of a slide show: its duration is in the header, and no frame follows."""
    import av

    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        packets = []
        for picture in SMOOTH[:5]:
            packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        packets += stream.encode(None)
        packets[-1].duration = round(3 / packets[-1].time_base)
        for packet in packets:
            container.mux(packet)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration > 3_000_000
    assert len(list(frames(tmp_path / name))) == 5


def test_sound_that_lasts_longer_is_no_cut(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.mp4"):
        assert len(list(frames(save_clip(tmp_path / name, SMOOTH, sound=True)))) == 12


# Writing


def as_frames(times: list[Fraction], tick: Fraction) -> list[Frame]:
    return [Frame(i, SMOOTH[i], time, tick, Fraction(25)) for i, time in enumerate(times)]


@pytest.mark.parametrize("h264", [True, False])
@pytest.mark.parametrize(
    ("height", "width", "tick"),
    [
        (48, 64, Fraction(1, 12800)),
        (47, 63, Fraction(1, 1000)),
        (48, 63, Fraction(1, 90000)),
        (47, 64, Fraction(1001, 30000)),
    ],
)
def test_a_clip_keeps_times_and_colors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, h264: bool, height: int, width: int, tick: Fraction
) -> None:
    if not h264:
        monkeypatch.setattr(pyav(), "codecs_available", {"mpeg4"})
    times = [n * (max(1, round(Fraction(1, 25) / tick))) * tick for n in (0, 1, 2, 5, 6, 9)]
    with clip(tmp_path / "a.mp4") as add:
        for frame in as_frames(times, tick):
            add(frame.image[:height, :width], frame)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    read = list(frames(tmp_path / "a.mp4"))
    assert [float(frame.time) for frame in read] == pytest.approx([float(time) for time in times], abs=2e-5)
    for frame, picture in zip(read, SMOOTH[:6], strict=True):
        assert frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image[:height, :width].astype(int) - picture[:height, :width]).mean() < 5


def test_the_rate_is_kept(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    with clip(tmp_path / "a.mp4") as add:
        for i, image in enumerate(SMOOTH):
            add(image, Frame(i, image, i / rate, 1 / rate, rate))
    assert {frame.rate for frame in frames(tmp_path / "a.mp4")} == {rate}


def test_a_clip_of_two_sizes(tmp_path: Path) -> None:
    one, two = as_frames([Fraction(0), Fraction(1)], Fraction(1, 25))
    with pytest.raises(UserError, match=r"frame 1 is .* another size"), clip(tmp_path / "a.mp4") as add:  # noqa: PT012
        add(one.image, one)
        add(two.image[:20], two)
    assert list(tmp_path.iterdir()) == []


def test_frames_too_small_to_encode(tmp_path: Path) -> None:
    frame = as_frames([Fraction(0)], Fraction(1, 25))[0]
    with pytest.raises(UserError, match="frame 0 cannot be encoded"), clip(tmp_path / "a.mp4") as add:
        add(np.zeros((2, 40000, 3), np.uint8), frame)
    assert list(tmp_path.iterdir()) == []


# Prediction

RESULTS = ("labels", "colour", "overlay")
NAME = Path("deep/film")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny.predictor()


def predict_clip(predictor: Predictor, path: Path, out: Path, results: tuple[str, ...] = RESULTS) -> None:
    predict_video(lambda frame: predictor.predict(frame.image), path, out, NAME, results, predictor.config.palette)


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("height", "width"), [(40, 56), (41, 57)])
def test_frames_times_and_sizes_are_those_of_the_video(
    tmp_path: Path, predictor: Predictor, height: int, width: int
) -> None:
    times = [0, 40, 80, 95, 300, 340, 380]
    path = save_clip(tmp_path / "a.mkv", [tiny.picture(i, height, width) for i in range(7)], times=times, codec="ffv1")
    out = tmp_path / "out"
    predict_clip(predictor, path, out)
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
        drawn = colorize(labels, palette), overlay(frame.image, labels, palette)
        for film, picture in zip(films, drawn, strict=True):
            assert film[i].image.shape == (height + height % 2, width + width % 2, 3)
            assert np.abs(film[i].image[:height, :width].astype(int) - picture).mean() < 25


def test_a_broken_video_leaves_nothing_and_no_thread(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mkv", [tiny.picture(i) for i in range(60)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = threading.active_count()
    with pytest.raises(UserError, match=r"frame \d+"):
        predict_clip(predictor, path, tmp_path / "out")
    assert files(tmp_path / "out") == set()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [UserError("too large"), KeyboardInterrupt()])
def test_a_frame_that_fails(tmp_path: Path, predictor: Predictor, error: BaseException) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(8)])
    calls: list[None] = []

    def failing(frame: Frame) -> np.ndarray:
        calls.append(None)
        if len(calls) == 4:
            raise error
        return predictor.predict(frame.image)

    palette = predictor.config.palette
    said = r"^frame 3: too large$" if isinstance(error, UserError) else None
    with pytest.raises(type(error), match=said):
        predict_video(failing, path, tmp_path / "out", NAME, RESULTS, palette)
    assert files(tmp_path / "out") == set()
    predict_clip(predictor, path, tmp_path / "out")
    assert len(list((tmp_path / "out/labels/deep/film").glob("*.png"))) == 8


def test_what_a_killed_process_left_is_replaced(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(3)])
    with atomic_folder(tmp_path / "out/labels/deep/film") as filling:
        pass
    for left in (
        f"labels/deep/{filling.name}/000007.png",
        "labels/deep/film/frames.json",
        "labels/deep/film/000009.png",
    ):
        (tmp_path / "out" / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / left).write_text("")
    predict_clip(predictor, path, tmp_path / "out", ("labels",))
    maps = {f"labels/deep/film/{i:06d}.png" for i in range(3)}
    assert files(tmp_path / "out") == {*maps, "labels/deep/film/frames.json"}


def test_label_maps_of_images_are_not_replaced(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(3)])
    (tmp_path / "out/labels/deep/film").mkdir(parents=True)
    (tmp_path / "out/labels/deep/film/image.png").write_text("")
    with pytest.raises(UserError, match=r"would replace .*labels/deep/film, which holds others"):
        predict_clip(predictor, path, tmp_path / "out")
    assert files(tmp_path / "out") == {"labels/deep/film/image.png"}


def test_a_disk_that_is_full(tmp_path: Path, predictor: Predictor) -> None:
    path = save_clip(tmp_path / "a.mp4", [tiny.picture(i) for i in range(60)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        for results in (RESULTS, ("labels",), ("overlay",)):
            with pytest.raises(CannotWrite, match="File too large"):
                predict_clip(predictor, path, tmp_path / "out", results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path / "out") == set()
