from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from gffnet.data.cache.build import build_cache
from gffnet.data.cache.cached import with_cache
from gffnet.data.camvid import CamVid
from gffnet.data.loader import ClassBalance, TrainingStream, class_pixels, pixel_of
from gffnet.data.transforms import Augmentation
from tests.data.trees import camvid_tree, picture, save

VIEW = Augmentation(crop=(9, 12), scales=(0.5, 2.0), jitter=10, flip=True, mean=(124.0, 116.0, 104.0))
RARE = {7: (11, 3), 4: (2, 14)}
"""Classes with one pixel each, in frame 0 and frame 3, and where."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Frames 0 to 3 are road, but for two pixels; frame 4 is unlabelled."""
    root = camvid_tree(tmp_path, train=5)
    for i in range(5):
        labels = np.full((12, 16), 11 if i == 4 else 3, np.uint8)
        for label, frame in ((7, 0), (4, 3)):
            if frame == i:
                labels[RARE[label]] = label
        save(root / "trainannot" / f"train_{i:03d}.png", labels)
        save(root / "train" / f"train_{i:03d}.png", picture(i))
    return root


@pytest.mark.parametrize("workers", [1, 2])
def test_pixels_are_counted(root: Path, workers: int) -> None:
    expected = np.zeros((5, 11), int)
    expected[:4, 3] = 192
    for frame, label in ((0, 7), (3, 4)):
        expected[frame, [3, label]] = 191, 1
    dataset = CamVid(root, "train")
    seen: list[tuple[int, int]] = []
    counted = class_pixels(dataset, workers, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(counted, expected)
    assert seen == [(i, 5) for i in range(1, 6)]


def test_a_cache_spares_the_counting(root: Path) -> None:
    dataset = CamVid(root, "train")
    counted = class_pixels(dataset, workers=1)
    build_cache(dataset, "train", root, root / "cache", workers=1)
    for path in (root / "trainannot").iterdir():
        assert path.stat().st_size
    cached = with_cache(dataset, root, "train", root / "cache")
    dataset.read_ids = None  # type: ignore[assignment,method-assign]
    np.testing.assert_array_equal(class_pixels(cached, workers=1), counted)


def test_classes_are_drawn_evenly(root: Path) -> None:
    balance = ClassBalance(class_pixels(CamVid(root, "train"), workers=1), share=1.0)
    picks = [balance.pick(np.random.default_rng(seed)) for seed in range(3000)]
    assert None not in picks
    drawn = Counter(pick for pick in picks if pick is not None)
    labels = Counter(label for _, label in drawn.elements())
    assert set(labels) == {3, 4, 7}
    assert all(abs(count - 1000) < 120 for count in labels.values())
    assert {sample for sample, label in drawn if label == 7} == {0}
    assert {sample for sample, label in drawn if label == 3} == {0, 1, 2, 3}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_crops(root: Path, share: float) -> None:
    balance = ClassBalance(class_pixels(CamVid(root, "train"), workers=1), share)
    picked = sum(balance.pick(np.random.default_rng(seed)) is not None for seed in range(2000))
    assert abs(picked / 2000 - share) < 0.04


def test_nothing_to_draw_from() -> None:
    assert ClassBalance(np.zeros((3, 11), int), share=1.0).pick(np.random.default_rng(0)) is None


def test_pixels_of_a_class_are_drawn_evenly() -> None:
    labels = np.zeros((3, 5), np.uint8)
    labels[1, 2] = labels[2, 4] = labels[0, 0] = 6
    drawn = Counter(pixel_of(labels, 6, np.random.default_rng(seed)) for seed in range(900))
    assert set(drawn) == {(1, 2), (2, 4), (0, 0)}
    assert min(drawn.values()) > 240
    assert pixel_of(labels, 5, np.random.default_rng(0)) is None


def test_every_crop_shows_its_class(root: Path) -> None:
    """A pixel may still fall between the nearest pixels of a scale below 1, so scales are 1 and above."""
    dataset = CamVid(root, "train")
    view = Augmentation(**{**VIEW.__dict__, "scales": (1.0, 2.0)})
    balance = ClassBalance(class_pixels(dataset, workers=1), share=1.0)
    stream = TrainingStream(dataset, view, seed=0, length=300, balance=balance)
    shown = [set(stream[k].labels.unique().tolist()) for k in range(300)]
    assert [stream[k].name for k in range(9)] == [dataset.name(stream.index(k)) for k in range(9)]
    for k, labels in enumerate(shown):
        pick = balance.pick(stream._rng(2, k))
        assert pick is not None
        assert pick.label in labels
    assert sum(7 in labels for labels in shown) > 80


def test_without_it_the_stream_is_the_same(root: Path) -> None:
    dataset = CamVid(root, "train")
    pixels = class_pixels(dataset, workers=1)
    plain = TrainingStream(dataset, VIEW, seed=0, length=40)
    none, some = (TrainingStream(dataset, VIEW, 0, 40, balance=ClassBalance(pixels, share)) for share in (0.0, 0.5))
    assert all(torch.equal(none[k].image, plain[k].image) for k in range(40))
    same = sum(torch.equal(some[k].image, plain[k].image) for k in range(40))
    assert 8 < same < 32


def test_positions_show_the_focus_and_are_uniform() -> None:
    """A side of 40 with a crop of 10: a focus at 3 leaves positions 0..3, one at 20 leaves 11..20."""
    for focus, allowed in ((3, range(0, 4)), (20, range(11, 21)), (39, range(30, 31))):
        rng = np.random.default_rng(0)
        firsts = Counter(Augmentation._span(40, 10, 1.0, rng.random(), focus).first for _ in range(2000))
        assert set(firsts) == set(allowed)
        assert min(firsts.values()) > 0.7 * 2000 / len(allowed)
