"""What the page asks of this process, and the answers: open an image, fuse it with edited gates, save the results.

Questions and answers are JSON. Every question is answered: what cannot be done is `{"error": why}`. One thread works
on them, one after the other, since each takes all cores; a page has at most one question on its way.
"""

import base64
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from gffnet.data.colors import MARK
from gffnet.errors import UserError
from gffnet.gates.edit import gate_map
from gffnet.gates.figures import colour_table
from gffnet.inference.predictor import Predictor
from gffnet.streets.scene import LEAST, render_street
from gffnet.webapp.archive import archive
from gffnet.webapp.session import Seen, Session, open_session, reduced
from gffnet.webapp.shelf import Shelf
from gffnet.webapp.uploads import MOST_BYTES, read_upload
from gffnet.webapp.wire import edits_of, file_of, number_of, pack

Answer = dict[str, Any]

SCENES = (11, 23, 42)
"""Seeds of the street scenes that are there without an upload."""

_THUMBNAIL = (96, 192)


class Explorer:
    """Models, sessions, and the answers."""

    def __init__(self, predictors: Sequence[Predictor], names: Sequence[str], most: int) -> None:
        """`names`: one a model; `most`: pixels that the longer side of an image is reduced to."""
        self._predictors = tuple(predictors)
        self._names = tuple(names)
        self._most = most
        self._shelf = Shelf()
        self._worker = ThreadPoolExecutor(1, "explorer")
        self._scene = lru_cache(len(SCENES))(lambda seed: render_street(seed, self._scene_size()).image)

    def page(self) -> Answer:
        """What the page needs before an image is opened."""
        return {
            "models": self._names,
            "most": self._most,
            "bytes": MOST_BYTES,
            "scenes": [pack(render_street(seed, _THUMBNAIL).image) for seed in SCENES],
            "thumbnail": _THUMBNAIL,
            "colours": pack(colour_table()),
            "mark": MARK,
        }

    def open(self, asked: Any) -> Answer:
        """`{model, scene or file, replaces}` → the image, what is seen in it, and its gates, under a key."""
        return self._answered(self._open, asked)

    def fuse(self, asked: Any) -> Answer:
        """`{key, edits, quick}` → what is seen with edited gates, and which share of the pixels changed."""
        return self._answered(self._fuse, asked)

    def save(self, asked: Any) -> Answer:
        """`{key, edits, opacity}` → an archive of results."""
        return self._answered(self._save, asked)

    def close(self) -> None:
        """Answer nothing that is still waiting."""
        self._worker.shutdown(cancel_futures=True)

    def _answered(self, answer: Callable[[dict[str, Any]], Answer], asked: Any) -> Answer:
        """An answer from the one thread that works, whatever happens there."""
        if not isinstance(asked, dict):
            return {"error": "a question is a JSON object."}
        try:
            return self._worker.submit(answer, asked).result()
        except UserError as error:
            return {"error": str(error)}
        except (RuntimeError, MemoryError) as error:  # torch: no memory left, an image that the network cannot take
            lines = str(error).splitlines()
            return {"error": f"the network cannot take this image: {lines[0] if lines else 'no memory left'}"}

    def _open(self, asked: dict[str, Any]) -> Answer:
        started = time.perf_counter()
        predictor = self._predictors[int(number_of(asked.get("model"), 0, len(self._predictors) - 1, "model"))]
        if "file" in asked:
            whole = read_upload(file_of(asked["file"]), self._most)
        else:
            whole = self._scene(SCENES[int(number_of(asked.get("scene"), 0, len(SCENES) - 1, "scene"))])
        session = open_session(predictor, reduced(whole, self._most))
        self._shelf.drop(asked.get("replaces"))
        config = predictor.config
        return {
            "key": self._shelf.put(session),
            "size": session.image.shape[:2],
            "seen_at": session.seen_size,
            "whole": whole.shape[:2],
            "classes": config.classes,
            "palette": config.palette,
            "image": pack(session.image),
            "halves": session.coarse is not None,
            "gates": [_drawn(session, level) for level in range(1, len(session.gates) + 1)],
            "without": None if session.gates else _why_no_gates(predictor),
            **_told(session.learned, started),
        }

    def _fuse(self, asked: dict[str, Any]) -> Answer:
        started = time.perf_counter()
        session = self._shelf.get(asked.get("key"))
        if session is None:
            return {"expired": True}
        quick = bool(asked.get("quick")) and session.coarse is not None
        seen = session.see(edits_of(asked.get("edits")), quick)
        changes = session.changes(seen)
        by_class = {str(label): share for label, share in changes.by_class.items()}  # JSON's keys are text
        return {"quick": quick, "changes": {**changes._asdict(), "by_class": by_class}, **_told(seen, started)}

    def _save(self, asked: dict[str, Any]) -> Answer:
        session = self._shelf.get(asked.get("key"))
        if session is None:
            return {"expired": True}
        content = archive(session, edits_of(asked.get("edits")), number_of(asked.get("opacity"), 0, 1, "opacity"))
        return {"zip": base64.b64encode(content).decode()}

    def _scene_size(self) -> tuple[int, int]:
        """Height and width of the street scenes: a half by one of the longest side."""
        width = max(self._most, LEAST[1])
        return width // 2, width


def _told(seen: Seen, started: float) -> Answer:
    return {"seen": pack(*seen), "milliseconds": round(1000 * (time.perf_counter() - started))}


def _drawn(session: Session, level: int) -> Answer:
    """A gate for the page: at a quarter of the image's sides, where all that a gate has is seen, in 256 steps."""
    gate = session.gates[level - 1]
    height, width = session.image.shape[:2]
    size = (max(1, height // 4), max(1, width // 4))
    steps = np.rint(255 * gate_map(gate, size)).astype(np.uint8)
    stride = round(session.seen_size[0] / gate.shape[-2])
    return {"level": level, "mean": float(gate.float().mean()), "stride": stride, "size": size, "map": pack(steps)}


def _why_no_gates(predictor: Predictor) -> str:
    fusion = predictor.config.model.fusion
    kind = "has no fusion" if predictor.network.fusion is None else f"fuses by {fusion!r}, which has no gates"
    return f"Model {predictor.config.recipe!r} {kind}, so there is nothing to move: this is what it sees."
