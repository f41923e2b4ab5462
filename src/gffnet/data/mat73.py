"""MATLAB's MAT files of version 7.3 (`save -v7.3`): HDF5 by MATLAB's conventions, opened by libhdf5 through h5py.

The variables are the datasets of the root group, and attributes say what they are in MATLAB. Its order of axes is that
of Fortran, so a matrix of height H and width W is stored as (W, H). A cell array holds references to its cells, and a
text is UTF-16, a code unit a number.

libhdf5 is not written to withstand files that were made to harm it, as the reader in `mat5` is: open files of
7.3 that come from where you trust. Mishaps are met: before anything is read, a variable must lie whole in the file, in
this file and no other, and be no larger than a label map may be. Without h5py only the error is here that asks for it.
"""

from collections.abc import Collection
from math import ceil, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_AFTER_TEXT = 512
"""Where HDF5 begins: MATLAB's own header is before it."""

_NUMERIC = {"logical", "double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_MOST_TEXTS = 4096
_LONGEST_TEXT = 2**12
"""Bytes."""

_H5: TypeAlias = Any
"""What is of h5py, which has no types."""


class Variable73(NamedTuple):
    """A variable of a MAT file."""

    shape: tuple[int, ...]
    """As MATLAB has it: height and width."""
    content: NDArray[Any] | tuple[str, ...] | None
    """The numbers of a matrix or the texts of a cell array; None if it is neither."""

    def numbers(self, name: str) -> NDArray[Any]:
        """The matrix, `(H, W)`. Raises ValueError if it is none."""
        if not isinstance(self.content, np.ndarray):
            raise ValueError(f"variable {name!r} is no matrix of integers (its shape is {self.shape})")
        return self.content

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts. Raises ValueError if it is no row or column of them."""
        if not isinstance(self.content, tuple):
            raise ValueError(f"variable {name!r} is no row or column of texts (its shape is {self.shape})")
        return self.content


def is_mat73(data: bytes) -> bool:
    """Whether the content of a file is, or begins as, a MAT file of version 7.3."""
    at_its_place = data[_AFTER_TEXT : _AFTER_TEXT + len(_SIGNATURE)] == _SIGNATURE
    return at_its_place or data.startswith((_SIGNATURE, b"MATLAB 7.3"))


def read_mat73(data: bytes, names: Collection[str], largest: int) -> tuple[dict[str, Variable73], list[str]]:
    """The variables of these names, as far as they are there, and the names of the others.

    Args:
        data: the content of the file.
        names: of the variables; others are not touched.
        largest: bytes that a variable may take.

    Raises:
        ImportError: h5py is missing.
        ValueError: the file is damaged, or a variable is no such thing as MATLAB writes, or too large.
    """
    import h5py  # not before: whoever has no such files needs no h5py

    try:
        with h5py.File(h5py.h5f.open_file_image(data)) as file:
            there = [name for name in file if not name.startswith("#")]  # what cells refer to is in #refs#
            reader = _Reader(h5py, file, largest)
            found = {name: reader.variable(name) for name in names if name in there}
            return found, [name for name in there if name not in found]
    except _Refused:
        raise
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError and more on damaged files
        raise ValueError(f"it is damaged or cut short ({error})") from None


class _Refused(ValueError):
    """What is wrong with a file, found here and not by h5py."""


class _Reader(NamedTuple):
    """Reads from an open file no more than `largest` bytes a variable."""

    h5py: _H5
    file: _H5
    largest: int

    def variable(self, name: str) -> Variable73:
        """The variable, its content read if it is a matrix or a cell array."""
        if not isinstance(self.file.get(name, getlink=True), self.h5py.HardLink):
            raise _Refused(f"variable {name!r} is a link to another place")
        stored = self.file[name]
        of = _class(stored)
        if not of:
            raise _Refused(f"MATLAB did not write variable {name!r}, so the order of its axes is not known")
        if not isinstance(stored, self.h5py.Dataset):  # a struct or a sparse matrix
            return Variable73((1, 1), None)
        if _is_empty(stored):
            return Variable73((0, 0), None)
        shape = stored.shape[::-1]
        if of in _NUMERIC and stored.dtype.kind in "iuf" and len(shape) == 2:
            return Variable73(shape, _whole(stored, f"variable {name!r}", self.largest).T)
        if of == "cell" and max(shape) == stored.size:
            return Variable73(shape, self.texts(stored, name))
        return Variable73(shape, None)

    def texts(self, stored: _H5, name: str) -> tuple[str, ...]:
        """The texts of a cell array, which is a row or a column."""
        if self.h5py.check_ref_dtype(stored.dtype) is not self.h5py.Reference:
            raise _Refused(f"it is damaged: variable {name!r} holds no references")
        if stored.size > _MOST_TEXTS:
            raise _Refused(f"variable {name!r} has more than {_MOST_TEXTS:,} cells, so it is no list of classes")
        cells = _whole(stored, f"variable {name!r}", self.largest)
        return tuple(self.text(cell, name) for cell in cells.ravel())

    def text(self, cell: _H5, name: str) -> str:
        """The text that a cell refers to."""
        stored = self.file[cell] if cell else None
        if not isinstance(stored, self.h5py.Dataset) or _class(stored) != "char":
            raise _Refused(f"variable {name!r} holds something else than texts")
        if _is_empty(stored):
            return ""
        if stored.dtype != np.uint16 or max(stored.shape) != stored.size:
            raise _Refused(f"it is damaged: variable {name!r} holds no characters")
        units = _whole(stored, f"a text of variable {name!r}", _LONGEST_TEXT)
        return units.astype("<u2").tobytes().decode("utf-16-le")


def _class(stored: _H5) -> str:
    """What a dataset or group is in MATLAB; empty if MATLAB did not write it."""
    of = stored.attrs.get("MATLAB_class", b"")
    return of.decode("latin-1") if isinstance(of, bytes) else str(of)


def _is_empty(stored: _H5) -> bool:
    """Whether an array is empty; MATLAB stores its shape then."""
    return not stored.size or bool(stored.attrs.get("MATLAB_empty", 0))


def _whole(stored: _H5, what: str, largest: int) -> NDArray[Any]:
    """All of a dataset, if that is no larger than it may be and lies in the file."""
    item, chunks = stored.dtype.itemsize, stored.chunks
    if max(stored.size, prod(chunks or ())) * item > largest:
        raise _Refused(f"{what} claims more than {largest:,} bytes")
    if stored.is_virtual or stored.external:
        raise _Refused(f"{what} lies in another file")
    if chunks:
        parts = prod(ceil(length / chunk) for length, chunk in zip(stored.shape, chunks, strict=True))
        is_there = stored.id.get_num_chunks() == parts
    else:
        is_there = stored.id.get_storage_size() == stored.size * item
    if not is_there:  # HDF5 would fill up with zeros
        raise _Refused(f"it is damaged: {what} is not stored whole")
    content: NDArray[Any] = stored[()]
    return content
