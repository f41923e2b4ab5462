from pathlib import Path

import numpy as np
import pytest

from gffnet.data.cache.entry import encode_entry, open_entry
from gffnet.data.dataset import Opened, Pixels
from gffnet.errors import UserError
from tests.data.trees import ids, picture

PIXELS = Pixels(picture(0, (150, 140)), ids(0, 20, (150, 140)))
BOTH = pytest.mark.parametrize("compressed", [False, True])


def entry(folder: Path, compressed: bool) -> Path:
    path = folder / "entry"
    path.write_bytes(encode_entry(PIXELS, compressed))
    return path


@BOTH
@pytest.mark.parametrize(("rows", "columns"), [((0, 150), (0, 140)), ((3, 149), (127, 129)), ((149, 150), (0, 1))])
def test_an_entry_opens_as_the_sample(tmp_path: Path, compressed: bool, rows: tuple, columns: tuple) -> None:
    opened = open_entry(entry(tmp_path, compressed), "frame", verify=True)
    assert isinstance(opened, Opened)
    assert (opened.name, opened.size) == ("frame", (150, 140))
    window = opened.window(slice(*rows), slice(*columns))
    np.testing.assert_array_equal(window.image, PIXELS.image[slice(*rows), slice(*columns)])
    np.testing.assert_array_equal(window.labels, PIXELS.labels[slice(*rows), slice(*columns)])
    np.testing.assert_array_equal(opened.labels(), PIXELS.labels)


@BOTH
@pytest.mark.parametrize("length", [0, 10, 63, 64, 65, 5000, -1])
def test_a_file_cut_short_is_no_entry(tmp_path: Path, compressed: bool, length: int) -> None:
    path = entry(tmp_path, compressed)
    path.write_bytes(path.read_bytes()[:length])
    assert open_entry(path, "frame") is None


@BOTH
def test_other_files_are_no_entries(tmp_path: Path, compressed: bool) -> None:
    path = entry(tmp_path, compressed)
    assert open_entry(tmp_path / "none", "frame") is None
    path.write_bytes(b"GFFNET\x00\x01" + path.read_bytes()[8:])
    assert open_entry(path, "frame") is None
    path.write_bytes(b"x" * 9000)
    assert open_entry(path, "frame") is None


@BOTH
def test_a_changed_header_is_none(tmp_path: Path, compressed: bool) -> None:
    """Height and width that change places would still fill the file."""
    path = entry(tmp_path, compressed)
    whole = path.read_bytes()
    height, width = whole[12:16], whole[16:20]
    for changed in (
        whole[:12] + width + height + whole[20:],
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(64)),
    ):
        path.unlink()
        path.write_bytes(changed)
        assert open_entry(path, "frame") is None


@BOTH
def test_verifying_reads_all_of_it(tmp_path: Path, compressed: bool) -> None:
    path = entry(tmp_path, compressed)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert open_entry(path, "frame", verify=True) is None
    assert open_entry(path, "frame") is not None


def test_a_damaged_tile_is_named(tmp_path: Path) -> None:
    path = entry(tmp_path, True)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    opened = open_entry(path, "frame")
    assert opened is not None
    with pytest.raises(UserError, match=rf"cache entry {path}: tile 0 is damaged\. Run gffnet data cache again"):
        opened.window(slice(0, 150), slice(0, 140))


def test_a_memory_mapped_entry_cannot_be_written_to(tmp_path: Path) -> None:
    opened = open_entry(entry(tmp_path, False), "frame")
    assert opened is not None
    with pytest.raises(ValueError, match="read-only"):
        opened.window(slice(0, 2), slice(0, 2)).image[:] = 0
