"""MATLAB's MAT files of level 5 (`save -v6` and `-v7`).

Only the variables that are asked for are decoded, and nothing is allocated that the bytes of the file do not fill, so
that a damaged file can neither crash nor hang the reader nor exhaust the memory: whatever it holds, it is one
ValueError or zlib.error.

A file is 128 bytes of header, then elements: a tag (kind, size), then that many bytes. A matrix is an element made of
elements (flags, shape, name, content); a variable is a matrix, as it is or packed by zlib.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_LARGEST_TEXTS = 2**20
_HEADER = 128
_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The kinds of elements that hold numbers."""

_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""The kinds of elements that hold characters, and how they are encoded."""

_CELL, _CHARACTERS = 1, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


class Variable5(NamedTuple):
    """A matrix of a MAT file, its content still encoded."""

    of: int
    """What it is made of: the low byte of its flags."""
    is_complex: bool
    shape: tuple[int, ...]
    content: bytes
    order: str
    """Of the bytes: `<` or `>`."""

    def numbers(self, name: str) -> NDArray[Any]:
        """The matrix as stored, `(H, W)`. Raises ValueError if it is not a plain one of numbers."""
        height, width = self.shape if len(self.shape) == 2 else (0, 0)
        if self.of not in _NUMERIC or self.is_complex or min(height, width) < 1:
            raise ValueError(f"variable {name!r} is no matrix of integers (its shape is {self.shape})")
        kind, content, _ = _element(self.content, 0, self.order)
        if kind not in _NUMBERS:
            raise ValueError(f"it is damaged: variable {name!r} holds no numbers")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if len(content) != height * width * dtype.itemsize:
            raise ValueError(f"it is damaged: variable {name!r} does not hold {height} x {width} numbers")
        return np.frombuffer(content, dtype).reshape((height, width), order="F")

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a cell array, a row or a column. Raises ValueError if it is none."""
        return _texts(name, self)


def read_mat5(data: bytes, names: Collection[str], largest: int) -> tuple[dict[str, Variable5], list[str]]:
    """The variables of these names, as far as they are there, and the names of the others that were met.

    Args:
        data: the content of the file.
        names: of the variables; of others, no more than their names is decoded.
        largest: bytes that a variable may take.

    Raises:
        ValueError, zlib.error: it is no MAT file, or is damaged, or a variable is too large.
    """
    order = _byte_order(data)
    found: dict[str, Variable5] = {}
    others: list[str] = []
    for kind, content in _elements(data[_HEADER:], order):
        name = _name(kind, content, order)
        if name in names and name not in found:
            found[name] = _variable(_whole(kind, content, order, largest), order)
        else:
            others.append(name)
        if len(found) == len(names):
            break
    return found, others


def _byte_order(data: bytes) -> str:
    """`<` or `>`. Raises ValueError if it is no MAT file of level 5."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack_from(order + "H", data, 124) != (0x0100,):
        raise ValueError("its content is no MAT file")
    return order


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the elements, one after the other. Raises ValueError where the data end within one."""
    at = 0
    while at < len(data):
        kind, content, at = _element(data, at, order)
        yield kind, content


def _element(data: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """The element that begins there: its kind and content, and where the next one begins."""
    if at + 8 > len(data):
        raise ValueError("it is cut short")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        start, end = at + 4, at + 8
    else:
        start = at + 8
        end = start + (size if kind == _PACKED else -(-size // 8) * 8)
    if size > end - start or start + size > len(data):
        raise ValueError("it is damaged or cut short")
    return kind, data[start : start + size], end


def _name(kind: int, content: bytes, order: str) -> str:
    """The name of a variable, of which no more is decoded."""
    if kind == _PACKED:
        head = zlib.decompressobj().decompress(content, 1024)[8:]
    elif kind == _MATRIX:
        head = content[:1024]
    else:
        raise ValueError("it is damaged: something stands where a variable should")
    at = 0
    for _ in ("flags", "shape"):
        _, _, at = _element(head, at, order)
    return _element(head, at, order)[1].decode("latin-1")


def _whole(kind: int, content: bytes, order: str, largest: int) -> bytes:
    """The content of a variable, unpacked. Raises ValueError if that is too large, or zlib finds it damaged."""
    if kind == _MATRIX:
        return content
    unpacker = zlib.decompressobj()
    tag = unpacker.decompress(content, 8)
    if len(tag) < 8:
        raise ValueError("it is cut short")
    inner, size = struct.unpack(order + "II", tag)
    if inner != _MATRIX or size > largest:
        raise ValueError("it is damaged" if inner != _MATRIX else f"a variable claims more than {largest:,} bytes")
    matrix = unpacker.decompress(unpacker.unconsumed_tail, size + 1)  # one more, so that it reaches the checksum
    if len(matrix) != size or not unpacker.eof:
        raise ValueError("it is damaged or cut short")
    return matrix


def _variable(matrix: bytes, order: str) -> Variable5:
    """A matrix, its content not decoded yet."""
    kind, flags, at = _element(matrix, 0, order)
    shape_kind, shape, at = _element(matrix, at, order)
    name_kind, _, at = _element(matrix, at, order)
    kinds_fit = kind == 6 and shape_kind in {5, 6} and name_kind == 1
    if not kinds_fit or len(flags) != 8 or not shape or len(shape) % 4:
        raise ValueError("it is damaged: a variable lacks its flags, its shape or its name")
    (word,) = struct.unpack_from(order + "I", flags)
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return Variable5(word & 0xFF, bool(word & _COMPLEX), sizes, matrix[at:], order)


@lru_cache(maxsize=2)  # the files of a data set hold the same texts
def _texts(name: str, variable: Variable5) -> tuple[str, ...]:
    """The texts of a cell array. Raises ValueError if it is none."""
    if variable.of != _CELL or min(variable.shape) < 1 or max(variable.shape) != prod(variable.shape):
        raise ValueError(f"variable {name!r} is no row or column of texts (its shape is {variable.shape})")
    if len(variable.content) > _LARGEST_TEXTS:
        raise ValueError(f"variable {name!r} takes more than {_LARGEST_TEXTS:,} bytes, so it is no list of classes")
    texts = [_text(name, kind, cell, variable.order) for kind, cell in _elements(variable.content, variable.order)]
    if len(texts) != prod(variable.shape):
        raise ValueError(f"it is damaged: variable {name!r} does not hold {prod(variable.shape)} texts")
    return tuple(texts)


def _text(name: str, kind: int, content: bytes, order: str) -> str:
    """The text in one cell."""
    cell = _variable(content, order) if kind == _MATRIX else None
    if cell is None or cell.of != _CHARACTERS:
        raise ValueError(f"variable {name!r} holds something else than texts")
    kind, characters, _ = _element(cell.content, 0, order)
    if kind not in _TEXTS:
        raise ValueError(f"it is damaged: variable {name!r} holds no characters")
    codec = _TEXTS[kind]
    text = characters.decode(codec if codec in {"latin-1", "utf-8"} else codec + ("-le" if order == "<" else "-be"))
    if prod(cell.shape) not in {len(text), len(text.encode("utf-16-le")) // 2}:  # MATLAB counts code units of UTF-16
        raise ValueError(f"it is damaged: a text of variable {name!r} is not as long as it says")
    return text
