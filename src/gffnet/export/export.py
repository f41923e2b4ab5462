"""Export of a network to one file that runs without gffnet: ONNX, or a program of `torch.export`.

    image (B, C, H, W) in 0..255 → normalization, network with folded batch normalization → logits
    labels = argmax logits,  probabilities = softmax logits

Images are uint8, or float32 for a network of images deeper than 8 bits (`model.white_level`).

Batch, height and width are dynamic: sizes are symbols while the graph is traced. Where the network compares two of them
(maps of one resolution are summed before they are resized), the outcome holds for every image of at least
`smallest_side` pixels; a `.pt2` file asserts this on every run.
"""

import copy
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Num, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import gffnet
from gffnet.errors import RunFailed, UserError, unknown
from gffnet.files import atomic_file
from gffnet.inference.exported import (
    EXTRA_FILE,
    OUTPUTS,
    PROPERTY,
    Exported,
    ExportRecord,
    OnnxFile,
    ProgramFile,
    silenced,
)
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.model_io import ModelConfig, hash_weights

OPSET = 20
"""Version of ONNX's operator set."""
TRACED = (2, 128, 192)
"""Batch, height and width of the images that the graph is traced with."""


class Parity(NamedTuple):
    """Agreement of a file with the network on one batch of images."""

    batch: int
    height: int
    width: int
    agreement: float
    """Fraction of pixels with the same label."""
    difference: float
    """Largest absolute difference of a probability."""

    @property
    def size(self) -> str:
        """`batch x height x width`."""
        return f"{self.batch}x{self.height}x{self.width}"


class Tolerance(NamedTuple):
    """Deviation allowed from the network in float32."""

    agreement: float
    """Minimal fraction of pixels with the same label."""
    difference: float
    """Maximal absolute difference of a probability."""


TOLERANCES = {
    "float32": Tolerance(0.9999, 1e-3),
    "float16": Tolerance(0.99, 0.1),
    "bfloat16": Tolerance(0.97, 0.5),
}


def parity_sizes(smallest: int) -> list[tuple[int, int, int]]:
    """Return batch, height and width of what is compared: smallest, traced, odd, portrait, and like a photograph."""
    return [(1, smallest, smallest), TRACED, (1, 101, 163), (3, 233, 149), (1, 361, 483)]


def compare(exported: Exported, network: SegmentationModel) -> Iterator[Parity]:
    """Yield the parity at each of `parity_sizes`. `network`: in evaluation mode, float32, on the CPU."""
    for seed, (batch, height, width) in enumerate(parity_sizes(exported.record.smallest)):
        images = random_images(seed, (batch, len(network.mean), height, width)).to(image_dtype(exported.record.config))
        with torch.inference_mode():
            labels, probabilities = exported(images)
            expected = network(images).logits.softmax(1)
        same = (labels == expected.max(1).indices).double().mean()
        yield Parity(batch, height, width, same.item(), (probabilities - expected).abs().max().item())


def random_images(seed: int, shape: tuple[int, int, int, int]) -> UInt8[Tensor, "b c h w"]:
    """Return colored blocks of two sizes under fine noise: edges and flat regions, as in photographs."""
    rng = np.random.default_rng(seed)
    images: Any = rng.integers(0, 40, shape)
    for side, high in ((32, 140), (8, 78)):
        coarse = rng.integers(0, high, (*shape[:2], *(-(-length // side) for length in shape[2:])))
        images = images + np.kron(coarse, np.ones((side, side), int))[..., : shape[2], : shape[3]]
    return torch.from_numpy(images.astype(np.uint8))


class ImageToLabels(nn.Module):
    """The exported computation: images → their labels and the probabilities of all classes."""

    def __init__(self, network: SegmentationModel, dtype: torch.dtype) -> None:
        """`network` is copied; `dtype`: of the weights."""
        super().__init__()
        prepared = copy.deepcopy(network).cpu().fold()
        prepared.head.dropout = nn.Dropout2d(0)
        self.network = prepared.to(dtype).to(memory_format=torch.channels_last)

    def forward(self, image: Num[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """Images (B, C, H, W) → labels, uint8 (B, H, W), and probabilities, float32 (B, K, H, W)."""
        logits = self.network(image.contiguous(memory_format=torch.channels_last)).logits.float()
        return {"labels": logits.max(1).indices.to(torch.uint8), "probabilities": logits.softmax(1)}


def smallest_side(network: SegmentationModel) -> int:
    """Return the minimal height and width of an image in pixels: two positions of the coarsest map."""
    return 2 * max(network.backbone.strides)


def image_dtype(config: ModelConfig) -> torch.dtype:
    """Return the dtype of the images that an exported file takes."""
    return torch.uint8 if config.model.white_level is None else torch.float32


@torch.no_grad()
def trace(network: SegmentationModel, dtype: torch.dtype, of_images: torch.dtype = torch.uint8) -> ExportedProgram:
    """Trace the graph of `ImageToLabels`, which has weights of `dtype`, for images of another."""
    batch, height, width = TRACED
    image = torch.randint(0, 256, (batch, len(network.mean), height, width)).to(of_images)
    least = smallest_side(network)
    dynamic = {0: Dim("batch", min=1), 2: Dim("height", min=least), 3: Dim("width", min=least)}
    with silenced():
        program = torch.export.export(
            ImageToLabels(network, dtype).eval(),
            (image,),
            dynamic_shapes=(dynamic,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def to_pt2(program: ExportedProgram, record: ExportRecord) -> bytes:
    """Return the content of a `.pt2` file, which `torch.export.load` reads."""
    file = io.BytesIO()
    with silenced():
        torch.export.save(program, file, extra_files={EXTRA_FILE: record.to_text()})
    return file.getvalue()


def to_onnx(program: ExportedProgram, record: ExportRecord) -> bytes:
    """Return the content of an `.onnx` file, weights included.

    Raises:
        UserError: a package that this needs is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # for the parity check
        import onnxscript  # noqa: F401  # for torch.onnx.export
    except ImportError as error:
        raise UserError(f"--to onnx needs {error.name}: pip install 'gffnet[export]'.") from None
    with silenced():
        written = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=list(OUTPUTS), verbose=False
        )
    assert written is not None
    model: Any = written.model_proto
    # Name the dynamic dimensions, and remove what the tracer left: its own names of sizes, and paths of this machine.
    values = (*model.graph.input, *model.graph.output)
    image, labels, probabilities = (value.type.tensor_type.shape.dim for value in values)
    four = ("batch", None, "height", "width")
    for dims, names in ((image, four), (labels, ("batch", "height", "width")), (probabilities, four)):
        for dim, name in zip(dims, names, strict=True):
            if name is not None:
                dim.dim_param = name
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.helper.set_model_props(model, {PROPERTY: record.to_text()})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


@dataclass(frozen=True)
class Format:
    """A kind of exported file."""

    suffix: str
    """End of the file name, by which `--model` recognizes it."""
    precisions: tuple[str, ...]
    """Dtypes that its weights may have."""
    write: Callable[[ExportedProgram, ExportRecord], bytes]
    read: Callable[[Path], Exported]


FORMATS = {
    "onnx": Format(".onnx", ("float32", "float16"), to_onnx, OnnxFile),
    "pt2": Format(".pt2", ("float32", "bfloat16", "float16"), to_pt2, partial(ProgramFile, device=torch.device("cpu"))),
}


@dataclass(frozen=True)
class Export:
    """An exported file."""

    path: Path
    to: str
    """One of `FORMATS`."""
    size: int
    """In bytes."""
    record: ExportRecord
    tolerance: Tolerance
    parity: list[Parity]
    """Agreement with the network at every size compared."""

    def to_mapping(self) -> dict[str, Any]:
        """Return what `gffnet export --json` prints."""
        record = dataclasses.asdict(self.record)
        return {
            "file": str(self.path),
            "format": self.to,
            "bytes": self.size,
            **{key: record[key] for key in ("precision", "smallest", "weights", "image", "labels", "probabilities")},
            "tolerance": self.tolerance._asdict(),
            "parity": [each._asdict() for each in self.parity],
        }


def check_request(to: str, out: Path, precision: str) -> None:
    """Raise a `UserError` unless `to` is a format, `out` ends with its suffix and it supports `precision`."""
    if to not in FORMATS:
        raise unknown("--to", to, FORMATS)
    suffix, precisions = FORMATS[to].suffix, FORMATS[to].precisions
    if not out.name.endswith(suffix):
        raise UserError(f"--out {out} must end with {suffix}, as --to {to} has it: --model goes by the name.")
    if precision not in precisions:
        raise UserError(f"--precision {precision}: --to {to} takes {' or '.join(precisions)}.")


def export_model(
    network: SegmentationModel,
    config: ModelConfig,
    to: str,
    out: Path,
    precision: str = "float32",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Export:
    """Export a network to one file, and compare that file with it.

    Args:
        network: on the CPU, float32.
        config: its classes, protocol and recipe.
        to: `onnx` or `pt2`.
        out: the file; an existing one is replaced only if the new one agrees with the network.
        precision: dtype of the weights, one of the format's.
        advance: called after every step with the number of steps done and of all steps.

    Raises:
        UserError: unknown format, wrong suffix or precision; a package is not installed; the file cannot be written.
        RunFailed: the file disagrees with the network; it is discarded.
    """
    check_request(to, out, precision)
    network = network.eval()
    record = describe_export(network, config, precision)
    tolerance, steps = TOLERANCES[precision], 2 + len(parity_sizes(record.smallest))
    with atomic_file(out) as file:
        program = trace(network, getattr(torch, precision), image_dtype(config))
        advance(1, steps)
        data = FORMATS[to].write(program, record)
        file.write(data)
        file.flush()
        exported = FORMATS[to].read(Path(file.name))
        advance(2, steps)
        parity = []
        for each in compare(exported, network):
            parity.append(each)
            advance(2 + len(parity), steps)
        wrong = [
            f"at {each.size} {each.agreement:.3%} of the labels agree and a probability is off by {each.difference:.2g}"
            for each in parity
            if not (each.agreement >= tolerance.agreement and each.difference <= tolerance.difference)  # NaN is wrong
        ]
        if wrong:
            raise RunFailed(
                f"{out} is not written: it differs from the network: {'; '.join(wrong)}; allowed are "
                f"{tolerance.agreement:.2%} or more and {tolerance.difference:g} or less."
            )
    return Export(out, to, len(data), record, tolerance, parity)


def describe_export(network: SegmentationModel, config: ModelConfig, precision: str) -> ExportRecord:
    """Return the record that an exported file holds of itself."""
    least, channels, num_classes = smallest_side(network), len(network.mean), len(config.classes)
    order = "RGB" if channels == 3 else f"{channels} channel{'s' * (channels > 1)}"
    white, dtype = config.model.white_level, str(image_dtype(config)).removeprefix("torch.")
    levels = "in 0..255" if white is None else f"in 0..255 (255 / {white:g} of the samples that files store)"
    return ExportRecord(
        gffnet=gffnet.__version__,
        weights=hash_weights(network),
        precision=precision,  # type: ignore[arg-type]  # validated by check_request
        smallest=least,
        image=f"{dtype} (batch, {channels}, height, width), {order} {levels}, height and width at least {least}",
        labels="uint8 (batch, height, width), indices into config.classes",
        probabilities=f"float32 (batch, {num_classes}, height, width), their sum over the classes is 1",
        config=config,
    )
