"""Tiles within a memory limit: they fit, cover the image once, and give the values of the whole image."""

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gffnet.errors import UserError
from gffnet.inference.sliding_window import SlidingWindow, as_slice
from gffnet.inference.tiling import TiledWindow, plan_tiles, tile_memory
from gffnet.recipe import EvaluationRecipe

MEAN = (123.675, 116.28, 103.53)
CLASSES = 4


def score(x: Tensor) -> Tensor:
    """Logits that depend on a pixel and, by the mean over a column, on the window."""
    return torch.cat([x.double(), x.double().mean(-2, keepdim=True).expand_as(x)], dim=1)[:, :CLASSES] / 50


def random_image(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    overlap=st.floats(0, 0.7),
    scales=st.lists(st.floats(0.3, 2), min_size=1, max_size=3),
    flip=st.booleans(),
    batch=st.integers(1, 3),
    share=st.floats(0.05, 1),
)
def test_tiles_give_the_values_of_the_whole_image(
    size: tuple[int, int],
    crop: tuple[int, int],
    overlap: float,
    scales: list[float],
    flip: bool,
    batch: int,
    share: float,
) -> None:
    """Each pixel is in one tile, whatever the memory, and its probabilities are those of the whole image."""
    protocol = EvaluationRecipe(crop, overlap, tuple(scales), flip)
    image = random_image(*size)
    memory = int(share * tile_memory(size, size, CLASSES, protocol))
    window = TiledWindow(score, CLASSES, protocol, MEAN, batch, memory=memory)
    try:
        layout = window.layout(image)
    except UserError:
        assert memory < tile_memory(size, (min(32, size[0]), min(63, size[1])), CLASSES, protocol)
        return
    assert layout.memory <= memory
    whole = SlidingWindow(score, CLASSES, protocol, MEAN).probabilities(image)
    seen = torch.zeros(size, dtype=torch.int64)
    for rows, columns, part in window.tiles(image):
        seen[as_slice(rows), as_slice(columns)] += 1
        torch.testing.assert_close(part, whole[:, as_slice(rows), as_slice(columns)], rtol=0, atol=1e-5)
    assert (seen == 1).all()
    assert torch.equal(window.labels(image), window.probabilities(image).max(0).indices.to(torch.uint8))


@pytest.mark.parametrize("crop", [None, (40, 40)])
def test_logits_are_those_of_the_whole_image(crop: tuple[int, int] | None) -> None:
    protocol, image = EvaluationRecipe(crop), random_image(50, 70)
    memory = tile_memory((50, 70), (50, 70), CLASSES, protocol)
    expected = SlidingWindow(score, CLASSES, protocol, MEAN).logits(image)
    found = TiledWindow(score, CLASSES, protocol, MEAN, memory=memory).logits(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="is too little for an image of 50x70"):
        TiledWindow(score, CLASSES, protocol, MEAN, memory=1000).logits(image)


class Held(TorchDispatchMode):
    """Records the most bytes that the results of all operations took at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                size = tensor.untyped_storage().nbytes()
                self.known.add(key)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(tensor.untyped_storage(), self.freed, key, size)
        return result

    def freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.slow
def test_tiles_take_no_more_memory_than_planned() -> None:
    """Counted by what torch holds."""
    size, protocol = (300, 500), EvaluationRecipe((40, 40), scales=(0.75, 1.0, 1.5))
    image = random_image(*size)
    flat = torch.rand(1, 50, 40, 40)
    for memory in (20_000_000, 40_000_000):
        window = TiledWindow(lambda x: flat, 50, protocol, MEAN, memory=memory)
        layout = window.layout(image)
        with Held() as held:
            for _ in window.tiles(image):
                pass
        # In addition, the current window, its softmax, and part of the image: 4 MB.
        assert 0.5 * layout.memory < held.most < layout.memory + 4_000_000


def test_every_window_is_scored_once_and_when_its_rows_are_wanted() -> None:
    protocol, image, seen = EvaluationRecipe((16, 16), 0), random_image(128, 16), []
    memory = tile_memory((128, 16), (32, 16), 3, protocol)
    window = TiledWindow(lambda x: seen.append(x) or x, 3, protocol, memory=memory)  # type: ignore[func-returns-value]
    assert [len(seen) for _ in window.tiles(image)] == [2, 4, 6, 8]


# The layout

CROP = EvaluationRecipe((64, 64))
WITHOUT_LIMIT = 10**15


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(10, 30))
def test_tiles_cover_the_image_once_and_fit(height: int, width: int, log_memory: int) -> None:
    try:
        layout = plan_tiles((height, width), 19, CROP, 2**log_memory)
    except UserError:
        return
    for ranges, length in ((layout.rows, height), (layout.columns, width)):
        assert [i for each in ranges for i in each] == list(range(length))
    wide = max(map(len, layout.columns))
    assert tile_memory((height, width), (len(layout.rows[0]), wide), 19, CROP) == layout.memory <= 2**log_memory


def test_tiles_of_full_width_are_preferred() -> None:
    whole = plan_tiles((4000, 4000), 19, CROP, WITHOUT_LIMIT).memory
    assert len(plan_tiles((4000, 4000), 19, CROP, whole // 4).columns) == 1
    assert len(plan_tiles((4000, 4000), 19, CROP, whole // 500).columns) > 1


def test_a_hundred_megapixels_of_150_classes_within_8_gigabytes() -> None:
    layout = plan_tiles((10_000, 10_000), 150, EvaluationRecipe((512, 512)), 6 * 10**9)
    assert len(layout.columns) == 1
    scales = EvaluationRecipe((512, 512), scales=(0.75, 1.0, 1.25, 1.5, 1.75))
    assert plan_tiles((10_000, 10_000), 150, scales, 6 * 10**9).memory <= 6 * 10**9


def test_too_little_memory() -> None:
    with pytest.raises(
        UserError, match=r"a memory of 1MB is too little for an image of 900x900 and 150 classes: give it"
    ) as error:
        plan_tiles((900, 900), 150, CROP, 10**6)
    enough = 10**6 * int(str(error.value).split()[-3].removesuffix("MB"))
    assert plan_tiles((900, 900), 150, CROP, enough).memory <= enough


def test_reserved_memory_is_not_used() -> None:
    layout = plan_tiles((4000, 4000), 19, CROP, 10**9, reserved=9 * 10**8)
    assert layout.memory <= 10**8
    assert layout == plan_tiles((4000, 4000), 19, CROP, 10**8)
    assert tile_memory((100, 200), (100, 200), 5, CROP) == 4 * 5 * 100 * 200  # one scale is never copied
    with pytest.raises(UserError, match=r"a memory of 1000MB .* give it 10[0-9]{2}MB or more"):
        plan_tiles((4000, 4000), 19, CROP, 10**9, reserved=10**9)


def test_whole_images_need_a_crop_to_be_cut() -> None:
    with pytest.raises(
        UserError, match=r"the whole image is one window: give the model a crop, such as --crop 512x512"
    ):
        plan_tiles((900, 900), 150, EvaluationRecipe(), 10**6)


PARENT = """
import subprocess, sys
held = b"1" * 1_500_000_000
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
CHILD = """
import torch
from gffnet.inference.tiling import most_resident, peak_memory

before = peak_memory(torch.device("cpu"))
held = b"1" * 2 * before
print(before, most_resident())
"""


@pytest.mark.slow  # where memory is scarce
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux reports this process alone")
def test_peak_memory_grows_and_is_that_of_this_process_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    assert 50e6 < before < 1.2e9
    assert 2 * before <= after <= 3.2 * before
