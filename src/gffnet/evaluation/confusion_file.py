"""The confusion matrix of a data set as a file: `confusion.csv`, exact counts of pixels.

    label,road,sky,no class
    road,120,3,0
    sky,1,77,2

Rows are labels, columns predictions; the last column holds the pixels that were predicted as no class.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from gffnet.errors import UserError
from gffnet.files import write_whole

NO_CLASS = "no class"


def write_confusion(path: Path, names: Sequence[str], counts: Int64[np.ndarray, "k k_and_none"]) -> None:
    """Write the matrix, whole or not at all.

    Raises:
        CannotWrite: the file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["label", *names, NO_CLASS])
    for name, row in zip(names, counts.tolist(), strict=True):
        lines.writerow([name, *row])
    write_whole(path, text.getvalue().encode())


def read_confusion(path: Path) -> Int64[np.ndarray, "k k_and_none"]:
    """The counts in a file that `write_confusion` wrote.

    Raises:
        UserError: it is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        counts = np.array([[int(cell) for cell in row[1:]] for row in rows], np.int64).reshape(len(rows), -1)
        if counts.shape != (len(head) - 2, len(head) - 1) or [row[0] for row in rows] != head[1:-1]:
            raise ValueError("its rows are not its columns")
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path} is no confusion matrix as `gffnet evaluate` writes it ({error}).") from None
    return counts
