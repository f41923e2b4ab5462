"""Label maps and predictions for the tests of scores: random ones of any size, and real ones."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.data.trees import real

IGNORED = 255
Map = NDArray[np.uint8]
Case = tuple[int, list[tuple[Map, Map]]]


@st.composite
def cases(draw: st.DrawFn, largest: int = 12, images: int = 3) -> Case:
    """Number of classes, and label maps with predictions: some pixels ignored, some predicted as no class, some classes
    absent from either, in patches of several sizes."""
    classes = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pairs = []
    for _ in range(draw(st.integers(1, images))):
        size = (draw(st.integers(1, largest)), draw(st.integers(1, largest)))
        patch = draw(st.integers(1, 4))
        labels = patches(rng, size, patch, draw(st.integers(1, classes)))
        predicted = patches(rng, size, patch, draw(st.integers(1, classes)))
        agree = patches(rng, size, patch, 4) < draw(st.sampled_from([0, 2, 4]))
        predicted[agree] = labels[agree]
        labels[patches(rng, size, patch, 4) < draw(st.sampled_from([0, 1, 4]))] = draw(st.sampled_from([classes, 255]))
        predicted[patches(rng, size, patch, 4) < draw(st.sampled_from([0, 0, 1]))] = draw(
            st.sampled_from([classes, 200, 255])
        )
        pairs.append((labels, predicted))
    return classes, pairs


def patches(rng: np.random.Generator, size: tuple[int, int], patch: int, kinds: int) -> Map:
    """Random values below `kinds`, the same over squares of `patch` pixels."""
    coarse = rng.integers(0, kinds, (-(-size[0] // patch), -(-size[1] // patch)))
    return np.kron(coarse, np.ones((patch, patch))).astype(np.uint8)[: size[0], : size[1]]


def cleaned(classes: int, labels: Map, predicted: Map) -> tuple[Map, Map]:
    """Both maps as the parts of a scoring want them: `classes` where there is none, or nothing to predict."""
    truth = np.minimum(labels, classes).astype(np.uint8)
    return truth, np.where(truth == classes, classes, np.minimum(predicted, classes)).astype(np.uint8)


def real_pairs(count: int) -> list[tuple[Map, Map]]:
    """Label maps of CamVid (classes 0..10, 255 ignored) and, as predictions, those of the frames that follow."""
    folder = real("CamVid") / "valannot"
    paths = sorted(folder.glob("*.png"))[: count + 1]
    if len(paths) <= count:
        pytest.skip(f"fewer than {count + 1} label maps at {folder}")
    stored = [np.array(Image.open(path)) for path in paths]
    maps = [np.where(one > 10, IGNORED, one).astype(np.uint8) for one in stored]
    return list(pairwise(maps))
