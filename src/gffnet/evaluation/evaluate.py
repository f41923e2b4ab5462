"""Scores of a model on a split of a data set: every image is predicted and scored once, by one process or by several.

Under `torchrun`, every rank scores its part of the images and rank 0 gathers the counts, which add up exactly. With a
folder to write to, every rank saves what it has scored twice a minute; an interrupted evaluation resumes from that, on
any number of ranks.
"""

import dataclasses
import io
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

import gffnet
from gffnet.console import screen, track
from gffnet.data.dataset import DATASETS, Classes, Dataset, Sample, class_difference, fingerprint
from gffnet.data.datasets import open_dataset
from gffnet.data.loader import fixed_samples
from gffnet.data.map_style import as_dataset, as_gffnet, dataset_name
from gffnet.data.statistics import check_bands
from gffnet.errors import CannotWrite, Stopped, UserError
from gffnet.evaluation.results import ImageScore, Result, score_image, write_result
from gffnet.files import as_path, atomic_write, remove_parts
from gffnet.inference.batch import required
from gffnet.inference.precision import pick_device, resumed_precision
from gffnet.inference.predictor import Predictor, load
from gffnet.metrics.confusion import Absent
from gffnet.metrics.scores import NamedCounts, ScoreAccumulator
from gffnet.models.ops import size_of
from gffnet.parallel import (
    all_gather,
    background_writer,
    broadcast,
    device_of_rank,
    io_threads,
    prefetch,
    process_group,
    rank_and_world_size,
)
from gffnet.recipe import EvaluationRecipe, validated_split

log = logging.getLogger("gffnet")

SAVE_EVERY = 30.0
"""Seconds between two writes of the partial results."""

PARTIAL_FOLDER = "scored"
"""Folder of the partial results of an evaluation, in that of its results."""

LabelMap = UInt8[np.ndarray, "h w"]


def evaluate(
    model: Any = None,
    data: Any = None,
    root: str | Path | None = None,
    *,
    split: str | None = None,
    classes: Any = None,
    scales: float | Sequence[float] | None = None,
    flip: bool | None = None,
    crop: int | tuple[int, int] | Literal["none"] | None = None,
    overlap: float | None = None,
    details: bool = True,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    cache: str | Path | None = None,
) -> Result:
    """Score a model on a data set, as `gffnet evaluate` does: mIoU, pixel accuracy, boundary F, ... with the protocol.

        result = gffnet.evaluate("runs/mine", "camvid", "data/camvid", flip=True)
        result = gffnet.evaluate("runs/mine", my_dataset)
        result.scores.miou, result.scores.per_class["road"], result.scores.protocol

    Args:
        model: whatever `gffnet.load` takes (None: the model that ships), or a `Predictor`.
        data: the name of a data set; a map-style data set of (image, labels), see `MapStyleDataset`; or one of gffnet.
            None: the data set that the model was trained on.
        root: folder of a data set that is given by name.
        split: of that data set; None: the one that the run of the model validated on, else val.
        classes: of own data, which must be those of the model; None: they are.
        scales, flip, crop, overlap: how images are predicted; None: as the model's protocol says.
        details: score boundaries, distances to them and object sizes as well.
        out: folder for scores.json, scores.md, scores.html, images.csv and confusion.csv, and for partial results.
        resume: resume an interrupted evaluation into `out`.
        device, precision: as for `gffnet.load`; those of a `Predictor` are its own.
        cache: folder of the cache of a data set that is given by name; None: the one in `root`, if there is one.

    Returns:
        The scores of the data set and of its images. Under `torchrun`, call this in every rank: they share the images,
        each on its GPU, all return the same, and the first writes `out`.

    Raises:
        UserError: an argument, the model or the data are not as they should be, or have other classes.
        RunFailed: another rank failed.
        Stopped, KeyboardInterrupt: interrupted; what is scored is saved in `out`.
    """
    if resume and out is None:
        raise UserError("resume (--resume) reads the partial results in out (--out DIR). Name the folder.")
    root, cache, folder = (None if path is None else as_path(path) for path in (root, cache, out))
    if isinstance(model, Predictor):
        predictor = model
    else:
        place = device_of_rank(device)
        recorded = precision_of_partial(folder, resume, place)
        predictor = load(model, place, resumed_precision(precision, recorded))
    protocol, _ = predictor.resolve_protocol(None, {"scales": scales, "flip": flip, "crop": crop, "overlap": overlap})
    if data is None or isinstance(data, str):
        name = data or _trained_on(predictor)
        split = split or validated_split(model, name)
        dataset = open_dataset(name, root, split, cache)
    elif root is not None:
        raise UserError(f"root {str(root)!r} is the folder of a data set by name, and data is one itself: omit it.")
    else:
        known = Classes(predictor.config.classes, predictor.config.palette)
        own = classes if classes is not None or isinstance(as_gffnet(data), Dataset) else known
        dataset = as_dataset(data, own, predictor.config.model.backbone.in_channels, "data")
        name = dataset_name(dataset)
    with process_group():
        result = score_dataset(
            predictor, dataset, name, split or "val", protocol, details=details, out=folder, resume=resume
        )
        if folder is not None and rank_and_world_size()[0] == 0:
            write_result(folder, result)
            remove_partial(folder / PARTIAL_FOLDER)
    return result


def _trained_on(predictor: Predictor) -> str:
    """The name of the data set that a model was trained on."""
    name = predictor.config.dataset
    if name not in DATASETS:  # data of one's own, with or without a name
        raise UserError(
            f"data is missing: the model was trained on {name or 'data that its record does not name'}, which is none "
            f"of {', '.join(sorted(DATASETS))}. Give a data set as data, or one of these names and its root."
        )
    return name


def score_dataset(
    predictor: Predictor,
    dataset: Dataset,
    name: str,
    split: str,
    protocol: EvaluationRecipe,
    *,
    details: bool = True,
    out: Path | None = None,
    resume: bool = False,
) -> Result:
    """Predict every image of a data set and score the predictions.

    Args:
        predictor: the model.
        dataset: what to score it on.
        name, split: what `dataset` is, for the record; it need not be what the model was trained on.
        protocol: how an image is predicted.
        details: score boundaries, distances to them and object sizes as well.
        out: folder for partial results. They stay there until `remove_partial`, which belongs after writing the result.
        resume: start from the partial results in `out` rather than remove them.

    Returns:
        The scores of the data set and of its images, the same in every rank.

    Raises:
        UserError: the model was trained for other classes than the data set has, an image cannot be read, or the
            partial results are of another evaluation.
        RunFailed: another rank failed.
        Stopped, KeyboardInterrupt: interrupted; what is scored is saved in `out`.
    """
    same_classes(predictor, dataset.classes.names, name)
    dataset = images_for(predictor, dataset)
    record = protocol_record(predictor, protocol, name, split)
    partial = None
    if out is not None:
        partial = PartialResults(out / PARTIAL_FOLDER, evaluation_settings(record, dataset, details), dataset)

    def predict(image: Tensor) -> list[LabelMap]:
        return [predictor.predict(image, protocol)]

    start = time.perf_counter()
    (whole,), predicted = score_images(
        predict, predictor, dataset, range(len(dataset)), f"evaluating {split}", 1, details, partial, resume
    )
    return whole.result(dataset, record, predicted / (time.perf_counter() - start))


def score_images(
    predict: Callable[[Tensor], Iterable[LabelMap]],
    predictor: Predictor,
    dataset: Dataset,
    indices: Sequence[int],
    title: str,
    variants: int,
    details: bool,
    partial: "PartialResults | None",
    resume: bool,
) -> "tuple[list[PartialScores], int]":
    """Score the label maps that `predict` returns for each image: one for each of `variants`, such as edited gates.

    Returns:
        The scores of every variant, the same in every rank, and the number of images that were predicted.

    Raises:
        As `score_dataset`.
    """
    rank, world_size = rank_and_world_size()
    if len(precisions := sorted(set(all_gather(predictor.precision.name)))) > 1:
        raise UserError(
            f"precision auto is {' on some and '.join(precisions)} on other machines, and scores are of one: set "
            "precision (--precision)."
        )
    total = [PartialScores(len(dataset.classes.names), details) for _ in range(variants)]
    if partial is not None and rank == 0:
        if not resume:
            remove_partial(partial.folder)
        partial.load(total)
        if total[0].images:
            screen.print(f"resuming: {len(total[0].images)} images are scored")
    loaded = broadcast([scores.arrays() for scores in total])
    if rank != 0:
        _merge(total, loaded)
    left = [i for i in indices if i not in total[0].images]
    own = left[rank::world_size]
    fresh = [PartialScores(len(dataset.classes.names), details) for _ in range(variants)]
    if rank == 0 and left:
        log.info(predictor.precision.describe(predictor.device))
    _score(predict, predictor.device.type, dataset, own, title if rank == 0 else None, fresh, partial)
    for part in all_gather([scores.arrays() for scores in fresh]):
        _merge(total, part)
    return total, len(left)


def _merge(variants: "Sequence[PartialScores]", arrays: Sequence[Mapping[str, NDArray[Any]]]) -> None:
    for scores, part in zip(variants, arrays, strict=True):
        scores.merge(part)


def predict_sample(predict: Callable[[Tensor], Iterable[LabelMap]], device: str, sample: Sample) -> list[LabelMap]:
    """Return what `predict` says of the image of a sample. Raises `RunFailed` if the device cannot take it."""
    image = sample.image.as_subclass(Tensor)
    with required(torch.device(device), size_of(image), sample.name):
        return list(predict(image))


def _score(
    predict: Callable[[Tensor], Iterable[LabelMap]],
    device: str,
    dataset: Dataset,
    indices: Sequence[int],
    title: str | None,
    into: "list[PartialScores]",
    partial: "PartialResults | None",
) -> None:
    """Score images in order; with cores to spare, the next is read, and the last scored, while one is predicted."""

    done = 0

    def save() -> None:
        nonlocal done
        alike = len({len(scores.images) for scores in into}) == 1  # not so between two variants of an image
        if partial is not None and alike and all(scores.complete for scores in into):
            partial.save(into)
            done = len(into[0].images)

    save()  # a folder that cannot be written to is an error now, not after an hour
    saved = time.monotonic()

    def score(index: int, labels: LabelMap, predictions: Sequence[LabelMap]) -> None:
        nonlocal saved
        for scores, predicted in zip(into, predictions, strict=True):
            scores.update(index, labels, predicted)
        if partial is not None and time.monotonic() - saved >= SAVE_EVERY:
            save()
            saved = time.monotonic()

    shown = track(indices, title) if title is not None else indices
    try:
        with (
            io_threads(device, len(indices)) as (readers, writers),
            background_writer(min(1, writers)) as later,
            closing(prefetch(fixed_samples(dataset).__getitem__, indices, min(1, readers))) as samples,
        ):
            for index, sample in zip(shown, samples, strict=True):
                later(score, index, sample.labels.numpy(), predict_sample(predict, device, sample))
    except BaseException as error:
        if partial is None:
            raise
        with suppress(CannotWrite):
            save()
        if isinstance(error, KeyboardInterrupt | Stopped):
            message = f"{done} of {len(indices)} images are scored and saved; resume with --resume."
            raise type(error)(f"{error} {message}".strip()) from None
        raise
    save()


def images_for(predictor: Predictor, dataset: Dataset) -> Dataset:
    """Return a data set with images as the model takes them.

    Raises:
        UserError: an image has other channels.
    """
    check_bands(dataset, predictor.config.model.backbone.in_channels)
    return dataset.for_model(predictor.config.model)


def same_classes(predictor: Predictor, classes: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the classes of the model, which must be those of the data set `name`.

    Raises:
        UserError: they are others.
    """
    config = predictor.config
    if tuple(classes) != tuple(config.classes):
        remedy = f"The model was trained on {config.dataset or 'data of your own'}: name that data set."
        if config.dataset == name:
            where = " in classes.yaml" if name == "folder" else ""
            remedy = f"Name the classes{where} as the model does, in the same order, or train on these data."
        raise UserError(
            f"the model's classes are not those of {name}: "
            f"{class_difference(config.classes, classes, 'the model', name)}. {remedy}"
        )
    return tuple(config.classes)


# The protocol: scores without it cannot be compared with others


_ABSENT: Mapping[str, tuple[Absent, str]] = {
    "ade20k": ("zero", "demoEvaluation.m, its official code, averages over all 150 classes"),
    "cityscapes": ("left out", "cityscapesscripts, its official code, averages over classes that have a score"),
}
"""How the official code of a data set counts a class that is neither labelled nor predicted anywhere."""


def absent_rule(dataset: str) -> tuple[Absent, str]:
    """Say how absent classes enter the means on a data set, and why."""
    return _ABSENT.get(dataset, ("left out", "our choice: it has no official code for this"))


def protocol_record(predictor: Predictor, protocol: EvaluationRecipe, dataset: str, split: str) -> dict[str, Any]:
    """Return the protocol as plain values: what was scored, how it was predicted and by what, how it was counted."""
    absent, source = absent_rule(dataset)
    return {
        **plain(protocol),
        "dataset": dataset,
        "split": split,
        "recipe": predictor.config.recipe,
        "precision": predictor.precision.name,
        "device": str(predictor.device),
        "labels_at": "native size",
        "absent": absent,
        "absent_source": source,
        "gffnet": gffnet.__version__,
        "weights_sha256": predictor.weights,
    }


def plain(protocol: EvaluationRecipe) -> dict[str, Any]:
    """Return window, overlap, scales and flip as JSON holds them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(protocol).items()}


# Partial results


class PartialScores:
    """The scores of some images of a data set."""

    def __init__(self, num_classes: int, details: bool = True) -> None:
        self.counts = ScoreAccumulator(num_classes, details=details)
        self.images: dict[int, ImageScore] = {}
        """By index in the data set."""
        self.parts: dict[int, Int64[np.ndarray, "2 parts"]] = {}
        """With details, correct and labelled pixels of every image by band of distance, then by bin of object size."""
        self.complete = True
        """False while an image is added: an interrupt leaves it counted in part."""

    def update(self, index: int, labels: LabelMap, predicted: LabelMap) -> None:
        """Add image `index`."""
        self.complete = False
        counts = self.counts.update(labels, predicted)
        self.images[index] = score_image(labels, predicted, self.counts.num_classes)
        if self.counts.details:
            self.parts[index] = _parts(counts)
        self.complete = True

    def result(self, dataset: Dataset, protocol: dict[str, Any], images_per_second: float) -> Result:
        """Return the scores of all images; `protocol` is what `protocol_record` returns."""
        scores = dataclasses.replace(
            self.counts.compute(dataset.classes.names, absent_rule(protocol["dataset"])[0]),
            images=len(self.images),
            images_per_second=images_per_second,
            protocol=protocol,
        )
        images = [(dataset.name(i), self.images[i]) for i in sorted(self.images)]
        return Result(scores, images, self.counts.counts["confusion"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name, for `merge`."""
        of_images = {name: np.array([getattr(s, name) for s in self.images.values()]) for name in ImageScore._fields}
        arrays = {"index": np.array(list(self.images), np.int64), **of_images}
        if self.counts.details:
            rows = len(self.counts.bands) + len(self.counts.sizes) + 2
            arrays["parts"] = np.array(list(self.parts.values()), np.int64).reshape(-1, 2, rows)
        return arrays | {f"counts/{name}": counts for name, counts in self.counts.counts.items()}

    def merge(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add images that were scored elsewhere.

        Raises:
            ValueError: some of them are here already, or these are other counts.
        """
        counts = _with_prefix(arrays, "counts/")
        index = arrays["index"].tolist()
        columns = [arrays[name].tolist() for name in ImageScore._fields]
        images = {i: ImageScore(*row) for i, row in zip(index, zip(*columns, strict=True), strict=True)}
        if self.images.keys() & images.keys():
            raise ValueError("images were scored twice")
        self.counts.merge(counts)
        self.images |= images
        if self.counts.details:
            self.parts |= dict(zip(index, arrays["parts"], strict=True))


def _with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _parts(counts: NamedCounts) -> Int64[np.ndarray, "2 parts"]:
    bands, sizes = counts["distance"], counts["size"]
    correct = np.concatenate([bands.diagonal(axis1=1, axis2=2).sum(-1), sizes[..., 0].sum(1)])
    labelled = np.concatenate([bands.sum((1, 2)), sizes[..., :2].sum((1, 2))])
    return np.stack([correct, labelled])


_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile)
"""Errors of reading a damaged file of partial results."""


class PartialResults:
    """The partial results of an evaluation on disk: a file for each process that ever scored a part of it.

    Their names are random and their images differ, so any number of ranks can resume from any number.

    Args:
        folder: where the files are.
        settings: everything that the counts depend on; partial results with other settings are refused.
        dataset: whose images are scored.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dataset: Dataset) -> None:
        self.folder = folder
        self.dataset = dataset
        self.settings = json.loads(json.dumps(settings))
        self.own = folder / f"{secrets.token_hex(8)}.npz"

    def save(self, variants: Sequence[PartialScores]) -> None:
        """Write what this process has scored, in place of what it wrote before.

        Raises:
            CannotWrite: the file cannot be written.
        """
        about = {"settings": self.settings, "sizes": [[i, self._sizes(i)] for i in variants[0].images]}
        arrays = {f"{k}/{name}": array for k, scores in enumerate(variants) for name, array in scores.arrays().items()}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        atomic_write(self.own, file.getvalue(), durable=True)

    def load(self, into: Sequence[PartialScores]) -> None:
        """Add everything that is saved. Damaged files are removed, so that their images are scored again.

        Raises:
            UserError: a file is of another model, protocol or data set.
        """
        for path in _partial_files(self.folder):
            try:
                with np.load(path, allow_pickle=False) as stored:
                    about = json.loads(stored["about"].tobytes())
                    arrays = {name: stored[name] for name in stored.files}
                settings, sizes = about["settings"], about["sizes"]
            except _DAMAGED:
                screen.print(f"left out: {path} is damaged; its images are scored again", style="yellow")
                path.unlink(missing_ok=True)
                continue
            self._check(settings, sizes)
            try:
                _merge(into, [_with_prefix(arrays, f"{k}/") for k in range(len(into))])
            except ValueError as error:
                screen.print(f"left out: {path}: {error}", style="yellow")
                path.unlink(missing_ok=True)

    def _check(self, settings: Mapping[str, Any], sizes: Sequence[Any]) -> None:
        """Refuse partial results that do not belong to this evaluation."""
        hashes = {"weights_sha256": "another model", "data": "other images or labels"}
        changed = [key for key in self.settings | dict(settings) if self.settings.get(key) != settings.get(key)]
        causes = [hashes.get(key) or f"{key} {settings.get(key)} then, {self.settings.get(key)} now" for key in changed]
        if not causes:  # a file that could not be read may have been repaired since, but none that was scored
            replaced = (i for i, size in sizes if self._sizes(i) != size)
            causes = [f"the files of {self.dataset.name(i)} have changed" for i in replaced][:1]
        if causes:
            raise UserError(
                f"--resume: the partial results in {self.folder} do not fit: {'; '.join(causes)}. Give the same "
                "arguments as then, leave out --resume to start again, or choose another --out."
            )

    def _sizes(self, index: int) -> list[int]:
        """Return the bytes of an image and its label map; -1 for a file that a cache stands in for."""
        return [-1 if size is None else size for size in self.dataset.file_sizes(index)]


def _partial_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if re.fullmatch("[0-9a-f]{16}", path.stem))


def remove_partial(folder: Path) -> None:
    """Remove the files of partial results, and their folder if nothing else is in it."""
    for path in _partial_files(folder):
        path.unlink(missing_ok=True)
    remove_parts(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def saved_settings(folder: Path) -> list[dict[str, Any]]:
    """Return the settings of partial results, but for damaged files."""
    found = []
    for path in _partial_files(folder):
        with suppress(*_DAMAGED), np.load(path, allow_pickle=False) as stored:
            found.append(dict(json.loads(stored["about"].tobytes())["settings"]))
    return found


def precision_of_partial(out: Path | None, resume: bool, device: str, name: str = PARTIAL_FOLDER) -> str | None:
    """Return the precision, by its name, of partial results on this kind of device in the folder `name` of `out`.

    None: there are none, or they are not to be resumed.
    """
    if out is None or not resume:
        return None
    kind = pick_device(device).type
    return next((each["precision"] for each in saved_settings(out / name) if each.get("device") == kind), None)


def evaluation_settings(protocol: Mapping[str, Any], dataset: Dataset, details: bool) -> dict[str, Any]:
    """Return everything that the counts depend on: protocol, model and data; the files may lie elsewhere.

    The sizes of the files are not part of it: `PartialResults` compares those of scored images.
    """
    settings = {key: value for key, value in protocol.items() if key not in {"absent", "absent_source"}}
    settings["device"] = str(settings["device"]).split(":")[0]  # which of several equal ones does not matter
    return {**settings, "details": details, "data": fingerprint(dataset, sizes=False)}
