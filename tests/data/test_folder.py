import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gffnet.data.folder import Folder
from gffnet.errors import UserError
from tests.data.trees import OWN_CLASSES, folder_tree, ids, picture, save

PALETTE = np.array([[128, 0, 0], [153, 153, 153], [220, 220, 0]], np.uint8)
COLOURED = OWN_CLASSES.replace("- road", "- {name: road, color: [128, 0, 0]}") + "masks: colors\n"
FIRST = "masks/train/east/a.0.png"
NAMES = ["train/east/a.0", "train/east/a.2", "train/west/a.1", "train/west/a.3"]


def coloured_tree(root: Path, kind: str = "rgb") -> Path:
    """As `folder_tree`, with colours for ids."""
    for mask in folder_tree(root).glob("masks/**/*.png"):
        labels = np.array(Image.open(mask))
        if kind == "palette":
            image = Image.fromarray(labels)
            image.putpalette(PALETTE.tobytes())
            image.save(mask)
        else:
            save(mask, np.dstack([PALETTE[labels], labels]) if kind == "rgba" else PALETTE[labels])
    (root / "classes.yaml").write_text(COLOURED)
    return root


def check(dataset: Folder) -> None:
    """Whether samples are what `folder_tree` made."""
    assert len(dataset) == 4
    assert [dataset.name(i) for i in range(4)] == NAMES
    for i, name in enumerate(NAMES):
        image, labels, found = dataset[i]
        number = int(name[-1])
        assert found == name
        assert (image.dtype, labels.dtype) == (torch.uint8, torch.uint8)
        np.testing.assert_array_equal(image.numpy(), picture(number).transpose(2, 0, 1))
        np.testing.assert_array_equal(labels.numpy(), ids(number, 3))


def test_ids(tmp_path: Path) -> None:
    dataset = Folder(folder_tree(tmp_path), "train")
    check(dataset)
    assert dataset.classes.names == ("road", "pole", "sign")
    assert dataset.classes.palette == ((128, 0, 0), (153, 153, 153), (220, 220, 0))


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette"])
def test_colours(tmp_path: Path, kind: str) -> None:
    dataset = Folder(coloured_tree(tmp_path, kind), "train")
    check(dataset)
    assert dataset.classes.names == ("road", "pole", "sign")


def test_palette_indices_are_ids(tmp_path: Path) -> None:
    root = coloured_tree(tmp_path, "palette")
    (root / "classes.yaml").write_text(OWN_CLASSES)
    check(Folder(root, "train"))


def test_ids_of_ones_own(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    stored = np.array([[7, 300, 255], [0, 7, 3]], np.uint16)
    save(root / "images/train/east/a.0.png", picture(0, (2, 3)))
    save(root / FIRST, stored)
    (root / "classes.yaml").write_text(
        "classes: [{name: a, id: 7}, {name: b, id: 300}, {name: c, id: 3}]\nignore: [0, 255]"
    )
    np.testing.assert_array_equal(Folder(root, "train")[0].labels, [[0, 1, 255], [255, 0, 2]])


def test_ignored_colours(tmp_path: Path) -> None:
    root = coloured_tree(tmp_path)
    drawn = PALETTE[ids(0, 3)]
    drawn[3:5] = 0
    save(root / FIRST, drawn)
    (root / "classes.yaml").write_text(f"{COLOURED}ignore: [0, 0, 0]\n")
    expected = ids(0, 3)
    expected[3:5] = 255
    np.testing.assert_array_equal(Folder(root, "train")[0].labels, expected)


def test_formats_may_differ(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    for file, suffix in (("images/train/east/a.0.png", ".JPG"), (FIRST, ".tif"), ("masks/train/east/a.2.png", ".bmp")):
        Image.open(root / file).save((root / file).with_suffix(suffix))
        (root / file).unlink()
    dataset = Folder(root, "train")
    assert [dataset.name(i) for i in range(4)] == NAMES
    np.testing.assert_array_equal(dataset[0].labels, ids(0, 3))
    np.testing.assert_array_equal(dataset[1].labels, ids(2, 3))


def test_files_that_were_listed_before(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    listed = Folder(root, "train").files[1:3]
    (root / FIRST).unlink()
    dataset = Folder(root, "", files=listed)
    assert [dataset[i].name for i in range(2)] == NAMES[1:3]


def test_what_labels_mean(tmp_path: Path) -> None:
    """It changes with the ids or colours of classes, and with nothing else."""
    root = coloured_tree(tmp_path)
    dataset = Folder(root, "train")
    assert pickle.loads(pickle.dumps(dataset)).meaning() == dataset.meaning() == Folder(root, "val").meaning()
    meanings = {dataset.meaning()}
    for text in (COLOURED.replace("128, 0, 0", "0, 0, 1"), f"{COLOURED}ignore: '#000000'", OWN_CLASSES):
        (root / "classes.yaml").write_text(text)
        meanings.add(Folder(root, "train").meaning())
    assert len(meanings) == 4


def test_errors_of_workers(tmp_path: Path) -> None:
    root = coloured_tree(tmp_path)
    save(root / FIRST, picture(0))
    with pytest.raises(UserError, match=r"^mask .*/a\.0\.png: color .* at row 0, column 0 belongs to no class"):
        next(iter(DataLoader(Folder(root, "train"), batch_size=None, num_workers=1)))


# Errors


def refusal(root: Path, index: int = 0) -> str:
    with pytest.raises(UserError) as caught:
        Folder(root, "train")[index]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_classes(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "classes.yaml").unlink()
    assert refusal(root) == (
        f"{root}/classes.yaml is missing: it names the classes of the masks. The masks hold ids 0, 1, 2: write "
        "`classes: [name of 0, name of 1, name of 2]` into it."
    )


def test_an_id_of_no_class(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    wrong = ids(0, 3)
    wrong[7, 5] = 4
    save(root / FIRST, wrong)
    (root / "classes.yaml").write_text(f"{OWN_CLASSES}  - {{name: car, id: 9}}\n")
    assert refusal(root) == (
        f"label map {root}/{FIRST}: value 4 at row 7, column 5 is no label id: they are 0..2, 9, 255. 1 of its 192 "
        f"pixels are wrong: correct it, or add the id to `classes` or `ignore` in {root}/classes.yaml; for colors, "
        "write `masks: colors` there."
    )


@pytest.mark.parametrize("kind", ["rgb", "rgba"])
def test_colours_in_place_of_ids(tmp_path: Path, kind: str) -> None:
    root = coloured_tree(tmp_path, kind)
    (root / "classes.yaml").write_text(OWN_CLASSES)
    assert refusal(root) == (
        f"mask {root}/{FIRST}: it has several channels, but {root}/classes.yaml says `masks: ids`, one value per "
        "pixel. If its colors stand for classes, write `masks: colors` and a color for every class in "
        f"{root}/classes.yaml."
    )


def test_ids_in_three_equal_channels(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    save(root / FIRST, np.dstack([ids(0, 3)] * 3))
    assert refusal(root).endswith("It is grey throughout: if its values are ids, save one of its channels.")


def test_ids_in_place_of_colours(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "classes.yaml").write_text(COLOURED)
    assert refusal(root).endswith(
        f"It is grey throughout: if its values are class ids, set `masks: ids` in {root}/classes.yaml."
    )


def test_jpeg_masks(tmp_path: Path) -> None:
    for root, said in ((folder_tree(tmp_path / "ids"), "grey levels"), (coloured_tree(tmp_path / "rgb"), "colors")):
        Image.open(root / FIRST).save((root / FIRST).with_suffix(".jpg"))
        (root / FIRST).unlink()
        assert f"masks/train/east/a.0.jpg: JPEG changes {said}, so its" in refusal(root)
        assert refusal(root).endswith("masks as PNG.") or refusal(root).endswith("label maps as PNG.")


@pytest.mark.parametrize("classes", [OWN_CLASSES, COLOURED])
def test_a_damaged_mask(tmp_path: Path, classes: str) -> None:
    root = folder_tree(tmp_path)
    (root / "classes.yaml").write_text(classes)
    (root / FIRST).write_bytes((root / FIRST).read_bytes()[:60])
    assert f"cannot read image {root}/{FIRST}: it is damaged or cut short" in refusal(root)


@pytest.mark.parametrize("make", [folder_tree, coloured_tree])
def test_sizes_differ(tmp_path: Path, make: type) -> None:
    root = make(tmp_path)
    Image.open(root / FIRST).crop((0, 0, 15, 12)).save(root / FIRST)
    assert "a.0.png is 16x12 pixels, but its label map" in refusal(root)
