"""Videos, read, predicted and written frame by frame with PyAV: a video of any length takes the memory of a few frames.

Overlays and color maps are written as mp4, label maps as one PNG per frame; each appears complete or not at all.
A video is predicted from its first frame on by one process: neither shards nor resuming change an average along time.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.console import track
from gffnet.data.colors import Palette, colorize, overlay
from gffnet.data.io import write_labels
from gffnet.errors import UserError
from gffnet.files import atomic_file, atomic_folder, write_json
from gffnet.parallel import background_writer, prefetch

EXTENSIONS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"),
)
"""Suffixes of video files."""
_TRANSPORT_STREAM = {".ts", ".mts"}
"""Suffixes of transport streams that programs in TypeScript have, too."""
_SYNC, _PACKET = b"G", 188
"""The first byte of a packet of a transport stream, and its length; in .mts, four bytes of time precede it."""
TIMES = "frames.json"
"""File in a folder of label maps with the times of the frames. It marks the folder as that of a complete video."""

_FINEST_MPEG4 = 65535
"""Most ticks per second in MPEG-4; H.264 has no such limit."""


class Frame(NamedTuple):
    """A frame of a video."""

    number: int
    """Counted from 0."""
    image: NDArray[np.uint8]
    """RGB, upright, `(H, W, 3)`."""
    time: Fraction
    """Presentation time in seconds."""
    tick: Fraction
    """The unit of times, in seconds."""
    rate: Fraction
    """Average number of frames per second."""


Predict = Callable[[Frame], NDArray[np.uint8]]
"""A frame to its labels (H, W); called in the order of the frames."""


def is_video(path: Path) -> bool:
    """Return whether a file is a video, by its suffix, and by its first bytes where text may have that suffix."""
    suffix = path.suffix.lower()
    if suffix not in _TRANSPORT_STREAM or not path.is_file():
        return suffix in EXTENSIONS
    try:
        with path.open("rb") as file:
            start = file.read(2 * _PACKET)
    except OSError:  # its prediction fails, by its name
        return True
    return start[:1] + start[_PACKET : _PACKET + 1] == 2 * _SYNC or start[4:5] + start[_PACKET + 8 :][:1] == 2 * _SYNC


def pyav() -> ModuleType:
    """Import PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV, which is not installed: pip install 'gffnet[video]'.") from None
    module: ModuleType = av
    return module


# Prediction


def video_result(out: Path, name: Path, result: str) -> Path:
    """Return the file that exists when a result of a video is complete."""
    if result == "labels":
        return out / result / name / TIMES
    return out / result / name.with_name(name.name + ".mp4")


def predict_video(
    predict: Predict, path: Path, out: Path, name: Path, results: tuple[str, ...], palette: Palette
) -> None:
    """Write the `results` of a video. Frames are read, predicted and written at the same time, a few of them at once.

    Args:
        predict: the network: a frame → labels (H, W).
        path: the video.
        out: the output folder.
        name: path of the results, relative and without suffix.
        results: any of `labels`, `colour`, `overlay`.
        palette: colors of the classes.

    Raises:
        UserError: the video cannot be read completely, or the network cannot take it; nothing of it is written.
        CannotWrite: a result cannot be written.
    """
    with ExitStack() as stack:
        writers = {result: stack.enter_context(_writer(result, out, name, palette)) for result in results}
        later = {result: stack.enter_context(background_writer(threads=1)) for result in results}
        read = frames(path)
        ahead = stack.enter_context(closing(prefetch(lambda _: next(read, None), count(), threads=1)))
        for frame in track(iter(ahead.__next__, None), path.name):
            try:
                labels = predict(frame)
            except UserError as error:
                raise UserError(f"frame {frame.number}: {error}") from None
            for result, write in writers.items():
                later[result](write, frame, labels)


Write = Callable[[Frame, NDArray[np.uint8]], None]


@contextmanager
def _writer(result: str, out: Path, name: Path, palette: Palette) -> Iterator[Write]:
    """Yield the function that writes one result frame by frame; the file or folder appears at the end."""
    place = video_result(out, name, result)
    if result == "labels":
        with _label_maps(place.parent) as write:
            yield write
        return
    with clip(place) as add:
        if result == "colour":
            yield lambda frame, labels: add(colorize(labels, palette), frame)
        else:
            yield lambda frame, labels: add(overlay(frame.image, labels, palette), frame)


@contextmanager
def _label_maps(folder: Path) -> Iterator[Write]:
    """Yield the function that writes label maps 000000.png ... and collects the times of their frames."""
    if folder.is_dir() and not (folder / TIMES).exists():
        raise UserError(f"its label maps would replace {folder}, which holds others: predict it into another --out.")
    times: list[float] = []
    with atomic_folder(folder) as filling:

        def write(frame: Frame, labels: NDArray[np.uint8]) -> None:
            write_labels(filling / f"{frame.number:06d}.png", labels)
            times.append(float(frame.time))

        yield write
        write_json(filling / TIMES, {"seconds": times})


# Reading


def frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video.

    Raises:
        UserError: it is no video, is damaged, or is cut short; the first missing frame is named.
    """
    av, index = pyav(), 0
    try:
        # FFmpeg does not recognise a transport stream of a few packets.
        container_format = "mpegts" if path.suffix.lower() in _TRANSPORT_STREAM else None
        with av.open(f"file:{path}", format=container_format) as container:
            if not container.streams.video:
                raise _broken(path, "it holds no moving pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            time = first = end = -1 / rate
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise _broken(path, f"it is damaged or cut short at frame {index}")
                for decoded in packet.decode():
                    time = decoded.pts * decoded.time_base if decoded.pts is not None else time + 1 / rate
                    first = first if index else time
                    shown = decoded.duration * decoded.time_base if decoded.duration else 1 / rate
                    end = max(end, time + max(shown, 1 / rate))
                    yield Frame(index, _upright(decoded), time, decoded.time_base or 1 / rate, rate)
                    index += 1
            if _ends_early(container, stream, end - first):
                raise _broken(path, f"it is cut short: frame {index} and those after it are missing")
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _broken(path, f"frame {index} cannot be read ({reason})" if index else reason) from None
    if not index:
        raise _broken(path, "it holds no frame")


def _ends_early(container: Any, stream: Any, seconds: Fraction) -> bool:
    """Return whether a video is clearly shorter than its header says."""
    if stream.duration and stream.time_base:
        promised = Fraction(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # otherwise a longer sound track may be meant
        promised = Fraction(container.duration, 1_000_000)
    else:
        return False
    return promised - seconds > Fraction(1, 2)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """Return the pixels of a frame, rotated as the file demands."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _broken(path: Path, cause: str) -> UserError:
    return UserError(f"cannot read video {path}: {cause}. Copy or download it again.")


# Writing


Film = Callable[[NDArray[np.uint8], Frame], None]


@contextmanager
def clip(path: Path) -> Iterator[Film]:
    """Write an mp4 atomically: H.264 where PyAV has it, else MPEG-4.

    Yields a function that appends an image at the time of a frame. Odd sides are padded by a pixel, because H.264 has
    none. It raises `UserError` if an image differs in size from the first, or the encoder cannot take it.

    Raises:
        CannotWrite: the file cannot be written.
    """
    av, stream, last = pyav(), None, -1 << 62
    with atomic_file(path) as file:
        container = av.open(file, "w", format="mp4")

        def add(image: NDArray[np.uint8], frame: Frame) -> None:
            nonlocal stream, last
            image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
            height, width = image.shape[:2]
            try:
                stream = stream or _add_stream(av, container, width, height, frame)
                if (height, width) != (stream.height, stream.width):
                    raise UserError(
                        f"frame {frame.number} is {height, width}, but those before it are of another size."
                    )
                picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
                picture.time_base = tick = stream.codec_context.time_base
                last = picture.pts = max(round(frame.time / tick), last + 1)
                container.mux(stream.encode(picture))
            except OSError:  # of the file; some of PyAV's errors are OSErrors, too
                raise
            except av.FFmpegError as error:
                raise UserError(f"frame {frame.number} cannot be encoded: {error.strerror or error}.") from None

        try:
            yield add
            if stream:
                container.mux(stream.encode(None))  # what the encoder still holds
            container.close()
        finally:
            with suppress(av.FFmpegError, OSError):
                container.close()


def _add_stream(av: ModuleType, container: Any, width: int, height: int, frame: Frame) -> Any:
    h264 = "libx264" in av.codecs_available
    options = {"crf": "18", "preset": "veryfast"} if h264 else {"qscale": "3"}
    stream = container.add_stream("libx264" if h264 else "mpeg4", rate=frame.rate, options=options)
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context.time_base = frame.tick if h264 or frame.tick.denominator <= _FINEST_MPEG4 else Fraction(1, 60000)
    context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709, limited range: players assume it
    context.color_range = 1
    return stream
