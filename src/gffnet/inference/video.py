"""Videos, read and written frame by frame with PyAV, so that a film of any length takes the memory of a few frames."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.data.colors import Palette, colourise, overlay
from gffnet.data.io import write_labels
from gffnet.errors import UserError
from gffnet.files import atomic_file, atomic_folder, atomic_write
from gffnet.parallel import behind, in_advance

EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""What makes a file a video."""

_FINEST = 65535
"""MPEG-4 counts at most so many parts of a second; H.264 as many as there are."""


class Frame(NamedTuple):
    """A frame of a video."""

    number: int
    """Counted from 0."""
    image: NDArray[np.uint8]
    """RGB, upright, `(H, W, 3)`."""
    time: Fraction
    """When it is shown, in seconds."""
    tick: Fraction
    """Times are multiples of this."""
    rate: Fraction
    """Frames a second, on average."""


def is_video(path: Path) -> bool:
    """Whether its name says so."""
    return path.suffix.lower() in EXTENSIONS


def pyav() -> ModuleType:
    """The package that reads and writes videos.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            "videos are read and written by PyAV, which is not installed: pip install 'gffnet[video]'."
        ) from None
    module: ModuleType = av
    return module


def frames(path: Path) -> Iterator[Frame]:
    """The frames of a video, one after the other.

    Raises:
        UserError: it is no video, is damaged, or is cut short; the first frame that is missing is named.
    """
    av, index = pyav(), 0
    try:
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise _broken(path, "it holds no moving pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            time = first = -1 / rate
            for decoded in _decoded(container, stream, path):
                time = decoded.pts * decoded.time_base if decoded.pts is not None else time + 1 / rate
                first = first if index else time
                yield Frame(index, _upright(decoded), time, decoded.time_base or 1 / rate, rate)
                index += 1
            if _ends_early(container, stream, time - first + 1 / rate):
                raise _broken(path, f"it is cut short: frame {index} and those after it are missing")
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _broken(path, f"frame {index} cannot be read ({reason})" if index else reason) from None
    if not index:
        raise _broken(path, "it holds no frame")


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Decoded frames, until a packet is not whole."""
    index = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _broken(path, f"it is damaged or cut short at frame {index}")
        for frame in packet.decode():
            yield frame
            index += 1


def _ends_early(container: Any, stream: Any, seconds: Fraction) -> bool:
    """Whether a video lasts clearly shorter than its header says."""
    if stream.duration and stream.time_base:
        promised = Fraction(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # with a sound track, it may be that which is longer
        promised = Fraction(container.duration, 1_000_000)
    else:
        return False
    return promised - seconds > Fraction(1, 2)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """The pixels of a frame, turned as the file tells players to."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _broken(path: Path, cause: str) -> UserError:
    return UserError(f"cannot read video {path}: {cause}. To go on, copy or download it again.")


class Clip:
    """An mp4 that is being written: H.264 where PyAV has it, else MPEG-4; frames keep their times."""

    def __init__(self, file: BinaryIO) -> None:
        """`file`: where it goes, which must stay open until `finish`."""
        self._av = pyav()
        self._container = self._av.open(file, "w", format="mp4")
        self._stream: Any = None
        self._last = -1 << 62

    def add(self, image: NDArray[np.uint8], frame: Frame) -> None:
        """Append `image`, shown when `frame` is. Odd sides grow by a pixel, as H.264 has none.

        Raises:
            UserError: it is not of the size of the first, or the encoder cannot take it.
        """
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        try:
            stream = self._stream = self._stream or self._started(image.shape[1], image.shape[0], frame)
            if image.shape[:2] != (stream.height, stream.width):
                raise UserError(f"frame {frame.number} is {image.shape[:2]}, but those before it are of another size.")
            picture = self._av.VideoFrame.from_ndarray(image, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
            tick = stream.codec_context.time_base
            self._last = picture.pts = max(round(frame.time / tick), self._last + 1)
            picture.time_base = tick
            self._container.mux(stream.encode(picture))
        except OSError:  # of the file; some errors of PyAV are this, too
            raise
        except self._av.FFmpegError as error:
            raise UserError(f"frame {frame.number} cannot be encoded: {error.strerror or error}.") from None

    def finish(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        if self._stream:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Free what it holds; the file is of no use."""
        with suppress(self._av.FFmpegError, OSError):
            self._container.close()

    def _started(self, width: int, height: int, frame: Frame) -> Any:
        """The stream of pictures, told their size and times."""
        h264 = "libx264" in self._av.codecs_available
        options = {"crf": "18", "preset": "veryfast"} if h264 else {"qscale": "3"}
        stream = self._container.add_stream("libx264" if h264 else "mpeg4", rate=frame.rate, options=options)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context.time_base = frame.tick if h264 or frame.tick.denominator <= _FINEST else Fraction(1, 60000)
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709, studio range: players assume it
        context.color_range = 1
        return stream


@contextmanager
def clip(path: Path) -> Iterator[Clip]:
    """A new mp4, which appears at `path` whole or not at all.

    Raises:
        CannotWrite: it cannot be written.
    """
    with atomic_file(path) as file:
        writing = Clip(file)
        try:
            yield writing
            writing.finish()
        finally:
            writing.abandon()


# Prediction of a video: overlay and colours as mp4, label ids as a PNG a frame; each appears whole or not at all.


TIMES = "frames.json"
"""In a folder of label maps: the times of the frames. It marks the folder as a whole video's."""

Write = Callable[[Frame, NDArray[np.uint8]], None]
Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def video_result(out: Path, name: Path, result: str) -> Path:
    """The file whose being there says that a result of a video is done."""
    if result == "labels":
        return out / result / name / TIMES
    return out / result / name.with_name(name.name + ".mp4")


def predict_video(
    predict: Predict,
    path: Path,
    out: Path,
    name: Path,
    results: tuple[str, ...],
    palette: Palette,
    advance: Callable[[], None],
) -> None:
    """Write the `results` of a video. Frames are read, predicted and written at the same time, a few of them at once.

    Args:
        predict: the network.
        path: the video.
        out: where results go.
        name: of the results, relative and without suffix.
        results: any of `labels`, `colour`, `overlay`.
        palette: colours of the classes.
        advance: called after every frame.

    Raises:
        UserError: it cannot be read whole, or the network cannot take it; nothing of it is written.
        CannotWrite: a result cannot be written.
    """
    with ExitStack() as stack:
        writers = {result: stack.enter_context(_writer(result, out, name, palette)) for result in results}
        later = {result: stack.enter_context(behind(threads=1)) for result in results}
        source = stack.enter_context(closing(in_advance(frames(path))))
        for frame in source:
            labels = _labels(predict, frame)
            for result, write in writers.items():
                later[result](write, frame, labels)
            advance()


def _labels(predict: Predict, frame: Frame) -> NDArray[np.uint8]:
    try:
        return predict(frame.image)
    except UserError as error:
        raise UserError(f"frame {frame.number}: {error}") from None


@contextmanager
def _writer(result: str, out: Path, name: Path, palette: Palette) -> Iterator[Write]:
    """What writes one result of a video, frame by frame; the result appears at the end."""
    place = video_result(out, name, result)
    if result == "labels":
        with _label_maps(place.parent) as write:
            yield write
        return
    with clip(place) as film:
        if result == "colour":
            yield lambda frame, labels: film.add(colourise(labels, palette), frame)
        else:
            yield lambda frame, labels: film.add(overlay(frame.image, labels, palette), frame)


@contextmanager
def _label_maps(folder: Path) -> Iterator[Write]:
    """Label maps 000000.png ..., and the times of their frames."""
    if folder.is_dir() and not (folder / TIMES).exists():
        raise UserError(f"its label maps would replace {folder}, which holds others: predict it into another --out.")
    times: list[float] = []
    with atomic_folder(folder) as filling:

        def write(frame: Frame, labels: NDArray[np.uint8]) -> None:
            write_labels(filling / f"{frame.number:06d}.png", labels)
            times.append(float(frame.time))

        yield write
        atomic_write(filling / TIMES, json.dumps({"seconds": times}, indent=1).encode())
