"""The batches of a run: the stream in order, from the iteration that it goes on from."""

from pathlib import Path

import torch

from gffnet.data.build import open_dataset
from gffnet.data.transforms import Augmentation
from gffnet.training.data_module import ParsingData, Remaining
from tests import tiny
from tests.data.trees import camvid_tree


def data(root: Path, first: int) -> ParsingData:
    train, val = (open_dataset("camvid", camvid_tree(root), split) for split in ("train", "val"))
    return ParsingData(tiny.recipe(), train, val, first, on_cpu=True)


def test_batches_are_the_streams_items_in_order(tmp_path: Path) -> None:
    whole = data(tmp_path, 0)
    batches = list(whole.train_dataloader())
    assert len(batches) == 6
    recipe = tiny.recipe()
    augmentation = Augmentation((32, 48), (0.75, 2.0), 10, True, recipe.model.mean)
    assert whole.stream.augmentation == augmentation
    for i, batch in enumerate(batches):
        assert torch.equal(batch.image, torch.stack([whole.stream[2 * i].image, whole.stream[2 * i + 1].image]))
    rest = list(data(tmp_path, 4).train_dataloader())
    assert len(rest) == 2
    assert all(torch.equal(a.image, b.image) for a, b in zip(rest, batches[4:], strict=True))


def test_what_remains_has_the_length_of_the_whole() -> None:
    remaining = Remaining(3, 5)
    assert list(remaining) == [3, 4]
    assert len(remaining) == 5


def test_validation_is_one_whole_image_at_a_time(tmp_path: Path) -> None:
    samples = list(data(tmp_path, 0).val_dataloader())
    assert [sample.name for sample in samples] == ["val_000", "val_001", "val_002"]
    assert samples[0].image.shape == (3, 12, 16)
