"""The page docs/data.md: its blocks run, and its tables are true."""

import re
from pathlib import Path

import pytest

from gffnet.data.check import FINDINGS
from gffnet.data.datasets import DATASETS, class_count
from gffnet.data.folder import read_classes
from gffnet.streets import write_streets
from tests.docs.pages import blocks, read_page

PAGE = read_page("data.md")


def test_the_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_streets(tmp_path / "data/streets", 1, 0, size=(96, 160), workers=1)
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "docs.data"}
    samples, scene = blocks(PAGE, "python")
    exec(compile(samples, "docs/data.md", "exec"), names)
    assert (names["image"].shape, names["labels"].shape) == ((3, 128, 256), (128, 256))
    exec(compile(scene, "docs/data.md", "exec"), names)
    assert (names["image"].shape, names["label_ids"].shape) == ((256, 512, 3), (256, 512))


def test_the_classes_are_read_as_the_page_says(tmp_path: Path) -> None:
    (classes,) = blocks(PAGE, "yaml")
    (tmp_path / "classes.yaml").write_text(classes)
    own = read_classes(tmp_path)
    assert own.classes.names == ("road", "pole", "sign")
    assert own.train_ids == {0: 0, 1: 1, 7: 2, 255: 255}
    assert own.classes.palette[1:] == ((153, 153, 153), (220, 220, 0))
    assert own.val_fraction == pytest.approx(0.2)


def test_every_finding_is_listed_once() -> None:
    table = PAGE.split("| it finds |")[1].split("\n\n")[0]
    listed = re.findall(r"`([a-z0-9-]+)`", table)
    assert sorted(listed) == sorted(FINDINGS)


def test_the_table_of_data_sets() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\(.*?\) \| (\S+) \| (.*?) \|", PAGE, flags=re.MULTILINE)
    assert {name for name, _, _ in rows} == set(DATASETS)
    for name, classes, samples in rows:
        if name in {"folder", "streets"}:
            continue
        assert int(classes) == class_count(name)
        counts = DATASETS[name].layout.counts
        assert samples == " / ".join(str(counts.get(split, "-")) for split in ("train", "val", "test"))
