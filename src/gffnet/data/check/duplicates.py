"""Samples that are in more than one split, or in one of them twice, by file and by content."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gffnet.data.check.findings import Finding, Place
from gffnet.data.check.structure import Listing


def find_duplicates(root: Path, listings: Sequence[Listing]) -> list[Finding]:
    """Images that several splits share, and images of equal content. Only files of equal size are read."""
    place = Place(root)
    splits: dict[Path, list[str]] = defaultdict(list)
    for listing in listings:
        for image in dict.fromkeys(image for image, _ in listing.whole):
            splits[image].append(listing.split)
    shared = [image for image, names in splits.items() if len(names) > 1]
    within: list[list[Path]] = []
    across: list[list[Path]] = []
    for group in _equal(splits):
        (within if len({name for image in group for name in splits[image]}) == 1 else across).append(group)
    keep = "Keep each sample in one split: a score on images that were trained on says nothing."
    return [
        *place.about(
            "split-leak",
            "images in more than one split",
            shared,
            len(splits),
            keep,
            " and ".join(splits[shared[0]]) if shared else "",
        ),
        *place.about(
            "identical-across-splits",
            "images with a copy in another split",
            [group[0] for group in across],
            len(splits),
            keep,
            f"the same as {place.short(across[0][1])}" if across else "",
        ),
        *place.about(
            "identical-images",
            "images with a copy in the same split",
            [group[0] for group in within],
            len(splits),
            "Delete the copies, unless the release has them: they count twice.",
            f"the same as {place.short(within[0][1])}" if within else "",
        ),
    ]


def _equal(files: Iterable[Path]) -> Iterable[list[Path]]:
    """Groups of two files and more whose content is the same."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size].append(file)
    for group in by_size.values():
        by_content: dict[bytes, list[Path]] = defaultdict(list)
        for file in group if len(group) > 1 else []:
            by_content[_digest(file)].append(file)
        yield from (same for same in by_content.values() if len(same) > 1)


def _digest(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError:  # that it cannot be read is found where it is decoded
        return str(file).encode()
