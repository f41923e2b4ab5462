"""Where the scores of a report come from."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import gffnet.reports.report as report_evaluation
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.evaluation.results import read_result, write_scores
from gffnet.inference.predictor import load
from gffnet.reports.report import Images, check_classes, open_images, open_run, scores_of_baseline, scores_of_run
from tests import tiny
from tests.analysis.runs import make_run
from tests.data.trees import camvid_tree


@pytest.fixture
def val(tmp_path: Path) -> Images:
    return open_images("camvid", camvid_tree(tmp_path / "CamVid"), "val")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were evaluated."""
    seen: list[str] = []
    real = report_evaluation.evaluate

    def counting(predictor: Any, dataset: Any, name: str, split: str, protocol: Any) -> Any:
        seen.append(split)
        return real(predictor, dataset, name, split, protocol)

    monkeypatch.setattr(report_evaluation, "evaluate", counting)
    return seen


def test_a_run_is_evaluated_once(val: Images, tmp_path: Path, made: list[str]) -> None:
    run = open_run(make_run(tmp_path / "run"))
    assert scores_of_run(run, None) is None
    first = scores_of_run(run, val)
    assert first is not None
    predictor = load(run.folder)
    wanted = evaluate(predictor, val.dataset, "camvid", "val", predictor.config.evaluation).scores
    assert first.scores.per_class == wanted.per_class
    assert first.scores.protocol["weights_sha256"] == run.weights
    again, without_data = scores_of_run(run, val), scores_of_run(run, None)
    assert again is not None
    assert without_data is not None
    assert again.scores == without_data.scores == first.scores
    assert made == ["val"]
    train = Images("camvid", "train", val.dataset)
    assert scores_of_run(run, train).scores.protocol["split"] == "train"  # type: ignore[union-attr]
    assert made == ["val", "train"]


def test_scores_of_another_model_do_not_count(
    val: Images, tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1))
    scores_of_run(open_run(one), val)
    (one / "scores").rename(other / "scores")
    assert scores_of_run(open_run(other), None) is None
    assert f"left out: {other}/scores/scores.json is not of the model" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"not the scores of a model in .*run1"):
        scores_of_run(open_run(other), val, other / "scores")
    assert scores_of_run(open_run(one), val, other / "scores") is not None
    (one / "model").rename(other / "best")
    assert scores_of_run(open_run(other), val, other / "scores") is not None, "those of the best will do"
    assert made == ["val"]


def test_a_run_without_a_model_is_not_evaluated(val: Images, tmp_path: Path) -> None:
    run = open_run(make_run(tmp_path / "run", trained=False))
    assert (run.config, run.weights) == (None, None)
    assert scores_of_run(run, val) is None


@pytest.mark.parametrize(("name", "said"), [("none", "does not exist"), ("CamVid", "is no run folder")])
def test_what_is_no_run(name: str, said: str, val: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"run {tmp_path / name} {said}"):
        open_run(tmp_path / name)


def test_baselines_of_every_kind(val: Images, tmp_path: Path, made: list[str]) -> None:
    folder = make_run(tmp_path / "run", tiny.PSPNET)
    with pytest.raises(UserError, match=f"--baseline {folder} holds no scores"):
        scores_of_baseline(folder, None)
    wanted = scores_of_baseline(folder, val).scores
    for path in (folder, folder / "scores", folder / "scores/scores.json"):
        assert scores_of_baseline(path, None).scores == wanted
    assert made == ["val"]
    with pytest.raises(UserError, match="does not exist"):
        scores_of_baseline(tmp_path / "none", val)


def test_a_baseline_of_other_classes_is_refused(val: Images, tmp_path: Path) -> None:
    result = scores_of_baseline(make_run(tmp_path / "run"), val)
    classes = val.dataset.classes.names
    check_classes(tmp_path, result, classes)
    write_scores(tmp_path / "scores.json", dataclasses.replace(result.scores, per_class={"cat": 1.0}))
    with pytest.raises(UserError, match=r"has 1 classes \(cat, ...\), and the run 11 \(sky"):
        check_classes(tmp_path, read_result(tmp_path), classes)
