"""A package of AOTInductor against the network, as another program opens it: PyTorch alone, in another process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

from gffnet.cli.main import main
from gffnet.errors import UserError
from gffnet.export import export as formats
from gffnet.export.export import describe_export as describe
from gffnet.export.export import to_aoti
from gffnet.inference.predictor import load
from tests.export.networks import GFFNET, config, exported_file, network, symbolic_sizes, traced

READER = """
import sys
import torch
run = torch._inductor.aoti_load_package(sys.argv[1])
torch.save([run(image) for image in torch.load(sys.argv[2])], sys.argv[3])
assert not any(name.split(".")[0] == "gffnet" for name in sys.modules)
"""


@pytest.mark.slow
def test_it_answers_as_the_network_does(tmp_path: Path) -> None:
    path = exported_file("aoti", tmp_path)
    images = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((1, 3, 47, 90), (3, 3, 128, 64))]
    torch.save(images, tmp_path / "images")
    words = [sys.executable, "-c", READER, str(path), str(tmp_path / "images"), str(tmp_path / "answers")]
    subprocess.run(words, check=True, capture_output=True)
    for image, answer in zip(images, torch.load(tmp_path / "answers"), strict=True):
        with torch.no_grad():
            expected = network(GFFNET).eval()(image).logits.softmax(1)
        torch.testing.assert_close(answer["probabilities"], expected, rtol=1e-3, atol=1e-4)
        assert (answer["labels"] == expected.argmax(1)).double().mean() > 0.999
    about = json.loads(torch._inductor.aoti_load_package(str(path)).get_metadata()["gffnet"])
    assert about["config"]["classes"] == list(config(GFFNET).classes)


def test_the_tool_runs_what_it_was_made_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.aoti.pt2"
    path.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"model\.aoti\.pt2 is compiled, .* Give a \.pt2 or \.onnx file, or the run folder"
    ):
        load(path)
    assert main(["export", "--model", str(path), "--to", "aoti", "--out", str(tmp_path / "other.aoti.pt2")]) == 2
    assert "is an exported file" in capsys.readouterr().err


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr(formats, "aoti_compile_and_package", fail)
    with symbolic_sizes():
        program = traced()
    with pytest.raises(UserError, match=r"--to aoti needs a C\+\+ compiler, and none was found: install g\+\+"):
        to_aoti(program, describe(network(GFFNET), config(GFFNET), "float32"))
