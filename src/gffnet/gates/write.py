"""Gates as values: to look at, to measure, to close (the paper's Figures 6 and 7).

`gate_maps` and `close_gates` answer one question each; whoever has several about one image asks a `GatedImage`, which
encodes it once. `write_gates` does it for files: figures, maps, numbers.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from gffnet.data.dataset import Truth
from gffnet.data.io import write_image
from gffnet.errors import RunFailed
from gffnet.files import atomic_write
from gffnet.gates.edit import Closing, GatedImage, GateResult
from gffnet.gates.figures import closing_figure, gate_colors, gates_figure
from gffnet.gates.statistics import GateStatistics
from gffnet.inference.batch import Notices, readable
from gffnet.inference.predictor import Predictor

__all__ = ["Closing", "GateResult", "GatedImage", "close_gates", "gate_maps", "write_gates"]


def gate_maps(predictor: Predictor, image: UInt8[np.ndarray, "h w c"], scale: float | None = None) -> GateResult:
    """The learned gate maps of an image at its size, and the prediction; `scale` as `GatedImage` has it.

    Raises:
        UserError: the model's fusion has no gates.
    """
    return GatedImage(predictor, image, scale).learned


def close_gates(
    predictor: Predictor,
    image: UInt8[np.ndarray, "h w c"],
    levels: Sequence[int],
    value: float = 0.0,
    scale: float | None = None,
) -> Closing:
    """What the network sees with the gates of `levels` (1 the finest) at `value`; of no level, just what it saw before.

    `scale` as `GatedImage` has it.

    Raises:
        UserError: the model's fusion has no gates, there is no such level, or no such gate value.
    """
    return GatedImage(predictor, image, scale).close(levels, value)


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

    A folder is called after its image, with a number where two images are called the same. It holds `gates.png` (the
    figure), `g1.png` ... (each map alone), `gates.npz` (arrays `g1` ..., float16), `stats.json`, and with `closings`
    also `closed.png`: what the network sees with the gates of each of them at `value`, and, where `truth` knows the
    labels, what becomes wrong. The numbers over the pixels of all images stand in `out/stats.json`. Images are seen at
    `scale`; None: as `predict` sees them.

    Returns:
        The content of `out/stats.json`, and as `by_image` that of every other `stats.json`.

    Raises:
        UserError: the model has no gates or no such level, or not one image could be read.
        RunFailed: some images could not be read; all the others are written.
    """
    folders = result_folders(image_paths, out)
    job = _Job(predictor, tuple(tuple(sorted(set(levels))) for levels in closings), value, truth or Truth([]), scale)
    try:
        for path, image in readable(list(folders), "gate maps", out):
            job.write_image(path, image, folders[path])
    except RunFailed:
        job.write_summary(out)
        raise
    return {**job.write_summary(out), "by_image": job.images}


def result_folders(image_paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The folder in `out` of every image: its name without suffix, numbered from the second of a name on."""
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


class _Job:
    """What writing one image after the other shares."""

    def __init__(
        self,
        predictor: Predictor,
        closings: Sequence[tuple[int, ...]],
        value: float,
        truth: Truth,
        scale: float | None,
    ) -> None:
        self._predictor, self._closings, self._value, self._truth = predictor, closings, value, truth
        self._scale = scale
        self._all = GateStatistics(predictor.config.classes)
        self._announcement = Notices(predictor, "--scale 1 keeps their size")
        self.images: list[dict[str, Any]] = []
        """The numbers of every image."""

    def write_image(self, path: Path, image: np.ndarray, folder: Path) -> None:
        """Write all that there is about one image."""
        classes, palette = self._predictor.config.classes, self._predictor.config.palette
        size = (image.shape[0], image.shape[1])
        gated = GatedImage(self._predictor, image, self._scale)
        closings = [gated.close(levels, self._value) for levels in self._closings]
        self._announcement.before(size, self._scale)  # not earlier: what is refused is refused in one line
        learned, truth = gated.learned, self._truth.labels(path)
        own = GateStatistics(classes)
        own.add(learned, closings, truth)
        self._all.merge(own)
        sizes = {"size": list(size), "seen_at": list(gated.seen)}
        self.images.append({"image": str(path), **sizes, **self._numbers(own)})
        for level, gate in enumerate(learned.maps, start=1):
            write_image(folder / f"g{level}.png", gate_colors(gate))
        atomic_write(folder / "gates.npz", _archive(learned))
        write_image(folder / "gates.png", gates_figure(path.name, image, learned, classes, palette))
        if closings:
            figure = closing_figure(path.name, image, learned, closings, classes, palette, self._value, truth)
            write_image(folder / "closed.png", figure)
        else:
            (folder / "closed.png").unlink(missing_ok=True)  # of an earlier call: it would not belong to these numbers
        _write(folder / "stats.json", self.images[-1])

    def write_summary(self, out: Path) -> dict[str, Any]:
        """Write the numbers of all images together."""
        summary = {"images": len(self.images), **self._numbers(self._all)}
        if self.images:
            _write(out / "stats.json", summary)
        return summary

    def _numbers(self, statistics: GateStatistics) -> dict[str, Any]:
        return {
            "model": self._predictor.config.recipe,
            "pixels": statistics.pixels,
            "pixel_accuracy": statistics.pixel_accuracy(),
            "levels": statistics.levels(),
            "value": self._value if self._closings else None,
            "closings": statistics.closings(),
        }


def _write(path: Path, numbers: dict[str, Any]) -> None:
    """Write numbers as JSON."""
    atomic_write(path, (json.dumps(numbers, indent=1) + "\n").encode())


def _archive(result: GateResult) -> bytes:
    """The maps as a compressed archive of arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"g{level}": gate.astype(np.float16) for level, gate in enumerate(result.maps, 1)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
