"""One image from uint8 pixels to a label map: gffnet against plain PyTorch, its peers, and engines for exported files.

    python benchmarks/inference.py [--backbones r18 r101 lite0] [--sizes 360x480 512x512 1024x2048] [--kernels 1 3]
                                   [--only VARIANT ...] [--runs 5] [--device cpu] [--out FILE]
    python benchmarks/inference.py --model MODEL [MODEL ...] --calibrate DIR [--exports DIR] [--sizes 360x480] ...

Variants run interleaved in one process, so that a slow moment affects all of them. Before and after every sample two
matrices are multiplied; a round with a product slower than 0.8 of the best is discarded and repeated, so that ratios
are of one round. After four times as many rounds as `--runs` asks for, fewer may be left: the caption has their number.

- `reference`: the same network as the paper writes it, channels-first, float32, not folded; ratios are to it.
- `float32`, `bfloat16`, `compiled`: what `gffnet predict` runs, in either precision, and compiled in the one that it
  picks on this machine by measuring.
- `PSPNet (smp)`, `FPN (smp)`, ..., `DeepLabV3 (torchvision)`: other networks on the same backbone, channels-last,
  float32, in inference mode; in brackets `, bf16`: under autocast, as their documentation says.
- `ONNX Runtime`, `OpenVINO`: the files that `gffnet export` writes, with default settings and the same number of
  threads; `, int8`: with convolutions in int8, and the blocks that cost most in float32 where a model is given.

Weights are random, 19 classes, and all blocks are in int8, unless a trained model and images to calibrate with are
given; files that `--exports` holds already are used as they are. GMAC is what a variant's convolutions and products
count (of a file's: those of `float32`); GFLOP/s is twice that over the median, and the share of the peak is that of the
matrix product's in the same precision. Memory is the peak of a process that runs the variant alone.
"""

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

from gffnet.cli.arguments import folder, path, size
from gffnet.data.datasets import dataset_classes
from gffnet.errors import RunFailed, UserError
from gffnet.export.export import FORMATS, describe_export, export_model, random_images, to_graph, trace
from gffnet.export.quantize import to_int8
from gffnet.inference.exported import openvino_options
from gffnet.inference.precision import keep_pages, pick_device, pick_precision
from gffnet.inference.predictor import Predictor
from gffnet.inference.sliding_window import most_probable
from gffnet.inference.tiling import peak_memory
from gffnet.models.gffnet import SegmentationModel, build_network, load_model
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import use_reference
from gffnet.recipe import EvaluationRecipe, ModelRecipe, load_recipe
from gffnet.reports.cost import count_macs
from harness import Report, add_count, add_out, machine, make_folder, make_parser, ratios, run, spread, timing

Label = Callable[[Tensor], object]
"""An image, uint8 (3, H, W), to its label map."""

BACKBONES = {"r18": "resnet18", "r101": "resnet101", "lite0": "tu-tf_efficientnet_lite0"}
"""By the names that segmentation_models_pytorch has for them."""
OURS = ("reference", "float32", "bfloat16", "compiled")
PEERS = {
    f"{name} (smp)": getattr(smp, name) for name in ("PSPNet", "FPN", "Unet", "UPerNet", "DeepLabV3Plus", "Segformer")
}
DEEPLAB = "DeepLabV3 (torchvision)"
ENGINES = ("ONNX Runtime", "OpenVINO", "ONNX Runtime, int8", "OpenVINO, int8")
VARIANTS = (*OURS, *(f"{name}{kind}" for name in (*PEERS, DEEPLAB) for kind in ("", ", bf16")), *ENGINES)
STALLED = 0.8
"""Share of the best matrix product below which a round is discarded."""
WHOLE = EvaluationRecipe(crop=None)


class Case(NamedTuple):
    """What is measured together."""

    backbone: str
    kernel: int
    """Of the dense pyramid."""
    device: str
    folder: Path
    """Of the exported files."""
    trained: str | None = None
    """A model, in place of random weights."""

    def exported(self, engine: str) -> Path:
        """The file that an engine runs."""
        suffix = ".xml" if engine.startswith("OpenVINO") else ".onnx"
        return self.folder / f"{self.backbone}-{self.kernel}{'-int8' if engine.endswith('int8') else ''}{suffix}"


def main() -> None:
    """Measure, print, and write the tables if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--sizes", nargs="+", type=size, default=[(360, 480), (512, 512), (1024, 2048)])
    parser.add_argument("--kernels", nargs="+", type=int, default=[1], choices=[1, 3])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    add_count(parser, "--runs", 5)
    parser.add_argument("--device", default="cpu")
    add_out(parser)
    parser.add_argument("--model", nargs="+", default=[], help="trained models, measured without peers")
    parser.add_argument("--calibrate", type=folder, help="images for their files in int8")
    parser.add_argument("--exports", type=path, help="folder that keeps the exported files (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.model:
        arguments.kernels, arguments.only = [1], [name for name in arguments.only if not is_peer(name)]
    arguments.device = str(pick_device(arguments.device))
    keep_pages()  # as the command line does
    packages = ("segmentation_models_pytorch", "torchvision", "onnxruntime", "openvino", "nncf")
    shown = Report(arguments.out)
    shown.add(f"{machine(*packages)}, {arguments.device}")
    if arguments.exports:
        make_folder(arguments.exports)
    with tempfile.TemporaryDirectory() as temporary:
        options = arguments.device, arguments.exports or Path(temporary)
        names = [Path(trained).name for trained in arguments.model]
        if len({*names}) < len(names):  # files are named by them
            raise UserError(f"--model {' '.join(arguments.model)}: give folders of different names.")
        cases = [Case(name, 1, *options, trained) for name, trained in zip(names, arguments.model, strict=True)]
        for case in cases or [Case(*each, *options) for each in product(arguments.backbones, arguments.kernels)]:
            wanted = [name for name in arguments.only if not is_peer(name) or case.kernel == arguments.kernels[0]]
            export(case, [name for name in wanted if name in ENGINES], arguments.calibrate)
            for height_width in arguments.sizes:
                shown.add(*measure(case, wanted, height_width, arguments.runs))


def export(case: Case, engines: list[str], images: Path | None) -> None:
    """Write the files that the engines run, unless they are there."""
    engines = [name for name in engines if not case.exported(name).is_file()]
    if not engines:
        return
    network, about = gffnet(case), config(case)
    formats = {name: FORMATS["openvino" if name.startswith("OpenVINO") else "onnx"] for name in engines}
    if images is not None:
        for name, form in formats.items():
            (to,) = (key for key, other in FORMATS.items() if other is form)
            export_model(network, about, to, case.exported(name), calibrate=images if name.endswith("int8") else None)
        return
    record = describe_export(network, about, "float32")
    graph = to_graph(trace(network, torch.float32))
    noise = [random_images(seed, (1, 3, 256, 256)) for seed in range(4)]
    int8 = to_int8(graph, noise) if any(name.endswith("int8") for name in engines) else None
    for name, form in formats.items():
        first = case.exported(name)
        contents = form.write(int8 if name.endswith("int8") else graph, record)
        for suffix, content in zip(form.suffixes, contents, strict=True):
            first.with_suffix(suffix).write_bytes(content)


def is_peer(name: str) -> bool:
    """Whether a variant is another network."""
    return name not in (*OURS, *ENGINES)


def measure(case: Case, wanted: list[str], size: tuple[int, int], runs: int) -> list[str]:
    """The table of one backbone, kernel and size, as lines of Markdown."""
    torch.compiler.reset()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    calls = {name: call for name in wanted if (call := variant(name, case)) is not None}
    if not calls:
        return []
    samples, reached = steady(calls, image, runs, case.device)
    base = next(iter(samples))
    lines = [
        "",
        f"**GFFNet, {model(case).backbone.name}, pyramid of {case.kernel}x{case.kernel}, {size[0]}x{size[1]}**, "
        f"{len(samples[base])} rounds; the matrix product reaches {reached['float32']:.0f} GFLOP/s in float32 and "
        f"{reached['bfloat16']:.0f} in bfloat16",
        "",
        f"| variant | ms | images/s | times as fast as {base} | GMAC | GFLOP/s | of peak | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, seconds in samples.items():
        t, macs = timing(seconds), work(name, case, size)
        memory, rate = alone(name, case, size), 2 * macs / t.median / 1e9
        peak_rate = reached["bfloat16" if name == "bfloat16" or name.endswith("bf16") else "float32"]
        share = "—" if name == "compiled" else f"{rate / peak_rate:.0%}"
        lines.append(
            f"| {name} | {spread(timing([1e3 * s for s in seconds]), 0)} | {1 / t.median:.2f} "
            f"| {spread(ratios(samples[base], seconds), 2)} | {macs / 1e9:.1f} | {rate:.0f} | {share} "
            f"| {memory / 1e9:.2f} GB |"
        )
    return lines


def steady(
    calls: dict[str, Label], image: Tensor, runs: int, device: str
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of every call in up to `runs` rounds without a stall, and the best matrix products."""
    for call in calls.values():
        for _ in range(2):
            call(image)
    formats = {name: getattr(torch, name) for name in ("float32", "bfloat16")}
    best = {name: max(matrix_product(device, dtype) for _ in range(5)) for name, dtype in formats.items()}
    rounds: list[list[float]] = []
    for _ in range(4 * runs):
        seconds, products = [], []
        for call in calls.values():
            products.append(matrix_product(device, torch.float32))
            start = time.perf_counter()
            call(image)
            seconds.append(time.perf_counter() - start)
            products.append(matrix_product(device, torch.float32))
        best["float32"] = max(best["float32"], *products)
        if min(products) >= STALLED * best["float32"]:
            rounds.append(seconds)
        if len(rounds) == runs:
            break
    if not rounds:
        raise RunFailed("the machine stalled in every round: measure again when nothing else runs.")
    return dict(zip(calls, map(list, zip(*rounds, strict=True)), strict=True)), best


def matrix_product(device: str, dtype: torch.dtype, side: int = 1536) -> float:
    """GFLOP/s of a matrix product, the better of two: the first one finds caches and threads as others left them.

    It is written as a convolution of 1x1, which on a CPU the same library computes as those of a network.
    """
    x = torch.ones(1, side, side // 32, 32, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    weight = torch.ones(side, side, 1, 1, dtype=dtype, device=device)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        nn.functional.conv2d(x, weight)[0, 0, 0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds) / 1e9


def variant(name: str, case: Case) -> Label | None:
    """The function of a variant; None where there is no such network, or its package is not installed."""
    device = torch.device(case.device)
    if name == "reference":
        return partial(labels_of, set_up(gffnet(case), device, reference=True), torch.float32)
    if name in OURS:
        network = gffnet(case)
        precision = pick_precision("auto" if name == "compiled" else name, device, network)
        predictor = Predictor(network, config(case), device, precision, compiled=name == "compiled")
        return partial(predictor.predict, protocol=WHOLE)
    if name in ENGINES:
        return engine(name, case) if case.device == "cpu" else None
    network = peer(name.removesuffix(", bf16"), BACKBONES[case.backbone])
    dtype = torch.bfloat16 if name.endswith(", bf16") else torch.float32
    return None if network is None else partial(labels_of, set_up(network, device), dtype)


def set_up(network: nn.Module, device: torch.device, reference: bool = False) -> nn.Module:
    """Move a network in evaluation to its device: the reference channels-first, others channels-last."""
    network = network.eval().to(device)
    if reference:
        use_reference(network)
        return network
    return network.to(memory_format=torch.channels_last)


@torch.inference_mode()
def labels_of(network: nn.Module, dtype: torch.dtype, image: Tensor) -> Tensor:
    """A label map as programs for such networks make one."""
    x = image[None].to(next(network.parameters()).device)
    if not isinstance(network, SegmentationModel):  # which normalises for itself
        x = x.float().div(255).sub(0.45).div(0.225).contiguous(memory_format=torch.channels_last)
        down, right = -x.shape[2] % 32, -x.shape[3] % 32
        x = nn.functional.pad(x, (0, right, 0, down))  # those of smp ask for multiples of 32
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        out: Any = network(x)
    logits = out.logits if isinstance(network, SegmentationModel) else out["out"] if isinstance(out, dict) else out
    labels: Tensor = most_probable(logits[0, :, : image.shape[1], : image.shape[2]]).cpu()
    return labels


def gffnet(case: Case) -> SegmentationModel:
    """The network, trained or with random weights."""
    if case.trained is not None:
        return load_model(case.trained)[0].eval()
    torch.manual_seed(0)
    return build_network(model(case), len(dataset_classes("cityscapes").names)).eval()


def model(case: Case) -> ModelRecipe:
    """What it is."""
    if case.trained is not None:
        return config(case).model
    of = load_recipe(f"cityscapes/gffnet_{case.backbone}").model.without_weights()
    return of.__class__(**{**vars(of), "pyramid_kernel": case.kernel})


def config(case: Case) -> ModelConfig:
    """Its config."""
    if case.trained is not None:
        return load_model(case.trained)[1]
    classes = dataset_classes("cityscapes")
    return ModelConfig(model(case), classes.names, classes.palette, "cityscapes", f"cityscapes/gffnet_{case.backbone}")


def peer(name: str, backbone: str) -> nn.Module | None:
    """Another network on the same backbone, with random weights."""
    torch.manual_seed(0)
    if name in PEERS:
        network: nn.Module = PEERS[name](encoder_name=backbone, encoder_weights=None, classes=19)
        return network
    if backbone != "resnet101":
        return None  # torchvision has DeepLabV3 on ResNet-50 and ResNet-101 only
    return torchvision.models.segmentation.deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=19)


def engine(name: str, case: Case) -> Label:
    """The exported network in an engine."""
    path = case.exported(name)
    if name.startswith("OpenVINO"):
        import openvino

        core = openvino.Core()
        read = core.read_model(path)
        labels = openvino.Model([read.output("labels")], read.get_parameters())
        compiled = core.compile_model(labels, "CPU", openvino_options(torch.get_num_threads()))
        return lambda image: compiled({"image": image[None].numpy()})["labels"]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True  # no probabilities
    return lambda image: session.run(["labels"], {"image": image[None].numpy()}, only)[0]


def work(name: str, case: Case, size: tuple[int, int]) -> int:
    """Multiply-accumulates of one image."""
    other = peer(name.removesuffix(", bf16"), BACKBONES[case.backbone]) if is_peer(name) else None
    network = (other or gffnet(case)).eval().to("meta")
    sides = size if other is None else [-(-side // 32) * 32 for side in size]
    image = torch.empty(1, 3, *sides, device="meta")
    use_reference(network, name == "reference")
    return count_macs(network, image)


def alone(name: str, case: Case, size: tuple[int, int]) -> int:
    """Peak memory, in bytes, of a process that runs a variant; on a GPU that of the GPU."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak, name, case, size, torch.get_num_threads()).result()


def peak(name: str, case: Case, size: tuple[int, int], threads: int) -> int:
    """Run a variant twice; the most memory that was taken."""
    torch.set_num_threads(threads)
    keep_pages()
    call = variant(name, case)
    assert call is not None
    if case.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    for _ in range(2):
        call(image)
    return torch.cuda.max_memory_allocated() if case.device != "cpu" else peak_memory(torch.device("cpu"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    run(main)
