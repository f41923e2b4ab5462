"""Check a data set: what is wrong with it, file by file, with the remedy, and how often its classes occur.

1. Is the folder this data set, in the release that gffnet reads, and which splits are there?
2. Are the files of each split there, under the expected names, each once?
3. Worker processes decode every file with the reader that training uses, and return its statistics.
4. Findings on images and label maps follow from these, per split and over all of them.

`FINDINGS` lists everything that may be found. An error keeps the data set from being read or makes its labels wrong; a
warning makes scores incomparable with published ones, or meaningless; a note is good to know.
"""

import hashlib
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gffnet.console import DASH, make_table, percent
from gffnet.data.dataset import (
    IGNORE,
    Dataset,
    Files,
    LabelTable,
    Layout,
    leak,
    split_options,
    training_splits,
    usual_split,
)
from gffnet.data.datasets import DATASETS
from gffnet.data.folder import Folder
from gffnet.data.io import (
    EXTENSIONS,
    READ,
    Header,
    as_array,
    bands_used,
    largest_sample,
    read_header,
    read_image,
    read_stored,
    unread_files,
)
from gffnet.data.statistics import channels_of
from gffnet.data.unread import unread_suffix
from gffnet.errors import RunFailed, UserError
from gffnet.parallel import in_processes
from gffnet.remote import as_url, fetch, is_url, local_folder

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
Size: TypeAlias = tuple[int, int]
"""Height and width."""


class Kind(NamedTuple):
    """Something that may be found; cause and remedy are templates (`str.format`)."""

    severity: Severity
    cause: str
    remedy: str = "{remedy}"


_SPLIT_MISSING = "split {split!r} is not there (there are: {present})"
_ONE_SPLIT_EACH = "Keep each sample in one split: a score on images that were trained on is meaningless."
_DELETE_HIDDEN = "Delete them: find {root} -name '._*' -delete."
_OWN_IDS = (
    "Restore the label maps of the release, as *_labelIds.png (not *_labelTrainIds.png) of Cityscapes: gffnet maps "
    "their ids itself."
)
_IGNORED = "label maps in which every pixel is ignored"
_ABSENT = "classes that never occur: {absent} of {classes}: {named}"

FINDINGS: dict[str, Kind] = {
    # The folder
    "wrong-release": Kind("error", "{cause}"),
    "not-this-data-set": Kind("error", "{cause}"),
    "no-splits": Kind("error", "{cause}"),
    "classes-unreadable": Kind("error", "{cause}"),
    "split-missing": Kind("warning", _SPLIT_MISSING, "Needed to use it: {remedy}"),
    "split-lacking": Kind("error", _SPLIT_MISSING + ", and no other to take its place", "{remedy}"),
    "test-missing": Kind("note", _SPLIT_MISSING, "Needed to use it: {remedy}"),
    "split-empty": Kind("error", "{cause}"),
    "list-unreadable": Kind("error", "{cause}"),
    "image-missing": Kind(
        "error", "images that are listed, but not there", "Download them again, or delete their lines from the list."
    ),
    "label-missing": Kind(
        "error", "label maps missing", "Download the label maps again, or move away the images that have none."
    ),
    "name-mismatch": Kind(
        "error",
        "{cause}",
        "Rename them as expected where only case or spelling differs (.PNG, _mask.png); convert those of another "
        "format, but never label maps from JPEG, which has changed their ids.",
    ),
    "label-without-image": Kind(
        "warning", "label maps without an image", "Download the images again, or delete these label maps."
    ),
    "not-listed": Kind(
        "note", "samples that no list names", "They are left out; add them to the list if they belong to the split."
    ),
    "listed-twice": Kind(
        "warning",
        "samples listed more than once",
        "Delete the repeated lines: each repetition counts once more in training and in scores.",
    ),
    "count": Kind("warning", "{samples} of {official} official samples are there"),
    "empty-file": Kind("error", "empty files", "Copy or download them again."),
    "junk-sample": Kind("error", "hidden files taken for images", _DELETE_HIDDEN),
    "junk-file": Kind("note", "hidden files among the label maps", _DELETE_HIDDEN),
    "unread-format": Kind(
        "warning",
        "images in formats that gffnet does not read, which are left out",
        f"gffnet reads {READ}. {{remedy}}.",
    ),
    "split-leak": Kind("warning", "images in more than one split", _ONE_SPLIT_EACH),
    "identical-across-splits": Kind("warning", "images with a copy in another split", _ONE_SPLIT_EACH),
    "identical-images": Kind(
        "note",
        "images with a copy in the same split",
        "Delete the copies, unless the release has them: they count twice.",
    ),
    # Images
    "image-unreadable": Kind("error", "images that cannot be read"),
    "size-mismatch": Kind(
        "error", "images and label maps of different sizes", "Restore the one that was scaled or cropped."
    ),
    "rotated-image": Kind(
        "error",
        "images rotated by their EXIF orientation, unlike their label maps",
        "Remove the orientation from the images (exiftool -Orientation= FILE) if their label maps were drawn on the "
        "pixels as stored; otherwise rotate the label maps.",
    ),
    "exif-orientation": Kind(
        "note",
        "images with an EXIF orientation",
        "Images are rotated upright when they are read, and label maps by an orientation of their own: see that the "
        "label maps are upright too.",
    ),
    "small-image": Kind(
        "warning",
        "images less than {smallest} pixels high or wide",
        "Restore them if they were scaled down, as thumbnails are: a network sees next to nothing in them.",
    ),
    "sizes-vary": Kind(
        "note",
        "images from {low} to {high} pixels (median {median}; height x width), the smallest",
        "Nothing to do if the release is like that; otherwise restore those that were scaled.",
    ),
    "grey-image": Kind("note", "grey images", "Nothing to do: they are read as RGB."),
    "mixed-bands": Kind(
        "error",
        "images of other bands than most, which have {usual}",
        "A network takes one number: leave these out, or save them with as many bands as the others. To train on such "
        "images: --set model.backbone.in_channels={bands}.",
    ),
    "alpha-band": Kind(
        "note",
        "TIFF images whose last of {bands} bands is marked as alpha",
        "It is left out. If it is a band of the image, such as infrared: --set model.backbone.in_channels={bands}.",
    ),
    "float-image": Kind(
        "warning",
        "images of samples up to {highest:g}, of which it is not known what is white",
        "Say it where you train: --set model.white_level={highest:g}.",
    ),
    "deep-image": Kind(
        "note",
        "images of more than 8 bits a sample",
        "Nothing to do: training finds their white level, model.white_level, in the images (the largest sample is "
        "{highest:g}).",
    ),
    "further-pages": Kind(
        "note",
        "images of several pages or frames, of which the first is used",
        "Save the others as files of their own, with label maps, to use them.",
    ),
    # Label maps
    "label-unreadable": Kind("error", "label maps that cannot be read"),
    "colour-mask": Kind("error", "color masks, which hold no ids"),
    "jpeg-mask": Kind(
        "error",
        "label maps in JPEG",
        "Export or download them as PNG: converting the JPEG files does not restore the lost ids.",
    ),
    "deep-mask": Kind(
        "note",
        "label maps of more than 8 bits a pixel",
        "Nothing to do: the ids are read completely. With 8 bits a pixel the files are smaller and read faster.",
    ),
    "unknown-label": Kind("error", "label maps with values that are no label id (those are {legal}): {values}"),
    "binary-mask": Kind(
        "error",
        "label maps that hold only 0 and 255",
        "{remedy}",
    ),
    "one-class": Kind("error", "{name!r} is the only class that is labelled to train on{rest}", "{remedy}"),
    "unlisted-255": Kind("warning", "{share} of the pixels are 255, which is ignored", "{remedy}"),
    "train-ids": Kind("error", "label maps with train ids 0..{last} where label ids ({legal}) are expected", _OWN_IDS),
    "shifted-labels": Kind("error", "label maps with ids less by one (255 for 0, never {largest})", _OWN_IDS),
    "mixed-releases": Kind(
        "warning",
        "label maps of several releases side by side (by the ids that may occur, {releases})",
        "Each is read by its own ids, but their annotations differ: unpack one release into an empty folder.",
    ),
    "unlabelled-map": Kind(
        "warning",
        _IGNORED,
        "Restore them if they were overwritten; nothing is learned from them, and they are not scored.",
    ),
    "unlabelled-split": Kind("error", _IGNORED, "Restore the label maps: there is nothing to train on or to score."),
    "dummy-labels": Kind("note", _IGNORED, "Nothing to do: the labels of the test split are not public; score on val."),
    "class-absent": Kind(
        "warning",
        _ABSENT,
        "Expected in a part of the data set; in the whole, restore the label maps. They count in no score here.",
    ),
    "classes-mostly-absent": Kind(
        "error",
        _ABSENT,
        "So many are hardly missing by chance: check that the label maps are of this data set, with its own ids.",
    ),
}
"""Every kind of finding by its code, in the order in which those of one severity are listed."""

MAX_FILES = 20
"""How many files a finding names."""
SMALLEST = 32
"""Images with a shorter side leave the deepest maps of a network four positions or fewer."""
_SIZE_RATIO = 16
"""How many times as many pixels as the smallest image the largest may have before it is noted."""
_TRANSPOSED = {5, 6, 7, 8}
"""EXIF orientations that exchange height and width."""
_JUNK = {"thumbs.db", "desktop.ini"}
_ENDINGS = ("", "_mask", "-mask", ".mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation")
"""What tools append to the name of an image to name its mask."""
_MAX_IDS, _MAX_CLASSES = 8, 12
"""How many a message names."""
_SPLIT_ORDER = ["train", "val", "test"]
_EXPECTED_SPLITS = ("train", "val")
"""Of a data set without official splits."""
_FEW = 8
"""Samples that are read in this process: too few to be worth the start of others."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a split, or with the whole data set."""

    code: str
    """A key of `FINDINGS`."""
    split: str | None
    """None if it concerns more than one."""
    message: str
    remedy: str
    files: tuple[str, ...] = ()
    """The first `MAX_FILES` of the files that it concerns, relative to the root."""
    count: int = 1
    """How many it concerns."""

    @property
    def severity(self) -> Severity:
        return FINDINGS[self.code].severity

    def to_json(self) -> dict[str, Any]:
        return {"severity": self.severity, **asdict(self)}


@dataclass(frozen=True)
class Findings:
    """Collects findings on the data set in `root`, or on one of its splits."""

    root: Path
    split: str | None = None
    items: list[Finding] = field(default_factory=list)

    def of_split(self, split: str) -> "Findings":
        """The same collection, to which findings on `split` are added."""
        return replace(self, split=split)

    def relative(self, file: Path) -> str:
        """A path relative to the root, where it is below it."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else str(file)

    def add(
        self,
        code: str,
        files: Sequence[Path] | None = None,
        total: int = 0,
        detail: str = "",
        count: int = 1,
        **values: object,
    ) -> None:
        """Add `cause.`, or, with `files`, `cause: 2 of {total}, the first FILE (detail).`, unless they are empty.

        `values` fill in the templates; `count` is how many things it concerns, where these are no files.
        """
        if files is not None and not files:
            return
        values = {"root": self.root, "split": self.split, **values}
        message = FINDINGS[code].cause.format(**values).rstrip(".")
        named = tuple(self.relative(file) for file in (files or ())[:MAX_FILES])
        if files:
            first = f"{'the first ' if len(files) > 1 else ''}{named[0]}{f' ({detail})' if detail else ''}"
            message, count = f"{message}: {len(files)} of {total}, {first}", len(files)
        remedy = FINDINGS[code].remedy.format(**values)
        self.items.append(Finding(code, self.split, f"{message}.", remedy, named, count))


@dataclass(frozen=True)
class SplitStatistics:
    """What a split holds, in numbers."""

    samples: int
    expected: int | None
    """The number of samples in the official split, if there is one."""
    sizes: tuple[Size, Size, Size] | None
    """The smallest, the median and the largest image, by area; None if none can be read."""
    distinct_sizes: int
    names: tuple[str, ...]
    """Of the classes."""
    pixels: tuple[int, ...]
    """Per class."""
    images: tuple[int, ...]
    """Images that hold the class, per class."""
    ignored: int
    """Pixels that belong to no class."""
    ids: dict[int, int]
    """Pixels of every stored id."""
    bands: tuple[int, ...] = ()
    """The numbers of bands that images have, ascending."""
    bits: tuple[int, ...] = ()
    """Of their samples, ascending."""
    in_channels: int = 3
    """Of a network that takes most images of the data set."""

    highest: float | None = None
    """The largest sample of images whose white level must be given; None if there are none."""

    @property
    def ignored_share(self) -> float:
        """Ignored pixels, as a fraction of those with a known id."""
        return self.ignored / max(1, self.ignored + sum(self.pixels))

    def share(self, label: int) -> float:
        """Pixels of class `label`, as a fraction of those of all classes."""
        return self.pixels[label] / max(1, sum(self.pixels))

    def to_json(self) -> dict[str, Any]:
        low, median, high = self.sizes or (None, None, None)
        return {
            "samples": self.samples,
            "expected": self.expected,
            "sizes": {"min": low, "median": median, "max": high, "distinct": self.distinct_sizes},
            "bands": self.bands,
            "bits": self.bits,
            "ignored_share": self.ignored_share,
            "classes": [
                {"name": name, "pixels": self.pixels[label], "share": self.share(label), "images": self.images[label]}
                for label, name in enumerate(self.names)
            ],
            "ids": {str(value): count for value, count in sorted(self.ids.items())},
        }


@dataclass(frozen=True)
class CheckResult:
    """What a data set holds and what is wrong with it."""

    dataset: str
    root: Path
    splits: dict[str, SplitStatistics]
    findings: Sequence[Finding]
    seconds: float
    files: int
    """Number of files that were read."""

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of a severity, by code and split."""
        order = list(FINDINGS)
        found = [finding for finding in self.findings if finding.severity == severity]
        return sorted(found, key=lambda finding: order.index(finding.code))

    def verdict(self) -> str:
        """How many findings there are, in one line."""
        counts = {severity: len(self.of(severity)) for severity in SEVERITIES}
        found = ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count)
        advice = "" if self.ok else ": fix the errors, then check again"
        return f"data set {self.dataset!r} at {self.root}: {found or 'nothing wrong'}{advice}"

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "ok": self.ok,
            "splits": {split: statistics.to_json() for split, statistics in self.splits.items()},
            "findings": [finding.to_json() for severity in SEVERITIES for finding in self.of(severity)],
            "seconds": round(self.seconds, 3),
            "files_per_second": round(self.files / self.seconds, 1) if self.seconds else 0.0,
        }


def check_dataset(
    name: str,
    root: Path,
    split: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Check the data set `name` in the folder `root`.

    Args:
        name: such as `camvid`.
        root: its folder, in the layout of its release, or the URL of one, which is copied whole.
        split: check this split only, or several joined by `+`; None: all that are there.
        workers: number of processes that read; None: one per processor.
        progress: is called with (done, total) after every sample.

    Raises:
        UserError: there is no such data set, folder or split.
        RunFailed: a worker process died.
    """
    start = time.perf_counter()
    layout = DATASETS[name].layout
    if is_url(root):
        root = local_folder(as_url(root))
    found = Findings(root)
    if not root.is_dir():
        raise layout.no_folder(root)
    statistics: dict[str, SplitStatistics] = {}
    read = 0
    if opened := _open(found, layout):
        present, reader = opened
        chosen = _choose_splits(found, layout, present, split)
        listed = {each: _list_split(found.of_split(each), layout, each) for each in chosen}
        complete = [pair for _, files in listed.values() for pair in files]
        if not complete and (layout.other_release(root) or layout.right_root(root)):
            found.items.clear()
            _add_other_data_set(found, layout)
        else:
            _check_unread(found, layout)
            _check_duplicates(found, {each: files for each, (_, files) in listed.items()})
            stats = read_samples(reader, complete, workers, progress)
            statistics = _check_content(found, layout, reader, listed, stats)
            _check_training(found, reader, present, statistics)
            read = 2 * len(complete)
    return CheckResult(name, root, statistics, found.items, time.perf_counter() - start, read)


# The folder and its splits.


def _open(found: Findings, layout: Layout) -> tuple[list[str], Dataset] | None:
    """The splits of the folder and a reader without samples; None, and a finding, if it has none."""
    code = "no-splits"
    try:
        present = layout.present(found.root)
        if not present:
            _add_other_data_set(found, layout)
            return None
        code = "classes-unreadable"
        reader = DATASETS[layout.name](found.root, "", files=[])
    except UserError as error:
        text = str(error).removeprefix(f"data set {layout.name!r} at {found.root}: ")
        cause, _, remedy = text.partition(". ")
        code = "classes-unreadable" if str(found.root / layout.marker) in text else code
        code = "wrong-release" if layout.other_release(found.root) else code
        found.add(
            code, cause=cause, remedy=remedy or ("" if code == "classes-unreadable" else layout.remedy) or "Correct it."
        )
        return None
    return sorted(present, key=lambda name: ([*_SPLIT_ORDER, usual_split(name)].index(usual_split(name)), name)), reader


def _add_other_data_set(found: Findings, layout: Layout) -> None:
    """Add the finding for a folder that holds something else."""
    cause = "the folder does not look like this data set"
    remedy = str(layout.error(found.root, cause)).partition(f"{cause}. ")[2]
    if layout.other_release(found.root):
        found.add("wrong-release", cause=cause, remedy=remedy)
        return
    others = [name for name in DATASETS if name != layout.name]
    similar = [repr(name) for name in others if any(found.root.glob(DATASETS[name].layout.marker))]
    if similar and layout.right_root(found.root) is None:
        remedy = f"It looks like {' or '.join(similar)}: check it by that name."
    found.add("not-this-data-set", cause=cause, remedy=remedy)


def _choose_splits(found: Findings, layout: Layout, present: Sequence[str], split: str | None) -> list[str]:
    """The splits in `a+b`, each once, or all, after adding those that are missing. Raises `UserError`."""
    if split is None:
        official = layout.counts or _EXPECTED_SPLITS
        options = shlex.join(split_options(layout, present))
        remedy = f"{layout.remedy} To train on the splits that are there: {options}." if options else layout.remedy
        for each in official:
            if layout.find_split(each, present) not in present:
                # Where there is a val split, only `submit` needs the test split.
                code = "test-missing" if each == "test" and "val" in official else "split-missing"
                if not layout.counts and training_splits(layout, present) is None:
                    code = "split-lacking"
                found.of_split(each).add(code, present=", ".join(present), remedy=remedy)
        return list(present)
    present = [*present, *layout.folds(found.root)]
    names = list(dict.fromkeys(layout.find_split(name, present) for name in split.split("+")))
    if missing := [each for each in names if each not in present]:
        cause = layout.empty_list(found.root, missing[0]) or f"split {missing[0]!r} is not there"
        raise UserError(
            f"data set {layout.name!r} at {found.root}: {cause}. Pass one of "
            f"{', '.join(present)}, or no --split for all."
        )
    return names


# The files of a split.


def _list_split(found: Findings, layout: Layout, split: str) -> tuple[int, Files]:
    """Check that the files of a split are there: missing, misnamed, repeated and stray files.

    Returns the number of samples, and those both of whose files are there and not empty.
    """
    try:
        listed = layout.pairs(found.root, split)
    except UserError as error:
        cause, remedy = split_error(str(error))
        found.add("list-unreadable", cause=cause, remedy=remedy)
        return 0, []
    unique = list(dict.fromkeys(listed))
    pairs = [pair for pair in unique if not _is_junk(pair[0])]
    if not pairs:
        cause = layout.empty_list(found.root, split) or f"split {split!r} holds no image"
        found.add("split-empty", cause=cause, remedy=layout.remedy)
        return 0, []
    samples = len(pairs)

    official = layout.counts.get(split, samples)
    if samples != official:
        remedy = (
            "The copy is partial: download what is missing, or do not compare scores with published ones."
            if samples < official
            else "Remove what the release does not hold, or do not compare scores with published ones."
        )
        found.add("count", samples=samples, official=official, remedy=remedy)
    repeated = [image for image, times in Counter(image for image, _ in listed).items() if times > 1]
    found.add("listed-twice", repeated, len(listed))

    used = {label for _, label in unique}
    lone = [file for file in (layout.label_files(found.root, split) if layout.label_files else []) if file not in used]
    found.add("junk-sample", [image for image, _ in unique if _is_junk(image)], len(unique))
    found.add("junk-file", [label for label in lone if _is_junk(label)], len(unique))

    sizes = {file: _bytes(file) for pair in pairs for file in pair}
    images_in = cache(_images_by_stem)
    instead: dict[Path, Path] = {}  # for a missing file, one whose name differs in case, extension or an ending only
    for file, size in sizes.items():
        if size is None and file.suffix.lower() in EXTENSIONS:
            near = [each for end in _ENDINGS for each in images_in(file.parent).get(f"{file.stem.casefold()}{end}", [])]
            instead.update((file, each) for each in near[:1] if each not in sizes)
    if instead:
        detail = f"expected {next(iter(instead)).name}"
        cause = "files under another name than expected"
        found.add("name-mismatch", list(instead.values()), samples, detail, cause=cause)
    missing = {file for file, size in sizes.items() if size is None and file not in instead}
    found.add("image-missing", [image for image, _ in pairs if image in missing], samples)
    missing_labels = [label for image, label in pairs if label in missing and image not in missing]
    found.add("label-missing", missing_labels, samples)
    found.add("empty-file", [file for file, size in sizes.items() if size == 0], len(sizes))

    known = set(instead.values())
    _check_lone_labels(found, pairs, [file for file in lone if file not in known and not _is_junk(file)], images_in)
    return samples, [(image, label) for image, label in pairs if sizes[image] and sizes[label]]


def _check_unread(found: Findings, layout: Layout) -> None:
    """Images of the user's own that are in formats that are not read."""
    if layout.name == "folder":
        unread = [file for part in ("images", "masks") for file in unread_files(found.root / part)]
        kind = unread_suffix(unread[0]) if unread else None
        remedy = kind.remedy.replace("FILE", str(unread[0])) if kind else ""
        found.add("unread-format", unread, len(unread), kind.what if kind else "", remedy=remedy)


def _check_lone_labels(
    found: Findings, pairs: Files, labels: Sequence[Path], images_in: Callable[[Path], dict[str, list[Path]]]
) -> None:
    """Label maps that belong to no sample: their image is not listed, under another name, or not there."""
    image, label = pairs[0]
    same = [a == b for a, b in zip(image.stem, label.stem, strict=False)]
    start = [*same, False].index(False)  # of what tells the names of image and label map apart
    used = {image for image, _ in pairs}
    folders = dict.fromkeys(image.parent for image, _ in pairs)
    unused: list[Path] = []
    without: list[Path] = []
    unread = {path.stem.casefold() for folder in folders for path in unread_files(folder)}
    for file in labels:
        if file.stem.casefold() in unread:
            continue  # its image is there, and has a finding
        stem = (file.stem.removesuffix(label.stem[start:]) + image.stem[start:]).casefold()
        near = (each for folder in folders for each in images_in(folder).get(stem, []) if each not in used)
        (unused if (its_image := next(near, None)) else without).append(its_image or file)
    misnamed = [file for file in unused if file.suffix != image.suffix]
    found.add("name-mismatch", misnamed, len(pairs), cause=f"images that do not end in {image.suffix}")
    found.add("not-listed", [file for file in unused if file.suffix == image.suffix], len(pairs))
    found.add("label-without-image", without, len(pairs))


def _images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images in a folder by their name without extension and case."""
    images: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*")):
        if file.suffix.lower() in EXTENSIONS:
            images[file.stem.casefold()].append(file)
    return images


def _is_junk(file: Path) -> bool:
    """Whether a file is one that operating systems leave in folders."""
    return file.name.startswith(".") or file.name.lower() in _JUNK


def _bytes(file: Path) -> int | None:
    """The size of a file in bytes; None if it is not there."""
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:
        return None


def _check_duplicates(found: Findings, splits: dict[str, Files]) -> None:
    """Images in several splits, and images of equal content. Only files of equal size are read."""
    names: dict[Path, list[str]] = defaultdict(list)
    for split, files in splits.items():
        for image in dict.fromkeys(image for image, _ in files):
            names[image].append(split)
    shared = {image: pair for image, those in names.items() if (pair := leak(those, splits))}
    found.add("split-leak", [*shared], len(names), " and ".join(next(iter(shared.values()), ())))
    sizes = {image: image.stat().st_size for image in names}
    frequent = Counter(sizes.values())
    equal: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    for image, size in sizes.items():
        if frequent[size] > 1:
            try:
                fetch(image)  # a copy may have been removed since it was decoded
                with image.open("rb") as content:
                    equal[size, hashlib.file_digest(content, "blake2b").digest()].append(image)
            except OSError:  # reported where it is decoded
                continue
    copies: dict[str, list[list[Path]]] = {"identical-across-splits": [], "identical-images": []}
    for group in equal.values():
        if len(group) > 1:
            across = leak(dict.fromkeys(name for image in group for name in names[image]), splits)
            copies["identical-across-splits" if across else "identical-images"].append(group)
    for code, groups in copies.items():
        detail = f"the same as {found.relative(groups[0][1])}" if groups else ""
        found.add(code, [group[0] for group in groups], len(names), detail)


def split_error(error: str, file: Path | None = None) -> tuple[str, str]:
    """Split the message of an error on `file` into the cause and its last sentence or clause, the remedy."""
    text = " ".join(error.split())
    text = text.partition(f"{file}: ")[2] or text
    cause, _, remedy = text.rpartition(". " if ". " in text else ": ")
    return cause, _sentence(remedy)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


# One sample: in worker processes.


class ImageStats(NamedTuple):
    """What an image holds."""

    file: Path
    header: Header | None
    size: Size | None = None
    """Upright; None if it cannot be read."""
    grey: bool = False
    highest: float | None = None
    """The largest sample, of more than 8 bits."""
    no_white: bool = False
    """Samples are floats, or larger than 65535: their white level must be given."""
    error: str = ""
    pages: bool = False
    """Whether there are further ones."""


@dataclass(frozen=True)
class LabelStats:
    """What a label map holds."""

    file: Path
    header: Header | None
    """None for a file that is no image."""
    size: Size | None = None
    ids: dict[int, int] = field(default_factory=dict)
    """Pixels of every stored id."""
    classes: dict[int, int] = field(default_factory=dict)
    """Pixels of every train id, 255 for those that are ignored."""
    unknown: dict[int, int] = field(default_factory=dict)
    """Pixels of every id that may not occur."""
    first_unknown: tuple[int, int, int] | None = None
    """The first of these, with its row and column."""
    legal: str = ""
    """Which ids may occur."""
    hint: str = ""
    error: str = ""

    @property
    def binary(self) -> bool:
        """Whether it holds only 0 and 255, one of which may not occur."""
        return set(self.ids) == {0, IGNORE} and self.first_unknown is not None


class SampleStats(NamedTuple):
    """What a sample holds."""

    image: ImageStats
    label: LabelStats


def read_samples(
    reader: Dataset, files: Files, workers: int | None, progress: Callable[[int, int], None] | None = None
) -> list[SampleStats]:
    """Read all files as `reader` does, in worker processes; returns their statistics in order.

    Raises:
        RunFailed: a process died.
    """
    found: dict[int, SampleStats] = {}
    workers = 1 if len(files) <= _FEW else workers
    try:
        for number, stats in in_processes(partial(_read_sample, reader, files), range(len(files)), workers):
            found[number] = stats
            if progress:
                progress(len(found), len(files))
    except RunFailed:
        first = next(image for number, (image, _) in enumerate(files) if number not in found)
        raise RunFailed(
            f"a process that read the files died at {first} or a file after it: it was killed, or ran out of memory. "
            "Free memory or pass --workers 1, and run the same command again."
        ) from None
    return [found[number] for number in range(len(files))]


def _read_sample(reader: Dataset, files: Files, number: int) -> tuple[int, SampleStats]:
    image, label = files[number]
    return number, SampleStats(_read_image(image), _read_labels(reader, label))


def _read_image(file: Path) -> ImageStats:
    header = read_header(file)
    channels, highest, no_white = 3 if header is None else channels_of(header), None, False
    notices: dict[str, str] = {}
    try:
        if channels != 3 or (header is not None and header.deep):
            stored = read_stored(file, channels, notices.__setitem__)
            pixels = bands_used(stored.values, stored.colors, channels)
        else:
            pixels = as_array(read_image(file, notice=notices.__setitem__))
    except UserError as error:
        return ImageStats(file, header, error=str(error))
    if pixels.dtype not in (np.uint8, bool):
        highest = largest_sample(pixels)
        no_white = pixels.dtype.kind == "f" or highest > 65535
    # A few pixels tell most color images. In NumPy, as PyTorch's threads may hang in a forked process.
    channels_equal = all((part[..., 1:] == part[..., :1]).all() for part in (pixels[::16, ::16], pixels))
    grey = header is not None and (header.grey or (channels == 3 and channels_equal))
    return ImageStats(
        file, header, (pixels.shape[0], pixels.shape[1]), grey, highest, no_white, pages="pages" in notices
    )


def _read_labels(reader: Dataset, file: Path) -> LabelStats:
    header = read_header(file) if file.suffix.lower() in EXTENSIONS else None
    try:
        ids, table = reader.read_ids(file)
    except UserError as error:
        return LabelStats(file, header, error=str(error))
    if ids.dtype == np.uint8 or (ids.min() >= 0 and ids.max() <= np.iinfo(np.uint16).max):
        counts = np.bincount(ids.ravel())  # many times faster than np.unique
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(ids, return_counts=True)
    known = table.known(values)
    classes: Counter[int] = Counter()
    if known.any():
        for train_id, count in zip(table(values[known][None], file)[0].tolist(), counts[known].tolist(), strict=True):
            classes[train_id] += count
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    unknown = {value: pixels[value] for value in values[~known].tolist()}
    first = None
    if unknown:
        row, column = map(int, np.argwhere(~table.known(ids))[0])
        first = int(ids[row, column]), row, column
    size = ids.shape[0], ids.shape[1]
    return LabelStats(file, header, size, pixels, dict(classes), unknown, first, table.legal, table.hint)


# What the samples show: per split, and over all of them.


def _check_content(
    found: Findings, layout: Layout, reader: Dataset, listed: dict[str, tuple[int, Files]], stats: Sequence[SampleStats]
) -> dict[str, SplitStatistics]:
    """Add what images and label maps show; returns the statistics of every split. `stats`: split after split."""
    labels = [each.label for each in stats]
    readable = next((label.file for label in labels if not label.error), None)
    table = reader.read_ids(readable)[1] if readable else reader.table
    names = reader.classes.names
    before = len(found.items)
    check_ids(found, labels, table, len(names), reader.doubt_255(1, 1.0) if isinstance(reader, Folder) else "")
    converted = len(found.items) > before
    check_releases(found, labels)
    statistics = {}
    kinds = Counter(channels_of(each.image.header) for each in stats if each.image.header)
    usual = max(kinds, key=lambda kind: kinds[kind], default=3)
    ordered = iter(stats)
    for split, (samples, complete) in listed.items():
        here = found.of_split(split)
        of_split = [next(ordered) for _ in complete]
        ids, pixels, images = Counter[int](), Counter[int](), Counter[int]()
        for _, label in of_split:
            ids.update(label.ids)
            pixels.update(label.classes)
            images.update(label.classes.keys())
        sizes = sorted((size for image, _ in of_split if (size := image.size)), key=lambda size: (prod(size), size))
        statistics[split] = SplitStatistics(
            samples,
            layout.counts.get(split),
            sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else None,
            distinct_sizes=len(set(sizes)),
            bands=tuple(sorted({image.header.channels for image, _ in of_split if image.header})),
            bits=tuple(sorted({image.header.bits for image, _ in of_split if image.header})),
            in_channels=usual,
            names=names,
            pixels=tuple(pixels[label] for label in range(len(names))),
            images=tuple(images[label] for label in range(len(names))),
            ignored=pixels[IGNORE],
            ids=dict(ids),
            highest=max((image.highest or 0 for image, _ in of_split if image.no_white), default=None),
        )
        _check_images(here, of_split, statistics[split].sizes)
        _check_samples(here, [each.image for each in of_split], usual)
        # That 255 occurs where ids are train ids needs no finding of its own.
        _check_labels(here, [each.label for each in of_split], {IGNORE} if converted else set())
        if not converted:
            check_absent(here, statistics[split].pixels, len(of_split), names)
    return statistics


def _check_images(found: Findings, stats: Sequence[SampleStats], sizes: tuple[Size, Size, Size] | None) -> None:
    """Add what images show; `sizes`: the smallest, the median and the largest."""
    total = len(stats)
    unreadable = [image for image, _ in stats if image.error]
    cause, remedy = split_error(unreadable[0].error, unreadable[0].file) if unreadable else ("", "")
    found.add("image-unreadable", [image.file for image in unreadable], total, cause, remedy=remedy)

    oriented: list[Path] = []
    differ: dict[str, list[SampleStats]] = {"size-mismatch": [], "rotated-image": []}
    for sample in stats:
        image, label = sample
        orientation = image.header.orientation if image.header else 1
        if image.size and label.size and image.size != label.size:
            fits_as_stored = orientation in _TRANSPOSED and image.header and image.header.size == label.size
            differ["rotated-image" if fits_as_stored else "size-mismatch"].append(sample)
        elif image.size and orientation != 1:
            oriented.append(image.file)
    for code, samples in differ.items():
        detail = ""
        if samples:
            image, label = samples[0]
            detail = f"{_text(image.size)}, but {found.relative(label.file)} is {_text(label.size)}; height x width"
        found.add(code, [each.image.file for each in samples], total, detail)
    found.add("exif-orientation", oriented, total)

    images = [image for image, _ in stats if image.size]
    small = [image for image in images if min(image.size or ()) < SMALLEST]
    detail = _text(small[0].size) if small else ""
    found.add("small-image", [image.file for image in small], total, detail, smallest=SMALLEST)
    if sizes and prod(sizes[2]) >= _SIZE_RATIO * prod(sizes[0]):
        low, median, high = map(_text, sizes)
        smallest = min(image.file for image in images if image.size == sizes[0])
        found.add("sizes-vary", [smallest], len(images), low=low, median=median, high=high)
    found.add("grey-image", [image.file for image in images if image.grey], total)
    found.add("further-pages", [image.file for image in images if image.pages], total)


def _check_samples(found: Findings, images: Sequence[ImageStats], usual: int) -> None:
    """Add what the bands of images and the depth of their samples show; `usual`: the channels of most."""
    headers = [(image.file, image.header) for image in images if image.header]
    others = [(file, header.channels) for file, header in headers if channels_of(header) != usual]
    bands = others[0][1] if others else 0
    files, total = [file for file, _ in others], len(images)
    found.add("mixed-bands", files, total, f"{bands} bands", usual=usual, bands=bands)
    alpha = [(file, header.channels) for file, header in headers if header.format == "TIFF" and header.alpha]
    found.add("alpha-band", [file for file, _ in alpha], total, bands=alpha[0][1] if alpha else 0)
    for code, no_white in (("float-image", True), ("deep-image", False)):
        deep = [image for image in images if image.highest is not None and image.no_white == no_white]
        highest = max((image.highest or 0 for image in deep), default=0)
        found.add(code, [image.file for image in deep], total, highest=highest)


def _text(size: Size | None) -> str:
    return f"{size[0]}x{size[1]}" if size else DASH


def _check_labels(found: Findings, labels: Sequence[LabelStats], explained: set[int]) -> None:
    """Add what the label maps of a split show one by one; unknown ids in `explained` have a finding already."""
    total = len(labels)
    unreadable: dict[str, list[LabelStats]] = {"jpeg-mask": [], "colour-mask": [], "label-unreadable": []}
    for label in labels:
        if label.error:
            jpeg, color = (label.header.format == "JPEG", label.header.color) if label.header else (False, False)
            unreadable["jpeg-mask" if jpeg else "colour-mask" if color else "label-unreadable"].append(label)
    for code, bad in unreadable.items():
        cause, remedy = split_error(bad[0].error, bad[0].file) if bad else ("", "")
        found.add(code, [label.file for label in bad], total, cause, remedy=remedy)
    found.add("binary-mask", [label.file for label in labels if label.binary], total, remedy=BINARY)

    bad = [label for label in labels if label.first_unknown and not label.binary]
    pixels: Counter[int] = Counter()
    for label in bad:
        pixels.update(label.unknown)
    if not set(pixels) <= explained:
        value, row, column = bad[0].first_unknown or (0, 0, 0)
        more = f" and {len(pixels) - _MAX_IDS} more" if len(pixels) > _MAX_IDS else ""
        found.add(
            "unknown-label",
            [label.file for label in bad],
            total,
            f"{value} at row {row}, column {column}",
            legal=bad[0].legal,
            values=", ".join(f"{value} ({count} px)" for value, count in sorted(pixels.items())[:_MAX_IDS]) + more,
            remedy=f"{_sentence(bad[0].hint)}.",
        )

    readable = [label for label in labels if not label.error]
    ignored = [label.file for label in readable if label.first_unknown is None and set(label.classes) <= {IGNORE}]
    everywhere = "dummy-labels" if found.split == "test" else "unlabelled-split"
    found.add("unlabelled-map" if len(ignored) < len(readable) else everywhere, ignored, total)
    found.add("deep-mask", [label.file for label in readable if label.header and label.header.deep], total)


def _check_training(
    found: Findings, reader: Dataset, present: Sequence[str], statistics: dict[str, SplitStatistics]
) -> None:
    """Add what training refuses of splits that are sound: as `gffnet.training.train.check_labels` does."""
    train, _ = training_splits(reader.layout, present) or (reader.layout.find_split("train", present), "")
    names = [train] if train in present else train.split("+")
    if not set(names) <= statistics.keys():
        return
    pixels = np.sum([statistics[name].pixels for name in names], axis=0)
    ignored = sum(statistics[name].ignored for name in names)
    share = ignored / max(1, ignored + pixels.sum())
    labelled = np.flatnonzero(pixels)
    remedy = reader.doubt_255(len(labelled), share) if isinstance(reader, Folder) else ""
    explained = any(finding.code == "binary-mask" for finding in found.items)
    if len(labelled) == 1 and not explained:
        name = reader.classes.names[labelled[0]]
        rest = f"; {percent(share)} % of the pixels are ignored" if ignored else ""
        found.add("one-class", name=name, rest=rest, remedy=remedy or "Label another, or add images that show one.")
    elif len(labelled) and remedy and not explained:
        found.add("unlisted-255", share=f"{percent(share)} %", remedy=remedy)


BINARY = "Store the class ids themselves, such as 0 and 1, instead of black and white (0 and 255)."


def check_ids(
    found: Findings, labels: Sequence[LabelStats], table: LabelTable, classes: int, doubt_255: str = ""
) -> None:
    """Whether the label maps of all splits hold ids that were converted before, which `table` would convert again.

    Train ids are 0..n-1 and 255; they are recognised by what never occurs, the ids of classes beyond n-1. That is no
    proof where these are few, as in ADE20K, where ids and train ids differ by one: there 255, no id, must occur.
    """
    used = [label for label in labels if set(label.classes) - {IGNORE} or label.first_unknown]
    files = [label.file for label in used]
    seen = {value for label in used for value in label.ids}
    legal = table.legal_ids()
    train_ids = table(legal[None], Path())[0].tolist()
    meant = {stored: label for stored, label in zip(legal.tolist(), train_ids, strict=True) if label != IGNORE}
    if seen <= {0, IGNORE}:
        if IGNORE not in meant and seen == {0, IGNORE} and classes > 1:
            found.add("binary-mask", files, len(files), remedy=doubt_255 or BINARY)
        return
    beyond = {stored for stored in meant if stored >= classes}
    if not beyond or seen & beyond or not seen <= {*range(classes), IGNORE}:
        return
    if not (IGNORE in seen and IGNORE not in legal) and 2 * len(beyond) <= classes:
        return
    shifted = all(label == stored - 1 for stored, label in meant.items())
    code = "shifted-labels" if shifted else "train-ids"
    found.add(code, files, len(labels), last=classes - 1, legal=table.legal, largest=max(beyond))


def check_releases(found: Findings, labels: Sequence[LabelStats]) -> None:
    """Whether label maps of several releases, with ids of their own, lie side by side."""
    releases = Counter(label.legal for label in labels if label.legal)
    if len(releases) > 1:
        rare = min(releases, key=lambda legal: releases[legal])
        kinds = ", ".join(f"{legal}: {count}" for legal, count in releases.most_common())
        files = [label.file for label in labels if label.legal == rare]
        found.add("mixed-releases", files, len(labels), releases=kinds)


def check_absent(found: Findings, pixels: Sequence[int], samples: int, names: Sequence[str]) -> None:
    """Classes that never occur in a split of which `pixels` counts each."""
    absent = [name for name, count in zip(names, pixels, strict=True) if not count]
    if absent and len(absent) < len(pixels):
        more = f" and {len(absent) - _MAX_CLASSES} more" if len(absent) > _MAX_CLASSES else ""
        mostly = 2 * len(absent) > len(pixels) and samples >= len(pixels)
        named = f"{', '.join(absent[:_MAX_CLASSES])}{more}"
        code = "classes-mostly-absent" if mostly else "class-absent"
        found.add(code, count=len(absent), absent=len(absent), classes=len(pixels), named=named)


# The result as text, and the command to run next.

_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "cyan"}


def print_result(result: CheckResult, out: Console) -> None:
    """Print the splits, the findings, the classes and the verdict."""
    splits = result.splits
    if splits:
        headings = ["split", "samples", "official", "smallest", "median", "largest", "bands", "bits", "ignored %"]
        rows = [
            [
                split,
                str(each.samples),
                DASH if each.expected is None else str(each.expected),
                *map(_text, each.sizes or [None] * 3),
                ", ".join(map(str, each.bands)) or DASH,
                ", ".join(map(str, each.bits)) or DASH,
                percent(each.ignored_share),
            ]
            for split, each in splits.items()
        ]
        out.print(make_table(headings, rows, "images, height x width"))
        out.print()
    for severity in SEVERITIES:
        if findings := result.of(severity):
            style = f"bold {_STYLES[severity]}"
            out.print(f"{len(findings)} {severity}{'s' * (len(findings) > 1)}", style=style, highlight=False)
            for finding in findings:
                _print_finding(finding, out)
            out.print()
    if splits:
        headings = ["class", *(heading for split in splits for heading in (f"{split} %", "images"))]
        rows = [[name] for name in next(iter(splits.values())).names]
        for label, row in enumerate(rows):
            for each in splits.values():
                there = each.images[label] > 0
                row += [percent(each.share(label), 2), str(each.images[label])] if there else ["never", DASH]
        out.print(make_table(headings, rows, "share of labelled pixels"))
    rate = f"; {result.files} files in {result.seconds:.1f} s" if result.files else ""
    style = "bold green" if result.ok else "bold red"
    out.print(f"{result.verdict()}{rate}", style=style, highlight=False, soft_wrap=True)


def _print_finding(finding: Finding, out: Console) -> None:
    split = f" {finding.split}" if finding.split else ""
    message = Text.assemble((finding.code, _STYLES[finding.severity]), split, ": ", finding.message)
    out.print(Padding(message, (0, 0, 0, 2), expand=False))
    out.print(Padding(Text.assemble(("remedy: ", "dim"), finding.remedy), (0, 0, 0, 4), expand=False))
    for file in finding.files[1:3]:
        out.print(f"    {file}", style="dim", highlight=False, soft_wrap=True)
    if finding.count > 3 and finding.files:
        out.print(f"    and {finding.count - 3} more", style="dim", highlight=False)


RECIPE = "folder/gffnet_lite0"
BALANCE = "training.class_balance=0.5"
RARITY = 10
"""A class is rare if its share of the pixels is smaller than an even share by more than this factor."""


def next_steps(result: CheckResult) -> list[str]:
    """Lines that tell how to train on the user's own images; none if they have errors or not both splits."""
    layout, present = DATASETS[result.dataset].layout, list(result.splits)
    splits = training_splits(layout, present)
    if not result.ok or result.dataset != "folder" or splits is None:
        return []
    command = ["gffnet", "train", RECIPE, "--root", str(result.root), *split_options(layout, present)]
    highest = [each.highest for each in result.splits.values() if each.highest is not None]
    if highest:
        command += ["--set", f"model.white_level={max(highest) or 1:g}"]
    if (channels := result.splits[present[0]].in_channels) != 3:
        command += ["--set", f"model.backbone.in_channels={channels}"]
    pixels = np.sum([result.splits[name].pixels for name in splits[0].split("+")], axis=0)
    names = result.splits[present[0]].names
    shares = {name: count / max(1, pixels.sum()) for name, count in zip(names, pixels.tolist(), strict=True)}
    rare = {name: share for name, share in shares.items() if 0 < share < 1 / (RARITY * len(shares))}
    if not rare:
        return [f"train on it: {shlex.join(command)}"]
    percents = ", ".join(f"{name} {100 * share:.2g} %" for name, share in rare.items())
    return [
        f"rare: {percents} of the labelled pixels; with {BALANCE}, half of the crops show a class chosen uniformly",
        f"train on it: {shlex.join([*command, '--set', BALANCE])}",
    ]
