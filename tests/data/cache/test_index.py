import json
import os
from pathlib import Path

import pytest

from gffnet.data.cache.index import Index, Record, digest, entry_path, meaning, read_index, state, write_index
from gffnet.data.camvid import CamVid
from gffnet.data.catalog import Classes
from gffnet.data.dataset import LabelTable
from gffnet.errors import UserError
from tests.data.trees import camvid_tree

INDEX = Index("m", True, {"train/a.png": Record("d" * 32, [[1, 2, 3], [4, 5, 6]], {"0": 7, "255": 1})})


def test_an_index_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_index(tmp_path, "train") is None
    write_index(tmp_path, "train", INDEX)
    assert read_index(tmp_path, "train") == INDEX
    assert read_index(tmp_path, "val") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"records": {}}', '{"records": {"a": {"b": 1}}}', "null", "\x00"])
def test_a_damaged_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "index-val.json").write_text(content)
    with pytest.raises(UserError, match=r"cache index .*index-val\.json is damaged .*: delete it, and cache"):
        read_index(tmp_path, "val")


def test_a_changed_index_is_a_damaged_one(tmp_path: Path) -> None:
    """Whatever the change: another digest would give another sample, another number another weight of a class."""
    write_index(tmp_path, "val", INDEX)
    path = tmp_path / "index-val.json"
    whole = path.read_text()
    assert json.loads(whole)["records"].keys() == {"train/a.png"}
    for at in range(len(whole)):
        path.write_text(f"{whole[:at]}{'1' if whole[at] == '0' else '0'}{whole[at + 1 :]}")
        with pytest.raises(UserError, match=r"index-val\.json is damaged \("):
            read_index(tmp_path, "val")
    for changed in (whole + " ", whole[1:], f" {whole}", whole.replace(", ", ",")):
        path.write_text(changed)
        with pytest.raises(UserError, match=r"index-val\.json is damaged \(its check sum is wrong\)"):
            read_index(tmp_path, "val")


def test_state_tells_what_content_may_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = state(path)
    assert state(path) == before
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=times)  # as long, and as old by its own word
    assert state(path) != before


def test_digest_tells_content_and_meaning_apart(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    three.write_bytes(b"ab")
    files = [("m", (one, two)), ("n", (one, two)), ("m", (two, one)), ("m", (one, one))]
    assert len({digest(*each) for each in files}) == 4
    assert digest("m", (three, two)) == digest("m", (one, two))


def test_meaning_follows_classes_and_ids(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    train, val, other, renamed = (
        CamVid(root, "train"),
        CamVid(root, "val"),
        CamVid(root, "train"),
        CamVid(root, "train"),
    )
    other.table = LabelTable({0: 1, 1: 0}, legal="0, 1")
    renamed.classes = Classes(("void", *train.classes.names[1:]), train.classes.palette)
    assert meaning(train) == meaning(val)
    assert len({meaning(train), meaning(other), meaning(renamed)}) == 3


def test_kinds_lie_side_by_side(tmp_path: Path) -> None:
    assert entry_path(tmp_path, "ab12", True) != entry_path(tmp_path, "ab12", False)
