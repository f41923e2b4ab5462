"""Lists of files and of classes to damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from gffnet.data.camvid import CamVid
from gffnet.data.coco_stuff import COCOStuff10k
from gffnet.data.dataset import Dataset
from gffnet.data.folder import Folder
from gffnet.data.pascal_context import PascalContext
from tests.data.fuzz.masks import color_tree
from tests.data.fuzz.target import Target, heads, same
from tests.data.trees import (
    camvid_tree,
    coco_stuff_tree,
    folder_tree,
    pascal_context_tree,
)


def list_reader(make: Callable[[], Dataset]) -> Callable[[], str]:
    """Opens a data set: of every pair, both files are there and have one name."""

    def read() -> str:
        dataset = make()
        assert len(dataset)
        for image, label in dataset.files:
            assert image.is_file()
            assert label.is_file()
            assert image.stem == label.stem
        return "accepted"

    return read


def camvid_list(root: Path) -> Target:
    camvid_tree(root)
    return Target(
        root / "train.txt",
        list_reader(lambda: CamVid(root, "train")),
        heads(root / "val.txt", root / "val" / "val_000.png"),
    )


def with_paths(listing: Path, line: str) -> None:
    """As converters write lists: not bare names, and more than one thing a line."""
    listing.write_text("".join(line.replace("{}", name) for name in listing.read_text().split()))


def voc_list(root: Path) -> Target:
    lists = pascal_context_tree(root, train=6) / "ImageSets" / "Main"
    with_paths(lists / "train.txt", "VOCdevkit/VOC2010/JPEGImages/{}.jpg 1  a comment\n\n")
    return Target(lists / "train.txt", list_reader(lambda: PascalContext(root, "train")), heads(lists / "val.txt"))


def coco_list(root: Path) -> Target:
    lists = coco_stuff_tree(root) / "imageLists"
    with_paths(lists / "train.txt", "C:\\cocostuff\\images\\{}.jpg annotations\\{}.mat\n")
    return Target(lists / "train.txt", list_reader(lambda: COCOStuff10k(root, "train")), heads(lists / "test.txt"))


def folder_list(root: Path) -> Target:
    folder_tree(root, train=6)
    names = [image.relative_to(root / "images") for image in sorted(root.glob("images/**/*.png"))]
    for split, chosen in (("train", names[2:]), ("val", names[:2])):
        lines = (
            str(name if i % 2 else name.with_suffix("")).replace("/", "\\/"[i % 3 > 0]) for i, name in enumerate(chosen)
        )
        (root / f"{split}.txt").write_text("\n  \n\n".join(lines))

    def opened() -> Dataset:
        dataset = Folder(root, "train")
        for image, mask in dataset.files:
            assert image.relative_to(root / "images") == mask.relative_to(root / "masks")
        return dataset

    return Target(root / "train.txt", list_reader(opened), heads(root / "val.txt"))


def classes_of_ids(root: Path) -> Target:
    folder_tree(root)
    return classes_yaml(
        root,
        "classes:\n- road\n- {name: pole, color: [153, 153, 153]}\n- {name: sign, id: 2}\n- {name: sky, id: 11}\n"
        "ignore: [255]\n",
    )


def classes_of_colors(root: Path) -> Target:
    return classes_yaml(root, (color_tree(root) / "classes.yaml").read_text())


def classes_yaml(root: Path, text: str) -> Target:
    """The file that says which classes there are; the masks stay as they are."""
    file = root / "classes.yaml"
    file.write_text(f"# {'What the pixels of these masks are. ' * 8}\n{text}# {'Nothing more is known. ' * 9}\n")

    def read() -> str:
        dataset = Folder(root, "train")
        names, train_id = by_yaml(file.read_text(encoding="utf-8"))
        assert dataset.classes.names == names
        sample, stored = dataset[0], np.asarray(Image.open(dataset.files[0][1]))
        same(sample.labels, np.array([[train_id(value.tolist()) for value in row] for row in stored]))
        return "accepted"

    return Target(file, read, [b"classes: [a, b, c]\n", b"ignore: 7\nmasks: ids\n"])


def by_yaml(text: str) -> tuple[tuple[str, ...], Callable[[object], int]]:
    """The names of the classes, and what becomes of an id or a color, as `classes.yaml` says it."""
    said = yaml.safe_load(text)
    listed = [item if isinstance(item, dict) else {"name": item} for item in said["classes"]]
    key = "color" if said.get("masks") == "colors" else "id"
    stored = [item.get(key, i) for i, item in enumerate(listed)]

    def train_id(value: object) -> int:
        return [number(one) for one in stored].index(value) if value in map(number, stored) else 255

    return tuple(item["name"] for item in listed), train_id


def number(stored: object) -> object:
    """A color as a list; an id as it is."""
    return list(bytes.fromhex(stored[1:])) if isinstance(stored, str) else stored
