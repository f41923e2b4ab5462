"""Label maps that are sound one by one, and wrong as a whole."""

from pathlib import Path

import numpy as np
import pytest

from gffnet.data.catalog import IGNORE, Classes
from gffnet.data.check.findings import Place
from gffnet.data.check.look import LabelLook
from gffnet.data.check.meaning import find_absent, find_other_ids, find_releases
from gffnet.data.cityscapes import TABLE
from gffnet.data.dataset import LabelTable, identity
from tests.data.check.planted import SIZE, camvid, check, cityscapes, only
from tests.data.trees import ids, picture, save

SHIFTED = LabelTable({0: IGNORE, **{stored: stored - 1 for stored in range(1, 6)}}, "0..5")
"""As ADE20K's, of five classes."""


def with_ignored(seed: int, classes: int) -> np.ndarray:
    labels = ids(seed, classes, SIZE)
    labels[:5] = IGNORE
    return labels


@pytest.mark.parametrize("ignored", [True, False])
def test_train_ids_in_place_of_label_ids(tmp_path: Path, ignored: bool) -> None:
    root = cityscapes(tmp_path)
    for seed, file in enumerate(sorted(root.rglob("*_labelIds.png"))):
        save(file, with_ignored(seed, 19) if ignored else ids(seed, 19, SIZE))
    finding = only(check(root, "cityscapes"), "train-ids")
    assert (finding.severity, finding.split, finding.count) == ("error", None, 9)
    assert "train ids 0..18 where label ids (0..33," in finding.message
    assert "*_labelIds.png (not *_labelTrainIds.png)" in finding.remedy


def test_train_ids_next_to_dummies(tmp_path: Path) -> None:
    root = cityscapes(tmp_path)
    for seed, file in enumerate(sorted(root.rglob("*_labelIds.png"))):
        save(file, ids(seed, 4, SIZE) if "test" in file.parts else with_ignored(seed, 19))
    report = check(root, "cityscapes")
    assert [finding.code for finding in report.of("error")] == ["train-ids"]


def test_ids_less_by_one(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for i in range(2):
            save(tmp_path / f"images/{split}/ADE_{i}.jpg", picture(i + len(split), SIZE))
            save(tmp_path / f"annotations/{split}/ADE_{i}.png", with_ignored(i, 150))
    finding = only(check(tmp_path, "ade20k"), "shifted-labels")
    assert (finding.severity, finding.count) == ("error", 4)
    assert "ids less by one (255 for 0, never 150)" in finding.message
    assert "Restore the label maps of the release" in finding.remedy


def look(*values: int, table: LabelTable = TABLE) -> LabelLook:
    """A label map with one pixel of each value."""
    known = [value for value in values if table.known(np.array([value]))[0]]
    classes = {int(table(np.array([[value]]), Path())[0, 0]): 1 for value in known}
    unknown = next(((value, 0, 0) for value in values if value not in known), None)
    pixels = dict.fromkeys(values, 1)
    return LabelLook(Path("x.png"), None, SIZE, pixels, classes, {}, unknown, table.legal)


@pytest.mark.parametrize(
    ("table", "classes", "values"),
    [
        (TABLE, 19, (7, 11, 23)),  # the sky is there
        (TABLE, 19, (1, 2)),  # nothing is labelled
        (SHIFTED, 5, (1, 2, 3, 4)),  # the last class may be absent, and nothing is ignored
        (SHIFTED, 5, (0, 1, 2)),
        (LabelTable(identity(4), "0..3, 255"), 4, (0, 1, 255)),  # these are train ids
        (LabelTable({0: 0, 255: 1}, "0, 255"), 2, (0, 255)),  # 255 is a class
        (LabelTable({1: 0, 2: 1, 255: 255}, "1, 2, 255"), 2, (1, 255)),
    ],
)
def test_no_proof_of_other_ids(table: LabelTable, classes: int, values: tuple[int, ...]) -> None:
    assert find_other_ids(Place(Path()), [look(*values, table=table)], table, classes) == []


def test_masks_of_black_and_white_where_255_is_ignored(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"images/{'val' if i else 'train'}/{i}.png", np.full((*SIZE, 3), [i, 1, 2], np.uint8))
        save(tmp_path / f"masks/{'val' if i else 'train'}/{i}.png", (ids(i, 2, SIZE)) * np.uint8(255))
    (tmp_path / "classes.yaml").write_text("classes: [background, car]\n")
    report = check(tmp_path, "folder")
    (finding,) = report.of("error")
    assert (finding.code, finding.count) == ("binary-mask", 4)
    assert "such as 0 and 1" in finding.remedy


def test_label_maps_of_two_releases() -> None:
    labels = [look(1, 2), look(7), look(1, 2, table=SHIFTED)]
    (finding,) = find_releases(Place(Path()), labels)
    assert (finding.code, finding.count) == ("mixed-releases", 1)
    assert "0..5: 1)" in finding.message
    assert "unpack one release into an empty folder" in finding.remedy
    assert find_releases(Place(Path()), labels[:2]) == []


def test_a_class_that_never_occurs(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    for i in range(3):
        labels = ids(i, 12, SIZE)
        save(root / f"valannot/val_{i:03d}.png", np.where(labels == 8, 3, labels).astype(np.uint8))
    finding = only(check(root), "class-absent")
    assert (finding.split, finding.severity) == ("val", "warning")
    assert finding.message == "classes that never occur: 1 of 11: car."
    assert "of the whole, restore the label maps" in finding.remedy


@pytest.mark.parametrize(("samples", "code"), [(20, "classes-mostly-absent"), (19, "class-absent")])
def test_most_classes_never_occur(samples: int, code: str) -> None:
    """An error where there are enough samples to have them."""
    classes = Classes(tuple("abcdefghijklmnopqrst"), ((0, 0, 0),) * 20)
    (finding,) = find_absent(Place(Path(), "val"), [1, 2, *[0] * 18], samples, classes)
    assert finding.code == code
    assert finding.message == "classes that never occur: 18 of 20: c, d, e, f, g, h, i, j, k, l, m, n and 6 more."
    assert ("of this data set" in finding.remedy) == (code == "classes-mostly-absent")
