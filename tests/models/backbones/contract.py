"""What every backbone keeps. A family's test inherits `BackboneContract` and names its recipe."""

import dataclasses
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from gffnet.models.backbones import Backbone
from gffnet.models.gffnet import build_backbone
from gffnet.recipe import BackboneRecipe


def settled(backbone: Backbone) -> Backbone:
    """In double precision, evaluating, with statistics and parameters that are not what they start as."""
    for name, value in backbone.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith(("running_var", "weight")) and value.ndim == 1:
            value.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            value.normal_(std=0.1)
    return backbone.double().eval()


@torch.no_grad()
def pyramid(backbone: Backbone, image: Tensor) -> list[Tensor]:
    return backbone(image)


class BackboneContract:
    recipe: ClassVar[BackboneRecipe]
    widths: ClassVar[tuple[int, ...]]
    strides: ClassVar[tuple[int, ...]]

    @pytest.fixture(scope="class")
    def backbone(self) -> Backbone:
        return build_backbone(self.recipe).eval()

    def test_states_its_widths_and_strides(self, backbone: Backbone) -> None:
        assert backbone.widths == self.widths
        assert backbone.strides == self.strides

    @pytest.mark.parametrize("size", [(64, 96), (65, 97), (95, 33)])
    def test_maps_are_as_wide_and_as_coarse_as_stated(self, backbone: Backbone, size: tuple[int, int]) -> None:
        maps = pyramid(backbone, torch.randn(2, 3, *size))
        expected = [
            (2, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
            for width, stride in zip(self.widths, self.strides, strict=True)
        ]
        assert [tuple(x.shape) for x in maps] == expected

    def test_stays_channels_last(self, backbone: Backbone) -> None:
        image = torch.randn(2, 3, 64, 96)
        plain = pyramid(backbone, image)
        twin = build_backbone(self.recipe).eval().to(memory_format=torch.channels_last)
        twin.load_state_dict(backbone.state_dict())
        maps = pyramid(twin, image.contiguous(memory_format=torch.channels_last))
        for x, y in zip(maps, plain, strict=True):
            assert x.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)

    def test_has_no_classifier_and_every_parameter_matters(self) -> None:
        backbone = build_backbone(self.recipe).train()
        sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 96))).backward()
        unused = [name for name, p in backbone.named_parameters() if p.grad is None]
        assert unused == []

    def test_builds_without_memory(self) -> None:
        with torch.device("meta"):
            backbone = build_backbone(self.recipe)
            maps = backbone(torch.empty(1, 3, 512, 512))
        assert all(p.is_meta for p in backbone.parameters())
        assert [x.shape[1] for x in maps] == list(self.widths)

    def test_takes_other_input_channels(self) -> None:
        backbone = build_backbone(dataclasses.replace(self.recipe, in_channels=4)).eval()
        maps = pyramid(backbone, torch.randn(1, 4, 64, 64))
        assert [x.shape[1] for x in maps] == list(self.widths)
