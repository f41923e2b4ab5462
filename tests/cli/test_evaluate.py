"""`gffnet evaluate`: its options, what it writes and prints, many processes, and resuming after it was killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gffnet
from gffnet.cli.main import main
from gffnet.evaluation.evaluate import PartialResults, evaluate
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import load_model, save_model
from gffnet.models.model_io import hash_weights
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.processes import Forked, free_port

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command that scores a tiny network on three images."""
    recipe = tiny.recipe(evaluation={"crop": [32, 48], "overlap": 0.25})
    save_model(tmp_path / "run/model", tiny.network(recipe), tiny.config(recipe))
    root = camvid_tree(tmp_path / "CamVid")
    places = ["--model", str(tmp_path / "run"), "--root", str(root)]
    return ["evaluate", "--dataset", "camvid", *places, "--device", "cpu", "--precision", "float32"]


def scores(out: Path) -> dict[str, Any]:
    """What was written, but for the speed."""
    read: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return {**read, "images_per_second": 0}


def test_all_is_written(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert main([*words, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        "scores.json",
        "scores.md",
        "scores.html",
        "images.csv",
        "confusion.csv",
    }
    found = scores(out)
    assert found["protocol"]["weights_sha256"] == hash_weights(load_model(tmp_path / "run")[0])
    rows = list(csv.DictReader((out / "images.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["val_000", "val_001", "val_002"]
    assert sum(int(row["pixels"]) for row in rows) == found["pixels"]
    printed = capsys.readouterr().out
    for text in ("accuracy", "boundary F, 3 px", "mIoU", f"{100 * found['miou']:.2f}", "paper", "no row for"):
        assert text in printed


@pytest.mark.parametrize(
    ("data", "options", "images"),
    [
        ({"name": "camvid", "val_split": "train"}, [], 5),
        ({"name": "camvid", "val_split": "train"}, ["--split", "valid"], 3),
        ({"name": "ade20k", "val_split": "train"}, [], 3),
        (None, [], 3),
        ("damaged", [], 3),
    ],
    ids=str,
)
def test_the_split_is_that_of_the_run(
    data: Any, options: list[str], images: int, words: list[str], tmp_path: Path
) -> None:
    mapping = {**tiny.recipe().to_mapping(), "data": data}
    if data is not None:
        (tmp_path / "run/recipe.yaml").write_text(json.dumps(mapping))
    assert main([*words, *options, "--no-details", "--out", str(tmp_path / "out")]) == 0
    assert scores(tmp_path / "out")["images"] == images


def test_it_says_how_it_computes(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gffnet"):
        assert main([*words, "--no-details"]) == 0
    assert caplog.messages == ["float32 on cpu: as asked"]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ([], {"crop": [32, 48], "overlap": 0.25, "scales": [1.0], "flip": False}),
        (["--crop", "none"], {"crop": None}),
        (["--crop", "16x24", "--overlap", "0.5"], {"crop": [16, 24], "overlap": 0.5}),
        (["--scales", "0.5", "1", "--flip"], {"scales": [0.5, 1.0], "flip": True}),
    ],
)
def test_the_protocol_is_the_recipes_unless_told_otherwise(
    options: list[str], changed: dict[str, Any], words: list[str], capsys: Captured
) -> None:
    assert main([*words, *options, "--no-details", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert changed.items() <= found["protocol"].items()
    assert "boundary_f" not in found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--crop", "8x8"], "greater than or equal to 16"),
        (["--crop", "whole"], "HxW"),
        (["--overlap", "1"], "from 0 to below 1"),
        (["--overlap", "much"], "from 0 to below 1"),
        (["--resume"], "--out DIR"),
    ],
)
def test_mistakes(options: list[str], said: str, words: list[str], capsys: Captured) -> None:
    assert main([*words, *options]) == 2
    assert said in capsys.readouterr().err


def test_interrupted_and_resumed(
    words: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path / "out")]
    predict, seen = Predictor.predict, []

    def stopped(self: Predictor, image: Any, protocol: Any) -> Any:
        if len(seen) == 1:
            os.kill(os.getpid(), stops[0])
            time.sleep(5)
        seen.append(1)
        return predict(self, image, protocol)

    stops = [signal.SIGTERM]
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Predictor, "predict", stopped)
    assert main([*words, *out]) == 1
    assert "stopped by SIGTERM. 1 of 3 images are scored and saved; resume with --resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    stops[0], seen[:] = signal.SIGINT, []
    assert main([*words, *out, "--resume"]) == 130
    assert "interrupted: 1 of 2 images are scored and saved" in capsys.readouterr().err
    monkeypatch.setattr(Predictor, "predict", predict)
    assert main([*words, *out, "--resume", "--flip"]) == 2
    assert "flip False then, True now" in capsys.readouterr().err
    assert main([*words, *out, "--resume"]) == 0
    assert "resuming: 2 images are scored" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert scores(tmp_path / "out") == scores(tmp_path / "whole")


@pytest.mark.parametrize("by", ["command", "function"])
def test_a_resumed_evaluation_keeps_the_precision_of_its_start(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    auto, out = [*words[:-1], "auto"], tmp_path / "out"
    predict, seen = Predictor.predict, []

    def stopped(self: Predictor, image: Any, protocol: Any) -> Any:
        seen.append(self.precision.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return predict(self, image, protocol)

    monkeypatch.setattr(Predictor, "predict", stopped)
    monkeypatch.setenv("GFFNET_PRECISION", "bfloat16")
    assert main([*auto, "--out", str(out)]) == 130
    monkeypatch.setenv("GFFNET_PRECISION", "float32")
    if by == "command":
        assert main([*auto, "--out", str(out), "--resume"]) == 0
    else:
        evaluate(tmp_path / "run", "camvid", tmp_path / "CamVid", out=out, resume=True, device="cpu")
    assert scores(out)["protocol"]["precision"] == "bfloat16"
    assert seen == ["bfloat16"] * 4


# In processes of their own


def start(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=pipe, text=True, env=environment)


def torchrun(*words: str) -> tuple[int, str, str]:
    """Exit code and what was printed by two processes of the command; 60 seconds at most."""
    run = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gffnet", *words)
    try:
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    return run.returncode, out, err


def ranks(words: list[str], folder: Path, program: Callable[[list[str]], int] = main) -> list[Forked]:
    """Two processes as `torchrun` would start them."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    return [
        Forked(words, folder / f"rank {i}", environment={**group, "RANK": str(i)}, program=program) for i in range(2)
    ]


def killed_before_the_third_image() -> None:
    """Let this process be killed there, with the results of the first two images saved."""
    predict, save, saved, seen = Predictor.predict, PartialResults.save, [], [0]

    def saving(self: PartialResults, variants: Any) -> None:
        save(self, variants)
        saved.append(len(variants[0].images))

    def killed(self: Predictor, image: Any, protocol: Any) -> Any:
        while max(saved) < seen[0]:
            time.sleep(0.01)
        if seen[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += 1
        return predict(self, image, protocol)

    patch = pytest.MonkeyPatch()
    patch.setattr("gffnet.evaluation.evaluate.SAVE_EVERY", 0.0)
    patch.setattr(PartialResults, "save", saving)
    patch.setattr(Predictor, "predict", killed)


def test_killed_and_resumed_with_more_processes(words: list[str], tmp_path: Path) -> None:
    """The one image that is left is fewer than the processes."""
    out = ["--out", str(tmp_path / "out")]
    code, said = Forked([*words, *out], tmp_path / "killed", killed_before_the_third_image).wait()
    assert code == -signal.SIGKILL, said
    ends = [process.wait() for process in ranks([*words, *out, "--resume"], tmp_path)]
    assert [code for code, _ in ends] == [0, 0], ends
    assert "resuming: 2 images are scored" in ends[0][1]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert scores(tmp_path / "out") == scores(tmp_path / "whole")
    for name in ("images.csv", "confusion.csv", "scores.md", "scores.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out/scored").exists()


def test_processes_that_would_compute_in_different_precisions(words: list[str], tmp_path: Path) -> None:
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    auto = [*words, "--precision", "auto"]
    faster = {0: "float32", 1: "bfloat16"}
    processes = [
        Forked(auto, tmp_path / f"rank {i}", environment={**group, "RANK": str(i), "GFFNET_PRECISION": faster[i]})
        for i in range(2)
    ]
    for code, said in [process.wait() for process in processes]:
        assert code == 2, said
        assert "precision auto is bfloat16 on some and float32 on other machines" in " ".join(said.split())


def evaluate_twice_and_once(words: list[str]) -> int:
    """Two evaluations in Python and one by the command; says how many images were predicted in the first two."""
    predict, predicted = Predictor.predict, []

    def counted(*given: Any) -> Any:
        predicted.append(1)
        return predict(*given)

    pytest.MonkeyPatch().setattr(Predictor, "predict", counted)
    model, root, out = (words[words.index(name) + 1] for name in ("--model", "--root", "--out"))
    for name in ("first", "second"):
        folder = Path(out).with_name(name)
        result = gffnet.evaluate(model, "camvid", root, out=folder, device="cpu", precision="float32")
    print(len(predicted), len(result.images), result.scores.miou, file=sys.stderr)
    return main(words)


def test_two_processes_score_what_one_does_and_one_of_them_speaks(
    words: list[str], tmp_path: Path, capsys: Captured
) -> None:
    """In Python twice, then by the command."""
    processes = ranks([*words, "--out", str(tmp_path / "two"), "--json"], tmp_path, evaluate_twice_and_once)
    ends = [process.wait() for process in processes]
    assert [code for code, _ in ends] == [0, 0], ends
    (first, *json_of), (second,) = (said.splitlines() for _, said in ends)
    assert json.loads("".join(json_of)) == json.loads((tmp_path / "two/scores.json").read_text())
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    for name in ("first", "second", "two"):
        assert scores(tmp_path / name) == scores(tmp_path / "one")
        assert (tmp_path / name / "images.csv").read_bytes() == (tmp_path / "one/images.csv").read_bytes()
    miou = str(scores(tmp_path / "one")["miou"])
    # Images that a process predicted in two evaluations, and those scored
    assert sorted([first, second]) == [f"2 3 {miou}", f"4 3 {miou}"]


@pytest.mark.slow
def test_a_failure_in_one_process_ends_all(words: list[str], tmp_path: Path) -> None:
    torn = tmp_path / "CamVid/val/val_001.png"
    torn.write_bytes(torn.read_bytes()[:-100])
    start = time.monotonic()
    code, out, err = torchrun(*words, "--out", str(tmp_path / "out"), "--json")
    assert code != 0
    assert out == ""
    assert f"error: cannot read image {torn}" in err
    assert time.monotonic() - start < 50
    assert not (tmp_path / "out/scores.json").exists()
