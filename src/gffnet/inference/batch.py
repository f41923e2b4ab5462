"""Prediction of many files: label maps, colour maps and overlays, each written whole or not at all.

Images are read and results written in threads beside the network. What is there already is left alone, so a run that
was stopped or killed is continued by starting it again.
"""

import dataclasses
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from gffnet.console import screen, track
from gffnet.data import io as images
from gffnet.data.colors import colourise, overlay
from gffnet.data.io import as_array, image_files, read_image, write_image, write_labels
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.files import atomic_write
from gffnet.inference import video
from gffnet.inference.predictor import Predictor, fitted_to
from gffnet.inference.video import predict_video, video_result
from gffnet.parallel import ahead, behind

# What came of predicting many files: counts, and the list of those that failed.


SHOWN = 50
"""So many failures are listed on the screen; the file has them all."""


class Outcome:
    """The count of written files and of those that were there already, and every failure with its reason."""

    def __init__(self, out: Path, results: tuple[str, ...], shard: tuple[int, int] = (1, 1), alone: bool = False):
        """`results`: names of the folders that are written; `alone`: it is about one file, which speaks for itself."""
        self.out = out
        self.noun = "image"
        self.results = results
        self.written = 0
        self.skipped = 0
        self.failed: list[tuple[Path, str]] = []
        self._alone = alone
        self._list = out / ("failed.txt" if shard == (1, 1) else f"failed-{shard[0]}-of-{shard[1]}.txt")

    def fail(self, file: Path, reason: str) -> None:
        """Note a failure, and say so."""
        reason = " ".join(reason.split())
        self.failed.append((file, reason))
        if not self._alone:
            screen.print(f"left out: {file}: {reason}", style="yellow")

    def write_failed(self) -> None:
        """Write the list of failures, or remove that of an earlier run where nothing failed.

        Raises:
            CannotWrite: it cannot be written.
        """
        if self.failed:
            lines = "".join(f"{file}: {reason}\n" for file, reason in self.failed).encode("utf-8", "surrogateescape")
            if not self._list.exists() or self._list.read_bytes() != lines:
                atomic_write(self._list, lines)
        else:
            self._list.unlink(missing_ok=True)

    def to_mapping(self) -> dict[str, Any]:
        """The summary, for JSON."""
        failed = [{"file": str(file), "reason": reason} for file, reason in self.failed]
        return {"written": self.written, "skipped": self.skipped, "failed": failed, "out": str(self.out)}

    def tell(self) -> None:
        """Say how many files were written, and what failed.

        Raises:
            UserError: it was about a single file, which failed.
            RunFailed: some files failed.
        """
        if self._alone and self.failed:
            raise UserError(": ".join(map(str, self.failed[0])))
        for file, reason in self.failed[:SHOWN]:
            screen.print(f"failed: {file}: {reason}")
        if len(self.failed) > SHOWN:
            screen.print(f"and {len(self.failed) - SHOWN} more")
        files = f"{self.written} {self.noun}{'' if self.written == 1 else 's'}"
        were = "was" if self.skipped == 1 else "were"
        screen.print(f"{files} written, {self.skipped} {were} there already: {self.out}/{', '.join(self.results)}")
        if self.failed:
            total = self.written + self.skipped + len(self.failed)
            raise RunFailed(
                f"{len(self.failed)} of {total} files failed and were left out; they are listed in {self._list}. "
                f"The others are in {self.out}."
            )


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on a terminal, with items per second; its task is 0."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()]
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        progress.add_task(what, total=total)
        yield progress


class _Speed(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """`12.3/s`, once it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


# What a run that predicts says of how it does so: once, and not before there is something to predict.


log = logging.getLogger("gffnet")


class Announcement:
    """Says number format and device before the first image, and the scale before the first that is seen smaller.

    A command that is refused says one line, why: so nothing is said before the first image.
    """

    def __init__(self, predictor: Predictor, remedy: str = "") -> None:
        """`remedy`: what the command offers to whoever would not have images seen smaller."""
        self._predictor = predictor
        self._remedy = f": {remedy}" if remedy else ""
        self._begun = False
        self._smaller = False

    def before(self, size: tuple[int, int], scale: float | None = None) -> None:
        """Say what is to be said before an image of a height and width; `scale`: that was asked for, if any was."""
        if not self._begun:
            log.info(self._predictor.precision.told(self._predictor.device))
            self._begun = True
        own, learned_from = self._predictor.scale(size), self._predictor.config.learned_from
        if scale is None and own < 1 and not self._smaller:
            assert learned_from is not None  # or nothing is seen smaller
            height, width = learned_from
            log.info(
                "large images are seen smaller (%dx%d at %g), for the model learned from %dx%d%s",
                *size[::-1],
                own,
                width,
                height,
                self._remedy,
            )
            self._smaller = True


# `predict.json`: what made the predictions in a folder, so that those of different models are never mixed.


RECORD = "predict.json"
_SINCE = "since"
"""In the record of a folder whose predictions were replaced: its time when that began, in seconds."""


def open_folder(out: Path, predictor: Predictor, results: tuple[str, ...], overwrite: bool) -> float:
    """Make `out` a folder for the predictions of `predictor`. Several processes may do so at once.

    Args:
        out: new, or with predictions.
        predictor: the model.
        results: names of the folders of predictions in it.
        overwrite: take the folder over from another model.

    Returns:
        From which time on files in it are of this model, in seconds: 0 unless another's were replaced.

    Raises:
        UserError: it holds predictions of another model, protocol, precision or classes, or of none knows which.
        CannotWrite: it cannot be written to.
    """
    used = [name for name in results if (out / name).exists()]  # before the record is read: others write it first
    there, now = _read(out), describe_prediction(predictor)
    if there is None and used and not overwrite:
        raise UserError(
            f"folder {out} holds {used[0]}/, but no {RECORD} that says of which model. Choose another --out, or "
            "predict everything anew with --overwrite."
        )
    if there is None or (overwrite and differences(there, now)):
        since = _clock(out) if used else 0.0
        atomic_write(out / RECORD, json.dumps({**now, _SINCE: since}, indent=1).encode())
        there = _read(out) or now  # another process may have written it, too
    if differing := differences(there, now):
        raise UserError(
            f"folder {out} holds predictions that were made otherwise: {'; '.join(differing)}. Choose another --out, "
            "or predict everything anew with --overwrite."
        )
    return float(there.get(_SINCE, 0.0))


def is_done(file: Path, since: float) -> bool:
    """Whether a result is there and not older than `since`; it is whole, if it is there."""
    try:
        return file.stat().st_mtime >= since
    except OSError:
        return False


def describe_prediction(predictor: Predictor) -> dict[str, Any]:
    """All that predictions depend on besides the images, as JSON holds it."""
    config = predictor.config
    usual = fitted_to(config.evaluation, config.learned_from)
    described = {
        "recipe": config.recipe,
        "weights": predictor.weights,
        "protocol": dataclasses.asdict(config.evaluation),
        "large_images": None if usual is None else f"seen as if of {usual[1]}x{usual[0]}",
        "precision": predictor.precision.name,
        "classes": config.classes,
        "palette": config.palette,
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two descriptions, in words."""
    found = []
    for key, wanted in now.items():
        held = there.get(key)
        if held == wanted:
            continue
        if key == "weights":
            held, wanted = str(held)[:12], wanted[:12]
        brief = key not in {"classes", "palette"}
        found.append(f"{key} {_say(held)} there, {_say(wanted)} now" if brief else f"other {key}")
    return found


def _say(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_say(part)}" for key, part in value.items()) + ")"
    if isinstance(value, list):
        return "x".join(map(str, value))
    return str(value)


def _read(out: Path) -> dict[str, Any] | None:
    """The record of a folder; None where there is none."""
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        record = str(error)
    if not isinstance(record, dict):
        raise UserError(f"{path} is no record of predictions. Choose another --out, or remove it.")
    return record


def _clock(out: Path) -> float:
    """The time as the files of `out` have it: on a network drive, its server's."""
    try:
        os.utime(out)
        return out.stat().st_mtime
    except OSError as error:
        raise CannotWrite(f"cannot write {out}: {error.strerror or error}. Choose a folder of your own.") from None


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
            image = as_array(read_image(path))
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
            return _Read(path, name, as_array(read_image(path)))
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
