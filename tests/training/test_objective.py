"""What is computed for a part of a batch, against the same written out."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from gffnet.models.layers import Norm
from gffnet.recipe import LossRecipe
from gffnet.training.losses import SegmentationLoss
from gffnet.training.task import AuxiliaryHead, batch_norms, both_losses, lower_precision
from tests import tiny


def test_both_losses_are_summed_cross_entropies() -> None:
    network = tiny.network(tiny.recipe(tiny.GFFNET))
    auxiliary = AuxiliaryHead(network.backbone.channels[2], 11).eval()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    labels = torch.randint(0, 11, (2, 32, 48), dtype=torch.uint8)
    labels[0, :5] = 255
    main, second = both_losses(network, auxiliary, SegmentationLoss(LossRecipe()), images, labels)
    x3 = network.backbone(network.normalize(images))[2]
    other = F.interpolate(auxiliary.layers(x3), (32, 48), mode="bilinear")
    for found, logits in ((main, network(images).logits), (second, other)):
        wanted = F.cross_entropy(logits, labels.long(), ignore_index=255, reduction="sum")
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_run_in_the_number_format(dtype: torch.dtype) -> None:
    with lower_precision(torch.device("cpu"), dtype):
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == dtype


def test_every_kind_of_batch_normalisation_is_found_and_no_other() -> None:
    first = nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.Sequential(Norm(3)))
    second = nn.Sequential(nn.SyncBatchNorm(3), BatchNormAct2d(3), nn.LayerNorm(3))
    assert batch_norms(first, second) == [first[0], first[2][0], second[0], second[1]]
