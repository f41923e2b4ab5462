"""What a person saw, as files in one archive."""

import io
import json
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from gffnet.data.colors import colourise, highlight, overlay
from gffnet.gates.edit import Edits, edit_gates, gate_map
from gffnet.gates.figures import gate_colours
from gffnet.webapp.session import Seen, Session


def archive(session: Session, edits: Edits, opacity: float) -> bytes:
    """A ZIP file of what is seen with edited gates.

    `labels.png`: class ids; `colour.png`; `overlay.png`, the colours with `opacity`, 0..1, over the image; `image.png`;
    `settings.json`: model, edits, classes, and what changed. Of a model with gates also `gates.npz`: arrays `g1` ... as
    learned and `used1` ... as edited, float16, of the size of the image; `g1.png` ...: those that were used; and
    `changed.png`: the pixels that changed.

    Raises:
        UserError: there is no such level, scale or value.
    """
    config = session.predictor.config
    seen = session.see(edits)
    size = seen.labels.shape
    files = {
        "image.png": _png(session.image),
        "labels.png": _png(seen.labels),
        "colour.png": _png(colourise(seen.labels, config.palette)),
        "overlay.png": _png(overlay(session.image, seen.labels, config.palette, opacity)),
        "settings.json": json.dumps(_settings(session, edits, seen, opacity), indent=1).encode(),
    }
    if session.gates:
        used = [gate_map(gate, size) for gate in edit_gates(session.gates, edits)]
        maps = {f"g{level}": gate for level, gate in enumerate(session.maps, 1)}
        maps |= {f"used{level}": gate for level, gate in enumerate(used, 1)}
        arrays: dict[str, Any] = {name: gate.astype(np.float16) for name, gate in maps.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        files["gates.npz"] = buffer.getvalue()
        files |= {f"g{level}.png": _png(gate_colours(gate)) for level, gate in enumerate(used, 1)}
        files["changed.png"] = _png(highlight(session.image, seen.labels != session.learned.labels))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:  # all of it is compressed already
        for name, content in files.items():
            file.writestr(name, content)
    return packed.getvalue()


def _settings(session: Session, edits: Edits, seen: Seen, opacity: float) -> dict[str, Any]:
    """What the files were made with."""
    config = session.predictor.config
    changes = session.changes(seen)
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
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
