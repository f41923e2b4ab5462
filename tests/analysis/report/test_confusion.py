"""The confusion matrix of a report."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from gffnet.gates.figures import color_table
from gffnet.reports.report import CELL, MOST_CELLS, STRONGEST, confusion_of, row_shares, worst_pairs

NAMES = ("road", "sky", "a class of a very long name")
COUNTS = np.array([[90, 10, 0, 0], [30, 60, 6, 4], [0, 0, 0, 0]], np.int64)


def test_rows_are_shares_of_the_labelled_class() -> None:
    assert np.allclose(row_shares(COUNTS), [[0.9, 0.1, 0, 0], [0.3, 0.6, 0.06, 0.04], [0, 0, 0, 0]])


def test_the_worst_pairs_come_first_and_hits_not_at_all() -> None:
    pairs = worst_pairs(COUNTS, NAMES)
    assert [(pair.label, pair.answer, pair.pixels) for pair in pairs] == [
        ("sky", "road", 30),
        ("road", "sky", 10),
        ("sky", NAMES[2], 6),
        ("sky", "no class", 4),
    ]
    assert pairs[0].share == pytest.approx(0.3)
    assert len(worst_pairs(COUNTS, NAMES, most=2)) == 2
    assert worst_pairs(np.diag([1, 2, 3]).astype(np.int64)[:, [0, 1, 2, 2]] * [1, 1, 1, 0], NAMES) == []


def test_cells_lie_in_rows_and_columns() -> None:
    drawn = confusion_of(COUNTS, NAMES)
    assert drawn is not None
    assert drawn.picture is None
    assert len(drawn.cells) == 3 * 4
    numbers = {(cell.x, cell.y): cell.text for cell in drawn.cells}
    xs, ys = sorted({x for x, _ in numbers}), sorted({y for _, y in numbers})
    assert [[numbers[x, y] for x in xs] for y in ys] == [["90", "10", "", ""], ["30", "60", "6", "4"], [""] * 4]
    assert xs[1] - xs[0] == CELL
    assert xs[-1] + CELL <= drawn.width
    assert ys[-1] + CELL <= drawn.height
    assert [label.text for label in drawn.columns] == ["road", "sky", "a class of a very…", "no class"]
    assert all(0 < label.x < xs[0] for label in drawn.rows)
    assert [cell.hit for cell in drawn.cells[:4]] == [True, False, False, False]
    assert max(cell.opacity for cell in drawn.cells) < STRONGEST
    assert drawn.cells[4].title == "sky as road: 30.00%"
    assert "30% of sky as road" in drawn.description


def test_no_column_for_no_class_where_nothing_was_predicted_as_none() -> None:
    drawn = confusion_of(COUNTS * [1, 1, 1, 0], NAMES)
    assert drawn is not None
    assert [label.text for label in drawn.columns][-1] == "a class of a very…"


def test_many_classes_make_a_picture() -> None:
    k = MOST_CELLS + 1
    counts = np.zeros((k, k + 1), np.int64)
    counts[:, 0], counts[np.arange(k), np.arange(k)] = 3, 1
    drawn = confusion_of(counts, [f"c{i}" for i in range(k)])
    assert drawn is not None
    assert drawn.picture is not None
    assert (drawn.picture.width, drawn.picture.height) == (k, k)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn.picture.uri.split(",")[1]))).convert("RGB"))
    assert np.array_equal(pixels[5, 5], color_table()[round(255 * 0.5)])
    assert np.array_equal(pixels[5, 7], color_table()[0])
    assert drawn.pairs[0].answer == "c0"


def test_nothing_was_counted() -> None:
    assert confusion_of(None, NAMES) is None
    assert confusion_of(COUNTS * 0, NAMES) is None
