"""Export of a network to a file that runs without gffnet: ONNX, OpenVINO, or a program of `torch.export`.

    image (B, C, H, W) in 0..255 → normalisation, network with folded batch normalisation → logits
    labels = argmax logits,  probabilities = softmax logits

Images are uint8, or float32 for a network of images deeper than 8 bits (`model.white_level`).

Batch, height and width are dynamic: sizes are symbols while the graph is traced. Where the network compares two of them
(maps of one resolution are summed before they are resized), the outcome holds for every image of at least
`smallest_side` pixels; a `.pt2` file asserts this on every run.
"""

import ast
import copy
import dataclasses
import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Num, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import gffnet
from gffnet.errors import RunFailed, UserError, unknown
from gffnet.export.quantize import (
    CALIBRATION,
    Block,
    Quantized,
    calibration_images,
    check_quantization,
    quantize,
    remove_unused,
    require_nncf,
    steps,
)
from gffnet.files import atomic_file
from gffnet.inference.exported import (
    EXTRA_FILE,
    OUTPUTS,
    PROPERTY,
    Exported,
    ExportRecord,
    OnnxFile,
    OpenVinoFile,
    ProgramFile,
    image_dtype,
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
    "int8": Tolerance(0.8, 1.0),
}
"""int8 is compared on calibration images cut to each size, which tells that a graph is right at all sizes: the smallest
shows little but sky. What it costs is measured on whole windows (`check_quantization`)."""


def parity_sizes(smallest: int) -> list[tuple[int, int, int]]:
    """Return batch, height and width of what is compared: smallest, traced, odd, portrait, and like a photograph."""
    return [(1, smallest, smallest), TRACED, (1, 101, 163), (3, 233, 149), (1, 361, 483)]


def compare(
    exported: Exported, network: SegmentationModel, photographs: Sequence[Num[Tensor, "1 c h w"]] = ()
) -> Iterator[Parity]:
    """Yield the parity at each of `parity_sizes`, on random images unless photographs are given.

    `network`: in evaluation mode, float32, on the CPU.
    """
    for seed, (batch, height, width) in enumerate(parity_sizes(exported.record.smallest)):
        shape = (batch, len(network.mean), height, width)
        images = tiled(photographs[seed % len(photographs)], shape) if photographs else random_images(seed, shape)
        images = images.to(image_dtype(exported.record.config))
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


def tiled(image: Num[Tensor, "1 c h w"], shape: tuple[int, int, int, int]) -> Num[Tensor, "b c h2 w2"]:
    """Return a batch of an image cut to the height and width of `shape`, or repeated beside and below itself."""
    batch, _, height, width = shape
    down, right = -(-height // image.shape[2]), -(-width // image.shape[3])
    return image.repeat(batch, 1, down, right)[:, :, :height, :width]


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


def to_pt2(program: ExportedProgram, record: ExportRecord) -> list[bytes]:
    """Return the content of a `.pt2` file, which `torch.export.load` reads."""
    file = io.BytesIO()
    with silenced():
        torch.export.save(program, file, extra_files={EXTRA_FILE: record.to_text()})
    return [file.getvalue()]


def to_graph(program: ExportedProgram) -> Any:
    """Return the program as an `onnx.ModelProto`, weights included, whose nodes are named by their modules."""
    import onnx

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
    name_nodes(model.graph)
    split_weights(model.graph)
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    return model


def name_nodes(graph: Any) -> None:
    """Name the nodes of an ONNX graph by the modules that they come from: `fusion.refinements.0.0.conv/Conv`."""
    seen = Counter[str]()
    for node in graph.node:
        scopes = [entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        *modules, _ = ast.literal_eval(scopes[0]) if scopes else [""]
        module = modules[-1].removeprefix("network").removeprefix(".") if modules else ""
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def split_weights(graph: Any) -> None:
    """Split the weights that an ONNX graph splits (`ConcatConv2d`): only constant ones can be quantized."""
    from onnx import numpy_helper

    values = {value.name: value for value in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Split" and node.input[0] in values:
            (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
            weight, sizes = (numpy_helper.to_array(values[name]) for name in node.input)
            for name, part in zip(node.output, np.split(weight, np.cumsum(sizes)[:-1], axis), strict=True):
                graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(part), name))
            graph.node.remove(node)
    remove_unused(graph)


def to_onnx(model: Any, record: ExportRecord) -> list[bytes]:
    """Return the content of an `.onnx` file."""
    import onnx

    onnx.helper.set_model_props(model, {PROPERTY: record.to_text()})
    return [model.SerializeToString()]


def to_openvino(model: Any, record: ExportRecord) -> list[bytes]:
    """Return the contents of an `.xml` file of OpenVINO and of the `.bin` file with its weights."""
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(converted, path, compress_to_fp16=False)
        data = path.with_suffix(".bin").read_bytes()
        converted.set_rt_info(record.to_text(), [PROPERTY, "record"])
        converted.set_rt_info(hashlib.sha256(data).hexdigest(), [PROPERTY, "weights"])
        openvino.save_model(converted, path, compress_to_fp16=False)
        return [path.read_bytes(), data]


@dataclass(frozen=True)
class Format:
    """A kind of exported file."""

    suffixes: tuple[str, ...]
    """Ends of the names of its files; by the first, `--model` recognises it."""
    precisions: tuple[str, ...]
    """Dtypes that its weights may have."""
    write: Callable[[Any, ExportRecord], list[bytes]]
    """From the graph, or the program for `pt2`, to the contents of the files."""
    read: Callable[..., Exported]
    """Opens the files at their paths."""
    needs: tuple[str, ...] = ()
    """Packages that write and open it."""
    int8: bool = False
    """Whether it may be in int8."""


_ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "onnx": Format((".onnx",), ("float32", "float16"), to_onnx, OnnxFile, _ONNX, int8=True),
    "openvino": Format(
        (".xml", ".bin"),
        ("float32",),
        to_openvino,
        lambda xml, weights: OpenVinoFile(xml, weights=weights),
        (*_ONNX, "openvino"),
        int8=True,
    ),
    "pt2": Format(
        (".pt2",), ("float32", "bfloat16", "float16"), to_pt2, partial(ProgramFile, device=torch.device("cpu"))
    ),
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
    blocks: list[Block] = field(default_factory=list)
    """Of a file in int8, the most costly first."""
    all_int8: float | None = None
    """Of a file in int8: the mean IoU with the network's labels if no block were in float."""

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
            **({"quantization": record["quantization"]} if self.record.quantization else {}),
            **({"all_int8": self.all_int8, "blocks": [each._asdict() for each in self.blocks]} if self.blocks else {}),
        }


def check_request(to: str, out: Path, precision: str, calibrate: Path | None = None) -> None:
    """Raise a `UserError` unless a file of this name, format and precision can be written here.

    `calibrate` asks for int8.
    """
    if to not in FORMATS:
        raise unknown("--to", to, FORMATS)
    form = FORMATS[to]
    if not out.name.endswith(form.suffixes[0]):
        raise UserError(f"--out {out} must end with {form.suffixes[0]}, as --to {to} has it: --model goes by the name.")
    if precision not in form.precisions:
        raise UserError(f"--precision {precision}: --to {to} takes {' or '.join(form.precisions)}.")
    if calibrate is not None:
        if not form.int8:
            able = " or ".join(name for name, other in FORMATS.items() if other.int8)
            raise UserError(f"--int8: --to {to} has no int8. Export to {able}.")
        if precision != "float32":
            raise UserError(f"--int8 and --precision {precision}: what is not in int8 is in float32. Leave one out.")
    try:
        with silenced():
            for package in form.needs:
                import_module(package)
    except ImportError as error:
        extra = "openvino" if error.name == "openvino" else "export"
        raise UserError(f"--to {to} needs {error.name}: pip install 'gffnet[{extra}]'.") from None
    if calibrate is not None:
        require_nncf()


def export_model(
    network: SegmentationModel,
    config: ModelConfig,
    to: str,
    out: Path,
    precision: str = "float32",
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    calibrate: Path | None = None,
    images: int = CALIBRATION,
) -> Export:
    """Export a network to one file, and compare that file with it.

    Args:
        network: on the CPU, float32.
        config: its classes, protocol and recipe.
        to: `onnx`, `openvino` or `pt2`.
        out: the file; an existing one is replaced only if the new one agrees with the network. To `openvino`, an `.xml`
            file, beside which a `.bin` file of the same name is written.
        precision: dtype of the weights, one of the format's.
        advance: called after every step with the number of steps done and of all steps.
        calibrate: a folder of images, without labels: the convolutions are quantized to int8 by their values in these.
        images: how many of them to use.

    Raises:
        UserError: unknown format, wrong suffix or precision; a package is not installed; the file cannot be written;
            there are no images to calibrate with.
        RunFailed: the file disagrees with the network; it is discarded.
    """
    check_request(to, out, precision, calibrate)
    network = network.eval()
    record = describe_export(network, config, precision)
    windows = [] if calibrate is None else calibration_images(network, record, calibrate, images)
    form = FORMATS[to]
    sizes = parity_sizes(record.smallest)
    done, total = 0, 2 + len(sizes)

    def step() -> None:
        nonlocal done
        done += 1
        advance(done, total)

    with ExitStack() as stack:
        files = [stack.enter_context(atomic_file(out.with_suffix(suffix))) for suffix in form.suffixes]
        program = trace(network, getattr(torch, precision), image_dtype(config))
        graph = program if to == "pt2" else to_graph(program)
        quantized: Quantized | None = None
        if windows:
            total += steps(graph)
            step()
            quantized = quantize(graph, windows, network, partial(open_graph, form, record), step)
            graph = quantized.model
            record = dataclasses.replace(record, precision="int8", quantization=quantized.record)
        else:
            step()
        tolerance = TOLERANCES[record.precision]
        contents = form.write(graph, record)
        for file, content in zip(files, contents, strict=True):
            file.write(content)
            file.flush()
        exported = form.read(*(Path(file.name) for file in files))
        step()
        parity = []
        for each in compare(exported, network, windows):
            parity.append(each)
            step()
        wrong = [
            f"at {each.size} {each.agreement:.3%} of the labels agree and a probability is off by {each.difference:.2g}"
            for each in parity
            if not (each.agreement >= tolerance.agreement and each.difference <= tolerance.difference)  # NaN is wrong
        ]
        if quantized is not None:
            check_quantization(quantized, out)
        if wrong:
            raise RunFailed(
                f"{out} is not written: it differs from the network: {'; '.join(wrong)}; allowed are "
                f"{tolerance.agreement:.2%} or more and {tolerance.difference:g} or less."
            )
    size = sum(map(len, contents))
    if quantized is None:
        return Export(out, to, size, record, tolerance, parity)
    return Export(out, to, size, record, tolerance, parity, quantized.blocks, quantized.all_int8)


def open_graph(form: Format, record: ExportRecord, graph: Any, folder: Path) -> Exported:
    """Write a graph as the files of a format into a folder, and open them."""
    paths = [folder / f"model{suffix}" for suffix in form.suffixes]
    for path, content in zip(paths, form.write(graph, record), strict=True):
        path.write_bytes(content)
    return form.read(*paths)


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
