import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.data.io import LARGEST, MatFile
from gffnet.errors import UserError
from tests.data.trees import save_mat

TEXTS = ["unlabeled", "person", "a", "Fußgänger", "wall-other"]


def matrix(stored: int = 2, size: tuple[int, int] = (4, 6)) -> NDArray:
    return np.random.default_rng(stored).integers(0, 100, size)


def example(tmp_path: Path, packed: bool) -> Path:
    return save_mat(tmp_path / "a.mat", packed, captions=["one", "two"], S=matrix().astype(np.uint8), names=TEXTS)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8", "?", ">u2", ">f8"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 5), (7, 9)])
def test_ids(tmp_path: Path, dtype: str, packed: bool, size: tuple[int, int]) -> None:
    stored = matrix(size=size).astype(dtype)
    ids = MatFile(save_mat(tmp_path / "a.mat", packed, x=np.zeros(9), S=stored), ("S",)).ids("S")
    np.testing.assert_array_equal(ids, stored)
    assert ids.dtype.kind in "ui"
    assert ids.dtype.isnative
    assert ids.flags.c_contiguous


@pytest.mark.parametrize("packed", [True, False])
def test_texts(tmp_path: Path, packed: bool) -> None:
    file = MatFile(example(tmp_path, packed), ("S", "names"))
    np.testing.assert_array_equal(file.ids("S"), matrix())
    assert file.texts("names") == tuple(TEXTS)
    row = save_mat(tmp_path / "b.mat", packed, names=np.array([TEXTS], object))
    assert MatFile(row, ("names",)).texts("names") == tuple(TEXTS)


# Errors: one line with the file, the cause and the remedy.


def unreadable(path: Path, cause: str, names: tuple[str, ...] = ("S", "names")) -> None:
    with pytest.raises(UserError) as caught:
        MatFile(path, names)
    text = str(caught.value)
    assert text.startswith(f"cannot read label map {path}: {cause}")
    assert ". To go on, " in text
    assert "\n" not in text


def test_no_mat_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    unreadable(path, "no such file or directory. To go on, check the path")
    unreadable(tmp_path, "is a directory")
    for content, cause in [
        (b"", "the file is empty"),
        (b"MATLAB 5.0 MAT-file", "its content is no MAT file"),
        (b"\x89PNG" + bytes(300), "its content is no MAT file"),
        (b"<html>" + b"not found " * 40, "its content is no MAT file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(300), "it is damaged or cut short ("),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), "it is damaged or cut short ("),
    ]:
        path.write_bytes(content)
        unreadable(path, cause)


def test_missing_variable(tmp_path: Path) -> None:
    path = save_mat(tmp_path / "a.mat", S=matrix(), captions=["x"])
    unreadable(path, "it holds no variable 'names' (it holds 'S', 'captions'). To go on, copy or download it again.")
    unreadable(save_mat(path), "it holds no variable 'S' (it holds nothing)")


@pytest.mark.parametrize("packed", [True, False])
def test_cut_short_at_every_length(tmp_path: Path, packed: bool) -> None:
    whole = example(tmp_path, packed).read_bytes()
    path = tmp_path / "cut.mat"
    for length in range(0, len(whole) - 8, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cannot read label map .*cut\.mat: "):
            MatFile(path, ("S", "names")).texts("names")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (np.zeros((0, 3)), "is no matrix of integers"),
        (np.zeros((2, 3, 4)), r"is no matrix of integers \(its shape is \(2, 3, 4\)\)"),
        (np.array([[1 + 2j]]), "is no matrix of integers"),
        (np.array([["text"]]), "is no matrix of integers"),
        (["text"], "is no matrix of integers"),
        ({"a": 1}, "is no matrix of integers"),
        (np.array([[1.5, 2]]), "holds values that are no ids"),
        (np.array([[np.nan]]), "holds values that are no ids"),
        (np.array([[np.inf]]), "holds values that are no ids"),
        (np.array([[1e12]]), "holds values that are no ids"),
    ],
)
def test_no_ids(tmp_path: Path, value: object, cause: str) -> None:
    file = MatFile(save_mat(tmp_path / "a.mat", S=value), ("S",))
    with pytest.raises(UserError, match=rf"a\.mat: variable 'S' {cause}"):
        file.ids("S")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (matrix(), "is no row or column of texts"),
        (np.array([TEXTS, TEXTS], object), r"is no row or column of texts \(its shape is \(2, 5\)\)"),
        (["text", matrix()], "holds something else than texts"),
        (["text", {"a": 1}], "holds something else than texts"),
        (["x" * 2**20], "takes more than 1,048,576 bytes, so it is no list of classes"),
    ],
)
def test_no_texts(tmp_path: Path, value: object, cause: str) -> None:
    file = MatFile(save_mat(tmp_path / "a.mat", names=value), ("names",))
    with pytest.raises(UserError, match=rf"a\.mat: variable 'names' {cause}"):
        file.texts("names")


def test_files_that_are_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with path.open("wb") as file:
        file.truncate(100 * LARGEST)
    unreadable(path, f"it is larger than {LARGEST:,} bytes, so it is no label map")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, removed, doubled or put in."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
        what = rng.integers(6)
        if what == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif what == 1:
            data[at : at + length] = rng.bytes(length)
        elif what == 2:
            data[at : at + length] = b""
        elif what == 3:
            data[at:at] = rng.bytes(length)
        elif what == 4:
            data[at : at + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])))
        else:
            data = data[: max(at, 64)]
    return bytes(data)


@pytest.mark.parametrize("packed", [True, False])
def test_damaged_files_are_read_or_refused(tmp_path: Path, packed: bool) -> None:
    whole, path = example(tmp_path, packed).read_bytes(), tmp_path / "damaged.mat"
    rng = np.random.default_rng(packed)
    errors = []
    for _ in range(300):
        path.write_bytes(mutated(whole, rng))
        try:
            file = MatFile(path, ("S", "names"))
            ids, texts = file.ids("S"), file.texts("names")
        except UserError as error:
            errors.append(str(error))
        else:
            assert ids.size <= 1000
            assert len(texts) <= 100
    assert len(errors) > 100
    assert all(text.startswith(f"cannot read label map {path}: ") and "\n" not in text for text in errors)
