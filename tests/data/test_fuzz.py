"""Damaged files of every kind: never a crash, a hang, a warning or a wrong label; whatever is refused is named.

A mutant is a file with bytes changed, lost, doubled or put in. What a data set makes of it is one of two things:

refused: one `UserError` of one line that names the file; of lists, the list or the file that is missing by it.
accepted: and then right. Where a format has check sums (PNG, packed MAT, cached tiles), that is what it held before.
    Where it has none, it is what another reader finds in the same mutant (Pillow, scipy, yaml), as the official table
    has it. A list gives pairs of files that are there and have one name. The pixels of a JPEG may be others, but not
    their number.

A plain cache entry has no check sum of its pixels that reading would look at, since it is mapped into memory: only its
header and its length are mutated. Files of MAT 7.3 are not among these: libhdf5 reads them, and `test_mat73` cuts them.
"""

import io
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from gffnet.data.ade20k import ADE20K
from gffnet.data.base import Dataset, as_sample
from gffnet.data.cache.build import build_cache
from gffnet.data.cache.cached import Cached, with_cache
from gffnet.data.cache.entry import Mapped, Tiled
from gffnet.data.camvid import CamVid
from gffnet.data.cityscapes import Cityscapes
from gffnet.data.coco_stuff import COCOStuff10k
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

LONGEST = 5.0
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


# Mutants.


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


# What was accepted must be right.


def same(labels: object, expected: NDArray) -> None:
    np.testing.assert_array_equal(np.asarray(labels), expected)


def sample_reader(
    dataset: Dataset, index: int, expected: Callable[[], NDArray], image: NDArray | None = None
) -> Callable[[], str]:
    """Reads one sample: its labels must be `expected` then, and its pixels `image`, if given."""

    def read() -> str:
        sample = dataset[index]
        assert sample.image.shape == (3, *sample.labels.shape)
        same(sample.labels, expected())
        if image is not None:
            same(sample.image.permute(1, 2, 0), image)
        return "accepted"

    return read


def unchanged(dataset: Dataset, index: int = 0) -> Callable[[], NDArray]:
    before = np.array(dataset[index].labels)
    return lambda: before


def image_of(dataset: Dataset, index: int = 0) -> NDArray:
    return np.array(dataset[index].image.permute(1, 2, 0))


def heads(*paths: Path) -> list[bytes]:
    return [path.read_bytes() for path in paths]


# Images: the labels stay as they are.


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


# Masks with check sums.


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


COLOURS = np.array([[128, 64, 128], [153, 153, 153], [220, 220, 0]], np.uint8)


def colour_tree(root: Path) -> Path:
    listed = "".join(f"  - {{name: c{i}, color: {colour.tolist()}}}\n" for i, colour in enumerate(COLOURS))
    for mask in folder_tree(root).glob("masks/**/*.png"):
        save(mask, COLOURS[np.asarray(Image.open(mask))])
    (root / "classes.yaml").write_text(f"masks: colors\nclasses:\n{listed}ignore: [[0, 0, 0]]\n")
    return root


def colour_mask(root: Path) -> Target:
    return png_mask(root, Folder(colour_tree(root), "train"))


def palette_of_colours(root: Path) -> Target:
    dataset = Folder(colour_tree(root), "train")
    image = Image.fromarray(ids(0, 3)).convert("P")
    image.putpalette(COLOURS.tobytes())
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


# MAT files.


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


# Lists.


def list_reader(make: Callable[[], Dataset]) -> Callable[[], str]:
    """Opens a data set: of every pair, both files are there and have one name."""

    def read() -> str:
        dataset = make()
        assert len(dataset)
        for image, label in dataset.files:
            assert image.is_file()
            assert label.is_file()
            assert image.stem == label.stem
        return "accepted"

    return read


def camvid_list(root: Path) -> Target:
    camvid_tree(root)
    return Target(
        root / "train.txt",
        list_reader(lambda: CamVid(root, "train")),
        heads(root / "val.txt", root / "val" / "val_000.png"),
    )


def with_paths(listing: Path, line: str) -> None:
    """As converters write lists: not bare names, and more than one thing a line."""
    listing.write_text("".join(line.replace("{}", name) for name in listing.read_text().split()))


def voc_list(root: Path) -> Target:
    lists = pascal_context_tree(root, train=6) / "ImageSets" / "Main"
    with_paths(lists / "train.txt", "VOCdevkit/VOC2010/JPEGImages/{}.jpg 1  a comment\n\n")
    return Target(lists / "train.txt", list_reader(lambda: PascalContext(root, "train")), heads(lists / "val.txt"))


def coco_list(root: Path) -> Target:
    lists = coco_stuff_tree(root) / "imageLists"
    with_paths(lists / "train.txt", "C:\\cocostuff\\images\\{}.jpg annotations\\{}.mat\n")
    return Target(lists / "train.txt", list_reader(lambda: COCOStuff10k(root, "train")), heads(lists / "test.txt"))


def folder_list(root: Path) -> Target:
    folder_tree(root, train=6)
    names = [image.relative_to(root / "images") for image in sorted(root.glob("images/**/*.png"))]
    for split, chosen in (("train", names[2:]), ("val", names[:2])):
        lines = (
            str(name if i % 2 else name.with_suffix("")).replace("/", "\\/"[i % 3 > 0]) for i, name in enumerate(chosen)
        )
        (root / f"{split}.txt").write_text("\n  \n\n".join(lines))

    def opened() -> Dataset:
        dataset = Folder(root, "train")
        for image, mask in dataset.files:
            assert image.relative_to(root / "images") == mask.relative_to(root / "masks")
        return dataset

    return Target(root / "train.txt", list_reader(opened), heads(root / "val.txt"))


def classes_of_ids(root: Path) -> Target:
    folder_tree(root)
    return classes_yaml(
        root,
        "classes:\n- road\n- {name: pole, color: [153, 153, 153]}\n- {name: sign, id: 2}\n- {name: sky, id: 11}\n"
        "ignore: [255]\n",
    )


def classes_of_colours(root: Path) -> Target:
    return classes_yaml(root, (colour_tree(root) / "classes.yaml").read_text())


def classes_yaml(root: Path, text: str) -> Target:
    """The file that says which classes there are; the masks stay as they are."""
    file = root / "classes.yaml"
    file.write_text(f"# {'What the pixels of these masks are. ' * 8}\n{text}# {'Nothing more is known. ' * 9}\n")

    def read() -> str:
        dataset = Folder(root, "train")
        names, train_id = by_yaml(file.read_text(encoding="utf-8"))
        assert dataset.classes.names == names
        sample, stored = dataset[0], np.asarray(Image.open(dataset.files[0][1]))
        same(sample.labels, np.array([[train_id(value.tolist()) for value in row] for row in stored]))
        return "accepted"

    return Target(file, read, [b"classes: [a, b, c]\n", b"ignore: 7\nmasks: ids\n"])


def by_yaml(text: str) -> tuple[tuple[str, ...], Callable[[object], int]]:
    """The names of the classes, and what becomes of an id or a colour, as `classes.yaml` says it."""
    said = yaml.safe_load(text)
    listed = [item if isinstance(item, dict) else {"name": item} for item in said["classes"]]
    key = "color" if said.get("masks") == "colors" else "id"
    stored = [item.get(key, i) for i, item in enumerate(listed)]

    def train_id(value: object) -> int:
        return [number(one) for one in stored].index(value) if value in map(number, stored) else 255

    return tuple(item["name"] for item in listed), train_id


def number(stored: object) -> object:
    """A colour as a list; an id as it is."""
    return list(bytes.fromhex(stored[1:])) if isinstance(stored, str) else stored


# Caches: they hold what the files hold, whatever becomes of them.


def cache(root: Path, compressed: bool, size: tuple[int, int] = (12, 16)) -> tuple[Cached, Callable[[], str]]:
    """A data set with a cache; and a reader, which opens both anew and looks at all samples."""
    camvid_tree(root)
    for i in range(5):
        save(root / "train" / f"train_{i:03d}.png", picture(i, size))
        save(root / "trainannot" / f"train_{i:03d}.png", ids(i, 12, size))
    files = CamVid(root, "train")
    build_cache(files, "train", root, root / "cache", compressed, workers=1)
    samples = [files[i] for i in range(5)]
    counts = [dict(zip(*(v.tolist() for v in np.unique(s.labels, return_counts=True)), strict=True)) for s in samples]

    def read() -> str:
        dataset = with_cache(CamVid(root, "train"), root, "train", root / "cache")
        kinds = set()
        for i, sample in enumerate(samples):
            if isinstance(dataset, Cached):
                assert dataset.class_pixels(i) in (None, counts[i])
            opened = dataset.open(i)
            kinds.add(isinstance(opened, Mapped | Tiled))
            assert opened.name == sample.name
            same(opened.labels(), np.asarray(sample.labels))
            part = opened.window(slice(1, opened.size[0] - 1), slice(3, opened.size[1]))
            same(part.image, np.asarray(sample.image.permute(1, 2, 0))[1:-1, 3:])
            same(as_sample(opened).image, np.asarray(sample.image))
        return "accepted" if kinds == {True} else "passed over"

    dataset = with_cache(files, root, "train", root / "cache")
    assert isinstance(dataset, Cached)
    return dataset, read


def cache_index(root: Path, compressed: bool) -> Target:
    dataset, read = cache(root, compressed)
    build_cache(CamVid(root, "val"), "val", root, root / "cache", compressed, workers=1)
    return Target(dataset.folder / "index-train.json", read, heads(dataset.folder / "index-val.json"))


def plain_cache_index(root: Path) -> Target:
    return cache_index(root, compressed=False)


def packed_cache_index(root: Path) -> Target:
    return cache_index(root, compressed=True)


def cache_entry(root: Path, compressed: bool, mutable: int | None) -> Target:
    dataset, read = cache(root, compressed, (140, 150))
    entries = [opened.path for i in range(5) if isinstance(opened := dataset.open(i), Mapped | Tiled)]
    return Target(entries[2], read, heads(entries[1], entries[4]), mutable)


def plain_entry(root: Path) -> Target:
    return cache_entry(root, compressed=False, mutable=64)


def packed_entry(root: Path) -> Target:
    return cache_entry(root, compressed=True, mutable=None)


def packed_entry_header(root: Path) -> Target:
    """Its header, and the table of its tiles."""
    return cache_entry(root, compressed=True, mutable=64 + 2 * 4 * 16)


KINDS = [
    *(png_image, jpeg_image, progressive_jpeg_image, bmp_image, tiff_image, packed_tiff_image, webp_image),
    *(camvid_mask, ade20k_mask, cityscapes_mask, sixteen_bit_mask, palette_mask, colour_mask, palette_of_colours),
    *(bmp_mask, tiff_mask, packed_pascal_mat, plain_pascal_mat),
    *(packed_coco_1_1, plain_coco_1_1, packed_coco_1_0, plain_coco_1_0),
    *(camvid_list, voc_list, coco_list, folder_list, classes_of_ids, classes_of_colours),
    *(plain_cache_index, packed_cache_index, plain_entry, packed_entry, packed_entry_header),
]
NEVER_REFUSED = {plain_entry}
"""Kinds whose damage is passed over: then the files are read."""

ALWAYS_REFUSED = {plain_cache_index, packed_cache_index}
"""Kinds of which no byte may change."""


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
            empty = target.file.suffix == ".txt" and f"at {root}: split 'train' holds no image" in text
            assert named or missing or empty, text
        assert time.perf_counter() - started < LONGEST
    assert [str(warning.message) for warning in warned] == []
    return result


def fuzz(make: Callable[[Path], Target], root: Path, mutants: int, seed: int) -> None:
    assert mutants >= MUTANTS
    target = make(root)
    whole, outcomes = target.file.read_bytes(), Counter[str]()
    assert outcome(target, root) == "accepted"
    for i in range(mutants):
        content = mutant(whole, target, np.random.default_rng([seed, zlib.crc32(make.__name__.encode()), i]))
        target.file.unlink()  # a cache may have mapped the one before
        target.file.write_bytes(content)
        try:
            outcomes[outcome(target, root)] += 1
        except BaseException as error:
            error.add_note(f"mutant {i} of {make.__name__}, of {len(whole)} bytes: {content[:400]!r}")
            raise
    print(f"{make.__name__}: {dict(outcomes)}")
    assert (outcomes["refused"] > 0) == (make not in NEVER_REFUSED), outcomes
    assert (outcomes["accepted"] + outcomes["passed over"] > 0) == (make not in ALWAYS_REFUSED), outcomes


def test_there_are_two_thousand() -> None:
    assert MUTANTS * len(KINDS) >= 2000
    assert MANY * len(KINDS) >= 20_000


@pytest.mark.parametrize("make", KINDS)
def test_mutants(make: Callable[[Path], Target], tmp_path: Path) -> None:
    fuzz(make, tmp_path, MUTANTS, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS)
def test_many_mutants(make: Callable[[Path], Target], tmp_path: Path) -> None:
    fuzz(make, tmp_path, MANY, seed=1)
