"""From the ids that a label file stores to train ids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from numpy.typing import NDArray

from gffnet.data.catalog import IGNORE
from gffnet.errors import UserError

_LARGEST = 1023
"""The largest id that any data set stores."""


class LabelTable:
    """Stored id to train id: `0..n-1`, and 255 where a pixel is ignored.

    Args:
        train_ids: for every id that may occur.
        legal: names those ids in errors, such as `0..150`.
        hint: says what another id may mean, and the remedy.
    """

    def __init__(self, train_ids: Mapping[int, int], legal: str, hint: str = "restore the file") -> None:
        self.legal = legal
        self.hint = hint
        self._table = np.full(_LARGEST + 2, -1, np.int16)  # the last entry stands for all larger and negative ids
        self._table[list(train_ids.keys())] = list(train_ids.values())
        free = set(range(256)) - set(train_ids.values())
        self._wrong = min(free, default=None)
        """A value that is no train id, for the ids that may not occur."""
        self._bytes = np.where(self._table[:256] < 0, self._wrong or 0, self._table[:256]).astype(np.uint8).tobytes()

    def legal_ids(self) -> NDArray[np.intp]:
        """The ids that may occur, ascending."""
        return np.flatnonzero(self._table >= 0)

    def text(self) -> str:
        """The table as text."""
        return " ".join(map(str, self._table.tolist()))

    def known(self, ids: Integer[np.ndarray, "..."]) -> NDArray[np.bool_]:
        """Where an id is one that may occur."""
        found: NDArray[np.bool_] = self._look_up(ids) >= 0
        return found

    def __call__(self, ids: Integer[np.ndarray, "h w"], label_file: Path) -> UInt8[np.ndarray, "h w"]:
        """The train ids of a label map.

        Raises:
            UserError: it holds an id that may not occur.
        """
        if ids.dtype == np.uint8 and self._wrong is not None:
            quick = ids.tobytes().translate(self._bytes)
            if self._wrong not in quick:
                return np.frombuffer(quick, np.uint8).reshape(ids.shape)
        train_ids = self._look_up(ids)
        if train_ids.min() < 0:
            row, column = np.argwhere(train_ids < 0)[0]
            raise UserError(
                f"label map {label_file}: value {ids[row, column]} at row {row}, column {column} is no label id: they "
                f"are {self.legal}. {(train_ids < 0).sum()} of its {ids.size} pixels are wrong: {self.hint}."
            )
        return train_ids.astype(np.uint8)

    def _look_up(self, ids: NDArray[Any]) -> NDArray[np.int16]:
        small = ids if ids.dtype == np.uint8 else np.where((ids >= 0) & (ids <= _LARGEST), ids, _LARGEST + 1)
        found: NDArray[np.int16] = self._table[small]
        return found


def identity(classes: int, ignored: int | None = IGNORE) -> dict[int, int]:
    """Ids that are train ids already; `ignored` is the id of ignored pixels, if there is one."""
    return {**{i: i for i in range(classes)}, **({} if ignored is None else {ignored: IGNORE})}
