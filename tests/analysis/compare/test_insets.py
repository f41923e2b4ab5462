import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.reports.compare import SMALLEST, Inset, find_insets


def blob(marks, row, column, size, value=1):
    marks[row : row + size, column : column + size] = value


def test_the_densest_parts_are_found_densest_first_and_in_the_middle_of_their_windows():
    marks = np.zeros((200, 400), np.int8)
    blob(marks, 20, 40, 12)
    blob(marks, 120, 300, 24)
    blob(marks, 160, 100, 6)
    found = find_insets(marks, 3)
    assert [inset[2:] for inset in found] == [(50, 100)] * 3
    for inset, centre in zip(found, ((132, 312), (26, 46), (163, 103)), strict=True):
        middle = (inset.row + inset.height / 2, inset.column + inset.width / 2)
        assert inset.cut(marks).any()
        if inset.column > 0:  # not pushed inside by the border
            assert middle == pytest.approx(centre, abs=3)
    assert find_insets(marks, 1) == found[:1]


def test_what_was_lost_counts_against_its_surroundings():
    marks = np.zeros((200, 200), np.int8)
    blob(marks, 20, 20, 20)
    blob(marks, 25, 25, 20, -1)
    blob(marks, 150, 150, 8)
    assert find_insets(marks, 1)[0].cut(marks).sum() == 64


def test_nothing_to_see():
    assert find_insets(np.zeros((100, 100), np.int8), 3) == []
    assert find_insets(np.full((100, 100), -1), 3) == []
    marks = np.zeros((100, 100), np.int8)
    blob(marks, 50, 50, 10)
    assert len(find_insets(marks, 3)) == 1
    assert find_insets(marks, 0) == []


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 5), st.integers(0, 99))
def test_windows_lie_in_the_image_and_apart(height, width, count, seed):
    marks = (np.random.default_rng(seed).random((height, width)) < 0.1).astype(np.int8)
    found = find_insets(marks, count)
    assert len(found) <= count
    seen = np.zeros((height, width), int)
    for inset in found:
        assert inset.cut(marks).shape == (min(height, SMALLEST), min(width, SMALLEST))
        inset.cut(seen)[:] += 1
        assert inset.cut(marks).any()
    assert seen.max(initial=0) <= 1


def test_a_window_cuts_pictures_with_channels():
    picture = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    assert np.array_equal(Inset(1, 2, 2, 3).cut(picture), picture[1:3, 2:5])
