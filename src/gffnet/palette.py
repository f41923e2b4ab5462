"""How many classes there may be, and the colors of those that have none of their own."""

from collections.abc import Iterator

MAX_CLASSES = 254
"""Eight bits hold these, one value for pixels of no class, and 255 for ignored pixels."""


def voc_colors() -> Iterator[tuple[int, int, int]]:
    """Yield PASCAL VOC's palette without black: bits 0, 3, 6, ... of a color's index are its red, highest bit first."""
    for index in range(1, 1 << 24):
        red, green, blue = (sum((index >> 3 * i + channel & 1) << 7 - i for i in range(8)) for channel in range(3))
        yield red, green, blue
