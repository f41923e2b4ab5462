"""Prediction of many files: label maps, colour maps and overlays, each written whole or not at all.

Images are read and results written in threads beside the network. What is there already is left alone, so a run that
was stopped or killed is continued by starting it again.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gffnet.console import screen, track
from gffnet.data import images
from gffnet.data.colour import colourise, overlay
from gffnet.data.images import image_files, read_image, write_image, write_labels
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.inference import video
from gffnet.inference.announcement import Announcement
from gffnet.inference.outcome import Outcome, bar
from gffnet.inference.overlap import ahead, behind
from gffnet.inference.predict_video import predict_video, video_result
from gffnet.inference.prediction_record import is_done, open_folder
from gffnet.inference.predictor import Predictor

RESULTS = ("labels", "colour", "overlay")
"""What can be written, and the folders it goes to."""

_READERS = 2
_WRITERS = min(4, os.cpu_count() or 1)
_EFFORT = 3


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    shard: tuple[int, int] = (1, 1),
    results: Sequence[str] = RESULTS,
    overwrite: bool = False,
) -> Outcome:
    """Predict images, videos and folders of them into `out/labels`, `out/colour` and `out/overlay`.

    Args:
        predictor: the model.
        inputs: image and video files, and folders, which are searched to any depth.
        out: where the results go; files of a folder keep their place in it. `predict.json` records the model.
        shard: (i, n) takes every n-th file from the i-th on, counted from 1, for n processes side by side.
        results: which of `RESULTS` to write.
        overwrite: predict everything anew; otherwise a file whose results are all there is left out.

    Returns:
        How many were written, were there already, and failed; failures are listed in `out/failed.txt`, too.

    Raises:
        UserError: an input does not exist, or `out` holds predictions of another model.
        CannotWrite: a result cannot be written.
    """
    names = result_names(inputs, (*images.EXTENSIONS, *video.EXTENSIONS))
    mine = dict(list(names.items())[shard[0] - 1 :: shard[1]])
    videos = {path: name for path, name in mine.items() if video.is_video(path)}
    if videos:
        video.pyav()
    since = open_folder(out, predictor, RESULTS, overwrite)
    wanted = tuple(result for result in RESULTS if result in results)
    outcome = Outcome(out, wanted, shard, alone=len(names) == 1)
    outcome.noun = "file" if videos else "image"
    job = _Job(predictor, wanted, math.inf if overwrite else since, outcome)
    job.predict_images({path: name for path, name in mine.items() if path not in videos})
    for path, name in videos.items():
        job.predict_video(path, name)
    outcome.write_failed()
    return outcome


def readable(paths: Sequence[Path], what: str, out: Path) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Every image of `paths` that can be read, with a progress bar that says `what`; the others are named and left out.

    Raises, after the last image:
        UserError: not one could be read.
        RunFailed: some could not; the results of all the others are in `out`.
    """
    unreadable = []
    for path in track(paths, what):
        try:
            image = read_image(path)
        except UserError as error:
            unreadable.append(str(error))
            if len(paths) > 1:
                screen.print(f"left out: {error}", style="yellow")
            continue
        yield path, image
    if unreadable and len(unreadable) == len(paths):
        raise UserError(
            unreadable[0] if len(paths) == 1 else f"not one of {len(paths)} images could be read: {unreadable[0]}"
        )
    if unreadable:
        raise RunFailed(
            f"{len(unreadable)} of {len(paths)} images could not be read and were left out; the others are in {out}."
        )


def result_names(inputs: Sequence[Path], extensions: Sequence[str] = images.EXTENSIONS) -> dict[Path, Path]:
    """Every file under `inputs`, with the path of its results, relative and without suffix.

    A file named by itself is called by its name, a file in a folder by its place in that folder; `extensions` says
    which files of a folder are meant. Where two would be called the same (`a.jpg` and `a.png`), both keep their suffix;
    so does a video beside a folder of its name, as its label maps are a folder.

    Raises:
        UserError: an input does not exist or holds no image, or two files would be called the same all the same.
    """
    places: dict[Path, Path] = {}
    seen = set()
    for path in inputs:
        for file in image_files([path], extensions):
            if (one := os.path.normpath(file.absolute())) not in seen:  # however it is spelled
                seen.add(one)
                places[file] = file.relative_to(path) if path.is_dir() else Path(file.name)
    short = Counter(place.with_suffix("") for place in places.values())
    folders = {above for parent in {place.parent for place in places.values()} for above in (parent, *parent.parents)}
    names: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for file, place in places.items():
        bare = place.with_suffix("")
        name = place if short[bare] > 1 or (video.is_video(file) and bare in folders) else bare
        if name in taken:
            raise UserError(
                f"inputs {taken[name]} and {file} would both be written as {name}. Predict them into different folders."
            )
        names[file], taken[name] = name, file
    return names


class _Read(NamedTuple):
    """An image as it was found: pixels, or the reason why there are none, or neither, if its results are there."""

    path: Path
    name: Path
    image: NDArray[np.uint8] | None = None
    reason: str = ""


class _Job:
    """What predicting one file after the other shares."""

    def __init__(self, predictor: Predictor, results: tuple[str, ...], since: float, outcome: Outcome) -> None:
        """`since`: results that are older do not count."""
        self._predictor = predictor
        self._palette = predictor.config.palette
        self._results = results
        self._since = since
        self._outcome = outcome
        self._announcement = Announcement(predictor, "--scales 1 has them seen as they are, --crop in windows")

    def predict_images(self, names: Mapping[Path, Path]) -> None:
        """Predict every image whose results are not there."""
        outcome = self._outcome
        with (
            bar("predicting", len(names)) as progress,
            behind(_WRITERS) as later,
            closing(ahead(self._read, names.items(), _READERS)) as found,
        ):
            for path, name, image, reason in found:
                if reason:
                    outcome.fail(path, reason)
                elif image is None:
                    outcome.skipped += 1
                else:
                    try:
                        labels = self._predict(image)
                    except UserError as error:
                        outcome.fail(path, str(error))
                    else:
                        later(self._write, image, labels, name)
                        outcome.written += 1
                progress.advance(progress.task_ids[0])

    def predict_video(self, path: Path, name: Path) -> None:
        """Predict a video, unless its results are there."""
        out, results = self._outcome.out, self._results
        if all(is_done(video_result(out, name, result), self._since) for result in results):
            self._outcome.skipped += 1
            return
        with bar(path.name, None) as progress:
            advance = lambda: progress.advance(progress.task_ids[0])  # noqa: E731
            try:
                predict_video(self._predict, path, out, name, results, self._palette, advance)
            except CannotWrite:
                raise
            except UserError as error:
                self._outcome.fail(path, str(error).removeprefix(f"cannot read video {path}: "))
            else:
                self._outcome.written += 1

    def _read(self, of: tuple[Path, Path]) -> _Read:
        """Read an image, unless its results are there."""
        path, name = of
        if all(is_done(self._place(result, name), self._since) for result in self._results):
            return _Read(path, name)
        try:
            return _Read(path, name, read_image(path))
        except UserError as error:
            return _Read(path, name, reason=str(error).removeprefix(f"cannot read image {path}: "))
        except Exception as error:  # such as one of 10 gigapixels: whatever it is, it must not stop the others
            return _Read(path, name, reason=f"it cannot be decoded ({type(error).__name__}: {error})")

    def _predict(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label map of an image.

        Raises:
            UserError: the network cannot take it.
        """
        self._announcement.before(image.shape[:2])
        try:
            return self._predictor.predict(image)
        except torch.AcceleratorError as error:  # no image will do any more
            raise RunFailed(f"the device failed: {str(error).splitlines()[0]}. Run the same command again.") from None
        except (RuntimeError, MemoryError) as error:
            reason = (str(error) or "no memory").splitlines()[0]
        if self._predictor.device.type == "cuda":
            torch.cuda.empty_cache()  # what the image took must not be missing for the next
        size = f"{image.shape[0]}x{image.shape[1]}"
        raise UserError(f"the network cannot take its {size} pixels ({reason}).")

    def _write(self, image: NDArray[np.uint8], labels: NDArray[np.uint8], name: Path) -> None:
        """Write the results of an image."""
        for result in self._results:
            place = self._place(result, name)
            if result == "labels":
                write_labels(place, labels)
            elif result == "colour":
                write_image(place, colourise(labels, self._palette), _EFFORT)
            else:
                write_image(place, overlay(image, labels, self._palette), _EFFORT)

    def _place(self, result: str, name: Path) -> Path:
        return self._outcome.out / result / name.with_name(name.name + ".png")
