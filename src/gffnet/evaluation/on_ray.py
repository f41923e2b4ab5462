"""Evaluation on a Ray cluster: actors score batches of images, and the counts add up exactly."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gffnet.console import track
from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.data.loader import fixed_samples
from gffnet.evaluation.evaluate import (
    LabelMap,
    PartialScores,
    images_for,
    predict_sample,
    protocol_record,
    same_classes,
)
from gffnet.evaluation.results import Result, write_result
from gffnet.files import check_writable
from gffnet.inference.cluster import actor_resources, connected, describe_actor, on_actors, ray_errors
from gffnet.inference.predictor import load
from gffnet.registry import load_plugins


def evaluate_on_ray(
    options: Mapping[str, Any],
    data: str,
    root: Path | None,
    split: str,
    *,
    cache: Path | None = None,
    details: bool = True,
    out: Path | None = None,
    address: str | None = None,
    plugins: Sequence[str] = (),
) -> Result:
    """Score a model on a data set as `gffnet.evaluate` does, by the actors of a Ray cluster.

    All nodes must see the model and the data, which may be URLs.

    Args:
        options: arguments of `gffnet.load`: `model`, `device`, `precision`, `protocol`, ...
        data, root, split, cache, details, out: as for `gffnet.evaluate`.
        address, plugins: as for `gffnet.inference.cluster.predict_on_ray`.

    Raises:
        CannotWrite: nothing can be written into `out`.
        UserError: as `gffnet.evaluate`; Ray is not installed, or there is no cluster at `address`.
        RunFailed: actors died again and again.
    """
    if out is not None:
        check_writable(out)
    dataset = open_dataset(data, root, split, cache)
    names = dataset.classes.names
    with connected(address), ray_errors():
        resources = actor_resources(str(options.get("device", "auto")))
        options, _, _ = describe_actor(options, plugins, resources)
        start, total, record = time.perf_counter(), PartialScores(len(names), details), dict[str, Any]()
        arguments = (options, plugins, (data, root, split, cache), details)
        batches = on_actors(range(len(dataset)), _Actor, arguments, resources)
        for arrays, record in track(batches, f"evaluating {split}"):  # noqa: B007  # the last is that of all
            total.merge(arrays)
    result = total.result(dataset, record, len(total.images) / (time.perf_counter() - start))
    if out is not None:
        write_result(out, result)
    return result


class _Actor:
    """Scores images of a data set by their indices."""

    def __init__(
        self, options: Mapping[str, Any], plugins: Sequence[str], source: tuple[Any, ...], details: bool
    ) -> None:
        load_plugins(plugins)
        self._predictor, dataset = load(**options), open_dataset(*source)
        name, _, split, _ = source
        same_classes(self._predictor, dataset.classes.names, name)
        self._dataset: Dataset = images_for(self._predictor, dataset)
        self._samples = fixed_samples(self._dataset)
        self._details = details
        self._record = protocol_record(self._predictor, self._predictor.protocol, name, split)

    def _predict(self, image: Tensor) -> list[LabelMap]:
        return [self._predictor.predict(image, self._predictor.protocol)]  # with a protocol: large ones at their size

    def __call__(self, indices: Sequence[int]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        scores = PartialScores(len(self._dataset.classes.names), self._details)
        for index in indices:
            sample = self._samples[index]
            labels: NDArray[np.uint8] = sample.labels.numpy()
            (predicted,) = predict_sample(self._predict, self._predictor.device.type, sample)
            scores.update(index, labels, predicted)
        return scores.arrays(), self._record
