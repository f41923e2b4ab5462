"""A recipe fitted to data: against images of known sizes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gffnet.data.datasets import open_files
from gffnet.errors import UserError
from gffnet.recipe import DataSize, load_recipe
from gffnet.training.train import LOOKED_AT, data_size, fitted_recipe
from tests.data.trees import camvid_tree, folder_tree, save

OWN = "folder/gffnet_r18"


def sized_tree(root: Path, sizes: list[tuple[int, int]], orientation: int = 1) -> Path:
    """Images of given heights and widths for training, and two others for validation."""
    for split, there in (("train", sizes), ("val", [(500, 500)] * 2)):
        for i, (height, width) in enumerate(there):
            save(root / f"masks/{split}/{i:04d}.png", np.zeros((height, width), np.uint8))
            file = save(root / f"images/{split}/{i:04d}.png", np.zeros((height, width, 3), np.uint8))
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.open(file).save(file, exif=exif)
    (root / "classes.yaml").write_text("classes: [road]\n")
    return root


def size_of(root: Path) -> DataSize:
    return data_size(open_files("folder", root, "train"))


def test_the_size_of_the_data_is_the_median(tmp_path: Path) -> None:
    sizes = [(90, 70), (30, 50), (40, 60), (20, 300)]
    assert size_of(sized_tree(tmp_path / "a", sizes)) == (4, 30, 60)
    assert size_of(sized_tree(tmp_path / "b", [(30, 50)])) == (1, 30, 50)
    assert size_of(sized_tree(tmp_path / "c", [(30, 50)], orientation=6)) == (1, 50, 30)  # on its side


def test_of_many_images_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    root = folder_tree(tmp_path, train=250)
    monkeypatch.setattr("gffnet.training.train.read_header", looked.append)
    dataset = open_files("folder", root, "train")
    data_size(dataset)
    assert LOOKED_AT <= len(looked) < 2 * LOOKED_AT
    images = [image for image, _ in dataset.files]
    places = [images.index(file) for file in looked]
    assert places[0] == 0
    assert {after - before for before, after in pairwise(places)} == {2}


def test_a_split_of_which_no_image_can_be_read(tmp_path: Path) -> None:
    root = sized_tree(tmp_path, [(30, 50)])
    file = root / "images/train/0000.png"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"0000\.png"):
        size_of(root)


def test_a_recipe_says_what_it_was_fitted_to(tmp_path: Path) -> None:
    root = sized_tree(tmp_path, [(90, 70)] * 3)
    recipe, said = fitted_recipe(OWN, ["training.batch=2"], root)
    assert recipe == load_recipe(OWN, ["training.batch=2"], DataSize(3, 90, 70))
    assert said == (
        "fitted to 3 images of 90x70: training.iterations 1000, training.crop 96x96, training.validate_every 100, "
        "evaluation.crop 96x96"
    )
    recipe, said = fitted_recipe(OWN, ["training.iterations=7", "evaluation.crop=null"], root)
    assert said == "fitted to 3 images of 90x70: training.crop 96x96, training.validate_every 1"
    assert recipe.evaluation.crop is None


def test_a_recipe_that_leaves_nothing_open_needs_no_data(tmp_path: Path) -> None:
    assert fitted_recipe("camvid/gffnet_r18", [], tmp_path / "nowhere") == (load_recipe("camvid/gffnet_r18"), "")
    assert fitted_recipe(OWN, [], None) == (load_recipe(OWN), "")
    fitted, _ = fitted_recipe("camvid/gffnet_r18", ["training.crop=auto"], camvid_tree(tmp_path))
    assert fitted.training.crop == (32, 32)
    with pytest.raises(UserError, match="no such folder"):
        fitted_recipe(OWN, [], tmp_path / "nowhere")


def test_a_run_that_goes_on_keeps_its_numbers(tmp_path: Path) -> None:
    root, stored = sized_tree(tmp_path / "data", [(30, 50)] * 2), tmp_path / "recipe.yaml"
    began, _ = fitted_recipe(OWN, [], root, stored)
    stored.write_text(yaml.safe_dump(began.to_mapping()))
    sized_tree(root, [(300, 200)] * 200)
    assert fitted_recipe(OWN, [], root)[0] != began
    assert fitted_recipe(OWN, [], root, stored) == (began, "")
    changed, _ = fitted_recipe(OWN, ["training.batch=3", "training.iterations=9"], root, stored)
    assert (changed.training.batch, changed.training.iterations, changed.training.crop) == (3, 9, (32, 64))
