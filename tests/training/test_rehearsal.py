"""What is computed for a part of a batch: the same as in training, and its FLOPs against counts by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gffnet.data.camvid import CAMVID
from gffnet.inference.precision import Precision
from gffnet.reports.cost import cost, count_macs
from gffnet.training.dry_run import Rehearsal, Setup, count_flops, count_parameters, random_batch
from gffnet.training.task import SegmentationTask
from tests import tiny

CLASSES = len(CAMVID.names)


class Small(nn.Module):
    """Three convolutions that can be counted by hand, then a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.grouped = nn.Conv2d(8, 12, 1, groups=4)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=2)
        self.last = nn.Linear(6, 5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = self.up(self.grouped(self.depthwise(self.first(images.float()))))
        total: Tensor = self.last(x.permute(0, 2, 3, 1)).sum()
        return total


def test_flops_by_hand() -> None:
    with torch.device("meta"):
        flops = count_flops(Small(), 3, (16, 24))
    half = 8 * 12
    first = half * 8 * 3 * 9
    others = half * 8 * 9 + half * 12 * 2 + half * 12 * 3 * 4 + 16 * 24 * 6 * 5
    assert flops.forward == 2 * (first + others)
    assert flops.backward == 2 * (first + 2 * others), "the first layer needs no gradient of its input"
    assert flops.total == flops.forward + flops.backward


def test_forward_flops_are_those_of_the_cost_table_and_the_auxiliary_head() -> None:
    recipe = tiny.recipe(tiny.GFFNET, crop=[64, 64])
    with torch.device("meta"):
        rehearsal = Rehearsal(recipe, CLASSES)
        x3 = rehearsal.network.backbone(torch.empty(1, 3, 64, 64))[2]
    counted = count_flops(rehearsal, 3, (64, 64))
    auxiliary = 2 * count_macs(rehearsal.auxiliary, x3, (64, 64))
    assert counted.forward == cost(recipe, (64, 64))["executed_flops"] + auxiliary
    assert 1.9 * counted.forward < counted.backward < 2 * counted.forward


def test_parameters_of_the_parts() -> None:
    with torch.device("meta"):
        rehearsal = Rehearsal(tiny.recipe(tiny.GFFNET), CLASSES)
    parts = count_parameters(rehearsal)
    assert [*parts] == ["backbone", "context", "fusion", "pyramid", "head", "auxiliary"]
    assert sum(parts.values()) == sum(p.numel() for p in rehearsal.parameters())
    with torch.device("meta"):
        assert "fusion" not in count_parameters(Rehearsal(tiny.recipe(), CLASSES))


@pytest.mark.parametrize("loss", [{}, {"label_smoothing": 0.1, "ohem": 0.7}], ids=["plain", "mining"])
def test_the_loss_is_that_of_training(loss: dict[str, Any]) -> None:
    recipe = tiny.recipe(loss=loss)
    task = SegmentationTask(
        tiny.network(recipe), tiny.config(recipe), recipe.training, Precision(torch.float32, "for tests"), seed=0
    )
    task.eval()
    rehearsal = Rehearsal(recipe, CLASSES).eval()
    rehearsal.network, rehearsal.auxiliary = task.network, task.auxiliary
    images, labels = random_batch(2, 3, (32, 48), CLASSES, torch.device("cpu"))
    main, auxiliary = task.losses(images.contiguous(memory_format=torch.channels_last), labels)
    expected = (main + 0.4 * auxiliary) / task.loss.weight(labels)
    torch.testing.assert_close(rehearsal(images, labels), expected)


def test_frozen_normalisation() -> None:
    with torch.device("meta"):
        rehearsal = Rehearsal(tiny.recipe(freeze_norms=True), CLASSES)
    norms = [m for m in rehearsal.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_weighted_classes_have_their_buffer() -> None:
    with torch.device("meta"):
        weights = Rehearsal(tiny.recipe(loss={"class_weighting": "enet"}), CLASSES).loss.class_weights
    assert weights is not None
    assert weights.shape == (CLASSES,)


def test_setup() -> None:
    setup = Setup(tiny.recipe(), CLASSES, torch.device("cpu"), torch.bfloat16)
    assert setup.channels == 3
    with setup.precision():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with setup._replace(dtype=torch.float32).precision():
        assert not torch.is_autocast_enabled("cpu")
