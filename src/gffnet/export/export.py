"""From a model to a file: traced, written, opened again, compared with the network, and kept only if it agrees."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

import gffnet
from gffnet.errors import RunFailed, UserError, unknown
from gffnet.export.compiled import CompiledFile
from gffnet.export.formats import to_aoti, to_onnx, to_pt2
from gffnet.export.graph import smallest_side, trace
from gffnet.export.parity import TOLERANCES, Parity, Tolerance, compare, sizes
from gffnet.files import whole_file
from gffnet.inference.export_record import COMPILED, ExportRecord
from gffnet.inference.exported import Exported, OnnxFile, ProgramFile
from gffnet.inference.model_folder import ModelConfig, hash_weights
from gffnet.models.network import SceneParser

PRECISIONS = {
    "onnx": ("float32", "float16"),
    "pt2": ("float32", "bfloat16", "float16"),
    "aoti": ("float32", "bfloat16", "float16"),
}
"""Number formats that the weights of a file may have."""

SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "aoti": COMPILED}
"""What the name of a file ends with; `--model` goes by it."""


@dataclass(frozen=True)
class Export:
    """A file that was written."""

    path: Path
    size: int
    """In bytes."""
    record: ExportRecord
    tolerance: Tolerance
    parity: list[Parity]
    """How file and network agree at every size that was compared."""

    def to_mapping(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        record = dataclasses.asdict(self.record)
        return {
            "file": str(self.path),
            "format": _format_of(self.path),
            "bytes": self.size,
            **{key: record[key] for key in ("precision", "smallest", "weights", "image", "labels", "probabilities")},
            "tolerance": self.tolerance._asdict(),
            "parity": [each._asdict() for each in self.parity],
        }


def check_request(to: str, out: Path, precision: str) -> None:
    """Raise a `UserError` unless a file called `out` can be of the format `to` and in `precision`."""
    if to not in PRECISIONS:
        raise unknown("--to", to, PRECISIONS)
    if _format_of(out) != to:
        raise UserError(f"--out {out} must end with {SUFFIXES[to]}, as --to {to} has it: --model goes by the name.")
    if precision not in PRECISIONS[to]:
        raise UserError(f"--precision {precision}: --to {to} takes {' or '.join(PRECISIONS[to])}.")


def export_model(
    network: SceneParser,
    config: ModelConfig,
    to: str,
    out: Path,
    precision: str = "float32",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Export:
    """Write a network as one file that needs none of this package's code.

    Args:
        network: on the CPU, float32.
        config: what is known of it.
        to: `onnx`, `pt2` or `aoti`.
        out: the file; one that is there is replaced only by one that agrees with the network.
        precision: number format of the weights, one of `PRECISIONS`.
        advance: told after every step how many are done, and of how many.

    Raises:
        UserError: no such format, name or precision; a package is missing; it cannot be written.
        RunFailed: what was written says something else than the network; it is not kept.
    """
    check_request(to, out, precision)
    network = network.eval()
    record = describe(network, config, precision)
    tolerance, steps = TOLERANCES[precision], 2 + len(sizes(record.smallest))
    with whole_file(out) as file:
        program = trace(network, getattr(torch, precision))
        advance(1, steps)
        data = _written(to, program, record)
        file.write(data)
        file.flush()
        exported = _open(to, Path(file.name))
        advance(2, steps)
        parity = []
        for each in compare(exported, network):
            parity.append(each)
            advance(2 + len(parity), steps)
        if wrong := [each for each in parity if not tolerance.holds(each)]:
            raise RunFailed(f"{out} is not written: {_differences(wrong, tolerance)}.")
    return Export(out, len(data), record, tolerance, parity)


def _written(to: str, program: ExportedProgram, record: ExportRecord) -> bytes:
    """The content of a file."""
    match to:
        case "onnx":
            return to_onnx(program, record)
        case "aoti":
            return to_aoti(program, record)
        case _:
            return to_pt2(program, record)


def _open(to: str, written: Path) -> Exported:
    """What was written, opened again."""
    match to:
        case "onnx":
            return OnnxFile(written)
        case "aoti":
            return CompiledFile(written)
        case _:
            return ProgramFile(written, torch.device("cpu"))


def _format_of(path: Path) -> str | None:
    """The format that a file's name says."""
    ends = [to for to, suffix in SUFFIXES.items() if path.name.endswith(suffix)]
    return max(ends, key=lambda to: len(SUFFIXES[to]), default=None)


def describe(network: SceneParser, config: ModelConfig, precision: str) -> ExportRecord:
    """What a file says of itself."""
    least, channels, classes = smallest_side(network), len(network.mean), len(config.classes)
    colours = "RGB" if channels == 3 else f"{channels} channels"
    return ExportRecord(
        gffnet=gffnet.__version__,
        weights=hash_weights(network),
        precision=precision,  # type: ignore[arg-type]  # one of them, as was checked
        smallest=least,
        image=f"uint8 (batch, {channels}, height, width), {colours} in 0..255, height and width at least {least}",
        labels="uint8 (batch, height, width), indices into config.classes",
        probabilities=f"float32 (batch, {classes}, height, width), their sum over the classes is 1",
        config=config,
    )


def _differences(wrong: list[Parity], tolerance: Tolerance) -> str:
    """What differs, in words."""
    said = [
        f"at {each.size} {each.agreement:.3%} of the labels agree and a probability is off by {each.difference:.2g}"
        for each in wrong
    ]
    return (
        f"it differs from the network: {'; '.join(said)}; allowed are {tolerance.agreement:.2%} or more and "
        f"{tolerance.difference:g} or less"
    )
