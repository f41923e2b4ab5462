"""What is wrong with a split before any file is opened: missing, misnamed, doubled and stray files."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from gffnet.data.check.findings import Finding, Place, cause_and_remedy
from gffnet.data.dataset import Files, Layout
from gffnet.data.io import EXTENSIONS
from gffnet.errors import UserError

_RENAME = (
    "Rename them as expected where only case or spelling differs (.PNG, .jpeg); convert those of another format, but "
    "never label maps from JPEG, which has changed their ids."
)
_JUNK = {"thumbs.db", "desktop.ini"}


class Listing(NamedTuple):
    """The files of a split."""

    split: str
    samples: int
    whole: Files
    """The samples both of whose files are there, and not empty."""
    findings: list[Finding]


def list_split(layout: Layout, root: Path, split: str) -> Listing:
    """The files of a split, and what is wrong with them."""
    place = Place(root, split)
    try:
        listed = layout.pairs(root, split)
    except UserError as error:
        cause, remedy = cause_and_remedy(str(error))
        return Listing(split, 0, [], [place.finding("list-unreadable", f"{cause}.", remedy)])
    unique = list(dict.fromkeys(listed))
    pairs = [pair for pair in unique if not is_junk(pair[0])]
    if not pairs:
        text = f"split {split!r} holds no image."
        return Listing(split, 0, [], [place.finding("split-empty", text, layout.remedy)])
    sizes = {file: _size(file) for pair in pairs for file in pair}
    folders = _Folders()
    instead = {file: near for file, size in sizes.items() if size is None and (near := folders.like(file))}
    orphans = _orphans(layout, root, split, pairs)
    findings = [
        *_count(layout, place, len(pairs)),
        *_twice(place, listed),
        *_junk(place, unique, orphans),
        *_missing(place, pairs, sizes, instead),
        *_empty(place, sizes),
        *_unused(place, pairs, [label for label in orphans if label not in instead.values()], folders),
    ]
    whole = [(image, label) for image, label in pairs if sizes[image] and sizes[label]]
    return Listing(split, len(pairs), whole, findings)


def is_junk(file: Path) -> bool:
    """Whether a file is none of the data set's, but one that an operating system leaves in folders."""
    return file.name.startswith(".") or file.name.lower() in _JUNK


def _size(file: Path) -> int | None:
    """Bytes of a file, None if it is not there."""
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def _count(layout: Layout, place: Place, samples: int) -> list[Finding]:
    official = layout.counts.get(place.split or "", samples)
    if samples == official:
        return []
    if samples < official:
        remedy = "The copy is partial: download what is missing, or do not compare scores with published ones."
    else:
        remedy = "Remove what the release does not hold, or do not compare scores with published ones."
    return [place.finding("count", f"{samples} of {official} official samples are there.", remedy)]


def _twice(place: Place, listed: Files) -> list[Finding]:
    twice = [image for image, times in Counter(image for image, _ in listed).items() if times > 1]
    remedy = "Delete the repeated lines: each repetition counts once more in training and in scores."
    return place.about("listed-twice", "samples listed more than once", twice, len(listed), remedy)


def _junk(place: Place, listed: Files, orphans: list[Path]) -> list[Finding]:
    remedy = f"Delete them: find {place.root} -name '._*' -delete."
    samples = [image for image, _ in listed if is_junk(image)]
    beside = [label for label in set(orphans) - {label for _, label in listed} if is_junk(label)]
    return [
        *place.about("junk-sample", "hidden files taken for images", samples, len(listed), remedy),
        *place.about("junk-file", "hidden files among the label maps", beside, len(listed), remedy),
    ]


def _missing(place: Place, pairs: Files, sizes: dict[Path, int | None], instead: dict[Path, Path]) -> list[Finding]:
    """Files that are not there, or only under another name."""
    gone = {file for file, size in sizes.items() if size is None and file not in instead}
    return [
        *place.about(
            "name-mismatch",
            "files under another name than expected",
            list(instead.values()),
            len(pairs),
            _RENAME,
            f"expected {next(iter(instead)).name}" if instead else "",
        ),
        *place.about(
            "image-missing",
            "images that are listed, but not there",
            [image for image, _ in pairs if image in gone],
            len(pairs),
            "Download them again, or delete their lines from the list.",
        ),
        *place.about(
            "label-missing",
            "label maps missing",
            [label for image, label in pairs if label in gone and image not in gone],
            len(pairs),
            "Download the label maps again, or move away the images that have none.",
        ),
    ]


def _empty(place: Place, sizes: dict[Path, int | None]) -> list[Finding]:
    empty = [file for file, size in sizes.items() if size == 0]
    return place.about("empty-file", "empty files", empty, len(sizes), "Copy or download them again.")


def _orphans(layout: Layout, root: Path, split: str, pairs: Files) -> list[Path]:
    """The label maps of a split that belong to none of its samples."""
    used = {label for _, label in pairs}
    return [label for label in (layout.label_files(root, split) if layout.label_files else []) if label not in used]


def _unused(place: Place, pairs: Files, orphans: list[Path], folders: "_Folders") -> list[Finding]:
    """Label maps that belong to no sample: their image is not there, not listed, or under another name."""
    usual = pairs[0][0].suffix
    images = {label: folders.image_of(label, pairs) for label in orphans if not is_junk(label)}
    found = [image for image in images.values() if image]
    return [
        *place.about(
            "name-mismatch",
            f"images that do not end in {usual}",
            [image for image in found if image.suffix != usual],
            len(pairs),
            _RENAME,
        ),
        *place.about(
            "not-listed",
            "samples that no list names",
            [image for image in found if image.suffix == usual],
            len(pairs),
            "They are left out; add them to the list if they belong to the split.",
        ),
        *place.about(
            "label-without-image",
            "label maps without an image",
            [label for label, image in images.items() if image is None],
            len(pairs),
            "Download the images again, or delete these label maps.",
        ),
    ]


class _Folders:
    """The images in folders, by their name without extension and in lower case."""

    def __init__(self) -> None:
        self._images: dict[Path, dict[str, list[Path]]] = {}

    def like(self, file: Path) -> Path | None:
        """An image in the folder of `file` whose name differs from it in case or extension only."""
        return next(iter(self._named(file.parent, file.stem)), None) if file.suffix.lower() in EXTENSIONS else None

    def image_of(self, label: Path, pairs: Files) -> Path | None:
        """An image that no sample has, and whose name goes with that of `label` as in the first sample."""
        image, paired = pairs[0]
        same = [a == b for a, b in zip(image.stem, paired.stem, strict=False)]
        start = [*same, False].index(False)
        stem = label.stem.removesuffix(paired.stem[start:]) + image.stem[start:]
        used = {image for image, _ in pairs}
        found = [near for folder in {image.parent for image in used} for near in self._named(folder, stem)]
        return next((near for near in found if near not in used), None)

    def _named(self, folder: Path, stem: str) -> list[Path]:
        if folder not in self._images:
            images = self._images[folder] = {}
            for file in sorted(folder.glob("*")):
                if file.suffix.lower() in EXTENSIONS:
                    images.setdefault(file.stem.casefold(), []).append(file)
        return self._images[folder].get(stem.casefold(), [])
