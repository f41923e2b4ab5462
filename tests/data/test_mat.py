"""MAT files of level 5 and 7.3: what is read, what is refused, and with which error."""

import io
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.data.io import MAX_MAT_BYTES, read_mat
from gffnet.errors import UserError
from tests.data.trees import COCO_STUFF_10, save_mat, save_mat73

TEXTS = ["unlabeled", "person", "a", "", "Fußgänger", "wall-other", "🚲"]
Save = Callable[..., Path]


def save_unpacked(path: Path, **variables: object) -> Path:
    return save_mat(path, False, **variables)


EVERY_KIND = pytest.mark.parametrize("write", [save_mat, save_unpacked, save_mat73])


def matrix(size: tuple[int, int] = (4, 6)) -> NDArray:
    return np.random.default_rng(2).integers(0, 100, size)


def example(path: Path, write: Save = save_mat) -> Path:
    return write(path, captions=["one", "two"], S=matrix().astype(np.uint8), names=TEXTS)


@EVERY_KIND
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8", "?"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 5), (7, 9), (60, 200)])
def test_ids(tmp_path: Path, write: Save, dtype: str, size: tuple[int, int]) -> None:
    stored = matrix(size).astype(dtype)
    ids, texts = read_mat(write(tmp_path / "a.mat", x=np.zeros(9), S=stored), "S")
    np.testing.assert_array_equal(ids, stored)
    assert ids.dtype.kind in "ui"
    assert ids.dtype.isnative
    assert ids.flags.c_contiguous
    assert texts == ()


@EVERY_KIND
def test_texts(tmp_path: Path, write: Save) -> None:
    ids, texts = read_mat(example(tmp_path / "a.mat", write), "S", "names")
    np.testing.assert_array_equal(ids, matrix())
    assert texts == tuple(TEXTS)


def test_rows_and_columns_of_texts(tmp_path: Path) -> None:
    for cells in (np.array([TEXTS], object), np.array([TEXTS], object).T):
        assert read_mat(save_mat(tmp_path / "a.mat", S=matrix(), names=cells), "S", "names")[1] == tuple(TEXTS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_endian_files(tmp_path: Path, order: str) -> None:
    content = element(4, struct.pack(order + "6H", 1, 2, 3, 4, 5, 300), order)
    path = level_5(tmp_path / "a.mat", variable(8, (2, 3), content, order=order), order=order)
    ids, _ = read_mat(path, "S")
    assert ids.tolist() == [[1, 3, 5], [2, 4, 300]]
    assert ids.dtype.isnative


def test_both_versions_are_read_alike(tmp_path: Path) -> None:
    values = {"S": matrix((5, 3)).astype(float), "names": COCO_STUFF_10}
    new, old = (
        read_mat(write(tmp_path / f"{write.__name__}.mat", **values), "S", "names") for write in (save_mat73, save_mat)
    )
    np.testing.assert_array_equal(new[0], old[0])
    assert new[1] == old[1]


def test_other_variables_are_not_read(tmp_path: Path) -> None:
    path = example(tmp_path / "a.mat", save_mat73)
    with h5py.File(path, "r+") as file:
        file.create_dataset("regions", (2**40, 2**10), "f8")
        file["nowhere"] = h5py.SoftLink("/none")
    assert read_mat(path, "S", "names")[1] == tuple(TEXTS)


# Errors: one line with the file, the cause and the remedy.


def refused(path: Path, cause: str, texts: str | None = None, ids: str = "S") -> None:
    with pytest.raises(UserError) as caught:
        read_mat(path, ids, texts)
    message = str(caught.value)
    assert message.startswith(f"cannot read label map {path}: {cause}"), message
    assert "\n" not in message


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    refused(path, "no such file or directory. Check the path and its permissions.")
    refused(tmp_path, "is a directory")
    for content, cause in [
        (b"", "the file is empty"),
        (b"MATLAB 5.0 MAT-file", "its content is no MAT file"),
        (b"\x89PNG" + bytes(300), "its content is no MAT file"),
        (b"<html>" + b"not found " * 40, "its content is no MAT file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(300), "it is damaged or cut short ("),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), "it is damaged or cut short ("),
    ]:
        path.write_bytes(content)
        refused(path, cause)
    with path.open("wb") as file:
        file.truncate(100 * MAX_MAT_BYTES)
    refused(path, f"it is larger than {MAX_MAT_BYTES:,} bytes, so it is no label map")


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example(tmp_path / "a.mat", save_mat73)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(
        path,
        "it is a MAT file of version 7.3 (HDF5), which h5py reads, and h5py is missing. Run "
        "`python -m pip install 'gffnet[coco]'`, or save the file again with MATLAB's `save -v7`.",
    )
    np.testing.assert_array_equal(read_mat(example(tmp_path / "old.mat"), "S")[0], matrix())


@EVERY_KIND
def test_missing_variables(tmp_path: Path, write: Save) -> None:
    path = write(tmp_path / "a.mat", S=matrix(), captions=["x"])
    refused(path, "it holds no variable 'names' (it holds 'S', 'captions'). Copy or download it again.", "names")


@EVERY_KIND
@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (np.zeros((0, 3)), "is no matrix of integers"),
        (np.zeros((2, 3, 4)), "is no matrix of integers"),
        (np.array([[1 + 2j]]), "is no matrix of integers"),
        ("text", "is no matrix of integers"),
        (["text"], "is no matrix of integers"),
        (np.array([[1.5, 2]]), "holds values that are no ids"),
        (np.array([[np.nan]]), "holds values that are no ids"),
        (np.array([[np.inf]]), "holds values that are no ids"),
        (np.array([[1e12]]), "holds values that are no ids"),
    ],
)
def test_no_ids(tmp_path: Path, write: Save, value: object, cause: str) -> None:
    refused(write(tmp_path / "a.mat", S=value), f"variable 'S' {cause}")


@EVERY_KIND
@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (matrix(), "is no row or column of texts (its shape is (4, 6))"),
        (["text", matrix()], "holds something other than texts"),
    ],
)
def test_no_texts(tmp_path: Path, write: Save, value: object, cause: str) -> None:
    refused(write(tmp_path / "a.mat", S=matrix(), names=value), f"variable 'names' {cause}", "names")


@EVERY_KIND
def test_truncated_files(tmp_path: Path, write: Save) -> None:
    whole = example(tmp_path / "a.mat", write).read_bytes()
    path = tmp_path / "cut.mat"
    for length in range(0, len(whole) - 8, 7 if write is not save_mat73 else 997):
        path.write_bytes(whole[:length])
        refused(path, "", "names")


def test_check_sums_of_7_3_are_verified(tmp_path: Path) -> None:
    path = save_mat73(tmp_path / "a.mat", S=matrix((200, 300)))
    with h5py.File(path) as file:
        at = file["S"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 40] ^= 4
    path.write_bytes(content)
    refused(path, "it is damaged or cut short (")


# Files of level 5 that no program writes: neither huge claims nor content that unpacks to gigabytes take long.


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(kind: int, shape: tuple[int, ...], content: bytes, name: bytes = b"S", order: str = "<") -> bytes:
    flags = struct.pack(order + "II", kind, 0)
    parts = element(6, flags, order) + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, parts + element(1, name, order) + content, order)


def level_5(path: Path, *elements: bytes, order: str = "<") -> Path:
    version = struct.pack(order + "H", 0x0100) + (b"IM" if order == "<" else b"MI")
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(elements))
    return path


def packed(content: bytes) -> bytes:
    return struct.pack("<II", 15, len(content)) + content


def hostile() -> list[bytes]:
    nested = b""
    for _ in range(500):
        nested = variable(1, (1, 1), nested, b"")
    head = variable(8, (1, 1), b"")[8:]
    return [
        variable(8, (2**31 - 1, 2**31 - 1), element(2, b"\1")),
        variable(8, (-3, 5), element(2, b"\1")),
        variable(1, (2**31 - 1, 1), element(2, b"\1")),
        variable(1, (1, 1), nested),
        variable(8, (1, 1), struct.pack("<II", 2, 2**32 - 1)),
        packed(zlib.compress(struct.pack("<II", 14, 2**31) + head + bytes(2**24), 9)),
        packed(zlib.compress(struct.pack("<II", 14, 99) + head + bytes(2**24), 9)),
        packed(zlib.compress(head + struct.pack("<II", 2, 2**31) + bytes(2**26), 9)),
    ]


@pytest.mark.parametrize("number", range(len(hostile())))
def test_hostile_files_are_refused_quickly(tmp_path: Path, number: int) -> None:
    path = level_5(tmp_path / "a.mat", hostile()[number])
    started = time.perf_counter()
    tracemalloc.start()
    refused(path, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert time.perf_counter() - started < 30


# Files of 7.3 that MATLAB does not write: nothing is read from elsewhere, and gaps are not taken for zeros.


def large(file: h5py.File) -> None:
    file.create_dataset("S", (2**30, 2**20), "u1", chunks=(64, 64), compression="gzip")


def large_chunks(file: h5py.File) -> None:
    file.create_dataset("S", (4, 4), "u1", chunks=(2**14, 2**14), maxshape=(None, None))


def empty_cells(file: h5py.File) -> None:
    file.create_dataset("S", (3, 1), h5py.ref_dtype, data=np.full((3, 1), h5py.Reference(), h5py.ref_dtype))


def never_written(file: h5py.File) -> None:
    file.create_dataset("S", (40, 40), "u1")


def written_in_part(file: h5py.File) -> None:
    file.create_dataset("S", (40, 40), "u1", chunks=(8, 8))[:8, :16] = 1


def linked(file: h5py.File) -> None:
    file["S"] = h5py.ExternalLink("other.mat", "S")


def in_another_file(file: h5py.File) -> None:
    file.create_dataset("S", (4, 4), "u1", external=[("other.bin", 0, 16)])


def of_other_files(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 4), "u1")
    layout[:] = h5py.VirtualSource("other.mat", "S", (4, 4))
    file.create_virtual_dataset("S", layout)


def structure(file: h5py.File) -> None:
    file.create_group("S")


@pytest.mark.parametrize(
    ("make", "kind", "cause"),
    [
        (large, "uint8", f"variable 'S' claims more than {MAX_MAT_BYTES:,} bytes"),
        (large_chunks, "uint8", f"variable 'S' claims more than {MAX_MAT_BYTES:,} bytes"),
        (empty_cells, "cell", "variable 'S' is no matrix of integers"),
        (never_written, "uint8", "it is damaged: variable 'S' is incomplete"),
        (written_in_part, "uint8", "it is damaged: variable 'S' is incomplete"),
        (linked, "", "variable 'S' is a link to another place"),
        (in_another_file, "uint8", "variable 'S' is stored in another file"),
        (of_other_files, "uint8", "variable 'S' is stored in another file"),
        (structure, "struct", "variable 'S' is no matrix of integers"),
        (never_written, "", "MATLAB did not write variable 'S', so the order of its axes is not known"),
    ],
)
def test_what_matlab_does_not_write(tmp_path: Path, make: Callable[[h5py.File], None], kind: str, cause: str) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=512) as file:
        make(file)
        if kind:
            file["S"].attrs["MATLAB_class"] = np.bytes_(kind)
    path = tmp_path / "a.mat"
    path.write_bytes(content.getvalue())
    started = time.perf_counter()
    refused(path, cause)
    assert time.perf_counter() - started < 30
    assert list(tmp_path.iterdir()) == [path]
