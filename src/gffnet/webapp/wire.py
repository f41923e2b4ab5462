"""Arrays and edits as they travel between page and process: JSON, with arrays as base64 of a zlib stream.

A label map compresses to a hundredth, where one byte a pixel keeps what a browser makes of it exact: no colour profile
and no lossy picture stands between a label and the pointer over it.
"""

import base64
import binascii
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gffnet.errors import UserError
from gffnet.gates.edit import Edits, GateEdit

_EFFORT = 1
"""Of zlib: it takes a third of the time of 6, for a few more bytes over a line that is none."""


def pack(*planes: NDArray[np.uint8]) -> str:
    """Bytes of arrays, one after the other."""
    content = b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes)
    return base64.b64encode(zlib.compress(content, _EFFORT)).decode()


def file_of(text: Any) -> bytes:
    """The file that a browser sent.

    Raises:
        UserError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError("the file arrived damaged: send it again.") from None


def edits_of(sent: Any) -> Edits:
    """`{"1": {"scale": 0.5, "value": null}}` → the edits of gates, whose numbers whoever applies them checks.

    Raises:
        UserError: it does not read so.
    """
    try:
        return {int(level): GateEdit(_number(edit["scale"]), _optional(edit["value"])) for level, edit in sent.items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise UserError("edits must read {level: {scale: number, value: number or null}}.") from None


def number_of(sent: Any, least: float, most: float, what: str) -> float:
    """A number in `least..most`.

    Raises:
        UserError: it is none.
    """
    try:
        number = _number(sent)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most:
        raise UserError(f"{what} must be a number in {least:g}..{most:g}.")
    return number


def _optional(sent: Any) -> float | None:
    return None if sent is None else _number(sent)


def _number(sent: Any) -> float:
    """A JSON number; neither a string that holds one nor a truth value."""
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        raise TypeError
    return float(sent)
