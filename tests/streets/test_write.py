import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.streets import render_street, write_streets

TINY = (64, 128)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    steps: list[tuple[int, int]] = []
    write_streets(root, 4, 3, TINY, seed=2, workers=1, progress=lambda done, total: steps.append((done, total)))
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
            assert np.asarray(Image.open(image)).shape == (*TINY, 3)
            assert np.asarray(Image.open(mask)).shape == TINY
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
    street = render_street((2, 1, 0), TINY)
    image, mask = (next((root / folder / "val").rglob("*_000000_*.png")) for folder in ("leftImg8bit", "gtFine"))
    found = np.asarray(Image.open(image))
    assert np.array_equal(found, street.image)
    assert np.array_equal(np.asarray(Image.open(mask)), street.label_ids)


def test_workers_do_not_matter(written, tmp_path):
    write_streets(tmp_path, 4, 3, TINY, seed=2, workers=2)
    assert contents(tmp_path) == contents(written[0])


def test_another_seed_is_another_data_set(written, tmp_path):
    write_streets(tmp_path, 2, 0, TINY, seed=3, workers=1)
    assert not set(contents(tmp_path).values()) & set(contents(written[0]).values())


def test_more_scenes_keep_the_first(written, tmp_path):
    write_streets(tmp_path, 1, 0, TINY, seed=2, workers=1)
    assert contents(tmp_path).items() <= contents(written[0]).items()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": -1}, "train is -1: it must be 0 or more"),
        ({"val": -2}, "val is -2"),
        ({"train": 0, "val": 0}, "train and val are both 0"),
        ({"size": (32, 128)}, "size is 32x128"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0: it must be 1 or more"),
    ],
)
def test_bad_arguments_write_nothing(changed, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_streets(**({"out": tmp_path / "out", "train": 1, "val": 1, "size": TINY} | changed))
    assert not (tmp_path / "out").exists()
