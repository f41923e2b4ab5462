import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from gffnet.data.ade20k import ADE20K
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.inference.model_io import ModelConfig
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import ade20k_tree, ids, picture, real, save

SAMPLE = "ADEChallengeData2016_sample"


def test_samples(tmp_path: Path) -> None:
    dataset = ADE20K(ade20k_tree(tmp_path), "train+val")
    names = [f"ADE_{split}_{i:08d}" for split, count in (("train", 3), ("val", 2)) for i in range(1, count + 1)]
    assert [dataset[i].name for i in range(5)] == names
    for i, stored in enumerate([*range(3), *range(2)]):
        image, labels, _ = dataset[i]
        assert (image.dtype, image.shape) == (torch.uint8, (3, 12, 16))
        np.testing.assert_array_equal(labels.numpy(), ids(stored, 151) - np.uint8(1))  # 0 becomes 255


def test_every_id(tmp_path: Path) -> None:
    root = ade20k_tree(tmp_path)
    stored = np.arange(151, dtype=np.uint8)[None]
    save(root / "annotations/validation/ADE_val_00000001.png", stored)
    save(root / "images/validation/ADE_val_00000001.jpg", picture(0, stored.shape))
    assert ADE20K(root, "val")[0].labels.tolist() == [[255, *range(150)]]


@pytest.mark.parametrize(("split", "other"), [("train", "training"), ("val", "validation"), ("val+train",) * 2])
def test_the_names_of_the_folders_are_splits_too(tmp_path: Path, split: str, other: str) -> None:
    root = ade20k_tree(tmp_path)
    assert ADE20K(root, other).files == ADE20K(root, split).files
    with pytest.raises(UserError, match="splits 'train\\+train' name one twice"):
        ADE20K(root, "train+training")


def test_grey_images(tmp_path: Path) -> None:
    root = ade20k_tree(tmp_path)
    save(root / "images/training/ADE_train_00000002.jpg", picture(1)[..., 0])
    image = ADE20K(root, "train")[1].image
    assert image.shape == (3, 12, 16)
    assert torch.equal(image[0], image[2])


def test_the_classes_are_the_official_ones(tmp_path: Path) -> None:
    """objectInfo150 lists id, share of pixels and names; the file here has `;` for its commas and for spaces."""
    with (real(SAMPLE) / "objectInfo150.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ADE20K(ade20k_tree(tmp_path), "val").classes.names
    assert [int(row["Idx"]) for row in rows] == list(range(1, 151))
    for row, name in zip(rows, names, strict=True):
        assert f"{row['Name']};".startswith(f"{name.replace(' ', ';')};"), (row, name)


def test_the_real_samples() -> None:
    """Streets by day: what is in them, and what lies above what."""
    dataset = ADE20K(real(SAMPLE), "val")
    names = dataset.classes.names
    seen: list[set[str]] = []
    for i in range(2):
        labels = dataset[i].labels
        assert labels.shape == dataset[i].image.shape[1:]
        seen.append({names[label] for label in labels.unique().tolist() if label < 255})
        rows = torch.arange(len(labels))[:, None].expand(labels.shape)
        height = {name: rows[labels == names.index(name)].float().mean() for name in ("sky", "building", "wall")}
        assert height["sky"] < height["building"] < height["wall"]
        assert names[int(labels[labels < 255].mode().values)] == "sky"
    assert seen[0] == {"wall", "building", "sky", "tree", "road", "grass", "plant"}
    assert seen[1] == {"wall", "building", "sky", "tree", "earth", "plant"}


def test_the_real_samples_are_scored_at_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a predictor that answers "sky" everywhere: its score is the sky's share of the labelled pixels."""
    dataset = ADE20K(real(SAMPLE), "val")
    recipe = tiny.recipe()
    config = ModelConfig(recipe.model, *dataclasses.astuple(dataset.classes), "ade20k", "tiny")
    predictor = Predictor(tiny.network(recipe, 150), config, torch.device("cpu"), Precision(torch.float32, "tests"))
    assert predictor.predict(dataset[0].image.permute(1, 2, 0).numpy()).shape == dataset[0].labels.shape
    sky = dataset.classes.names.index("sky")
    monkeypatch.setattr(predictor, "predict", lambda image, _: np.full(image.shape[-2:], sky, np.uint8))
    scores = evaluate(predictor, dataset, "ade20k", "val", EvaluationRecipe()).scores
    labels = torch.cat([dataset[i].labels.flatten() for i in range(2)])
    share = float((labels == sky).sum() / (labels < 255).sum())
    assert scores.pixel_accuracy == scores.per_class["sky"] == pytest.approx(share)
    assert scores.pixels == int((labels < 255).sum())


# Errors: one line with the cause and the remedy.


def test_the_folder_above_or_below(tmp_path: Path) -> None:
    root = ade20k_tree(tmp_path / "ADEChallengeData2016")
    for given in (tmp_path, root / "annotations"):
        with pytest.raises(UserError, match=rf"like this data set\. {root} looks like it: pass --root {root}\."):
            ADE20K(given, "val")


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("images/training/a/abbey/ADE_train_00000970_seg.png", r"images/training/\*\*/\*_seg\.png exist\."),
        ("images/ADE/training/urban/street/ADE_train_00000970_seg.png", r"images/ADE exists\."),
        ("ADE20K_2016_07_26/images/training/a/abbey/ADE_train_00000970_seg.png", r"It holds ADE20K_<date>\."),
        ("ADE20K_2021_17_01/images/ADE/training/urban/street/a_seg.png", r"It holds ADE20K_<date>\."),
    ],
)
def test_the_full_release(tmp_path: Path, there: str, said: str) -> None:
    save(tmp_path / there, picture(0))
    with pytest.raises(UserError) as caught:
        ADE20K(tmp_path, "train")
    expected = f"data set 'ade20k' at {tmp_path}: the folder does not look like this data set. "
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith(
        " This is the full ADE20K release, whose masks hold over 3000 classes as colors. gffnet reads the "
        "SceneParsing challenge release (ADEChallengeData2016.zip); see docs/data.md#ade20k."
    )
    with pytest.raises(UserError, match=said):
        ADE20K(tmp_path, "train")


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: there is no such folder\. It needs images/\{training,validation\}/"):
        ADE20K(tmp_path / "none", "val")
    root = ade20k_tree(tmp_path)
    with pytest.raises(UserError, match=r"split 'test' is not there \(there are: train, val\)"):
        ADE20K(root, "test")
    (root / "annotations/training/ADE_train_00000002.png").unlink()
    with pytest.raises(UserError, match=r"1 of the 3 samples of split 'train' lack their label map, .*_00000002\.png"):
        ADE20K(root, "train")


@pytest.mark.parametrize("value", [151, 255, 2978])
def test_illegal_label(tmp_path: Path, value: int) -> None:
    root = ade20k_tree(tmp_path)
    labels = ids(1, 151).astype(np.uint16 if value > 255 else np.uint8)
    labels[3, 4] = value
    save(root / "annotations/validation/ADE_val_00000002.png", labels)
    with pytest.raises(
        UserError,
        match=rf"ADE_val_00000002\.png: value {value} at row 3, column 4 is no label id: they are 0\.\.150\. 1 of its "
        r"192 pixels are wrong: the full ADE20K release .* restore the file from ADEChallengeData2016\.",
    ):
        ADE20K(root, "val")[1]
