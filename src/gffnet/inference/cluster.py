"""Prediction on a cluster, by Ray Data: every actor loads the model once and predicts batches of files.

Ray places the actors, starts more while there is work for them, and repeats the batch of one that was killed. Results
are those of `predict_files`: each is written atomically, and what exists is skipped, so that a batch may be repeated.
"""

import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.console import track
from gffnet.data.io import EXTENSIONS
from gffnet.errors import RunFailed, UserError
from gffnet.inference import video
from gffnet.inference.batch import (
    RESULTS,
    Job,
    Notices,
    Summary,
    check_smoothing,
    describe_prediction,
    file_system_time,
    open_results,
    result_name,
    result_names,
)
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import load
from gffnet.models.model_io import ModelConfig, is_exported, shipped_model
from gffnet.registry import load_plugins

BATCH = 32
"""Files that an actor gets at once."""
_RETRIES = 3
"""How often a batch whose actor died is given to another."""

Batch = dict[str, Any]
"""Columns of a batch of rows, as `map_batches` of Ray Data has them."""


class BatchPredictor:
    """A model for `map_batches` of Ray Data, loaded once by each actor; it adds a column of label maps.

    images = ray.data.read_images("photos", mode="RGB")
    actors = ray.data.ActorPoolStrategy(min_size=1, max_size=8)
    model = {"model": "runs/streets/gffnet_r18"}
    labelled = images.map_batches(BatchPredictor, fn_constructor_kwargs=model, batch_size=16, compute=actors)
    """

    def __init__(
        self, model: str | Path | None = None, *, image: str = "image", labels: str = "labels", **options: Any
    ) -> None:
        """Load the model.

        Args:
            model: as for `gffnet.load`; every node must find it.
            image: the column of images: uint8 (H, W, C) or (H, W), or paths.
            labels: the column that is added: uint8 (H, W), indices into the classes of the model.
            options: as for `gffnet.load`, such as `device` and `precision`.

        Raises:
            UserError: as `gffnet.load`.
        """
        self.predictor = load(model, **options)
        self._image, self._labels = image, labels

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with label maps. Raises as `Predictor.predict`."""
        if self._image not in batch:
            raise UserError(f"a batch has no column {self._image!r}, but {', '.join(batch)}: say which with image=.")
        found = self.predictor.predict([_image(each) for each in batch[self._image]])
        return {**batch, self._labels: _column(found)}


def _image(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """An array with an entry for each of the values, which may differ in size."""
    if len({getattr(value, "shape", None) for value in values}) == 1 and isinstance(values[0], np.ndarray):
        return np.stack(values)
    column = np.empty(len(values), object)
    column[:] = [*values]
    return column


def predict_on_ray(
    options: Mapping[str, Any],
    inputs: Sequence[Path],
    out: Path,
    results: Sequence[str] = RESULTS,
    overwrite: bool = False,
    smooth: float | None = None,
    *,
    address: str | None = None,
    plugins: Sequence[str] = (),
) -> Summary:
    """Predict images, videos and folders of them as `predict_files` does, by the actors of a Ray cluster.

    An actor takes one GPU where the cluster has some and the device is not the CPU, else one core. All nodes must see
    the model, the inputs and `out`.

    Args:
        options: arguments of `gffnet.load`: `model`, `device`, `precision`, ...
        inputs, out, results, overwrite, smooth: as for `predict_files`.
        address: of the cluster, `HOST:PORT`; None: that of `RAY_ADDRESS`, or one that runs here, or a new one on this
            machine for the time of this call; `local`: always a new one.
        plugins: modules or files that every actor imports first.

    Returns:
        As `predict_files`.

    Raises:
        UserError: as `predict_files`; Ray is not installed, or there is no cluster at `address`.
        RunFailed: actors died again and again.
    """
    names = result_names(inputs, (*EXTENSIONS, *video.EXTENSIONS), out)
    videos = any(map(video.is_video, names))
    check_smoothing(smooth, videos)
    with connected(address), _ray_errors():
        resources = actor_resources(str(options.get("device", "auto")))
        config, made = _describe(options, plugins, resources)
        if options.get("precision", "auto") == "auto" and not is_exported(options.get("model") or shipped_model()):
            options = {**options, "precision": made["precision"]}  # that of one actor, so that all have the same
        with open_results(out, config, made, names, (1, 1), results, overwrite, smooth) as (summary, areas, since):
            summary.single, summary.noun = len(names) == 1, "file" if videos else "image"
            since, began = math.inf if overwrite else since, file_system_time(out)
            work = _Work(options, tuple(plugins), out, summary.results, smooth, since, began)
            items = (_Item(path, name, result_name(path, name) in areas.rows) for path, name in names.items())
            for row in track(_rows(items, work, resources), "predicting", len(names)):
                result = result_name(row.path, row.name)
                if row.outcome == _STOP:
                    raise UserError(row.reason)
                if row.outcome == _FAILED:
                    summary.failed.append((row.path, row.reason))
                    continue
                summary.written += row.outcome == _WRITTEN
                summary.skipped += row.outcome == _SKIPPED
                if row.counts is None:
                    areas.note(result)
                else:
                    areas.add(result, row.counts)
            summary.failed.sort()
    return summary


# The cluster


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster, unless this process is connected to one already; see `predict_on_ray` for `address`.

    Raises:
        UserError: Ray is not installed, or there is no cluster at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is wrong is raised
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(f"--ray needs the package {error.name}: pip install 'gffnet[ray]'.") from None
    if address is not None and not re.fullmatch(r"auto|local|(ray://)?[^\s/:]+:\d+|(ray://)?\[[^\s/]+\]:\d+", address):
        raise UserError(
            f"--ray {address}: the address of a cluster is HOST:PORT, such as 10.0.0.1:6379, or local for a new one on "
            "this machine. Give inputs before --ray."
        )
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    with redirect_stdout(sys.stderr):  # where Ray says what died
        _start(address)
        try:
            yield
        finally:
            ray.shutdown()


def _start(address: str | None) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"--ray {address or ''}: there is no Ray cluster that can be reached ({reason}). Start one with "
            "`ray start --head`, check HOST:PORT, or give --ray local."
        ) from None


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Raise the error of an actor as that of this process."""
    from ray.exceptions import RayActorError, RayTaskError, TaskUnschedulableError

    try:
        yield
    except RayTaskError as error:
        cause: BaseException | None = error.cause
        while cause is not None and not isinstance(cause, UserError | RunFailed):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
    except RayActorError:
        raise RunFailed(
            f"actors died {_RETRIES + 1} times at the same batch of files: they were killed, or ran out of memory. "
            "What is written is kept; run the same command again, with more memory for each, or with --memory."
        ) from None
    except TaskUnschedulableError as error:
        raise RunFailed(f"the cluster cannot run an actor: {str(error).splitlines()[0]}") from None


class Resources(NamedTuple):
    """What an actor takes of the cluster."""

    num_cpus: float
    num_gpus: float


def actor_resources(device: str) -> Resources:
    """Return a core, and a GPU if the cluster has some and `device` is not the CPU."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Resources(1, float(device != "cpu" and "GPU" in there))


def _describe(
    options: Mapping[str, Any], plugins: Sequence[str], resources: Resources
) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the config of the model, and what `describe_prediction` says of it on a node that has the resources."""
    import ray

    def describe() -> tuple[ModelConfig, dict[str, Any]]:
        load_plugins(plugins)
        predictor = load(**options)
        return predictor.config, describe_prediction(predictor)

    found: tuple[ModelConfig, dict[str, Any]] = ray.get(ray.remote(**resources._asdict())(describe).remote())
    return found


# The work of an actor

_WRITTEN, _SKIPPED, _FAILED, _STOP = "written", "skipped", "failed", "stop"


class _Item(NamedTuple):
    """A file, the name of its results, and whether their areas are known."""

    path: Path
    name: Path
    known: bool


class _Row(NamedTuple):
    """What became of a file; `counts`: pixels of its result by label, None where they are known."""

    path: Path
    name: Path
    outcome: str
    reason: str
    counts: NDArray[np.int64] | None


@dataclass
class _Work:
    options: Mapping[str, Any]
    plugins: tuple[str, ...]
    out: Path
    results: tuple[str, ...]
    smooth: float | None
    since: float
    """Results that are older do not count as done."""
    began: float
    """Results that are not older are of this command: an actor that died has written them."""


class _FilePredictor:
    """What an actor does: a batch of files → what became of each. Ray calls it."""

    def __init__(self, work: _Work) -> None:
        load_plugins(work.plugins)
        if work.options.get("memory") is None:
            keep_pages()
        self._work, self._predictor = work, load(**work.options)
        self._notices = Notices(self._predictor)

    def __call__(self, batch: Batch) -> Batch:
        items = [
            _Item(Path(os.fsdecode(path)), Path(os.fsdecode(name)), bool(known))
            for path, name, known in zip(batch["path"], batch["name"], batch["known"], strict=True)
        ]
        rows = self._predict(items)
        return {
            "path": _column([os.fsencode(row.path) for row in rows]),
            "name": _column([os.fsencode(row.name) for row in rows]),
            "outcome": _column([row.outcome for row in rows]),
            "reason": _column([row.reason.encode("utf-8", "surrogateescape") for row in rows]),
            "counts": np.stack([np.full(256, -1) if row.counts is None else row.counts for row in rows]),
        }

    def _predict(self, items: Sequence[_Item]) -> list[_Row]:
        work, names = self._work, {item.path: item.name for item in items}
        summary = Summary(work.out, work.results, single=True)  # nothing is printed here
        counts = _Counts({result_name(item.path, item.name) for item in items if item.known})
        job = Job(self._predictor, work.since, summary, self._notices, work.smooth, counts)
        try:
            job.predict_images({path: name for path, name in names.items() if not video.is_video(path)})
            for path, name in names.items():
                if video.is_video(path):
                    job.predict_video(path, name)
        except (UserError, RunFailed) as error:  # such as a full disk
            return [_Row(*items[0][:2], _STOP, str(error), None)]
        failed = dict(summary.failed)
        rows = []
        for path, name in names.items():
            outcome = _FAILED if path in failed else _WRITTEN if job.is_done(path, name, work.began) else _SKIPPED
            rows.append(_Row(path, name, outcome, failed.get(path, ""), counts.found.get(result_name(path, name))))
        return rows


class _Counts:
    """Collects the pixels of results by label, in place of `Areas`."""

    def __init__(self, known: set[str]) -> None:
        self.found: dict[str, NDArray[np.int64]] = {}
        self._known = known

    def add(self, result: str, counts: NDArray[np.int64]) -> None:
        self.found[result] = counts

    def note(self, result: str) -> bool:
        return result in self._known


def _rows(items: Iterable[_Item], work: _Work, resources: Resources) -> Iterator[_Row]:
    """Yield what became of every file, in the order in which they are finished."""
    import pyarrow
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    waiting = iter(items)
    batches = [
        pyarrow.table(
            {
                "path": [os.fsencode(item.path) for item in some],
                "name": [os.fsencode(item.name) for item in some],
                "known": [item.known for item in some],
            }
        )
        for some in iter(lambda: [*islice(waiting, BATCH)], [])
    ]
    warnings.filterwarnings("ignore", message="`ray_remote_args_fn` is deprecated")  # nothing else bounds the retries
    done = ray.data.from_arrow(batches).map_batches(
        _FilePredictor,
        fn_constructor_args=(work,),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(min_size=1),
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        ray_remote_args_fn=lambda: {"max_task_retries": _RETRIES},
    )
    for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
        for path, name, outcome, reason, counts in zip(*(batch[column] for column in _Row._fields), strict=True):
            known = int(counts[0]) < 0
            text = bytes(reason).decode("utf-8", "surrogateescape")
            yield _Row(Path(os.fsdecode(path)), Path(os.fsdecode(name)), str(outcome), text, None if known else counts)
