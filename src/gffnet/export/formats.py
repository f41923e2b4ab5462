"""The three kinds of files, as bytes."""

import io
from typing import Any

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.exc import InvalidCxxCompiler
from torch.export import ExportedProgram

from gffnet.errors import UserError
from gffnet.inference.export_record import EXTRA_FILE, PROPERTY, ExportRecord
from gffnet.inference.exported import OUTPUTS
from gffnet.inference.quiet import quiet

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
