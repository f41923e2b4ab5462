"""What a split holds, in numbers: ids, classes, sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gffnet.data.catalog import IGNORE
from gffnet.data.check.look import Look

Size = tuple[int, int]


@dataclass(frozen=True)
class Statistics:
    """The numbers of a split."""

    samples: int
    expected: int | None
    """How many the official split has, None if there is none."""
    sizes: tuple[Size, Size, Size] | None
    """Height and width of the smallest, the median and the largest image, by their pixels."""
    distinct_sizes: int
    names: tuple[str, ...]
    """Of the classes."""
    pixels: tuple[int, ...]
    """Of each class."""
    images: tuple[int, ...]
    """In how many images each class occurs."""
    ignored: int
    """Pixels that belong to no class."""
    ids: dict[int, int]
    """Pixels of every stored id."""

    @property
    def ignored_share(self) -> float:
        """Of all pixels with a known id."""
        return self.ignored / max(1, self.ignored + sum(self.pixels))

    def share(self, label: int) -> float:
        """Of class `label` among the pixels of all classes."""
        return self.pixels[label] / max(1, sum(self.pixels))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        low, middle, high = self.sizes or (None, None, None)
        return {
            "samples": self.samples,
            "expected": self.expected,
            "sizes": {"min": low, "median": middle, "max": high, "distinct": self.distinct_sizes},
            "ignored_share": self.ignored_share,
            "classes": [
                {"name": name, "pixels": self.pixels[label], "share": self.share(label), "images": self.images[label]}
                for label, name in enumerate(self.names)
            ],
            "ids": {str(value): count for value, count in sorted(self.ids.items())},
        }


def summarise(samples: int, expected: int | None, looks: Sequence[Look], names: tuple[str, ...]) -> Statistics:
    """The numbers of what was seen in a split."""
    ids: Counter[int] = Counter()
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for look in looks:
        ids.update(look.label.ids)
        pixels.update(look.label.classes)
        images.update(look.label.classes.keys())
    sizes = sorted((look.image.size for look in looks if look.image.size), key=lambda size: (size[0] * size[1], size))
    return Statistics(
        samples,
        expected,
        (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else None,
        len(set(sizes)),
        names,
        tuple(pixels[label] for label in range(len(names))),
        tuple(images[label] for label in range(len(names))),
        pixels[IGNORE],
        dict(ids),
    )
