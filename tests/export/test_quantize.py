"""int8: what is quantized, what returns to float, and the files."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gffnet.cli.main import main
from gffnet.errors import RunFailed, UserError
from gffnet.export import quantize as module
from gffnet.export.export import describe_export, export_model, to_graph
from gffnet.export.quantize import (
    Block,
    Quantized,
    agreement,
    blocks_of,
    calibration_images,
    check_quantization,
    in_float,
    multiplications,
    quantize,
    steps,
    to_int8,
)
from gffnet.inference.exported import Quantization
from gffnet.inference.predictor import load
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.export.networks import GFFNET, config, network, symbolic_sizes, traced


def photographs(count: int) -> list[torch.Tensor]:
    return [torch.from_numpy(tiny.picture(seed, 96, 128)).permute(2, 0, 1)[None] for seed in range(count)]


@cache
def graph() -> Any:
    with symbolic_sizes():
        return to_graph(traced())


@cache
def int8() -> Any:
    return to_int8(graph(), photographs(4))


def probabilities(model: Any, image: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": image.numpy()})[0]


@pytest.mark.slow
def test_only_convolutions_are_quantized_and_no_gate() -> None:
    nodes = int8().graph.node
    maker = {output: node for node in nodes for output in node.output}
    values = {value.name: value for value in int8().graph.initializer}
    quantized = 0
    for node in nodes:
        takes = [maker[name].op_type == "DequantizeLinear" for name in node.input if name in maker]
        if node.op_type == "Conv" and "gate_convs" not in node.name:
            assert takes[:2] == [True, True]
            weight = numpy_helper.to_array(values[maker[node.input[1]].input[0]])
            assert weight.dtype == np.int8
            assert np.abs(weight.astype(int)).max() <= 64  # 7 bits: no sum of two products overflows 16 bits
            quantized += 1
        elif node.op_type not in ("DequantizeLinear", "Relu", "MaxPool"):
            assert not any(takes), node.name
    assert quantized == sum(node.op_type == "Conv" for node in graph().graph.node) - 4 > 20
    assert {node.name.partition("/")[0] for node in nodes if "gate_convs" in node.name} == {
        f"fusion.gate_convs.{level}" for level in range(4)
    }


@pytest.mark.slow
def test_with_every_block_in_float_it_is_the_network() -> None:
    """At a size that was neither traced nor calibrated."""
    image = torch.from_numpy(tiny.picture(9, 75, 131)).permute(2, 0, 1)[None]
    exact, blocks = probabilities(graph(), image), blocks_of(int8())
    everything = in_float(int8(), graph(), [name for names in blocks.values() for name in names])
    assert not any("QuantizeLinear" in node.op_type for node in everything.graph.node)
    np.testing.assert_allclose(probabilities(everything, image), exact, rtol=0, atol=1e-6)
    assert np.abs(probabilities(int8(), image) - exact).max() > 1e-3
    one = in_float(int8(), graph(), blocks["fusion.refinements.0.0"])
    onnx.checker.check_model(one)
    assert set(blocks) - set(blocks_of(one)) == {"fusion.refinements.0.0"}


def test_inputs_have_one_scale_and_no_offset() -> None:
    """ONNX Runtime refuses a scale per channel, and OpenVINO offsets, where they run a convolution in int8."""
    value = helper.make_tensor_value_info
    rng = np.random.default_rng(0)
    weights = {"pointwise": rng.normal(size=(4, 3, 1, 1)), "depthwise": rng.normal(size=(4, 1, 3, 3))}
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "pointwise"], ["y"], "pointwise/Conv"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
        helper.make_node("Conv", ["z", "depthwise"], ["w"], "depthwise/Conv", group=4),
        helper.make_node("Conv", ["w", "last"], ["probabilities"], "last/Conv"),
    ]
    weights["last"] = rng.normal(size=(2, 4, 1, 1))
    constants = [numpy_helper.from_array(weight.astype(np.float32), name) for name, weight in weights.items()]
    shapes = ["batch", 3, "height", "width"], ["batch", 2, None, None]
    inputs, outputs = [value("image", TensorProto.UINT8, shapes[0])], [value("probabilities", 1, shapes[1])]
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=opset, ir_version=10
    )
    images = photographs(2)
    int8 = to_int8(model, images)
    values = {each.name: numpy_helper.to_array(each) for each in int8.graph.initializer}
    scales, offsets = zip(
        *([values[name] for name in node.input[1:]] for node in int8.graph.node if node.op_type == "QuantizeLinear"),
        strict=True,
    )
    assert [scale.shape for scale in scales] == [(), (), ()]
    assert [int(offset) for offset in offsets] == [0, 0, 0]
    assert [offset.dtype for offset in offsets] == [np.uint8, np.uint8, np.int8]  # the last input has negative values
    quantized, exact = (probabilities(each, images[0]) for each in (int8, model))
    assert np.abs(quantized - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.slow
def test_multiplications() -> None:
    found = multiplications(graph(), photographs(1)[0])
    assert found["backbone.layers.0/Conv"] == 6 * 24 * 32 * 3 * 3 * 3  # 3 to 6 channels, 3x3, at stride 4
    assert found["fusion.refinements.0.0.conv/Conv"] == 32 * 24 * 32 * 32 * 3 * 3


@pytest.mark.slow
def test_the_most_costly_blocks_stay_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    names, costly = list(blocks_of(int8())), ["head.classifier", "pyramid.blocks.0"]
    gains = dict.fromkeys(names, 0.0) | {costly[0]: 0.05, costly[1]: 0.02, names[0]: 0.004}
    order = iter([(0.9, 0.9), *((0.9, 0.9 + gains[name]) for name in names), (0.95, 0.96)])
    monkeypatch.setattr(module, "to_int8", lambda *_: int8())
    monkeypatch.setattr(module, "agreement", lambda *_: next(order))
    done: list[int] = []
    found = quantize(graph(), photographs(4), network(GFFNET), lambda *_: None, lambda: done.append(1))  # type: ignore[arg-type, return-value]
    assert len(done) == steps(graph())
    assert found.record == Quantization(4, 4, 0.95, 0.96, tuple(costly))
    assert [block.name for block in found.blocks if block.in_float] == costly
    assert set(names) - set(blocks_of(found.model)) == set(costly)
    assert sum(block.share for block in found.blocks) == pytest.approx(1)


def test_agreement_counts_thin_classes() -> None:
    truth = torch.zeros(1, 10, 100, dtype=torch.uint8)
    truth[:, :, :1] = 1
    found = torch.zeros_like(truth)
    assert agreement([found], [truth], 2) == (0.99, pytest.approx(0.99 / 2))


@pytest.mark.parametrize(("miou", "said"), [(0.98, 0), (0.95, 1), (0.85, 2)])
def test_a_file_that_loses_too_much_is_refused(miou: float, said: int, caplog: pytest.LogCaptureFixture) -> None:
    quantized = Quantized(None, Quantization(64, 8, 0.99, miou), [Block("head.classifier", 0.1, 0.034)], 0.8)
    if said == 2:
        with pytest.raises(
            RunFailed, match=r"a\.onnx is not written: .* Most costly in int8: head\.classifier \(\+3\.4\)"
        ):
            check_quantization(quantized, Path("a.onnx"))
    else:
        check_quantization(quantized, Path("a.onnx"))
        assert len(caplog.records) == said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images."""
    folder = tmp_path_factory.mktemp("calibration")
    for seed in range(6):
        Image.fromarray(tiny.picture(seed, 96, 128)).save(folder / f"{seed}.png")
    return folder


def test_calibration_images_are_the_windows_of_predict(folder: Path) -> None:
    about = dataclasses.replace(config(GFFNET), evaluation=EvaluationRecipe((64, 64), 0.25))
    found = calibration_images(network(GFFNET), describe_export(network(GFFNET), about, "float32"), folder, 3)
    starts = [(0, 0), (0, 48), (0, 64)]  # the i-th image gives its i-th window
    for image, seed, (top, left) in zip(found, (0, 2, 4), starts, strict=True):
        expected = tiny.picture(seed, 96, 128)[top : top + 64, left : left + 64].transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(image.numpy(), expected)


@pytest.mark.parametrize(("to", "name"), [("onnx", "model.onnx"), ("openvino", "model.xml")])
@pytest.mark.slow
def test_a_file_predicts_about_what_the_network_predicts(
    to: str, name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gffnet.export.export.trace", lambda *_: traced())
    monkeypatch.setattr("gffnet.export.export.to_graph", lambda _: graph())
    monkeypatch.setattr(module, "to_int8", lambda *_: int8())
    tried = ("head.classifier", "fusion.refinements.0.0")
    monkeypatch.setattr(module, "blocks_of", lambda _: {name: blocks_of(int8())[name] for name in tried})
    export = export_model(network(GFFNET), config(GFFNET), to, tmp_path / name, calibrate=folder, images=4)
    told = json.loads(json.dumps(export.to_mapping()))
    assert (told["precision"], told["quantization"]["calibration"]) == ("int8", 4)
    assert told["quantization"]["in_float"] == ["head.classifier"]
    predictor = load(tmp_path / name)
    assert predictor.precision.describe(predictor.device) == "int8 on cpu: as it was exported"
    image = tiny.picture(7, 75, 131)
    with torch.no_grad():
        logits = network(GFFNET)(torch.from_numpy(image).permute(2, 0, 1)[None]).logits
    assert (predictor.predict(image) == logits.max(1).indices[0].numpy()).mean() > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8"], "--int8 needs --calibrate DIR"),
        (["--calibrate", "photos"], "--calibrate and --images are for --int8"),
        (["--int8", "--calibrate", "photos", "--precision", "float16"], "--int8 and --precision float16"),
        (["--int8", "--calibrate", "photos", "--to", "pt2", "--out", "a.pt2"], "--int8: --to pt2 has no int8"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--to", "onnx", "--out", "a.onnx", *words]) == 2
    assert message in capsys.readouterr().err


def test_no_calibration_images(tmp_path: Path) -> None:
    record = describe_export(network(GFFNET), config(GFFNET), "float32")
    with pytest.raises(UserError, match=r"--calibrate .*/none: there is no such folder"):
        calibration_images(network(GFFNET), record, tmp_path / "none")
    with pytest.raises(UserError, match="holds no image"):
        calibration_images(network(GFFNET), record, tmp_path)
