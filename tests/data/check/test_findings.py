"""How findings are worded."""

from pathlib import Path

import pytest

from gffnet.data.check.findings import CODES, MOST_FILES, SEVERITIES, Place, cause_and_remedy


def test_every_code_has_a_severity() -> None:
    assert set(CODES.values()) == set(SEVERITIES)


def test_no_files_no_finding() -> None:
    assert Place(Path("data"), "val").about("empty-file", "empty files", [], 7, "Copy them.") == []


def test_files_are_named_below_the_root_and_counted() -> None:
    files = [Path(f"data/val/{i}.png") for i in range(30)]
    (finding,) = Place(Path("data"), "val").about("empty-file", "empty files", files, 40, "Copy them.", "zero bytes")
    assert finding.message == "empty files: 30 of 40, the first val/0.png (zero bytes)."
    assert finding.count == 30
    assert len(finding.files) == MOST_FILES == 20
    assert finding.to_json()["files"][1] == "val/1.png"


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        ("cannot read image a. b.png: it is empty. To go on, copy it.", ("it is empty", "To go on, copy it.")),
        ("label map a. b.png: ids are lost: save it as PNG.", ("ids are lost", "Save it as PNG.")),
        ("list l.txt: cut. Torn\n off. Restore it.", ("list l.txt: cut. Torn off", "Restore it.")),
    ],
)
def test_an_error_in_two_parts(error: str, parts: tuple[str, str]) -> None:
    assert cause_and_remedy(error, Path("a. b.png")) == parts
