"""The record of a run: what every session leaves in it, however it ends."""

import json
import logging
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

import gffnet
from gffnet.data.camvid import CamVid
from gffnet.errors import CannotWrite, RunFailed
from gffnet.inference.precision import Precision
from gffnet.training import record
from gffnet.training.callbacks import History
from gffnet.training.record import RECORD, Facts, begin, end, recorded
from gffnet.training.run_folder import commit, hardware, versions
from gffnet.training.run_folder import describe_dataset as describe
from tests.data.trees import camvid_tree
from tests.training.test_history import Told


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def facts(root: Path, **more: Any) -> Facts:
    splits = {"train": ("train", CamVid(root, "train")), "val": ("val", CamVid(root, "val"))}
    return Facts("tests/tiny", "camvid", splits, 1234, Precision(torch.bfloat16, "for tests"), **more)


def at(folder: Path, iteration: int) -> History:
    """A history that came to an iteration."""
    history = History(folder, batch=2)
    history.iteration = iteration
    history.memory = 10**9
    return history


def stored(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / RECORD).read_text())
    return found


def test_a_session_is_recorded_while_it_runs_and_when_it_ends(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/gffnet", "train", "a recipe", "--set", "x=[1, 2]"])
    before = datetime.now(UTC) - timedelta(seconds=1)
    known = facts(root, processes=8, devices=4, nodes=2)
    with recorded(tmp_path / "run", known, at(tmp_path, 6)):
        running = stored(tmp_path / "run")
    assert {key: value for key, value in running.items() if key != "sessions"} == {
        "gffnet": gffnet.__version__,
        "recipe": "tests/tiny",
        "data": describe("camvid", known.splits),
        "parameters": 1234,
    }
    (session,) = running["sessions"]
    began = session.pop("started")
    assert before <= datetime.fromisoformat(began) <= datetime.now(UTC)
    assert datetime.fromisoformat(began).utcoffset() == timedelta(0)
    assert session == {
        **{"ended": None, "outcome": None, "from_iteration": 0, "to_iteration": None, "data": None},
        **{"images_per_second": None, "memory": None, "processes": 8, "devices": 4, "nodes": 2},
        "command": "gffnet train 'a recipe' --set 'x=[1, 2]'",
        "precision": {"name": "bfloat16", "reason": "for tests"},
        **{"versions": versions(), "git": commit(), "hardware": hardware()},
    }
    finished = stored(tmp_path / "run")
    (done,) = finished["sessions"]
    assert datetime.fromisoformat(began) <= datetime.fromisoformat(done["ended"]) <= datetime.now(UTC)
    assert (done["outcome"], done["to_iteration"], done["memory"]) == ("finished", 6, 10**9)
    assert {**done, "started": began} == {
        **{"started": began, **session, "ended": done["ended"]},
        **{"outcome": "finished", "to_iteration": 6, "memory": 10**9},
    }


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt("go on"), "interrupted"),
        (SystemExit(1), "interrupted"),
        (RunFailed("the loss\nhas diverged"), "failed: the loss has diverged"),
        (RuntimeError("what?"), "failed: RuntimeError: what?"),
        (RunFailed("long" * 1000), f"failed: {'long' * 250}"),
    ],
)
def test_how_a_session_ends(error: BaseException, outcome: str, tmp_path: Path, root: Path) -> None:
    with pytest.raises(type(error)) as caught, recorded(tmp_path, facts(root), at(tmp_path, 3)):
        raise error
    assert caught.value is error
    (session,) = stored(tmp_path)["sessions"]
    assert (session["outcome"], session["to_iteration"]) == (outcome, 3)
    assert session["ended"] is not None


def test_every_session_has_its_entry(tmp_path: Path, root: Path) -> None:
    """One that was killed has no end."""
    assert begin(tmp_path, facts(root)) == []
    with recorded(tmp_path, facts(root), at(tmp_path, 20), 10):
        pass
    with recorded(tmp_path, facts(root), at(tmp_path, 0), 20):  # broken off before its first iteration
        pass
    sessions = stored(tmp_path)["sessions"]
    assert [session["ended"] is None for session in sessions] == [True, False, False]
    assert [(session["from_iteration"], session["to_iteration"]) for session in sessions] == [
        *((0, None), (10, 20), (20, 20))
    ]


@pytest.mark.parametrize("failed", [False, True])
def test_the_logs_are_closed(failed: bool, tmp_path: Path, root: Path) -> None:
    told = Told()
    history = History(tmp_path, batch=2, logs=[told])
    with suppress(RunFailed), recorded(tmp_path, facts(root), history):
        assert told.calls == []
        if failed:
            raise RunFailed("x")
    assert told.calls == [("close", failed)]


def test_processes_but_the_first_write_nothing(tmp_path: Path, root: Path) -> None:
    with recorded(tmp_path / "run", facts(root), at(tmp_path, 3), writes=False):
        pass
    with pytest.raises(RunFailed), recorded(tmp_path / "run", facts(root), at(tmp_path, 3), writes=False):
        raise RunFailed("x")
    assert not (tmp_path / "run").exists()


# Data that change


def test_data_that_change_are_said_with_both_counts(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin(tmp_path, facts(root))
    before = stored(tmp_path)["data"]
    listed = root / "train.txt"
    listed.write_text("\n".join(listed.read_text().splitlines()[:-1]))
    with caplog.at_level(logging.WARNING, "gffnet"), recorded(tmp_path, facts(root), at(tmp_path, 4), 2):
        pass
    (message,) = [entry.message for entry in caplog.records]
    assert message == (
        "data set 'camvid', split 'train', is not what the run began with: it has 4 samples and had 5; names, sizes or "
        "labels differ. The run goes on, with what is there now."
    )
    found = stored(tmp_path)
    assert found["data"] == before  # what it began with
    assert found["sessions"][0]["data"] is None
    assert found["sessions"][1]["data"] == describe("camvid", facts(root).splits) != before


def test_a_run_that_begins_anew_has_the_facts_of_now(tmp_path: Path, root: Path) -> None:
    begin(tmp_path, facts(root))
    (root / "train.txt").write_text("\n".join((root / "train.txt").read_text().splitlines()[:-1]))
    other = facts(root)
    assert begin(tmp_path, Facts("other", "camvid", other.splits, 5, other.precision)) == []
    found = stored(tmp_path)
    assert (found["recipe"], found["parameters"]) == ("other", 5)
    assert found["data"]["splits"]["train"]["samples"] == 4
    assert len(found["sessions"]) == 2


def test_a_run_that_goes_on_keeps_what_it_began_with(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gffnet, "__version__", "0.0.1")
        begin(tmp_path, facts(root))
    begin(tmp_path, facts(root), 10)
    assert stored(tmp_path)["gffnet"] == "0.0.1"
    assert stored(tmp_path)["sessions"][1]["versions"]["gffnet"] == gffnet.__version__


# Files that are not as they should be


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"sessions": [], "data": 3}'])
def test_a_damaged_record_begins_anew(
    content: bytes, tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RECORD).write_bytes(content)
    assert begin(tmp_path, facts(root), 10) == []
    assert len(stored(tmp_path)["sessions"]) == 1
    assert len(caplog.records) == 1
    assert "begins anew" in caplog.records[0].message


def test_a_run_of_before_there_were_records_gets_one(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin(tmp_path, facts(root), 10)
    assert stored(tmp_path)["sessions"][0]["from_iteration"] == 10
    assert caplog.records == []


def test_a_record_that_is_deleted_meanwhile_stays_so(tmp_path: Path, root: Path) -> None:
    with recorded(tmp_path, facts(root), at(tmp_path, 3)):
        (tmp_path / RECORD).unlink()
    assert not (tmp_path / RECORD).exists()


def test_a_full_disk_surfaces_but_hides_no_other_error(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise CannotWrite("no room")

    with pytest.raises(CannotWrite), recorded(tmp_path, facts(root), at(tmp_path, 3)):
        monkeypatch.setattr(record, "atomic_write", full)
    monkeypatch.undo()

    def fail() -> None:
        with recorded(tmp_path, facts(root), at(tmp_path, 3)):
            monkeypatch.setattr(record, "atomic_write", full)
            raise RunFailed("first")

    with pytest.raises(RunFailed, match="first"):
        fail()
    with pytest.raises(CannotWrite):
        begin(tmp_path, facts(root))
    with pytest.raises(CannotWrite):
        end(tmp_path, "finished", at(tmp_path, 3))


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["/x/bin/gffnet", "train", "b c"], "gffnet train 'b c'"),
        (["/x/gffnet/__main__.py", "train", "b c"], "python -m gffnet train 'b c'"),
        (["scripts/mine.py", "[1]"], "mine.py '[1]'"),
    ],
)
def test_the_command_can_be_repeated(
    argv: list[str], wanted: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    begin(tmp_path, facts(root))
    assert stored(tmp_path)["sessions"][0]["command"] == wanted
    assert shlex.split(wanted)[-1] == argv[-1]
