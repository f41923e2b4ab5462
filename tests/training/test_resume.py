"""Interrupted runs: what they save, where they resume, and that the result is that of an uninterrupted run."""

import dataclasses
import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet.cli.main import main
from gffnet.errors import Stopped, UserError
from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.training import kills
from tests.training.processes import Forked

TIMES = {"images_per_second", "seconds", "memory"}


class PowerCut(Exception):
    """Ends a run at a given place."""


def run(out: Path, root: Path, recipe: Recipe | None = None, resume: bool = False) -> Path:
    return train(recipe or tiny.recipe(), root, out, resume=resume, progress=False)


def history(run_folder: Path) -> list[dict[str, Any]]:
    """The history without what depends on the clock."""
    lines = read_history(run_folder / "history.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def weights(run_folder: Path) -> dict[str, bytes]:
    return {name: (run_folder / name / "model.safetensors").read_bytes() for name in ("model", "best")}


def saved_iteration(run_folder: Path) -> int:
    return int(torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)["global_step"])


def assert_same(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    assert weights(one) == weights(other)


def before_step(patch: pytest.MonkeyPatch, step: str, iteration: int, index: int | None, act: Any) -> None:
    """Call `act` before a step of the task at an iteration and, of a validation, at an image."""
    real = getattr(SegmentationTask, step)

    def patched(self: SegmentationTask, batch: Any, i: int) -> Any:
        if self.global_step == iteration and index in {None, i}:
            act()
        return real(self, batch, i)

    patch.setattr(SegmentationTask, step, patched)


def interrupt(
    out: Path, root: Path, recipe: Recipe | None, iteration: int, step: str = "training_step", image: int | None = None
) -> None:
    """Train, or resume, until an iteration."""

    def fail() -> None:
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):  # noqa: PT012
        before_step(patch, step, iteration, image, fail)
        run(out, root, recipe, resume=True)


def record_iterations(patch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every iteration that is trained from now on is added."""
    trained: list[int] = []
    real = SegmentationTask.training_step

    def recording(self: SegmentationTask, batch: Any, i: int) -> Any:
        trained.append(self.global_step)
        return real(self, batch, i)

    patch.setattr(SegmentationTask, "training_step", recording)
    return trained


@pytest.mark.parametrize(
    ("step", "iteration", "image", "saved"),
    [
        pytest.param("training_step", 0, None, 0, marks=pytest.mark.slow),
        ("training_step", 3, None, 2),
        ("validation_step", 4, 1, 2),
        pytest.param("validation_step", 6, 2, 4, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    step: str,
    iteration: int,
    image: int | None,
    saved: int,
    tmp_path: Path,
    camvid: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(tmp_path, camvid, None, iteration, step, image)
    assert not (tmp_path / "model").exists()
    assert (saved_iteration(tmp_path) if saved else 0) == saved
    trained = record_iterations(monkeypatch)
    run(tmp_path, camvid, resume=True)
    assert trained == [*range(saved, 6)]
    assert_same(tmp_path, whole)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.ckpt"]


@pytest.mark.slow
def test_interrupted_at_every_iteration(tmp_path: Path, camvid: Path) -> None:
    """With checkpoints between validations and within the iterations of one line of the history."""
    recipe = tiny.recipe(tiny.GFFNET, validate_every=4, checkpoint_every=1, ema=0.9, device_batch=1, clip_gradients=1)
    for iteration in (1, 3, 5):
        interrupt(tmp_path / "broken", camvid, recipe, iteration)
        assert saved_iteration(tmp_path / "broken") == iteration
    run(tmp_path / "broken", camvid, recipe, resume=True)
    assert_same(tmp_path / "broken", run(tmp_path / "whole", camvid, recipe))


OPTIONS: list[dict[str, Any]] = [
    {"loss": {"ohem": 0.7, "class_weighting": "median_frequency"}, "optimizer": "lion", "learning_rate": 1e-4},
    {"loss": {"class_weighting": "enet", "label_smoothing": 0.1}, "optimizer": "lamb", "class_balance": 0.5},
    {"loss": {"class_weights": [1.0] * 11}, "optimizer": "nesterov", "decay_norms_and_biases": False, "ema": 0.9},
]


@pytest.mark.parametrize(
    "options", [OPTIONS[0], *(pytest.param(of, marks=pytest.mark.slow) for of in OPTIONS[1:])], ids=str
)
def test_every_option_trains_and_resumes(options: dict[str, Any], tmp_path: Path, camvid: Path, whole: Path) -> None:
    recipe = tiny.recipe(**{"iterations": 4, "validate_every": 2, **options})
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 3)
    run(tmp_path / "broken", camvid, recipe, resume=True)
    assert_same(tmp_path / "broken", one)
    assert history(one)[0] != history(whole)[0]


def test_a_seed_determines_everything(tmp_path: Path, camvid: Path, whole: Path) -> None:
    assert_same(run(tmp_path / "again", camvid, resume=True), whole)  # `resume` of nothing starts
    other = tiny.recipe_from_mapping({**tiny.recipe().to_mapping(), "seed": 1}, "tests")
    assert weights(run(tmp_path / "other", camvid, other)) != weights(whole)


def test_a_run_folder_may_be_moved(tmp_path: Path, camvid: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "here", camvid, None, 5)
    (tmp_path / "here").rename(tmp_path / "there")
    trained = record_iterations(monkeypatch)
    assert_same(run(tmp_path / "there", camvid, resume=True), whole)
    assert trained == [4, 5]


def test_interrupted_after_the_last_iteration(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(validate_every=4)  # so that the last validation comes after training
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 6, "validation_step", 1)
    trained = record_iterations(monkeypatch)
    assert_same(run(tmp_path / "broken", camvid, recipe, resume=True), one)
    assert trained == []


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its checkpoint was deleted to save space, and its data set is gone."""
    finished = run(tmp_path / "run", camvid, tiny.recipe(iterations=2))
    before = weights(finished), history(finished)
    (finished / "checkpoints/last.ckpt").unlink()
    trained = record_iterations(monkeypatch)
    assert run(finished, tmp_path / "gone", tiny.recipe(iterations=2), resume=True) == finished
    assert (trained, weights(finished), history(finished)) == ([], *before)
    with pytest.raises(UserError, match=r"already holds a run\. Resume it with --resume"):
        run(finished, camvid, tiny.recipe(iterations=2))
    with pytest.raises(UserError, match=r"training\.iterations, training\.learning_rate"):
        run(finished, camvid, tiny.recipe(iterations=4, learning_rate=0.5), resume=True)


def test_the_run_that_initialised_it_may_be_gone(tmp_path: Path, camvid: Path, whole: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "model").symlink_to(whole / "model")
    recipe = tiny.recipe(tiny.GFFNET, init_from=str(first), iterations=2, validate_every=1)
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 1)
    first.rename(tmp_path / "elsewhere")
    assert_same(run(tmp_path / "broken", camvid, recipe, resume=True), one)


# Extended runs


def extend(out: Path, root: Path, iterations: int, recipe: Recipe | None = None) -> Path:
    return train(recipe or tiny.recipe(), root, out, resume=True, extend=iterations, progress=False)


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


OF_EACH_KIND: list[dict[str, Any]] = [
    {"validate_every": 4, "checkpoint_every": 1},
    {"schedule": "one_cycle", "ema": 0.9, "optimizer": "adamw", "learning_rate": 1e-3},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OF_EACH_KIND, ids=str)
def test_an_interrupted_extension_ends_like_an_uninterrupted_one(
    options: dict[str, Any], tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(**options)
    one = run(tmp_path / "one", camvid, recipe)
    other, before = Path(shutil.copytree(one, tmp_path / "other")), weights(one)["model"]
    trained = record_iterations(monkeypatch)
    extend(one, camvid, 5, recipe)
    assert trained == [*range(6, 11)]
    assert weights(one)["model"] != before

    def cut() -> None:
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):  # noqa: PT012
        before_step(patch, "training_step", 9, None, cut)
        extend(other, camvid, 5, recipe)
    assert weights(other)["model"] == before  # until there is another
    run(other, camvid, recipe, resume=True)  # the recipe of before
    assert_same(one, other)
    assert yaml.safe_load((other / "recipe.yaml").read_text())["training"]["iterations"] == 11
    assert record(one)["extensions"] == record(other)["extensions"] == [{"from": 6, "to": 11, "at": 6}]
    trained.clear()
    run(other, camvid, tiny.recipe(**{**options, "iterations": 11}), resume=True)
    assert trained == []


def test_an_extension_that_ends_before_its_model_is_written_is_not_finished(
    tmp_path: Path, camvid: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    before = weights(out)["model"]

    def cut(*_: Any) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr("gffnet.training.train.save_model", cut)
        with pytest.raises(PowerCut):
            extend(out, camvid, 2)
    assert torch.load(out / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    assert weights(out)["model"] == before
    trained = record_iterations(monkeypatch)
    run(out, camvid, resume=True)
    assert trained == []
    assert weights(out)["model"] != before
    sessions = len(record(out)["sessions"])
    run(out, camvid, resume=True)
    assert len(record(out)["sessions"]) == sessions


def test_an_extended_run_has_the_schedule_of_all_iterations(
    tmp_path: Path, camvid: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, rates = Path(shutil.copytree(whole, tmp_path / "run")), []
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", logger="gffnet"):
        real = torch.optim.SGD.step

        def recording(self: Any, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return real(self, closure)

        patch.setattr(torch.optim.SGD, "step", recording)
        extend(out, camvid, 4)
    assert rates == pytest.approx([0.01 * (1 - i / 10) ** 0.9 for i in range(6, 10)])
    assert (
        "extended from 6 to 10 iterations. The schedule is that of 10 from iteration 6 on, with learning rate "
        "0.00438 (backbone), 0.0438 (new layers)"
    ) in caplog.messages


def test_an_interrupted_run_may_be_extended(
    broken: Path, camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = record_iterations(monkeypatch)
    extend(broken, camvid, 2)
    assert trained == [*range(2, 8)]
    extend(broken, camvid, 1)
    run(broken, camvid, resume=True)
    assert trained == [*range(2, 9)]
    assert [(each["from"], each["to"]) for each in record(broken)["extensions"]] == [(6, 8), (8, 9)]


def test_an_extension_does_not_forget_the_best_score(tmp_path: Path, camvid: Path) -> None:
    """That after the last iteration is known to the history only, where validations are not due then."""
    recipe = tiny.recipe(validate_every=4)
    out = run(tmp_path, camvid, recipe)
    lines = read_history(out / "history.jsonl")
    lines[-1]["miou"] = 0.99
    (out / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    best = weights(out)["best"]
    assert weights(extend(out, camvid, 4, recipe))["best"] == best


def test_runs_that_cannot_be_extended(tmp_path: Path, camvid: Path, whole: Path) -> None:
    with pytest.raises(UserError, match=r"--extend: .*/new holds no checkpoint\. Train first"):
        extend(tmp_path / "new", camvid, 4)
    with pytest.raises(UserError, match=r"--extend 0: the number of further iterations must be 1 or more"):
        extend(whole, camvid, 0)
    with pytest.raises(UserError, match=r"--extend 4 trains a run further: it goes with --resume"):
        train(tiny.recipe(), camvid, whole, extend=4, progress=False)
    more = r"a run of 6 iterations, and training\.iterations is 9\. .*: gffnet train --resume .*/whole --extend 3\."
    with pytest.raises(UserError, match=more):
        run(whole, camvid, tiny.recipe(iterations=9), resume=True)
    with pytest.raises(UserError, match=r"a run of 6 iterations, and training\.iterations is 4\. It cannot have fewer"):
        run(whole, camvid, tiny.recipe(iterations=4), resume=True)
    with pytest.raises(
        UserError, match=r"differs in training\.iterations, training\.validate_every\. .*use --extend N"
    ):
        run(whole, camvid, tiny.recipe(iterations=9, validate_every=3), resume=True)
    with pytest.raises(UserError, match=r"differs in training\.learning_rate"):
        extend(whole, camvid, 4, tiny.recipe(learning_rate=0.5))
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / "checkpoints/last.ckpt").unlink()
    with pytest.raises(
        UserError, match=r"last\.ckpt, with the state of the optimiser, is gone: .*init_from=.*/copy and .*init=all"
    ):
        extend(copy, camvid, 4)


def test_a_run_resumes_by_its_folder_alone(
    tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another current folder, too."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tiny.recipe().to_mapping()))
    (tmp_path / "data").symlink_to(camvid)
    monkeypatch.chdir(tmp_path)

    def cut() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, "training_step", 3, None, cut)
        words = ["train", "mine.yaml", "--root", "data", "--set", "training.learning_rate=0.02", "--overfit", "2"]
        assert main([*words, "--set", "training.iterations=6", "--out", "run"]) == 130
    assert "resume it with gffnet train --resume run" in capsys.readouterr().err
    trained = record_iterations(monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--resume", "../run"]) == 0
    assert main(["train", "--resume", "../run", "--extend", "2"]) == 0
    assert trained == [*range(8)]
    found = record(tmp_path / "run")
    assert found["arguments"] == {"root": str(tmp_path / "data"), "overfit": 2}
    assert found["recipe"] == "mine.yaml"
    assert main(["train", "--resume", "../run", "--set", "training.learning_rate=0.5"]) == 2
    assert "differs in training.learning_rate" in capsys.readouterr().err


# Signals


def send(*numbers: int) -> Any:
    def kill() -> None:
        for number in numbers:
            signal.raise_signal(number)
            for _ in range(1000):  # where the interpreter looks for signals, so that two are not taken for one
                pass

    return kill


@pytest.mark.parametrize(
    ("number", "error", "received", "saved"),
    [(signal.SIGTERM, Stopped, 1, 1), (signal.SIGINT, KeyboardInterrupt, 2, 2)],
)
def test_the_iteration_is_finished_and_saved(
    number: int,
    error: type[BaseException],
    received: int,
    saved: int,
    tmp_path: Path,
    camvid: Path,
    whole: Path,
) -> None:
    """Where a validation follows the iteration (2), that is finished, too."""
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(error, match=r"--resume"):  # noqa: PT012
        before_step(patch, "training_step", received - 1, None, send(number))
        run(tmp_path, camvid)
    assert {name: signal.getsignal(name) for name in before} == before
    assert saved_iteration(tmp_path) == saved
    assert_same(run(tmp_path, camvid, resume=True), whole)


def test_a_signal_stops_a_run_that_validates_after_every_iteration(tmp_path: Path, camvid: Path) -> None:
    recipe = tiny.recipe(validate_every=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped, match="after iteration 2"):  # noqa: PT012
        before_step(patch, "training_step", 1, None, send(signal.SIGTERM))
        run(tmp_path, camvid, recipe)
    assert saved_iteration(tmp_path) == 2


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle SIGINT as in the foreground: a shell makes its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    before_step(monkeypatch, "training_step", 3, None, send(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=rf"resume it with gffnet train --resume {tmp_path}"):
        run(tmp_path, camvid)
    assert saved_iteration(tmp_path) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_loading_processes_outlive_a_signal_to_the_group(tmp_path: Path, camvid: Path) -> None:
    """A terminal and a scheduler send the signal to all processes of the group."""
    file, out, ready = tmp_path / "tiny.yaml", tmp_path / "run", tmp_path / "ready"
    file.write_text(yaml.safe_dump(tiny.recipe(workers=1, iterations=20, validate_every=20).to_mapping()))

    def wait() -> None:
        ready.touch()
        time.sleep(0.5)

    process = Forked(
        ["train", file, "--root", camvid, "--out", out],
        tmp_path / "log",
        lambda: before_step(pytest.MonkeyPatch(), "training_step", 2, None, wait),
    )
    while not ready.exists():
        assert process.process.is_alive()
        time.sleep(0.02)
    process.kill(signal.SIGTERM)
    code, output = process.wait()
    assert code == 1, output
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert "stopped by SIGTERM" in last
    assert "--resume" in last
    assert saved_iteration(out) == 3
    assert json.loads((out / "run.json").read_text())["sessions"][0]["outcome"] == "interrupted"


@pytest.mark.slow
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path: Path, camvid: Path) -> None:
    """`python -m tests.training.kills` does this with twenty kills."""
    recipe = kills.recipe(iterations=20)
    one, killed = run(tmp_path / "whole", camvid, recipe), tmp_path / "killed"
    struck = list(kills.kills(2, killed, camvid, recipe, random.Random(3)))
    assert [kill.writing for kill in struck] == [False, True]
    assert kills.same(one, killed)


def test_a_resumed_run_keeps_the_precision_of_its_start(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(tiny.recipe(), precision="auto")
    monkeypatch.setenv("GFFNET_PRECISION", "bfloat16")
    interrupt(tmp_path / "run", camvid, recipe, 3)
    monkeypatch.setenv("GFFNET_PRECISION", "float32")
    run(tmp_path / "run", camvid, recipe, resume=True)
    sessions = json.loads((tmp_path / "run/run.json").read_text())["sessions"]
    assert [session["precision"] for session in sessions] == [
        {"name": "bfloat16", "reason": "as GFFNET_PRECISION says"},
        {"name": "bfloat16", "reason": "as recorded"},
    ]
