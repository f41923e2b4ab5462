"""Images to damage: the labels stay as they are."""

from pathlib import Path

from PIL import Image

from gffnet.data.ade20k import ADE20K
from gffnet.data.camvid import CamVid
from gffnet.data.folder import Folder
from tests.data.fuzz.target import Target, heads, image_of, sample_reader, unchanged
from tests.data.trees import (
    ade20k_tree,
    camvid_tree,
    folder_tree,
    ids,
    picture,
    save,
)


def png_image(root: Path) -> Target:
    dataset = CamVid(camvid_tree(root), "train")
    image, mask = dataset.files[0]
    read = sample_reader(dataset, 0, unchanged(dataset), image_of(dataset))
    return Target(image, read, heads(dataset.files[1][0], mask, save(root / "a.jpg", picture(8))))


def jpeg_image(root: Path, **options: object) -> Target:
    dataset = ADE20K(ade20k_tree(root), "train")
    image, mask = dataset.files[0]
    Image.fromarray(picture(0, (48, 64))).save(image, **options)
    save(mask, ids(0, 151, (48, 64)))
    return Target(
        image,
        sample_reader(dataset, 0, unchanged(dataset)),
        heads(dataset.files[1][0], mask, save(root / "a.bmp", picture(8))),
    )


def progressive_jpeg_image(root: Path) -> Target:
    exif = Image.Exif()
    exif[0x0112] = 1
    return jpeg_image(root, progressive=True, exif=exif)


def folder_image(root: Path, suffix: str, **options: object) -> Target:
    files = Folder(folder_tree(root), "train").files
    image = files[0][0].with_suffix(suffix)
    files[0][0].unlink()
    Image.fromarray(picture(0)).save(image, **options)
    dataset = Folder(root, "train")
    return Target(
        image, sample_reader(dataset, 0, unchanged(dataset)), heads(files[1][0], save(root / "a.jpg", picture(8)))
    )


def bmp_image(root: Path) -> Target:
    return folder_image(root, ".bmp")


def tiff_image(root: Path) -> Target:
    return folder_image(root, ".tiff")


def packed_tiff_image(root: Path) -> Target:
    return folder_image(root, ".tif", compression="tiff_lzw")


def webp_image(root: Path) -> Target:
    return folder_image(root, ".webp")
