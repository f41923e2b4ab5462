"""Prediction of many files: label maps, colour maps and overlays, each written whole or not at all."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gffnet.console import screen, track
from gffnet.data.colour import colourise, overlay
from gffnet.data.images import image_files, read_image, write_image, write_labels
from gffnet.errors import RunFailed, UserError
from gffnet.inference.predictor import Predictor


def predict_files(predictor: Predictor, inputs: Sequence[Path], out: Path, shard: tuple[int, int] = (1, 1)) -> int:
    """Predict image files and folders of them into `out/labels`, `out/colour` and `out/overlay`, as PNG.

    Args:
        predictor: the model.
        inputs: image files, and folders, which are searched to any depth.
        out: where the results go; files of a folder keep their place in it.
        shard: (i, n) takes every n-th image from the i-th on, counted from 1, for n processes side by side.

    Returns:
        How many images were written.

    Raises:
        UserError: an input does not exist, not one image could be read, the model takes other images, or a result
            cannot be written.
        RunFailed: some images could not be read; all the others are written.
    """
    names = result_names(inputs)
    mine = dict(list(names.items())[shard[0] - 1 :: shard[1]])
    for path, image in readable(list(mine), "predicting", out):
        _predict_image(predictor, image, out, mine[path])
    return len(mine)


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


def result_names(inputs: Sequence[Path]) -> dict[Path, Path]:
    """Every image file under `inputs`, with the path of its results, relative and without suffix.

    A file named by itself is called by its name, a file in a folder by its place in that folder. Where two would be
    called the same (`a.jpg` and `a.png`), both keep their suffix.

    Raises:
        UserError: an input does not exist or holds no image, or two files would be called the same all the same.
    """
    places: dict[Path, Path] = {}
    seen = set()
    for path in inputs:
        for file in image_files([path]):
            if (one := os.path.normpath(file.absolute())) not in seen:  # however it is spelled
                seen.add(one)
                places[file] = file.relative_to(path) if path.is_dir() else Path(file.name)
    short = Counter(place.with_suffix("") for place in places.values())
    names = {
        file: place.with_suffix("") if short[place.with_suffix("")] == 1 else place for file, place in places.items()
    }
    taken: dict[Path, Path] = {}
    for file, name in names.items():
        if name in taken:
            raise UserError(
                f"inputs {taken[name]} and {file} would both be written as {name}. Predict them into different folders."
            )
        taken[name] = file
    return names


def _predict_image(predictor: Predictor, image: NDArray[np.uint8], out: Path, name: Path) -> None:
    """Predict one image and write its three results."""
    labels = predictor.predict(image)
    file = name.with_name(name.name + ".png")
    write_labels(out / "labels" / file, labels)
    write_image(out / "colour" / file, colourise(labels, predictor.config.palette))
    write_image(out / "overlay" / file, overlay(image, labels, predictor.config.palette))
