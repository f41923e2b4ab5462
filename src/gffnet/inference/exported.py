"""What an exported file says of itself: one JSON text, in an `.onnx` file as the property `gffnet`, in a `.pt2` file as
the extra file `gffnet.json`."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.export.passes import move_to_device_pass

from gffnet.errors import UserError
from gffnet.inference.model_io import ModelConfig, quiet
from gffnet.inference.precision import pick_device
from gffnet.recipe import from_mapping, validated

COMPILED = ".aoti.pt2"
"""What the name of a package of AOTInductor ends with; it is a kind of `.pt2` file."""
PROPERTY = "gffnet"
EXTRA_FILE = "gffnet.json"


@validated
class ExportRecord:
    """Model, protocol and origin of an exported file, and what goes in and comes out."""

    gffnet: str
    """Version of gffnet that wrote it."""
    weights: str
    """SHA-256 of the weights that were exported, as `Predictor.weights` has it."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Number format that it computes in."""
    smallest: int
    """The least height and width of an image, in pixels."""
    image: str
    """What goes in."""
    labels: str
    """The first output."""
    probabilities: str
    """The second output."""
    config: ModelConfig
    """Network, classes, palette, data set, recipe and protocol, as `config.json` of a model folder has them."""

    def to_text(self) -> str:
        """The record as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def read_record(text: str | None, path: Path) -> ExportRecord:
    """The record in the file `path`, checked.

    Raises:
        UserError: the file has none, or one of another version.
    """
    if not text:
        raise UserError(
            f"model {path} says nothing of its classes and its protocol, so it was not written by gffnet. Give a file "
            "that `gffnet export` wrote, or a run folder."
        )
    try:
        return from_mapping(ExportRecord, json.loads(text), f"model {path}")
    except json.JSONDecodeError as error:
        raise UserError(f"model {path}: what it says of itself is not valid: {error}. Export it again.") from None


# Exported files opened for prediction: what ONNX Runtime or PyTorch makes of an image, without the network's code.
#
#     labels (B, H, W), probabilities (B, K, H, W) = file(image (B, C, H, W))
#
# A file takes uint8. Windows of scaled images lie between grey levels, and rounding them would change the result. What
# either graph does first is to make a float of what comes, and it would of a float as well: opened with `floats`, it
# takes windows as they are.


OUTPUTS = ("labels", "probabilities")


class Exported:
    """An opened file."""

    path: Path
    record: ExportRecord
    device: torch.device
    """Where it computes."""

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """The outputs that are `wanted` of images of the record's size or larger, on the device."""
        raise NotImplementedError

    def log_probabilities(self, windows: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logarithms of the probabilities of windows: logits as good as any.

        Raises:
            UserError: the windows are smaller than the network takes.
        """
        height, width = windows.shape[-2:]
        smallest = self.record.smallest
        if min(height, width) < smallest:
            raise UserError(
                f"model {self.path} takes images and windows of {smallest}x{smallest} pixels and more, not "
                f"{height}x{width}. Give larger ones, or the run folder that it was exported from."
            )
        (probabilities,) = self(windows, ["probabilities"])
        return probabilities.log()


class OnnxFile(Exported):
    """An `.onnx` file in ONNX Runtime, on the CPU, with as many threads as torch has."""

    device = torch.device("cpu")

    def __init__(self, path: Path, floats: bool = False) -> None:
        """`floats`: it is to take float32 in 0..255 instead of uint8.

        Raises:
            UserError: ONNX Runtime is not installed; the file is missing, damaged, or not of gffnet.
        """
        onnx, runtime = _onnx(path)
        model = _opened(path, onnx.load_model_from_string)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        self.path, self.record = path, read_record(texts.get(PROPERTY), path)
        if floats:
            model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session = _opened(path, lambda _: runtime.InferenceSession(model.SerializeToString(), options, providers))
        self._only = runtime.RunOptions()
        self._only.only_execute_path_to_fetches = True  # nothing is computed that is not wanted

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """The outputs that are wanted."""
        found = self._session.run(list(wanted), {"image": image.numpy()}, self._only)
        return [torch.from_numpy(value) for value in found]


class ProgramFile(Exported):
    """A `.pt2` file as a module of PyTorch, on any device."""

    def __init__(self, path: Path, device: torch.device, floats: bool = False) -> None:
        """`floats`: it is to take float32 in 0..255 instead of uint8.

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
                if node.target is torch.ops.aten._assert_tensor_metadata.default:  # they insist on uint8
                    program.graph.erase_node(node)
        self._module = program.module()

    def __call__(self, image: Num[Tensor, "b c h w"], wanted: Sequence[str] = OUTPUTS) -> list[Tensor]:
        """The outputs that are wanted."""
        found: dict[str, Tensor] = self._module(image)
        return [found[name] for name in wanted]


def open_for_windows(path: Path, device: str, precision: str, compiled: bool) -> Exported:
    """A file that `gffnet export` wrote, to take windows of floats, as `load` is asked to run it.

    Raises:
        UserError: it is missing, damaged or not of gffnet, or it cannot be run so.
    """
    if compiled:
        raise UserError(f"--compile: model {path} is an exported file, which is not compiled any more. Leave it out.")
    if path.name.endswith(COMPILED):
        raise UserError(
            f"model {path} is compiled, for programs that run without gffnet. Give a .pt2 or .onnx file, or the run "
            "folder that it was exported from."
        )
    if path.suffix == ".pt2":
        exported: Exported = ProgramFile(path, pick_device(device), floats=True)
    elif device in ("auto", "cpu"):
        exported = OnnxFile(path, floats=True)
    else:
        raise UserError(
            f"--device {device}: model {path} is computed on the CPU. Give --device cpu, or a .pt2 file or a run "
            "folder, which any device takes."
        )
    own = exported.record.precision
    if precision not in ("auto", own):
        raise UserError(
            f"--precision {precision}: model {path} was exported in {own}. Leave it out, or export the model again."
        )
    return exported


def _opened(path: Path, read: Callable[[bytes], Any]) -> Any:
    """What `read` makes of the content of a file.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"model {path} cannot be read: {error.strerror}. Give a file that `gffnet export` wrote."
        ) from None
    try:
        with quiet():
            return read(data)
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model {path}: not a whole {path.suffix} file ({reason}). Export it again.") from None


def _onnx(path: Path) -> tuple[Any, Any]:
    """The packages that read and run ONNX.

    Raises:
        UserError: they are not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"model {path} needs {error.name}: pip install 'gffnet[export]'.") from None
    return onnx, onnxruntime
