"""The stream of training samples, and class-balanced sampling."""

import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from traceback import clear_frames

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

from gffnet.data.cache import build_cache, with_cache
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import Sample
from gffnet.data.loader import Batch, ClassBalance, TrainingStream, class_pixels, collate, pixel_of
from gffnet.data.transforms import Augmentation
from gffnet.errors import UserError
from tests.data.trees import camvid_tree, picture, save

VIEW = Augmentation(crop=(10, 14), scales=(0.75, 2.0), jitter=10, flip=True, mean=(124.0, 116.0, 104.0))


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> CamVid:
    return CamVid(camvid_tree(tmp_path_factory.mktemp("camvid"), train=5), "train")


class Counted:
    """A data set of `n` flat images that writes down every reading, in whichever process."""

    def __init__(self, log: Path, n: int = 4, sides: Iterable[int] = (10,)) -> None:
        self.log, self.n, self.sides = log, n, tuple(sides)
        log.touch()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Sample:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {index}\n")
        side = self.sides[index % len(self.sides)]
        return Sample(torch.zeros(3, side, side, dtype=torch.uint8), torch.zeros(side, side).byte(), str(index))

    def readings(self) -> list[str]:
        return self.log.read_text().splitlines()


def same(a: Sample | Batch, b: Sample | Batch) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2] == b[2]


def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own(camvid: CamVid) -> None:
    stream = TrainingStream(camvid, VIEW, seed=0, length=200)
    epochs = [tuple(stream.index(k) for k in range(start, start + 5)) for start in range(0, 200, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(epochs)) > 25  # of 120
    firsts = Counter(epoch[0] for epoch in epochs)
    assert set(firsts) == {0, 1, 2, 3, 4}
    assert [stream[k].name for k in range(5)] == [camvid.name(index) for index in epochs[0]]


def test_an_item_depends_on_seed_and_number_alone(camvid: CamVid) -> None:
    forwards = TrainingStream(camvid, VIEW, seed=7, length=30)
    items = [forwards[k] for k in range(30)]
    backwards = TrainingStream(camvid, VIEW, seed=7, length=1000, cache_bytes=0)
    assert all(same(backwards[k], items[k]) for k in reversed(range(30)))
    other = TrainingStream(camvid, VIEW, seed=8, length=30)
    assert not any(torch.equal(other[k].image, items[k].image) for k in range(30))


def test_no_view_comes_twice(camvid: CamVid) -> None:
    stream = TrainingStream(camvid, VIEW, seed=0, length=100)
    assert len({stream[k].image.numpy().tobytes() for k in range(100)}) == 100


def test_large_seeds_do_not_run_into_item_numbers(camvid: CamVid) -> None:
    """(seed, k) as one list of 32-bit words would make these two the same."""
    one = TrainingStream(camvid, VIEW, seed=5, length=10)
    two = TrainingStream(camvid, VIEW, seed=5 + (1 << 32), length=10)
    assert not any(torch.equal(one[k].image, two[k].image) for k in range(10))


def batches(stream: TrainingStream, start: int = 0, **options: object) -> list[Batch]:
    loader = DataLoader(stream, batch_size=4, sampler=range(start, len(stream)), collate_fn=collate, **options)
    return list(loader)


@pytest.mark.parametrize(
    ("workers", "method"), [(1, "fork"), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_workers_change_nothing(camvid: CamVid, workers: int, method: str) -> None:
    stream = TrainingStream(camvid, VIEW, seed=1, length=24)
    stream[0]  # something is cached already
    alone = batches(TrainingStream(camvid, VIEW, seed=1, length=24))
    together = batches(stream, num_workers=workers, multiprocessing_context=method)
    assert len(alone) == len(together) == 6
    assert all(map(same, alone, together))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_on_disk_changes_nothing(tmp_path: Path, workers: int) -> None:
    root = camvid_tree(tmp_path)
    dataset = CamVid(root, "train")
    build_cache(dataset, "train", root / "gffnet_cache", workers=1)
    cached = with_cache(CamVid(root, "train"), "train")
    assert cached.cache is not None
    np.testing.assert_array_equal(class_pixels(cached, workers=1), class_pixels(dataset, workers=1))
    balance = ClassBalance(class_pixels(dataset, workers=1), share=0.5)
    plain = batches(TrainingStream(dataset, VIEW, seed=1, length=24, balance=balance))
    fast = batches(TrainingStream(cached, VIEW, seed=1, length=24, balance=balance), num_workers=workers)
    assert len(plain) == len(fast) == 6
    assert all(map(same, plain, fast))


class Fatal(CamVid):
    """A data set whose frame 3 costs the process its life."""

    def read(self, index: int) -> Sample:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


@pytest.mark.slow
def test_a_killed_worker_is_reported(tmp_path: Path) -> None:
    stream = TrainingStream(Fatal(camvid_tree(tmp_path), "train"), VIEW, seed=1, length=24)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid.*exited unexpectedly|is killed by signal: Killed"):
        batches(stream, num_workers=2)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_where_it_was(camvid: CamVid, workers: int) -> None:
    whole = batches(TrainingStream(camvid, VIEW, seed=1, length=24))
    rest = batches(TrainingStream(camvid, VIEW, seed=1, length=24), start=12, num_workers=workers)
    assert len(rest) == 3
    assert all(map(same, whole[3:], rest))


def test_batch(camvid: CamVid) -> None:
    batch = batches(TrainingStream(camvid, VIEW, seed=1, length=4))[0]
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert {type(part) for part in batch[:2]} == {torch.Tensor}
    assert (batch.image.shape, batch.image.dtype) == ((4, 3, 10, 14), torch.uint8)
    assert (batch.labels.shape, batch.labels.dtype) == ((4, 10, 14), torch.uint8)
    assert all(name.startswith("train_00") for name in batch.names)


@pytest.mark.parametrize("k", [-1, 10, 11])
def test_items_beyond_the_length(camvid: CamVid, k: int) -> None:
    stream = TrainingStream(camvid, VIEW, seed=0, length=10)
    assert len(stream) == 10
    with pytest.raises(IndexError, match=f"item {k} of a stream of 10"):
        stream[k]


def test_items_are_of_torchvision_s_types(camvid: CamVid) -> None:
    """Its transforms tell images from masks by them: colors change the one, geometry both."""
    image, labels, _ = TrainingStream(camvid, VIEW, seed=0, length=1)[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(labels, tv_tensors.Mask)
    inverted, same_labels = v2.RandomInvert(p=1.0)(image, labels)
    assert torch.equal(inverted, 255 - image)
    assert torch.equal(same_labels, labels)
    assert [part.shape[-2:] for part in v2.CenterCrop(6)(image, labels)] == [(6, 6), (6, 6)]


def test_a_part_of_a_data_set(camvid: CamVid) -> None:
    stream = TrainingStream(Subset(camvid, [3, 1]), VIEW, seed=0, length=8)
    assert Counter(stream[k].name for k in range(8)) == {"train_001": 4, "train_003": 4}


# The cache: 4 samples of 10x10 pixels take 1600 bytes.


@pytest.mark.parametrize(("cache_bytes", "readings"), [(1600, 4), (1599, 20), (0, 20)])
def test_cache(tmp_path: Path, cache_bytes: int, readings: int) -> None:
    dataset = Counted(tmp_path / "log")
    stream = TrainingStream(dataset, VIEW, seed=0, length=20, cache_bytes=cache_bytes)
    for k in range(20):
        stream[k]
    assert len(dataset.readings()) == readings


def test_the_cache_stays_behind_when_a_stream_is_sent_to_a_worker(camvid: CamVid) -> None:
    stream = TrainingStream(camvid, VIEW, seed=0, length=5)
    stream.index(0)
    before = len(pickle.dumps(stream))
    items = [stream[k] for k in range(5)]
    sent = pickle.dumps(stream)
    assert len(sent) == before
    assert all(same(pickle.loads(sent)[k], items[k]) for k in range(5))
    assert len(stream._cache) == 5


@pytest.mark.parametrize(("cache_bytes", "once"), [(3200, True), (3199, False)])
def test_all_workers_together_keep_to_the_limit(tmp_path: Path, cache_bytes: int, once: bool) -> None:
    dataset = Counted(tmp_path / "log")
    stream = TrainingStream(dataset, VIEW, seed=0, length=40, cache_bytes=cache_bytes)
    batches(stream, num_workers=2, multiprocessing_context="fork")
    most = max(Counter(dataset.readings()).values())
    assert most == 1 if once else most > 1


def test_samples_of_many_sizes_keep_to_the_limit(tmp_path: Path) -> None:
    stream = TrainingStream(Counted(tmp_path / "log", 10, range(1, 11)), VIEW, 0, 100, cache_bytes=2000)
    for k in range(100):
        stream[k]
    kept = [sample.image.nbytes + sample.labels.nbytes for sample in stream._cache.values()]
    assert 0 < sum(kept) <= 2000


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_stay_one_line(tmp_path: Path, workers: int) -> None:
    dataset = CamVid(camvid_tree(tmp_path), "train")
    dataset.files[2][0].write_bytes(b"")
    with pytest.raises(UserError) as caught:
        batches(TrainingStream(dataset, VIEW, seed=0, length=5), num_workers=workers)
    clear_frames(caught.tb)  # or some later test waits 5 s for the process, as garbage
    assert str(caught.value) == (
        f"cannot read image {dataset.files[2][0]}: the file is empty. Copy or download it again."
    )


# Class-balanced sampling.


BALANCED_VIEW = Augmentation(crop=(9, 12), scales=(0.5, 2.0), jitter=10, flip=True, mean=(124.0, 116.0, 104.0))
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
    view = Augmentation(**{**BALANCED_VIEW.__dict__, "scales": (1.0, 2.0)})
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
    plain = TrainingStream(dataset, BALANCED_VIEW, seed=0, length=40)
    none, some = (
        TrainingStream(dataset, BALANCED_VIEW, 0, 40, balance=ClassBalance(pixels, share)) for share in (0.0, 0.5)
    )
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
