import pytest
import torch

from gffnet.models.context import DenseASPP
from tests.models import naive
from tests.models.context.contract import ContextContract


class TestDenseASPP(ContextContract):
    kind = DenseASPP

    def equation(self, context, x):
        """z_i = H_{d_i}([x, z_1, ..., z_{i-1}]), y_0 = H([x, z_1, ..., z_5])."""
        maps = [naive.block(context.reduce, x)]
        for branch in context.branches:
            maps.append(naive.blocks(branch, torch.cat(maps, dim=1)))
        return naive.block(context.project, torch.cat(maps, dim=1))


def test_layers_are_those_of_the_paper():
    with torch.device("meta"):
        context = DenseASPP(1024)
    narrow, wide = zip(*[(b[0].conv, b[1].conv) for b in context.branches], strict=True)
    assert [conv.in_channels for conv in narrow] == [512, 576, 640, 704, 768]
    assert [(conv.in_channels, conv.out_channels) for conv in wide] == [(128, 64)] * 5
    assert [conv.dilation for conv in wide] == [(d, d) for d in (3, 6, 12, 18, 24)]


@pytest.mark.parametrize(("in_width", "reduced"), [(512, 256), (1024, 512), (2048, 512)])
def test_the_input_is_halved_to_512_channels_at_most(in_width, reduced):
    with torch.device("meta"):
        assert DenseASPP(in_width).reduce.conv.out_channels == reduced
