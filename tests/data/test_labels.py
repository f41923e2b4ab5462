from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.dataset import LabelTable, identity
from gffnet.errors import UserError

FILE = Path("some/mask.png")
TABLE = LabelTable({0: 255, 7: 0, 8: 1, 400: 2}, legal="0, 7, 8, 400", hint="write it anew")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32])
def test_ids_become_train_ids(dtype: type) -> None:
    ids = np.array([[7, 8, 0], [0, 7, 7]], dtype)
    train_ids = TABLE(ids, FILE)
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 1, 255], [255, 0, 0]]


def test_ids_that_eight_bits_do_not_hold() -> None:
    assert TABLE(np.array([[400, 0]], np.int32), FILE).tolist() == [[2, 255]]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_every_other_id_is_refused(values: list[int]) -> None:
    ids = np.array([values], np.int32)
    expected = [value in {0, 7, 8, 400} for value in values]
    assert TABLE.known(ids).tolist() == [expected]
    if all(expected):
        assert TABLE(ids, FILE).shape == ids.shape
    else:
        with pytest.raises(
            UserError, match=r"label map some/mask\.png: value -?\d+ at row 0, column \d+ is no label id"
        ):
            TABLE(ids, FILE)


def test_the_error_says_where_and_how_many() -> None:
    ids = np.zeros((3, 4), np.uint8)
    ids[1, 2], ids[2, 0] = 9, 200
    with pytest.raises(UserError) as caught:
        TABLE(ids, FILE)
    assert str(caught.value) == (
        "label map some/mask.png: value 9 at row 1, column 2 is no label id: they are 0, 7, 8, 400. 2 of its 12 pixels "
        "are wrong: write it anew."
    )


def test_legal_ids_and_text() -> None:
    assert TABLE.legal_ids().tolist() == [0, 7, 8, 400]
    same, other = LabelTable({400: 2, 8: 1, 7: 0, 0: 255}, legal="x"), LabelTable({0: 255, 7: 0, 8: 1}, legal="x")
    assert TABLE.text() == same.text() != other.text()


def test_identity() -> None:
    assert identity(3) == {0: 0, 1: 1, 2: 2, 255: 255}
    assert identity(2, ignored=2) == {0: 0, 1: 1, 2: 255}
    assert identity(2, ignored=None) == {0: 0, 1: 1}
