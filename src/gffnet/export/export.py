"""The network as a graph of free batch, height and width, with everything in it that an image needs.

    image uint8 (B, C, H, W) → normalise → network, batch normalisation folded → logits
    labels = argmax logits,  probabilities = softmax logits

Sizes are symbols while the graph is made. Where the network compares two of them (maps of one resolution are added
before they are resized), the answer holds for every image of at least `smallest_side` pixels; a `.pt2` file asserts it
each time it runs.
"""

import copy
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch._inductor import aoti_compile_and_package
from torch._inductor.exc import InvalidCxxCompiler
from torch._inductor.package.package import load_package
from torch.export import Dim, ExportedProgram

import gffnet
from gffnet.errors import RunFailed, UserError, unknown
from gffnet.files import atomic_file
from gffnet.inference.exported import (
    COMPILED,
    EXTRA_FILE,
    OUTPUTS,
    PROPERTY,
    Exported,
    ExportRecord,
    OnnxFile,
    ProgramFile,
    read_record,
)
from gffnet.inference.exported import silenced as quiet
from gffnet.inference.model_io import ModelConfig, hash_weights
from gffnet.models.folding import fold_norms
from gffnet.models.gffnet import SegmentationModel

TRACED = (2, 128, 192)
"""Batch, height and width of the image that the graph is made with."""


class ImageToLabels(nn.Module):
    """What a file computes: a batch of images → their labels and the probabilities of all classes."""

    def __init__(self, network: SegmentationModel, dtype: torch.dtype) -> None:
        """`network` is copied; `dtype`: the number format of its weights."""
        super().__init__()
        prepared = copy.deepcopy(network).eval().cpu()
        fold_norms(prepared, torch.zeros(1, len(network.mean), 64, 64))
        prepared.head.dropout = nn.Dropout2d(0)
        self.network = prepared.to(dtype).to(memory_format=torch.channels_last)

    def forward(self, image: UInt8[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """Image (B, C, H, W) → labels, uint8 (B, H, W), and probabilities, float32 (B, K, H, W)."""
        logits = self.network(image.contiguous(memory_format=torch.channels_last)).logits.float()
        return {"labels": logits.max(1).indices.to(torch.uint8), "probabilities": logits.softmax(1)}


def smallest_side(network: SegmentationModel) -> int:
    """The least height and width of an image, in pixels: two positions of the coarsest map."""
    return 2 * max(network.backbone.strides)


@torch.no_grad()
def trace(network: SegmentationModel, dtype: torch.dtype) -> ExportedProgram:
    """The graph of `ImageToLabels`."""
    batch, height, width = TRACED
    image = torch.randint(0, 256, (batch, len(network.mean), height, width), dtype=torch.uint8)
    least = smallest_side(network)
    free = {0: Dim("batch", min=1), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    with quiet():
        program = torch.export.export(
            ImageToLabels(network, dtype).eval(),
            (image,),
            dynamic_shapes=(free,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


# The three kinds of files, as bytes.


OPSET = 20
"""Version of ONNX's operators."""


def to_pt2(program: ExportedProgram, record: ExportRecord) -> bytes:
    """A `.pt2` file, which `torch.export.load` reads."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(program, file, extra_files={EXTRA_FILE: record.to_text()})
    return file.getvalue()


def to_aoti(program: ExportedProgram, record: ExportRecord) -> bytes:
    """A `.aoti.pt2` package: the program compiled to machine code, for this kind of processor.

    Raises:
        UserError: there is no C++ compiler.
    """
    file = io.BytesIO()
    try:
        with quiet():
            aoti_compile_and_package(
                program,
                package_path=file,
                inductor_configs={"aot_inductor.metadata": {PROPERTY: record.to_text()}},
            )
    except InvalidCxxCompiler:
        raise UserError(
            "--to aoti needs a C++ compiler, and none was found: install g++ or clang, or name one in the environment "
            "variable CXX."
        ) from None
    return file.getvalue()


def to_onnx(program: ExportedProgram, record: ExportRecord) -> bytes:
    """An `.onnx` file, weights included.

    Raises:
        UserError: the packages that write one are not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # which the check needs
        import onnxscript  # noqa: F401  # which torch needs
    except ImportError as error:
        raise UserError(f"--to onnx needs {error.name}: pip install 'gffnet[export]'.") from None
    with quiet():
        written = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=list(OUTPUTS), verbose=False
        )
    assert written is not None
    model: Any = written.model_proto
    _tidy(model)
    onnx.helper.set_model_props(model, {PROPERTY: record.to_text()})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _tidy(model: Any) -> None:
    """Name the free dimensions, and drop what the tracer left: its own names of sizes, and paths of this machine."""
    values = (*model.graph.input, *model.graph.output)
    image, labels, probabilities = (value.type.tensor_type.shape.dim for value in values)
    for dims, names in ((image, "b.hw"), (labels, "bhw"), (probabilities, "b.hw")):
        for dim, name in zip(dims, names, strict=True):
            if name != ".":
                dim.dim_param = {"b": "batch", "h": "height", "w": "width"}[name]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")


# Whether an exported file says what the network says: the same images through both, at sizes that differ.


class Parity(NamedTuple):
    """How a file and the network agree on one batch of images."""

    batch: int
    height: int
    width: int
    agreement: float
    """Share of the pixels with the same label."""
    difference: float
    """Greatest difference of a probability."""

    @property
    def size(self) -> str:
        """`batch x height x width`."""
        return f"{self.batch}x{self.height}x{self.width}"


class Tolerance(NamedTuple):
    """What a file may differ by from the network in float32."""

    agreement: float
    """Least share of the pixels with the same label."""
    difference: float
    """Greatest difference of a probability."""

    def holds(self, parity: Parity) -> bool:
        """Whether a batch is within it; what is not a number is not."""
        return parity.agreement >= self.agreement and parity.difference <= self.difference


TOLERANCES = {
    "float32": Tolerance(0.9999, 1e-3),
    "float16": Tolerance(0.99, 0.1),
    "bfloat16": Tolerance(0.97, 0.5),
}


def sizes(smallest: int) -> list[tuple[int, int, int]]:
    """Batch, height and width of what is compared: the least, the traced, odd, portrait, and one like a photograph."""
    return [(1, smallest, smallest), TRACED, (1, 101, 163), (3, 233, 149), (1, 361, 483)]


def compare(exported: Exported, network: SegmentationModel) -> Iterator[Parity]:
    """The agreement at each of `sizes`, one after the other. `network`: in evaluation, float32, on the CPU."""
    for seed, size in enumerate(sizes(exported.record.smallest)):
        image = pictures(seed, (size[0], len(network.mean), *size[1:]))
        with torch.inference_mode():
            labels, probabilities = exported(image)
            expected = network(image).logits.softmax(1)
        same = (labels == expected.max(1).indices).double().mean()
        yield Parity(*size, same.item(), (probabilities - expected).abs().max().item())


def pictures(seed: int, shape: tuple[int, int, int, int]) -> UInt8[Tensor, "b c h w"]:
    """Blocks of colour of two sizes under fine noise: edges and flat parts, as photographs have them."""
    random = np.random.default_rng(seed)
    image: Any = random.integers(0, 40, shape)
    for side, range_of in ((32, 140), (8, 78)):
        coarse = random.integers(0, range_of, (*shape[:2], *(-(-length // side) for length in shape[2:])))
        image = image + np.kron(coarse, np.ones((side, side), int))[..., : shape[2], : shape[3]]
    return torch.from_numpy(image.astype(np.uint8))


# A package of AOTInductor, opened to be compared with its network.


class CompiledFile(ProgramFile):
    """A `.aoti.pt2` package on the CPU. It takes uint8 alone, so windows of scaled images are nothing for it."""

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        """`path`: the package, whatever its name."""
        with quiet():
            self._module = load_package(io.BytesIO(path.read_bytes()))
        self.path, self.record = path, read_record(self._module.get_metadata().get(PROPERTY), path)


# From a model to a file: traced, written, opened again, compared with the network, and kept only if it agrees.


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
    network: SegmentationModel,
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
    record = describe_export(network, config, precision)
    tolerance, steps = TOLERANCES[precision], 2 + len(sizes(record.smallest))
    with atomic_file(out) as file:
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


def describe_export(network: SegmentationModel, config: ModelConfig, precision: str) -> ExportRecord:
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
