"""Networks that are traced quickly: a backbone of four convolutions, and everything else as it is."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import jaxtyping
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from gffnet.data.camvid import CAMVID
from gffnet.export.export import FORMATS, Export, export_model, trace
from gffnet.models.backbones import Backbone
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import ModelRecipe
from tests import tiny
from tests.models.naive import randomized

GFFNET = dataclasses.replace(ModelRecipe(), fusion="gff", dense_pyramid="dense", channels=32)
CLASSES = len(CAMVID.names)


class StridedBackbone(Backbone):
    """Four strided convolutions of the image."""

    def __init__(self, strides: tuple[int, int, int, int] = (4, 8, 8, 8), in_channels: int = 3) -> None:
        super().__init__()
        self.channels, self.strides = (6, 8, 12, 16), strides
        self.layers = nn.ModuleList(
            nn.Conv2d(in_channels, c, 3, stride, padding=1) for c, stride in zip(self.channels, strides, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return [layer(image) for layer in self.layers]


def network(recipe: ModelRecipe, strides: tuple[int, int, int, int] = (4, 8, 8, 8)) -> SegmentationModel:
    """Build the network of `recipe` on that backbone with random weights."""
    torch.manual_seed(0)
    with patch("gffnet.models.gffnet.build_backbone", lambda of: StridedBackbone(strides, of.in_channels)):
        built = build_network(recipe, CLASSES)
    return randomized(built).float()


def config(recipe: ModelRecipe) -> ModelConfig:
    return ModelConfig(recipe, CAMVID.names, CAMVID.palette, "camvid", "tests/export", tiny.recipe().evaluation)


@contextmanager
def symbolic_sizes() -> Iterator[None]:
    """Disable checks of annotations: while a graph is traced, sizes are symbols and not `int`."""
    with patch.object(jaxtyping.config, "jaxtyping_disable", True):
        yield


@cache
def traced() -> ExportedProgram:
    """Return the GFFNet, traced once for all formats."""
    return trace(network(GFFNET), torch.float32)


@cache
def exported(to: str) -> tuple[bytes, Export, list[bytes]]:
    """Return the GFFNet as the content of a file, its `Export`, and the contents of all its files."""
    once = patch("gffnet.export.export.trace", lambda *_: traced())
    with tempfile.TemporaryDirectory() as folder, symbolic_sizes(), once:
        out = Path(folder) / f"model{FORMATS[to].suffixes[0]}"
        export = export_model(network(GFFNET), config(GFFNET), to, out)
        contents = [out.with_suffix(suffix).read_bytes() for suffix in FORMATS[to].suffixes]
        return contents[0], export, contents


def exported_file(to: str, folder: Path) -> Path:
    """Write the GFFNet to a file in `folder`."""
    for suffix, content in zip(FORMATS[to].suffixes, exported(to)[2], strict=True):
        (folder / f"model{suffix}").write_bytes(content)
    return folder / f"model{FORMATS[to].suffixes[0]}"
