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

from gffnet.analysis.figures import closing_figure, gate_colours, gates_figure
from gffnet.analysis.gate_statistics import closing_statistics, gate_statistics
from gffnet.analysis.gated_image import Closing, GatedImage, GateResult
from gffnet.data.images import write_image
from gffnet.files import write_whole
from gffnet.inference.predict_files import readable
from gffnet.inference.predictor import Predictor

__all__ = ["Closing", "GateResult", "GatedImage", "close_gates", "gate_maps", "write_gates"]


def gate_maps(predictor: Predictor, image: UInt8[np.ndarray, "h w c"]) -> GateResult:
    """The learned gate maps of an image at its size, and the prediction.

    Raises:
        UserError: the model's fusion has no gates.
    """
    return GatedImage(predictor, image).learned


def close_gates(
    predictor: Predictor, image: UInt8[np.ndarray, "h w c"], levels: Sequence[int], value: float = 0.0
) -> Closing:
    """What the network sees with the gates of `levels` (1 the finest) at `value`; of no level, just what it saw before.

    Raises:
        UserError: the model's fusion has no gates, there is no such level, or no such gate value.
    """
    return GatedImage(predictor, image).close(levels, value)


def write_gates(
    predictor: Predictor, image_paths: Sequence[Path], out: Path, close: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Write figures, maps and numbers of every image into a folder of its own in `out`.

    A folder is called after its image, with a number where two images are called the same. It holds `gates.png` (the
    figure), `g1.png` ... (each map alone), `gates.npz` (arrays `g1` ..., float16), `stats.json`, and with `close` also
    `closed.png`: what the network sees with those levels' gates at zero.

    Returns:
        The content of every `stats.json`.

    Raises:
        UserError: the model has no gates or no such level, or not one image could be read.
        RunFailed: some images could not be read; all the others are written.
    """
    folders = result_folders(image_paths, out)
    images = readable(list(folders), "gate maps", out)
    return [_write_image(predictor, path, image, folders[path], close) for path, image in images]


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


def _write_image(
    predictor: Predictor, path: Path, image: np.ndarray, folder: Path, close: Sequence[int]
) -> dict[str, Any]:
    """All that is written about one image; returns its numbers."""
    classes, palette = predictor.config.classes, predictor.config.palette
    gated = GatedImage(predictor, image)
    closing = gated.close(close) if close else None
    learned = gated.learned
    stats = {
        "image": str(path),
        "model": predictor.config.recipe,
        "size": list(image.shape[:2]),
        "levels": gate_statistics(learned, classes),
        "closing": closing_statistics(closing, learned, classes) if closing else None,
    }
    for level, gate in enumerate(learned.maps, start=1):
        write_image(folder / f"g{level}.png", gate_colours(gate))
    write_whole(folder / "gates.npz", _archive(learned))
    write_image(folder / "gates.png", gates_figure(path.name, image, learned, classes, palette))
    if closing:
        write_image(folder / "closed.png", closing_figure(path.name, image, learned, closing, classes, palette))
    else:
        (folder / "closed.png").unlink(missing_ok=True)  # of an earlier call: it would not belong to these numbers
    write_whole(folder / "stats.json", json.dumps(stats, indent=1).encode())
    return stats


def _archive(result: GateResult) -> bytes:
    """The maps as a compressed archive of arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"g{level}": gate.astype(np.float16) for level, gate in enumerate(result.maps, 1)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
