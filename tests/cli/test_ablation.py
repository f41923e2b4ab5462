"""`gffnet ablation`: what runs, what is kept, what a signal and a failure leave, and the table."""

import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import gffnet
from gffnet.cli.ablation import seeds
from gffnet.cli.main import main, make_parser
from gffnet.data.dataset import fingerprint
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import PARTIAL_FOLDER, PartialResults, PartialScores, plain
from gffnet.recipe import load_recipe
from gffnet.reports import ablation as module
from gffnet.reports.ablation import Ablation
from gffnet.streets.write import write_streets
from tests import tiny
from tests.data.trees import camvid_tree
from tests.reports.scored import save_run, save_scores
from tests.training.processes import Forked

Captured = pytest.CaptureFixture[str]
FIRST, SECOND = "camvid/pspnet_r18", "camvid/gffnet_r18"
MIOU = {(FIRST, 0): 0.50, (FIRST, 1): 0.54, (SECOND, 0): 0.53, (SECOND, 1): 0.58}

# In place of `python -m gffnet`: copies what was prepared. It trains until SIGTERM where there is a file `slow`, and
# fails where there is one `fail`, in the folder of the run.
PROGRAM = """
import pathlib, shutil, signal, sys, time

prepared, command, words = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
out = pathlib.Path(words[words.index("--out") + 1])
run = out if command == "train" else out.parent
source = prepared / run.parent.name / run.name
with (prepared / "started").open("a") as file:
    print(command, run.parent.name, run.name, file=file)
if (source / "fail").exists():
    print("error: it was not to be.")
    sys.exit(1)
if command == "train" and (source / "slow").exists():
    def stop(*_):
        (source / "saved").touch()
        sys.exit(1)
    signal.signal(signal.SIGTERM, stop)
    (source / "slow").rename(source / "running")
    time.sleep(60)
name = "scores" if command == "evaluate" else "run"
shutil.copytree(source / name, out, dirs_exist_ok=True)
"""


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the runs of two recipes with seeds 0 and 1 will leave; replaces the commands."""
    folder = tmp_path / "prepared"
    for (name, seed), miou in MIOU.items():
        source = folder / Path(name).name / f"seed_{seed}"
        (source / "run/model").mkdir(parents=True)
        recipe = load_recipe(name, [f"seed={seed}"])
        (source / "run/recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping()))
        (source / "run/run.json").write_text(json.dumps({"recipe": name, "sessions": []}))
        (source / "run/model/config.json").write_text("{}")
        save_scores(source / "scores", name, miou)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-S", str(program), str(folder)))
    monkeypatch.setattr(module, "POLL", 0.02)
    monkeypatch.setattr(module, "open_dataset", lambda *_: None)

    def hashed(model: Path, _: int) -> str:  # as `save_scores` records it
        return str(folder / model.parents[1].name / model.parent.name / "scores")

    monkeypatch.setattr(module, "_hashed", hashed)
    return folder


def words(tmp_path: Path, *more: str) -> list[str]:
    return [
        "ablation",
        FIRST,
        SECOND,
        "--root",
        "data",
        "--seeds",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "2",
        *more,
    ]


def started(prepared: Path) -> list[str]:
    """The commands that were started since this was called last."""
    lines = (prepared / "started").read_text().splitlines() if (prepared / "started").is_file() else []
    (prepared / "started").unlink(missing_ok=True)
    return sorted(lines)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def command_line(stage: str, name: str, seed: int) -> str:
    return f"{stage} {Path(name).name} seed_{seed}"


ALL = sorted(command_line(stage, *run) for run in MIOU for stage in ("train", "evaluate"))


# The runs and the table


def test_recipes_with_seeds_become_one_table(prepared: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(words(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert started(prepared) == ALL
    means = {name: 50 * (MIOU[name, 0] + MIOU[name, 1]) for name in (FIRST, SECOND)}
    spread = {name: 100 * statistics.stdev([MIOU[name, 0], MIOU[name, 1]]) for name in (FIRST, SECOND)}
    gains = [100 * (MIOU[SECOND, seed] - MIOU[FIRST, seed]) for seed in (0, 1)]
    error = statistics.stdev(gains) / 2**0.5
    first = f"{means[FIRST]:.1f} ± {spread[FIRST]:.1f}"
    second = f"{means[SECOND]:.1f} ± {spread[SECOND]:.1f} (+{statistics.fmean(gains):.1f} ± {error:.1f})"
    text = (tmp_path / "out/ablation.md").read_text()
    assert f"| PSPNet | {first} |" in text
    assert f"| PSPNet + GFF + DFP | {second} |" in text
    assert "2 (seeds 0, 1)" in text
    assert first in out
    assert second in " ".join(out.split())
    assert "4 runs" in err
    record = json.loads((tmp_path / "out/ablation.json").read_text())
    assert [(run["recipe"], run["seed"], run["miou"], run["done"]) for run in record["runs"]] == [
        (*run, miou, True) for run, miou in MIOU.items()
    ]
    (gain,) = [score for score in record["scores"] if score["score"] == "miou" and score["recipe"] == SECOND]
    assert gain["ours_gain"] == pytest.approx(statistics.fmean(gains))
    assert gain["gain_error"] == pytest.approx(error)
    assert "train camvid/pspnet_r18" in (tmp_path / "out" / FIRST / "seed_1/train.log").read_text()

    # the same command again: nothing is left; another split: evaluated again
    assert main(words(tmp_path, "--json")) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert started(prepared) == []
    for source in prepared.glob("*/*/scores"):
        mapping = json.loads((source / "scores.json").read_text())
        mapping["protocol"]["split"] = "test"
        (source / "scores.json").write_text(json.dumps(mapping))
    assert main(words(tmp_path, "--split", "test")) == 0
    assert started(prepared) == [line for line in ALL if line.startswith("evaluate")]


def test_a_smaller_call_keeps_the_table_of_a_larger_one(prepared: Path, tmp_path: Path, capsys: Captured) -> None:
    def call(*recipes: str, more: Sequence[str] = ()) -> str:
        assert main(["ablation", *recipes, *words(tmp_path)[3:], *more]) == 0
        return capsys.readouterr().err

    call(FIRST, SECOND)
    out = tmp_path / "out"
    table, record = ((out / name).read_text() for name in ("ablation.md", "ablation.json"))
    assert "with 2 runs of earlier calls" in call(SECOND)
    assert (out / "ablation.md").read_text() == table  # gains over the same baseline, too
    call(FIRST, more=["--seeds", "1,"])
    assert (out / "ablation.md").read_text() == table
    call(SECOND, FIRST)  # another order of the same
    assert (out / "ablation.md").read_text() != table
    call(FIRST, SECOND)
    assert (out / "ablation.json").read_text() == record
    assert not list(out.glob("ablation_*"))

    # runs of other settings: a table of its own, and the one before stays
    for source in prepared.glob("pspnet_r18/*/scores/scores.json"):
        mapping = json.loads(source.read_text())
        mapping["protocol"]["split"] = "test"
        source.write_text(json.dumps(mapping))
    assert f"is now {out / 'ablation_1.md'}" in call(FIRST, more=["--split", "test"])
    assert [(out / name).read_text() for name in ("ablation_1.md", "ablation_1.json")] == [table, record]
    assert "GFF" not in (out / "ablation.md").read_text()
    (out / "ablation.json").write_text("")
    call(FIRST, more=["--split", "test"])
    assert (out / "ablation_2.md").read_text() == (out / "ablation.md").read_text()

    # files of others
    (out / "ablation.json").unlink()
    (out / "ablation.md").write_text("mine")
    (out / "ablation_3.json").write_text("mine, too")
    assert f"what was in the place of the table is now {out / 'ablation_4.md'}" in call(FIRST, more=["--split", "test"])
    assert [(out / name).read_text() for name in ("ablation_4.md", "ablation_3.json")] == ["mine", "mine, too"]
    assert not (out / "ablation_4.json").exists()


def test_runs_of_an_earlier_call_and_another_recipe_of_the_same_name_are_kept_apart(
    prepared: Path, tmp_path: Path
) -> None:
    assert main(words(tmp_path)) == 0
    out = tmp_path / "out"
    table = (out / "ablation.md").read_text()
    recipe = out / FIRST / "seed_0/recipe.yaml"
    mapping = yaml.safe_load(recipe.read_text())
    mapping["training"]["batch"] = 4
    recipe.write_text(yaml.safe_dump(mapping))
    assert main(words(tmp_path, "--seeds", "1,")) == 0
    assert (out / "ablation_1.md").read_text() == table
    assert "| PSPNet | 54.0 |" in (out / "ablation.md").read_text()


def test_a_cross_validation_has_means_over_its_folds(tmp_path: Path) -> None:
    """A score of a seed is the mean over the folds; gains are paired by seed and fold; a seed counts with all folds."""
    mious = {(FIRST, 0): (50, 40), (FIRST, 1): (54, 46), (SECOND, 0): (53, 45), (SECOND, 1): (58, 46)}
    found = of(tmp_path, folds=["0006R0", "0001TP"], seeds=[0, 1, 2])
    for (name, seed), of_folds in mious.items():
        for fold, miou in zip(found.folds, of_folds, strict=True):
            splits = [f"data.train_split=without_{fold}", f"data.val_split=only_{fold}"]
            folder = tmp_path / f"without_{fold}" / name / f"seed_{seed}"
            save_run(folder, name, miou / 100, *splits, f"seed={seed}", split=f"only_{fold}")
            scores = folder / "scores/scores.json"  # of an early version
            scores.write_text(scores.read_text().replace("weights_sha256", "unknown"))
            (folder / "model").mkdir()
            (folder / "model/config.json").write_text("{}")
            os.utime(folder / "model/config.json", (0, 0))
    assert [(run.name, run.seed, run.fold) for run in found.left()] == [
        (name, 2, fold) for name in (FIRST, SECOND) for fold in ("0006R0", "0001TP")
    ]
    (tmp_path / "without_0006R0" / FIRST / "seed_0/run.json").write_bytes(b"")
    first, second = found.table().rows
    assert first.ours["miou_0006R0"].values == pytest.approx((50, 54))
    assert first.ours["miou"].values == pytest.approx((45, 50))
    assert second.ours["miou"].values == pytest.approx((49, 52))
    assert second.ours_gain["miou"] == pytest.approx(3)
    assert second.gain_error["miou"] == pytest.approx(statistics.stdev([3, 5, 4, 0]) / 4**0.5)
    assert first.notes == ("not done: seed 2 without 0006R0, 2 without 0001TP",)
    assert found.table().title == "Ablation on camvid only_0006R0, only_0001TP"
    scores = tmp_path / "without_0006R0" / SECOND / "seed_1/scores/scores.json"
    scores.write_text(json.dumps({**json.loads(scores.read_text()), "per_class": {"pole": None}}))
    assert found.table().rows[1].notes[1:] == (
        "no mean of pole, nor of the thin classes: neither labelled nor predicted in only_0006R0",
    )
    train = make_parser().parse_args(found.train_command(found.runs[1])[3:])
    assert train.set == ["data.train_split=without_0001TP", "data.val_split=only_0001TP", "seed=0"]
    evaluate = make_parser().parse_args(found.evaluate_command(found.runs[1])[3:])
    assert evaluate.split == "only_0001TP"


@pytest.mark.parametrize(
    ("scored", "options"),
    [
        ({"flip": True}, []),
        pytest.param({"scales": [0.5, 1.0]}, [], marks=pytest.mark.slow),
        pytest.param({"dataset": "streets"}, [], marks=pytest.mark.slow),
        pytest.param({"precision": "bfloat16"}, ["--precision", "float32"], marks=pytest.mark.slow),
        ({"device": "cuda:0"}, ["--device", "cpu"]),
    ],
)
def test_scores_of_another_protocol_are_not_kept(
    scored: dict[str, Any], options: list[str], prepared: Path, tmp_path: Path
) -> None:
    arguments = [*words(tmp_path), *options]
    for source in prepared.glob("*/*/scores/scores.json"):
        mapping = json.loads(source.read_text())
        mapping["protocol"] |= {"precision": "float32", "device": "cpu"}
        source.write_text(json.dumps(mapping))
    assert main(arguments) == 0
    started(prepared)
    assert main(arguments) == 0
    assert started(prepared) == []
    file = tmp_path / "out" / FIRST / "seed_1/scores/scores.json"
    mapping = json.loads(file.read_text())
    file.write_text(json.dumps({**mapping, "protocol": {**mapping["protocol"], **scored}}))
    assert main(arguments) == 0
    assert started(prepared) == [command_line("evaluate", FIRST, 1)]


@pytest.mark.parametrize("recorded", [True, False])
def test_scores_are_kept_with_the_weights_that_they_are_of(recorded: bool, tmp_path: Path) -> None:
    """Whatever the times of the files, which a copy changes; these count where scores do not say whose they are."""
    found = of(tmp_path / "out")
    run = found.runs[0]
    network = gffnet.GFFNet("resnet18", 2, channels=8, pretrained=False)
    network.save_pretrained(run.folder / "model")
    record = {"weights_sha256": gffnet.load(str(run.folder)).weights} if recorded else {}
    file = save_run(run.folder, FIRST, 0.5, **record) / "scores/scores.json"
    if not recorded:
        file.write_text(file.read_text().replace("weights_sha256", "unknown"))
    os.utime(run.folder / "model/config.json", (0, 0))
    assert found.evaluated(run)
    os.utime(file, (0, 0))
    os.utime(run.folder / "model/config.json", (1, 1))
    assert found.evaluated(run) == recorded
    with torch.no_grad():
        next(network.parameters()).add_(1)
    network.save_pretrained(run.folder / "model")
    os.utime(run.folder / "model/config.json", (2, 2))
    os.utime(file, (3, 3))
    assert found.evaluated(run) != recorded
    (run.folder / "model/model.safetensors").write_bytes(b"")  # so that the evaluation says so
    os.utime(run.folder / "model/config.json", (3, 3))
    assert found.evaluated(run) != recorded


def test_a_failed_run_stops_no_other(prepared: Path, tmp_path: Path, capsys: Captured) -> None:
    (prepared / "gffnet_r18/seed_0/fail").touch()
    assert main(words(tmp_path)) == 1
    out, err = capsys.readouterr()
    log = tmp_path / "out" / SECOND / "seed_0/train.log"
    assert f"failed: {SECOND}, seed 0: it was not to be. (see {log})" in err.splitlines()
    assert err.splitlines()[-1] == "error: 1 of 4 runs failed; the same command tries them again."
    assert started(prepared) == [line for line in ALL if line != command_line("evaluate", SECOND, 0)]
    assert "58.0" in out
    assert "not done: seed 0" in out
    assert json.loads((tmp_path / "out/ablation.json").read_text())["runs"][2]["failed"].startswith("it was not to be.")
    (prepared / "gffnet_r18/seed_0/fail").unlink()
    assert main(words(tmp_path)) == 0
    assert started(prepared) == [command_line(stage, SECOND, 0) for stage in ("evaluate", "train")]


@pytest.mark.parametrize(
    ("name", "cause", "remedy"),
    [
        ("recipe.yaml", "is missing or damaged: what the run was trained with is not known", "remove"),
        ("checkpoints/last.ckpt", "is empty", "Delete it, and the run trains from the start."),
    ],
)
def test_a_damaged_run_stops_no_other(
    name: str, cause: str, remedy: str, prepared: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(words(tmp_path)) == 0
    folder = tmp_path / "out" / SECOND / "seed_0"
    if name != "recipe.yaml":
        shutil.rmtree(folder / "model")  # an interrupted run
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    shutil.rmtree(tmp_path / "out" / FIRST / "seed_1/scores")
    started(prepared)
    capsys.readouterr()
    assert main(words(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert started(prepared) == [command_line("evaluate", FIRST, 1)]
    assert "2 of 4 runs are done, 1 is damaged; 2 at a time" in err
    (line,) = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert line.startswith(f"failed: {SECOND}, seed 0: ")
    assert f"{folder / name} {cause}. " in line
    assert remedy in line
    assert err.splitlines()[-1] == "error: 1 of 4 runs failed; the same command tries them again."
    assert "not done: seed 0" in out
    assert "58.0" in out
    assert cause in json.loads((tmp_path / "out/ablation.json").read_text())["runs"][2]["failed"]

    assert main(words(tmp_path, "--plan")) == 0
    listed = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert [SECOND, "0", "damaged", "0"] in listed
    assert main(words(tmp_path)) == 1  # nothing is left that could run
    assert f"{folder / name} {cause}" in capsys.readouterr().err
    assert started(prepared) == []


def test_damaged_scores_and_records_are_made_again(prepared: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(words(tmp_path)) == 0
    first, second = (tmp_path / "out" / name / "seed_0" for name in (FIRST, SECOND))
    text = (first / "scores/scores.json").read_text()
    (first / "scores/scores.json").write_text(text[:50])
    (second / "run.json").write_bytes(b"")
    table = (tmp_path / "out/ablation.md").read_text()
    started(prepared)
    assert main(words(tmp_path)) == 0
    assert started(prepared) == [command_line("evaluate", FIRST, 0)]
    assert (first / "scores/scores.json").read_text() == text
    assert (tmp_path / "out/ablation.md").read_text() == table


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGKILL))]
)
def test_a_signal_lets_the_runs_save(number: int, prepared: Path, tmp_path: Path) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent was killed")
    slow = [prepared / "pspnet_r18/seed_1", prepared / "gffnet_r18/seed_0"]
    for source in slow:
        (source / "slow").touch()
    process = Forked(words(tmp_path), tmp_path / "log")
    assert process.process.pid
    wait_for(lambda: all((source / "running").exists() for source in slow))
    os.kill(process.process.pid, number)
    code, output = process.wait()
    wait_for(lambda: all((source / "saved").exists() for source in slow))
    assert code == {signal.SIGTERM: 1, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    if number != signal.SIGKILL:
        assert "stopping: 2 runs saving" in output
        assert "3 of 4 runs are left" in output.splitlines()[-1]
        assert "same command" in output.splitlines()[-1]
        assert not (tmp_path / "out/ablation.md").exists()
    assert command_line("train", FIRST, 0) in started(prepared)
    assert main(words(tmp_path)) == 0
    assert command_line("train", FIRST, 0) not in (again := started(prepared))
    assert {command_line("train", FIRST, 1), command_line("train", SECOND, 0)} <= set(again)


# What is passed on


def of(tmp_path: Path, **options: Any) -> Ablation:
    return dataclasses.replace(Ablation([FIRST, SECOND], Path("my data"), tmp_path, [0, 1]), **options)


def test_runs_that_were_trained_on_other_data_are_refused(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    run = tmp_path / FIRST / "seed_0"
    run.mkdir(parents=True)
    known = {"split": "train", "samples": 5, "fingerprint": fingerprint(open_dataset("camvid", root, "train"))}
    (run / "run.json").write_text(json.dumps({"sessions": [], "data": {"splits": {"train": known}}}))
    ablation = of(tmp_path, root=root)
    ablation.check_data()
    (root / "train/train_000.png").write_bytes((root / "train/train_001.png").read_bytes() + b" ")
    with pytest.raises(UserError, match=r"seed_0 was trained on other data, as its split 'train' tells"):
        ablation.check_data()
    now = {**known, "fingerprint": fingerprint(open_dataset("camvid", root, "train"))}
    sessions = [{"data": {"splits": {"train": now}}}]  # it was resumed on them
    (run / "run.json").write_text(json.dumps({"sessions": sessions, "data": {"splits": {"train": known}}}))
    ablation.check_data()


def test_the_commands(tmp_path: Path) -> None:
    found = of(
        tmp_path, overrides=["training.batch=4"], plugins=["mine"], cache=Path("c"), devices=2, precision="float32"
    )
    train = make_parser().parse_args(found.train_command(found.runs[1])[3:])
    assert (train.recipe, train.root, train.cache, train.out) == (
        FIRST,
        Path("my data"),
        Path("c"),
        tmp_path / FIRST / "seed_1",
    )
    assert (train.set, train.devices, train.plugin) == (["training.batch=4", "seed=1"], 2, ["mine"])
    assert train.resume
    evaluate = make_parser().parse_args(found.evaluate_command(found.runs[1])[3:])
    assert (evaluate.model, evaluate.dataset, evaluate.split) == (str(tmp_path / FIRST / "seed_1"), "camvid", "val")
    assert (evaluate.root, evaluate.cache, evaluate.plugin) == (Path("my data"), Path("c"), ["mine"])
    assert (evaluate.out, evaluate.resume, evaluate.precision) == (tmp_path / FIRST / "seed_1/scores", True, "float32")


def test_partial_results_of_another_protocol_are_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = (before := of(tmp_path, precision="float32", device="cpu")).runs[0]
    settings = {**plain(run.recipe.evaluation), "dataset": "camvid", "split": "val", "device": "cpu"}
    settings["gffnet"] = gffnet.__version__
    data: Any = [(np.zeros((4, 4, 3)), np.zeros((4, 4)))]
    partial = PartialResults(run.scores / PARTIAL_FOLDER, {**settings, "precision": "float32"}, data)
    partial.save([PartialScores(3)])
    (run.scores / PARTIAL_FOLDER / f"{'0' * 16}.npz").write_bytes(b"damaged")
    assert "--resume" in before.evaluate_command(run)
    assert "--resume" in of(tmp_path).evaluate_command(run)
    assert "--resume" not in of(tmp_path, precision="bfloat16").evaluate_command(run)
    assert "--resume" not in of(tmp_path, split="test").evaluate_command(run)
    of_weights = PartialResults(run.scores / PARTIAL_FOLDER, {**partial.settings, "weights_sha256": "other"}, data)
    of_weights.save([PartialScores(3)])
    assert "--resume" not in before.evaluate_command(run)
    of_weights.own.unlink()
    monkeypatch.setattr(gffnet, "__version__", "9.9")  # such partial results would be refused again and again
    assert "--resume" not in before.evaluate_command(run)


def test_the_plugins_of_a_recipe_are_named_where_its_model_is_loaded(tmp_path: Path) -> None:
    found = of(tmp_path, plugins=["mine"])
    run = dataclasses.replace(found.runs[0], recipe=dataclasses.replace(found.runs[0].recipe, plugins=("own", "mine")))
    assert make_parser().parse_args(found.evaluate_command(run)[3:]).plugin == ["mine", "own"]


def test_jobs_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "free_memory", lambda _: 10e9)
    peak = 4e9
    monkeypatch.setattr(module, "costs", lambda recipes, _: [{"macs": {FIRST: 1, SECOND: 2}[recipes[0][0]]}])
    measured = []

    def measure(_: Ablation, source: str, environment: dict[str, str], fold: str | None = None) -> dict[str, Any]:
        measured.append(source)
        return {"memory": {"peak": peak}}

    monkeypatch.setattr(Ablation, "measure", measure)
    assert of(tmp_path).slots(8) == [{"OMP_NUM_THREADS": "2"}] * 8
    assert of(tmp_path).slots() == [{"OMP_NUM_THREADS": "6"}] * 2  # 10 GB hold two of 4 GB
    peak = 1e9
    assert len(of(tmp_path).slots()) == 4  # as many as there are runs
    peak = 40e9
    assert len(of(tmp_path).slots()) == 1
    assert set(measured) == {SECOND}  # which takes most
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert of(tmp_path, device="cpu").slots() == [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}]


def test_gpus_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def visible(jobs: int | None = None, **options: Any) -> list[str]:
        return [slot["CUDA_VISIBLE_DEVICES"] for slot in of(tmp_path, **options).slots(jobs)]

    assert visible() == ["0", "1", "2", "3"]
    assert visible(devices=2) == ["0,1", "2,3"]
    assert visible(6) == ["0", "1", "2", "3", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert visible(devices=2) == ["4,5", "6,7"]
    assert visible(1, device="cpu") == [""]


def test_the_plan(prepared: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    (prepared / "gffnet_r18/seed_0/fail").touch()
    assert main(words(tmp_path)) == 1
    capsys.readouterr()
    monkeypatch.setattr(Ablation, "measure", lambda *_: {"seconds_per_iteration": 0.5, "iterations": 30_000})
    started(prepared)
    assert main(words(tmp_path, "--plan", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [(each["recipe"], each["states"], each["seconds"]) for each in plan["recipes"]] == [
        (FIRST, ["done", "done"], 0),
        (SECOND, ["to be trained", "done"], 15_000),
    ]
    assert plan["seconds"] == 15_000
    assert main(words(tmp_path, "--plan")) == 0
    assert "about 4:10:00" in capsys.readouterr().out
    assert started(prepared) == []

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ablation, "measure", interrupted)
    assert main(words(tmp_path, "--plan")) == 130
    listed = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    number = f"{load_recipe(SECOND).training.iterations:,}"
    assert [SECOND, "0", "to", "be", "trained", number] in listed  # before anything is measured
    assert [SECOND, "1", "done", "0"] in listed


def test_a_recipe_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import json, sys; print(json.dumps(sys.argv[1:])); open(sys.argv[1], 'a').write('x')"
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-S", "-c", program, str(tmp_path / "count")))
    found = of(tmp_path, overrides=["training.batch=4"])
    command: Any = [found.measure(FIRST, {"OMP_NUM_THREADS": "1"}) for _ in range(2)][1]
    assert (tmp_path / "count").read_text() == "x"
    arguments = make_parser().parse_args(command[1:])
    assert (arguments.recipe, arguments.plan, arguments.quick, arguments.json) == (FIRST, True, True, True)
    found.measure(SECOND, {"OMP_NUM_THREADS": "1"})
    found.measure(SECOND, {"OMP_NUM_THREADS": "2"})
    assert (tmp_path / "count").read_text() == "xxx"
    of_fold: Any = found.measure(FIRST, {"OMP_NUM_THREADS": "1"}, "0006R0")  # a data set may have folds only
    arguments = make_parser().parse_args(of_fold[1:])
    assert arguments.set == ["training.batch=4", "data.train_split=without_0006R0", "data.val_split=only_0006R0"]


def test_recipes_of_one_table_are_evaluated_in_one_way(tmp_path: Path) -> None:
    """Scores of different protocols cannot be compared."""
    flipped = tmp_path / "flipped.yaml"
    flipped.write_text(f"base: {SECOND}\nevaluation: {{flip: true, scales: [0.5, 1]}}\n")
    recipes = [FIRST, str(flipped)]
    with pytest.raises(UserError, match=r"scales \[0\.5, 1\.0\].* of one protocol.*--set evaluation\.scales=\[1\.0\]"):
        _ = of(tmp_path, recipes=recipes).runs
    with pytest.raises(UserError, match=r"flip True, and .* with False.*--set evaluation\.flip=false"):
        _ = of(tmp_path, recipes=recipes, overrides=["evaluation.scales=[1]"]).runs
    assert of(tmp_path, recipes=recipes, overrides=["evaluation.scales=[1]", "evaluation.flip=true"]).runs

    # windows that follow from the training images: all of the same, which are not known yet
    fpn = tmp_path / "fpn.yaml"
    fpn.write_text("base: folder/gffnet_r18\nmodel: {fusion: fpn}\n")
    recipes = ["folder/gffnet_r18", str(fpn)]
    assert of(tmp_path, recipes=recipes).runs
    with pytest.raises(UserError, match=r"crop None, and .*--set evaluation\.crop=null"):
        _ = of(tmp_path, recipes=["folder/gffnet_r18", "folder/pspnet_lite0"]).runs
    fpn.write_text("base: folder/gffnet_r18\nmodel: {fusion: fpn}\ntraining: {max_crop: 256}\n")
    with pytest.raises(UserError, match=r"crop auto, at most 256, and .* at most 512.*--set evaluation\.crop=null"):
        _ = of(tmp_path, recipes=recipes).runs
    assert of(tmp_path, recipes=recipes, overrides=["training.crop=[256,256]"]).runs


def test_earlier_runs_of_another_protocol_are_not_in_the_table(prepared: Path, tmp_path: Path) -> None:
    assert main(words(tmp_path)) == 0
    out = tmp_path / "out"
    assert "PSPNet + GFF" in (out / "ablation.md").read_text()
    for recipe in out.glob(f"{SECOND}/*/recipe.yaml"):
        mapping = yaml.safe_load(recipe.read_text())
        mapping["evaluation"]["flip"] = True
        recipe.write_text(yaml.safe_dump(mapping))
    assert main(["ablation", FIRST, *words(tmp_path)[3:]]) == 0
    assert "PSPNet + GFF" not in (out / "ablation.md").read_text()


def test_iterations_that_follow_from_the_data_are_known_once_a_run_has_started(tmp_path: Path) -> None:
    found = of(tmp_path, overrides=["training.iterations=auto"])
    shown = module._Shown(found.runs)
    assert shown.progress() == (0, None)
    first = found.runs[0]
    assert first.iterations is None
    first.folder.mkdir(parents=True)
    recipe = dataclasses.replace(first.recipe, training=dataclasses.replace(first.recipe.training, iterations=1500))
    (first.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping()))
    (first.folder / "history.jsonl").write_text('{"iteration": 400}\n')
    assert first.iterations == 1500
    assert shown.progress() == (400, 4 * 1500)  # those of the other three as of the first


def test_processes_are_ended_where_there_are_neither_groups_nor_sigkill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "killpg")
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    module._kill(process)
    assert process.wait(10) != 0
    monkeypatch.delattr(signal, "SIGKILL")
    assert module._reason("train", 3, tmp_path / "log").startswith("train ended with exit code 3")
    assert "memory" in module._reason("train", -9, tmp_path / "log")


# Mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipes": [FIRST, FIRST]}, f"recipe {FIRST} is there twice"),
        (
            {"recipes": ["a/mine.yaml", "b/mine.yaml"]},
            r"recipe mine is there twice: name every recipe once; rename one of a/mine\.yaml and b/mine\.yaml",
        ),
        ({"recipes": [FIRST, "streets/gffnet_r18"]}, "is of streets .*, and camvid/pspnet_r18 of camvid"),
        ({"recipes": ["cityscapes/gffnet_r101", "cityscapes/gffnet_r101_trainval"]}, r"train: train\+val"),
        ({"recipes": [FIRST, "camvid/gffnet_18"]}, "Did you mean 'camvid/gffnet_r18'"),
        ({"seeds": [1, 1]}, "seed 1 is there twice"),
        ({"overrides": ["seed=3"]}, "--seeds"),
        ({"overrides": ["training.lr=3"]}, "training.learning_rate"),
        ({"folds": ["A", "A"]}, "fold A is there twice"),
        ({"folds": [""]}, "--folds '': a fold has a name"),
        ({"folds": ["A"], "split": "val"}, "--split: the splits of --folds are without_FOLD and only_FOLD"),
        (
            {"folds": ["A"], "overrides": ["data.train_split=test"]},
            r"--set data\.train_split .*leave one of the two out",
        ),
        ({"device": "cuda:1"}, "--device cuda:1"),
        ({"device": "cuda"}, "device 'cuda' cannot be used here: torch finds no GPU|built for CPUs"),
        ({"devices": 0}, "--devices 0: it must be the number"),
        ({"devices": 3}, "training.batch 16 cannot be divided evenly among 3"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(
    options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=said):
        _ = of(tmp_path, **options).runs
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("--plan",), (), ("--folds", "0006R0")])
def test_data_that_are_not_there_are_refused_before_anything_starts(
    options: tuple[str, ...], tmp_path: Path, capsys: Captured
) -> None:
    assert main(words(tmp_path, "--root", str(tmp_path / "missing"), *options)) == 2
    assert f"data set 'camvid' at {tmp_path / 'missing'}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_of_another_recipe_are_refused(prepared: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(words(tmp_path)) == 0
    capsys.readouterr()
    assert main(words(tmp_path, "--set", "training.batch=4")) == 2
    assert "it differs in training.batch" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "expected"), [("3", [0, 1, 2]), ("0,1,5", [0, 1, 5]), ("7,", [7]), ("1", [0])])
def test_seeds(text: str, expected: list[int]) -> None:
    assert seeds(text) == expected


@pytest.mark.parametrize("text", ["0", "00", "", "a", "1,,2", "-1", "1.5", "2026"])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        seeds(text)


# The whole of it


@pytest.mark.slow
def test_an_interrupted_ablation_equals_an_unbroken_one(tmp_path: Path) -> None:
    """Two recipes, two seeds, killed by SIGTERM and by SIGKILL: the same table, and the same weights bit for bit."""
    write_streets(tmp_path / "data", 4, 2, (64, 128))
    recipes = []
    for name, model in {"pspnet": tiny.PSPNET, "gffnet": tiny.GFFNET}.items():
        mapping = tiny.recipe(model, iterations=60, checkpoint_every=2, validate_every=30).to_mapping()
        mapping["data"]["name"] = "streets"
        recipes.append(str(tmp_path / f"{name}.yaml"))
        Path(recipes[-1]).write_text(yaml.safe_dump(mapping))

    def command(out: str) -> list[str]:
        where = ["--root", str(tmp_path / "data"), "--out", str(tmp_path / out)]
        return ["ablation", *recipes, *where, "--seeds", "2", "--jobs", "2"]

    assert main(command("whole")) == 0
    for number, name in (signal.SIGTERM, "pspnet"), (signal.SIGKILL, "gffnet"):
        process = Forked(command("broken"), tmp_path / "log")
        assert process.process.pid
        wait_for(lambda name=name: any((tmp_path / "broken" / name).glob("*/checkpoints/last.ckpt")))  # type: ignore[misc]
        os.kill(process.process.pid, number)
        assert process.wait()[0] in {1, -9}
    assert not all((tmp_path / f"broken/gffnet/seed_{seed}/model").exists() for seed in (0, 1))
    assert main(command("broken")) == 0
    for run in ("pspnet/seed_0", "pspnet/seed_1", "gffnet/seed_0", "gffnet/seed_1"):
        whole, broken = (load_file(tmp_path / out / run / "model/model.safetensors") for out in ("whole", "broken"))
        assert whole.keys() == broken.keys()
        assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert (tmp_path / "whole/ablation.md").read_text() == (tmp_path / "broken/ablation.md").read_text()
