"""What is gathered about a run."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gffnet.errors import UserError
from gffnet.evaluation.results import read_result, write_scores
from gffnet.inference.predictor import load
from gffnet.metrics.scores import Scores
from gffnet.recipe import load_recipe
from gffnet.reports.cost import cost
from gffnet.reports.report import Images, open_images, report_of, write_report
from tests import tiny
from tests.analysis.runs import HISTORY, RECORD, make_run
from tests.data.trees import camvid_tree


@pytest.fixture
def val(tmp_path: Path) -> Images:
    return open_images("camvid", camvid_tree(tmp_path / "CamVid"), "val")


def test_a_run_with_its_data(val: Images, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    report = report_of(run, val, shown=2)
    kept = read_result(run / "scores")
    assert report.scores is not None
    assert json.loads(json.dumps(report.scores)) == kept.scores.to_json()
    assert report.confusion is not None
    assert np.array_equal(report.confusion, kept.confusion)
    assert (report.history, report.record, report.title) == (HISTORY, RECORD, "tests/tiny")
    assert report.lede == (
        "test resnet, pyramid pooling, gff, dense pyramid; trained on camvid train for 6 iterations of 2 crops; "
        "scored on camvid val, 3 images."
    )
    worst, best = sorted(kept.images, key=lambda row: row[1].miou)[:: len(kept.images) - 1]
    assert [(e.name, e.miou) for e in report.examples] == [(n, s.miou) for n, s in (worst, best)]
    shown = val.dataset[[val.dataset.name(i) for i in range(3)].index(best[0])]
    predictor = load(run)
    assert np.array_equal(report.examples[1].prediction, predictor.predict(shown.image, predictor.config.evaluation))
    write_report(tmp_path / "page.html", report)
    assert "tests/tiny" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_cost_is_told_beside_that_of_the_network_without_fusion(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    bare, ours = report_of(run).cost
    assert (bare["recipe"], ours["recipe"]) == ("the same without fusion", "tests/tiny")
    assert ours["params"] == cost(tiny.recipe(tiny.GFFNET), (32, 48))["params"]
    assert bare["macs"] == cost(tiny.recipe(tiny.PSPNET), (32, 48))["macs"]
    assert [row["recipe"] for row in report_of(make_run(tmp_path / "psp", tiny.PSPNET)).cost] == ["tests/tiny"]


def test_a_run_without_data_or_model_has_its_training(tmp_path: Path) -> None:
    report = report_of(make_run(tmp_path / "run", trained=False))
    assert (report.scores, list(report.examples), report.confusion) == (None, [], None)
    assert len(report.classes) == 11
    assert [command.line for command in report.commands] == [session["command"] for session in RECORD["sessions"]]
    assert yaml.safe_load(report.recipe)["model"]["fusion"] == "gff"
    write_report(tmp_path / "page.html", report)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'id="training"' in page
    assert 'id="images"' not in page


def test_classes_of_ones_own_data_are_unknown_before_there_is_a_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", trained=False)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["name"] = "folder"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report = report_of(run)
    assert (report.classes, report.palette) == ((), ())
    write_report(tmp_path / "page.html", report)


def test_a_damaged_record_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", trained=False)
    (run / "run.json").write_text('{"sessions": [{}]}')
    assert report_of(run).record == {}
    assert "run.json cannot be read" in capsys.readouterr().err
    (run / "run.json").unlink()
    (run / "history.jsonl").unlink()
    report = report_of(run)
    assert (report.record, list(report.history), report.title) == ({}, [], "run")


def test_a_baseline_has_its_scores_its_name_and_its_cost(val: Images, tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", tiny.PSPNET, seed=1)
    report = report_of(run, val, baseline=other, shown=0)
    assert report.baseline is not None
    assert report.baseline["per_class"] == read_result(other / "scores").scores.per_class
    assert report.baseline_name == f"tests/tiny ({other})", "its recipe has the name of the run's"
    assert [row["recipe"] for row in report.cost] == [report.baseline_name, "tests/tiny"]
    assert report.cost[0]["params"] == cost(tiny.recipe(tiny.PSPNET), (32, 48))["params"]
    assert list(report.examples) == []
    named: dict[str, Any] = json.loads((other / "scores/scores.json").read_text())
    named["protocol"]["recipe"] = "camvid/pspnet_r18"
    write_scores(tmp_path / "elsewhere/scores.json", Scores.from_json(named))
    shipped = report_of(run, baseline=tmp_path / "elsewhere/scores.json")
    assert shipped.baseline_name == "camvid/pspnet_r18"
    assert shipped.cost[0]["params"] == cost(load_recipe("camvid/pspnet_r18"), (32, 48))["params"]
    named["protocol"]["recipe"] = "unheard of"
    write_scores(tmp_path / "elsewhere/scores.json", Scores.from_json(named))
    assert [row["recipe"] for row in report_of(run, baseline=tmp_path / "elsewhere").cost] == ["tests/tiny"]
    named["per_class"] = {"cat": 1.0}
    write_scores(tmp_path / "elsewhere/scores.json", Scores.from_json(named))
    with pytest.raises(UserError, match="Only scores of the same classes"):
        report_of(run, baseline=tmp_path / "elsewhere")


def test_the_protocol_that_scored_is_shown_and_told(val: Images, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    predictor = load(run)
    from gffnet.evaluation.evaluate import evaluate
    from gffnet.evaluation.results import write_result

    protocol = dataclasses.replace(
        predictor.config.evaluation, crop=(16, 16), overlap=0.5, scales=(0.5, 1.0), flip=True
    )
    result = evaluate(predictor, val.dataset, "camvid", "val", protocol)
    write_result(tmp_path / "named", result)
    report = report_of(run, val, scores=tmp_path / "named", shown=1)
    (example,) = report.examples
    sample = next(s for s in (val.dataset[i] for i in range(3)) if s.name == example.name)
    assert np.array_equal(example.prediction, predictor.predict(sample.image, protocol))
    (scored,) = [command.line for command in report.commands if command.does == "Scored by"]
    assert scored == (
        f"gffnet evaluate --model {run} --dataset camvid --root ROOT --split val --crop 16x16 --overlap 0.5 "
        "--scales 0.5 1 --flip --out SCORES"
    )
