"""Which scores a report shows, and how."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import gffnet.reports.report as report_evaluation
from gffnet.data.camvid import CAMVID
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.evaluation.results import Result, protocol_rows, read_result, write_result, write_scores
from gffnet.inference.predictor import load
from gffnet.metrics.scores import ScoreAccumulator, Scores
from gffnet.recipe import load_recipe
from gffnet.reports.cost import costs
from gffnet.reports.report import (
    UNKNOWN,
    Images,
    Report,
    class_bars,
    detail_bars,
    key_figures,
    open_images,
    open_run,
    protocol_differences,
    record_facts,
    report_of,
    scores_of_baseline,
    scores_of_run,
    write_report,
)
from tests import tiny
from tests.data.trees import camvid_tree
from tests.evaluation.test_paper import protocol
from tests.reports.runs import HISTORY, RECORD, make_run

NAMES = ("road", "sky", "car")
PALETTE = ((1, 2, 3), (4, 5, 6), (255, 0, 16))


def scores(shift: int, **other: Any) -> Scores:
    """Of one image that is predicted some pixels to the right; no car."""
    counts = ScoreAccumulator(3)
    labels = np.zeros((60, 120), np.uint8)
    labels[:, 40:] = 1
    counts.update(labels, np.roll(labels, shift, axis=1))
    record = {**protocol("camvid/gffnet_r18"), "absent": "left out", **other}
    return dataclasses.replace(counts.compute(NAMES), images=1, images_per_second=2.5, protocol=record)


def test_key_figures_are_the_scores_and_their_gains() -> None:
    ours, theirs = scores(1), scores(8)
    figures = {figure.label: figure for figure in key_figures(ours, theirs)}
    assert ours.miou is not None
    assert theirs.miou is not None
    assert figures["mean IoU"].value == f"{100 * ours.miou:.1f} %"
    assert figures["mean IoU"].gain == pytest.approx(100 * (ours.miou - theirs.miou))
    assert figures["boundary F, 3 px"].value == f"{100 * (ours.boundary_f['3'].mean or 0):.1f} %"
    assert figures["images per second"].value == "2.5"
    assert all(figure.gain is None for figure in key_figures(ours, UNKNOWN))
    assert key_figures(UNKNOWN, theirs) == []


def test_classes_have_their_colors_and_the_baselines_score() -> None:
    ours, theirs = scores(1), scores(8)
    bars = class_bars(ours, theirs, PALETTE)
    assert bars is not None
    assert [bar.label for bar in bars.rows] == list(NAMES)
    road, _, car = bars.rows
    assert (road.value, road.other) == (ours.per_class["road"], theirs.per_class["road"])
    assert road.gain == pytest.approx(100 * (road.value - road.other))  # type: ignore[operator]
    assert (car.value, car.gain, car.color) == (None, None, "#ff0010")
    assert bars.note.startswith("A dash")
    assert class_bars(UNKNOWN, theirs, PALETTE) is None


def test_details_are_matched_by_their_ranges() -> None:
    ours, theirs = scores(1), scores(8)
    distance, size, boundary = detail_bars(ours, theirs)
    assert [bar.value for bar in distance.rows] == [band.miou for band in ours.iou_by_distance]
    assert [bar.other for bar in distance.rows] == [band.miou for band in theirs.iou_by_distance]
    assert (distance.rows[0].label, distance.rows[-1].label) == ("0 to 2 px", "above 32 px")
    assert sum(int(bar.amount.replace(",", "")) for bar in distance.rows) == 60 * 120
    assert [bar.label for bar in size.rows] == ["small", "medium", "large"]
    assert "medium 1,024 to 9,216 px" in size.note
    assert [bar.value for bar in boundary.rows] == [of.mean for of in ours.boundary_f.values()]
    fewer = dataclasses.replace(theirs, iou_by_distance=theirs.iou_by_distance[1:])
    assert [bar.other is None for bar in detail_bars(ours, fewer)[0].rows] == [True, *[False] * 5]
    assert detail_bars(UNKNOWN, theirs) == []


def test_differences_of_protocols() -> None:
    assert protocol_differences(scores(1), scores(8, precision="float32", device="cuda:0", recipe="other")) == []
    other = dataclasses.replace(scores(8, flip=True, scales=[0.5, 1.0], crop=[64, 128]), images=2)
    found = protocol_differences(scores(1), other)
    assert "flip: no here, yes there" in found
    assert "scales: 1.0 here, 0.5, 1.0 there" in found
    assert "crop: none: the whole image at once here, 64 x 128 pixels there" in found
    assert "images: 1 here, 2 there" in found


def test_the_protocol_in_words() -> None:
    rows = dict(protocol_rows(scores(1)))
    assert rows["crop"] == "none: the whole image at once"
    assert "overlap" not in rows
    assert rows["pixels"] == "7,200"
    assert dict(protocol_rows(scores(1, crop=[64, 128], overlap=1 / 3)))["overlap"] == "0.333"


def test_the_papers_figure_stands_beside_its_own_protocol_only(tmp_path: Path) -> None:
    paper = protocol("cityscapes/gffnet_r101")
    for record, found in ((paper, True), ({**paper, "flip": True}, False)):
        of = dataclasses.replace(scores(1), protocol=record)
        write_report(tmp_path / "page.html", Report("r", NAMES, PALETTE, result=Result(of, [], None)))
        assert ("mean IoU 81.2 %" in (tmp_path / "page.html").read_text(encoding="utf-8")) == found


@pytest.fixture
def val(tmp_path: Path) -> Images:
    return open_images("camvid", camvid_tree(tmp_path / "CamVid"), "val")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were evaluated."""
    seen: list[str] = []
    real = report_evaluation.score_dataset

    def counting(predictor: Any, dataset: Any, name: str, split: str, protocol: Any) -> Any:
        seen.append(split)
        return real(predictor, dataset, name, split, protocol)

    monkeypatch.setattr(report_evaluation, "score_dataset", counting)
    return seen


def test_a_run_is_evaluated_once(val: Images, tmp_path: Path, made: list[str]) -> None:
    run = open_run(make_run(tmp_path / "run"))
    assert scores_of_run(run, None) is None
    first = scores_of_run(run, val)
    assert first is not None
    predictor = load(run.folder)
    wanted = score_dataset(predictor, val.dataset, "camvid", "val", predictor.config.evaluation).scores
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
    assert read_result(run.folder / "scores").scores == first.scores, "they may have taken hours"
    assert scores_of_run(run, train).scores.protocol["split"] == "train"  # type: ignore[union-attr]
    assert made == ["val", "train"], "and those beside them are found again"


def test_scores_that_cannot_be_kept_are_shown_all_the_same(
    val: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    (run / "scores").write_text("a file")
    result = scores_of_run(open_run(run), val)
    assert result is not None
    assert result.scores.images == 3
    assert "scores: not kept: cannot write" in capsys.readouterr().err
    assert (run / "scores").read_text() == "a file"


def test_the_examples_are_of_the_network_that_was_scored(val: Images, tmp_path: Path) -> None:
    """Scores of the best network, beside the last."""
    run, other = (make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1))
    (other / "model").rename(run / "best")
    best = load(run / "best")
    scored = score_dataset(best, val.dataset, "camvid", "val", best.config.evaluation)
    write_result(run / "scores", scored)
    report = report_of(run, val, run / "scores", shown=1)
    assert report.result is not None
    assert report.result.scores.miou == scored.scores.miou
    (example,) = report.examples
    names = [val.dataset.name(i) for i in range(3)]
    image = val.dataset[names.index(example.name)].image
    assert np.array_equal(example.prediction, best.predict(image, best.config.evaluation))


def test_scores_of_another_model_do_not_count(
    val: Images, tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (make_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1))
    scores_of_run(open_run(one), val)
    (one / "scores").rename(other / "scores")
    assert scores_of_run(open_run(other), None) is None
    assert f"ignored: {other}/scores/scores.json is not of the model" in capsys.readouterr().err
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
        scores_of_baseline(folder, None, CAMVID.names)
    wanted = scores_of_baseline(folder, val, CAMVID.names).scores
    for path in (folder, folder / "scores", folder / "scores/scores.json"):
        assert scores_of_baseline(path, None, CAMVID.names).scores == wanted
    assert made == ["val"]
    with pytest.raises(UserError, match="does not exist"):
        scores_of_baseline(tmp_path / "none", val, CAMVID.names)
    with pytest.raises(UserError, match="the baseline has 11 classes and the run 1: class 0"):
        scores_of_baseline(folder, None, ["cat"])


def test_a_run_with_its_data(val: Images, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    report = report_of(run, val, shown=2)
    kept = read_result(run / "scores")
    assert report.result is not None
    assert report.result.scores.to_json() == kept.scores.to_json()
    assert kept.confusion is not None
    assert np.array_equal(report.result.confusion, kept.confusion)
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


def test_own_data_are_named_as_the_record_names_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    python = {"train_data": "mine.Shapes, 40 samples", "loss": "mine.loss"}
    (run / "run.json").write_text(json.dumps({**RECORD, "python": python}))
    report = report_of(run)
    assert "; trained on mine.Shapes, 40 samples (given in Python) for 6 iterations" in report.lede
    assert "camvid" not in report.lede
    facts = dict(record_facts(report.record))
    assert facts["Given in Python"] == "train_data mine.Shapes, 40 samples; loss mine.loss"


def test_the_cost_is_told_beside_that_of_the_network_without_fusion(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    bare, ours = report_of(run).cost
    assert (bare["recipe"], ours["recipe"]) == ("the same without fusion", "tests/tiny")
    assert ours["params"] == costs([("", tiny.recipe(tiny.GFFNET))], (32, 48))[0]["params"]
    assert bare["macs"] == costs([("", tiny.recipe(tiny.PSPNET))], (32, 48))[0]["macs"]
    assert [row["recipe"] for row in report_of(make_run(tmp_path / "psp", tiny.PSPNET)).cost] == ["tests/tiny"]


def test_a_run_without_data_or_model_has_its_training(tmp_path: Path) -> None:
    report = report_of(make_run(tmp_path / "run", trained=False))
    assert (report.result, report.examples) == (None, [])
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


def test_own_data_before_the_end_have_the_classes_and_the_cost_of_the_best_network(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "model").rename(run / "best")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["name"] = "folder"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report = report_of(run)
    assert report.classes == CAMVID.names
    ours = costs([("", tiny.recipe(tiny.GFFNET))], (32, 48))[0]  # of 11 classes
    assert report.cost[-1]["params"] == ours["params"]


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
    assert report.baseline.per_class == read_result(other / "scores").scores.per_class
    assert report.baseline_name == f"tests/tiny ({other})", "its recipe has the name of the run's"
    assert [row["recipe"] for row in report.cost] == [report.baseline_name, "tests/tiny"]
    assert report.cost[0]["params"] == costs([("", tiny.recipe(tiny.PSPNET))], (32, 48))[0]["params"]
    assert list(report.examples) == []
    named: dict[str, Any] = json.loads((other / "scores/scores.json").read_text())
    named["protocol"]["recipe"] = "camvid/pspnet_r18"
    write_scores(tmp_path / "elsewhere/scores.json", Scores.from_json(named))
    shipped = report_of(run, baseline=tmp_path / "elsewhere/scores.json")
    assert shipped.baseline_name == "camvid/pspnet_r18"
    assert shipped.cost[0]["params"] == costs([("", load_recipe("camvid/pspnet_r18"))], (32, 48))[0]["params"]
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
    protocol = dataclasses.replace(
        predictor.config.evaluation, crop=(16, 16), overlap=0.5, scales=(0.5, 1.0), flip=True
    )
    result = score_dataset(predictor, val.dataset, "camvid", "val", protocol)
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
