"""The results of `gffnet gates`: figures, gate maps and numbers of images, in a folder for each.

OUT/stats.json                      numbers over the pixels of all images
OUT/IMAGE/stats.json                the same of one image
OUT/IMAGE/gates.png                 figure of the image, its prediction and its gates (Figures 6 and 7a)
OUT/IMAGE/closed.png                figure of what closing gates changes (Figure 7b), if any are closed
OUT/IMAGE/g1.png ..., gates.npz     every gate map alone: colored, and as float16 arrays `g1` ...

`gates.npz` is the first file of a folder, by which a later call knows its own.
"""

import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gffnet.data.colors import displayable
from gffnet.data.dataset import Truth
from gffnet.data.io import write_image
from gffnet.errors import RunFailed, UserError
from gffnet.files import atomic_write, exists, holds_files, is_result, utf8, write_json
from gffnet.gates.edit import GatedImage
from gffnet.gates.figures import closing_figure, gate_colors, gates_figure
from gffnet.gates.statistics import GateStatistics
from gffnet.inference.batch import Notices, for_each_readable
from gffnet.inference.predictor import Predictor


def write_gates(
    predictor: Predictor,
    image_paths: Sequence[Path],
    out: Path,
    closings: Sequence[Sequence[int]] = (),
    value: float = 0.0,
    truth: Truth | None = None,
    scale: float | None = None,
) -> dict[str, Any]:
    """Write figures, maps and numbers of every image into a folder of its own in `out`.

    Args:
        predictor: the model.
        image_paths: the images.
        out: where to write; see the top of this module and `result_folders`.
        closings: levels of the gates to close, for each row of `closed.png`.
        value: what those gates are held at, in 0..1.
        truth: labels of images, where they are known: then `closed.png` and the numbers also say what becomes wrong.
        scale: factor by which images are resized; None: as `predict` does.

    Returns:
        The content of `out/stats.json`, and as `by_image` that of every other `stats.json`.

    Raises:
        UserError: the model has no gates or no such level, files of others would be replaced, or every image was left
            out.
        RunFailed: some images were left out; the results of all the others are written, and its `result`.
    """
    levels = [tuple(sorted(set(closing))) for closing in closings]
    classes, palette = predictor.config.classes, predictor.config.palette
    folders = result_folders(image_paths, out)
    refuse_replacing(image_paths, [out / "stats.json"], folders.values())
    notices = Notices(predictor, "--scale 1 keeps their size")
    total = GateStatistics(classes)
    by_image: list[dict[str, Any]] = []

    def numbers(statistics: GateStatistics) -> dict[str, Any]:
        return {
            "model": predictor.config.recipe,
            "pixels": statistics.pixels,
            "pixel_accuracy": statistics.pixel_accuracy(),
            "levels": statistics.levels(),
            "value": value if levels else None,
            "closings": statistics.closings(),
        }

    def write_one(path: Path, image: np.ndarray, folder: Path) -> None:
        size = (image.shape[0], image.shape[1])
        gated = GatedImage(predictor, image, scale)
        closed = [gated.close(each, value) for each in levels]
        notices.before(size, scale)  # not earlier: a command that is refused prints one line
        labels = truth.labels(path) if truth is not None else None
        statistics = GateStatistics(classes)
        statistics.add(gated.learned, closed, labels)
        maps = dict(enumerate(gated.learned.maps, start=1))
        arrays: dict[str, Any] = {f"g{level}": gate.astype(np.float16) for level, gate in maps.items()}
        archive, picture = io.BytesIO(), displayable(image)
        np.savez_compressed(archive, **arrays)
        atomic_write(folder / "gates.npz", archive.getvalue())
        for level, gate in maps.items():
            write_image(folder / f"g{level}.png", gate_colors(gate))
        for old in folder.glob("g*.png"):  # of an earlier call, of a network with more gates
            if (number := re.fullmatch(r"g(\d+)", old.stem)) and int(number[1]) not in maps:
                old.unlink()
        name = utf8(path.name).decode()
        write_image(folder / "gates.png", gates_figure(name, picture, gated.learned, classes, palette))
        if closed:
            figure = closing_figure(name, picture, gated.learned, closed, classes, palette, value, labels)
            write_image(folder / "closed.png", figure)
        else:
            (folder / "closed.png").unlink(missing_ok=True)  # of an earlier call: it would not belong to these numbers
        sizes = {"size": list(size), "seen_at": list(gated.input_size)}
        found = {"image": str(path), **sizes, **numbers(statistics)}
        write_json(folder / "stats.json", found)
        by_image.append(found)
        total.merge(statistics)

    def write_summary() -> dict[str, Any]:
        summary = {"images": len(by_image), **numbers(total)}
        if by_image:
            write_json(out / "stats.json", summary)
        return summary

    try:
        for_each_readable(
            predictor, list(folders), "gate maps", out, lambda path, image: write_one(path, image, folders[path])
        )
    except RunFailed as failed:
        failed.result = {**write_summary(), "by_image": by_image}
        raise
    return {**write_summary(), "by_image": by_image}


def result_folders(image_paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Return the folder in `out` of every image: its name without suffix, numbered where names repeat."""
    folders: dict[Path, Path] = {}
    taken = {path.stem for path in image_paths}
    used: set[str] = set()
    for path in dict.fromkeys(image_paths):
        name, number = path.stem, 1
        while name in used or (number > 1 and name in taken):
            number += 1
            name = f"{path.stem}-{number}"
        used.add(name)
        folders[path] = out / name
    return folders


def refuse_replacing(images: Sequence[Path], files: Iterable[Path] = (), within: Iterable[Path] = ()) -> None:
    """Raise `UserError` if an image is one of the `files` that will be written, or lies in one of the folders.

    Also if a file or folder that will be written is there already, and no record says that it is of an earlier command.
    """
    files, within = [*files], [*within]
    taken = {Path(os.path.realpath(path.parent)) / path.name for path in files}
    folders = {Path(os.path.realpath(path)) for path in within}
    for image in images:
        if (at := Path(os.path.realpath(image.parent))) in folders or at / image.name in taken:
            raise UserError(f"image {image} is where results would be written: choose another --out.")
    for path in filter(exists, (*files, *within)):
        empty = path in within and path.is_dir() and not holds_files(path)
        if not empty and not is_result(path):
            raise UserError(f"{path} is there already, and is not of an earlier command: choose another --out.")
