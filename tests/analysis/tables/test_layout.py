import pytest

from gffnet.reports.tables import Line, Score, Section, Spread, laid_out, signed

FULL = Line(
    "A",
    "group",
    "some/recipe",
    "a protocol",
    {"x": 79.55, "y": 1.0},
    {"x": Spread((80.0, 82.0)), "y": Spread((0.5,))},
    {"x": 0.55},
    {"x": 1.0},
    seeds=(0, None),
    notes=("why", "what"),
)


def texts(table):
    return [[cell.text for cell in cells] for _, cells in table.rows]


def test_figures_as_they_are_read():
    section = Section("s", "S", [Score("x", "X")], [FULL, Line("B", paper={"x": 3.0}, notes=("why",))])
    table = laid_out(section)
    assert table.headings == ["method", "paper", "ours", "ours − paper", "runs"]
    assert texts(table) == [
        ["A", "79.55 (+0.6)", "81.0 ± 1.4 (+1.0)", "+1.5", "2 (seed 0, 1 unknown)"],
        ["B", "3.0", "—", "—", "—"],
    ]
    assert [group for group, _ in table.rows] == ["group", ""]
    assert table.notes == ["why", "what"]
    assert [cells[2].notes for _, cells in table.rows] == [(1, 2), (1,)]
    assert laid_out(section, seeds=False).rows[0][1][-1].text == "2"


def test_several_scores_and_such_as_one_side_has():
    scores = [Score("x", "X", difference=False), Score("y", "Y", 2, ours_only=True), Score("y", "Z", paper_only=True)]
    table = laid_out(Section("s", "S", scores, [FULL]))
    assert table.headings == ["method", "X, paper", "X, ours", "Y", "Z", "runs"]
    assert texts(table)[0][1:5] == ["79.55 (+0.6)", "81.0 ± 1.4 (+1.0)", "0.50", "1.0"]
    assert [cell.notes for cell in table.rows[0][1]] == [(), (), (1, 2), (), (), ()]


def test_a_table_by_class_is_turned():
    table = laid_out(
        Section("s", "S", [Score("x", "X"), Score("y", "Y")], [Line("B", paper={"x": 3.0}), FULL], by_class=True)
    )
    assert table.headings == ["class", "B", "A", "ours"]
    assert texts(table) == [["X", "3.0", "79.55", "81.0 ± 1.4"], ["Y", "—", "1.0", "0.5"]]


def test_a_table_by_class_without_the_paper_has_one_column_a_method():
    scores = [Score("x", "X", ours_only=True), Score("y", "Y", ours_only=True)]
    table = laid_out(Section("s", "S", scores, [FULL], by_class=True))
    assert table.headings == ["class", "A"]
    assert texts(table) == [["X", "81.0 ± 1.4"], ["Y", "0.5"]]


def test_a_gain_has_its_standard_error():
    line = Line("A", recipe="r", ours={"x": Spread((1.0, 2.0))}, ours_gain={"x": -0.5}, gain_error={"x": 0.25})
    assert (
        texts(laid_out(Section("s", "S", [Score("x", "X", ours_only=True)], [line])))[0][1] == "1.5 ± 0.7 (−0.5 ± 0.2)"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(1.26, "+1.3"), (-1.26, "−1.3"), (0.04, "0.0"), (-0.04, "0.0"), (0, "0.0")]
)
def test_signs(value, text):
    assert signed(value, 1) == text
