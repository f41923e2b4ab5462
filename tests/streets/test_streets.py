import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.cityscapes import EVALUATED
from gffnet.streets import Label, render_street, write_streets

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
        (0, (8193, 128), r"size is 8193x128.*at most 8192x8192"),
        (0, (64, 10**6), r"size is 64x1000000.*at most 8192x8192"),
        (-1, (64, 128), r"seed is -1.*0 or more"),
        ((1, -2), (64, 128), r"seed is \(1, -2\).*0 or more"),
    ],
)
def test_render_street_refuses_bad_arguments(seed, size, message):
    with pytest.raises(ValueError, match=message):
        render_street(seed, size)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    steps: list[tuple[int, int]] = []
    write_streets(root, 4, 3, SMALL, seed=2, workers=1, progress=lambda done, total: steps.append((done, total)))
    return root, steps


def test_layout_and_pairs(written):
    root, _ = written
    for split, count in (("train", 4), ("val", 3)):
        images = sorted((root / "leftImg8bit" / split).rglob("*.png"))
        assert len(images) == count
        for image in images:
            city = image.parent.name
            assert re.fullmatch(rf"{city}_\d{{6}}_\d{{6}}_leftImg8bit\.png", image.name)
            mask = root / "gtFine" / split / city / image.name.replace("leftImg8bit", "gtFine_labelIds")
            assert np.asarray(Image.open(image)).shape == (*SMALL, 3)
            assert np.asarray(Image.open(mask)).shape == SMALL
    assert len(contents(root)) == 14  # nothing else, no temporary files


def test_cities_of_the_splits_are_disjoint(written):
    root, _ = written
    train, val = ({path.name for path in (root / "leftImg8bit" / split).iterdir()} for split in ("train", "val"))
    assert train
    assert val
    assert not train & val


def test_no_scene_is_in_both_splits(written):
    root, _ = written
    files = [path.read_bytes() for path in (root / "leftImg8bit").rglob("*.png")]
    assert len(set(files)) == 7


def test_progress(written):
    assert written[1] == [(i, 7) for i in range(1, 8)]


def test_pixels_are_the_rendered_ones(written):
    root, _ = written
    street = render_street((2, 1, 0), SMALL)
    image, mask = (next((root / folder / "val").rglob("*_000000_*.png")) for folder in ("leftImg8bit", "gtFine"))
    found = np.asarray(Image.open(image))
    assert np.array_equal(found, street.image)
    assert np.array_equal(np.asarray(Image.open(mask)), street.label_ids)


def test_workers_do_not_matter(written, tmp_path):
    write_streets(tmp_path, 4, 3, SMALL, seed=2, workers=2)
    assert contents(tmp_path) == contents(written[0])


def test_another_seed_is_another_data_set(written, tmp_path):
    write_streets(tmp_path, 2, 0, SMALL, seed=3, workers=1)
    assert not set(contents(tmp_path).values()) & set(contents(written[0]).values())


def test_more_scenes_keep_the_first(written, tmp_path):
    write_streets(tmp_path, 1, 0, SMALL, seed=2, workers=1)
    assert contents(tmp_path).items() <= contents(written[0]).items()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": -1}, "train is -1: it must be 0 or more"),
        ({"val": -2}, "val is -2"),
        ({"train": 0, "val": 0}, "train and val are both 0"),
        ({"size": (32, 128)}, "size is 32x128"),
        ({"size": (64, 8193)}, "size is 64x8193"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0: it must be 1 or more"),
    ],
)
def test_write_streets_refuses_bad_arguments(changed, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_streets(**({"out": tmp_path / "out", "train": 1, "val": 1, "size": SMALL} | changed))
    assert not (tmp_path / "out").exists()
