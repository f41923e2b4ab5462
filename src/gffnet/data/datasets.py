"""The data sets by name: importing this module registers those that the package provides."""

from functools import cache
from pathlib import Path

import gffnet.data.ade20k
import gffnet.data.camvid
import gffnet.data.cityscapes
import gffnet.data.coco_stuff
import gffnet.data.folder
import gffnet.data.pascal_context  # noqa: F401  # registers itself, as those above do
from gffnet.data.cache import with_cache
from gffnet.data.dataset import DATASETS, Classes, Dataset, Layout, usual_split
from gffnet.data.io import READ_LATER
from gffnet.errors import UserError
from gffnet.files import as_path
from gffnet.remote import as_url, is_url, local_folder

__all__ = [
    "DATASETS",
    "cached_splits",
    "class_count",
    "dataset_classes",
    "image_count",
    "local_root",
    "open_dataset",
    "open_files",
    "thin_classes",
]

_CLASSES = 19
"""Stands in for the number of classes that a folder defines where there are no data, to compute a recipe's cost."""


def open_dataset(name: str, root: str | Path | None, split: str, cache: Path | None = None) -> Dataset:
    """Open a data set, with its cache if there is one.

    Args:
        name: such as `camvid`.
        root: its folder, or the URL of one, in the layout of its release.
        split: one of its splits, or several joined by `+`, such as `train+val`.
        cache: the folder of its cache; None: `gffnet_cache` in the root, if it exists.

    Raises:
        UserError: no such data set or folder, the folder is not the whole data set, or there is no cache in `cache`.
    """
    dataset = open_files(name, root, split)
    return with_cache(dataset, "+".join(dataset.layout.find_splits(dataset.root, split)), cache)


def open_files(name: str, root: str | Path | None, split: str) -> Dataset:
    """Open a data set without its cache. Otherwise as `open_dataset`."""
    dataset = DATASETS[name]
    if root is None:
        raise UserError(f"data set {name!r}: its folder is not given. Pass --root DIR, the folder of the release.")
    return dataset(local_root(root), split)


def local_root(root: str | Path) -> Path:
    """The folder of a data set; of one at a URL, the local one, where images are copied when they are read."""
    return _copied_root(as_url(root)) if is_url(root) else as_path(root)


@cache
def _copied_root(url: str) -> Path:
    """The local folder of the data set at a URL, which is listed once a process."""
    return local_folder(url, later=READ_LATER)


def dataset_classes(name: str) -> Classes:
    """The official classes of a data set, in the order of its train ids.

    Raises:
        UserError: no such data set, or one whose folder defines them, such as `folder`.
    """
    classes: Classes | None = getattr(DATASETS[name], "classes", None)
    if classes is None:
        raise UserError(f"data set {name!r} has no classes of its own: they stand in the classes.yaml of its folder.")
    return classes


def class_count(name: str) -> int:
    """The number of classes of a data set; 19 for one whose folder defines them, to compute costs without data.

    Raises:
        UserError: no such data set.
    """
    classes: Classes | None = getattr(DATASETS[name], "classes", None)
    return _CLASSES if classes is None else len(classes.names)


def image_count(name: str, split: str) -> int | None:
    """The number of images in a split of the release, or in several joined by `+`; None where it is not known."""
    layout: Layout | None = getattr(DATASETS[name], "layout", None) if name in DATASETS else None
    counts = [layout.counts.get(part, 0) for part in split.split("+")] if layout else [0]
    return sum(counts) if all(counts) else None


def thin_classes(name: str) -> tuple[str, ...]:
    """The thin and small classes of a data set; empty if it states none or is unknown."""
    return DATASETS[name].thin_classes if name in DATASETS else ()


def cached_splits(name: str, root: Path) -> list[str]:
    """The splits that are worth caching: all in the folder, but test only if there is no val.

    Raises:
        UserError: no such data set.
    """
    layout = DATASETS[name].layout
    found = layout.present(root)
    validated = layout.find_split("val", found) in found
    return [split for split in found if usual_split(split) != "test" or not validated] or ["train"]
