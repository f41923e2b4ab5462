"""int8: post-training quantization of an ONNX graph by NNCF, and the blocks that it costs too much.

    x ≈ s q,  q = round(x / s) clipped to 8 bits, without sign where no x is negative

The weights of a convolution (a scale per output channel) and its input (one scale) are quantized; NNCF measures ranges
on images and corrects biases. All else stays in float32: gates, the sums and products of the fusion, pooling, resizing,
logits and softmax. Quantized logits would tie, and ties are labels; elsewhere 8 bits save little time.

Scales have no offset: OpenVINO computes a convolution of s (q - z) in float32, and EfficientNet-Lite0, whose blocks
end without ReLU, takes 1.5 times as long.

Weights have 7 of their 8 bits. On processors without VNNI, products of two 8-bit numbers are added in pairs in 16 bits,
which overflow silently.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from gffnet.data.dataset import evenly_spaced
from gffnet.data.io import images_in
from gffnet.errors import RunFailed, UserError
from gffnet.inference.exported import Exported, ExportRecord, Quantization, image_dtype, onnx_session, silenced
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.models.gffnet import SegmentationModel

QUANTIZED = "Conv"
"""The operator that is quantized."""
IN_FLOAT = r".*gate_convs.*"
"""Nodes that are not, by the name."""
CALIBRATION = 64
"""Number of images that ranges are measured on, unless another is asked for or there are fewer."""
CHECKED = 8
"""Number of these that labels are compared on."""
COSTLY = 0.1
"""Share of what int8 loses, in mean IoU with the network's labels, from which on a block stays in float."""
MOST_IN_FLOAT = 0.15
"""Largest share of the multiplications of all quantized convolutions that stay in float."""
GOOD = 0.97
"""Mean IoU with the network's labels below which there is a warning."""
USABLE = 0.9
"""The same, below which a file is discarded."""

log = logging.getLogger("gffnet")


class Block(NamedTuple):
    """Convolutions that stay in float, or not, together."""

    name: str
    share: float
    """Of the multiplications of all convolutions that can be quantized."""
    gain: float
    """What it adds to the mean IoU with the network's labels if it alone is in float."""
    in_float: bool = False


class Quantized(NamedTuple):
    """A quantized graph."""

    model: Any
    """`onnx.ModelProto`."""
    record: Quantization
    blocks: list[Block]
    """The most costly first."""
    all_int8: float
    """Mean IoU with the network's labels with every block in int8."""


def require_nncf() -> Any:
    """Import and return nncf.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # else it reports its use over the network
    try:
        with silenced():
            import nncf
    except ImportError as error:
        raise UserError(f"--int8 needs {error.name}: pip install 'gffnet[openvino]'.") from None
    return nncf


def calibration_images(
    network: SegmentationModel, record: ExportRecord, folder: Path, count: int = CALIBRATION
) -> list[Num[Tensor, "1 c h w"]]:
    """Return one window of each of `count` images of a folder, as `gffnet predict` would give it to the network.

    Files are taken at equal distances from the sorted list of the folder and its subfolders; where an image has several
    windows, the next image gives the next one.

    Raises:
        UserError: the folder does not exist or has no image, or one cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"--calibrate {folder}: there is no such folder. Give one with images like those to predict.")
    files = images_in(folder)
    chosen = [files[i] for i in evenly_spaced(len(files), count, endpoint=False)]
    predictor = Predictor(recorder := _Recorder(record), record.config, torch.device("cpu"), _FLOAT32)
    dtype = image_dtype(record.config)
    images = []
    for i, file in enumerate(chosen):
        recorder.windows.clear()
        predictor.predict(file)
        window = recorder.windows[i % len(recorder.windows)]
        images.append(window.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else window)
    return images


_FLOAT32 = Precision(torch.float32, "for calibration")


class _Recorder(Exported):
    """In place of a network: keeps the windows that it is given."""

    def __init__(self, record: ExportRecord) -> None:
        self.path, self.record, self.device = Path("calibration"), record, torch.device("cpu")
        self.windows: list[Tensor] = []

    def log_probabilities(self, windows: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Keep the windows."""
        self.windows += windows.clone().split(1)
        return windows.new_zeros(len(windows), len(self.record.config.classes), *windows.shape[-2:])


def quantize(
    model: Any,
    images: Sequence[Num[Tensor, "1 c h w"]],
    network: SegmentationModel,
    opened: Callable[[Any, Path], Exported],
    advance: Callable[[], None] = lambda: None,
) -> Quantized:
    """Quantize the convolutions of a graph, and return those blocks to float that cost most.

    Every block alone is returned to float, and the labels on some of the images are compared with those of the network,
    in the engine that will run the file: by the mean IoU of the one with the other as the truth, since a pole that is
    lost is few pixels. Then blocks are returned to float, the most costly first, as long as one is worth `COSTLY` of
    what int8 loses and all of them have at most `MOST_IN_FLOAT` of the multiplications.

    Args:
        model: `onnx.ModelProto`, in float32, with nodes named by their modules.
        images: to measure ranges on.
        network: on the CPU, float32, in evaluation mode.
        opened: writes a graph as a file in a folder and opens it.
        advance: called after every step: `steps(model)` times.
    """
    int8 = to_int8(model, images)
    advance()
    checked = images[:: -(-len(images) // CHECKED)]
    truth = [_labels_of(network, image) for image in checked]
    classes = network.head.classifier.out_channels

    def scores(candidate: Any) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            exported = opened(candidate, Path(folder))
            return agreement((exported(image, ["labels"])[0] for image in checked), truth, classes)

    _, all_int8 = scores(int8)
    advance()
    nodes, work, blocks = blocks_of(int8), multiplications(model, images[0]), []
    total = sum(work[node] for block in nodes.values() for node in block)
    for name, block in nodes.items():
        gain = scores(in_float(int8, model, block))[1] - all_int8
        blocks.append(Block(name, sum(work[node] for node in block) / total, gain))
        advance()
    blocks.sort(key=lambda block: -block.gain)
    left, kept = MOST_IN_FLOAT, list[str]()
    for i, each in enumerate(blocks):
        if each.gain >= COSTLY * (1 - all_int8) and each.share <= left:
            left -= each.share
            kept.append(each.name)
            blocks[i] = each._replace(in_float=True)
    final = in_float(int8, model, [node for name in kept for node in nodes[name]])
    same, miou = scores(final)
    advance()
    record = Quantization(len(images), len(checked), same, miou, tuple(kept))
    return Quantized(final, record, blocks, all_int8)


def check_quantization(quantized: Quantized, out: Path) -> None:
    """Warn if a file in int8 loses accuracy.

    Raises:
        RunFailed: it loses too much, or has a number that is none.
    """
    record = quantized.record
    if record.miou >= GOOD:
        return
    costly = ", ".join(f"{block.name} ({100 * block.gain:+.1f})" for block in quantized.blocks[:3])
    text = (
        f"on {record.checked} calibration images its labels agree with the network's at {record.agreement:.2%}, mean "
        f"IoU {100 * record.miou:.1f}. Most costly in int8: {costly}. Calibrate with more images like those to predict"
    )
    if not record.miou >= USABLE:
        raise RunFailed(f"{out} is not written: {text}, or leave out --int8; allowed is a mean IoU of {USABLE:.0%}.")
    log.warning("int8 loses accuracy: %s, and see what `gffnet evaluate` says of the file.", text)


def agreement(
    labels: Iterable[UInt8[Tensor, "1 h w"]], truth: Sequence[UInt8[Tensor, "1 h w"]], classes: int
) -> tuple[float, float]:
    """Return the fraction of pixels with the same label, and the mean IoU with `truth` as the truth."""
    matrix = ConfusionMatrix(classes)
    for found, expected in zip(labels, truth, strict=True):
        matrix.update(expected, found)
    scores = matrix.scores()
    return scores.pixel_accuracy, scores.miou


@torch.inference_mode()
def _labels_of(network: SegmentationModel, image: Num[Tensor, "1 c h w"]) -> UInt8[Tensor, "1 h w"]:
    labels: Tensor = network(image).logits.max(1).indices.to(torch.uint8)
    return labels


def steps(model: Any) -> int:
    """Return how often `quantize` calls `advance` for a graph in float32."""
    return 3 + len({_block_of(node.name) for node in model.graph.node if _is_quantizable(node)})


# The graph


def to_int8(model: Any, images: Sequence[Num[Tensor, "1 c h w"]]) -> Any:
    """Return the graph with every convolution but the gates' in int8, by the ranges of values on images."""
    nncf = require_nncf()
    from nncf.quantization.advanced_parameters import QuantizationParameters

    others = {node.op_type for node in model.graph.node} - {QUANTIZED, "Relu", "Clip", "MaxPool"}
    with silenced():
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: {"image": image.numpy()}),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.PERFORMANCE,  # scales without an offset
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(types=sorted(others), patterns=[IN_FLOAT], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.ENABLE,
                # Of depthwise convolutions, NNCF would give every channel a scale, which ONNX Runtime refuses to run.
                activations_quantization_params=QuantizationParameters(per_channel=False),
            ),
        )


def _is_quantizable(node: Any) -> bool:
    return node.op_type == QUANTIZED and "gate_convs" not in node.name


def _block_of(node: str) -> str:
    """The module that a node is a part of, as far as its last number: `backbone.layer1.0` of `...conv1/Conv`."""
    parts = node.partition("/")[0].split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1] if numbers else parts)


def blocks_of(int8: Any) -> dict[str, list[str]]:
    """Return the names of the quantized convolutions of each block, in the order of the graph."""
    dequantized = {node.output[0] for node in int8.graph.node if node.op_type == "DequantizeLinear"}
    blocks: dict[str, list[str]] = {}
    for node in int8.graph.node:
        if node.op_type == QUANTIZED and node.input[1] in dequantized:
            blocks.setdefault(_block_of(node.name), []).append(node.name)
    return blocks


def in_float(int8: Any, model: Any, nodes: Iterable[str]) -> Any:
    """Return a copy of the graph `int8` in which the convolutions `nodes` are those of `model`, in float32."""
    copy = type(int8)()
    copy.CopyFrom(int8)
    graph, chosen = copy.graph, set(nodes)
    makers = {output: node for node in graph.node for output in node.output}

    def exact(name: str) -> str:
        """The tensor before it was quantized."""
        while (maker := makers.get(name)) is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = maker.input[0]
        return name

    values = {value.name: value for value in model.graph.initializer}
    own = {node.name: node for node in model.graph.node}
    restored = {}
    for node in graph.node:
        if node.name in chosen:
            inputs = own[node.name].input
            node.input[0] = exact(node.input[0])
            for i in range(1, len(inputs)):
                restored[f"{inputs[i]}/float"] = values[inputs[i]]
                node.input[i] = f"{inputs[i]}/float"
    for name, value in restored.items():
        graph.initializer.add().CopyFrom(value)
        graph.initializer[-1].name = name
    remove_unused(graph)
    return copy


def remove_unused(graph: Any) -> None:
    """Remove nodes and initializers that no output of an ONNX graph depends on."""
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    values = [value for value in graph.initializer if value.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(values)


def multiplications(model: Any, image: Tensor) -> dict[str, int]:
    """Return the number of multiplications of every convolution of a graph for an image, by the name of the node."""
    measured = type(model)()
    measured.CopyFrom(model)
    nodes = [node for node in model.graph.node if node.op_type == QUANTIZED]
    for node in nodes:
        measured.graph.output.add().name = node.output[0]
    outputs = onnx_session(measured).run([node.output[0] for node in nodes], {"image": image.numpy()})
    weights = {value.name: value.dims for value in model.graph.initializer}
    return {
        node.name: output.size * int(np.prod(weights[node.input[1]][1:]))
        for node, output in zip(nodes, outputs, strict=True)
    }
