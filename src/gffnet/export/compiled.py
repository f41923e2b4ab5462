"""A package of AOTInductor, opened to be compared with its network."""

import io
from pathlib import Path

import torch
from torch._inductor.package.package import load_package

from gffnet.inference.export_record import PROPERTY, read_record
from gffnet.inference.exported import ProgramFile
from gffnet.inference.quiet import quiet


class CompiledFile(ProgramFile):
    """A `.aoti.pt2` package on the CPU. It takes uint8 alone, so windows of scaled images are nothing for it."""

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        """`path`: the package, whatever its name."""
        with quiet():
            self._module = load_package(io.BytesIO(path.read_bytes()))
        self.path, self.record = path, read_record(self._module.get_metadata().get(PROPERTY), path)
