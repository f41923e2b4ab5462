"""Exported files predict what the model predicts, and describe themselves."""

import dataclasses
import io
import json
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import openvino
import pytest
import tifffile
import torch
from onnx import TensorProto, helper
from PIL import Image

from gffnet.app.explorer import Explorer
from gffnet.errors import UserError
from gffnet.export import export as module
from gffnet.export.export import export_model, trace
from gffnet.inference.exported import ExportRecord, OnnxFile, read_record, silenced
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor, load
from gffnet.models.gffnet import load_model
from gffnet.recipe import EvaluationRecipe, ModelRecipe
from tests import tiny
from tests.export.networks import GFFNET, config, exported_file, network, symbolic_sizes

FORMATS = ["onnx", "openvino", "pt2"]
SUFFIX = {to: form.suffixes[0] for to, form in module.FORMATS.items()}
PROTOCOLS = [EvaluationRecipe(), EvaluationRecipe((48, 64), 0.25, (0.75, 1.0, 1.5), True), EvaluationRecipe((96, 160))]
"""The whole image; windows of scaled images, whose pixels lie between grey levels; windows that are padded."""


@pytest.fixture(scope="module", params=["onnx", "openvino", pytest.param("pt2", marks=pytest.mark.slow)])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file; read only."""
    return exported_file(request.param, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def predictor(path: Path) -> Predictor:
    return load(path, batch=2, memory=10**12)


@pytest.fixture(scope="module")
def expected() -> Predictor:
    return Predictor(network(GFFNET), config(GFFNET), torch.device("cpu"), Precision(torch.float32, "for tests"))


def test_it_predicts_what_the_model_predicts(predictor: Predictor, expected: Predictor) -> None:
    assert isinstance(predictor, Predictor)
    assert (predictor.config, predictor.weights) == (expected.config, expected.weights)
    assert predictor.precision.describe(predictor.device) == "float32 on cpu: as it was exported"
    assert predictor.batch == 2
    image = tiny.picture(3, 75, 131)
    for protocol in PROTOCOLS:
        probabilities = expected.probabilities(image, protocol)
        softmax = predictor.logits(image, protocol).softmax(0)
        torch.testing.assert_close(softmax, probabilities, rtol=0, atol=1e-4)
        torch.testing.assert_close(predictor.probabilities(image, protocol), probabilities, rtol=0, atol=1e-4)
        assert (predictor.predict(image, protocol) == expected.predict(image, protocol)).mean() >= 0.9999
    assert len(np.unique(expected.predict(image))) > 2


@pytest.mark.slow
def test_files_of_four_bands_of_12_bits_predict_what_the_model_predicts(tmp_path: Path) -> None:
    backbone = dataclasses.replace(GFFNET.backbone, in_channels=4)
    recipe = ModelRecipe(
        backbone, "none", mean=(90, 110, 130, 150), std=(40, 50, 60, 70), white_level=4095, channels=16
    )
    of, image = network(recipe), tmp_path / "bands.tif"
    values = np.dstack([tiny.picture(0), tiny.picture(1)[..., 0]]).astype(np.uint16) * 16
    tifffile.imwrite(image, values, photometric="minisblack", planarconfig="contig")
    expected = Predictor(of, config(recipe), torch.device("cpu"), Precision(torch.float32, "for tests")).predict(image)
    assert len(np.unique(expected)) > 2
    with symbolic_sizes(), patch("gffnet.export.export.parity_sizes", lambda least: [(1, 3 * least, 2 * least)]):
        program = trace(of, torch.float32, torch.float32)
        for to in FORMATS:
            with patch("gffnet.export.export.trace", lambda *_: program):
                exported = export_model(of, config(recipe), to, tmp_path / f"model{SUFFIX[to]}")
            shape = (
                "float32 (batch, 4, height, width), 4 channels in 0..255 (255 / 4095 of the samples that files store)"
            )
            assert exported.record.image.startswith(shape)
            assert np.array_equal(load(exported.path).predict(image), expected)


def test_scaled_windows_are_not_rounded(predictor: Predictor, expected: Predictor) -> None:
    protocol = EvaluationRecipe(scales=(0.75,))
    image = expected.tensor(tiny.picture(3, 75, 131))
    window, rounded = predictor.window(protocol), predictor.window(protocol)
    rounded.score = lambda x: window.score(x.round())
    exact = expected.window(protocol).probabilities(image)
    off, far_off = ((each.probabilities(image) - exact).abs().max() for each in (window, rounded))
    assert off < 0.1 * far_off


def test_refused_requests(path: Path, predictor: Predictor) -> None:
    with pytest.raises(
        UserError, match=r"model\.\w+ takes images and windows of 16x16 pixels and more, not 15x90\. Enlarge"
    ):
        predictor.predict(tiny.picture(0, 15, 90))
    for ask in (lambda: predictor.encode(tiny.picture(0)), lambda: Explorer([predictor], "a", 160)):
        with pytest.raises(UserError, match=r"is an exported file: .* no gates. Give its run folder"):
            ask()
    with pytest.raises(UserError, match=r"--compile: model .* is an exported file"):
        load(path, compiled=True)
    with pytest.raises(UserError, match=r"--precision bfloat16: model .* was exported in float32"):
        load(path, precision="bfloat16")
    with pytest.raises(UserError, match=r"an image is \(40, 56, 2\), but this model takes \(height, width, 3\)"):
        predictor.predict(tiny.picture(0)[:, :, :2])
    with pytest.raises(UserError, match=r"is an exported file, which can predict and no more"):
        load_model(path)


def test_onnx_is_computed_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--device cuda: model .* runs on the CPU\. Give --device cpu, or a"):
        load(exported_file("onnx", tmp_path), "cuda")


def test_an_image_that_onnx_runtime_cannot_take_is_an_error_of_the_network(tmp_path: Path) -> None:
    """Of the class that callers know, for an image in a folder to be left out; those of ONNX Runtime are others."""
    network = OnnxFile(exported_file("onnx", tmp_path))
    with pytest.raises(RuntimeError, match=r"[Ii]nvalid"):
        network(torch.zeros(1, 3, 64, dtype=torch.uint8))


# Invalid files


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\xff" * 500])
def test_damaged(damage: Any, path: Path) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        UserError, match=rf"model .*model\{path.suffix}[: ][^\n]+ Export it again|has no description"
    ) as error:
        load(path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("to", FORMATS)
def test_missing(to: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"model .*/none{SUFFIX[to]} cannot be read: No such file"):
        load(tmp_path / f"none{SUFFIX[to]}")


def foreign(to: str, path: Path) -> None:
    """Write a sound file of another program."""
    if to == "pt2":
        file = io.BytesIO()
        torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(2),)), file)
        path.write_bytes(file.getvalue())
        return
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    data: bytes = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:])).SerializeToString()
    if to == "openvino":
        openvino.save_model(openvino.Core().read_model(data), path)
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("to", FORMATS)
def test_of_another_program(to: str, tmp_path: Path) -> None:
    path = tmp_path / f"other{SUFFIX[to]}"
    foreign(to, path)
    with pytest.raises(UserError, match=r"other\.\w+ has no description: give a file that `gffnet export` wrote"):
        load(path)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported_file("onnx", tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"model .*\.onnx needs {package}: pip install 'gffnet\[export\]'"):
        load(path)


def test_an_xml_file_beside_the_weights_of_another(tmp_path: Path) -> None:
    path = exported_file("openvino", tmp_path)
    weights = path.with_suffix(".bin")
    data = weights.read_bytes()
    weights.write_bytes(data[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match=r"model .*model\.xml: .*model\.bin is not the file of its weights"):
        load(path)
    weights.unlink()
    with pytest.raises(UserError, match=r"model .*model\.bin cannot be read: No such file"):
        load(path)


def test_only_the_wanted_outputs_are_computed(tmp_path: Path) -> None:
    image = torch.from_numpy(tiny.picture(0)).permute(2, 0, 1)[None]
    (labels,) = OnnxFile(exported_file("onnx", tmp_path))(image, ["labels"])
    assert (labels.dtype, labels.shape) == (torch.uint8, (1, 40, 56))
    assert onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


# The record

PATH = Path("model.onnx")


def record() -> ExportRecord:
    config = dataclasses.replace(
        tiny.config(tiny.recipe()), evaluation=EvaluationRecipe((32, 48), 0.5, (0.75, 1.0), True)
    )
    return ExportRecord("1.2.3", "ab" * 32, "bfloat16", 64, "an image", "its labels", "its probabilities", config)


def test_it_comes_back_whole() -> None:
    assert read_record(record().to_text(), PATH) == record()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"precision": "int4"},
            r"precision: must be 'float32', 'bfloat16', 'float16' or 'int8', got 'int4'",
        ),
        ({"smalest": 16}, r"model\.onnx: smalest is unknown\. Did you mean smallest\?"),
        ({"config": {"classes": []}}, r"model\.onnx: config\.model is missing"),
    ],
)
def test_one_of_another_version(change: dict[str, Any], message: str) -> None:
    said = {**json.loads(record().to_text()), **change}
    with pytest.raises(UserError, match=message):
        read_record(json.dumps(said), PATH)


def test_no_json() -> None:
    with pytest.raises(UserError, match=r"model model\.onnx: its description is not valid: .* Export it again"):
        read_record("{", PATH)


def test_libraries_are_silenced(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with silenced():
            print("chatter")
            logging.getLogger("chatter").warning("chatter")
            warnings.warn("chatter", stacklevel=1)
            logging.getLogger("serious").error("it fails")
        assert caught == []
        assert [each.message for each in caplog.records] == ["it fails"]
        print("result")
        logging.getLogger("ours").warning("notice")
        warnings.warn("notice", stacklevel=1)
    assert len(caught) == 1
    assert capsys.readouterr().out == "result\n"
    assert caplog.records[-1].message == "notice"
    with pytest.raises(ValueError, match="broken"), silenced():
        raise ValueError("broken")
    assert logging.getLogger("ours").isEnabledFor(logging.WARNING)


# The documentation


def test_the_block_of_the_page_runs_without_gffnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported_file("onnx", tmp_path)
    Image.fromarray(tiny.picture(3, 75, 131)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert "gffnet" not in block.replace('["gffnet"]', "")
    names: dict = {}
    exec(compile(block, "docs/export.md", "exec"), names)
    expected = load(tmp_path / "model.onnx").predict(tmp_path / "photo.jpg")
    assert (names["labels"][0] == expected).mean() >= 0.9999
    assert len(names["classes"]) == len(np.unique(expected))
    assert names["labels"].shape == (1, 75, 131)


def test_the_record_of_a_network_with_parts_of_ones_own_is_read_without_them() -> None:
    said = json.loads(record().to_text())
    said["config"]["model"]["fusion"] = "a_fusion_of_mine"
    assert read_record(json.dumps(said), PATH).config.model.fusion == "a_fusion_of_mine"
