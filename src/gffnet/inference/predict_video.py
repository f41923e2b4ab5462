"""Prediction of a video: overlay and colours as mp4, label ids as a PNG a frame; each appears whole or not at all."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gffnet.data.colour import Palette, colourise, overlay
from gffnet.data.images import write_labels
from gffnet.errors import UserError
from gffnet.files import whole_folder, write_whole
from gffnet.inference.overlap import behind, in_advance
from gffnet.inference.video import Frame, clip, frames

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
    with whole_folder(folder) as filling:

        def write(frame: Frame, labels: NDArray[np.uint8]) -> None:
            write_labels(filling / f"{frame.number:06d}.png", labels)
            times.append(float(frame.time))

        yield write
        write_whole(filling / TIMES, json.dumps({"seconds": times}, indent=1).encode())
