import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.data.io import LARGEST, MatFile, is_mat73
from gffnet.errors import UserError
from tests.data.trees import COCO_STUFF_10, save_mat, save_mat73

TEXTS = ["unlabeled", "person", "a", "", "Fußgänger", "wall-other", "🚲"]


def matrix(size: tuple[int, int] = (4, 6)) -> NDArray:
    return np.random.default_rng(2).integers(0, 100, size)


def example(tmp_path: Path) -> Path:
    return save_mat73(tmp_path / "a.mat", captions=["one"], S=matrix().astype(np.uint8), names=TEXTS)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8", "?"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 5), (7, 9), (60, 200)])
def test_ids(tmp_path: Path, dtype: str, size: tuple[int, int]) -> None:
    """Height and width are as in MATLAB, though HDF5 has them the other way round."""
    stored = matrix(size).astype(dtype)
    path = save_mat73(tmp_path / "a.mat", x=np.zeros(9), S=stored)
    with h5py.File(path) as file:
        assert file["S"].shape == size[::-1]
    ids = MatFile(path, ("S",)).ids("S")
    np.testing.assert_array_equal(ids, stored)
    assert ids.dtype.kind in "ui"
    assert ids.flags.c_contiguous


def test_texts(tmp_path: Path) -> None:
    file = MatFile(example(tmp_path), ("S", "names"))
    np.testing.assert_array_equal(file.ids("S"), matrix())
    assert file.texts("names") == tuple(TEXTS)


def test_both_versions_are_read_alike(tmp_path: Path) -> None:
    values = {"S": matrix((5, 3)).astype(float), "names": COCO_STUFF_10}
    new, old = save_mat73(tmp_path / "new.mat", **values), save_mat(tmp_path / "old.mat", **values)
    assert (is_mat73(new.read_bytes()), is_mat73(old.read_bytes())) == (True, False)
    files = [MatFile(path, ("S", "names")) for path in (new, old)]
    np.testing.assert_array_equal(files[0].ids("S"), files[1].ids("S"))
    assert files[0].texts("names") == files[1].texts("names")


def test_other_variables_are_not_read(tmp_path: Path) -> None:
    path = example(tmp_path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("regions", (2**40, 2**10), "f8")
        file["nowhere"] = h5py.SoftLink("/none")
    assert MatFile(path, ("names",)).texts("names") == tuple(TEXTS)


# Errors: one line with the file, the cause and the remedy.


def refused(path: Path, cause: str, name: str = "S", as_texts: bool = False) -> None:
    with pytest.raises(UserError) as caught:
        MatFile(path, (name,)).texts(name) if as_texts else MatFile(path, (name,)).ids(name)
    text = str(caught.value)
    assert text.startswith(f"cannot read label map {path}: {cause}")
    assert ". To go on, " in text
    assert "\n" not in text


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(
        path,
        "it is a MAT file of version 7.3 (HDF5), and h5py is missing, which reads those. To go on, run "
        "`python -m pip install 'gffnet[coco]'`, or save it again with MATLAB's `save -v7`.",
    )
    old = save_mat(tmp_path / "old.mat", S=matrix())
    np.testing.assert_array_equal(MatFile(old, ("S",)).ids("S"), matrix())


def test_missing_variable(tmp_path: Path) -> None:
    refused(example(tmp_path), "it holds no variable 'LabelMap' (it holds 'S', 'captions', 'names')", "LabelMap")


def test_cut_short(tmp_path: Path) -> None:
    path = example(tmp_path)
    whole = path.read_bytes()
    for length in (20, 511, 520, 560, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "it is damaged or cut short (")


def test_packed_numbers_are_checked(tmp_path: Path) -> None:
    path = save_mat73(tmp_path / "a.mat", S=matrix((200, 300)))
    with h5py.File(path) as file:
        at = file["S"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 40] ^= 4
    path.write_bytes(content)
    refused(path, "it is damaged or cut short (")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (np.zeros((0, 3)), "variable 'S' is no matrix of integers"),
        (np.zeros((2, 3, 4)), "variable 'S' is no matrix of integers (its shape is (2, 3, 4))"),
        (np.array([[1 + 2j]]), "variable 'S' is no matrix of integers"),
        ("text", "variable 'S' is no matrix of integers"),
        (["text"], "variable 'S' is no matrix of integers"),
        (np.array([[1.5, 2]]), "variable 'S' holds values that are no ids"),
        (np.array([[np.nan]]), "variable 'S' holds values that are no ids"),
    ],
)
def test_no_ids(tmp_path: Path, value: object, cause: str) -> None:
    refused(save_mat73(tmp_path / "a.mat", S=value), cause)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (matrix(), "variable 'names' is no row or column of texts (its shape is (4, 6))"),
        ([], "variable 'names' is no row or column of texts"),
        (["text", matrix()], "variable 'names' holds something else than texts"),
        (["x" * 5000], "a text of variable 'names' claims more than 4,096 bytes"),
        (["x"] * 5000, "variable 'names' has more than 4,096 cells, so it is no list of classes"),
    ],
)
def test_no_texts(tmp_path: Path, value: object, cause: str) -> None:
    refused(save_mat73(tmp_path / "a.mat", names=value), cause, "names", as_texts=True)


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
    ("make", "of", "cause"),
    [
        (large, "uint8", f"variable 'S' claims more than {LARGEST:,} bytes"),
        (large_chunks, "uint8", f"variable 'S' claims more than {LARGEST:,} bytes"),
        (empty_cells, "cell", "variable 'S' holds something else than texts"),
        (never_written, "uint8", "it is damaged: variable 'S' is not stored whole"),
        (written_in_part, "uint8", "it is damaged: variable 'S' is not stored whole"),
        (never_written, "cell", "variable 'S' is no row or column of texts"),
        (linked, "", "variable 'S' is a link to another place"),
        (in_another_file, "uint8", "variable 'S' lies in another file"),
        (of_other_files, "uint8", "variable 'S' lies in another file"),
        (structure, "struct", "variable 'S' is no matrix of integers"),
        (never_written, "", "MATLAB did not write variable 'S', so the order of its axes is not known"),
    ],
)
def test_what_matlab_does_not_write(tmp_path: Path, make: Callable[[h5py.File], None], of: str, cause: str) -> None:
    """Nothing is read from elsewhere, and what is not there is not taken for zeros."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        make(file)
        if of:
            file["S"].attrs["MATLAB_class"] = np.bytes_(of)
    started = time.perf_counter()
    refused(path, cause, as_texts=of == "cell")
    assert time.perf_counter() - started < 2
    assert list(tmp_path.iterdir()) == [path]
