"""What the card tells of a run is what the run's files say."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet.data.camvid import CAMVID
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import plain
from gffnet.evaluation.results import write_scores
from gffnet.metrics.scores import Scores
from gffnet.models.gffnet import load_model, save_model
from gffnet.models.model_card import make_card
from gffnet.models.model_io import hash_weights
from gffnet.recipe import load_recipe
from gffnet.reports.model_card import WEAK, gather
from gffnet.reports.report import SCORES_FOLDER
from tests import tiny
from tests.reports.runs import make_run

SOURCE = "CamVid (Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 30, 2009), SegNet's release of it"
IOU = dict(zip(CAMVID.names, (0.9, 0.1, 0.29, 0.3, None, 0.5, 0.8, 0.75, 0.6, 0.4, 0.35), strict=True))


def scores_of(run: Path) -> dict[str, Any]:
    """An evaluation of a run, made up."""
    protocol = {
        "crop": [32, 48],
        "overlap": 1 / 3,
        "scales": [1.0, 1.5],
        "flip": True,
        "dataset": "camvid",
        "split": "test",
        "recipe": "tests/tiny",
        "absent": "left out",
        "weights_sha256": hash_weights(load_model(run)[0]),
    }
    return {
        "miou": 0.512349,
        "pixel_accuracy": 0.9,
        "per_class": IOU,
        "per_class_accuracy": dict.fromkeys(IOU, 0.95),
        "absent": ["pavement"],
        "images": 233,
        "pixels": 1000,
        "protocol": protocol,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with scores; read only."""
    run = make_run(tmp_path_factory.mktemp("runs") / "run")
    write_scores(run / SCORES_FOLDER / "scores.json", Scores.from_json(scores_of(run)))
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return shutil.copytree(made, tmp_path / "run")


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(json.dumps(content))  # which is YAML as well


def test_all_of_a_run(made: Path) -> None:
    network, facts = gather(str(made), "me/tiny", "mit")
    assert hash_weights(network) == hash_weights(load_model(made)[0])
    assert (facts.name, facts.license, facts.weights) == ("me/tiny", "mit", "float32")
    assert list(facts.sections) == ["Data", "Training", "Scores", "Cost"]
    assert all(facts.sections.values())
    assert facts.sections["Data"] == f"{SOURCE}. camvid, images: train 5."
    training = facts.sections["Training"].splitlines()
    assert "- Iterations: 6 of 2 crops of 32x48" in training
    assert "- Start: random weights" in training
    assert "- Time: 1 h 05 min" in training  # of the session whose end is known
    assert any(line.startswith("- Hardware: A CPU, 8 cores, 16.00 GB, 2 x A GPU") for line in training)
    assert not any("--root" in line for line in training)


def test_scores_of_a_run(made: Path) -> None:
    facts = gather(str(made)).facts
    text = re.sub(" +", " ", facts.sections["Scores"])
    assert text.startswith("| percent | mIoU | pixel accuracy |\n")
    assert "| ours | 51.23 | 90.00 |" in text
    assert "paper" not in text
    assert "### By class, in percent" in text
    assert "| building | 10.0 | 95.0 |" in text
    assert "| pavement | — |" in text
    assert list(facts.weak) == ["building", "pole"]
    assert WEAK == 0.3
    miou, accuracy = facts.results
    assert (miou.metric_type, miou.metric_value, accuracy.metric_type, accuracy.metric_value) == (
        "mean_iou",
        0.5123,
        "accuracy",
        0.9,
    )
    assert (miou.dataset_type, miou.dataset_split) == ("camvid", "test")
    assert miou.metric_args == {"crop": [32, 48], "scales": [1.0, 1.5], "flip": True}
    assert make_card(facts).data.eval_results == [miou, accuracy]


def test_the_paper_stands_beside_its_own_rows(run: Path) -> None:
    scores = scores_of(run)
    row = "cityscapes/gffnet_r101"
    scores["protocol"] |= {**plain(load_recipe(row).evaluation), "recipe": row, "dataset": "cityscapes", "split": "val"}
    write_scores(run / SCORES_FOLDER / "scores.json", Scores.from_json(scores))
    assert "| paper | 81.2 |" in re.sub(" +", " ", gather(str(run)).facts.sections["Scores"])


def test_rounding_is_told_beside_the_scores(made: Path) -> None:
    text = gather(str(made), weights="float16").facts.sections["Scores"]
    assert text.startswith("Measured before kernels were rounded to float16.\n\n| percent ")


def test_scores_of_the_rounded_model_are_its_own(run: Path, tmp_path: Path) -> None:
    """The way to a card that tells what is in the files: publish, evaluate that, and publish with its scores."""
    network, facts = gather(str(run), weights="float16")
    save_model(tmp_path / "half", network, facts.config, "float16")
    scores = scores_of(tmp_path / "half")
    assert scores["protocol"]["weights_sha256"] != hash_weights(load_model(run)[0])
    write_scores(tmp_path / "scores" / "scores.json", Scores.from_json(scores))
    named = gather(str(run), weights="float16", scores=tmp_path / "scores").facts
    assert named.sections["Scores"].startswith("| percent ")
    with pytest.raises(UserError, match="another model"):
        gather(str(run), scores=tmp_path / "scores")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "cross-entropy; 0.4 times that of an auxiliary head"),
        (
            {"loss": {"class_weighting": "enet", "label_smoothing": 0.1}, "auxiliary_weight": 0},
            "cross-entropy, classes weighted by 1 / ln(1.02 + frequency), label smoothing 0.1",
        ),
        (
            {"loss": {"class_weights": [2, *[1.5] * 10], "ohem": 0.7}, "auxiliary_weight": 0},
            "cross-entropy, classes weighted by sky 2, "
            + ", ".join(f"{name} 1.5" for name in CAMVID.names[1:])
            + ", pixels of a probability below 0.7 only (OHEM)",
        ),
        (
            {"loss": {"terms": {"cross_entropy": 1, "dice": 0.5, "focal": 0}, "ohem": 0.7}, "auxiliary_weight": 0},
            "cross-entropy (pixels of a probability below 0.7 only (OHEM)) + 0.5 x Dice loss",
        ),
        ({"loss": {"terms": {"lovasz": 1}}}, "Lovász loss; 0.4 times that of an auxiliary head"),
    ],
)
def test_the_loss_in_words(run: Path, changes: dict[str, Any], text: str) -> None:
    edit(run / "recipe.yaml", lambda recipe: recipe["training"].update(changes))
    assert f"- Loss: {text}" in gather(str(run)).facts.sections["Training"].splitlines()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "poly, power 0.9"),
        ({"schedule": "cosine", "warm_up": 1000}, "cosine, after 1,000 iterations of warm-up"),
        ({"schedule": "one_cycle"}, "one-cycle"),
        ({"schedule": "step", "milestones": [0.5, 0.75]}, "step, times 0.1 at 50%, 75% of the iterations"),
    ],
)
def test_the_schedule_in_words(run: Path, changes: dict[str, Any], text: str) -> None:
    edit(run / "recipe.yaml", lambda recipe: recipe["training"].update(changes))
    assert f" ({text}), weight decay " in gather(str(run)).facts.sections["Training"]


def test_what_was_given_in_python_replaces_what_the_recipe_says(run: Path) -> None:
    given = {
        "loss": "mine.loss",
        "transform": "mine.Rotate",
        "task": "mine.Task",
        "train_data": "mine.Shapes, 40 samples",
    }
    data = {"name": "Shapes", "splits": {"train": {"split": "train", "samples": 40, "fingerprint": "f"}}}
    edit(run / "run.json", lambda record: record.update(python=given, data=data))
    edit(run / "model/config.json", lambda config: config.update(dataset="Shapes"))
    sections = gather(str(run)).facts.sections
    training = sections["Training"]
    assert sections["Data"] == "Shapes, images: train 40."
    assert "- Loss: `mine.loss`, given in Python; 0.4 times that of an auxiliary head" in training
    assert "- Images: transformed by `mine.Rotate`, given in Python\n" in training
    assert "- Task: `mine.Task`, Python code" in training
    assert "cross-entropy" not in training
    assert "scaled" not in training


def test_which_crops_and_whether_weights_are_averaged(run: Path) -> None:
    edit(run / "recipe.yaml", lambda recipe: recipe["training"].update(class_balance=0.5, ema=0.999))
    training = gather(str(run)).facts.sections["Training"]
    assert "; 50% of the crops show a class sampled uniformly, however rare" in training
    assert "- Weights: moving average, decay 0.999" in training


def test_cost_is_that_of_the_network(made: Path) -> None:
    """A convolution's MACs by hand: positions of its output times its weights."""
    text = gather(str(made)).facts.sections["Cost"]
    network = load_model(made)[0]
    assert text.startswith(f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} million parameters; ")
    counted = 0

    def count(module: torch.nn.Conv2d, _: Any, out: torch.Tensor) -> None:
        nonlocal counted
        counted += out[0, 0].numel() * module.weight.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, 32, 48))
    stated = float(text.split("; ")[1].split(" G")[0])
    assert "image of 32x48" in text
    assert stated == pytest.approx(counted / 1e9, abs=0.06)


@pytest.mark.parametrize("place", ["model", "best"])
def test_a_model_folder_knows_its_run(run: Path, place: str) -> None:
    if place == "best":
        (run / "model").rename(run / "best")
    facts = gather(str(run / place)).facts
    assert facts.sections["Training"]
    assert facts.results


def test_a_checkpoint_knows_its_run(run: Path) -> None:
    network, config = load_model(run)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    (run / "checkpoints").mkdir()
    torch.save({"config": config.to_text(), "state_dict": weights}, run / "checkpoints/last.ckpt")
    facts = gather(str(run / "checkpoints/last.ckpt")).facts
    assert facts.sections["Training"]
    assert facts.results


def test_a_model_alone(tmp_path: Path) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "there/model", tiny.network(recipe), tiny.config(recipe))
    facts = gather(str(tmp_path / "there/model")).facts
    assert {name for name, text in facts.sections.items() if text} == {"Data", "Cost"}
    assert facts.sections["Data"] == f"{SOURCE}. `camvid`."
    assert "image of 512x512" in facts.sections["Cost"]
    assert not facts.results


def test_a_run_that_is_not_done(run: Path) -> None:
    edit(run / "run.json", lambda record: record["sessions"][1].update(to_iteration=5))
    assert "crops of 32x48, of which 5 are done" in gather(str(run)).facts.sections["Training"]


def test_paths_of_this_machine_stay_here(run: Path, tmp_path: Path) -> None:
    edit(run / "recipe.yaml", lambda recipe: recipe["training"].update(init_from="/home/me/secret/psp"))
    edit(run / "recipe.yaml", lambda recipe: recipe["model"]["backbone"].update(weights="/home/me/secret/r18.pth"))
    edit(run / "model/config.json", lambda c: c["model"]["backbone"].update(weights="/home/me/secret/r18.pth"))
    facts = gather(str(run)).facts
    assert facts.config.model.backbone.weights == "r18.pth"
    assert "secret" not in str(make_card(facts)) + facts.config.to_text()
    assert "- Start: the run `psp`" in facts.sections["Training"]


@pytest.mark.parametrize("text", ["", "[]", '{"sessions": 3}', '{"sessions": [{"versions": 1}]}'])
def test_a_damaged_record_is_left_out(run: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "run.json").write_text(text)
    facts = gather(str(run)).facts
    assert "run.json cannot be read" in capsys.readouterr().err
    assert facts.sections["Data"] == f"{SOURCE}. `camvid`, split `train`."
    (run / "run.json").unlink()
    assert gather(str(run)).facts.sections == facts.sections


def test_scores_of_another_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny.recipe(tiny.GFFNET)
    config = dataclasses.replace(tiny.config(recipe), recipe="other")
    save_model(run / "model", tiny.network(recipe, seed=7), config)
    facts = gather(str(run)).facts
    assert not facts.results
    assert facts.sections["Scores"] == ""
    assert "scores.json is not of this model" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--scores .*: these are the scores of another model"):
        gather(str(run), scores=run / SCORES_FOLDER)
    scores = scores_of(run)  # where a report writes them, to keep those of before
    write_scores(run / "scores_camvid_val" / "scores.json", Scores.from_json(scores))
    assert gather(str(run)).facts.results
    with pytest.raises(UserError, match="does not exist"):
        gather(str(run), scores=run / "none")
