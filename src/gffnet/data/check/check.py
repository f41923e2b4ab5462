"""Check a data set: its folder, then every file in it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gffnet.data.check.duplicates import find_duplicates
from gffnet.data.check.findings import Finding, Place
from gffnet.data.check.look import Look, look_at_all
from gffnet.data.check.masks import find_in_masks
from gffnet.data.check.meaning import find_absent, find_other_ids, find_releases
from gffnet.data.check.pictures import find_in_images
from gffnet.data.check.report import Report
from gffnet.data.check.statistics import Statistics, summarise
from gffnet.data.check.structure import Listing, list_split
from gffnet.data.dataset import Dataset, Layout
from gffnet.data.datasets import LAYOUTS, check_name, read_listed
from gffnet.errors import UserError

_ORDER = ("train", "val", "test")
_EXPECTED = ("train", "val")
"""The splits of a data set that has no official ones."""


def check_dataset(
    name: str,
    root: Path,
    split: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """What the data set `name` in the folder `root` holds, and what is wrong with it.

    Args:
        name: such as `camvid`.
        root: its folder, in the layout of its release.
        split: check this one only, or several joined by `+`; None: all that are there.
        workers: processes that read; None: one a processor.
        progress: is called with (done, total) after every sample.

    Raises:
        UserError: there is no such data set, folder or split.
        RunFailed: a process that reads died.
    """
    started = time.perf_counter()
    check_name(name)
    layout = LAYOUTS[name]
    if not root.is_dir():
        raise layout.error(root, "it is a file, not a folder" if root.exists() else "there is no such folder")
    opened = _open(layout, root)
    if isinstance(opened, Finding):
        return Report(name, root, {}, [opened], time.perf_counter() - started, 0)
    there, reader = opened
    if split is not None:
        there = _chosen(layout, root, split, there)
    listings = [list_split(layout, root, each) for each in there]
    if layout.other_release(root) and not any(listing.whole for listing in listings):
        return Report(name, root, {}, [_elsewhere(layout, root)], time.perf_counter() - started, 0)
    findings = [finding for listing in listings for finding in listing.findings]
    if split is None:
        findings += _splits_missing(layout, root, there)
    findings += find_duplicates(root, listings)
    looks = _look(reader, listings, workers, progress)
    numbers, found = _content(layout, root, reader, listings, looks)
    files = sum(2 * len(listing.whole) for listing in listings)
    return Report(name, root, numbers, [*findings, *found], time.perf_counter() - started, files)


def _chosen(layout: Layout, root: Path, split: str, there: Sequence[str]) -> list[str]:
    """The splits that are asked for, each once."""
    names = list(dict.fromkeys(split.split("+")))
    for each in names:
        if each not in there:
            raise UserError(
                f"data set {layout.name!r} at {root}: split {each!r} is not there. Pass one of {', '.join(there)}, or "
                "no --split for all."
            )
    return names


def _open(layout: Layout, root: Path) -> tuple[list[str], Dataset] | Finding:
    """The splits of a folder and a reader without samples, or why there is none."""
    code = "no-splits"
    try:
        there = sorted(layout.splits(root), key=lambda name: (_ORDER.index(name) if name in _ORDER else 3, name))
        code = "classes-unreadable"
        return (there, read_listed(layout.name, root, [])) if there else _elsewhere(layout, root)
    except UserError as error:
        text = str(error).removeprefix(f"data set {layout.name!r} at {root}: ")
    cause, _, remedy = text.partition(". ")
    code = "wrong-release" if layout.other_release(root) else code
    return Place(root).finding(code, f"{cause.rstrip('.')}.", remedy or layout.remedy)


def _elsewhere(layout: Layout, root: Path) -> Finding:
    """The finding for a folder that holds something else."""
    code = "wrong-release" if layout.other_release(root) else "not-this-data-set"
    cause = "the folder does not look like this data set"
    remedy = str(layout.error(root, cause)).partition(f"{cause}. ")[2]
    if code == "not-this-data-set":
        like = [repr(name) for name, other in LAYOUTS.items() if any(root.glob(other.marker))]
        remedy = f"It looks like {' or '.join(like)}: check it by that name." if like else remedy
    return Place(root).finding(code, f"{cause}.", remedy)


def _splits_missing(layout: Layout, root: Path, there: Sequence[str]) -> list[Finding]:
    official = layout.counts or _EXPECTED
    missing = [split for split in official if split not in there]
    findings = []
    for split in missing:
        # Where there is a val split, test is needed by no command but to submit.
        code = "test-missing" if split == "test" and "val" in official else "split-missing"
        text = f"split {split!r} is not there (there are: {', '.join(there)})."
        findings.append(Place(root, split).finding(code, text, f"Needed to use it: {layout.remedy}"))
    return findings


def _look(
    reader: Dataset, listings: Sequence[Listing], workers: int | None, progress: Callable[[int, int], None] | None
) -> dict[str, list[Look]]:
    """What every sample of every split holds."""
    files = [pair for listing in listings for pair in listing.whole]
    found: dict[int, Look] = {}
    for number, look in look_at_all(reader, files, workers):
        found[number] = look
        if progress:
            progress(len(found), len(files))
    ordered = (found[number] for number in range(len(files)))
    return {listing.split: [next(ordered) for _ in listing.whole] for listing in listings}


def _content(
    layout: Layout, root: Path, reader: Dataset, listings: Sequence[Listing], looks: dict[str, list[Look]]
) -> tuple[dict[str, Statistics], list[Finding]]:
    """The numbers of every split, and what is found in them."""
    labels = [look.label for split in looks.values() for look in split]
    readable = next((label.file for label in labels if not label.error), None)
    table = reader.read_ids(readable)[1] if readable else reader.table
    findings = find_other_ids(Place(root), labels, table, len(reader.classes.names))
    converted = bool(findings)
    findings += find_releases(Place(root), labels)
    numbers = {}
    for listing in listings:
        place, seen = Place(root, listing.split), looks[listing.split]
        split = summarise(listing.samples, layout.counts.get(listing.split), seen, reader.classes.names)
        numbers[listing.split] = split
        findings += find_in_images(place, seen)
        findings += find_in_masks(place, [look.label for look in seen], {255} if converted else set())
        if not converted:
            findings += find_absent(place, split.pixels, len(seen), reader.classes)
    return numbers, findings
