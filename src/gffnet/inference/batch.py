"""Prediction of many files: label maps, color maps and overlays of images, folders and videos.

Images are read and results are written in threads beside the network, as far as there are cores for them. Every result
is written atomically, and results that exist are skipped, so an interrupted run is resumed by running it again.
Unreadable files are skipped and listed, and so are those whose results have names that the file system does not take.
`predict.json` records what made the predictions in a folder, so that those of different models are never mixed.
`legend.svg` shows the colors of the classes, `areas.csv` holds the share of the pixels that each class has.
"""

import csv
import dataclasses
import io
import json
import logging
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Num
from numpy.typing import NDArray
from torch import Tensor

from gffnet import remote
from gffnet.console import screen, track
from gffnet.data.colors import Palette, display_levels, displayable, label_colors, legend_picture, overlay
from gffnet.data.io import EXTENSIONS, as_array, image_files, read_labels, write_image, write_labels
from gffnet.data.large import LabelFile, bands, write_png
from gffnet.errors import BadName, CannotWrite, RunFailed, UserError, WrongSize, first_line, unknown
from gffnet.files import atomic_write, cannot_write, say_once, utf8, write_json
from gffnet.inference import video
from gffnet.inference.predictor import Predictor
from gffnet.inference.sliding_window import most_probable
from gffnet.inference.smoothing import Smoothing, check_seconds
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import size_of
from gffnet.parallel import background_writer, batches, io_threads, prefetch
from gffnet.remote import as_url, is_remote, is_url

RESULTS = ("labels", "colour", "overlay")
"""What can be written, and the folders that it is written into."""

_PNG_EFFORT = 3

Found = TypeVar("Found")

log = logging.getLogger("gffnet")


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    shard: tuple[int, int] = (1, 1),
    results: Sequence[str] = RESULTS,
    overwrite: bool = False,
    smooth: float | None = None,
) -> "Summary":
    """Predict images, videos and folders of them into `out/labels`, `out/colour` and `out/overlay`.

    Beside them, `legend.svg` and `areas.csv` are written.

    Args:
        predictor: the model.
        inputs: image and video files, and folders, which are searched to any depth.
        out: the output folder; files of a folder keep their relative path in it.
        shard: (i, n) predicts every n-th file from the i-th on, counted from 1, for n processes in parallel.
        results: which of `RESULTS` to write.
        overwrite: predict everything again; otherwise files whose results all exist are skipped.
        smooth: average class probabilities along the time of a video, with this time constant in seconds (see
            `gffnet.inference.smoothing.Smoothing`); None: every frame by itself.

    Returns:
        The numbers of written, skipped and failed files; the failed ones are also listed in `out/failed.txt`.

    Raises:
        UserError: an input does not exist, `out` holds predictions of another model, there is no video to smooth, or
            `results` or `shard` has another value.
        CannotWrite: a result cannot be written, whatever its name.
    """
    if urls := [each for each in (*inputs, out) if is_url(each)]:
        raise UserError(f"{as_url(urls[0])} is a URL: use gffnet.inference.stream.predict_stream.")
    check_results(results, shard)
    names = result_names(inputs, (*EXTENSIONS, *video.EXTENSIONS), out)
    mine = dict(list(names.items())[shard[0] - 1 :: shard[1]])
    videos = {path: name for path, name in mine.items() if video.is_video(path)}
    if videos:
        video.pyav()
    check_smoothing(smooth, any(map(video.is_video, names)))
    config, made = predictor.config, describe_prediction(predictor)
    with open_results(out, config, made, names, shard, results, overwrite, smooth) as (summary, areas, since):
        summary.single, summary.noun = len(names) == 1, "file" if videos else "image"
        notices = Notices(predictor, "--scales 1 keeps their size, --crop predicts them in windows")
        job = Job(predictor, math.inf if overwrite else since, summary, notices, smooth, areas)
        job.predict_images({path: name for path, name in mine.items() if path not in videos})
        for path, name in videos.items():
            job.predict_video(path, name)
    return summary


def check_results(results: Sequence[str], shard: tuple[int, int]) -> None:
    """Raise `UserError` for results that are unknown or none, and for a shard that cannot be."""
    if not results:
        raise UserError(f"results is empty: name what to write, of {', '.join(RESULTS)}.")
    for each in results:
        if each not in RESULTS:
            raise unknown("results", each, RESULTS)
    if not 1 <= shard[0] <= shard[1]:
        raise UserError(f"shard {shard} must be (i, n): the i-th of n processes, counted from 1.")


def check_smoothing(smooth: float | None, any_video: bool) -> None:
    """Raise `UserError` for a time constant that is not valid, or with which there is no video to smooth."""
    if smooth is None:
        return
    check_seconds(smooth)  # a wrong value fails before the work begins
    if not any_video:
        raise UserError("--smooth averages over the frames of a video, and none of the inputs is one. Leave it out.")


@contextmanager
def open_results(
    out: Path,
    config: ModelConfig,
    made: Mapping[str, Any],
    names: Mapping[Path, Path],
    shard: tuple[int, int],
    results: Sequence[str],
    overwrite: bool,
    smooth: float | None,
) -> "Iterator[tuple[Summary, Areas, float]]":
    """Open `out` for predictions; afterwards write the areas, the legend and the list of failures.

    Args:
        config: of the model.
        made: what `describe_prediction` says of it.
        names: the files to predict, with the names of their results.
        out, shard, results, overwrite, smooth: as for `predict_files`.

    Yields:
        Where to count the files, and their areas, and the time that `open_folder` returns.

    Raises:
        As `open_folder`.
    """
    since = open_folder(out, made, overwrite, names, smooth)
    summary = Summary(out, tuple(each for each in RESULTS if each in results), shard, palette=config.palette)
    areas = Areas(_of_shard(out, AREAS, shard), config.classes, since)
    try:
        yield summary, areas, since
    finally:
        if shard == (1, 1) and not _holds_results(out):  # other shards may be about to write some
            with suppress(CannotWrite):  # what was raised before says more
                if summary.failed or is_done(summary.listing, 0.0):
                    write_json(out / RECORD, {})  # binds no later command, but says whose the list is
                else:
                    _remove(out / RECORD)
        if areas.rows:
            areas.write()
            _write_legend(out, config)
    summary.areas = areas.mean()
    summary.write_failed()


@dataclass
class Job:
    """The prediction of files by one process."""

    predictor: Predictor
    since: float
    """Results that are older do not count as done."""
    summary: "Summary"
    notices: "Notices"
    smooth: float | None
    areas: "Counting"
    shown: bool = True
    """Whether there is a progress bar."""
    _written: list[Path] = field(default_factory=list)
    """Images whose results are written; threads append to it."""

    def predict_images(self, names: Mapping[Path, Path]) -> None:
        summary = self.summary
        large: dict[Path, Path] = {}
        beside = len(names) if self.predictor.memory is None or self.predictor.device.type != "cpu" else 1
        if names and self.predictor.memory is not None and self.predictor.device.type != "cpu":
            with suppress(RuntimeError):  # each image says so
                self.predictor.window()  # measures what the network takes, which threads would count more than once
        with (
            io_threads(self.predictor.device.type, beside) as (readers, writers),
            background_writer(writers) as write_later,
            closing(prefetch(self._read, names.items(), readers)) as read,
        ):
            shown = track(read, "predicting", len(names)) if self.shown else read
            for some in batches(self._readable(shown, large), self._size, self._at_once):
                for (path, name, image), labels in self._predict_images(some):
                    write_later(self._write, image, labels, path, name)
        for path, name in large.items():
            try:
                self._predict_large(path, name)
            except UserError as error:
                if _stops_all(error):
                    raise
                summary.fail(path, _reason(path, error))
        summary.written = len(self._written)

    def _readable(self, read: "Iterable[_Read]", large: dict[Path, Path]) -> "Iterator[_Read]":
        """Yield the images that are to be predicted, count the others, and note those that do not fit into memory."""
        for path, name, image in read:
            if image is None:
                self.summary.skipped += 1
            elif image is _LARGE:
                large[path] = name
            elif isinstance(image, UserError):
                self.summary.fail(path, _reason(path, image))
            else:
                yield path, name, image

    def _size(self, read: "_Read") -> tuple[torch.Size, torch.dtype]:
        return read[2].shape, read[2].dtype

    def _at_once(self, read: "_Read") -> int:
        return self.predictor.images_at_once(size_of(read[2]))

    def _predict_images(self, some: "Sequence[_Read]") -> "Iterator[tuple[_Read, NDArray[np.uint8]]]":
        """Yield images of one size with their label maps; the others fail."""
        images = [image for _, _, image in some]
        try:
            found = self._predict(size_of(images[0]), partial(self.predictor.predict, images))
        except UserError as error:
            if len(some) > 1:  # one by one they may fit
                for each in some:
                    yield from self._predict_images([each])
            else:
                self.summary.fail(some[0][0], _reason(some[0][0], error))
        else:
            yield from zip(some, found, strict=True)

    def _predict_large(self, path: Path, name: Path) -> None:
        """Predict an image tile by tile into a file of labels, of which the results are made a few rows at a time."""
        image, window = self.predictor.open_large(path)
        size = image.shape[1], image.shape[2]
        self.notices.before(size)
        out, palette = self.summary.out, self.predictor.config.palette
        layout = window.layout(image)
        with LabelFile(out, size[1]) as labels, network_errors(self.predictor.device, size):
            for tile in track(window.tiles(image), path.name, len(layout.rows) * len(layout.columns)):
                # The indices of a whole tile would take 8 bytes a pixel.
                for part in bands(len(tile.rows), len(tile.columns)):
                    found = most_probable(tile.probabilities[:, part.start : part.stop]).cpu().numpy()
                    labels.write(tile.rows[part.start : part.stop], tile.columns, found)
            counts = np.sum([count(labels.read(rows)) for rows in image.bands()], axis=0)
            deep = "overlay" in self.summary.results and image.rows(range(1)).is_floating_point()
            levels = display_levels(as_array(image.thinned())) if deep else None
            for result in self.summary.results:
                parts: Iterator[NDArray[np.uint8]] = map(labels.read, image.bands())
                colors = label_colors(palette) if result == "colour" else None
                if result == "overlay":
                    pictures = (displayable(as_array(image.rows(rows)), levels) for rows in image.bands())
                    parts = (overlay(shown, some, palette) for shown, some in zip(pictures, parts, strict=True))
                write_png(place_of(self.summary.out, result, path, name), size, parts, _PNG_EFFORT, colors)
        self.areas.add(result_name(path, name), counts)
        self._written.append(path)

    def predict_video(self, path: Path, name: Path) -> None:
        summary = self.summary
        if self.is_done(path, name):
            summary.skipped += 1
            self._count_again(path, name)
            return
        palette, counts = self.predictor.config.palette, np.zeros(256, np.int64)
        smoothing = None if self.smooth is None else Smoothing(self.predictor, self.smooth)

        def predict(frame: video.Frame) -> NDArray[np.uint8]:
            image = self.predictor.frame(frame.image)
            alone: Callable[[], NDArray[np.uint8]] = partial(self.predictor.predict, image)
            smoothed = partial(smoothing.predict, frame.image, float(frame.time)) if smoothing else None
            labels = self._predict(size_of(image), smoothed or alone)
            np.add(counts, count(labels), out=counts)
            return labels

        try:
            video.predict_video(predict, path, summary.out, name, summary.results, palette)
        except UserError as error:
            if _stops_all(error):
                raise
            summary.fail(path, str(error).removeprefix(f"cannot read video {path}: "))
        else:
            summary.written += 1
            self.areas.add(result_name(path, name), counts)

    def is_done(self, path: Path, name: Path, since: float | None = None) -> bool:
        """Return whether all results of a file exist and are not older than `since` (None: than that of the job)."""
        places = (place_of(self.summary.out, result, path, name) for result in self.summary.results)
        return all(is_done(place, self.since if since is None else since) for place in places)

    def _count_again(self, path: Path, name: Path) -> None:
        """Note the areas of a result that exists; of one by a process that was killed, from its label maps."""
        if self.areas.note(result_name(path, name)):
            return
        place = place_of(self.summary.out, "labels", path, name)
        maps = sorted(place.parent.glob("*.png")) if video.is_video(path) else [place]
        with suppress(UserError, MemoryError):  # there are none, or they are larger than memory
            if is_done(place, self.since):
                self.areas.add(result_name(path, name), np.sum([count(read_labels(file)) for file in maps], axis=0))

    def _read(self, item: tuple[Path, Path]) -> "_Read":
        """Read an image. In its place: None if its results exist, the error if it cannot be read."""
        path, name = item
        if self.is_done(path, name):
            self._count_again(path, name)
            return path, name, None
        try:
            if self.predictor.is_large(path):
                return path, name, _LARGE
            return path, name, self.predictor.read(path)
        except UserError as error:
            return path, name, error
        except Exception as error:  # such as an image of 10 gigapixels: it must not stop the others
            return path, name, UserError(f"it cannot be decoded ({type(error).__name__}: {error})")

    def _predict(self, size: tuple[int, int], predict: Callable[[], Found]) -> Found:
        """Call `predict` for images of a height and width.

        Raises:
            As `network_errors`.
        """
        self.notices.before(size)
        with network_errors(self.predictor.device, size):
            return predict()

    def _write(self, image: Num[Tensor, "c h w"], labels: NDArray[np.uint8], path: Path, name: Path) -> None:
        palette = self.predictor.config.palette
        try:
            for result in self.summary.results:
                place = place_of(self.summary.out, result, path, name)
                if result == "labels":
                    write_labels(place, labels)
                elif result == "colour":
                    write_labels(place, labels, label_colors(palette), _PNG_EFFORT)
                else:
                    write_image(place, overlay(displayable(as_array(image)), labels, palette), _PNG_EFFORT)
        except BadName as error:
            self.summary.fail(path, str(error))
        else:
            self.areas.add(result_name(path, name), count(labels))
            self._written.append(path)


class TooLarge(WrongSize):
    """The network cannot take so many pixels."""


@contextmanager
def network_errors(device: torch.device, size: tuple[int, int]) -> Iterator[None]:
    """Turn the errors of a network and its device, at an image of a height and width, into those of gffnet.

    Raises:
        TooLarge: the network cannot take it.
        RunFailed: the device failed.
    """
    try:
        yield
        return
    except torch.AcceleratorError as error:  # no further image can be predicted
        raise RunFailed(f"the device failed: {first_line(error)}. Run the same command again.") from None
    except (RuntimeError, MemoryError) as error:
        reason = first_line(error) if str(error) else "no memory"
    if device.type == "cuda":
        torch.cuda.empty_cache()  # leave the memory of this image to the next
    raise TooLarge(f"the network cannot take its {size[0]}x{size[1]} pixels ({reason}).")


@contextmanager
def required(device: torch.device, size: tuple[int, int], image: object) -> Iterator[None]:
    """Turn errors into those of gffnet as `network_errors` does, for an `image` that may not be left out.

    Raises:
        RunFailed: the network cannot take it, or the device failed.
    """
    try:
        with network_errors(device, size):
            yield
    except TooLarge as error:
        remedy = "Predict it in windows, such as --crop 512x512, or on --device cpu."
        raise RunFailed(f"image {image}: {error} {remedy}") from None


_Read = tuple[Path, Path, Any]
"""The path of an image, the name of its results, and what `Job._read` says of it."""
_LARGE = object()
"""In place of an image that does not fit into memory."""


def place_of(out: Path, result: str, path: Path, name: Path) -> Path:
    """The file of a result of the image or video at `path`."""
    if video.is_video(path):
        return video.video_result(out, name, result)
    return out / result / name.with_name(name.name + ".png")


def _stops_all(error: UserError) -> bool:
    """Whether a result cannot be written for a cause that those of all other files share."""
    return isinstance(error, CannotWrite) and not isinstance(error, BadName)


def _reason(path: Path, error: UserError) -> str:
    """The message of an error without the image that it names."""
    return re.sub(f"^(cannot read )?image {re.escape(str(path))}:? ", "", str(error))


def result_names(
    inputs: Sequence[Path], extensions: Sequence[str] = EXTENSIONS, out: Path | None = None
) -> dict[Path, Path]:
    """Return every file under `inputs` with the path of its results, relative and without suffix.

    A file given by itself is called by its name, a file in a folder by its path in that folder; `extensions` selects
    the files of a folder, and what lies among the results in `out` is left out. Where two would be called the same
    (`a.jpg` and `a.png`), both keep their suffix; so does a file whose result has the name of a folder: a video beside
    a folder of its name, since its label maps are a folder, and `a.jpg` beside a folder `a.png`.

    Raises:
        UserError: an input does not exist or holds no image, or two files would have the same results nevertheless.
    """
    places = {
        file: Path(file.name) if file == given else file.relative_to(given)
        for file, given in image_files(inputs, extensions, out).items()
        if file == given or file.suffix.lower() not in video.EXTENSIONS or video.is_video(file)  # some are TypeScript
    }
    if out is not None:
        written = [Path(os.path.realpath(out / result)) for result in RESULTS]
        inside = [file for file in places if any(Path(os.path.realpath(file)).is_relative_to(at) for at in written)]
        if inside and len(inside) == len(places):
            raise UserError(f"{inside[0]} lies among the results in {out}: choose another --out to predict it.")
        if inside:
            say_once(f"left out: {inside[0]} and what else lies among the results in {out}")
        places = {file: place for file, place in places.items() if file not in set(inside)}
    # Windows and macOS take A and a for one name.
    stems = Counter(str(place.with_suffix("")).casefold() for place in places.values())
    folders = {folder for place in places.values() for folder in place.parents}
    names: dict[Path, Path] = {}
    owner: dict[Path, Path] = {}
    for file, place in places.items():
        stem = place.with_suffix("")
        result = stem if video.is_video(file) else stem.with_name(stem.name + ".png")
        name = place if stems[str(stem).casefold()] > 1 or result in folders else stem
        if name in owner:
            raise UserError(
                f"inputs {owner[name]} and {file} would both be written as {name}. Predict them into different folders."
            )
        names[file], owner[name] = name, file
    return names


# The output folder and its record


RECORD = "predict.json"
"""What `describe_prediction` says, and more; empty where there are no results, but a list of failures."""
_SINCE = "since"
"""Key of the record: time in seconds from which on files are of this model, where another's are being replaced."""
_SOURCES = "sources"
"""Key of the record: for every result, of what file it is."""


def open_folder(
    out: Path,
    made: Mapping[str, Any],
    overwrite: bool,
    names: Mapping[Path, Path] = MappingProxyType({}),
    smooth: float | None = None,
) -> float:
    """Make `out` a folder for the predictions of a model. Several processes may do so at once.

    Args:
        out: a new folder, or one with predictions.
        made: what `describe_prediction` says of the model.
        overwrite: replace the predictions of another model, or of other files.
        names: the files to predict, with the names of their results.
        smooth: the time constant by which videos are smoothed.

    Returns:
        The time in seconds from which on files in it are of this model: 0 unless another's are being replaced.

    Raises:
        UserError: it holds predictions of another model, protocol, precision or classes, unrecorded ones, or those
            of other files under the same names.
        CannotWrite: it cannot be written to.
    """
    used = _holds_results(out) or _foreign_file(out)  # looked for first: others write the record first
    there, now = _read_record(out), {**made, "smooth": smooth}
    if there is not None and used == FAILED_LIST:
        used = None
    remedy = "Choose another --out, or predict everything again with --overwrite."
    if not there and used and not overwrite:
        raise UserError(f"folder {out} holds {used}, but no {RECORD} that says of which model. {remedy}")
    sources = {result_name(path, name): _source(path) for path, name in names.items()}
    others = _others(out, there or {}, names)
    if not there or (overwrite and (others or _differences(there, now))):
        since = file_system_time(out) if used else 0.0
        kept = {} if not there or _differences(there, now) else there.get(_SOURCES, {})
        if sources and there and not kept and (left := there.get(_SOURCES, {}).keys() - sources.keys()):
            say_once(
                f"{len(left)} results in {out}, such as {min(left)}, are not predicted again: they stay as they were"
            )
        write_json(out / RECORD, {**now, _SINCE: since, _SOURCES: {**kept, **sources}})
        there, others = _read_record(out) or now, []  # another process may have written it, too
    if found := _differences(there, now):
        raise UserError(f"folder {out} holds predictions that were made differently: {'; '.join(found)}. {remedy}")
    if others:
        more = f", and {len(others) - 1} more such" if len(others) > 1 else ""
        raise UserError(f"folder {out} holds {others[0]}{more}. {remedy}")
    known = there.get(_SOURCES, {})
    if merged := {key: source for key, source in sources.items() if known.get(key) != source}:
        write_json(out / RECORD, {**there, _SOURCES: {**known, **merged}})
    return float(there.get(_SINCE, 0.0))


def _holds_results(out: Path) -> str | None:
    """The first of the folders of results in `out` that holds a file, such as `labels/`."""
    if is_remote(out):
        return next((f"{name}/" for name in RESULTS if remote.holds_any(out / name)), None)
    return next((f"{name}/" for name in RESULTS if any(path.is_file() for path in (out / name).rglob("*"))), None)


def _foreign_file(out: Path) -> str | None:
    """A file that would be replaced, and is the user's own where there is no record; the list of failures last."""
    return next((name for name in (LEGEND, AREAS, FAILED_LIST) if is_done(out / name, 0.0)), None)


def result_name(path: Path, name: Path) -> str:
    """What the result of a file is called in the record."""
    return name.as_posix() + (".mp4" if video.is_video(path) else ".png")


def _source(path: Path) -> str:
    """A file by its name and size, which stay where it is moved."""
    try:
        return f"{path.name} ({path.stat().st_size} bytes)"
    except OSError:  # it fails later
        return path.name


def _others(out: Path, record: Mapping[str, Any], names: Mapping[Path, Path]) -> list[str]:
    """Describe the results of the `names` of files that are there already, but of other files by the record."""
    known, since = record.get(_SOURCES, {}), record.get(_SINCE, 0.0)
    found = []
    for path, name in names.items():
        there, now = known.get(result_name(path, name)), _source(path)
        if there not in (None, now) and any(is_done(place_of(out, each, path, name), since) for each in RESULTS):
            found.append(f"{name} of {there}, which is not {path}" + now.removeprefix(path.name))
    return found


def is_done(file: Path, since: float) -> bool:
    """Return whether a result exists and is not older than `since`. Results are written atomically."""
    try:
        return (remote.modified(file) if is_remote(file) else file.stat().st_mtime) >= since
    except OSError:
        return False


def describe_prediction(predictor: Predictor) -> dict[str, Any]:
    """Return all that predictions depend on besides the images, in the types of JSON."""
    config, usual = predictor.config, predictor.usual_size
    described = {
        "recipe": config.recipe,
        "weights": predictor.weights,
        "protocol": dataclasses.asdict(predictor.protocol),
        "large_images": None if usual is None else f"seen as if of {usual[1]}x{usual[0]}",
        "precision": predictor.precision.name,
        "classes": config.classes,
        "palette": config.palette,
    }
    result: dict[str, Any] = json.loads(json.dumps(described))
    return result


def precision_of_folder(out: Path) -> str | None:
    """Return the precision of the predictions in `out`, by its name; None: there are none. Raises as `open_folder`."""
    return (_read_record(out) or {}).get("precision")


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe what differs between two descriptions of a prediction."""

    def text(key: str, value: Any) -> str:
        if isinstance(value, dict):
            return "(" + ", ".join(f"{name} {text(name, part)}" for name, part in value.items()) + ")"
        if isinstance(value, list):
            return "x".join(map(str, value))
        return str(value)[: 12 if key == "weights" else None]

    different = {key: (there.get(key), wanted) for key, wanted in now.items() if there.get(key) != wanted}
    return [
        f"other {key}" if key in {"classes", "palette"} else f"{key} {text(key, a)} there, {text(key, b)} now"
        for key, (a, b) in different.items()
    ]


def _read_record(out: Path) -> dict[str, Any] | None:
    path = out / RECORD
    try:
        record = json.loads(_content(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Choose another --out.") from None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a record of predictions. Choose another --out, or remove it.")
    return record


def _content(file: Path) -> bytes:
    return remote.read(file) if is_remote(file) else file.read_bytes()


def _write_changed(file: Path, content: bytes) -> None:
    """Write a file, unless it is there already with this content; an object in any case."""
    if is_remote(file) or not file.is_file() or file.read_bytes() != content:
        atomic_write(file, content)


def _remove(file: Path) -> None:
    """Remove a file or object, if it is there. Raises `CannotWrite`."""
    try:
        remote.remove(file) if is_remote(file) else file.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(file, error) from None


def file_system_time(out: Path) -> float:
    """Return the current time by the clock that dates files in `out`: on a network drive, the server's."""
    if is_remote(out):
        return remote.server_time(out)
    try:
        os.utime(out)
        return out.stat().st_mtime
    except OSError as error:
        raise cannot_write(out, error) from None


# The legend, and the areas of the classes


LEGEND, AREAS, FAILED_LIST = "legend.svg", "areas.csv", "failed.txt"


def _write_legend(out: Path, config: ModelConfig) -> None:
    """Write the colors of the classes, unless that is there already."""
    _write_changed(out / LEGEND, utf8(legend_picture(config.classes, config.palette)))


def count(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of pixels of every label 0..255."""
    return np.bincount(labels.ravel(), minlength=256)


class Counting(Protocol):
    """Takes the pixels of results, by label; see `Areas`."""

    def add(self, result: str, counts: NDArray[np.int64]) -> None: ...

    def note(self, result: str) -> bool: ...


class Areas:
    """A table with the share of the pixels that each class has, a row for every result; several threads may add to it.

    Rows of earlier commands are kept, those of another model are not.
    """

    def __init__(self, file: Path, classes: Sequence[str], since: float) -> None:
        """`since`: time in seconds from which on the file is of this model."""
        self.rows: dict[str, str] = {}
        """The line of the file about a result, by the name of that."""
        self._file, self._classes = file, classes
        self._sum, self._noted, self._lock = np.zeros(len(classes)), 0, threading.Lock()
        self._heading = ["file", *classes]
        if is_done(file, since):
            text = io.StringIO(_content(file).decode("utf-8", "surrogateescape"), newline="")
            heading, *rows = [*csv.reader(text)] or [[]]
            if heading == self._heading:
                self.rows = {row[0]: _csv_line(row) for row in rows if len(row) == len(heading)}

    def add(self, result: str, counts: NDArray[np.int64]) -> None:
        """Add a result, or replace it; `counts`: of its pixels, by label."""
        shares = counts[: len(self._classes)] / counts.sum()
        with self._lock:
            self.rows[result] = _csv_line([result, *(f"{share:.6g}" for share in shares.tolist())])
            self._sum, self._noted = self._sum + shares, self._noted + 1

    def note(self, result: str) -> bool:
        """Let `mean` cover a result of an earlier command; returns whether it is in the table."""
        if (line := self.rows.get(result)) is None:
            return False
        shares = np.array(next(csv.reader([line]))[1:], float)
        with self._lock:
            self._sum, self._noted = self._sum + shares, self._noted + 1
        return True

    def mean(self) -> dict[str, float]:
        """The mean over the results that were added or noted; empty if there is none."""
        if not self._noted:
            return {}
        return dict(zip(self._classes, (self._sum / self._noted).tolist(), strict=True))

    def write(self) -> None:
        """Write the table, sorted, unless it is there already.

        Raises:
            CannotWrite: it cannot be written.
        """
        lines = [_csv_line(self._heading), *(line for _, line in sorted(self.rows.items()))]
        _write_changed(self._file, "".join(lines).encode("utf-8", "surrogateescape"))


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _of_shard(out: Path, name: str, shard: tuple[int, int]) -> Path:
    """A file in `out` that each of several shards has for its own: `failed.txt`, `failed-1-of-4.txt`."""
    stem, suffix = name.split(".")
    return out / (name if shard[1] == 1 else f"{stem}-{shard[0]}-of-{shard[1]}.{suffix}")


# What is reported


LISTED = 50
"""Number of failures that are listed on the screen; the file lists all."""


@dataclass
class Summary:
    """The numbers of files that were written and that existed already, and every failure with its reason."""

    out: Path
    results: tuple[str, ...]
    """Names of the folders that are written."""
    shard: tuple[int, int] = (1, 1)
    single: bool = False
    """Whether the input is one file: then its failure is the error of the run."""
    noun: str = "image"
    written: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    areas: dict[str, float] = field(default_factory=dict)
    """Share of the pixels of each class: the mean over the files that were written or existed."""
    palette: Palette = ()
    """The colors of the classes."""

    @property
    def listing(self) -> Path:
        """The file that lists the failures."""
        return _of_shard(self.out, FAILED_LIST, self.shard)

    def fail(self, file: Path, reason: str) -> None:
        """Add a failure, and print it."""
        reason = " ".join(reason.split())
        self.failed.append((file, reason))
        if not self.single:
            screen.print(f"left out: {file}: {reason}", style="yellow")

    def write_failed(self) -> None:
        """Write the list of failures, or remove that of an earlier run if nothing failed.

        Raises:
            CannotWrite: it cannot be written.
        """
        if not self.failed:
            _remove(self.listing)
            return
        lines = "".join(f"{as_url(file)}: {reason}\n" for file, reason in self.failed)
        _write_changed(self.listing, lines.encode("utf-8", "surrogateescape"))

    def to_mapping(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        failed = [{"file": as_url(file), "reason": reason} for file, reason in self.failed]
        numbers = {"written": self.written, "skipped": self.skipped, "failed": failed, "out": str(self.out)}
        return {**numbers, "areas": self.areas}

    def print(self) -> None:
        """Print the numbers and the failures.

        Raises:
            UserError: the only file failed.
            RunFailed: some files failed.
        """
        if self.single and self.failed:
            raise UserError(": ".join(map(as_url, self.failed[0])))
        for file, reason in self.failed[:LISTED]:
            screen.print(f"failed: {as_url(file)}: {reason}")
        if len(self.failed) > LISTED:
            screen.print(f"and {len(self.failed) - LISTED} more")
        files = f"{self.written} {self.noun}{'' if self.written == 1 else 's'}"
        existed = f"{self.skipped} {'was' if self.skipped == 1 else 'were'} there already"
        screen.print(f"{files} written, {existed}: {self.out}/{', '.join(self.results)}")
        if self.failed:
            total = self.written + self.skipped + len(self.failed)
            failed = f"{len(self.failed)} of {total} files failed and were left out"
            others = f" The others are in {self.out}." if total > len(self.failed) else ""
            raise RunFailed(f"{failed}; they are listed in {self.listing}.{others}")


class Notices:
    """Logs precision and device before the first image, and the scale before the first that is downscaled.

    Nothing is logged earlier, because a command that is refused prints one line: the reason.
    """

    def __init__(self, predictor: Predictor, remedy: str = "") -> None:
        """`remedy`: the option by which images are not downscaled."""
        self._predictor = predictor
        self._remedy = f": {remedy}" if remedy else ""
        self._begun = self._downscaled = False

    def before(self, size: tuple[int, int], scale: float | None = None) -> None:
        """Log what is due before an image of a height and width; `scale`: the one that was requested, if any was."""
        if not self._begun:
            log.info(self._predictor.precision.describe(self._predictor.device))
            self._begun = True
        usual, own = self._predictor.usual_size, self._predictor.scale(size)
        if usual is not None and scale is None and own < 1 and not self._downscaled:
            log.info(
                f"large images are downscaled ({size[1]}x{size[0]} by {own}), because the model was trained on "
                f"{usual[1]}x{usual[0]}{self._remedy}"
            )
            self._downscaled = True


def for_each_readable(
    predictor: Predictor,
    paths: Sequence[Path],
    what: str,
    out: Path,
    work: Callable[[Path, Num[np.ndarray, "h w c"]], None],
) -> None:
    """Call `work` with every image of `paths` that a model can read, as an array; `what`: title of a progress bar.

    Images that cannot be read, that do not fit into memory, or whose results have names that the file system does not
    take, are named and left out.

    Raises, after the last image:
        UserError: all were left out.
        RunFailed: some were; the results of all the others are in `out`.

    Raises at once:
        RunFailed: the device failed.
    """
    left_out: list[UserError] = []
    for path in track(paths, what):
        try:
            image = predictor.read(path)
        except UserError as error:
            left_out.append(error)
        else:
            try:
                with network_errors(predictor.device, size_of(image)):
                    work(path, as_array(image))
                continue
            except BadName as error:
                left_out.append(error)
            except WrongSize as error:
                left_out.append(UserError(f"image {path}: {error}"))
        if len(paths) > 1:
            screen.print(f"left out: {left_out[-1]}", style="yellow")
    if left_out and len(left_out) == len(paths):
        raise UserError((f"all {len(paths)} images were left out: " if len(paths) > 1 else "") + str(left_out[0]))
    if left_out:
        raise RunFailed(f"{len(left_out)} of {len(paths)} images were left out; the others are in {out}.")
