from pathlib import Path

import pytest

from gffnet.data.dataset import read_list
from gffnet.errors import UserError


def test_names_without_folders_and_endings(tmp_path: Path) -> None:
    lines = [
        "2008_000002",
        "JPEGImages/2008_000003.jpg labels/2008_000003.png",
        "",
        "C:\\voc\\2008_000007.jpg  1",
        " x ",
    ]
    (tmp_path / "train.txt").write_text("\r\n".join(lines))
    assert read_list(tmp_path / "train.txt") == ["2008_000002", "2008_000003", "2008_000007", "x"]


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("train.txt", "val.txt"):
        with pytest.raises(UserError, match=rf"split list .*{name} cannot be read .*\. Restore it from the release\."):
            read_list(tmp_path / name)
