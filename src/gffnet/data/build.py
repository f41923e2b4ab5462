"""From a name to a data set. One row a data set: to add or to delete one, change its row here."""

from collections.abc import Callable
from pathlib import Path

from gffnet.data.base import Dataset
from gffnet.data.camvid import CamVid
from gffnet.data.cityscapes import Cityscapes
from gffnet.errors import UserError, unknown

READERS: dict[str, Callable[[Path, str], Dataset]] = {
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "streets": lambda root, split: Cityscapes(root, split, name="streets"),
}
_UNREAD = ("ade20k", "pascal_context", "coco_stuff_10k", "folder")


def open_dataset(name: str, root: Path | None, split: str) -> Dataset:
    """The data set `name` in the folder `root`.

    Args:
        name: such as `camvid`.
        root: its folder, in the layout of its release.
        split: one of its splits, or several joined by `+`, such as `train+val`.

    Raises:
        UserError: no such data set or folder, or the folder does not hold the data set whole.
    """
    if name in _UNREAD:
        raise UserError(f"data set {name!r} cannot be read by this version yet; readable now: {', '.join(READERS)}.")
    if name not in READERS:
        raise unknown("data set", name, [*READERS, *_UNREAD])
    if root is None:
        raise UserError(f"data set {name!r}: its folder is not given. Pass --root DIR, the folder of the release.")
    return READERS[name](root, split)
