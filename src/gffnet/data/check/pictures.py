"""What is wrong with the images of a split, and with their sizes."""

from collections.abc import Sequence

from gffnet.data.check.findings import Finding, Place, cause_and_remedy
from gffnet.data.check.look import ImageLook, Look

SMALLEST = 32
"""Sides shorter than this leave the deepest maps of a network four positions or fewer."""

_VARY = 16
"""How many times the smallest image's pixels the largest may have before it is told."""

_ON_ITS_SIDE = {5, 6, 7, 8}
"""EXIF orientations that exchange height and width."""


def find_in_images(place: Place, looks: Sequence[Look]) -> list[Finding]:
    """All that the images of a split show."""
    return [*_unreadable(place, looks), *_sizes_disagree(place, looks), *_oriented(place, looks), *_kinds(place, looks)]


def size_text(size: tuple[int, int] | None) -> str:
    """`HxW`."""
    return f"{size[0]}x{size[1]}" if size else "unknown"


def _unreadable(place: Place, looks: Sequence[Look]) -> list[Finding]:
    bad = [look.image for look in looks if look.image.error]
    cause, remedy = cause_and_remedy(bad[0].error, bad[0].file) if bad else ("", "")
    files = [image.file for image in bad]
    return place.about("image-unreadable", "images that cannot be read", files, len(looks), remedy, cause)


def _turned(look: Look) -> bool:
    """Whether a label map fits the stored pixels of an image, but not the image as it is to be seen."""
    header = look.image.header
    return header is not None and header.orientation in _ON_ITS_SIDE and header.size == look.label.size


def _disagree(look: Look) -> bool:
    """Whether an image and its label map are of different size; what cannot be read is told elsewhere."""
    return bool(look.image.size and look.label.size and look.image.size != look.label.size)


def _sizes_disagree(place: Place, looks: Sequence[Look]) -> list[Finding]:
    apart = [look for look in looks if _disagree(look)]
    turned = [look for look in apart if _turned(look)]
    other = [look for look in apart if not _turned(look)]
    return [
        *place.about(
            "size-mismatch",
            "images and label maps of different size",
            [look.image.file for look in other],
            len(looks),
            "Restore the one that was scaled or cut.",
            _both_sizes(place, other),
        ),
        *place.about(
            "rotated-image",
            "images turned by their EXIF orientation, but not their label maps",
            [look.image.file for look in turned],
            len(looks),
            "Remove the orientation from the images (exiftool -Orientation= FILE) if their label maps were drawn on "
            "the pixels as stored; otherwise turn the label maps.",
            _both_sizes(place, turned),
        ),
    ]


def _both_sizes(place: Place, looks: Sequence[Look]) -> str:
    if not looks:
        return ""
    image, label = looks[0]
    return f"{size_text(image.size)}, but {place.short(label.file)} is {size_text(label.size)}; height x width"


def _oriented(place: Place, looks: Sequence[Look]) -> list[Finding]:
    oriented = [
        look.image.file
        for look in looks
        if look.image.header and look.image.header.orientation != 1 and look.image.size and not _disagree(look)
    ]
    remedy = "Images are turned upright as they are read: see that their label maps are upright too."
    return place.about("exif-orientation", "images with an EXIF orientation", oriented, len(looks), remedy)


def _kinds(place: Place, looks: Sequence[Look]) -> list[Finding]:
    sized = [look.image for look in looks if look.image.size]
    small = [image for image in sized if min(image.size or ()) < SMALLEST]
    smallest = size_text(small[0].size) if small else ""
    grey = [image.file for image in sized if image.grey]
    deep = [image.file for image in sized if image.header and image.header.deep]
    return [
        *place.about(
            "small-image",
            f"images less than {SMALLEST} pixels high or wide",
            [image.file for image in small],
            len(looks),
            "Restore them if they were scaled down, as thumbnails are; a network sees next to nothing in them.",
            smallest,
        ),
        *_sizes_vary(place, sized),
        *place.about("grey-image", "grey images", grey, len(looks), "Nothing to do: they are read as RGB."),
        *place.about(
            "deep-image",
            "images of 16 bits a sample",
            deep,
            len(looks),
            "Only the high byte is read: scale them to the whole range if they look black (12 bits in 16, say).",
        ),
    ]


def _sizes_vary(place: Place, images: Sequence[ImageLook]) -> list[Finding]:
    by_area = sorted((size[0] * size[1], size, image.file) for image in images if (size := image.size))
    if not by_area or by_area[-1][0] < _VARY * by_area[0][0]:
        return []
    low, middle, high = (size_text(by_area[at][1]) for at in (0, len(by_area) // 2, -1))
    text = f"images from {low} to {high} pixels (median {middle}; height x width), the smallest"
    remedy = "Nothing to do if the release is so; otherwise restore those that were scaled."
    (finding,) = place.about("sizes-vary", text, [by_area[0][2]], len(images), remedy)
    return [finding]
