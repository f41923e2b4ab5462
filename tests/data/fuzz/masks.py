"""Masks to damage: with check sums they stay as they are; without, another reader says what is in them."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from gffnet.data.ade20k import ADE20K
from gffnet.data.camvid import CamVid
from gffnet.data.cityscapes import Cityscapes
from gffnet.data.dataset import Dataset
from gffnet.data.folder import Folder
from gffnet.data.pascal_context import PascalContext
from tests.data.fuzz.target import Target, heads, image_of, sample_reader, unchanged
from tests.data.trees import (
    ade20k_tree,
    camvid_tree,
    cityscapes_tree,
    folder_tree,
    ids,
    pascal_context_tree,
    picture,
    save,
)


def png_mask(root: Path, dataset: Dataset) -> Target:
    mask = dataset.files[0][1]
    other = save(root / "other.png", np.asarray(Image.open(dataset.files[1][1])))
    return Target(
        mask,
        sample_reader(dataset, 0, unchanged(dataset), image_of(dataset)),
        heads(other, dataset.files[0][0], save(root / "a.png", picture(8, (5, 5)))),
    )


def camvid_mask(root: Path) -> Target:
    return png_mask(root, CamVid(camvid_tree(root), "train"))


def ade20k_mask(root: Path) -> Target:
    return png_mask(root, ADE20K(ade20k_tree(root), "train"))


def cityscapes_mask(root: Path) -> Target:
    return png_mask(root, Cityscapes(cityscapes_tree(root), "train"))


def sixteen_bit_mask(root: Path) -> Target:
    for mat in pascal_context_tree(root).glob("trainval/*.mat"):
        save(mat.with_suffix(".png"), loadmat(mat)["LabelMap"])
        mat.unlink()
    return png_mask(root, PascalContext(root, "train"))


def palette_mask(root: Path) -> Target:
    dataset = Folder(folder_tree(root), "train")
    image = Image.fromarray(ids(0, 3)).convert("P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(dataset.files[0][1], transparency=2)
    return png_mask(root, dataset)


COLORS = np.array([[128, 64, 128], [153, 153, 153], [220, 220, 0]], np.uint8)


def color_tree(root: Path) -> Path:
    listed = "".join(f"  - {{name: c{i}, color: {color.tolist()}}}\n" for i, color in enumerate(COLORS))
    for mask in folder_tree(root).glob("masks/**/*.png"):
        save(mask, COLORS[np.asarray(Image.open(mask))])
    (root / "classes.yaml").write_text(f"masks: colors\nclasses:\n{listed}ignore: [[0, 0, 0]]\n")
    return root


def color_mask(root: Path) -> Target:
    return png_mask(root, Folder(color_tree(root), "train"))


def palette_of_colors(root: Path) -> Target:
    dataset = Folder(color_tree(root), "train")
    image = Image.fromarray(ids(0, 3)).convert("P")
    image.putpalette(COLORS.tobytes())
    image.save(dataset.files[0][1])
    return png_mask(root, dataset)


# Masks without: another reader says what is in them.


def folder_mask(root: Path, suffix: str) -> Target:
    dataset = Folder(folder_tree(root), "train")
    mask = dataset.files[0][1].with_suffix(suffix)
    dataset.files[0][1].unlink()
    save(mask, ids(0, 3))
    dataset = Folder(root, "train")
    return Target(
        mask,
        sample_reader(dataset, 0, lambda: by_pillow(mask)),
        heads(dataset.files[1][1], save(root / "b.bmp", picture(8))),
    )


def by_pillow(mask: Path) -> NDArray:
    """The train ids of a mask whose classes are 0, 1 and 2."""
    with warnings.catch_warnings(action="ignore"), Image.open(mask) as image:
        stored = np.asarray(image).astype(int)
        bits = image.tag_v2.get(258, (8,))[0] if image.format == "TIFF" else 8
        return stored // {2: 85, 4: 17}.get(bits if image.mode == "L" else 8, 1)  # Pillow stretches these to 0..255


def bmp_mask(root: Path) -> Target:
    return folder_mask(root, ".bmp")


def tiff_mask(root: Path) -> Target:
    return folder_mask(root, ".tif")
