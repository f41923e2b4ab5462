"""What the explorer does: open an image, fuse it with edited gates, save the results.

Requests are JSON and validated here. Answers are JSON, too, with arrays as base64 of a zlib stream of bytes: a label
map compresses to a hundredth and, unlike a picture, reaches the page exactly, whatever its color profile.
"""

import base64
import io
import json
import time
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Annotated, Any

import numpy as np
from jaxtyping import Num
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from gffnet.app.session import Prediction, Session, SessionCache, open_session, reduce_image
from gffnet.app.uploads import MAX_BYTES, read_upload
from gffnet.data.colors import MARK, colorize, highlight, overlay
from gffnet.data.io import encode_image
from gffnet.errors import UserError
from gffnet.gates.edit import Edits, GateEdit, edit_gates, gate_map
from gffnet.gates.figures import color_table, gate_colors
from gffnet.inference.predictor import Predictor
from gffnet.streets.scene import MIN_SIZE, render_street

Answer = dict[str, Any]

SCENES = (36, 8, 5)
"""Seeds of street scenes that the model that ships recognises well. The page opens the first at once."""

_THUMBNAIL_SIZE = (96, 192)


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, val_json_bytes="base64")


class OpenRequest(_Request):
    """Open an uploaded file or an example scene with a model."""

    model: Annotated[int, Field(ge=0)]
    file: bytes | None = None
    scene: Annotated[int, Field(ge=0, lt=len(SCENES))] | None = None
    replaces: str | None = None
    """Key of a session that is no longer needed."""


class FuseRequest(_Request):
    """Predict with edited gates."""

    key: str
    edits: dict[int, GateEdit]
    preview: bool = False


class SaveRequest(_Request):
    """Download the results with edited gates; `opacity` of the colors in `overlay.png`."""

    key: str
    edits: dict[int, GateEdit]
    opacity: Annotated[float, Field(ge=0, le=1)]


class Explorer:
    """Models, the sessions opened with them, and the answers to requests."""

    def __init__(self, predictors: Sequence[Predictor], names: Sequence[str], max_side: int) -> None:
        """`names`: one per model; `max_side`: pixels to which the longer side of an image is reduced.

        Raises:
            UserError: a model is an exported file.
        """
        for predictor in predictors:
            _ = predictor.network
        self._predictors = tuple(predictors)
        self._names = tuple(names)
        self._max_side = max_side
        self._sessions = SessionCache()
        width = max(max_side, MIN_SIZE[1])
        self._scene = lru_cache(len(SCENES))(lambda number: render_street(SCENES[number], (width // 2, width)).image)
        self._scene_session = lru_cache(1)(lambda model, number: self._encode(model, self._example(model, number)))

    def page(self) -> Answer:
        """Return what the page needs before an image is opened."""
        return {
            "models": self._names,
            "max_side": self._max_side,
            "max_bytes": MAX_BYTES,
            "scenes": _thumbnails(),
            "thumbnail_size": _THUMBNAIL_SIZE,
            "colormap": pack(color_table()),
            "mark": MARK,
        }

    def warm_up(self) -> None:
        """Prepare what the page opens at once: the first scene with the first model."""
        with suppress(RuntimeError, MemoryError, UserError):  # the page asks again, and says it
            self._scene_session(0, 0)

    def open(self, request: OpenRequest) -> Answer:
        """Encode an image; returns it with its prediction, its gates and the key of its session.

        Raises:
            UserError: there is no such model, or the file is refused.
        """
        started = time.perf_counter()
        if request.model >= len(self._predictors):
            raise UserError(f"model {request.model} does not exist: there are {len(self._predictors)}, from 0.")
        predictor = self._predictors[request.model]
        if request.file is not None:
            original = read_upload(request.file, self._max_side, predictor.config.model)
            session = self._encode(request.model, original)
        elif request.scene is not None:
            original = self._scene(request.scene)
            session = self._scene_session(request.model, request.scene)
        else:
            raise UserError("there is nothing to open: send a file or the number of a scene.")
        self._sessions.drop(request.replaces)
        return {
            "key": self._sessions.put(session),
            "size": session.image.shape[:2],
            "input_size": session.input_size,
            "original_size": original.shape[:2],
            "classes": predictor.config.classes,
            "palette": predictor.config.palette,
            "image": pack(session.image),
            "preview": session.learned_preview and pack(*session.learned_preview),
            "gates": [_gate(session, level) for level in range(1, len(session.gates) + 1)],
            "without": None if session.gates else _why_no_gates(predictor),
            "prediction": pack(*session.learned),
            "milliseconds": _milliseconds_since(started),
        }

    def _example(self, model: int, number: int) -> Num[np.ndarray, "h w c"]:
        """A scene as a model takes it, whose images may be grayscale. Raises `UserError` if it takes other channels."""
        try:
            return read_upload(_png(self._scene(number)), self._max_side, self._predictors[model].config.model)
        except UserError as error:
            raise UserError(f"the example scenes are not for this model, open a file of yours: {error}") from None

    def _encode(self, model: int, original: Num[np.ndarray, "h w c"]) -> Session:
        return open_session(self._predictors[model], reduce_image(original, self._max_side))

    def fuse(self, request: FuseRequest) -> Answer:
        """Predict with edited gates; returns the prediction and the fractions of pixels that changed.

        Raises:
            SessionExpired: the image must be opened again.
            UserError: a level does not exist, or a scale or value is out of range.
        """
        started = time.perf_counter()
        session = self._sessions.get(request.key)
        preview = request.preview and session.preview is not None
        prediction = session.predict(request.edits, preview)
        return {
            "preview": preview,
            "changes": session.changes(prediction, preview)._asdict(),
            "prediction": pack(*prediction),
            "milliseconds": _milliseconds_since(started),
        }

    def save(self, request: SaveRequest) -> bytes:
        """Return the results with edited gates as a ZIP file, see `archive`. Raises as `fuse`."""
        return archive(self._sessions.get(request.key), request.edits, request.opacity)


@cache
def _thumbnails() -> list[str]:
    return [pack(render_street(seed, _THUMBNAIL_SIZE).image) for seed in SCENES]


def pack(*planes: NDArray[np.uint8]) -> str:
    """Concatenate arrays, compress them and encode the bytes as base64."""
    content = b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)
    # Level 1 takes a third of the time of 6, for a few more bytes over the loopback interface.
    return base64.b64encode(zlib.compress(content, 1)).decode()


def archive(session: Session, edits: Edits, opacity: float) -> bytes:
    """Write the results with edited gates to a ZIP file.

    `labels.png`: class ids; `colour.png`; `overlay.png`, the colors with `opacity`, 0..1, over the image; `image.png`;
    `settings.json`: model, edits, classes, and what changed. For a model with gates also `gates.npz`: arrays `g1` ...
    as learned and `used1` ... as edited, float16, at the size of the image; `g1.png` ...: the edited ones; and
    `changed.png`: the pixels that changed.

    Raises:
        UserError: a level does not exist, or a scale or value is out of range.
    """
    palette = session.predictor.config.palette
    prediction = session.predict(edits)
    labels = prediction.labels
    files = {
        "image.png": _png(session.image),
        "labels.png": _png(labels),
        "colour.png": _png(colorize(labels, palette)),
        "overlay.png": _png(overlay(session.image, labels, palette, opacity)),
        "settings.json": json.dumps(_settings(session, edits, prediction, opacity), indent=1).encode(),
    }
    if session.gates:
        learned = [gate_map(gate, labels.shape) for gate in session.gates]
        used = [gate_map(gate, labels.shape) for gate in edit_gates(session.gates, edits)]
        maps = {f"g{level}": gate for level, gate in enumerate(learned, 1)}
        maps |= {f"used{level}": gate for level, gate in enumerate(used, 1)}
        arrays: dict[str, Any] = {name: gate.astype(np.float16) for name, gate in maps.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        files["gates.npz"] = buffer.getvalue()
        files |= {f"g{level}.png": _png(gate_colors(gate)) for level, gate in enumerate(used, 1)}
        files["changed.png"] = _png(highlight(session.image, labels != session.learned.labels))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:  # every file is compressed already
        for name, content in files.items():
            file.writestr(name, content)
    return packed.getvalue()


def _settings(session: Session, edits: Edits, prediction: Prediction, opacity: float) -> Answer:
    """Return the settings and scores of an archive."""
    config = session.predictor.config
    changes = session.changes(prediction)
    return {
        "model": config.recipe,
        "weights_sha256": session.predictor.weights,
        "precision": session.predictor.precision.name,
        "size": list(session.learned.labels.shape),
        "opacity": opacity,
        "gates": {
            f"g{level}": {"scale": edit.scale, "value": edit.value} for level, edit in edits.items() if edit.changes
        },
        "classes": list(config.classes),
        "changed": {
            "share": changes.share,
            "by_class": {config.classes[label]: share for label, share in changes.by_class.items()},
            "by_distance": changes.by_distance,
        },
    }


def _png(pixels: np.ndarray) -> bytes:
    return encode_image(Image.fromarray(pixels), "PNG", compress_level=3)


def _gate(session: Session, level: int) -> Answer:
    """A gate map at a quarter of the image's resolution, the highest that a gate has.

    `map` has 256 steps from `low` to `high`, its extremes; `shown` is the range for its colors, without outliers.
    """
    gate = session.gates[level - 1]
    height, width = session.image.shape[:2]
    size = (max(1, height // 4), max(1, width // 4))
    values = gate_map(gate, size)
    low, high = float(values.min()), float(values.max())
    steps = np.rint(255 * (values - low) / max(high - low, 1e-6)).astype(np.uint8)
    first, last = (float(end) for end in np.percentile(values, (1, 99)))
    return {
        "level": level,
        "mean": float(gate.float().mean()),
        "stride": round(session.input_size[0] / gate.shape[-2]),
        "size": size,
        "map": pack(steps),
        "low": low,
        "high": high,
        "shown": (first, max(last, first + 0.01)),
    }


def _why_no_gates(predictor: Predictor) -> str:
    fusion = predictor.config.model.fusion
    kind = "has no fusion" if predictor.network.fusion is None else f"fuses by {fusion!r}, which has no gates"
    return f"Model {predictor.config.recipe!r} {kind}, so there are no gates to edit. This is its prediction."


def _milliseconds_since(started: float) -> int:
    return round(1000 * (time.perf_counter() - started))
