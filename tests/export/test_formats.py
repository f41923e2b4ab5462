"""The files themselves: what goes in, what comes out, what they hold and what they do not."""

import io
import json
import sys
import zipfile
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gffnet.data.catalog import CAMVID
from gffnet.errors import UserError
from gffnet.export.export import describe_export as describe
from gffnet.export.export import to_onnx
from gffnet.inference.model_io import hash_weights
from tests import tiny
from tests.export.networks import GFFNET, config, exported, network, symbolic_sizes


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_onnx_says_what_goes_in_and_comes_out() -> None:
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


def test_plain_onnx_runtime_says_what_the_network_says() -> None:
    session = onnxruntime.InferenceSession(exported("onnx")[0], providers=["CPUExecutionProvider"])
    image = np.stack([tiny.picture(seed, 75, 130) for seed in range(2)]).transpose(0, 3, 1, 2)
    labels, probabilities = session.run(["labels", "probabilities"], {"image": image})
    with torch.no_grad():
        logits = network(GFFNET)(torch.from_numpy(image)).logits
    np.testing.assert_allclose(probabilities, logits.softmax(1).numpy(), rtol=0, atol=1e-4)
    assert (labels == logits.max(1).indices.numpy()).mean() >= 0.9999
    assert len(np.unique(labels)) > 2


def test_plain_torch_says_what_the_network_says() -> None:
    program = torch.export.load(io.BytesIO(exported("pt2")[0])).module()
    image = torch.from_numpy(tiny.picture(0, 75, 130)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found, logits = program(image), network(GFFNET)(image).logits
    assert list(found) == ["labels", "probabilities"]
    torch.testing.assert_close(found["probabilities"], logits.softmax(1), rtol=0, atol=1e-4)
    assert (found["labels"] == logits.max(1).indices).double().mean() >= 0.9999


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_both_say_the_same_of_themselves(to: str) -> None:
    data = exported(to)[0]
    if to == "onnx":
        (entry,) = onnx.load_model_from_string(data).metadata_props
        assert entry.key == "gffnet"
        text = entry.value
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("extra/gffnet.json"))
            text = archive.read(name).decode()
    said = json.loads(text)
    assert said["weights"] == hash_weights(network(GFFNET))
    assert (said["precision"], said["smallest"]) == ("float32", 16)
    assert said["image"].startswith("uint8 (batch, 3, height, width), RGB in 0..255")
    assert said["config"]["classes"] == list(CAMVID.names)
    assert said["config"]["palette"] == [list(colour) for colour in CAMVID.palette]
    assert (said["config"]["dataset"], said["config"]["recipe"]) == ("camvid", "tests/export")
    assert said["config"]["evaluation"] == {"crop": None, "overlap": 1 / 3, "scales": [1.0], "flip": False}


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_no_path_of_this_machine_is_in_a_file(to: str) -> None:
    data = exported(to)[0]
    parts = [data]
    if to == "pt2":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
    assert not any(b"gffnet/models/" in part or b"site-packages" in part for part in parts)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    record = describe(network(GFFNET), config(GFFNET), "float32")
    with (
        symbolic_sizes(),
        pytest.raises(UserError, match=r"--to onnx needs onnxscript: pip install 'gffnet\[export\]'"),
    ):
        to_onnx(None, record)  # type: ignore[arg-type]  # not looked at
