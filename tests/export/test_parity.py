"""The sizes and images that are compared, and the tolerance."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from gffnet.export.parity import TOLERANCES, TRACED, Parity, Tolerance, compare, parity_sizes, random_images
from gffnet.inference.exported import OUTPUTS, Exported
from gffnet.recipe import ModelRecipe
from tests.export.networks import network


def test_the_sizes_are_of_every_kind() -> None:
    of = parity_sizes(16)
    assert TRACED in of
    others = [size for size in of if size != TRACED]
    assert len(of) >= 5
    assert len({batch for batch, _, _ in others}) >= 2
    assert (1, 16, 16) in others
    assert any(height > width for _, height, width in others)
    assert any(height < width for _, height, width in others)
    assert any(height % 2 == width % 2 == 1 for _, height, width in others)


def test_images_have_edges_and_flat_regions_and_are_reproducible() -> None:
    image = random_images(0, (2, 3, 101, 163))
    assert image.dtype == torch.uint8
    assert torch.equal(image, random_images(0, (2, 3, 101, 163)))
    assert not torch.equal(image, random_images(1, (2, 3, 101, 163)))
    steps = image.int().diff(dim=-1).abs()
    borders = steps[..., 7::8].float().mean()
    inside = steps[..., 0::8].float().mean()
    assert borders > 1.5 * inside
    assert image.min() < 20
    assert image.max() > 220


class Shifted(Exported):
    """A file that agrees with the network but for one image, whose first row it moves to the next class."""

    def __init__(self, of: object) -> None:
        self.of = of
        self.record = SimpleNamespace(smallest=16)  # type: ignore[assignment]

    def __call__(self, image: Tensor, wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        probabilities = self.of(image).logits.softmax(1)  # type: ignore[operator]
        labels = probabilities.max(1).indices
        if image.shape[-2] == 101:
            labels[:, 0] += 1
            probabilities[0, 2, 5, 7] += 0.25
        return [labels.to(torch.uint8), probabilities]


def test_labels_and_probabilities_are_compared_at_each_size() -> None:
    of = network(ModelRecipe(context="none"))
    found = list(compare(Shifted(of), of))
    assert [(each.batch, each.height, each.width) for each in found] == parity_sizes(16)
    for each in found:
        wrong = each.height == 101
        assert math.isclose(each.agreement, 100 / 101 if wrong else 1)
        assert math.isclose(each.difference, 0.25 if wrong else 0, rel_tol=1e-5)


def test_what_is_within_the_tolerance() -> None:
    tolerance = Tolerance(0.999, 0.01)
    assert tolerance.holds(Parity(1, 2, 3, 0.999, 0.01))
    assert not tolerance.holds(Parity(1, 2, 3, 0.998, 0.0))
    assert not tolerance.holds(Parity(1, 2, 3, 1.0, 0.011))
    assert not tolerance.holds(Parity(1, 2, 3, 1.0, math.nan))
    assert TOLERANCES["float32"].agreement > TOLERANCES["bfloat16"].agreement
    assert Parity(2, 3, 4, 1.0, 0.0).size == "2x3x4"
