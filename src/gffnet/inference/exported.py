"""Exported files, opened for prediction in ONNX Runtime, OpenVINO or PyTorch, without the network's code.

    labels (B, H, W), probabilities (B, K, H, W) = file(image (B, C, H, W))

A file describes itself in one JSON text: in an `.onnx` file the property `gffnet`, in an `.xml` file of OpenVINO the
entry `gffnet` of `rt_info`, in a `.pt2` file the extra file `gffnet.json`. It takes uint8, unless the model takes
deeper images. Windows of scaled images have values between grey levels, and rounding them would change the result.
Since every graph begins with a conversion to float, it can be opened to take floats as well.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.export.passes import move_to_device_pass

from gffnet.errors import UserError, WrongSize, one_line
from gffnet.inference.precision import pick_device
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import from_mapping, validated

PROPERTY = "gffnet"
EXTRA_FILE = "gffnet.json"
OUTPUTS = ("labels", "probabilities")


@validated
class Quantization:
    """How the convolutions of a file in int8 were quantized, and how it compares with the network in float32."""

    calibration: int
    """Number of images that the ranges were measured on."""
    checked: int
    """Number of these that the labels were compared on."""
    agreement: float
    """Fraction of their pixels with the label that the network in float32 gives."""
    miou: float
    """Mean IoU of the labels, with those of the network as the truth."""
    in_float: tuple[str, ...] = ()
    """Blocks that stay in float32, besides the gates."""


@validated
class ExportRecord:
    """The description of an exported file: model, protocol, origin, input and outputs."""

    gffnet: str
    """Version of gffnet that wrote it."""
    weights: str
    """SHA-256 of the exported weights, as in `Predictor.weights`."""
    precision: Literal["float32", "bfloat16", "float16", "int8"]
    """Dtype that it computes in; int8: that of the convolutions."""
    smallest: int
    """Minimal height and width of an image, in pixels."""
    image: str
    """Description of the input."""
    labels: str
    """Description of the first output."""
    probabilities: str
    """Description of the second output."""
    config: ModelConfig
    """As in `config.json` of a model folder."""
    quantization: Quantization | None = None
    """Of a file in int8."""

    def to_text(self) -> str:
        """Return the record as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def read_record(text: str | None, path: Path) -> ExportRecord:
    """Parse the record in the file `path`.

    Raises:
        UserError: the file has none, or it is not valid.
    """
    if not text:
        raise UserError(f"model {path} has no description: give a file that `gffnet export` wrote, or a run folder.")
    try:
        return from_mapping(ExportRecord, json.loads(text), f"model {path}", record=True)  # it has no parts to import
    except json.JSONDecodeError as error:
        raise UserError(f"model {path}: its description is not valid: {error}. Export it again.") from None


class Exported:
    """An opened exported file."""

    path: Path
    record: ExportRecord
    device: torch.device
    """The device that it computes on."""

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """Return the `wanted` outputs for images on the device, of `record.smallest` pixels a side or larger."""
        raise NotImplementedError

    def log_probabilities(self, windows: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return the log-probabilities of windows, whose softmax is the probabilities.

        Raises:
            WrongSize: the windows are smaller than `record.smallest`.
        """
        height, width = windows.shape[-2:]
        least = self.record.smallest
        if min(height, width) < least:
            raise WrongSize(
                f"model {self.path} takes images and windows of {least}x{least} pixels and more, not {height}x{width}. "
                "Enlarge the image or the window, or use the model that was exported, which takes all sizes."
            )
        (probabilities,) = self(windows, ["probabilities"])
        return probabilities.log()


class OnnxFile(Exported):
    """An `.onnx` file in ONNX Runtime, on the CPU, with torch's number of threads."""

    device = torch.device("cpu")

    def __init__(self, path: Path, floats: bool = False) -> None:
        """Open the file; with `floats`, it takes float32 in 0..255 instead of uint8.

        Raises:
            UserError: ONNX Runtime is not installed; the file is missing, damaged, or not of gffnet.
        """
        try:
            import onnx
            import onnxruntime as runtime
        except ImportError as error:
            raise UserError(f"model {path} needs {error.name}: pip install 'gffnet[export]'.") from None
        model = _opened(path, onnx.load_model_from_string)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        self.path, self.record = path, read_record(texts.get(PROPERTY), path)
        if floats:
            model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        self._session = _opened(path, lambda _: onnx_session(model))
        self._run_options = runtime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True  # compute only the wanted outputs

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """Return the `wanted` outputs."""
        try:
            found = self._session.run(list(wanted), {"image": image.numpy()}, self._run_options)
        except Exception as error:  # of classes that are no RuntimeErrors, as torch's and OpenVINO's are
            raise RuntimeError(str(error)) from None
        return [torch.from_numpy(value) for value in found]


def image_dtype(config: ModelConfig) -> torch.dtype:
    """Return the dtype of the images that an exported file takes."""
    return torch.uint8 if config.model.white_level is None else torch.float32


def onnx_session(model: Any) -> Any:
    """Open an `onnx.ModelProto` in ONNX Runtime, on the CPU, with torch's number of threads."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


class OpenVinoFile(Exported):
    """An `.xml` file, with its weights in the `.bin` file beside it, in OpenVINO on the CPU; threads as `OnnxFile`."""

    device = torch.device("cpu")

    def __init__(self, path: Path, floats: bool = False, weights: Path | None = None) -> None:
        """Open the file; with `floats`, it takes float32 in 0..255 instead of uint8.

        Args:
            path: the `.xml` file.
            floats: see above.
            weights: the `.bin` file, if it has another name than the `.xml` file.

        Raises:
            UserError: OpenVINO is not installed; a file is missing, damaged, or not of gffnet.
        """
        try:
            import openvino
        except ImportError as error:
            raise UserError(f"model {path} needs {error.name}: pip install 'gffnet[openvino]'.") from None
        weights = weights or path.with_suffix(".bin")
        _opened(path, bytes)
        data = _opened(weights, bytes)
        core = openvino.Core()
        model = _opened(path, lambda text: core.read_model(text, openvino.Tensor(np.frombuffer(data, np.uint8))))
        entry, own = ([PROPERTY, name] for name in ("record", "weights"))
        self.path = path
        self.record = read_record(model.get_rt_info(entry).astype(str) if model.has_rt_info(entry) else None, path)
        # Of the weights, OpenVINO reads what it looks for, in whatever file.
        if model.get_rt_info(own).astype(str) != hashlib.sha256(data).hexdigest():
            raise UserError(f"model {path}: {weights} is not the file of its weights. Export it again, or copy both.")
        if floats:
            model.get_parameters()[0].set_element_type(openvino.Type.f32)
            model.validate_nodes_and_infer_types()
        self._core, self._model, self._data = core, model, data
        self._compiled: dict[tuple[str, ...], Any] = {}

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """Return the `wanted` outputs."""
        found = self._computing(tuple(wanted))({"image": image.contiguous().numpy()})
        return [torch.from_numpy(found[name].copy()) for name in wanted]

    def _computing(self, wanted: tuple[str, ...]) -> Any:
        """Return the model compiled for no other outputs than these: OpenVINO computes all that a model has."""
        import openvino

        if wanted not in self._compiled:
            part = openvino.Model([self._model.output(name) for name in wanted], self._model.get_parameters())
            self._compiled[wanted] = self._core.compile_model(part, "CPU", openvino_options(torch.get_num_threads()))
        return self._compiled[wanted]


def openvino_options(threads: int) -> dict[str, Any]:
    """Return the options to compile a model for the CPU with: so many threads, and no precision but the file's own."""
    return {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class ProgramFile(Exported):
    """A `.pt2` file as a PyTorch module, on any device."""

    def __init__(self, path: Path, device: torch.device, floats: bool = False) -> None:
        """Open the file; with `floats`, it takes float32 in 0..255 instead of uint8.

        Raises:
            UserError: the file is missing, damaged, or not of gffnet.
        """
        extra = {EXTRA_FILE: ""}
        program = _opened(path, lambda data: torch.export.load(io.BytesIO(data), extra_files=extra))
        self.path, self.record, self.device = path, read_record(extra[EXTRA_FILE], path), device
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        if floats:
            for node in list(program.graph.nodes):
                if node.target is torch.ops.aten._assert_tensor_metadata.default:  # it requires uint8
                    program.graph.erase_node(node)
        self._module = program.module()

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """Return the `wanted` outputs."""
        found: dict[str, Tensor] = self._module(image)
        return [found[name] for name in wanted]


def open_for_windows(path: Path, device: str, precision: str, compiled: bool, weights: Path | None = None) -> Exported:
    """Open a file that `gffnet export` wrote, to take windows of floats; the options are those of `load`.

    `weights`: the `.bin` file of an `.xml` file, if it does not lie beside it.

    Raises:
        UserError: it is missing, damaged or not of gffnet, or it cannot be run with these options.
    """
    if compiled:
        raise UserError(f"--compile: model {path} is an exported file, which cannot be compiled. Leave it out.")
    if path.suffix == ".pt2":
        exported: Exported = ProgramFile(path, pick_device(device), floats=True)
    elif device in ("auto", "cpu"):
        exported = OpenVinoFile(path, True, weights) if path.suffix == ".xml" else OnnxFile(path, floats=True)
    else:
        raise UserError(f"--device {device}: model {path} runs on the CPU. Give --device cpu, or a .pt2 file or run.")
    own = exported.record.precision
    if precision not in ("auto", own):
        raise UserError(f"--precision {precision}: model {path} was exported in {own}. Leave it out, or export again.")
    return exported


def _opened(path: Path, read: Callable[[bytes], Any]) -> Any:
    """Parse the content of a file with `read`.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"model {path} cannot be read: {error.strerror}. Give a file of `gffnet export`.") from None
    try:
        with silenced():
            return read(data)
    except Exception as error:  # the parser of a damaged file raises anything
        reason = one_line(error)[:200]
        raise UserError(f"model {path}: not a whole {path.suffix} file ({reason}). Export it again.") from None


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress the warnings, log records below errors, and printed output of verbose libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
