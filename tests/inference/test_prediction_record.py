"""The record of what made the predictions in a folder."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
import torch

from gffnet.errors import CannotWrite, UserError
from gffnet.inference.batch import RECORD, is_done, open_folder
from gffnet.inference.batch import describe_prediction as describe
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny

RESULTS = ("labels", "overlay")


@pytest.fixture
def predictor() -> Predictor:
    return tiny.predictor()


def refused(out: Path, predictor: Predictor) -> str:
    before = (out / RECORD).read_bytes() if (out / RECORD).exists() else None
    with pytest.raises(UserError, match=r"Choose another --out, or") as error:
        open_folder(out, predictor, RESULTS, overwrite=False)
    assert before == ((out / RECORD).read_bytes() if (out / RECORD).exists() else None)
    return str(error.value)


def test_a_new_folder_and_the_same_again(tmp_path: Path, predictor: Predictor) -> None:
    out = tmp_path / "deep/out"
    assert open_folder(out, predictor, RESULTS, overwrite=False) == 0
    before = (out / RECORD).stat().st_mtime_ns
    for overwrite in (False, True):
        assert open_folder(out, tiny.predictor(), RESULTS, overwrite) == 0
    assert (out / RECORD).stat().st_mtime_ns == before
    record = json.loads((out / RECORD).read_text())
    assert record["recipe"] == "tests/tiny"
    assert record["weights"] == predictor.weights
    assert record["protocol"] == {"crop": None, "overlap": 1 / 3, "scales": [1.0], "flip": False}
    assert record["precision"] == "float32"
    assert record["classes"] == list(predictor.config.classes)


def changed(predictor: Predictor, **changes: object) -> Predictor:
    predictor.config = dataclasses.replace(predictor.config, **changes)  # type: ignore[arg-type]
    return predictor


def test_what_differs_is_named(tmp_path: Path, predictor: Predictor) -> None:
    open_folder(tmp_path, predictor, RESULTS, overwrite=False)
    other = changed(tiny.predictor(), recipe="tests/other")
    assert "made otherwise: recipe tests/tiny there, tests/other now. Choose" in refused(tmp_path, other)
    other = changed(tiny.predictor(), evaluation=EvaluationRecipe(crop=(32, 48), scales=(0.75, 1.0)))
    assert "(crop None, overlap 0.3" in refused(tmp_path, other)
    assert "crop 32x48" in refused(tmp_path, other)
    other = changed(tiny.predictor(), learned_from=(360, 480))
    assert "made otherwise: large_images None there, seen as if of 480x360 now. Choose" in refused(tmp_path, other)
    names = ("moon", *predictor.config.classes[1:])
    assert "made otherwise: other classes. Choose" in refused(tmp_path, changed(tiny.predictor(), classes=names))
    colours = ((1, 2, 3), *predictor.config.palette[1:])
    assert "made otherwise: other palette. Choose" in refused(tmp_path, changed(tiny.predictor(), palette=colours))
    other = tiny.predictor(dtype=torch.bfloat16)
    assert "made otherwise: precision float32 there, bfloat16 now. Choose" in refused(tmp_path, other)
    weights = [model.weights[:12] for model in (predictor, tiny.predictor(seed=1))]
    assert f"weights {weights[0]} there, {weights[1]} now" in refused(tmp_path, tiny.predictor(seed=1))


def test_predictions_of_nobody_knows_which_model(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "overlay").mkdir()
    assert "holds overlay/, but no predict.json that says of which model" in refused(tmp_path, predictor)
    assert open_folder(tmp_path, predictor, RESULTS, overwrite=True) > 0


def test_taking_over_makes_old_results_count_no_more(tmp_path: Path, predictor: Predictor) -> None:
    old, new = tmp_path / "labels/old.png", tmp_path / "labels/new.png"
    open_folder(tmp_path, tiny.predictor(seed=1), RESULTS, overwrite=False)
    old.parent.mkdir()
    old.touch()
    os.utime(old, (time.time() - 1,) * 2)
    since = open_folder(tmp_path, predictor, RESULTS, overwrite=True)
    new.touch()
    assert not is_done(old, since)
    assert is_done(new, since)
    assert not is_done(tmp_path / "labels/none.png", since)
    for overwrite in (True, False):  # a second process of the same run, and a later one
        assert open_folder(tmp_path, predictor, RESULTS, overwrite) == since


def test_another_process_that_was_faster(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    from gffnet.inference import batch as module

    theirs = json.dumps({**describe(tiny.predictor(seed=1)), "since": 0.0})
    monkeypatch.setattr(module, "atomic_write", lambda path, data: path.write_text(theirs))
    with pytest.raises(UserError, match="made otherwise: weights"):
        open_folder(tmp_path, predictor, RESULTS, overwrite=False)


def test_it_cannot_be_written(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"file/predict\.json"):
        open_folder(tmp_path / "file", predictor, RESULTS, overwrite=False)


def test_half_precision_can_be_hashed() -> None:
    half = Precision(torch.bfloat16, "for tests")
    network, of = tiny.network(tiny.recipe()), tiny.recipe()
    made = Predictor(network, tiny.config(of), torch.device("cpu"), half)
    assert describe(made)["precision"] == "bfloat16"
