"""The batches of a run: the stream in order, from any iteration on, divided among the ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.dataset import IGNORE
from gffnet.data.datasets import open_dataset
from gffnet.data.map_style import MapStyleDataset
from gffnet.data.transforms import Augmentation
from gffnet.errors import UserError
from gffnet.training.data import IterationSampler, SegmentationDataModule, divide_cores
from tests import tiny


def data(root: Path, first: int = 0, rank: int = 0, world_size: int = 1) -> SegmentationDataModule:
    train, val = (open_dataset("camvid", root, split) for split in ("train", "val"))
    return SegmentationDataModule(tiny.recipe(), train, val, first, rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    ("cores", "processes", "wanted", "given", "divided"),
    [
        (1, 1, 4, None, (0, 1)),
        (2, 1, 4, None, (0, 2)),
        (4, 1, 4, None, (1, 3)),
        (4, 1, 0, None, (0, 4)),
        (16, 1, 2, None, (2, 14)),
        (16, 1, 99, None, (4, 12)),
        (16, 2, 4, None, (2, 6)),
        (2, 4, 4, None, (0, 1)),
        (2, 1, 4, 1, (1, 1)),
        (2, 1, 4, 2, (0, 2)),
        (16, 1, 4, 6, (2, 6)),
        (2, 1, 4, 4, (0, 4)),
    ],
)
def test_loading_and_computing_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    processes: int,
    wanted: int,
    given: int | None,
    divided: tuple[int, int],
) -> None:
    monkeypatch.setattr("gffnet.training.data.available_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: given or cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", str(given))
    assert divide_cores(wanted, processes) == divided


def test_batches_are_the_streams_items_in_order(camvid: Path) -> None:
    whole = data(camvid)
    batches = list(whole.train_dataloader())
    assert len(batches) == 6
    recipe = tiny.recipe()
    augmentation = Augmentation((32, 48), (0.75, 2.0), 10, True, recipe.model.mean)
    assert whole.stream.augmentation == augmentation
    for i, batch in enumerate(batches):
        assert torch.equal(batch.image, torch.stack([whole.stream[2 * i].image, whole.stream[2 * i + 1].image]))
    rest = list(data(camvid, 4).train_dataloader())
    assert len(rest) == 2
    assert all(torch.equal(a.image, b.image) for a, b in zip(rest, batches[4:], strict=True))


def test_two_ranks_take_half_of_every_batch(camvid: Path) -> None:
    whole = list(data(camvid).train_dataloader())
    halves = [list(data(camvid, rank=rank, world_size=2).train_dataloader()) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat([first.image, second.image]), batch.image)
        assert first.names + second.names == batch.names


@given(
    first=st.integers(0, 20),
    iterations=st.integers(0, 20),
    share=st.integers(1, 4),
    processes=st.integers(1, 4),
)
def test_the_ranks_sample_every_item_of_the_stream_once(
    first: int, iterations: int, share: int, processes: int
) -> None:
    batch = share * processes
    samplers = [list(IterationSampler(first, first + iterations, batch, rank, processes)) for rank in range(processes)]
    by_iteration = [[item for part in parts for item in part] for parts in zip(*samplers, strict=True)]
    wanted = [list(range(i * batch, (i + 1) * batch)) for i in range(first, first + iterations)]
    assert by_iteration == wanted
    assert len(IterationSampler(first, first + iterations, batch)) == first + iterations  # that of the whole stream


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_validation_is_every_image_once_over_all_processes(camvid: Path, processes: int) -> None:
    """Three images: not divisible by two, and fewer than four. The fourth has one of which nothing counts."""
    parts = [list(data(camvid, rank=rank, world_size=processes).val_dataloader()) for rank in range(processes)]
    counted = [sample.name for part in parts for sample in part if (sample.labels != IGNORE).any()]
    assert sorted(counted) == ["val_000", "val_001", "val_002"]
    assert all(parts)
    assert sum(map(len, parts)) == max(3, processes)


def test_validation_is_one_whole_image_at_a_time(camvid: Path) -> None:
    samples = list(data(camvid).val_dataloader())
    assert [sample.name for sample in samples] == ["val_000", "val_001", "val_002"]
    assert samples[0].image.shape == (3, 12, 16)


def test_own_data_that_draw_are_validated_on_the_same_samples_every_time() -> None:
    class Random(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            return torch.randint(0, 256, (3, 6, 8)).byte(), torch.randint(0, 2, (6, 8))

    own = MapStyleDataset(Random([0] * 3), 2)
    whole = SegmentationDataModule(tiny.recipe(), own, own)
    first, second = (list(whole.val_dataloader()) for _ in range(2))
    assert all(
        torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True)
    )
    assert not torch.equal(first[0].image, first[1].image)
    part = list(SegmentationDataModule(tiny.recipe(), own, own, rank=1, world_size=2).val_dataloader())
    assert torch.equal(part[0].image, first[1].image)


def test_color_jitter_needs_grey_or_rgb_images(camvid: Path) -> None:
    recipe = tiny.recipe(brightness=0.4)
    backbone = replace(recipe.model.backbone, in_channels=5)
    five = replace(recipe, model=replace(recipe.model, backbone=backbone, mean=(99.0,) * 5, std=(50.0,) * 5))
    train, val = (open_dataset("camvid", camvid, split) for split in ("train", "val"))
    with pytest.raises(UserError, match=r"training\.brightness 0\.4 is for images of one or three channels, and these"):
        SegmentationDataModule(five, train, val)
    SegmentationDataModule(five, train, val, transform=lambda image, labels: (image, labels))
    changed, plain = (SegmentationDataModule(each, train, val).stream for each in (recipe, tiny.recipe()))
    assert not torch.equal(changed[0].image, plain[0].image)
    assert torch.equal(changed[0].labels, plain[0].labels)
