"""A file is kept only if it agrees, and replaces another only then."""

import json
from pathlib import Path
from typing import Any

import pytest

from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.export import export as module
from gffnet.export.export import Parity, check_request, export_model
from gffnet.export.export import describe_export as describe
from gffnet.recipe import ModelRecipe
from tests.export.networks import GFFNET, config, exported, network

SMALL = ModelRecipe(context="none")


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_what_was_compared_is_told(to: str) -> None:
    data, export = exported(to)
    told = json.loads(json.dumps(export.to_mapping()))
    assert (told["format"], told["bytes"], told["precision"], told["smallest"]) == (to, len(data), "float32", 16)
    assert len(told["parity"]) >= 5
    for each in told["parity"]:
        assert each["agreement"] >= told["tolerance"]["agreement"] == 0.9999
        assert 0 < each["difference"] <= told["tolerance"]["difference"] == 1e-3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Parity]:
    """Nothing is traced; what is compared is to be said."""
    parity: list[Parity] = []
    monkeypatch.setattr(module, "trace", lambda *_: None)
    monkeypatch.setattr(module, "_written", lambda *_: b"new")
    monkeypatch.setattr(module, "_open", lambda _, path: path.read_bytes())
    monkeypatch.setattr(module, "compare", lambda exported, _: iter(parity if exported == b"new" else []))
    return parity


def write(out: Path) -> Any:
    return export_model(network(SMALL), config(SMALL), "pt2", out)


def test_a_good_file_replaces_what_is_there(quick: list[Parity], tmp_path: Path) -> None:
    quick += [Parity(1, 16, 16, 1.0, 1e-6)]
    out = tmp_path / "deep/er/model.pt2"
    write(out)
    out.write_bytes(b"old")
    assert write(out).parity == quick
    assert [path.name for path in out.parent.iterdir()] == ["model.pt2"]
    assert out.read_bytes() == b"new"


@pytest.mark.parametrize("wrong", [Parity(3, 233, 149, 0.98, 1e-5), Parity(3, 233, 149, 1.0, 0.02)])
def test_a_file_that_differs_is_not_kept(wrong: Parity, quick: list[Parity], tmp_path: Path) -> None:
    quick += [Parity(1, 16, 16, 1.0, 1e-6), wrong]
    out = tmp_path / "model.pt2"
    out.write_bytes(b"old")
    message = (
        rf"model\.pt2 is not written: it differs from the network: at 3x233x149 {wrong.agreement:.3%} of the labels "
        rf"agree and a probability is off by {wrong.difference:.2g}; allowed are 99\.99% or more and 0\.001 or less"
    )
    with pytest.raises(RunFailed, match=message):
        write(out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert out.read_bytes() == b"old"


def test_that_it_cannot_be_written_is_known_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "trace", lambda *_: pytest.fail("traced"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"cannot write .*/file/model\.pt2"):
        write(tmp_path / "file/model.pt2")


@pytest.mark.parametrize(
    ("to", "name", "precision", "message"),
    [
        ("onxx", "a.onnx", "float32", r"--to 'onxx' is unknown\. Did you mean 'onnx'\?"),
        ("onnx", "a.pt2", "float32", r"--out a\.pt2 must end with \.onnx, as --to onnx has it"),
        ("pt2", "a", "float32", r"--out a must end with \.pt2"),
        ("pt2", "a.aoti.pt2", "float32", r"--out a\.aoti\.pt2 must end with \.pt2, as --to pt2 has it"),
        ("aoti", "a.pt2", "float32", r"--out a\.pt2 must end with \.aoti\.pt2, as --to aoti has it"),
        ("onnx", "a.onnx", "bfloat16", r"--precision bfloat16: --to onnx takes float32 or float16"),
    ],
)
def test_what_does_not_fit(to: str, name: str, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_request(to, Path(name), precision)


def test_the_steps_are_counted(quick: list[Parity], tmp_path: Path) -> None:
    quick += [Parity(1, 16, 16, 1.0, 0.0)] * 5
    steps: list[tuple[int, int]] = []
    out = tmp_path / "model.pt2"
    export_model(network(SMALL), config(SMALL), "pt2", out, advance=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 7) for done in range(1, 8)]


def test_inputs_that_are_not_colours_are_described() -> None:
    recipe = ModelRecipe(context="none", mean=(1.0,) * 3, std=(1.0,) * 3)
    said = describe(network(recipe), config(GFFNET), "float32")
    assert said.image == "uint8 (batch, 3, height, width), RGB in 0..255, height and width at least 16"
    assert said.probabilities == "float32 (batch, 11, height, width), their sum over the classes is 1"
