"""Miniature data sets in the layouts of the releases, and where the real ones lie."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

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


def raw_png(width: int, height: int, bits: int, colour: int, rows: list[bytes]) -> bytes:
    """A PNG put together by hand, for sample formats that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
