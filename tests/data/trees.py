"""Miniature data sets in the layouts of the releases, and where the real ones lie."""

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> Path:
    """The folder of a real data set; the test is skipped where it is missing."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the data set {name} is not at {SHARED / name}")
    return SHARED / name


def save(path: Path, pixels: NDArray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(seed: int, size: tuple[int, int] = (12, 16)) -> NDArray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def ids(seed: int, allowed: int, size: tuple[int, int] = (12, 16)) -> NDArray:
    return np.random.default_rng([seed, 1]).integers(0, allowed, size, dtype=np.uint8)


def camvid_tree(root: Path, train: int = 5, val: int = 3, listed: bool = True) -> Path:
    """CamVid's tree; frame i of a split is `picture(i)` with `ids(i, 12)`."""
    for split, count in (("train", train), ("val", val)):
        lines = []
        for i in range(count):
            name = f"{split}_{i:03d}.png"
            save(root / split / name, picture(i))
            save(root / f"{split}annot" / name, ids(i, 12))
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        if listed:
            (root / f"{split}.txt").write_text("".join(lines))
    return root


def cityscapes_tree(root: Path, train: int = 4, val: int = 2) -> Path:
    """The Cityscapes tree with two cities a split; image i of a split is `picture(i)` with `ids(i, 34)`."""
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            city = ("aachen", "ulm")[i % 2]
            stem = f"{city}_{i:06d}_000019"
            save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", picture(i))
            save(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", ids(i, 34))
    return root


def ade20k_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """The tree of ADEChallengeData2016; annotation i of a split is `ids(i, 151)`."""
    for folder, short, count in (("training", "train", train), ("validation", "val", val)):
        for i in range(count):
            stem = f"ADE_{short}_{i + 1:08d}"
            save(root / "images" / folder / f"{stem}.jpg", picture(i))
            save(root / "annotations" / folder / f"{stem}.png", ids(i, 151))
    return root


def save_mat(path: Path, packed: bool = True, **variables: object) -> Path:
    """A MAT file; a list of texts becomes a cell array, a column as MATLAB has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = {name: np.array(v, object)[:, None] if isinstance(v, list) else v for name, v in variables.items()}
    savemat(path, cells, do_compression=packed)
    return path


def save_mat73(path: Path, **variables: object) -> Path:
    """A MAT file as `save -v7.3` writes it; a list of texts becomes a cell array, a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, list):
                cells = [_matlab(file, f"#refs#/{name}{i}", cell).ref for i, cell in enumerate(value)]
                _matlab(file, name, np.array([cells], h5py.ref_dtype))
            else:
                _matlab(file, name, value)
    with path.open("rb+") as file:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Nov 14 09:12:33 2016 HDF5 schema 1.00 ."
        file.write(text.ljust(124) + b"\x00\x02IM")
    return path


_MATLAB_CLASSES = {"float64": "double", "float32": "single", "bool": "logical", "object": "cell"}


def _matlab(file: h5py.File, name: str, value: object) -> h5py.Dataset:
    """An array or a text by MATLAB's conventions; what is large is stored in packed chunks."""
    is_text = isinstance(value, str)
    array = np.frombuffer(value.encode("utf-16-le"), "<u2")[None] if is_text else np.atleast_2d(value)
    of = "char" if is_text else _MATLAB_CLASSES.get(array.dtype.name, array.dtype.name)
    numbers = array.astype(np.uint8) if of == "logical" else array
    content = numbers.T if array.size else np.uint64(array.shape)
    packed = {"chunks": True, "compression": "gzip"} if content.nbytes > 8192 else {}
    stored = file.create_dataset(name, data=content, **packed)
    stored.attrs["MATLAB_class"] = np.bytes_(of)
    if of in {"char", "logical"}:
        stored.attrs["MATLAB_int_decode"] = np.int32(2 if is_text else 1)
    if not array.size:
        stored.attrs["MATLAB_empty"] = np.uint8(1)
    return stored


def pascal_context_tree(root: Path, train: int = 3, val: int = 2) -> Path:
    """Pascal Context as released, in VOC2010; LabelMap i of a split holds ids of 1..459."""
    for split, count in (("train", train), ("val", val)):
        names = [f"2008_{i + (0 if split == 'train' else 100):06d}" for i in range(count)]
        for i, name in enumerate(names):
            save(root / "JPEGImages" / f"{name}.jpg", picture(i))
            stored = np.random.default_rng(i).integers(1, 460, (12, 16)).astype(np.uint16)
            save_mat(root / "trainval" / f"{name}.mat", LabelMap=stored)
        listing = root / "ImageSets" / "Main" / f"{split}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("".join(f"{name}\n" for name in names))
    return root


COCO_STUFF_11 = (
    """
person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire hydrant; street sign; stop
sign; parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear; zebra; giraffe; hat; backpack;
umbrella; shoe; eyeglasses; handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat;
baseball glove; skateboard; surfboard; tennis racket; bottle; plate; wine glass; cup; fork; knife; spoon; bowl;
banana; apple; sandwich; orange; broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed;
mirror-things; dining table; window; desk-things; toilet; door-things; tv; laptop; mouse; remote; keyboard; cell
phone; microwave; oven; toaster; sink; refrigerator; blender; book; clock; vase; scissors; teddy bear; hair drier;
toothbrush; hairbrush; banner; blanket; branch; bridge; building-other; bush; cabinet; cage; cardboard; carpet;
ceiling-other; ceiling-tile; cloth; clothes; clouds; counter; cupboard; curtain; desk-stuff; dirt; door-stuff;
fence; floor-marble; floor-other; floor-stone; floor-tile; floor-wood; flower; fog; food-other; fruit;
furniture-other; grass; gravel; ground-other; hill; house; leaves; light; mat; metal; mirror-stuff; moss; mountain;
mud; napkin; net; paper; pavement; pillow; plant-other; plastic; platform; playingfield; railing; railroad; river;
road; rock; roof; rug; salad; sand; sea; shelf; sky-other; skyscraper; snow; solid-other; stairs; stone; straw;
structural-other; table; tent; textile-other; towel; tree; vegetable; wall-brick; wall-concrete; wall-other;
wall-panel; wall-stone; wall-tile; wall-wood; water-other; waterdrops; window-blind; window-other; wood
""".replace("\n", " ")
    .strip()
    .split("; ")
)
"""The names in a MAT file of COCO-Stuff 10k 1.1, as its authors made them; the i-th is that of id i, from 1."""

COCO_STUFF_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
COCO_STUFF_10 = ["unlabeled", *(name for i, name in enumerate(COCO_STUFF_11, 1) if i not in COCO_STUFF_UNUSED)]
"""The names of 1.0."""


def save_coco_stuff(path: Path, stored: NDArray, names: list[str], packed: bool = True, new: bool = False) -> Path:
    """An annotation of COCO-Stuff 10k, of release 1.0 or 1.1 as its names say: with all that such a file holds.

    1.0 was saved as MAT 7.3, which is written if `new`; else it is as MATLAB saves it again.
    """
    one_zero = len(names) == 172
    content = {
        "S": stored.astype(np.uint8 if one_zero else np.float64),
        "captions": ["A street.", "Häuser, façades"],
        "regionMapStuff": np.arange(stored.size, dtype=np.uint16).reshape(stored.shape),
        "regionLabelsStuff": np.ones((stored.size, 1)),
    }
    if new:
        return save_mat73(path, names=names, **content)
    return save_mat(path, packed, names=np.array(names, object)[None] if one_zero else names, **content)


def coco_stuff_tree(root: Path, train: int = 3, test: int = 2, names: list[str] = COCO_STUFF_11) -> Path:
    """COCO-Stuff 10k; `S` of image i of a split holds legal ids."""
    one_zero = len(names) == 172
    legal = np.array([i for i in range(one_zero, len(names) + 1) if one_zero or i not in COCO_STUFF_UNUSED])
    for split, count in (("train", train), ("test", test)):
        images = [f"COCO_train2014_{i + (0 if split == 'train' else 100):012d}" for i in range(count)]
        for i, name in enumerate(images):
            save(root / "images" / f"{name}.jpg", picture(i))
            save_coco_stuff(root / "annotations" / f"{name}.mat", legal[ids(i, len(legal))], names)
        listing = root / "imageLists" / f"{split}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("".join(f"{name}\n" for name in images))
    return root


def raw_png(width: int, height: int, bits: int, color: int, rows: list[bytes]) -> bytes:
    """A PNG put together by hand, for sample formats that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


OWN_CLASSES = """\
classes:
  - road
  - {name: pole, color: [153, 153, 153]}
  - {name: sign, color: "#dcdc00"}
"""


def folder_tree(root: Path, train: int = 4, val: int = 2) -> Path:
    """One's own images in subfolders, two places a split; image i of a split is `picture(i)` with `ids(i, 3)`."""
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            name = f"{split}/{('east', 'west')[i % 2]}/a.{i}.png"
            save(root / "images" / name, picture(i))
            save(root / "masks" / name, ids(i, 3))
    (root / "classes.yaml").write_text(OWN_CLASSES)
    return root
