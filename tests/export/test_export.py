"""Exported files: the traced graph, the files, and that a file is kept only if it agrees with the network."""

import dataclasses
import io
import json
import math
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch

from gffnet.data.camvid import CAMVID
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.export import export as module
from gffnet.export.export import (
    FORMATS,
    Format,
    ImageToLabels,
    Parity,
    check_request,
    compare,
    export_model,
    parity_sizes,
    smallest_side,
    trace,
)
from gffnet.inference.exported import OUTPUTS, Exported
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.model_io import hash_weights
from gffnet.recipe import ModelRecipe
from tests import tiny
from tests.export.networks import GFFNET, config, exported, network, symbolic_sizes

SIZES = [(1, 16, 16), (2, 65, 47), (3, 33, 120), (1, 97, 31)]
VARIANTS = [
    pytest.param(
        {"context": "dense_aspp", "fusion": "concat", "dense_pyramid": "dense", "pyramid_kernel": 3},
        marks=pytest.mark.slow,
    ),
    {"context": "none", "fusion": "addition", "dense_pyramid": "literal"},
    {"context": "none", "fusion": "gated_fpn", "dense_pyramid": "dense", "gate_channels": "each"},
]
"""Pyramid pooling and GFF are in the files that the other tests open, FPN in the coarse network."""


def images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def traced(of: SegmentationModel) -> torch.nn.Module:
    with symbolic_sizes():
        return trace(of, torch.float32).module()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
@pytest.mark.slow
def test_every_variant_at_sizes_that_were_not_traced(variant: dict[str, Any]) -> None:
    of = network(dataclasses.replace(ModelRecipe(), **variant))
    graph = traced(of)
    for seed, size in enumerate(SIZES):
        image = images(*size, seed)
        with torch.no_grad():
            found, logits = graph(image), of(image).logits
        probabilities = logits.softmax(1)
        torch.testing.assert_close(found["probabilities"], probabilities, rtol=0, atol=1e-5)
        assert (found["labels"] == logits.max(1).indices).double().mean() >= 0.9999
        assert found["labels"].dtype == torch.uint8
        assert probabilities.std((2, 3)).max() > 0.01  # not constant


@pytest.mark.slow
def test_coarse_backbones_need_larger_images() -> None:
    """The coarsest map has two positions: a single one would be another graph."""
    of = network(dataclasses.replace(ModelRecipe(), context="none", fusion="fpn"), (4, 8, 16, 32))
    assert smallest_side(of) == 64
    graph = traced(of)
    with torch.no_grad():
        for size in ((1, 64, 64), (2, 65, 131)):
            image = images(*size)
            expected = of(image).logits.softmax(1)
            torch.testing.assert_close(graph(image)["probabilities"], expected, rtol=0, atol=1e-5)
        with pytest.raises(AssertionError, match=">= 64"):
            graph(images(1, 63, 80))


def test_the_network_itself_is_unchanged() -> None:
    of = network(ModelRecipe()).train()
    before = {name: value.clone() for name, value in of.state_dict().items()}
    wrapped = ImageToLabels(of, torch.bfloat16)
    assert of.training
    assert all(torch.equal(value, before[name]) for name, value in of.state_dict().items())
    assert {p.dtype for p in wrapped.parameters()} == {torch.bfloat16}
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in wrapped.modules())


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_onnx_declares_input_and_outputs() -> None:
    graph = onnx.load_model_from_string(exported("onnx")[0])
    (image,), (labels, probabilities) = graph.graph.input, graph.graph.output
    assert [value.name for value in (image, labels, probabilities)] == ["image", "labels", "probabilities"]
    types = [value.type.tensor_type.elem_type for value in (image, labels, probabilities)]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert dims(image) == ["batch", 3, "height", "width"]
    assert dims(labels) == ["batch", "height", "width"]
    assert dims(probabilities) == ["batch", 11, "height", "width"]
    assert graph.opset_import[0].version >= 18


def test_onnx_is_simple() -> None:
    """Every convolution and resizing of the network, no norm, no loop, no branch, and little besides."""
    graph = onnx.load_model_from_string(exported("onnx")[0]).graph
    count = Counter(node.op_type for node in graph.node)
    assert not {"BatchNormalization", "Dropout", "If", "Loop", "Scan", "Identity"} & set(count)
    # Backbone 4; pyramid pooling 4 + 1; reductions, gates 4 + 4; refinements 8; pyramid 1 + 2 + 2 + 2 + 2; classifier 2
    assert count["Conv"] < 45
    assert count["Cast"] <= 12
    assert len(graph.node) < 320


def test_onnx_runtime_agrees_with_the_network() -> None:
    session = onnxruntime.InferenceSession(exported("onnx")[0], providers=["CPUExecutionProvider"])
    image = np.stack([tiny.picture(seed, 75, 130) for seed in range(2)]).transpose(0, 3, 1, 2)
    labels, probabilities = session.run(["labels", "probabilities"], {"image": image})
    with torch.no_grad():
        logits = network(GFFNET)(torch.from_numpy(image)).logits
    np.testing.assert_allclose(probabilities, logits.softmax(1).numpy(), rtol=0, atol=1e-4)
    assert (labels == logits.max(1).indices.numpy()).mean() >= 0.9999
    assert len(np.unique(labels)) > 2


@pytest.mark.slow
def test_torch_agrees_with_the_network() -> None:
    program = torch.export.load(io.BytesIO(exported("pt2")[0])).module()
    image = torch.from_numpy(tiny.picture(0, 75, 130)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found, logits = program(image), network(GFFNET)(image).logits
    assert list(found) == ["labels", "probabilities"]
    torch.testing.assert_close(found["probabilities"], logits.softmax(1), rtol=0, atol=1e-4)
    assert (found["labels"] == logits.max(1).indices).double().mean() >= 0.9999


@pytest.mark.parametrize("to", ["onnx", "openvino", pytest.param("pt2", marks=pytest.mark.slow)])
def test_all_formats_hold_the_record(to: str) -> None:
    data = exported(to)[0]
    if to == "onnx":
        (entry,) = onnx.load_model_from_string(data).metadata_props
        assert entry.key == "gffnet"
        text = entry.value
    elif to == "openvino":
        _, _, (_, weights) = exported(to)
        core = openvino.Core()
        text = core.read_model(data, weights).get_rt_info(["gffnet", "record"]).astype(str)
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("extra/gffnet.json"))
            text = archive.read(name).decode()
    record = json.loads(text)
    assert record["weights"] == hash_weights(network(GFFNET))
    assert (record["precision"], record["smallest"]) == ("float32", 16)
    assert record["image"].startswith("uint8 (batch, 3, height, width), RGB in 0..255")
    assert record["probabilities"] == "float32 (batch, 11, height, width), their sum over the classes is 1"
    assert record["config"]["classes"] == list(CAMVID.names)
    assert record["config"]["palette"] == [list(color) for color in CAMVID.palette]
    assert (record["config"]["dataset"], record["config"]["recipe"]) == ("camvid", "tests/export")
    assert record["config"]["evaluation"] == {"crop": None, "overlap": 1 / 3, "scales": [1.0], "flip": False}


@pytest.mark.slow
@pytest.mark.parametrize("to", list(FORMATS))
def test_files_hold_no_paths_of_this_machine(to: str) -> None:
    data = exported(to)[0]
    parts = [data]
    if to == "pt2":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
    assert not any(b"gffnet/models/" in part or b"site-packages" in part for part in parts)


@pytest.mark.parametrize(
    ("to", "int8", "package", "message"),
    [
        ("onnx", False, "onnxscript", r"--to onnx needs onnxscript: pip install 'gffnet\[export\]'"),
        ("openvino", False, "openvino", r"--to openvino needs openvino: pip install 'gffnet\[openvino\]'"),
        ("onnx", True, "nncf", r"--int8 needs nncf: pip install 'gffnet\[openvino\]'"),
    ],
)
def test_a_missing_package_is_named(
    to: str, int8: bool, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=message):
        check_request(to, Path(f"a{FORMATS[to].suffixes[0]}"), "float32", Path("images") if int8 else None)


SMALL = ModelRecipe(context="none")


@pytest.mark.parametrize("to", list(FORMATS))
def test_the_parity_is_reported(to: str) -> None:
    _, export, contents = exported(to)
    report = json.loads(json.dumps(export.to_mapping()))
    assert (report["format"], report["bytes"], report["precision"], report["smallest"]) == (
        to,
        sum(map(len, contents)),
        "float32",
        16,
    )
    assert len(report["parity"]) >= 5
    for each in report["parity"]:
        assert each["agreement"] >= report["tolerance"]["agreement"] == 0.9999
        assert 0 < each["difference"] <= report["tolerance"]["difference"] == 1e-3


class Shifted(Exported):
    """A file that agrees with the network but for one image, whose first row it moves to the next class."""

    def __init__(self, of: object) -> None:
        self.of = of
        self.record = SimpleNamespace(smallest=16, config=config(SMALL))  # type: ignore[assignment]

    def __call__(self, image: torch.Tensor, wanted: Sequence[str] = OUTPUTS) -> list[torch.Tensor]:
        probabilities = self.of(image).logits.softmax(1)  # type: ignore[operator]
        labels = probabilities.max(1).indices
        if image.shape[-2] == 101:
            labels[:, 0] += 1
            probabilities[0, 2, 5, 7] += 0.25
        return [labels.to(torch.uint8), probabilities]


def test_labels_and_probabilities_are_compared_at_each_size() -> None:
    of = network(SMALL)
    found = list(compare(Shifted(of), of))
    assert [(each.batch, each.height, each.width) for each in found] == parity_sizes(16)
    for each in found:
        wrong = each.height == 101
        assert math.isclose(each.agreement, 100 / 101 if wrong else 1)
        assert math.isclose(each.difference, 0.25 if wrong else 0, rel_tol=1e-5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Parity]:
    """Trace nothing; the test sets the parity."""
    parity: list[Parity] = []
    fake = Format((".pt2",), ("float32",), write=lambda *_: [b"new"], read=Path.read_bytes)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "trace", lambda *_: None)
    monkeypatch.setitem(FORMATS, "pt2", fake)
    monkeypatch.setattr(module, "compare", lambda exported, *_: iter(parity if exported == b"new" else []))
    return parity


def write_pt2(out: Path) -> Any:
    return export_model(network(SMALL), config(SMALL), "pt2", out)


def test_a_good_file_replaces_what_is_there(quick: list[Parity], tmp_path: Path) -> None:
    quick += [Parity(1, 16, 16, 1.0, 1e-6)]
    out = tmp_path / "deep/er/model.pt2"
    write_pt2(out)
    out.write_bytes(b"old")
    assert write_pt2(out).parity == quick
    assert [path.name for path in out.parent.iterdir()] == ["model.pt2"]
    assert out.read_bytes() == b"new"


@pytest.mark.parametrize(("agreement", "difference"), [(0.98, 1e-5), (1.0, 0.02), (1.0, math.nan)])
def test_a_file_that_differs_is_discarded(
    agreement: float, difference: float, quick: list[Parity], tmp_path: Path
) -> None:
    wrong = Parity(3, 233, 149, agreement, difference)
    quick += [Parity(1, 16, 16, 1.0, 1e-6), wrong]
    out = tmp_path / "model.pt2"
    out.write_bytes(b"old")
    message = (
        rf"model\.pt2 is not written: it differs from the network: at 3x233x149 {wrong.agreement:.3%} of the labels "
        rf"agree and a probability is off by {wrong.difference:.2g}; allowed are 99\.99% or more and 0\.001 or less"
    )
    with pytest.raises(RunFailed, match=message):
        write_pt2(out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert out.read_bytes() == b"old"


def test_an_unwritable_file_is_refused_before_tracing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "trace", lambda *_: pytest.fail("traced"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"cannot write .*/file/model\.pt2"):
        write_pt2(tmp_path / "file/model.pt2")


@pytest.mark.parametrize(
    ("to", "name", "precision", "message"),
    [
        ("onxx", "a.onnx", "float32", r"--to 'onxx' is unknown\. Did you mean 'onnx'\?"),
        ("onnx", "a.pt2", "float32", r"--out a\.pt2 must end with \.onnx, as --to onnx has it"),
        ("pt2", "a", "float32", r"--out a must end with \.pt2"),
        ("onnx", "a.onnx", "bfloat16", r"--precision bfloat16: --to onnx takes float32 or float16"),
    ],
)
def test_invalid_requests(to: str, name: str, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_request(to, Path(name), precision)


def test_progress_is_reported(quick: list[Parity], tmp_path: Path) -> None:
    quick += [Parity(1, 16, 16, 1.0, 0.0)] * 5
    steps: list[tuple[int, int]] = []
    out = tmp_path / "model.pt2"
    export_model(network(SMALL), config(SMALL), "pt2", out, advance=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 7) for done in range(1, 8)]
