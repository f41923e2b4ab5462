"""What `gffnet train` passes on and says."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.cli.main import main, make_parser
from gffnet.cli.train import say_next
from gffnet.training.train import default_out
from tests import tiny


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which `train` would have been called; it leaves a recipe in the run folder."""
    calls: list[dict[str, Any]] = []

    def train(recipe: str, root: Path, out: Path | None, **options: Any) -> Path:
        out = default_out(recipe, options["overfit"]) if out is None else out
        calls.append({"recipe": recipe, "root": root, "out": out, **options})
        out.mkdir(parents=True, exist_ok=True)
        (out / "recipe.yaml").write_text(yaml.safe_dump(tiny.recipe().to_mapping()))
        return out

    monkeypatch.setattr("gffnet.training.train.train", train)
    return calls


def test_the_arguments(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--root", "my data", "--set", "training.batch=4", "--resume", "--devices", "2", "--wandb", "mine"]
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "camvid/gffnet_r18", *words]) == 0
    assert calls[0] == {
        "recipe": "camvid/gffnet_r18",
        "root": Path("my data"),
        "out": Path("runs/camvid/gffnet_r18"),
        "overrides": ["training.batch=4"],
        "resume": True,
        "extend": None,
        "cache": None,
        "devices": 2,
        "overfit": None,
        "wandb": "mine",
    }
    evaluate, predict = (
        make_parser().parse_args(shlex.split(line.partition("gffnet ")[2])) for line in caplog.messages
    )
    assert (evaluate.model, evaluate.dataset, evaluate.root) == ("runs/camvid/gffnet_r18", "camvid", Path("my data"))
    assert (predict.model, predict.inputs) == ("runs/camvid/gffnet_r18", [Path("IMAGE")])


def make_run(folder: Path, val_split: str = "val", **arguments: Any) -> Path:
    """A run folder with its recipe and its record."""
    folder.mkdir(parents=True)
    mapping = tiny.recipe().to_mapping()
    mapping["data"]["val_split"] = val_split
    (folder / "recipe.yaml").write_text(yaml.safe_dump(mapping))
    record = {"recipe": "mine/tiny", "data": {"splits": {}}, "arguments": arguments, "sessions": []}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_is_resumed_with_what_it_records(
    calls: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("my data", "cached"):
        (tmp_path / folder).mkdir()
    run = make_run(tmp_path / "run", root=f"{tmp_path}/my data", devices=2, cache=f"{tmp_path}/cached")
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "--resume", str(run), "--extend", "5"]) == 0
    assert calls[0] == {
        "recipe": run / "recipe.yaml",
        "root": tmp_path / "my data",
        "out": run,
        "overrides": [],
        "name": "mine/tiny",
        "resume": True,
        "extend": 5,
        "cache": tmp_path / "cached",
        "devices": 2,
        "overfit": None,
        "wandb": None,
    }
    assert caplog.messages[0] == f"score it: gffnet evaluate --model {run} --dataset camvid --root '{tmp_path}/my data'"
    options = ["--root", "moved", "--cache", "new", "--devices", "1", "--set", "training.workers=1"]
    assert main(["train", "--resume", str(run), *options]) == 0
    changed = {"overrides": ["training.workers=1"], "root": Path("moved"), "cache": Path("new"), "devices": 1}
    assert calls[1] == {**calls[0], "extend": None, **changed}


def test_a_split_of_another_name_is_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path / "run", "my fold")
    with caplog.at_level("INFO", logger="gffnet"):
        say_next(run, Path("data"))
    line = f"score it: gffnet evaluate --model {run} --dataset camvid --root data --split 'my fold'"
    assert caplog.messages[0] == line


def test_a_finished_run_whose_data_are_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path / "run")
    with caplog.at_level("INFO", logger="gffnet"):
        say_next(run, None)
    assert caplog.messages[0] == f"score it: gffnet evaluate --model {run} --dataset camvid --root DIR"


def test_data_that_have_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", root="/gone")
    assert main(["train", "--resume", str(run)]) == 2
    assert f"--resume {run}: its --root was /gone, which is gone. Say where it is now: --root DIR." in (
        capsys.readouterr().err.replace("\n", " ")
    )


def test_a_run_of_python_is_resumed_in_python(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "python": {"loss": "mine.my_loss"}}))
    assert main(["train", "--resume", str(run), "--extend", "5"]) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "the run was started in Python with its loss (mine.my_loss)" in said
    assert f"gffnet.train(..., out='{run}', resume=True, extend=5)" in said
    assert calls == []


def test_torchrun_decides_on_the_devices(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "GROUP_RANK", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
    assert main(["train", "--resume", str(make_run(tmp_path / "run", devices=2))]) == 0
    assert calls[0]["devices"] is None


def test_resume_before_the_recipe_is_that_of_the_recipe(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "camvid/gffnet_r18"]) == 0
    assert (calls[0]["recipe"], calls[0]["resume"]) == ("camvid/gffnet_r18", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "RECIPE is missing: gffnet train RECIPE --root DIR, with a name such as camvid/gffnet_r18"),
        ("--resume", "or gffnet train --resume RUN."),
        ("runs/x --resume", "runs/x is a run folder, not a recipe. To resume the run: gffnet train --resume runs/x."),
        ("runs/x", "gffnet train runs/x/recipe.yaml --out another folder."),
        ("camvid/gffnet_r18 --resume runs/x", "or with gffnet train camvid/gffnet_r18 --out runs/x --resume."),
        ("--resume runs/x --out y", "--out does not go with --resume runs/x, which continues in runs/x what was"),
        ("--resume runs/x --plan", "--plan does not go with --resume runs/x"),
        ("--resume runs/x --overfit 2", "--overfit does not go with --resume runs/x"),
        ("--resume x", "--resume x: there is no run in this folder. Did you mean runs/x?"),
        ("--resume runs/x/checkpoints/last.ckpt", "Did you mean runs/x?"),
        ("--resume gone", "--resume gone: there is no run in this folder. It has no recipe.yaml and run.json."),
    ],
)
def test_a_recipe_in_place_of_a_run_and_the_reverse(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/x"))
    assert main(["train", *words.split()]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_overfitting_is_a_run_of_its_own_without_next_commands(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "mine/tiny.yaml", "--root", "data", "--overfit", "2"]) == 0
    assert (calls[0]["out"], calls[0]["overfit"]) == (Path("runs/tiny_overfit_2"), 2)
    assert caplog.records == []
