"""The confusion matrix as a file."""

import csv
from pathlib import Path

import numpy as np
import pytest

from gffnet.errors import UserError
from gffnet.evaluation.results import read_confusion, write_confusion

NAMES = ('a, "b"', "no class", "c\nd")
COUNTS = np.array([[2**60, 0, 3, 4], [5, 6, 7, 0], [0, 0, 0, 1]], np.int64)


def test_it_is_read_as_it_was_written_to_the_last_pixel(tmp_path: Path) -> None:
    path = tmp_path / "new/confusion.csv"
    write_confusion(path, NAMES, COUNTS)
    assert np.array_equal(read_confusion(path), COUNTS)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", *NAMES, "no class"]
    assert [row[0] for row in rows[1:]] == list(NAMES)
    assert rows[1][1] == str(2**60)


@pytest.mark.parametrize(
    "text",
    ["", "label,a,no class\n", "label,a,no class\na,1\n", "label,a,no class\na,1,x\n", "label,a,no class\nb,1,2\n"],
)
def test_what_is_no_matrix_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path} is no confusion matrix"):
        read_confusion(path)
