"""What is wrong with the label maps of a split: files, ids, and what they would mean."""

from collections import Counter
from collections.abc import Callable, Sequence

from gffnet.data.catalog import IGNORE
from gffnet.data.check.findings import Finding, Place, cause_and_remedy
from gffnet.data.check.look import LabelLook

_SHOWN = 8
"""How many ids a message names."""

_NOT_FROM_JPEG = "Export or download them as PNG: ids that are lost do not come back by converting the JPEG files."


def find_in_masks(place: Place, labels: Sequence[LabelLook], explained: set[int]) -> list[Finding]:
    """All that the label maps of a split show by themselves; ids in `explained` are told of elsewhere."""
    return [
        *_unreadable(place, labels),
        *_binary(place, labels),
        *_unknown(place, labels, explained),
        *_unlabelled(place, labels),
        *_deep(place, labels),
    ]


def is_binary(label: LabelLook) -> bool:
    """Whether a label map holds nothing but 0 and 255, of which one may not occur."""
    return set(label.ids) == {0, IGNORE} and label.unknown is not None


def _unreadable(place: Place, labels: Sequence[LabelLook]) -> list[Finding]:
    kinds: dict[str, tuple[str, Callable[[LabelLook], bool]]] = {
        "jpeg-mask": ("label maps in JPEG", lambda label: bool(label.header and label.header.format == "JPEG")),
        "colour-mask": ("colour masks that give no ids", lambda label: bool(label.header and label.header.colour)),
        "label-unreadable": ("label maps that cannot be read", lambda label: True),
    }
    findings = []
    left = [label for label in labels if label.error]
    for code, (what, fits) in kinds.items():
        bad = [label for label in left if fits(label)]
        left = [label for label in left if not fits(label)]
        if bad:
            cause, remedy = cause_and_remedy(bad[0].error, bad[0].file)
            remedy = _NOT_FROM_JPEG if code == "jpeg-mask" else remedy
            findings += place.about(code, what, [label.file for label in bad], len(labels), remedy, cause)
    return findings


def _binary(place: Place, labels: Sequence[LabelLook]) -> list[Finding]:
    files = [label.file for label in labels if is_binary(label)]
    remedy = "Store the class ids themselves: a mask of black and white (0, 255) says of one class only where it is."
    return place.about("binary-mask", "label maps that hold 0 and 255 alone", files, len(labels), remedy)


def _unknown(place: Place, labels: Sequence[LabelLook], explained: set[int]) -> list[Finding]:
    bad = [label for label in labels if label.unknown and not is_binary(label)]
    pixels: Counter[int] = Counter()
    for label in bad:
        pixels.update(label.strange)
    if set(pixels) <= explained:
        return []
    value, row, column = bad[0].unknown or (0, 0, 0)
    shown = ", ".join(f"{stray} ({count} px)" for stray, count in sorted(pixels.items())[:_SHOWN])
    more = f" and {len(pixels) - _SHOWN} more" if len(pixels) > _SHOWN else ""
    return place.about(
        "unknown-label",
        f"label maps with values that are no label id (those are {bad[0].legal}): {shown}{more}",
        [label.file for label in bad],
        len(labels),
        f"{bad[0].hint[:1].upper()}{bad[0].hint[1:]}.",
        f"{value} at row {row}, column {column}",
    )


def _unlabelled(place: Place, labels: Sequence[LabelLook]) -> list[Finding]:
    """Label maps without any pixel of a class."""
    readable = [label for label in labels if not label.error]
    empty = [label.file for label in readable if label.unknown is None and set(label.classes) <= {IGNORE}]
    if len(empty) < len(readable):
        code, remedy = "unlabelled-map", "Restore them if they were overwritten; they teach nothing and are not scored."
    elif place.split == "test":
        code, remedy = "dummy-labels", "Nothing to do: the labels of the test split are not public; score on val."
    else:
        code, remedy = "unlabelled-split", "Restore the label maps: there is nothing to train on or to score."
    return place.about(code, "label maps in which every pixel is ignored", empty, len(labels), remedy)


def _deep(place: Place, labels: Sequence[LabelLook]) -> list[Finding]:
    files = [label.file for label in labels if label.header and label.header.deep and not label.error]
    remedy = "Nothing to do: the ids are read whole. With 8 bits a pixel the files are smaller and read faster."
    return place.about("deep-mask", "label maps of more than 8 bits a pixel", files, len(labels), remedy)
