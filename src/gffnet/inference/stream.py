"""Prediction of a stream of files, a few at a time: by one process, or by the actors of a cluster (`cluster`).

Inputs and outputs may be in object stores: their images are listed as they are predicted, fetched in advance, and
results are written beside the network. For a moment both are files in a temporary folder, so that everything is read
and written as `batch` does.
"""

import math
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet import remote
from gffnet.console import track
from gffnet.data.io import EXTENSIONS, read_labels
from gffnet.errors import RunFailed, UserError, one_line
from gffnet.inference import video
from gffnet.inference.batch import (
    RESULTS,
    Job,
    Notices,
    Summary,
    check_results,
    check_smoothing,
    count,
    describe_prediction,
    file_system_time,
    is_done,
    open_results,
    place_of,
    result_name,
    result_names,
)
from gffnet.inference.predictor import Predictor
from gffnet.models.model_io import ModelConfig
from gffnet.parallel import prefetch
from gffnet.remote import as_url, is_remote, is_url, open_url

_AT_ONCE = 8
"""Files that are fetched and written together."""
_READ = (*EXTENSIONS, *video.EXTENSIONS)
_LONGEST = 1024
"""Bytes of the longest key that S3, Google Cloud Storage and Azure take."""


class Item(NamedTuple):
    """A file to predict, and the name of its results."""

    path: Path
    name: Path
    recount: bool = False
    """Whether the areas of a result that exists are to be counted."""


WRITTEN, SKIPPED, FAILED = "written", "skipped", "failed"


class Row(NamedTuple):
    """What became of a file."""

    path: Path
    name: Path
    outcome: str
    reason: str = ""
    counts: NDArray[np.int64] | None = None
    """Pixels of its result by label, if they were counted."""
    error: UserError | RunFailed | None = None
    """Which fails all other files, too, such as a full disk."""


@dataclass(frozen=True)
class Listing:
    """The images and videos under a URL, listed as they are asked for.

    Names keep their suffix, `labels/a.jpg.png`: whether there is an `a.png`, too, is known at the end only.
    """

    folder: Path
    out: Path
    shard: tuple[int, int] = (1, 1)

    def __iter__(self) -> Iterator[Item]:
        url, out = str(self.folder).rstrip("/"), f"{self.out}/"
        own = tuple(f"{out}{result}/".removeprefix(f"{url}/") for result in RESULTS)
        files = (file for file in remote.list_files(self.folder, _READ) if not file.startswith(own))
        for file in islice(files, self.shard[0] - 1, None, self.shard[1]):
            yield Item(Path(f"{url}/{file}"), Path(file or self.folder.name))  # a Path is made faster than opened


Items = Listing | Sequence[Item]


def find_items(inputs: Sequence[Path], out: Path, shard: tuple[int, int]) -> Items:
    """Return the files among `inputs`: one URL, or local files and folders.

    A listing yields the files of `shard`; of local files, which are all returned, `collect` takes those.

    Raises:
        UserError: as `result_names`; there are other inputs beside a URL.
    """
    urls = [each for each in inputs if is_url(each)]
    if not urls:
        return [Item(*each) for each in result_names(inputs, _READ, None if is_remote(out) else out).items()]
    if len(inputs) > 1:
        raise UserError(
            f"{as_url(urls[0])}: a URL is predicted by itself. Give the one folder that holds all images, or "
            "predict each input into an --out of its own."
        )
    folder = open_url(urls[0])
    return Listing(folder, out, shard) if is_remote(folder) else find_items([folder], out, shard)


def predict_stream(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    shard: tuple[int, int] = (1, 1),
    results: Sequence[str] = RESULTS,
    overwrite: bool = False,
    smooth: float | None = None,
) -> Summary:
    """Predict as `predict_files` does, from and to object stores, such as `s3://bucket/photos`.

    Args:
        predictor: the model.
        inputs: one URL of an image or of a folder, or local files and folders.
        out: a folder, or the URL of one.
        shard, results, overwrite, smooth: as for `predict_files`.

    Returns:
        As `predict_files`.

    Raises:
        UserError: as `predict_files`; a package for the scheme of a URL is missing.
        RunFailed: a store cannot be reached.
    """
    out = open_url(out) if is_url(out) else out
    items, made = find_items(inputs, out, shard), describe_prediction(predictor)

    def rows(items: Items, work: Work) -> Iterator[Row]:
        return FilePredictor(predictor, work).rows(items)

    return collect(items, predictor.config, made, out, shard, results, overwrite, smooth, rows)


def collect(
    items: Items,
    config: ModelConfig,
    made: Mapping[str, Any],
    out: Path,
    shard: tuple[int, int],
    results: Sequence[str],
    overwrite: bool,
    smooth: float | None,
    rows: "Callable[[Items, Work], Iterable[Row]]",
) -> Summary:
    """Open `out`, let `rows` predict the items, and collect what became of them.

    Args:
        items: of all shards, but for a `Listing`.
        rows: predicts files.
        config, made, out, shard, results, overwrite, smooth: as for `open_results`.
    """
    check_results(results, shard)
    listed, mine = ([], items) if isinstance(items, Listing) else (items, items[shard[0] - 1 :: shard[1]])
    videos = any(video.is_video(item.path) for item in listed)
    if videos:
        video.pyav()
    check_smoothing(smooth, videos or isinstance(items, Listing))
    names, total = {item.path: item.name for item in listed}, None if isinstance(mine, Listing) else len(mine)
    with open_results(out, config, made, names, shard, results, overwrite, smooth) as (summary, areas, since):
        summary.single, summary.noun = len(names) == 1, "file" if videos else "image"
        since, began = math.inf if overwrite else since, file_system_time(out)
        work = Work(out, summary.results, smooth, since, began)
        uncounted: list[Item] = []
        for row in track(_or_stop(rows(mine, work)), "predicting", total):
            if row.outcome == FAILED:
                summary.failed.append((row.path, row.reason))
                continue
            summary.written += row.outcome == WRITTEN
            summary.skipped += row.outcome == SKIPPED
            result = result_name(row.path, row.name)
            if row.counts is not None:
                areas.add(result, row.counts)
            elif not areas.note(result):  # a process that was killed has written it
                uncounted.append(Item(row.path, row.name, recount=True))
        for row in _or_stop(rows(uncounted, work)) if uncounted else ():
            if row.counts is not None:
                areas.add(result_name(row.path, row.name), row.counts)
        summary.failed.sort(key=lambda each: str(each[0]))
    if isinstance(items, Listing) and shard[1] == 1 and not (summary.written or summary.skipped or summary.failed):
        raise UserError(f"{items.folder} holds no image or video of a format that is read: check the URL.")
    return summary


def _or_stop(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if row.error is not None:
            raise row.error
        yield row


@dataclass(frozen=True)
class Work:
    """What is written, and what counts as done."""

    out: Path
    results: tuple[str, ...]
    smooth: float | None
    since: float
    """Results that are older do not count as done."""
    began: float
    """Results that are not older are of this command: a process that died has written them."""


class _Counts:
    """Collects the pixels of results by label, in place of `Areas`."""

    def __init__(self, recount: set[str]) -> None:
        self.found: dict[str, NDArray[np.int64]] = {}
        self._recount = recount

    def add(self, result: str, counts: NDArray[np.int64]) -> None:
        self.found[result] = counts

    def note(self, result: str) -> bool:
        return result not in self._recount


class FilePredictor:
    """Predicts files and writes their results; what an actor of a cluster does."""

    def __init__(self, predictor: Predictor, work: Work) -> None:
        self._predictor, self._work, self._notices = predictor, work, Notices(predictor)

    def rows(self, items: Iterable[Item]) -> Iterator[Row]:
        """Predict files, and yield what became of each."""
        waiting = iter(items)
        few = iter(lambda: [*islice(waiting, _AT_ONCE)], [])
        with (
            closing(prefetch(self._fetch, few, 2)) as fetched,
            closing(prefetch(self._put, map(self._predict, fetched), 2)) as written,
        ):
            for rows in written:
                yield from rows

    def _fetch(self, items: Sequence[Item]) -> "_Stage":
        """Make what is to be predicted files of this machine."""
        stage = _Stage(tempfile.TemporaryDirectory(prefix="gffnet."), [], {})
        try:
            with ThreadPoolExecutor(16) as pool:
                done = [*pool.map(self._done, items)]
                stage.rows += [row for row in done if isinstance(row, Row)]
                left = [item for item, row in zip(items, done, strict=True) if not row]
                for item, found in zip(
                    left, pool.map(self._local, left, [stage.folder / "in"] * len(left)), strict=True
                ):
                    if isinstance(found, Row):
                        stage.rows.append(found)
                    else:
                        stage.items[found] = item
        except (UserError, RunFailed) as error:
            stage.rows.append(_stop(items[0], error))
        return stage

    def _done(self, item: Item) -> Row | None:
        """What became of a file whose results exist, or cannot; None as well if both are local: the job looks."""
        work = self._work
        if not is_remote(work.out) and not is_url(item.path):
            return None
        places = [place_of(work.out, result, item.path, item.name) for result in work.results]
        longest = max(map(remote.key_size, places)) if is_remote(work.out) else 0
        if longest > _LONGEST:
            reason = f"the key of its result has {longest} bytes, and stores take up to {_LONGEST}: shorten its name"
            return Row(item.path, item.name, FAILED, reason)
        if not all(is_done(place, work.since) for place in places):
            return None
        counts = self._recount(item) if item.recount else None
        outcome = WRITTEN if all(is_done(place, work.began) for place in places) else SKIPPED
        return Row(item.path, item.name, outcome, counts=counts)

    def _recount(self, item: Item) -> NDArray[np.int64] | None:
        """Count the pixels of a result that exists; None: it has no label maps."""
        place = place_of(self._work.out, "labels", item.path, item.name)
        maps = sorted(place.parent.glob("*.png")) if video.is_video(item.path) else [place]
        total = np.zeros(256, np.int64)
        with tempfile.TemporaryDirectory(prefix="gffnet.") as folder, suppress(FileNotFoundError, UserError):
            for file in maps:
                local = Path(folder) / file.name if is_remote(file) else file
                if local != file:
                    remote.download(file, local)
                total += count(read_labels(local))
            return total if total.any() else None
        return None

    def _local(self, item: Item, folder: Path) -> Path | Row:
        """The local file of an item, or why there is none."""
        if not is_url(item.path):
            return item.path
        # In a folder of its own and short: a key may be longer than a file name, and be that of a prefix, too.
        file = folder / secrets.token_hex(4) / item.path.name[-50:]
        try:
            remote.download(open_url(item.path), file)
        except (FileNotFoundError, PermissionError) as error:
            return Row(item.path, item.name, FAILED, f"it cannot be fetched ({one_line(error)})")
        return file

    def _predict(self, stage: "_Stage") -> "_Stage":
        """Predict files of this machine, into the stage if the results are for a store."""
        if any(row.error for row in stage.rows):
            return stage
        work, out = self._work, stage.folder / "out" if is_remote(self._work.out) else self._work.out
        if is_remote(work.out):
            out.mkdir(parents=True, exist_ok=True)
        names = {path: item.name for path, item in stage.items.items()}
        summary = Summary(out, work.results, single=True)  # nothing is printed here
        counts = _Counts({result_name(item.path, item.name) for item in stage.items.values() if item.recount})
        job = Job(self._predictor, work.since, summary, self._notices, work.smooth, counts, shown=False)
        try:
            job.predict_images({path: name for path, name in names.items() if not video.is_video(path)})
            for path, name in names.items():
                if video.is_video(path):
                    job.predict_video(path, name)
        except (UserError, RunFailed) as error:  # such as a full disk
            stage.rows.append(_stop(next(iter(stage.items.values())), error))
            return stage
        failed = dict(summary.failed)
        for path, item in stage.items.items():
            began = -math.inf if is_remote(work.out) else work.began
            outcome = FAILED if path in failed else WRITTEN if job.is_done(path, item.name, began) else SKIPPED
            found = counts.found.get(result_name(item.path, item.name))
            reason = failed.get(path, "").replace(str(path), as_url(item.path)).replace(str(out), str(work.out))
            stage.rows.append(Row(item.path, item.name, outcome, reason, found))
        return stage

    def _put(self, stage: "_Stage") -> list[Row]:
        """Write the results to the store, if they are for one."""
        try:
            if is_remote(self._work.out):
                remote.upload(stage.folder / "out", self._work.out)
        except (UserError, RunFailed) as error:
            stage.rows.append(_stop(stage.rows[0], error))
        finally:
            stage.temporary.cleanup()
        return stage.rows


def _stop(item: Item | Row, error: UserError | RunFailed) -> Row:
    return Row(item.path, item.name, FAILED, error=error)


@dataclass
class _Stage:
    """A few files on their way, in a temporary folder."""

    temporary: tempfile.TemporaryDirectory[str]
    rows: list[Row]
    items: dict[Path, Item]
    """By local path, those that are to be predicted."""

    @property
    def folder(self) -> Path:
        return Path(self.temporary.name)
