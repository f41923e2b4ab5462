import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gffnet.data.cityscapes import EVALUATED
from gffnet.streets import Label, render_street

SMALL = (64, 128)


@pytest.fixture(scope="module")
def scenes():
    return [render_street((3, i), SMALL) for i in range(20)]


def test_same_seed_same_bytes():
    one, two = render_street(5, SMALL), render_street(5, SMALL)
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.label_ids, two.label_ids)


def test_different_seeds_show_different_streets(scenes):
    for one, two in zip(scenes[:8], scenes[8:16], strict=True):
        assert np.mean(one.label_ids != two.label_ids) > 0.1
        assert np.abs(one.image.astype(int) - two.image).mean() > 10


def test_a_tuple_seed_is_not_its_first_part():
    assert not np.array_equal(render_street((1, 2), SMALL).image, render_street(1, SMALL).image)


@settings(max_examples=6, deadline=None)
@given(rows=st.integers(64, 100), columns=st.integers(128, 190), seed=st.integers(0, 2**31))
def test_any_size_and_seed(rows, columns, seed):
    image, label_ids = render_street(seed, (rows, columns))
    assert image.shape == (rows, columns, 3)
    assert label_ids.shape == (rows, columns)
    assert image.dtype == label_ids.dtype == np.uint8
    assert set(np.unique(label_ids)) <= {int(label) for label in Label}


def test_all_nineteen_classes_occur(scenes):
    seen = np.unique([scene.label_ids for scene in scenes])
    assert [label for label in EVALUATED if label not in seen] == []


def test_void_is_rare(scenes):
    labels = np.stack([scene.label_ids for scene in scenes])
    assert np.isin(labels, EVALUATED).mean() > 0.96


def test_classes_have_plausible_shares(scenes):
    labels = np.stack([scene.label_ids for scene in scenes])
    assert 0.2 < np.mean(labels == Label.ROAD) < 0.5
    assert np.mean(labels == Label.BUILDING) > 0.08
    assert np.mean(labels == Label.VEGETATION) > 0.05
    assert np.mean(labels == Label.SKY) < 0.2


def test_roads_lie_low_and_the_sky_high(scenes):
    labels = np.stack([scene.label_ids for scene in scenes])
    rows = np.arange(SMALL[0])[None, :, None] + np.zeros(labels.shape)
    assert rows[labels == Label.ROAD].mean() > 0.6 * SMALL[0]
    assert rows[labels == Label.SKY].mean() < 0.35 * SMALL[0]


def test_thin_poles(scenes):
    thin = 0
    for scene in scenes:
        pole = np.pad(scene.label_ids == Label.POLE, ((0, 0), (1, 1)))
        rises = np.diff(pole.astype(np.int8), axis=1)
        for row in rises:
            starts, ends = np.flatnonzero(row == 1), np.flatnonzero(row == -1)
            thin += int(np.sum(ends - starts <= 2))
    assert thin > 200


def test_a_class_has_no_fixed_color(scenes):
    means = np.array([scene.image[scene.label_ids == Label.ROAD].mean() for scene in scenes])
    assert means.std() > 12


def test_another_size_shows_the_same_street():
    small, large = render_street(11, SMALL).label_ids, render_street(11, (128, 256)).label_ids
    assert np.mean(small == large[::2, ::2]) > 0.85


@pytest.mark.parametrize(
    ("seed", "size", "message"),
    [
        (0, (63, 128), r"size is 63x128.*at least 64x128"),
        (0, (64, 127), r"size is 64x127.*at least 64x128"),
        (-1, (64, 128), r"seed is -1.*0 or more"),
        ((1, -2), (64, 128), r"seed is \(1, -2\).*0 or more"),
    ],
)
def test_bad_arguments(seed, size, message):
    with pytest.raises(ValueError, match=message):
        render_street(seed, size)
