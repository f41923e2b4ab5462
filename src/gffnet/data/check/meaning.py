"""What the label maps mean as a whole: classes that never occur, and ids of another kind than the reader expects."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gffnet.data.catalog import IGNORE, Classes
from gffnet.data.check.findings import Finding, Place
from gffnet.data.check.look import LabelLook
from gffnet.data.dataset import LabelTable

_NAMED = 12
"""How many classes a message names."""


def find_other_ids(place: Place, labels: Sequence[LabelLook], table: LabelTable, classes: int) -> list[Finding]:
    """Whether the label maps of all splits hold ids that were converted before.

    Train ids are 0..n-1 and 255; they are told by what never occurs, the ids of classes beyond n-1. That is no proof
    where these are few, as in ADE20K, where ids and train ids differ by one: there 255 must occur, which is no id.
    """
    used = [label for label in labels if set(label.classes) - {IGNORE} or label.unknown]
    seen = {value for label in used for value in label.ids}
    legal = table.legal_ids()
    train_ids = table(legal[None], Path())[0].tolist()
    meant = {stored: label for stored, label in zip(legal.tolist(), train_ids, strict=True) if label != IGNORE}
    beyond = {stored for stored in meant if stored >= classes}
    files = [label.file for label in used]
    if seen <= {0, IGNORE}:
        return [] if IGNORE in meant else _all_binary(place, files, seen, classes)
    if not beyond or seen & beyond or not seen <= {*range(classes), IGNORE}:
        return []
    strange = IGNORE in seen and IGNORE not in legal
    if not strange and 2 * len(beyond) <= classes:
        return []
    shifted = all(label == stored - 1 for stored, label in meant.items())
    code, what = (
        ("shifted-labels", f"label maps with ids less by one (255 for 0, never {max(beyond)})")
        if shifted
        else ("train-ids", f"label maps with train ids 0..{classes - 1} where label ids ({table.legal}) are expected")
    )
    remedy = (
        "Restore the label maps of the release, as *_labelIds.png (not *_labelTrainIds.png) of Cityscapes: gffnet maps "
        "their ids itself."
    )
    return place.about(code, what, files, len(labels), remedy)


def _all_binary(place: Place, files: list[Path], seen: set[int], classes: int) -> list[Finding]:
    """Masks of black and white where 255 may occur, so that none of them is wrong by itself."""
    if seen != {0, IGNORE} or classes < 2:
        return []
    remedy = "Store the class ids themselves, such as 0 and 1: 255 means that a pixel is ignored."
    return place.about("binary-mask", "label maps that hold 0 and 255 alone, in all splits", files, len(files), remedy)


def find_releases(place: Place, labels: Sequence[LabelLook]) -> list[Finding]:
    """Whether label maps of several releases, with ids of their own, lie side by side."""
    releases = Counter(label.legal for label in labels if label.legal)
    if len(releases) < 2:
        return []
    rare = min(releases, key=lambda legal: releases[legal])
    kinds = ", ".join(f"{legal}: {count}" for legal, count in releases.most_common())
    return place.about(
        "mixed-releases",
        f"label maps of several releases side by side (by the ids that may occur, {kinds})",
        [label.file for label in labels if label.legal == rare],
        len(labels),
        "Each is read by its own ids, but their annotations differ: unpack one release into an empty folder.",
    )


def find_absent(place: Place, pixels: Sequence[int], samples: int, classes: Classes) -> list[Finding]:
    """Classes that never occur in a split, of which `pixels` has each one's."""
    absent = [name for name, count in zip(classes.names, pixels, strict=True) if not count]
    if not absent or len(absent) == len(pixels):
        return []
    named = ", ".join(absent[:_NAMED]) + (f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else "")
    text = f"classes that never occur: {len(absent)} of {len(pixels)}: {named}."
    if 2 * len(absent) > len(pixels) and samples >= len(pixels):
        remedy = "So many can hardly be missing: see that the label maps are of this data set, with its own ids."
        return [place.finding("classes-mostly-absent", text, remedy, len(absent))]
    remedy = "Expected of a part of the data set; of the whole, restore the label maps. They count in no score here."
    return [place.finding("class-absent", text, remedy, len(absent))]
