"""How the folder of a data set looks, and what its splits hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gffnet.errors import UserError

Files: TypeAlias = list[tuple[Path, Path]]
"""Pairs of an image and its label map."""


@dataclass(frozen=True)
class Layout:
    """How the folder of a data set should look."""

    name: str
    """Of the data set."""
    marker: str
    """A glob pattern that only the right folder has a match for."""
    remedy: str
    """Says where to get the data set and how its folder looks."""
    splits: Callable[[Path], list[str]]
    """The splits that a folder holds."""
    pairs: Callable[[Path, str], Files]
    """The samples of one of them: where their files are, or should be."""
    label_files: Callable[[Path, str], list[Path]] | None = None
    """The label maps that lie in the folder of a split, where a split has one: each must belong to an image."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many samples the official splits have."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Another release that users take for this one: a glob pattern that tells it, and what it is and what to do."""

    def error(self, root: Path, cause: str) -> UserError:
        """The error for a folder that does not hold the data set; it names the right one if that is next to it."""
        other = self.other_release(root)
        right = None if self._fits(root) else next(filter(self._fits, self._near(root)), None)
        remedy = other or (f"{right} looks like it: pass --root {right}." if right else self.remedy)
        return UserError(f"data set {self.name!r} at {root}: {cause}. {remedy}")

    def other_release(self, root: Path) -> str | None:
        """What the folder is instead, and what to do, if it is a known other release."""
        return next((what for pattern, what in self.others.items() if any(root.glob(pattern))), None)

    def _fits(self, folder: Path) -> bool:
        return any(folder.glob(self.marker))

    def _near(self, root: Path) -> list[Path]:
        try:
            return [root.parent, *sorted(root.iterdir())] if root.is_dir() else []
        except OSError:
            return []


def list_files(layout: Layout, root: Path, splits: str) -> Files:
    """The files of one split, or of several one after the other.

    Args:
        layout: of the data set.
        root: its folder.
        splits: one split, or several joined by `+`.

    Raises:
        UserError: the folder is missing or no such data set, a split is missing, empty or named twice, or a file is
            missing.
    """
    if not root.is_dir():
        raise layout.error(root, "there is no such folder")
    there = layout.splits(root)
    if not there:
        raise layout.error(root, "the folder does not look like this data set")
    names = splits.split("+")
    if len(set(names)) < len(names):
        raise UserError(
            f"data set {layout.name!r}: splits {splits!r} name one twice. Name each once, such as train+val."
        )
    files: Files = []
    for split in names:
        if split not in there:
            raise layout.error(root, f"split {split!r} is not there (there are: {', '.join(there)})")
        pairs = layout.pairs(root, split)
        if not pairs:
            raise layout.error(root, f"split {split!r} holds no image")
        _check_exist(layout, root, split, pairs)
        files += pairs
    return files


def _check_exist(layout: Layout, root: Path, split: str, pairs: Files) -> None:
    for position, what in enumerate(("image", "label map")):
        missing = [pair[position] for pair in pairs if not pair[position].is_file()]
        if missing:
            count = f"{len(missing)} of the {len(pairs)} samples of split {split!r} lack their {what}"
            raise layout.error(root, f"{count}, the first of them {missing[0]}")
