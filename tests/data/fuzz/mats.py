"""MAT files to damage."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from gffnet.data.coco_stuff import COCOStuff10k
from gffnet.data.pascal_context import TABLE_459, PascalContext
from tests.data.fuzz.target import Target, heads, sample_reader, unchanged
from tests.data.trees import (
    COCO_STUFF_10,
    COCO_STUFF_11,
    COCO_STUFF_UNUSED,
    coco_stuff_tree,
    pascal_context_tree,
    save_coco_stuff,
    save_mat,
)

MAT_TEXT = b"MATLAB 5.0 MAT-file"


def undated(mat: Path) -> None:
    """A MAT file begins with a text that tells when it was written; here no two mutants should differ by that."""
    mat.write_bytes(MAT_TEXT.ljust(116) + mat.read_bytes()[116:])


def pascal_mat(root: Path, packed: bool) -> Target:
    dataset = PascalContext(pascal_context_tree(root), "train")
    mat = dataset.files[0][1]
    undated(save_mat(mat, packed, LabelMap=loadmat(mat)["LabelMap"]))
    before = unchanged(dataset)
    read = sample_reader(dataset, 0, before if packed else lambda: by_scipy_459(mat, before()))
    return Target(mat, read, heads(dataset.files[1][1], dataset.files[0][0]))


def by_scipy_459(mat: Path, before: NDArray) -> NDArray:
    found = by_scipy(mat, "LabelMap")
    return before if found is None else TABLE_459(found["LabelMap"].astype(int), mat)


def by_scipy(mat: Path, *names: str) -> dict[str, NDArray] | None:
    """The variables of a MAT file, None where scipy refuses it; not for the text before them, which means nothing."""
    content = mat.read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):
            found: dict[str, NDArray] = loadmat(io.BytesIO(MAT_TEXT + content[len(MAT_TEXT) :]), variable_names=names)
            return found if all(name in found for name in names) else None
    except Exception:
        return None


def packed_pascal_mat(root: Path) -> Target:
    return pascal_mat(root, packed=True)


def plain_pascal_mat(root: Path) -> Target:
    return pascal_mat(root, packed=False)


def coco_mat(root: Path, names: list[str], packed: bool) -> Target:
    dataset = COCOStuff10k(coco_stuff_tree(root, names=names), "train")
    mat = dataset.files[0][1]
    undated(save_coco_stuff(mat, loadmat(mat)["S"], names, packed))
    before = unchanged(dataset)
    read = sample_reader(dataset, 0, before if packed else lambda: by_scipy_coco(mat, before()))
    return Target(mat, read, heads(dataset.files[1][1], dataset.files[0][0]))


def by_scipy_coco(mat: Path, before: NDArray) -> NDArray:
    """The place of the class of every id in the list of the 171, by the names in the file."""
    found = by_scipy(mat, "S", "names")
    if found is None:
        return before
    official = [name for i, name in enumerate(COCO_STUFF_11, 1) if i not in COCO_STUFF_UNUSED]
    names = [
        "unlabeled" if found["names"].size == 182 else "",
        *(str(name[0]) if name.size else "" for name in found["names"].ravel()),
    ]
    called = np.array(names, object)[found["S"].astype(int)]
    return np.vectorize(lambda name: 255 if name == "unlabeled" else official.index(name))(called)


def packed_coco_1_1(root: Path) -> Target:
    return coco_mat(root, COCO_STUFF_11, packed=True)


def plain_coco_1_1(root: Path) -> Target:
    return coco_mat(root, COCO_STUFF_11, packed=False)


def packed_coco_1_0(root: Path) -> Target:
    return coco_mat(root, COCO_STUFF_10, packed=True)


def plain_coco_1_0(root: Path) -> Target:
    return coco_mat(root, COCO_STUFF_10, packed=False)
