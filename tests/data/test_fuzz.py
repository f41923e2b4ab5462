"""Damaged files of every kind: never a crash, a hang, a warning or a wrong label; whatever is refused is named.

A mutant is a file with bytes changed, lost, doubled or put in. What a data set makes of it is one of two things:

refused: one `UserError` of one line that names the file; of lists, the list or the file that is missing by it.
accepted: and then right. Where a format has check sums (PNG, packed MAT), that is what it held before.
    Where it has none, it is what another reader finds in the same mutant (Pillow, scipy, yaml), as the official table
    has it. A list gives pairs of files that are there and have one name. The pixels of a JPEG may be others, but not
    their number.

The arrays of a cache have no check sum, since they are mapped into memory: only their headers and lengths are mutated.
Files of MAT 7.3 are not among these: libhdf5 reads them, and `test_mat` cuts them.
"""

import io
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from gffnet.data.ade20k import ADE20K
from gffnet.data.cache import build_cache
from gffnet.data.camvid import CamVid
from gffnet.data.cityscapes import Cityscapes
from gffnet.data.coco_stuff import COCOStuff10k
from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.data.folder import Folder
from gffnet.data.pascal_context import TABLE_459, PascalContext
from gffnet.errors import UserError
from tests.data.trees import (
    COCO_STUFF_10,
    COCO_STUFF_11,
    COCO_STUFF_UNUSED,
    ade20k_tree,
    camvid_tree,
    cityscapes_tree,
    coco_stuff_tree,
    folder_tree,
    ids,
    pascal_context_tree,
    picture,
    save,
    save_coco_stuff,
    save_mat,
)

MUTANTS, MANY = 80, 800
"""Of a kind; there are more than 25 kinds."""

LONGEST = 30.0
"""Seconds that a mutant may take."""


class Target(NamedTuple):
    """A file of a data set, and what should come of its mutants."""

    file: Path
    read: Callable[[], str]
    """Reads the data set as training does, and asserts that what is accepted is right; says how it was accepted."""
    heads: list[bytes]
    """Other files, whose beginning some mutants have."""
    mutable: int | None = None
    """Only so many bytes at the beginning are changed in place; None: all."""


def same(labels: object, expected: NDArray) -> None:
    np.testing.assert_array_equal(np.asarray(labels), expected)


IMAGE, MASK = 0, 1


def sample(
    dataset: Dataset,
    part: int,
    *heads: Path,
    expected: Callable[[NDArray], NDArray] = lambda before: before,
    pixels: bool = True,
) -> Target:
    """The image or the mask of the first sample: its labels must be `expected`, and its pixels those from before."""
    image, labels = (np.array(each) for each in dataset[0][:2])

    def read() -> str:
        sample = dataset[0]
        assert sample.image.shape == (3, *sample.labels.shape)
        same(sample.labels, expected(labels))
        if pixels:
            same(sample.image, image)
        return "accepted"

    others = (dataset.files[1][part], dataset.files[0][1 - part], *heads)
    return Target(dataset.files[0][part], read, [path.read_bytes() for path in others])


# Images: the labels stay as they are.


def png_image(root: Path) -> Target:
    return sample(CamVid(camvid_tree(root), "train"), IMAGE, save(root / "a.jpg", picture(8)))


def jpeg_image(root: Path, **options: object) -> Target:
    dataset = ADE20K(ade20k_tree(root), "train")
    image, mask = dataset.files[0]
    Image.fromarray(picture(0, (48, 64))).save(image, **options)
    save(mask, ids(0, 151, (48, 64)))
    return sample(dataset, IMAGE, save(root / "a.bmp", picture(8)), pixels=False)


def progressive_jpeg_image(root: Path) -> Target:
    exif = Image.Exif()
    exif[0x0112] = 1
    return jpeg_image(root, progressive=True, exif=exif)


def folder_image(root: Path, suffix: str, **options: object) -> Target:
    image = Folder(folder_tree(root), "train").files[0][0]
    image.unlink()
    Image.fromarray(picture(0)).save(image.with_suffix(suffix), **options)
    return sample(Folder(root, "train"), IMAGE, save(root / "a.jpg", picture(8)), pixels=False)


# Masks: with check sums they stay as they are; without, another reader says what is in them.


def png_mask(root: Path, dataset: Dataset) -> Target:
    return sample(dataset, MASK, save(root / "a.png", picture(8, (5, 5))))


def sixteen_bit_mask(root: Path) -> Target:
    for mat in pascal_context_tree(root).glob("trainval/*.mat"):
        save(mat.with_suffix(".png"), loadmat(mat)["LabelMap"])
        mat.unlink()
    return png_mask(root, PascalContext(root, "train"))


COLORS = np.array([[128, 64, 128], [153, 153, 153], [220, 220, 0]], np.uint8)


def color_tree(root: Path) -> Path:
    listed = "".join(f"  - {{name: c{i}, color: {color}}}\n" for i, color in enumerate(COLORS.tolist()))
    for mask in folder_tree(root).glob("masks/**/*.png"):
        save(mask, COLORS[np.asarray(Image.open(mask))])
    (root / "classes.yaml").write_text(f"masks: colors\nclasses:\n{listed}ignore: [[0, 0, 0]]\n")
    return root


def palette_mask(root: Path, tree: Callable[[Path], Path], **options: object) -> Target:
    dataset = Folder(tree(root), "train")
    image = Image.fromarray(ids(0, 3)).convert("P")
    image.putpalette(COLORS.tobytes())
    image.save(dataset.files[0][1], **options)
    return png_mask(root, dataset)


def folder_mask(root: Path, suffix: str) -> Target:
    mask = Folder(folder_tree(root), "train").files[0][1]
    mask.unlink()
    mask = save(mask.with_suffix(suffix), ids(0, 3))

    def by_pillow(before: NDArray) -> NDArray:
        with warnings.catch_warnings(action="ignore"), Image.open(mask) as image:
            stored = np.asarray(image).astype(int)
            bits = image.tag_v2.get(258, (8,))[0] if image.format == "TIFF" else 8
            if image.format == "TIFF" and image.mode == "L" and image.tag_v2.get(262) == 0:
                stored = 255 - stored  # Pillow inverts what is white at 0
            return stored // {2: 85, 4: 17}.get(bits if image.mode == "L" else 8, 1)  # Pillow stretches these

    return sample(Folder(root, "train"), MASK, save(root / "b.bmp", picture(8)), expected=by_pillow, pixels=False)


# MAT files.

MAT_TEXT = b"MATLAB 5.0 MAT-file"


def mat_mask(dataset: Dataset, packed: bool, convert: Callable[[dict[str, NDArray]], NDArray], *names: str) -> Target:
    """`convert`: the train ids, from the variables `names` as scipy reads them from a file without check sums."""
    mat = dataset.files[0][1]
    mat.write_bytes(MAT_TEXT.ljust(116) + mat.read_bytes()[116:])  # the text before the variables holds the time

    def by_scipy(before: NDArray) -> NDArray:
        content = MAT_TEXT + mat.read_bytes()[len(MAT_TEXT) :]
        try:
            with warnings.catch_warnings(action="ignore"):
                found = loadmat(io.BytesIO(content), variable_names=names)
                found = {name: found[name] for name in names}
        except Exception:  # scipy refuses it
            return before
        return convert(found)

    options = {} if packed else {"expected": by_scipy}
    return sample(dataset, MASK, pixels=False, **options)


def pascal_mat(root: Path, packed: bool) -> Target:
    dataset = PascalContext(pascal_context_tree(root), "train")
    mat = dataset.files[0][1]
    save_mat(mat, packed, LabelMap=loadmat(mat)["LabelMap"])
    return mat_mask(dataset, packed, lambda found: TABLE_459(found["LabelMap"].astype(int), mat), "LabelMap")


def coco_mat(root: Path, names: list[str], packed: bool) -> Target:
    dataset = COCOStuff10k(coco_stuff_tree(root, names=names), "train")
    mat = dataset.files[0][1]
    save_coco_stuff(mat, loadmat(mat)["S"], names, packed)
    official = [name for i, name in enumerate(COCO_STUFF_11, 1) if i not in COCO_STUFF_UNUSED]

    def convert(found: dict[str, NDArray]) -> NDArray:
        """The place of the class of every id in the list of the 171, by the names in the file."""
        zero = "unlabeled" if found["names"].size == 182 else ""
        names = [zero, *(str(name[0]) if name.size else "" for name in found["names"].ravel())]
        called = np.array(names, object)[found["S"].astype(int)]
        return np.vectorize(lambda name: 255 if name == "unlabeled" else official.index(name))(called)

    return mat_mask(dataset, packed, convert, "S", "names")


# Lists of files and of classes.


def listing(list_file: Path, other: Path, make: Callable[[], Dataset], line: str = "{}\n") -> Target:
    """Opens a data set: of every pair, both files are there and have one name. Every listed name becomes `line`."""
    list_file.write_text("".join(line.replace("{}", name) for name in list_file.read_text().splitlines()))

    def read() -> str:
        dataset = make()
        assert len(dataset)
        for image, label in dataset.files:
            assert image.is_file()
            assert label.is_file()
            assert image.stem == label.stem
            if isinstance(dataset, Folder):
                assert image.relative_to(dataset.root / "images") == label.relative_to(dataset.root / "masks")
        return "accepted"

    return Target(list_file, read, [other.read_bytes()])


def camvid_list(root: Path) -> Target:
    camvid_tree(root)
    return listing(root / "train.txt", root / "val.txt", lambda: CamVid(root, "train"))


def voc_list(root: Path) -> Target:
    lists = pascal_context_tree(root, train=6) / "ImageSets" / "Main"
    line = "VOCdevkit/VOC2010/JPEGImages/{}.jpg 1  a comment\n\n"
    return listing(lists / "train.txt", lists / "val.txt", lambda: PascalContext(root, "train"), line)


def coco_list(root: Path) -> Target:
    lists = coco_stuff_tree(root) / "imageLists"
    line = "C:\\cocostuff\\images\\{}.jpg annotations\\{}.mat\n"
    return listing(lists / "train.txt", lists / "test.txt", lambda: COCOStuff10k(root, "train"), line)


def folder_list(root: Path) -> Target:
    folder_tree(root, train=6)
    names = [image.relative_to(root / "images") for image in sorted(root.glob("images/**/*.png"))]
    for split, chosen in (("train", names[2:]), ("val", names[:2])):
        lines = [
            str(name if i % 2 else name.with_suffix("")).replace("/", "\\/"[i % 3 > 0]) for i, name in enumerate(chosen)
        ]
        (root / f"{split}.txt").write_text("\n".join(lines))
    return listing(root / "train.txt", root / "val.txt", lambda: Folder(root, "train"), "{}\n  \n\n")


def classes_of_ids(root: Path) -> Target:
    folder_tree(root)
    return classes_yaml(
        root,
        "classes:\n- road\n- {name: pole, color: [153, 153, 153]}\n- {name: sign, id: 2}\n- {name: sky, id: 11}\n"
        "ignore: [255]\n",
    )


def classes_of_colors(root: Path) -> Target:
    return classes_yaml(root, (color_tree(root) / "classes.yaml").read_text())


def classes_yaml(root: Path, text: str) -> Target:
    """The file that says which classes there are; the masks stay as they are."""
    file = root / "classes.yaml"
    file.write_text(f"# {'What the pixels of these masks are. ' * 8}\n{text}# {'Nothing more is known. ' * 9}\n")

    def read() -> str:
        dataset = Folder(root, "train")
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
        listed = [item if isinstance(item, dict) else {"name": item} for item in said["classes"]]
        assert dataset.classes.names == tuple(item["name"] for item in listed)
        key = "color" if said.get("masks") == "colors" else "id"
        stored = [item.get(key, i) for i, item in enumerate(listed)]
        stored = [list(bytes.fromhex(each[1:])) if isinstance(each, str) else each for each in stored]
        pixels = np.asarray(Image.open(dataset.files[0][1])).tolist()
        expected = [[stored.index(value) if value in stored else 255 for value in row] for row in pixels]
        same(dataset[0].labels, np.array(expected))
        return "accepted"

    return Target(file, read, [b"classes: [a, b, c]\n", b"ignore: 7\nmasks: ids\n"])


# Caches: samples are those of the files, whatever becomes of the cache.

_HEADER = 128
"""Bytes of an .npy file before its pixels, which have no check sum: they are mapped, and never read as a whole."""


def cache_entry(root: Path, kind: str) -> Target:
    """One array of the cache; the reader opens data set and cache anew and looks at all samples."""
    files = CamVid(camvid_tree(root), "train")
    build_cache(files, "train", root / "gffnet_cache", workers=1)
    samples = [files[i] for i in range(5)]

    def read() -> str:
        dataset = open_dataset("camvid", root, "train")
        assert dataset.cache is not None
        found = [dataset.cache.read(dataset, i) is not None for i in range(5)]
        for i, expected in enumerate(samples):
            sample = dataset[i]
            assert sample.name == expected.name
            same(sample.labels, np.asarray(expected.labels))
            same(sample.image, np.asarray(expected.image))
        return "accepted" if all(found) else "passed over"

    entries = sorted((root / "gffnet_cache").rglob(f"*.{kind}.npy"))
    return Target(entries[2], read, [entries[1].read_bytes(), entries[4].read_bytes()], _HEADER)


KINDS: dict[str, Callable[[Path], Target]] = {
    "png_image": png_image,
    "jpeg_image": jpeg_image,
    "progressive_jpeg_image": progressive_jpeg_image,
    "bmp_image": partial(folder_image, suffix=".bmp"),
    "tiff_image": partial(folder_image, suffix=".tiff"),
    "packed_tiff_image": partial(folder_image, suffix=".tif", compression="tiff_lzw"),
    "webp_image": partial(folder_image, suffix=".webp"),
    "camvid_mask": lambda root: png_mask(root, CamVid(camvid_tree(root), "train")),
    "ade20k_mask": lambda root: png_mask(root, ADE20K(ade20k_tree(root), "train")),
    "cityscapes_mask": lambda root: png_mask(root, Cityscapes(cityscapes_tree(root), "train")),
    "sixteen_bit_mask": sixteen_bit_mask,
    "palette_mask": partial(palette_mask, tree=folder_tree, transparency=2),
    "color_mask": lambda root: png_mask(root, Folder(color_tree(root), "train")),
    "palette_of_colors": partial(palette_mask, tree=color_tree),
    "bmp_mask": partial(folder_mask, suffix=".bmp"),
    "tiff_mask": partial(folder_mask, suffix=".tif"),
    "packed_pascal_mat": partial(pascal_mat, packed=True),
    "plain_pascal_mat": partial(pascal_mat, packed=False),
    "packed_coco_1_1": partial(coco_mat, names=COCO_STUFF_11, packed=True),
    "plain_coco_1_1": partial(coco_mat, names=COCO_STUFF_11, packed=False),
    "packed_coco_1_0": partial(coco_mat, names=COCO_STUFF_10, packed=True),
    "plain_coco_1_0": partial(coco_mat, names=COCO_STUFF_10, packed=False),
    "camvid_list": camvid_list,
    "voc_list": voc_list,
    "coco_list": coco_list,
    "folder_list": folder_list,
    "classes_of_ids": classes_of_ids,
    "classes_of_colors": classes_of_colors,
    "cached_image": partial(cache_entry, kind="image"),
    "cached_labels": partial(cache_entry, kind="labels"),
}
NEVER_REFUSED = {"cached_image", "cached_labels"}
"""Kinds whose damage is passed over: then the files are read."""


# Mutants: bytes changed, lost, doubled or put in.


def changed(content: bytearray, rng: np.random.Generator, end: int) -> None:
    """Some bytes before `end` become others; the length stays."""
    at, length = int(rng.integers(end)), int(rng.integers(1, 17))
    length = min(length, end - at)
    match rng.integers(5):
        case 0:
            content[at] ^= 1 << int(rng.integers(8))
        case 1:
            content[at : at + length] = rng.bytes(length)
        case 2:
            content[at : at + length] = bytes(length)
        case 3:
            number = struct.pack("<I", int(rng.choice([1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])))
            content[at : at + min(4, end - at)] = number[: end - at]
        case _:  # a block takes the place of another
            there = 4 * int(rng.integers(end // 4 + 1))
            at -= at % 4
            block = bytes(content[there : min(there + 4 * int(rng.integers(1, 9)), end)])[: end - at]
            content[at : at + len(block)] = block


def resized(content: bytearray, rng: np.random.Generator, head: bytes) -> bytearray:
    """Some bytes are lost, put in or doubled, or the file begins as another does."""
    at, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 33))
    match rng.integers(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + content[at + length :]
        case 2:
            return content[:at] + rng.bytes(length) + content[at:]
        case 3:
            return content[:at] + content[max(0, at - 8 * length) :]  # doubles what stands before
        case 4:
            return content + rng.bytes(length)
        case 5:
            return content + content[at:]
        case 6 if rng.integers(4) == 0:
            return bytearray()
        case _:
            length = int(rng.integers(1, max(2, len(head) // 2)))
            return bytearray(head[:length]) + content[length:]


def mutant(whole: bytes, target: Target, rng: np.random.Generator) -> bytes:
    content = bytearray(whole)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        if rng.integers(2) and content:
            changed(content, rng, min(len(content), target.mutable or len(content)))
        elif target.mutable is None:
            content = resized(content, rng, target.heads[int(rng.integers(len(target.heads)))])
        else:
            at = int(rng.integers(len(content) + 1))
            content = content[:at] if rng.integers(2) else content + rng.bytes(1 + at % 9)
    return bytes(content) if content != whole else whole[:-1]


def outcome(target: Target, root: Path) -> str:
    """What becomes of the mutant that lies in the file now: refused, accepted or passed over."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            result = target.read()
        except UserError as error:
            result, text = "refused", str(error)
            assert "\n" not in text
            named = str(target.file) in text
            missing = target.file.suffix == ".txt" and f"the first of them {root}/" in text
            empty = target.file.suffix == ".txt" and f"at {root}: list {target.file} names no image" in text
            assert named or missing or empty, text
        assert time.perf_counter() - started < LONGEST
    assert [str(warning.message) for warning in warned] == []
    return result


def fuzz(kind: str, root: Path, mutants: int, seed: int) -> None:
    target = KINDS[kind](root)
    whole, outcomes = target.file.read_bytes(), Counter[str]()
    assert outcome(target, root) == "accepted"
    for i in range(mutants):
        content = mutant(whole, target, np.random.default_rng([seed, zlib.crc32(kind.encode()), i]))
        target.file.unlink()  # a cache may have mapped the one before
        target.file.write_bytes(content)
        try:
            outcomes[outcome(target, root)] += 1
        except BaseException as error:
            error.add_note(f"mutant {i} of {kind}, of {len(whole)} bytes: {content[:400]!r}")
            raise
    assert (outcomes["refused"] > 0) == (kind not in NEVER_REFUSED), outcomes
    assert outcomes["accepted"] + outcomes["passed over"] > 0, outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(kind: str, tmp_path: Path) -> None:
    fuzz(kind, tmp_path, MUTANTS, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind: str, tmp_path: Path) -> None:
    fuzz(kind, tmp_path, MANY, seed=1)
