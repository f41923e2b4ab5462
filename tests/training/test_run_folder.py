"""Run folders: where a run resumes, the lock, the record, the environment, and explained failures."""

import errno
import fcntl
import getpass
import io
import json
import logging
import os
import platform
import resource
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from multiprocessing import resource_sharer
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import gffnet
from gffnet.data.camvid import CAMVID, CamVid
from gffnet.data.dataset import fingerprint
from gffnet.errors import CannotWrite, Damaged, RunFailed, Stopped, UserError
from gffnet.inference.precision import Precision
from gffnet.recipe import Recipe
from gffnet.training import run_folder
from gffnet.training.callbacks import History
from gffnet.training.checkpoint import LastCheckpoint
from gffnet.training.run_folder import (
    LOCK,
    RECORD,
    ResumePoint,
    RunInfo,
    begin_session,
    check_classes,
    commit,
    differing_keys,
    explain_failures,
    hardware,
    is_out_of_memory,
    lock,
    out_of_memory_advice,
    record_session,
    resume_point,
    versions,
)
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.processes import Forked
from tests.training.test_callbacks import Recorder
from tests.training.test_resume import before_step, run, saved_iteration


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data[:-200], "is damaged: it is truncated"),
        (lambda data: data[:1000], "is damaged: it is truncated"),
        (lambda data: b"", "is empty"),
        (lambda data: b"<html>", "is no checkpoint of gffnet"),
    ],
)
def test_a_damaged_checkpoint(broken: Path, camvid: Path, damage: Callable[[bytes], bytes], cause: str) -> None:
    path = broken / "checkpoints/last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.raises(Damaged) as caught:
        run(broken, camvid, resume=True)
    assert str(caught.value) == f"checkpoint {path} {cause}. Delete it, and the run trains from the start."
    kept = [path.with_name(f"iteration_{number}.ckpt") for number in (2, 10)]
    for each in kept:
        each.write_bytes(whole)
    with pytest.raises(Damaged, match=rf"Copy {kept[1]} over it to resume from iteration 10, or delete it to train"):
        run(broken, camvid, resume=True)
    path.unlink()
    assert (run(broken, camvid, resume=True) / "model").is_dir()


def test_a_checkpoint_of_a_gpu_resumes_without_one(broken: Path) -> None:
    path = broken / "checkpoints/last.ckpt"
    state = torch.load(path, weights_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save(state, path)
    assert resume_point(broken, tiny.recipe(), resume=True).iteration == 2


@pytest.mark.parametrize("content", [None, b"", b"- a\n", b"a: [", b"\xff\xfe", b"model: {}\ndata: {}\n"])
def test_a_damaged_recipe_file(broken: Path, camvid: Path, content: bytes | None) -> None:
    path = broken / "recipe.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Damaged, match=rf"^{path} is missing or damaged: .* remove {broken} to train again\.$"):
        run(broken, camvid, resume=True)


def test_another_recipe_is_refused_by_the_keys_that_differ(broken: Path, camvid: Path) -> None:
    other = tiny.recipe(tiny.GFFNET, evaluation={"scales": [0.5, 1.0]}, batch=3)
    with pytest.raises(UserError) as caught:
        run(broken, camvid, other, resume=True)
    assert str(caught.value) == (
        f"--out {broken} holds a run of another recipe: it differs in evaluation.scales, model.dense_pyramid, "
        "model.fusion, training.batch. Resume with the recipe and --set of that run, or name another folder."
    )
    assert saved_iteration(broken) == 2


def test_the_run_folder_is_a_file(tmp_path: Path, camvid: Path) -> None:
    (tmp_path / "run").write_text("")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"run/\.lock: .*run is a file, not a folder"):
            run(tmp_path / "run", camvid, resume=resume)


HOLD = """
import fcntl, os, sys, time
with open(sys.argv[1] + "/.lock", "ab+", buffering=0) as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    file.write(str(os.getpid()).encode())
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(broken: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder."""
    command = [sys.executable, "-c", HOLD, str(broken)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_cannot_train_in_one_folder(broken: Path, camvid: Path, holder: subprocess.Popen[str]) -> None:
    before = {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=rf"broken: another training, process {holder.pid}, writes to"):
        run(broken, camvid, resume=True)
    assert {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()} == before
    holder.kill()  # which leaves no time to tidy up
    holder.wait()
    assert (run(broken, camvid, resume=True) / "model").is_dir()
    assert not (broken / LOCK).exists()


def test_a_full_disk_does_not_keep_it_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "FileIO", Full)
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("locked_again", [False, True])
def test_a_lock_file_that_was_removed_since_it_was_opened(
    locked_again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that ends removes its lock file, and another one may then make its own."""
    real, calls = fcntl.lockf, []

    def slowly(file: Any, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
            if locked_again:
                (tmp_path / LOCK).touch()
        real(file, how)

    monkeypatch.setattr(fcntl, "lockf", slowly)
    with lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
    assert len(calls) == 2


def test_partial_files_of_a_killed_process_are_removed(broken: Path, camvid: Path) -> None:
    left = [broken / name for name in ("checkpoints/.0123abcd.part", "best/.4567abcd.part")]
    for path in left:
        path.write_bytes(b"half")
    video = broken / "predicted/.89abcdef.part"  # a folder: that of its next prediction
    video.mkdir(parents=True)
    others = [broken / name for name in (".0123abcd.part", "scores/.0123abcd.part", "best/.mine.part")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    run(broken, camvid, resume=True)
    assert not any(path.exists() for path in left)
    assert video.is_dir()
    assert all(path.exists() for path in others)


def test_where_a_run_resumes(tmp_path: Path, broken: Path) -> None:
    recipe = tiny.recipe()
    assert resume_point(tmp_path / "new", recipe, resume=True) == ResumePoint()
    assert resume_point(broken, recipe, resume=True) == ResumePoint(2, broken / "checkpoints/last.ckpt", CAMVID.names)
    with pytest.raises(UserError, match="already holds a run"):
        resume_point(broken, recipe, resume=False)


def test_keys_that_do_not_change_the_result_may_differ(broken: Path) -> None:
    changed = tiny.recipe(workers=2, checkpoint_every=7, keep_every=3, compile=True, device_batch=1)
    assert resume_point(broken, changed, resume=True).iteration == 2


def test_a_run_of_a_version_with_fewer_keys_resumes(broken: Path) -> None:
    """A key that its recipe.yaml does not have is taken to have its default."""
    path = broken / "recipe.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["training"]["ema"], stored["training"]["loss"]
    path.write_text(yaml.safe_dump(stored))
    assert resume_point(broken, tiny.recipe(), resume=True).iteration == 2
    with pytest.raises(UserError, match=r"differs in training\.ema\."):
        resume_point(broken, tiny.recipe(ema=0.9), resume=True)


def test_a_run_of_a_version_with_other_keys_is_refused_by_them(broken: Path) -> None:
    path = broken / "recipe.yaml"
    stored = yaml.safe_load(path.read_text())
    stored["training"]["magic"] = 3
    path.write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match=r"differs in training\.magic\."):
        resume_point(broken, tiny.recipe(), resume=True)


def test_data_of_other_classes_are_refused(broken: Path) -> None:
    start = resume_point(broken, tiny.recipe(), resume=True)
    names = list(CAMVID.names)
    check_classes(start, names, "camvid")
    check_classes(ResumePoint(), ["other"], "camvid")
    with pytest.raises(
        UserError, match=r"the checkpoint has 11 classes and the data set 12: class 11, .* is 'cat' in the data set"
    ):
        check_classes(start, [*names, "cat"], "folder")
    with pytest.raises(UserError, match="Resume with the data that the run started with"):
        check_classes(start, names[::-1], "folder")


nested = st.recursive(
    st.one_of(st.integers(0, 2), st.lists(st.integers(0, 1), max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


@given(mappings, mappings)
def test_differences_are_none_for_equals_only(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (differing_keys(old, new) == []) == (old == new)
    assert differing_keys(old, new) == differing_keys(new, old)
    assert differing_keys({"x": 1, "y": old}, {"x": 2, "y": old}) == ["x"]


# The record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def run_info(root: Path, **more: Any) -> RunInfo:
    splits = {"train": ("train", CamVid(root, "train")), "val": ("val", CamVid(root, "val"))}
    return RunInfo("tests/tiny", "camvid", splits, 1234, Precision(torch.bfloat16, "for tests"), **more)


def at(folder: Path, iteration: int) -> History:
    """A history that came to an iteration."""
    history = History(folder, batch=2)
    history.iteration = iteration
    history.memory = 10**9
    return history


def described(root: Path) -> dict[str, Any]:
    """The data set in a record."""
    splits = {
        split: {"split": split, "samples": samples, "fingerprint": fingerprint(CamVid(root, split))}
        for split, samples in (("train", len(CamVid(root, "train"))), ("val", 3))
    }
    return {"name": "camvid", "splits": splits}


def stored(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / RECORD).read_text())
    return found


def test_a_session_is_recorded_while_it_runs_and_when_it_ends(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/gffnet", "train", "a recipe", "--set", "x=[1, 2]"])
    before = datetime.now(UTC) - timedelta(seconds=1)
    known = run_info(root, processes=8, devices=4, nodes=2)
    with record_session(tmp_path / "run", known, at(tmp_path, 6)):
        running = stored(tmp_path / "run")
    assert {key: value for key, value in running.items() if key != "sessions"} == {
        "gffnet": gffnet.__version__,
        "recipe": "tests/tiny",
        "data": described(root),
        "parameters": 1234,
        "arguments": {},
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
        (KeyboardInterrupt("resume"), "interrupted"),
        (SystemExit(1), "interrupted"),
        (RunFailed("the loss\nhas diverged"), "failed: the loss has diverged"),
        (RuntimeError("what?"), "failed: RuntimeError: what?"),
        (RunFailed("long" * 1000), f"failed: {'long' * 250}"),
    ],
)
def test_how_a_session_ends(error: BaseException, outcome: str, tmp_path: Path, root: Path) -> None:
    with pytest.raises(type(error)) as caught, record_session(tmp_path, run_info(root), at(tmp_path, 3)):
        raise error
    assert caught.value is error
    (session,) = stored(tmp_path)["sessions"]
    assert (session["outcome"], session["to_iteration"]) == (outcome, 3)
    assert session["ended"] is not None


def test_every_session_has_its_entry(tmp_path: Path, root: Path) -> None:
    """One that was killed has no end."""
    assert begin_session(tmp_path, run_info(root)) == []
    with record_session(tmp_path, run_info(root), at(tmp_path, 20), 10):
        pass
    with record_session(tmp_path, run_info(root), at(tmp_path, 0), 20):  # interrupted before its first iteration
        pass
    sessions = stored(tmp_path)["sessions"]
    assert [session["ended"] is None for session in sessions] == [True, False, False]
    assert [(session["from_iteration"], session["to_iteration"]) for session in sessions] == [
        *((0, None), (10, 20), (20, 20))
    ]


@pytest.mark.parametrize("failed", [False, True])
def test_the_loggers_are_closed(failed: bool, tmp_path: Path, root: Path) -> None:
    recorder = Recorder()
    history = History(tmp_path, batch=2, loggers=[recorder])
    with suppress(RunFailed), record_session(tmp_path, run_info(root), history):
        assert recorder.calls == []
        if failed:
            raise RunFailed("x")
    assert recorder.calls == [("close", failed)]


def test_changed_data_warn_with_both_counts(tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin_session(tmp_path, run_info(root))
    before = stored(tmp_path)["data"]
    listed = root / "train.txt"
    listed.write_text("\n".join(listed.read_text().splitlines()[:-1]))
    with caplog.at_level(logging.WARNING, "gffnet"), record_session(tmp_path, run_info(root), at(tmp_path, 4), 2):
        pass
    (message,) = [entry.message for entry in caplog.records]
    assert message == (
        "data set 'camvid', split 'train', has changed since the run started: it has 4 samples and had 5; names, "
        "sizes or labels differ. The run continues with the present data."
    )
    found = stored(tmp_path)
    assert found["data"] == before  # what it began with
    assert found["sessions"][0]["data"] is None
    assert found["sessions"][1]["data"] == described(root) != before


def test_a_run_that_starts_again_has_the_present_facts(tmp_path: Path, root: Path) -> None:
    begin_session(tmp_path, run_info(root))
    (root / "train.txt").write_text("\n".join((root / "train.txt").read_text().splitlines()[:-1]))
    other = run_info(root)
    assert begin_session(tmp_path, RunInfo("other", "camvid", other.splits, 5, other.precision)) == []
    found = stored(tmp_path)
    assert (found["recipe"], found["parameters"]) == ("other", 5)
    assert found["data"]["splits"]["train"]["samples"] == 4
    assert len(found["sessions"]) == 2


def test_a_resumed_run_keeps_the_facts_of_its_start(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gffnet, "__version__", "0.0.1")
        begin_session(tmp_path, run_info(root))
    begin_session(tmp_path, run_info(root), 10)
    assert stored(tmp_path)["gffnet"] == "0.0.1"
    assert stored(tmp_path)["sessions"][1]["versions"]["gffnet"] == gffnet.__version__


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"sessions": [], "data": 3}'])
def test_a_damaged_record_starts_again(
    content: bytes, tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RECORD).write_bytes(content)
    assert begin_session(tmp_path, run_info(root), 10) == []
    assert len(stored(tmp_path)["sessions"]) == 1
    assert len(caplog.records) == 1
    assert f"{tmp_path / RECORD} is damaged: it is left out, and starts again" in caplog.records[0].message


def test_a_run_without_a_record_gets_one(tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin_session(tmp_path, run_info(root), 10)
    assert stored(tmp_path)["sessions"][0]["from_iteration"] == 10
    assert caplog.records == []


def test_a_record_that_is_deleted_meanwhile_stays_deleted(tmp_path: Path, root: Path) -> None:
    with record_session(tmp_path, run_info(root), at(tmp_path, 3)):
        (tmp_path / RECORD).unlink()
    assert not (tmp_path / RECORD).exists()


def test_a_full_disk_raises_but_hides_no_other_error(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise CannotWrite("no room")

    with pytest.raises(CannotWrite), record_session(tmp_path, run_info(root), at(tmp_path, 3)):
        monkeypatch.setattr(run_folder, "atomic_write", full)
    monkeypatch.undo()

    def fail() -> None:
        with record_session(tmp_path, run_info(root), at(tmp_path, 3)):
            monkeypatch.setattr(run_folder, "atomic_write", full)
            raise RunFailed("first")

    with pytest.raises(RunFailed, match="first"):
        fail()
    with pytest.raises(CannotWrite):
        begin_session(tmp_path, run_info(root))


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
    begin_session(tmp_path, run_info(root))
    assert stored(tmp_path)["sessions"][0]["command"] == wanted
    assert shlex.split(wanted)[-1] == argv[-1]


# The environment


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds a package and a readme."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "checkout"
    (root / "src/package").mkdir(parents=True)
    (root / "src/package/__init__.py").write_text("")
    (root / "readme").write_text("")
    (root / ".gitignore").write_text("*.pyc\n/.venv/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_commit_is_that_of_the_checkout(checkout: Path) -> None:
    package, head = checkout / "src/package", git(checkout, "rev-parse", "HEAD")
    assert commit(package) == {"commit": head, "changes": False}
    (checkout / "notes").write_text("not in the package")
    (package / "__init__.pyc").write_text("ignored")
    assert commit(package) == {"commit": head, "changes": False}


@pytest.mark.parametrize("file", ["readme", "src/package/__init__.py", "src/package/new.py"])
def test_changes_of_the_checkout_show(file: str, checkout: Path) -> None:
    (checkout / file).write_text("changed")
    assert commit(checkout / "src/package") == {"commit": git(checkout, "rev-parse", "HEAD"), "changes": True}


def test_an_installed_package_has_no_commit(checkout: Path, tmp_path: Path) -> None:
    """Neither outside of a checkout nor where its environment lies in one."""
    for folder in (tmp_path / "site-packages/package", checkout / ".venv/package"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        assert commit(folder) is None


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    assert commit(tmp_path) is None


def test_git_may_be_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(checkout / "src/package") is None


def test_a_hook_of_another_repository_does_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "other"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout.parent))
    assert commit(checkout / "src/package") == {"commit": head, "changes": False}


def test_nothing_of_the_checkout_is_written_to(checkout: Path) -> None:
    os.utime(checkout / "readme", (1, 1))  # so that git status would refresh its index
    before = (checkout / ".git/index").read_bytes()
    commit(checkout / "src/package")
    assert (checkout / ".git/index").read_bytes() == before


def test_versions_are_those_in_use() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert all(found[name] == version(name) for name in ("gffnet", "torchvision", "timm", "lightning"))
    assert (found["cuda"] is None) == (found["cudnn"] is None) == (not torch.cuda.is_available())


def test_hardware_is_what_the_system_reports() -> None:
    found = hardware()
    assert found["cpu"]
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    if Path("/proc/meminfo").exists():
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        assert found["memory"] == pytest.approx(1024 * kilobytes, rel=0.01)
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_the_environment_does_not_name_machine_or_user() -> None:
    text = f"{hardware()} {versions()}"
    assert "/" not in text.replace("/proc", "")
    for name in (socket.gethostname(), platform.node(), getpass.getuser()):
        assert name not in text.split("'")


def test_a_system_that_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "sysconf", refuse)
    found = hardware()
    assert found["memory"] is None
    assert found["cpu"] == (platform.processor() or platform.machine())


# Failures


def recipe_of(**training: Any) -> Recipe:
    return tiny.recipe(**{"batch": 8, "crop": [864, 864], **training})


def explain(error: BaseException, out: Path = Path("runs/x")) -> str:
    with pytest.raises(RunFailed) as caught, explain_failures(out, recipe_of(), 8, 4):
        raise error
    return str(caught.value)


def test_a_full_disk_says_what_is_saved(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explain(full, tmp_path) == (
        f"cannot write {tmp_path}: No space left on device. Free some space on its disk, or choose another folder. "
        "No checkpoint was written yet: then start again."
    )
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    kept = f"The previous checkpoint, {tmp_path}/checkpoints/last.ckpt, is complete: then resume it with"
    assert kept in explain(full, tmp_path)
    assert explain(CannotWrite("cannot write x: full."), tmp_path).startswith(f"cannot write x: full. {kept}")


def test_a_dead_worker_advises_fewer() -> None:
    dead = RuntimeError("DataLoader worker (pid(s) 123) exited unexpectedly")
    assert explain(dead).endswith("fewer of them: gffnet train --resume runs/x --set training.workers=2.")
    killed = RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. ")
    assert "a process that loads data died" in explain(killed)


def test_a_run_with_parts_in_python_is_resumed_there(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        '{"sessions": [], "data": {"splits": {}}, "python": {"train_data": "Mine, 3 samples", "loss": "mine.loss"}}'
    )
    call = f"gffnet.train(..., train_data=..., loss=..., {{}}out='{tmp_path}', resume=True)"
    for error in (SystemExit(), Stopped("stopped.")):
        with pytest.raises((KeyboardInterrupt, Stopped)) as caught, explain_failures(tmp_path, recipe_of(), 8, 4):
            raise error
        assert f"esume it with {call.format('')}" in str(caught.value)
    dead = RuntimeError("DataLoader worker (pid(s) 123) exited unexpectedly")
    assert call.format("overrides=['training.workers=2'], ") in explain(dead, tmp_path)
    assert call.format("overrides=['training.device_batch=4'], ") in explain(torch.OutOfMemoryError(), tmp_path)


def test_a_worker_that_died_with_a_batch_under_way_is_a_dead_worker(tmp_path: Path) -> None:
    """torch sends the memory of a batch by `DupFd`, and fetches it from the process that loaded it."""
    with (tmp_path / "memory").open("wb") as file:
        batch = resource_sharer.DupFd(file.fileno())
        resource_sharer.stop()
    with (
        pytest.raises(RunFailed, match="a process that loads data died") as caught,
        explain_failures(Path("runs/x"), recipe_of(), 8, 4),
    ):
        batch.detach()
    assert isinstance(caught.value.__context__, OSError)


def test_an_error_in_the_users_data_is_raised_as_it_is() -> None:
    class Broken(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            raise RuntimeError("the camera is off")

    with pytest.raises(RuntimeError) as caught, explain_failures(Path("runs/x"), recipe_of(), 8, 1):
        list(DataLoader(Broken([0]), num_workers=1))
    clear_frames(caught.tb)  # or some later test waits 5 s for the process, as garbage
    assert not isinstance(caught.value, RunFailed)
    assert "the camera is off" in str(caught.value)
    assert "in __getitem__" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
        MemoryError(),
    ],
)
def test_out_of_memory_advises_half_the_images(error: Exception) -> None:
    assert explain(error) == (
        "out of memory with 8 images of 864x864 at a time. Process fewer at a time, which leaves the batch as it is: "
        "gffnet train --resume runs/x --set training.device_batch=4."
    )
    assert "--set training.device_batch=1." in out_of_memory_advice(recipe_of(device_batch=3), 8)


def test_what_onednn_does_not_support_is_no_lack_of_memory() -> None:
    unsupported = "could not create a primitive descriptor for a convolution forward propagation primitive"
    assert not is_out_of_memory(RuntimeError(unsupported))


def test_out_of_memory_in_validation_advises_windows() -> None:
    def validation_step() -> None:
        raise MemoryError

    advice = r"in validation, which takes whole images\. .* --set evaluation\.crop="
    with pytest.raises(RunFailed, match=advice), explain_failures(Path("runs/x"), recipe_of(), 8, 0):
        validation_step()


def test_out_of_memory_with_one_image_advises_a_crop_of_half_the_pixels() -> None:
    said = out_of_memory_advice(recipe_of(crop=[864, 640], device_batch=1), 8)
    assert said.startswith("out of memory with 1 image of 864x640 at a time. Use smaller crops: --set training.crop='[")
    height, width = yaml.safe_load(said.split("'")[1])
    assert height % 16 == width % 16 == 0
    assert 0.4 < height * width / (864 * 640) < 0.55


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    for error in (
        RuntimeError("shapes differ"),
        UserError("no such file"),
        OSError(errno.ENOENT, "gone"),
        KeyError("x"),
    ):
        with pytest.raises(type(error)) as caught, explain_failures(tmp_path, recipe_of(), 8, 0):
            raise error
        assert caught.value is error


def test_an_interrupt_says_how_to_resume(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt, match=rf"resume it with gffnet train --resume {tmp_path}"),
        explain_failures(tmp_path, recipe_of(), 8, 0),
    ):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        raise SystemExit(1)
    assert signal.getsignal(signal.SIGINT) is before


def cli(prepare: Callable[[], object], tmp_path: Path, root: Path, **training: object) -> list[str]:
    """The output of a training that fails."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny.recipe(**training).to_mapping()))
    words = ["train", recipe, "--root", root, "--out", tmp_path / "run"]
    code, output = Forked(words, tmp_path / "log", prepare).wait()
    assert code == 1, output
    assert "Traceback" not in output
    return output.strip().splitlines()


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux to limit memory")
def test_memory_that_is_really_out(tmp_path: Path, camvid: Path) -> None:
    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.RLIM_INFINITY))

    def prepare() -> None:
        before_step(pytest.MonkeyPatch(), "training_step", 0, None, limit)

    assert cli(prepare, tmp_path, camvid, crop=[512, 512], batch=4)[-1] == (
        "error: out of memory with 4 images of 512x512 at a time. Process fewer at a time, which leaves the batch as "
        f"it is: gffnet train --resume {tmp_path}/run --set training.device_batch=2."
    )


def test_a_disk_that_is_really_full_leaves_the_previous_checkpoint(tmp_path: Path, camvid: Path) -> None:
    """A limit on the size of files makes writing fail in its midst, as a full disk does."""

    def prepare() -> None:
        save = LastCheckpoint.save

        def with_little_room(self: LastCheckpoint, trainer: Any, task: Any) -> None:
            if trainer.global_step == 4:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
            save(self, trainer, task)

        pytest.MonkeyPatch().setattr(LastCheckpoint, "save", with_little_room)

    last = cli(prepare, tmp_path, camvid)[-1]
    assert last.startswith(f"error: cannot write {tmp_path}/run/checkpoints/last.ckpt: ")
    assert "File too large. Its file system takes no file of this size" in last
    assert last.endswith(f"is complete: then resume it with gffnet train --resume {tmp_path}/run.")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["last.ckpt"]
