"""From a name to a data set. One row a data set: to add or to delete one, change its row here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gffnet.data import ade20k, camvid, cityscapes, coco_stuff, folder, pascal_context
from gffnet.data import folder as folder_splits
from gffnet.data.cache.cached import with_cache
from gffnet.data.dataset import Dataset, Files, Layout
from gffnet.errors import UserError, unknown

CACHE = "gffnet_cache"
"""The folder in the root of a data set where its cache is looked for."""
READERS: dict[str, Callable[..., Dataset]] = {
    "ade20k": ade20k.ADE20K,
    "camvid": camvid.CamVid,
    "cityscapes": cityscapes.Cityscapes,
    "streets": partial(cityscapes.Cityscapes, name="streets"),
    "pascal_context": pascal_context.PascalContext,
    "coco_stuff_10k": coco_stuff.COCOStuff10k,
    "folder": folder.Folder,
}
LAYOUTS: dict[str, Layout] = {
    "ade20k": ade20k.LAYOUT,
    "camvid": camvid.LAYOUT,
    **cityscapes.LAYOUTS,
    "pascal_context": pascal_context.LAYOUT,
    "coco_stuff_10k": coco_stuff.LAYOUT,
    "folder": folder_splits.LAYOUT,
}


def open_dataset(name: str, root: Path | None, split: str, cache: Path | None = None) -> Dataset:
    """The data set `name` in the folder `root`, with its cache, if there is one.

    Args:
        name: such as `camvid`.
        root: its folder, in the layout of its release.
        split: one of its splits, or several joined by `+`, such as `train+val`.
        cache: the folder of its cache; None: `gffnet_cache` in the root, if it is there.

    Raises:
        UserError: no such data set or folder, the folder does not hold the data set whole, or no cache where one was
            named.
    """
    dataset = open_files(name, root, split)
    assert root is not None
    if cache is not None and not any(cache.glob("index-*.json")):
        raise UserError(
            f"--cache {cache}: there is no cache. `gffnet data cache {name} --root {root} --out {cache}` makes it."
        )
    return with_cache(dataset, root, split, cache or root / CACHE)


def open_files(name: str, root: Path | None, split: str) -> Dataset:
    """The data set `name` as `open_dataset` opens it, but read from its files whether there is a cache or not."""
    check_name(name)
    if root is None:
        raise UserError(f"data set {name!r}: its folder is not given. Pass --root DIR, the folder of the release.")
    return READERS[name](root, split)


def cached_splits(name: str, root: Path) -> list[str]:
    """The splits that are worth caching: all that are there, but test only if there is no val.

    Raises:
        UserError: no such data set.
    """
    check_name(name)
    there = LAYOUTS[name].splits(root) if root.is_dir() else []
    return [split for split in there if split != "test" or "val" not in there] or ["train"]


def read_listed(name: str, root: Path, files: Files) -> Dataset:
    """The data set `name` with the samples in `files`, whatever else is wrong with the folder.

    Raises:
        UserError: no such data set.
    """
    check_name(name)
    return READERS[name](root, "", files=files)


def check_name(name: str) -> None:
    """Raises `UserError` if there is no data set `name`."""
    if name not in READERS:
        raise unknown("data set", name, READERS)
