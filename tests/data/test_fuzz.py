"""Damaged files of every kind: never a crash, a hang, a warning or a wrong label; whatever is refused is named.

A mutant is a file with bytes changed, lost, doubled or put in. What a data set makes of it is one of two things:

refused: one `UserError` of one line that names the file; of lists, the list or the file that is missing by it.
accepted: and then right. Where a format has check sums (PNG, packed MAT), that is what it held before.
    Where it has none, it is what another reader finds in the same mutant (Pillow, scipy, yaml), as the official table
    has it. A list gives pairs of files that are there and have one name. The pixels of a JPEG may be others, but not
    their number.

The arrays of a cache have no check sum, since they are mapped into memory: only their headers and lengths are mutated.
Files of MAT 7.3 are not among these: libhdf5 reads them, and `test_mat` cuts them.
"""

import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gffnet.errors import UserError
from tests.data.fuzz.caches import cached_image, cached_labels
from tests.data.fuzz.images import (
    bmp_image,
    jpeg_image,
    packed_tiff_image,
    png_image,
    progressive_jpeg_image,
    tiff_image,
    webp_image,
)
from tests.data.fuzz.lists import camvid_list, classes_of_colors, classes_of_ids, coco_list, folder_list, voc_list
from tests.data.fuzz.masks import (
    ade20k_mask,
    bmp_mask,
    camvid_mask,
    cityscapes_mask,
    color_mask,
    palette_mask,
    palette_of_colors,
    sixteen_bit_mask,
    tiff_mask,
)
from tests.data.fuzz.mats import (
    packed_coco_1_0,
    packed_coco_1_1,
    packed_pascal_mat,
    plain_coco_1_0,
    plain_coco_1_1,
    plain_pascal_mat,
)
from tests.data.fuzz.mutants import mutant
from tests.data.fuzz.target import Target

MUTANTS, MANY = 80, 800
"""Of a kind; there are more than 25 kinds."""

LONGEST = 5.0
"""Seconds that a mutant may take."""


KINDS = [
    *(png_image, jpeg_image, progressive_jpeg_image, bmp_image, tiff_image, packed_tiff_image, webp_image),
    *(camvid_mask, ade20k_mask, cityscapes_mask, sixteen_bit_mask, palette_mask, color_mask, palette_of_colors),
    *(bmp_mask, tiff_mask, packed_pascal_mat, plain_pascal_mat),
    *(packed_coco_1_1, plain_coco_1_1, packed_coco_1_0, plain_coco_1_0),
    *(camvid_list, voc_list, coco_list, folder_list, classes_of_ids, classes_of_colors),
    *(cached_image, cached_labels),
]
NEVER_REFUSED = {cached_image, cached_labels}
"""Kinds whose damage is passed over: then the files are read."""


def outcome(target: Target, root: Path) -> str:
    """What becomes of the mutant that lies in the file now: refused, accepted or passed over."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            result = target.read()
        except UserError as error:
            result, text = "refused", str(error)
            assert "\n" not in text
            named = str(target.file) in text
            missing = target.file.suffix == ".txt" and f"the first of them {root}/" in text
            empty = target.file.suffix == ".txt" and f"at {root}: split 'train' holds no image" in text
            assert named or missing or empty, text
        assert time.perf_counter() - started < LONGEST
    assert [str(warning.message) for warning in warned] == []
    return result


def fuzz(make: Callable[[Path], Target], root: Path, mutants: int, seed: int) -> None:
    assert mutants >= MUTANTS
    target = make(root)
    whole, outcomes = target.file.read_bytes(), Counter[str]()
    assert outcome(target, root) == "accepted"
    for i in range(mutants):
        content = mutant(whole, target, np.random.default_rng([seed, zlib.crc32(make.__name__.encode()), i]))
        target.file.unlink()  # a cache may have mapped the one before
        target.file.write_bytes(content)
        try:
            outcomes[outcome(target, root)] += 1
        except BaseException as error:
            error.add_note(f"mutant {i} of {make.__name__}, of {len(whole)} bytes: {content[:400]!r}")
            raise
    print(f"{make.__name__}: {dict(outcomes)}")
    assert (outcomes["refused"] > 0) == (make not in NEVER_REFUSED), outcomes
    assert outcomes["accepted"] + outcomes["passed over"] > 0, outcomes


def test_there_are_two_thousand() -> None:
    assert MUTANTS * len(KINDS) >= 2000
    assert MANY * len(KINDS) >= 20_000


@pytest.mark.parametrize("make", KINDS)
def test_mutants(make: Callable[[Path], Target], tmp_path: Path) -> None:
    fuzz(make, tmp_path, MUTANTS, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS)
def test_many_mutants(make: Callable[[Path], Target], tmp_path: Path) -> None:
    fuzz(make, tmp_path, MANY, seed=1)
