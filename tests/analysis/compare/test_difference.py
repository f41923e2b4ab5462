import numpy as np
import pytest

from gffnet.reports.compare import CHANGED, LOST, REFINED, difference, difference_numbers

LABELS = np.array([[0, 0, 1, 1, 255, 2]], np.uint8)
FIRST = np.array([[0, 1, 1, 0, 0, 0]], np.uint8)
LAST = np.array([[0, 0, 0, 2, 1, 0]], np.uint8)


def test_refined_lost_and_changed_pixel_by_pixel():
    of = difference(FIRST, LAST, LABELS, 3)
    assert of.refined.tolist() == [[False, True, False, False, False, False]]
    assert of.lost.tolist() == [[False, False, True, False, False, False]]
    assert of.changed.tolist() == [[False, True, True, True, True, False]]
    assert of.known.tolist() == [[True, True, True, True, False, True]]
    assert of.marks.tolist() == [[0, 1, -1, 0, 0, 0]]
    assert of.caption == "refined 20.00%, lost 20.00%"


def test_without_labels_what_changed_is_marked():
    of = difference(FIRST, LAST, None, 3)
    assert of.known is None
    assert of.marks.tolist() == [[0, 1, 1, 1, 1, 0]]
    assert of.caption == "changed 66.67%"
    drawn = of.picture(np.full((1, 6, 3), 200, np.uint8))
    assert (drawn == CHANGED).all(-1).tolist() == of.changed.tolist()
    assert [name for name, _ in of.colours] == ["changed"]


def test_the_picture_has_two_colours_on_dark_grey():
    of = difference(FIRST, LAST, LABELS, 3)
    drawn = of.picture(np.full((1, 6, 3), 200, np.uint8))
    assert (drawn == REFINED).all(-1).tolist() == of.refined.tolist()
    assert (drawn == LOST).all(-1).tolist() == of.lost.tolist()
    assert drawn[0, 0].tolist() == [90, 90, 90]


def test_the_colours_differ_in_lightness_of_blue_for_those_who_see_no_red_or_green():
    """Without one kind of cone, red and green fall together: what is left is blue against yellow."""
    refined, lost = (np.array(colour, int) for colour in (REFINED, LOST))
    assert refined[2] - lost[2] > 150
    assert lost[:2].mean() - refined[:2].mean() > 40


def test_the_shares_are_the_difference_of_the_accuracies():
    random = np.random.default_rng(0)
    labels, first, last = random.integers(0, 5, (3, 40, 50)).astype(np.uint8)
    labels[labels == 4] = 255
    of = difference(first, last, labels, 4)
    numbers = difference_numbers(of, labels, list("abcd"))
    known = labels < 4
    gain = (last == labels)[known].mean() - (first == labels)[known].mean()
    assert numbers["refined"] - numbers["lost"] == pytest.approx(gain)
    assert numbers["changed"] == pytest.approx((first != last).mean())
    for k, name in enumerate("abcd"):
        own = labels == k
        assert numbers["by_class"][name] == pytest.approx(
            {
                "pixels": own.sum(),
                "refined": ((last == k) & (first != k))[own].mean(),
                "lost": ((last != k) & (first == k))[own].mean(),
            }
        )


def test_numbers_without_labels_are_by_the_first_prediction():
    numbers = difference_numbers(difference(FIRST, LAST, None, 3), FIRST, list("abc"))
    assert numbers == {
        "changed": pytest.approx(4 / 6),
        "refined": None,
        "lost": None,
        "by_class": {"a": {"pixels": 4, "changed": 0.5}, "b": {"pixels": 2, "changed": 1}},
    }


def test_an_image_without_a_labelled_pixel():
    numbers = difference_numbers(
        difference(FIRST, LAST, np.full_like(LABELS, 255), 3), np.full_like(LABELS, 255), ["a"]
    )
    assert (numbers["refined"], numbers["lost"], numbers["by_class"]) == (0, 0, {})
