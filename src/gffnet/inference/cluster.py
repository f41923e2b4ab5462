"""Prediction on a cluster, by Ray Data: every actor loads the model once and predicts batches of files.

Ray places the actors, starts more while there is work for them, and repeats the batch of one that was killed. Results
are those of `predict_files`: each is written atomically, and what exists is skipped, so that a batch may be repeated.
"""

import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.errors import RunFailed, UserError, first_line
from gffnet.inference.batch import RESULTS, Summary, describe_prediction
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import load
from gffnet.inference.stream import FilePredictor, Item, Items, Listing, Row, Work, collect, find_items
from gffnet.models.model_io import ModelConfig, is_exported, shipped_model
from gffnet.registry import load_plugins
from gffnet.remote import is_url, open_url

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
        found = self.predictor.predict([*batch[self._image]])
        return {**batch, self._labels: _column(found)}


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
    the model, the inputs and `out`, which may be URLs as for `predict_stream`.

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
    out = open_url(out) if is_url(out) else out
    items = find_items(inputs, out, (1, 1))
    with connected(address), ray_errors():
        resources = actor_resources(str(options.get("device", "auto")))
        options, config, made = describe_actor(options, plugins, resources)

        def rows(items: Items, work: Work) -> Iterator[Row]:
            for rows in on_actors(items, _Actor, (options, plugins, work), resources):
                yield from rows

        return collect(items, config, made, out, (1, 1), results, overwrite, smooth, rows)


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
        reason = first_line(error).rstrip(".")
        raise UserError(
            f"--ray {address or ''}: there is no Ray cluster that can be reached ({reason}). Start one with "
            "`ray start --head`, check HOST:PORT, or give --ray local. To one with a token, set RAY_AUTH_MODE=token."
        ) from None


@contextmanager
def ray_errors() -> Iterator[None]:
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
        raise RunFailed(f"the cluster cannot run an actor: {first_line(error)}") from None


class Resources(NamedTuple):
    """What an actor takes of the cluster."""

    num_cpus: float
    num_gpus: float


def actor_resources(device: str) -> Resources:
    """Return a core, and a GPU if the cluster has some and `device` is not the CPU."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Resources(1, float(device != "cpu" and "GPU" in there))


def describe_actor(
    options: Mapping[str, Any], plugins: Sequence[str], resources: Resources
) -> tuple[Mapping[str, Any], ModelConfig, dict[str, Any]]:
    """Load the model on a node that has the resources of an actor.

    Returns:
        The options, with the precision that was found there in place of `auto`, so that all actors have the same; the
        config of the model; and what `describe_prediction` says of it.
    """
    import ray

    folder = Path.cwd()

    def describe() -> tuple[ModelConfig, dict[str, Any]]:
        _work_in(folder)
        load_plugins(plugins)
        predictor = load(**options)
        return predictor.config, describe_prediction(predictor)

    config, made = ray.get(ray.remote(**resources._asdict())(describe).remote())
    if options.get("precision", "auto") == "auto" and not is_exported(options.get("model") or shipped_model()):
        options = {**options, "precision": made["precision"]}
    return options, config, made


# The work of an actor. A row of Ray Data is a batch of files, pickled, so that every batch is a block of its own.


class _Actor:
    """Predicts a batch of files; returns what became of each."""

    def __init__(self, options: Mapping[str, Any], plugins: Sequence[str], work: Work) -> None:
        load_plugins(plugins)
        if options.get("memory") is None:
            keep_pages()
        self._predictor = FilePredictor(load(**options), work)

    def __call__(self, items: Sequence[Item]) -> list[Row]:
        return [*self._predictor.rows(items)]


def _work_in(folder: Path) -> None:
    """Resolve relative paths as in `folder`, if it is there: Ray starts workers where the cluster was started."""
    with suppress(OSError):
        os.chdir(folder)


class _Pickled:
    """An actor, as Ray Data calls it; `folder`: see `_work_in`."""

    def __init__(self, folder: Path, actor: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
        _work_in(folder)
        self._actor = actor(*arguments)

    def __call__(self, batch: Batch) -> Batch:
        return {"found": [pickle.dumps(self._actor(pickle.loads(items))) for items in batch["items"]]}


def _blocks(items: Iterable[Any]) -> Iterator[Any]:
    """Yield tables of one row each: a pickled batch of items."""
    import pyarrow

    waiting = iter(items)
    for some in iter(lambda: [*islice(waiting, BATCH)], []):
        yield pyarrow.table({"items": [pickle.dumps(some)]})


def _dataset(items: Listing | Sequence[Any]) -> Any:
    """The batches as a data set of Ray: what is local from here, a listing of a store as a task lists it."""
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    if not isinstance(items, Listing):
        return ray.data.from_arrow([*_blocks(items)])

    class Stored(Datasource):
        def get_name(self) -> str:
            return "Listing"

        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
            return [ReadTask(lambda: _blocks(items), BlockMetadata(None, None, None, None))]

    return ray.data.read_datasource(
        Stored(),  # type: ignore[no-untyped-call]
        override_num_blocks=1,
        num_cpus=0.1,
    )


def on_actors(
    items: Listing | Sequence[Any],
    actor: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    resources: Resources,
) -> Iterator[Any]:
    """Yield what actors return for batches of items, in the order in which they are finished.

    Args:
        items: picklable; given out 32 at a time.
        actor: called once by every actor, with `arguments`; what it returns is called with every batch.
        arguments: picklable.
        resources: of an actor.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`ray_remote_args")  # nothing else bounds the retries
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars = False
    context.target_max_block_size = 1024  # so that a listing is no block, but its batches are
    try:
        done = _dataset(items).map_batches(
            _Pickled,
            fn_constructor_args=(Path.cwd(), actor, *arguments),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(min_size=1),
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
            ray_remote_args_fn=lambda: {"max_task_retries": _RETRIES},
        )
    finally:  # a data set keeps the settings that it was made with
        context.enable_progress_bars, context.target_max_block_size = before
    for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
        yield from map(pickle.loads, batch["found"])
