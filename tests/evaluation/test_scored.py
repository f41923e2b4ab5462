"""What is scored in parts adds up to what is scored at once."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.evaluation.evaluate import Scored

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def pairs() -> list[Pair]:
    rng = np.random.default_rng(0)
    return [
        (rng.choice([0, 1, 2, 255], (20, 24)).astype(np.uint8), rng.integers(0, 3, (20, 24), dtype=np.uint8))
        for _ in range(5)
    ]


def scored(indices: range | list[int], details: bool = True) -> Scored:
    of = Scored(3, details)
    for i in indices:
        of.update(i, *pairs()[i])
    return of


@pytest.mark.parametrize("details", [True, False])
def test_parts_add_up_exactly(details: bool) -> None:
    whole, together = scored(range(5), details), Scored(3, details)
    for part in ([3, 1], [], [0, 2, 4]):
        together.add(scored(part, details).pack())
    names = ["a", "b", "c"]
    assert together.counts.report(names) == whole.counts.report(names)
    assert together.images == whole.images
    assert ("boundary_f" in whole.counts.report(names)) == details
    assert all(isinstance(score.pixels, int) for score in together.images.values())


def test_an_image_is_not_counted_twice() -> None:
    of = scored([0, 1])
    before = of.counts.report(["a", "b", "c"])
    with pytest.raises(ValueError, match="twice"):
        of.add(scored([1, 2]).pack())
    assert of.counts.report(["a", "b", "c"]) == before


def test_other_counts_are_refused() -> None:
    of = scored([0])
    with pytest.raises(ValueError, match="counts"):
        of.add(scored([1], details=False).pack())
    assert list(of.images) == [0]
