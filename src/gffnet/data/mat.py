"""MATLAB's MAT files: a matrix of ids, and a cell array of texts; those of level 5 and those of version 7.3.

Whatever a file holds, it is one `UserError` that names it, the cause and the remedy, or what was asked for.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gffnet.data.mat5 import Variable5, read_mat5
from gffnet.data.mat73 import Variable73, is_mat73, read_mat73
from gffnet.errors import UserError

LARGEST = 2**26
"""Bytes that a file or one of its variables may take; those of the data sets take less than a twentieth."""


class MatFile:
    """The variables of a MAT file that a data set needs.

    Args:
        path: the file.
        names: the variables; others are skipped.

    Raises:
        UserError: the file cannot be read, is no MAT file, is damaged, or lacks a variable.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self.path = path
        with _named(path):
            self._variables = _read(path, names)

    def ids(self, name: str) -> NDArray[Any]:
        """A variable that is a matrix of integers, `(H, W)`.

        Raises:
            UserError: it is none.
        """
        with _named(self.path):
            return _integers(name, self._variables[name].numbers(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A variable that is a cell array of texts, as a row or a column.

        Raises:
            UserError: it is none.
        """
        with _named(self.path):
            return self._variables[name].texts(name)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file into the error that names it."""
    try:
        yield
    except OSError as error:
        cause, remedy = (error.strerror or str(error)).lower(), "check the path and its permissions"
    except ImportError:
        cause = "it is a MAT file of version 7.3 (HDF5), and h5py is missing, which reads those"
        remedy = "run `python -m pip install 'gffnet[coco]'`, or save it again with MATLAB's `save -v7`"
    except (ValueError, zlib.error) as error:
        cause, remedy = " ".join(str(error).split()), "copy or download it again"
    else:
        return
    raise UserError(f"cannot read label map {path}: {cause}. To go on, {remedy}.") from None


def _read(path: Path, names: Collection[str]) -> Mapping[str, Variable5 | Variable73]:
    """The variables of the file that have these names. Raises ValueError if one is missing or the file is damaged."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes, so it is no label map")
    data = path.read_bytes()
    if not data:
        raise ValueError("the file is empty")
    found, others = (read_mat73 if is_mat73(data) else read_mat5)(data, names, LARGEST)
    for name in names:
        if name not in found:
            there = ", ".join(repr(name) for name in [*found, *others][:9]) or "nothing"
            raise ValueError(f"it holds no variable {name!r} (it holds {there})")
    return found


def _integers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The numbers, which may be stored as floats, as integers. Raises ValueError if they are none."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN and what is too large become some integer, which they do not equal
            ids = values.astype(np.int32)
        if (ids != values).any():
            raise ValueError(f"variable {name!r} holds values that are no ids: they are not integers")
        return np.ascontiguousarray(ids)
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="))
