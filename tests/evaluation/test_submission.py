"""The archive for the Cityscapes test server, against the official scorer."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gffnet.data.cityscapes import CITYSCAPES, EVALUATED
from gffnet.data.datasets import open_dataset
from gffnet.errors import RunFailed, UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.evaluation.submission import (
    check_archive,
    check_classes,
    find_images,
    label_ids,
    official_count,
    write_submission,
)
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree, cityscapes_tree, picture, save

WHOLE = EvaluationRecipe()
NAMES = ["aachen_000000_000019", "ulm_000001_000019"]
PAIR = {NAMES[0]: (12, 16), NAMES[1]: (12, 16)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Labels hold ids 7..19 and some that are ignored: of the others, some classes are predicted and some absent."""
    cityscapes_tree(tmp_path / "Cityscapes")
    for i, path in enumerate(sorted((tmp_path / "Cityscapes/gtFine/val").rglob("*.png"))):
        save(path, np.random.default_rng(i).integers(0, 20, (12, 16), dtype=np.uint8))
    return tmp_path / "Cityscapes"


def cityscapes_predictor() -> Predictor:
    """Answers at random with train ids 0..14: 15 to 18 are absent."""
    predictor = tiny.predictor()
    names, palette = CITYSCAPES.names, CITYSCAPES.palette
    predictor.config = dataclasses.replace(predictor.config, classes=names, palette=palette, dataset="cityscapes")

    def predict(image: Tensor, protocol: EvaluationRecipe) -> NDArray[np.uint8]:
        assert protocol == WHOLE
        return np.random.default_rng(int(image.sum())).integers(0, 15, image.shape[-2:], dtype=np.uint8)

    predictor.predict = predict  # type: ignore[method-assign, assignment]
    return predictor


def test_memory_that_does_not_suffice(root: Path, tmp_path: Path) -> None:
    predictor = cityscapes_predictor()

    def full(image: Tensor, protocol: EvaluationRecipe) -> NDArray[np.uint8]:
        raise RuntimeError("not enough memory: you tried to allocate 99 bytes")

    predictor.predict = full  # type: ignore[method-assign, assignment]
    with pytest.raises(
        RunFailed, match=r"image .*aachen.*: the network cannot take its 12x16 pixels .* --crop 512x512"
    ):
        write_submission(predictor, find_images(root, "val"), tmp_path / "out.zip", WHOLE)
    assert not (tmp_path / "out.zip").exists()


def test_the_official_scorer_agrees(root: Path, tmp_path: Path) -> None:
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    predictor = cityscapes_predictor()
    write_submission(predictor, find_images(root, "val"), tmp_path / "out.zip", WHOLE)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "results")
    arguments: Any = official.CArgs()
    vars(arguments).update(vars(official.args))
    arguments.predictionPath, arguments.predictionWalk = str(tmp_path / "results"), None
    arguments.evalInstLevelScore, arguments.JSONOutput, arguments.quiet = False, False, True
    truth = [str(path) for path in sorted((root / "gtFine/val").rglob("*_labelIds.png"))]
    found = [official.getPrediction(arguments, path) for path in truth]
    wanted = official.evaluateImgLists(found, truth, arguments)
    ours = score_dataset(predictor, open_dataset("cityscapes", root, "val"), "cityscapes", "val", WHOLE).scores
    assert ours.miou == pytest.approx(wanted["averageScoreClasses"], abs=1e-9)
    for name, iou in ours.per_class.items():
        assert wanted["classScores"][name] == pytest.approx(np.nan if iou is None else iou, abs=1e-9, nan_ok=True)
    assert ours.absent == ["bus", "train", "motorcycle", "bicycle"]
    assert 0 < ours.pixels < 2 * 12 * 16


def test_the_archive_holds_label_ids_by_the_names_of_the_images(root: Path, tmp_path: Path) -> None:
    write_submission(cityscapes_predictor(), find_images(root, "val"), tmp_path / "new/out.zip", WHOLE)
    with zipfile.ZipFile(tmp_path / "new/out.zip") as archive:
        assert sorted(archive.namelist()) == [f"{name}.png" for name in NAMES]
        images = [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert [(image.mode, image.size) for image in images] == [("L", (16, 12))] * 2
    assert {value for image in images for value in np.unique(image).tolist()} == set(EVALUATED[:15])


def test_train_ids_become_the_official_label_ids() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    train_ids = np.arange(19, dtype=np.uint8)[None]
    ids = np.asarray(Image.open(io.BytesIO(label_ids(train_ids))))[0]
    assert [labels.id2label[i].trainId for i in ids.tolist()] == list(range(19))


def test_test_images_need_no_labels(root: Path) -> None:
    path = save(root / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", picture(0))
    assert find_images(root, "test") == {"berlin_000000_000019": path}
    assert (official_count("test"), official_count("val")) == (1525, 500)


def test_mistakes_in_the_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / 'none'}: there is no such folder"):
        find_images(tmp_path / "none", "test")
    with pytest.raises(UserError, match=r"split 'test' is not there \(there are: train, val\)"):
        find_images(root, "test")
    with pytest.raises(UserError, match="no leftImg8bit folder"):
        find_images(camvid_tree(tmp_path / "CamVid"), "test")
    (root / "leftImg8bit/test/berlin").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no image"):
        find_images(root, "test")
    city = root / "leftImg8bit/test/berlin"
    save(city / "berlin_1_2_leftImg8bit.png", picture(0))
    save(city / "berlin_1_23_leftImg8bit.png", picture(0))
    with pytest.raises(UserError, match="would take berlin_1_23 for it"):
        find_images(root, "test")
    save(city / "mine_leftImg8bit.png", picture(0))
    with pytest.raises(UserError, match=r"mine_leftImg8bit.png is not named city_sequence_frame"):
        find_images(root, "test")
    save(root / "leftImg8bit/val/bonn" / f"{NAMES[0]}_leftImg8bit.png", picture(0))
    with pytest.raises(UserError, match="have one name"):
        find_images(root, "val")


def test_a_model_of_other_classes_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knows the 11 classes of camvid, but"):
        check_classes(tiny.predictor())
    with pytest.raises(UserError, match="trained on cityscapes or streets"):
        write_submission(tiny.predictor(), find_images(root, "val"), tmp_path / "out.zip", WHOLE)


def test_it_appears_whole_or_not_at_all(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/out.zip"
    images = find_images(root, "val")
    images[NAMES[1]].write_bytes(b"")
    with pytest.raises(UserError, match="the file is empty"):
        write_submission(cityscapes_predictor(), images, out, WHOLE)
    predictor = cityscapes_predictor()
    predictor.predict = lambda image, protocol: np.zeros((3, 4), np.uint8)  # type: ignore[method-assign, assignment]
    save(images[NAMES[1]], picture(0))
    with pytest.raises(RunFailed, match=r"is \(3, 4\), but its image is \(12, 16\)"):
        write_submission(predictor, images, out, WHOLE)
    assert list(out.parent.iterdir()) == []


def archive(path: Path, names: list[str], value: int = 7) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name in names:
            content = io.BytesIO()
            Image.fromarray(np.full((12, 16), value, np.uint8)).save(content, "PNG")
            written.writestr(name, content.getvalue())
    return path


def test_an_archive_is_held_against_what_it_should_be(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    right = [f"{name}.png" for name in NAMES]
    check_archive(archive(out, right), PAIR)
    with pytest.raises(RunFailed, match=r"holds 1 files for 2 images: ulm_000001_000019.png"):
        check_archive(archive(out, right[:1]), PAIR)
    with pytest.raises(RunFailed, match=r"notes\.txt"):
        check_archive(archive(out, [*right, "notes.txt"]), PAIR)
    with pytest.raises(RunFailed, match="holds 6: no label id"):
        check_archive(archive(out, right, 6), PAIR)
    out.write_bytes(archive(out, right).read_bytes()[:300])
    with pytest.raises(RunFailed, match="cannot be read again"):
        check_archive(out, PAIR)
