"""Which model, by which protocol, run how: as arguments say, and as the model's recipe says where they do not."""

import dataclasses
from pathlib import Path

import pytest

from gffnet.cli.arguments import (
    SCALES,
    Parser,
    add_model,
    add_protocol,
    add_speed,
    load_predictor,
    memory,
    whole_number,
)
from gffnet.errors import UserError
from gffnet.inference.model_io import save_model
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny

OWN = EvaluationRecipe(crop=(32, 48), overlap=0.25, scales=(1.0,))


def open_with(folder: Path, *words: str, device: str | None = None) -> Predictor:
    of = dataclasses.replace(tiny.recipe(), evaluation=OWN)
    save_model(folder, tiny.network(of), tiny.config(of))
    parser = Parser()
    add_model(parser)
    add_protocol(parser)
    add_speed(parser)
    return load_predictor(parser.parse_args(["--model", str(folder), "--device", "cpu", *words]), device)


def test_the_model_as_it_is(tmp_path: Path) -> None:
    predictor = open_with(tmp_path)
    assert predictor.protocol == OWN
    assert (predictor.batch, predictor.memory) == (1, None)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("--scales 0.75 1.25", {"scales": (0.75, 1.25)}),
        ("--scales", {"scales": SCALES}),
        ("--flip", {"flip": True}),
        ("--crop 64x80", {"crop": (64, 80)}),
        ("--crop none", {"crop": None}),
        ("--overlap 0", {"overlap": 0.0}),
        ("--crop none --flip --scales 2", {"crop": None, "flip": True, "scales": (2.0,)}),
    ],
)
def test_what_arguments_change_of_the_protocol(tmp_path: Path, words: str, changes: dict) -> None:
    predictor = open_with(tmp_path, *words.split())
    assert predictor.protocol == dataclasses.replace(OWN, **changes)
    image = tiny.picture(0, 50, 70)
    assert (predictor.predict(image) == predictor.predict(image, predictor.protocol)).all()


def test_how_it_is_run(tmp_path: Path) -> None:
    predictor = open_with(tmp_path, "--batch", "3", "--memory", "8GB", "--precision", "bfloat16", device="cpu")
    assert (predictor.batch, predictor.memory, predictor.precision.name) == (3, 8 * 10**9, "bfloat16")


@pytest.mark.parametrize("words", ["--overlap 1", "--overlap x", "--crop 8x8", "--crop 512", "--scales 0"])
def test_what_is_no_protocol(tmp_path: Path, words: str) -> None:
    with pytest.raises(UserError):
        open_with(tmp_path, *words.split())


@pytest.mark.parametrize(
    ("text", "expected"), [("8GB", 8 * 10**9), ("500MB", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("2 MiB", 2**21)]
)
def test_memory_in_words(text: str, expected: int) -> None:
    assert memory(text) == expected


@pytest.mark.parametrize("text", ["8", "8gb", "0GB", "-1GB", "GB", "8TB", "8GB x"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(UserError, match=r"must be a number with MB, GB, MiB or GiB, such as 8GB"):
        memory(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", ""])
def test_what_is_no_positive_number(text: str) -> None:
    assert whole_number("--batch", 1)("12") == 12
    with pytest.raises(UserError, match=r"must be a whole number, 1 or more"):
        whole_number("--batch", 1)(text)
