"""Into which blocks an image is cut, so that the probabilities held at once fit into a budget.

Held are, of every scale, the sums over windows of as many rows as a block needs and a row of windows covers, and the
block itself as it is resized and averaged. Strips of columns cost time: windows that cover the border of two strips
are scored for both. So the widest strips that fit are taken, and of these the tallest blocks.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from gffnet.errors import UserError
from gffnet.inference.parts import Span
from gffnet.inference.scaled import rows_held, scaled_size
from gffnet.recipe import EvaluationRecipe

_NARROWEST = 32
"""Pixels of a strip or block; below that all is borders."""


class Layout(NamedTuple):
    """The blocks of an image."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    memory: int
    """Bytes that the probabilities of one block take, with all that is held for it."""

    @property
    def tallest(self) -> int:
        """Rows of the tallest block."""
        return max(rows.length for rows in self.rows)


def plan(
    size: tuple[int, int], classes: int, protocol: EvaluationRecipe, memory: int | None, besides: int = 0
) -> Layout:
    """The blocks of an image of `size` of which each takes at most `memory` bytes; one, if that is None.

    `besides`: bytes of `memory` that other things than probabilities take.

    Raises:
        UserError: there are no such blocks.
    """
    height, width = size
    least = None
    for number in range(1, max(1, width // _NARROWEST) + 1):
        wide = -(-width // number)
        for tall in _heights(height):
            needed = block_memory(size, (tall, wide), classes, protocol)
            if memory is None or needed + besides <= memory:
                return Layout(_cut(height, tall), _cut(width, wide), needed)
            least = needed if least is None else min(least, needed)
    assert memory is not None
    whole = "the whole image is one window: give the model a crop, such as --crop 512x512, or "
    raise UserError(
        f"a memory of {_text(memory)} is too little for an image of {height}x{width} and {classes} classes: "
        f"{'' if protocol.crop else whole}give it {_text((least or 0) + besides)} or more."
    )


def block_memory(
    size: tuple[int, int], block: tuple[int, int], classes: int, protocol: EvaluationRecipe, item: int = 4
) -> int:
    """Bytes for the probabilities of a block of an image, with all that is held for it; `item`: bytes of a number."""
    tall, wide = block
    values, resized, largest = 0, False, 0
    for scale in protocol.scales:
        scaled = scaled_size(size, scale)
        crop = (protocol.crop or scaled)[0]
        columns = min(scaled[1], wide * scaled[1] // size[1] + 3)
        values += rows_held(size[0], scaled[0], crop, tall) * columns
        if scaled != size:
            resized = True
            largest = max(largest, 3 * tall * columns)  # two rows of the source and their mean, for every row
    if resized or len(protocol.scales) > 1:
        values += largest + 3 * tall * wide  # resized columns, the sum so far, and the next one
    return item * classes * values


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has taken so far, of the GPU's memory or the machine's; 0 if nobody knows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return most_resident() or 0


def most_resident() -> int | None:
    """The most bytes of the machine's memory that this process ever took; None where the system does not tell."""
    with suppress(OSError):  # Linux: `getrusage` would also count what the process that started this one took
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _heights(height: int) -> list[int]:
    """Heights of blocks to try: all, then halves of it."""
    heights = [height]
    while heights[-1] > _NARROWEST:
        heights.append(-(-heights[-1] // 2))
    return heights


def _cut(length: int, most: int) -> tuple[Span, ...]:
    """Spans of at most `most` positions, one after the other."""
    return tuple(Span(first, min(first + most, length)) for first in range(0, length, most))


def _text(memory: int) -> str:
    return f"{-(-memory // 10**6)}MB"
