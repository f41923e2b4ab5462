"""Masks whose colours stand for classes: from exact colours to train ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt32
from numpy.typing import NDArray

from gffnet.data.catalog import IGNORE
from gffnet.data.images import read_image
from gffnet.errors import UserError

_JPEG = b"\xff\xd8\xff"
"""How every JPEG file begins."""


def pack(rgb: UInt8[np.ndarray, "*shape 3"]) -> UInt32[np.ndarray, "*shape"]:
    """Every colour as one number, `0xRRGGBB`."""
    wide = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = np.left_shift(wide[..., 0], 16) | np.left_shift(wide[..., 1], 8) | wide[..., 2]
    return packed


def unpack(packed: int) -> tuple[int, int, int]:
    """Red, green and blue of `0xRRGGBB`."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def read_colours(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a mask; those of its palette where it has one. An alpha channel is dropped.

    Raises:
        UserError: the file cannot be read whole, or is a JPEG.
    """
    colours = read_image(path)
    with path.open("rb") as file:
        if file.read(len(_JPEG)) == _JPEG:
            raise UserError(f"mask {path}: JPEG changes colours, so its classes are lost: save masks as PNG.")
    return colours


class ColourTable:
    """Colour to train id: `0..n-1`, and 255 where a pixel is ignored.

    Args:
        train_ids: of every colour that may occur, as `0xRRGGBB`.
        names: of the classes, for errors.
        source: the file that lists the colours, for errors.
    """

    def __init__(self, train_ids: Mapping[int, int], names: Sequence[str], source: Path) -> None:
        self.names = tuple(names)
        self.source = source
        self._colours = np.array(sorted(train_ids), np.uint32)
        self._train_ids = np.array([train_ids[colour] for colour in sorted(train_ids)], np.uint8)

    def __call__(self, colours: UInt8[np.ndarray, "h w 3"], mask_file: Path) -> UInt8[np.ndarray, "h w"]:
        """The train ids of a mask.

        Raises:
            UserError: it holds a colour that may not occur.
        """
        packed = pack(colours)
        found = np.minimum(np.searchsorted(self._colours, packed), len(self._colours) - 1)
        wrong = self._colours[found] != packed
        if wrong.any():
            raise self._error(packed, wrong, mask_file)
        train_ids: NDArray[np.uint8] = self._train_ids[found]
        return train_ids

    def _error(self, packed: NDArray[np.uint32], wrong: NDArray[np.bool_], mask_file: Path) -> UserError:
        """What is wrong with a mask whose `wrong` pixels have no known colour."""
        row, column = np.argwhere(wrong)[0]
        colour, kinds = unpack(int(packed[row, column])), len(np.unique(packed[wrong]))
        near, whose = self._nearest(colour)
        if self._is_grey(packed) and not self._is_grey(self._colours):
            cause = f"It is grey all over: if its values are class ids, set `masks: ids` in {self.source}"
        else:
            cause = (
                "Colours between those of classes come of JPEG, or of smoothing where a mask was drawn or scaled: save "
                "masks as PNG, without smoothing. If a colour is missing, add it to `classes` or to `ignore` in "
                f"{self.source}"
            )
        return UserError(
            f"mask {mask_file}: colour {colour} at row {row}, column {column} is of no class; the nearest is {near}, "
            f"{whose}. {wrong.sum()} of its {wrong.size} pixels have such a colour ({kinds} different). {cause}."
        )

    def _nearest(self, colour: tuple[int, int, int]) -> tuple[tuple[int, int, int], str]:
        """The known colour that is nearest in RGB, and what it stands for."""
        known = np.array([unpack(int(one)) for one in self._colours])
        best = int(((known - colour) ** 2).sum(axis=1).argmin())
        train_id = int(self._train_ids[best])
        return unpack(int(self._colours[best])), "ignored" if train_id == IGNORE else repr(self.names[train_id])

    @staticmethod
    def _is_grey(packed: NDArray[np.uint32]) -> bool:
        return bool((packed % 0x10101 == 0).all())
