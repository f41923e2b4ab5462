"""The report as a whole."""

import json
from pathlib import Path

from gffnet.data.check.findings import SEVERITIES
from tests.data.check.planted import camvid, check


def test_json(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "train/train_001.png").unlink()
    found = json.loads(json.dumps(check(root).to_json()))
    assert list(found) == ["dataset", "root", "ok", "splits", "findings", "seconds", "files_per_second"]
    assert (found["dataset"], found["root"], found["ok"]) == ("camvid", str(root), False)
    assert list(found["splits"]) == ["train", "val", "test"]
    train = found["splits"]["train"]
    assert list(train) == ["samples", "expected", "sizes", "ignored_share", "classes", "ids"]
    assert (train["samples"], train["expected"], train["sizes"]["median"]) == (3, 367, [40, 48])
    assert [each["name"] for each in train["classes"]][:2] == ["sky", "building"]
    assert list(train["classes"][0]) == ["name", "pixels", "share", "images"]
    assert sum(train["ids"].values()) == 2 * 40 * 48
    assert list(train["ids"]) == [str(value) for value in range(12)]
    for finding in found["findings"]:
        assert list(finding) == ["severity", "code", "split", "message", "remedy", "files", "count"]
        assert finding["severity"] in SEVERITIES
        assert finding["remedy"].endswith(".")
    assert found["findings"][0]["code"] == "image-missing"
    assert found["seconds"] > 0
    assert found["files_per_second"] > 0


def test_verdicts(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    assert check(root).verdict() == f"data set 'camvid' at {root}: 3 warnings"
    (root / "train/train_001.png").unlink()
    assert check(root).verdict() == (
        f"data set 'camvid' at {root}: 1 error, 3 warnings: mend the errors, then check again"
    )
