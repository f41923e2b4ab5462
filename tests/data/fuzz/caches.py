"""Caches to damage: samples are those of the files, whatever becomes of the cache."""

from pathlib import Path

import numpy as np

from gffnet.data.cache import build_cache
from gffnet.data.camvid import CamVid
from gffnet.data.datasets import open_dataset
from tests.data.fuzz.target import Target, heads, same
from tests.data.trees import camvid_tree

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
    return Target(entries[2], read, heads(entries[1], entries[4]), _HEADER)


def cached_image(root: Path) -> Target:
    return cache_entry(root, "image")


def cached_labels(root: Path) -> Target:
    return cache_entry(root, "labels")
