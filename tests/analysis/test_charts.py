from math import inf, nan

import pytest

from gffnet.reports.report import HEIGHT, MOST_POINTS, WIDTH, Line, draw, thinned, ticks


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (100, [0, 20, 40, 60, 80, 100]),
        (2000, [0, 500, 1000, 1500, 2000]),
        (2.7, [0, 1, 2, 3]),
        (0.03, [0, 0.01, 0.02, 0.03]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, [0, 1]),
    ],
)
def test_ticks_are_round_and_reach_the_end(end, expected):
    assert ticks(end) == pytest.approx(expected)


@pytest.mark.parametrize("end", [1e-9, 0.7, 3, 17, 999, 1001, 123456.7])
def test_ticks_cover_any_range(end):
    places = ticks(end)
    assert places[0] == 0
    assert end <= places[-1] * (1 + 1e-9)
    assert places[-2] < end
    assert len(places) <= 7


def test_points_are_placed_between_the_axes():
    chart = draw("Loss", "iteration", "loss", [Line("a", [(0, 0), (10, 4)])])
    corners = [tuple(map(float, corner.split(","))) for corner in chart.curves[0].path.split()]
    assert corners == [(chart.left, chart.bottom), (chart.right, chart.top)]
    assert [tick.text for tick in chart.x_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert chart.y_ticks[-1] == (chart.top, "4")
    assert 0 < chart.left < chart.right < WIDTH
    assert 0 < chart.top < chart.bottom < HEIGHT
    assert chart.description == "Loss over iterations, up to 10: a from 0 to 4."
    assert chart.curves[0].last == "4"


def test_a_given_top_is_kept():
    chart = draw("mIoU", "iteration", "percent", [Line("a", [(5, 40)], dots=True)], top=100)
    assert chart.y_ticks[-1].text == "100"
    assert len(chart.curves[0].dots) == 1


def test_numbers_that_cannot_be_drawn_are_left_out():
    assert draw("t", "x", "y", []) is None
    assert draw("t", "x", "y", [Line("a", []), Line("b", [(1, nan), (2, inf)])]) is None
    chart = draw("t", "x", "y", [Line("a", [(1, nan), (2, 1)]), Line("b", [])])
    assert [curve.name for curve in chart.curves] == ["a"]


def test_long_curves_are_drawn_by_means():
    points = [(i, i % 2) for i in range(1, 10 * MOST_POINTS + 1)]
    thin = thinned(points)
    assert len(thin) == MOST_POINTS
    assert thin[0] == (10, 0.5)
    assert thin[-1] == (10 * MOST_POINTS, 0.5)
    assert thinned(points[:MOST_POINTS]) == points[:MOST_POINTS]
    assert thinned([]) == []


def test_marks_lie_where_their_x_is_and_within_the_chart():
    chart = draw("t", "x", "y", [Line("a", [(0, 0), (100, 1)])], marks=[20, 100, 400])
    assert chart.marks == [chart.x_ticks[1].place, chart.right]
    assert draw("t", "x", "y", [Line("a", [(0, 0), (100, 1)])]).marks == []


def test_charts_of_one_length_have_one_axis():
    short = draw("t", "x", "y", [Line("a", [(0, 0), (30, 1)])], end=100)
    assert short.x_ticks == draw("t", "x", "y", [Line("a", [(0, 0), (100, 1)])]).x_ticks


def test_a_last_value_that_says_nothing_is_not_told():
    chart = draw("t", "x", "y", [Line("a", [(0, 0), (1, 3)]), Line("b", [(0, 0), (1, 3)], ends=False)])
    assert [curve.last for curve in chart.curves] == ["3", ""]
