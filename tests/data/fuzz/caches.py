"""Caches to damage: they hold what the files hold, whatever becomes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gffnet.data.cache.build import build_cache
from gffnet.data.cache.cached import Cached, with_cache
from gffnet.data.cache.entry import Mapped, Tiled
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import as_sample
from tests.data.fuzz.target import Target, heads, same
from tests.data.trees import (
    camvid_tree,
    ids,
    picture,
    save,
)


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
