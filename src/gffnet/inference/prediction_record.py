"""`predict.json`: what made the predictions in a folder, so that those of different models are never mixed."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from gffnet.errors import CannotWrite, UserError
from gffnet.files import write_whole
from gffnet.inference.fitting_scale import fitted_to
from gffnet.inference.predictor import Predictor

RECORD = "predict.json"
_SINCE = "since"
"""In the record of a folder whose predictions were replaced: its time when that began, in seconds."""


def open_folder(out: Path, predictor: Predictor, results: tuple[str, ...], overwrite: bool) -> float:
    """Make `out` a folder for the predictions of `predictor`. Several processes may do so at once.

    Args:
        out: new, or with predictions.
        predictor: the model.
        results: names of the folders of predictions in it.
        overwrite: take the folder over from another model.

    Returns:
        From which time on files in it are of this model, in seconds: 0 unless another's were replaced.

    Raises:
        UserError: it holds predictions of another model, protocol, precision or classes, or of none knows which.
        CannotWrite: it cannot be written to.
    """
    used = [name for name in results if (out / name).exists()]  # before the record is read: others write it first
    there, now = _read(out), describe(predictor)
    if there is None and used and not overwrite:
        raise UserError(
            f"folder {out} holds {used[0]}/, but no {RECORD} that says of which model. Choose another --out, or "
            "predict everything anew with --overwrite."
        )
    if there is None or (overwrite and differences(there, now)):
        since = _clock(out) if used else 0.0
        write_whole(out / RECORD, json.dumps({**now, _SINCE: since}, indent=1).encode())
        there = _read(out) or now  # another process may have written it, too
    if differing := differences(there, now):
        raise UserError(
            f"folder {out} holds predictions that were made otherwise: {'; '.join(differing)}. Choose another --out, "
            "or predict everything anew with --overwrite."
        )
    return float(there.get(_SINCE, 0.0))


def is_done(file: Path, since: float) -> bool:
    """Whether a result is there and not older than `since`; it is whole, if it is there."""
    try:
        return file.stat().st_mtime >= since
    except OSError:
        return False


def describe(predictor: Predictor) -> dict[str, Any]:
    """All that predictions depend on besides the images, as JSON holds it."""
    config = predictor.config
    usual = fitted_to(config.evaluation, config.learned_from)
    described = {
        "recipe": config.recipe,
        "weights": predictor.weights,
        "protocol": dataclasses.asdict(config.evaluation),
        "large_images": None if usual is None else f"seen as if of {usual[1]}x{usual[0]}",
        "precision": predictor.precision.name,
        "classes": config.classes,
        "palette": config.palette,
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two descriptions, in words."""
    found = []
    for key, wanted in now.items():
        held = there.get(key)
        if held == wanted:
            continue
        if key == "weights":
            held, wanted = str(held)[:12], wanted[:12]
        brief = key not in {"classes", "palette"}
        found.append(f"{key} {_say(held)} there, {_say(wanted)} now" if brief else f"other {key}")
    return found


def _say(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_say(part)}" for key, part in value.items()) + ")"
    if isinstance(value, list):
        return "x".join(map(str, value))
    return str(value)


def _read(out: Path) -> dict[str, Any] | None:
    """The record of a folder; None where there is none."""
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        record = str(error)
    if not isinstance(record, dict):
        raise UserError(f"{path} is no record of predictions. Choose another --out, or remove it.")
    return record


def _clock(out: Path) -> float:
    """The time as the files of `out` have it: on a network drive, its server's."""
    try:
        os.utime(out)
        return out.stat().st_mtime
    except OSError as error:
        raise CannotWrite(f"cannot write {out}: {error.strerror or error}. Choose a folder of your own.") from None
