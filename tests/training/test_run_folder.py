"""Run folders: where a run goes on, and those that are not as they should be."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.camvid import CAMVID
from gffnet.errors import UserError
from gffnet.training.run_folder import LOCK, Start, alone, check_classes, differences, find_start
from tests import tiny
from tests.data.trees import camvid_tree
from tests.training.test_resume import Power, fail_at, iteration_of, run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


@pytest.fixture
def broken(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        fail_at(patch, "training_step", 3, None, Power)
        with pytest.raises(Power):
            run(tmp_path / "broken", root)
    return tmp_path / "broken"


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: data[:1000], lambda data: b""])
def test_a_damaged_checkpoint(broken: Path, root: Path, damage: Callable[[bytes], bytes]) -> None:
    path = broken / "checkpoints/last.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"^checkpoint .*last\.ckpt is damaged .* Delete it to train from the start\.$"):
        run(broken, root, resume=True)
    path.unlink()
    assert (run(broken, root, resume=True) / "model").is_dir()


@pytest.mark.parametrize("content", [None, b"", b"- a\n", b"a: [", b"\xff\xfe"])
def test_a_damaged_recipe_file(broken: Path, root: Path, content: bytes | None) -> None:
    path = broken / "recipe.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken holds a run, but its recipe\.yaml is gone or damaged\. Name another"):
        run(broken, root, resume=True)


def test_another_recipe_is_refused_by_the_keys_that_differ(broken: Path, root: Path) -> None:
    other = tiny.recipe(tiny.GFFNET, evaluation={"scales": [0.5, 1.0]}, batch=3)
    with pytest.raises(UserError) as caught:
        run(broken, root, other, resume=True)
    assert str(caught.value) == (
        f"--out {broken} holds a run of another recipe: it differs in evaluation.scales, model.dense_pyramid, "
        "model.fusion, training.batch. Resume with the recipe and --set of that run, or name another folder."
    )
    assert iteration_of(broken) == 2


def test_the_run_folder_is_a_file(tmp_path: Path, root: Path) -> None:
    (tmp_path / "run").write_text("")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"run/\.lock: (File exists|Not a directory)"):
            run(tmp_path / "run", root, resume=resume)


HOLD = """
import sys, time
from pathlib import Path
from gffnet.training.run_folder import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(broken: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which trains in the folder as far as anyone can see."""
    command = [sys.executable, "-c", HOLD, str(broken)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_cannot_train_in_one_folder(broken: Path, root: Path, holder: subprocess.Popen[str]) -> None:
    before = {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=rf"broken: another training, process {holder.pid}, writes to"):
        run(broken, root, resume=True)
    assert {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()} == before
    holder.kill()  # which leaves no time to tidy up
    holder.wait()
    assert (run(broken, root, resume=True) / "model").is_dir()
    assert not (broken / LOCK).exists()


def test_a_full_disk_does_not_keep_it_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: Full(self, "a+"))
    with alone(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
    assert not (tmp_path / "run" / LOCK).exists()


def test_other_processes_of_a_run_lock_nothing(broken: Path, holder: subprocess.Popen[str]) -> None:
    with alone(broken, writes=False):
        assert (broken / LOCK).read_text() == str(holder.pid)


def test_what_a_kill_left_half_written_is_removed(broken: Path, root: Path) -> None:
    left = [broken / name for name in ("checkpoints/.last.ckpt.0123abcd.part", "best/.model.safetensors.0123abcd.part")]
    for path in left:
        path.write_bytes(b"half")
    run(broken, root, resume=True)
    assert not any(path.exists() for path in left)


def test_where_a_run_goes_on(tmp_path: Path, broken: Path) -> None:
    recipe = tiny.recipe()
    assert find_start(tmp_path / "new", recipe, resume=True) == Start()
    assert find_start(broken, recipe, resume=True) == Start(2, broken / "checkpoints/last.ckpt", CAMVID.names)
    with pytest.raises(UserError, match="holds a run already"):
        find_start(broken, recipe, resume=False)


def test_what_changes_nothing_but_when_and_how_may_change(broken: Path) -> None:
    changed = tiny.recipe(workers=2, checkpoint_every=7, keep_every=3, compile=True, device_batch=1)
    assert find_start(broken, changed, resume=True).iteration == 2


def test_a_run_of_a_version_with_fewer_keys_goes_on(broken: Path) -> None:
    """A key that its recipe.yaml does not have is taken to have its default."""
    path = broken / "recipe.yaml"
    stored = yaml.safe_load(path.read_text())
    del stored["training"]["ema"], stored["training"]["loss"]
    path.write_text(yaml.safe_dump(stored))
    assert find_start(broken, tiny.recipe(), resume=True).iteration == 2
    with pytest.raises(UserError, match=r"differs in training\.ema\."):
        find_start(broken, tiny.recipe(ema=0.9), resume=True)


def test_a_run_of_a_version_with_other_keys_is_refused_by_them(broken: Path) -> None:
    path = broken / "recipe.yaml"
    stored = yaml.safe_load(path.read_text())
    stored["training"]["magic"] = 3
    path.write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match=r"differs in training\.magic\."):
        find_start(broken, tiny.recipe(), resume=True)


def test_data_of_other_classes_are_refused(broken: Path) -> None:
    start = find_start(broken, tiny.recipe(), resume=True)
    names = list(CAMVID.names)
    check_classes(start, names, "camvid")
    check_classes(Start(), ["other"], "camvid")
    with pytest.raises(
        UserError, match=r"is of 11 classes \(sky, building, pole, road, \.\.\.\), but data set 'folder' now"
    ):
        check_classes(start, [*names, "cat"], "folder")
    with pytest.raises(UserError, match="Resume with the data that the run began with"):
        check_classes(start, names[::-1], "folder")


def test_differences_name_nested_keys() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0}
    assert differences(old, json.loads(json.dumps(old))) == []
    assert differences(old, {"a": 2, "b": {"c": [1, 3], "d": None}}) == ["a", "b.c", "gone"]


nested = st.recursive(
    st.one_of(st.integers(0, 2), st.lists(st.integers(0, 1), max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


@given(mappings, mappings)
def test_differences_are_none_for_equals_only(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (differences(old, new) == []) == (old == new)
    assert differences(old, new) == differences(new, old)
    assert differences(old, old) == []
