"""What may be found in a data set: a code for every kind, with its severity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error keeps the data set from being read, or makes its labels wrong; a warning makes scores others than the
published ones, or useless; a note is good to know."""

CODES: dict[str, Severity] = {
    # the folder
    "wrong-release": "error",
    "not-this-data-set": "error",
    "no-splits": "error",
    "classes-unreadable": "error",
    "split-missing": "warning",
    "test-missing": "note",
    "split-empty": "error",
    "list-unreadable": "error",
    "image-missing": "error",
    "label-missing": "error",
    "name-mismatch": "error",
    "label-without-image": "warning",
    "not-listed": "note",
    "listed-twice": "warning",
    "count": "warning",
    "empty-file": "error",
    "junk-sample": "error",
    "junk-file": "note",
    "split-leak": "warning",
    "identical-across-splits": "warning",
    "identical-images": "note",
    # images
    "image-unreadable": "error",
    "size-mismatch": "error",
    "rotated-image": "error",
    "exif-orientation": "note",
    "small-image": "warning",
    "sizes-vary": "note",
    "grey-image": "note",
    "deep-image": "note",
    # label maps
    "label-unreadable": "error",
    "colour-mask": "error",
    "jpeg-mask": "error",
    "deep-mask": "note",
    "unknown-label": "error",
    "binary-mask": "error",
    "train-ids": "error",
    "shifted-labels": "error",
    "mixed-releases": "warning",
    "unlabelled-map": "warning",
    "unlabelled-split": "error",
    "dummy-labels": "note",
    "class-absent": "warning",
    "classes-mostly-absent": "error",
}
"""All codes, in the order in which the findings of one severity are told."""

MOST_FILES = 20
"""How many files a finding names."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault in a split, or in the whole data set."""

    code: str
    split: str | None
    """None if it concerns more than one."""
    message: str
    remedy: str
    files: tuple[str, ...] = ()
    """The first of those that it concerns, below the root."""
    count: int = 1
    """How many it concerns."""

    @property
    def severity(self) -> Severity:
        """Of its code."""
        return CODES[self.code]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "severity": self.severity,
            "code": self.code,
            "split": self.split,
            "message": self.message,
            "remedy": self.remedy,
            "files": list(self.files),
            "count": self.count,
        }


@dataclass(frozen=True)
class Place:
    """Where something is found: in a split of a data set, or in all of it."""

    root: Path
    split: str | None = None

    def short(self, path: Path) -> str:
        """The path below the root."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def finding(self, code: str, message: str, remedy: str, count: int = 1) -> Finding:
        """A finding that concerns no particular file."""
        return Finding(code, self.split, message, remedy, count=count)

    def about(
        self, code: str, what: str, files: Sequence[Path], of: int, remedy: str, detail: str = ""
    ) -> list[Finding]:
        """The finding `what: 2 of 367, the first FILE (detail)`, if there are such files."""
        if not files:
            return []
        first = f"{'the first ' if len(files) > 1 else ''}{self.short(files[0])}{f' ({detail})' if detail else ''}"
        message = f"{what}: {len(files)} of {of}, {first}."
        named = tuple(self.short(file) for file in files[:MOST_FILES])
        return [Finding(code, self.split, message, remedy, named, len(files))]


def cause_and_remedy(error: str, file: Path | None = None) -> tuple[str, str]:
    """An error but for its last sentence or clause, which says what to do, and that; what precedes `file` is cut."""
    text = " ".join(error.split())
    text = text.partition(f"{file}: ")[2] or text
    cause, _, remedy = text.rpartition(". " if ". " in text else ": ")
    return cause, f"{remedy[:1].upper()}{remedy[1:]}"
