"""What a `classes.yaml` that is missing could say, as far as the masks show it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gffnet.data.catalog import IGNORE
from gffnet.data.colour_masks import pack, read_colours
from gffnet.data.images import image_files, read_header, read_labels
from gffnet.errors import UserError

LOOKED_AT = 50
"""Masks that are read, evenly spread."""
_SHOWN = 8
"""Classes that are written out."""


def guess_classes(masks: Path) -> str:
    """A sentence about the values in a folder of masks, with the `classes` to write for them; empty if it has none.

    Masks of more than 255 colours, as JPEG has, say nothing, nor do those that are grey all over in several channels.
    """
    try:
        files = image_files([masks])
        files = files[:: max(1, len(files) // LOOKED_AT)]
        headers = [read_header(file) for file in files]
        if any(header is not None and header.colour for header in headers):
            colours = {int(colour) for file in files for colour in np.unique(pack(read_colours(file)))}
            return _of_colours(sorted(colours))
        return _of_ids(sorted({int(value) for file in files for value in np.unique(read_labels(file))}))
    except UserError:
        return ""


def _of_ids(values: Sequence[int]) -> str:
    ids = [value for value in values if value != IGNORE]
    if not ids or len(ids) > IGNORE:
        return ""
    in_order = ids == list(range(len(ids)))
    entries = [f"name of {value}" if in_order else f"{{name: name of {value}, id: {value}}}" for value in ids]
    ignored = ", and 255, which is ignored" if IGNORE in values else ""
    return f"The masks hold ids {_listed(list(map(str, ids)))}{ignored}: write `classes: [{_listed(entries)}]` into it."


def _of_colours(values: Sequence[int]) -> str:
    if len(values) > IGNORE or all(value % 0x10101 == 0 for value in values):
        return ""
    shown = [f"#{value:06x}" for value in values]
    # A bare # would begin a comment.
    entries = [f'{{name: name of {colour[1:]}, color: "{colour}"}}' for colour in shown]
    return (
        f"The masks hold colours {_listed(shown)}: write `masks: colors` and `classes: [{_listed(entries)}]` into it."
    )


def _listed(words: Sequence[str]) -> str:
    """The words with commas, the first of them where there are many."""
    return ", ".join([*words[:_SHOWN], "..."] if len(words) > _SHOWN else words)
