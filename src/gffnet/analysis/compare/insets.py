"""Parts of an image to enlarge: the windows in which marks are dense, found without being told where to look.

The density of marks `m` is a tent-shaped mean, two box filters of half a window's size one after the other:

    density = box * box * m

so that a window lies around what it was found for, and not just somewhere over it.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Integer, Shaped

PART = 4
"""A window is this fraction of the image, in height and in width: it has the image's shape."""
SMALLEST = 24
"""Pixels that a window is high and wide at least, in images that are."""
FAINTEST = 0.05
"""Windows whose density is a smaller part of the greatest are left out: nothing much is to be seen in them."""


class Inset(NamedTuple):
    """A window of an image, in pixels."""

    row: int
    column: int
    height: int
    width: int

    def cut(self, picture: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "_h _w *c"]:
        """What the window shows of a picture of the image's size."""
        part: np.ndarray = picture[self.row : self.row + self.height, self.column : self.column + self.width]
        return part


def find_insets(marks: Integer[np.ndarray, "h w"], count: int) -> list[Inset]:
    """At most `count` windows that do not overlap, the densest first; fewer where there are few marks.

    Args:
        marks: how much every pixel counts; below 0 it counts against its surroundings.
        count: of windows.
    """
    height, width = marks.shape
    size = tuple(min(side, max(SMALLEST, round(side / PART))) for side in (height, width))
    rows, columns = height - size[0] + 1, width - size[1] + 1
    top, left = size[0] // 2, size[1] // 2
    density = _density(marks, size)[top : top + rows, left : left + columns].copy()  # of windows that begin there
    found: list[Inset] = []
    faintest = FAINTEST * max(float(density.max()), 0.0)
    for _ in range(count):
        row, column = divmod(int(density.argmax()), columns)
        if density[row, column] <= faintest:
            break
        found.append(Inset(row, column, *size))
        density[max(0, row - size[0] + 1) : row + size[0], max(0, column - size[1] + 1) : column + size[1]] = -np.inf
    return found


def _density(marks: Integer[np.ndarray, "h w"], size: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """The tent-shaped mean around every pixel; beyond the border there is nothing."""
    box = (max(1, size[1] // 2) | 1, max(1, size[0] // 2) | 1)  # odd, so that nothing is shifted
    once = cv2.blur(marks.astype(np.float32), box, borderType=cv2.BORDER_CONSTANT)
    twice: np.ndarray = cv2.blur(once, box, borderType=cv2.BORDER_CONSTANT)
    return twice
