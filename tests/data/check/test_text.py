"""The report as text."""

import io
from pathlib import Path

from rich.console import Console

from gffnet.data.check.text import print_report
from tests.data.check.planted import camvid, check, write_list


def text(root: Path) -> str:
    out = io.StringIO()
    print_report(check(root), Console(file=out, width=120, markup=False))
    return out.getvalue()


def test_what_is_printed(tmp_path: Path) -> None:
    root = camvid(tmp_path / "Cam [1]")
    write_list(root, "train", [f"train_{i:03d}.png" for i in range(9)])
    lines = text(root).splitlines()
    at = lines.index("1 error")
    assert lines[at + 1 : at + 6] == [
        "  image-missing train: images that are listed, but not there: 6 of 9, the first train/train_003.png.",
        "    remedy: Download them again, or delete their lines from the list.",
        "    train/train_004.png",
        "    train/train_005.png",
        "    and 3 more",
    ]
    assert lines.index("3 warnings") > at
    assert any("bicyclist" in line for line in lines)
    assert lines[-1].startswith(f"data set 'camvid' at {root}: 1 error, 3 warnings: mend the errors, then check again")


def test_a_folder_without_a_split(tmp_path: Path) -> None:
    assert text(tmp_path).splitlines()[0] == "1 error"
