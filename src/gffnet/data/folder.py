"""One's own images and masks.

Format:
    `images/**/NAME.jpg` (or any other image format) and `masks/**/NAME.png`: a mask has the path of its image but for
    the suffix. Masks hold class ids or colours, without loss.
Splits:
    by lists, by subfolders, or by a fraction of the images; see `folder_splits`.
Classes:
    those of `classes.yaml`, in its order; see `folder_classes`.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gffnet.data.base import Dataset
from gffnet.data.colour_masks import ColourTable, read_colours
from gffnet.data.folder_classes import FILE, FolderClasses, read_classes
from gffnet.data.folder_splits import list_own_files
from gffnet.data.images import read_labels
from gffnet.data.labels import LabelTable, identity
from gffnet.data.layout import Files
from gffnet.errors import UserError


class Folder(Dataset):
    """The images of `split`, such as train, val, or several such as `train+val`.

    Args:
        root: the folder that holds `images`, `masks` and `classes.yaml`.
        split: the split or splits.
        files: takes the place of the split where its files were listed before.

    Raises:
        UserError: the folder, its classes, a split or a file is missing or wrong.
    """

    def __init__(self, root: Path, split: str, files: Files | None = None) -> None:
        files = list_own_files(root, split) if files is None else files
        self.root = root
        self.stored = read_classes(root)
        names = self.stored.classes.names
        self.colours: ColourTable | None = None
        if self.stored.masks == "colors":
            self.colours = ColourTable(self.stored.train_ids, names, root / FILE)
            table = LabelTable(identity(len(names)), legal=f"0..{len(names) - 1}, and 255")
        else:
            table = _id_table(self.stored, root / FILE)
        super().__init__(self.stored.classes, files, table)

    def name(self, index: int) -> str:
        """The path of sample `index` in `images`, without suffix, as `gffnet predict` names results."""
        return self.files[index][0].relative_to(self.root / "images").with_suffix("").as_posix()

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a mask stores; where masks are colours, the train ids.

        Raises:
            UserError: the file cannot be read, holds colours in place of ids, or a colour of no class.
        """
        if self.colours is not None:
            return self.colours(read_colours(label_file), label_file), self.table
        try:
            return read_labels(label_file), self.table
        except UserError:
            _refuse_colours(label_file, self.root / FILE)
            raise

    def meaning(self) -> str:
        """All that decides which train id a stored id or colour becomes, but for the files themselves."""
        return f"{self.stored.masks} {sorted(self.stored.train_ids.items())}"


def _id_table(stored: FolderClasses, source: Path) -> LabelTable:
    """From the ids of masks to train ids."""
    hint = f"correct it, or add the id to `classes` or `ignore` in {source}; for colours, write `masks: colors` there"
    return LabelTable(stored.train_ids, legal=_ranges(sorted(stored.train_ids)), hint=hint)


def _ranges(ids: list[int]) -> str:
    """Ascending ids as text, such as `0..2, 7, 255`."""
    runs: list[list[int]] = []
    for one in ids:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _refuse_colours(mask: Path, source: Path) -> None:
    """Say what to do with a mask that holds colours where it should hold ids."""
    try:
        colours = read_colours(mask)
    except UserError:
        return  # something else is wrong with it
    if (colours == colours[..., :1]).all():
        remedy = "It is grey all over: if its values are ids, save one of its channels"
    else:
        remedy = f"If its colours stand for classes, write `masks: colors` and a color for every class in {source}"
    raise UserError(
        f"mask {mask}: it has several channels, but {source} says `masks: ids`, one value a pixel. {remedy}."
    )
