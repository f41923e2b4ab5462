"""The overfit check: a few images of the training split, learned by heart, and what the score says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from gffnet.metrics.confusion import ClassScores
from gffnet.recipe import load_recipe
from gffnet.training.train import few, overfit_settings
from gffnet.training.train import overfit_verdict as verdict
from tests.data.trees import camvid_tree


def test_augmentation_is_off_and_what_the_user_sets_wins() -> None:
    recipe = load_recipe("camvid/gffnet_r18", [*overfit_settings(4, 8), "training.iterations=7"])
    training = recipe.training
    assert (training.scales, training.jitter, training.flip, training.class_balance) == ((1.0, 1.0), 0, False, 0)
    assert (training.iterations, training.batch, recipe.model.dropout) == (7, 4, 0)
    plain = load_recipe("camvid/gffnet_r18")
    assert (training.optimizer, training.learning_rate) == (plain.training.optimizer, plain.training.learning_rate)


@given(images=st.integers(1, 20), batch=st.integers(1, 20))
def test_a_batch_holds_no_more_than_there_are(images: int, batch: int) -> None:
    assert f"training.batch={min(images, batch)}" in overfit_settings(images, batch)


@pytest.mark.parametrize("images", [0, -3])
def test_no_image_is_refused(images: int) -> None:
    with pytest.raises(UserError, match=rf"--overfit {images}: the number of images to learn must be 1 or more"):
        overfit_settings(images, 8)


def test_few_images_are_spread_over_the_split(tmp_path: Path) -> None:
    whole = open_dataset("camvid", camvid_tree(tmp_path), "train")
    part = few(whole, 2)
    names = [whole.name(i) for i in range(len(whole))]
    assert [part.name(i) for i in range(len(part))] == [names[0], names[len(names) // 2]]
    assert part[1].name == names[len(names) // 2]
    assert len(few(whole, len(whole))) == len(whole)
    with pytest.raises(UserError, match=rf"--overfit 99: the training split has {len(whole)} images"):
        few(whole, 99)


def test_the_verdict_says_what_to_do() -> None:
    classes = ("road", "sky", "pole", "sign", "car")
    low = ClassScores(0.31, 0.5, (0.9, None, 0.1, 0.2, 0.04), (), 1)
    good, bad = verdict(ClassScores(0.97, 1.0, (), (), 1), (), 4, Path("run")), verdict(low, classes, 1, Path("run"))
    assert good == "mIoU 97.0% on the 4 images that it was trained on: data, labels and network fit each other."
    assert bad.startswith("mIoU 31.0% on the 1 image that it was trained on, where 90% is to be expected; ")
    assert "; lowest: car 4.0%, pole 10.0%, sign 20.0%. If the loss in run still falls" in bad
    assert "gffnet data check" in bad
