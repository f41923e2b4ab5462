"""Blocks that fit into a memory."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.errors import UserError
from gffnet.inference.tiling import block_memory, plan
from gffnet.recipe import EvaluationRecipe

CROP = EvaluationRecipe((64, 64))


def test_without_a_limit_the_image_is_one_block() -> None:
    layout = plan((1000, 700), 19, CROP, None)
    assert layout.rows == ((0, 1000),)
    assert layout.columns == ((0, 700),)
    assert layout.tallest == 1000


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(10, 30))
def test_blocks_cover_the_image_once_and_fit(height: int, width: int, log_memory: int) -> None:
    try:
        layout = plan((height, width), 19, CROP, 2**log_memory)
    except UserError:
        return
    for spans, length in ((layout.rows, height), (layout.columns, width)):
        assert spans[0].first == 0
        assert spans[-1].stop == length
        assert all(one.stop == other.first for one, other in pairwise(spans))
    wide = max(span.length for span in layout.columns)
    assert block_memory((height, width), (layout.tallest, wide), 19, CROP) == layout.memory <= 2**log_memory


def test_blocks_are_bands_of_rows_before_they_are_strips_of_columns() -> None:
    whole = plan((4000, 4000), 19, CROP, None).memory
    assert len(plan((4000, 4000), 19, CROP, whole // 4).columns) == 1
    assert len(plan((4000, 4000), 19, CROP, whole // 500).columns) > 1


def test_one_scale_takes_its_sums_alone() -> None:
    """A single block of the image's size is never copied."""
    assert block_memory((100, 200), (100, 200), 5, CROP) == 4 * 5 * 100 * 200


def test_a_hundred_megapixels_of_150_classes_within_8_gigabytes() -> None:
    layout = plan((10_000, 10_000), 150, EvaluationRecipe((512, 512)), 6 * 10**9)
    assert len(layout.columns) == 1
    scales = EvaluationRecipe((512, 512), scales=(0.75, 1.0, 1.25, 1.5, 1.75))
    assert plan((10_000, 10_000), 150, scales, 6 * 10**9).memory <= 6 * 10**9


def test_too_little() -> None:
    with pytest.raises(
        UserError, match=r"a memory of 1MB is too little for an image of 900x900 and 150 classes: give it"
    ) as error:
        plan((900, 900), 150, CROP, 10**6)
    enough = 10**6 * int(str(error.value).split()[-3].removesuffix("MB"))
    assert plan((900, 900), 150, CROP, enough).memory <= enough


def test_what_other_things_take_is_no_room() -> None:
    layout = plan((4000, 4000), 19, CROP, 10**9, besides=9 * 10**8)
    assert layout.memory <= 10**8
    assert layout == plan((4000, 4000), 19, CROP, 10**8)
    with pytest.raises(UserError, match=r"a memory of 1000MB .* give it 10[0-9]{2}MB or more"):
        plan((4000, 4000), 19, CROP, 10**9, besides=10**9)


def test_whole_images_need_a_crop_to_be_cut() -> None:
    with pytest.raises(
        UserError, match=r"the whole image is one window: give the model a crop, such as --crop 512x512"
    ):
        plan((900, 900), 150, EvaluationRecipe(), 10**6)


PEAKS = """
import torch
from gffnet.inference.tiling import peak_memory

before = peak_memory(torch.device("cpu"))
kept = b"1" * 2 * before
print(before, peak_memory(torch.device("cpu")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module resource")
def test_the_peak_grows_with_what_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 50e6
    assert 2 * before <= after <= 3.2 * before


LARGE_PARENT = """
import subprocess, sys
kept = b"1" * 1_500_000_000
child = "from gffnet.inference.tiling import most_resident; print(most_resident())"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells it of this process alone")
def test_what_the_starting_process_took_does_not_count() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_PARENT], capture_output=True, text=True, timeout=60, check=True)
    assert 50e6 < int(done.stdout) < 1.2e9
