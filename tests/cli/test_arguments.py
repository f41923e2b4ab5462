"""Arguments that commands share: what they read, and that all else is one clear error."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.cli.arguments import (
    SCALES,
    Parser,
    add_model,
    add_protocol,
    add_speed,
    add_truth,
    expand_pattern,
    folder,
    ground_truth,
    levels,
    load_predictor,
    memory,
    print_json,
    scale,
    shard,
    size,
    whole_number,
)
from gffnet.cli.main import make_parser
from gffnet.data.dataset import Truth
from gffnet.errors import UserError
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import save_model
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree

COUNT = whole_number("--batch", 1)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (size, "1x99999", (1, 99999)),
        (size, "512x1024", (512, 1024)),
        (levels, "1,2", [1, 2]),
        (levels, "0, 999", [0, 999]),
        (shard, "2/8", (2, 8)),
        (shard, "8/8", (8, 8)),
        (scale, "0.75", 0.75),
        (scale, "10", 10.0),
        (memory, "8GB", 8 * 10**9),
        (memory, "1.5GiB", 3 * 2**29),
        (memory, "2 MiB", 2**21),
        (COUNT, "12", 12),
    ],
)
def test_what_they_read(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


BAD: dict[Callable[[str], Any], list[str]] = {
    size: ["512", "512x", "x512", "0x5", "5x0", "-5x5", "5.0x5", "5X5", "5x5x5", " 5x5", "²x²", "1" * 30 + "x5"],
    levels: ["", "1,", ",1", "one", "1;2", "-1", "1.0", "²", "1" * 5000],
    shard: ["", "1", "1/", "/2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "²/³", "1/" + "9" * 5000],
    scale: ["", "x", "0", "-1", "nan", "inf", "-inf", "10.5", "1e400", "1,5", "0x1"],
    memory: ["8", "8gb", "0GB", "-1GB", "GB", "8TB", "8GB x"],
    COUNT: ["0", "-1", "1.5", "two", ""],
}


@pytest.mark.parametrize("read", BAD)
def test_what_they_refuse(read: Callable[[str], Any]) -> None:
    for text in [*BAD[read], "?", "5x5\n"]:
        with pytest.raises(UserError, match="must"):
            read(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in BAD:
        answer: Any = None
        with contextlib.suppress(UserError):
            answer = read(text)
        assert answer != 0  # 0 is no size, share or scale


# The parser


def refusal(*words: str) -> str:
    top = Parser(prog="tool")
    top.add_argument("--version", action="store_true")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    paint = commands.add_parser("paint")
    paint.add_argument("--color", choices=["red", "green"])
    paint.add_argument("--width", type=int, default=1)
    commands.add_parser("print").add_argument("--colorless", action="store_true")
    with pytest.raises(UserError) as caught:
        top.parse_args(words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("paint --colour red", "unrecognized arguments: --colour red. Did you mean '--color'? See tool paint --help."),
        ("print --color", "unrecognized arguments: --color. Did you mean '--colorless'? See tool print --help."),
        ("paint --zzz", "unrecognized arguments: --zzz. See tool paint --help."),
        ("paint width", "unrecognized arguments: width. See tool paint --help."),  # no option
        ("--versoin paint", "unrecognized arguments: --versoin. Did you mean '--version'? See tool --help."),
        ("pain", "Did you mean 'paint'? See tool --help."),
        ("paint --color grene", "Did you mean 'green'? See tool paint --help."),
        ("", "the following arguments are required: COMMAND. See tool --help."),
        ("paint --width", "argument --width: expected one argument. See tool paint --help."),
        ("paint --width wide", "invalid int value: 'wide'. See tool paint --help."),
    ],
)
def test_what_is_wrong_is_answered_by_the_command_it_was_given_to(words: str, message: str) -> None:
    assert refusal(*words.split()).endswith(message)


def test_json_is_whole_and_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"ä": [1, None, 0.1], "b": "\n"}
    print_json(value)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == value


# The model and its protocol

OWN = EvaluationRecipe(crop=(32, 48), overlap=0.25, scales=(1.0,))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    of = dataclasses.replace(tiny.recipe(), evaluation=OWN)
    save_model(folder, tiny.network(of), tiny.config(of))
    return folder


def open_with(model: Path, *words: str, device: str | None = None) -> Predictor:
    parser = Parser()
    add_model(parser)
    add_protocol(parser)
    add_speed(parser)
    return load_predictor(parser.parse_args(["--model", str(model), "--device", "cpu", *words]), device)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("--scales 0.75 1.25", {"scales": (0.75, 1.25)}),
        ("--scales", {"scales": SCALES}),
        ("--flip", {"flip": True}),
        ("--crop 64x80", {"crop": (64, 80)}),
        ("--crop none", {"crop": None}),
        ("--overlap 0", {"overlap": 0.0}),
        ("--crop none --flip --scales 2", {"crop": None, "flip": True, "scales": (2.0,)}),
    ],
)
def test_the_protocol_is_the_models_own_with_changes(model: Path, words: str, changes: dict[str, Any]) -> None:
    assert open_with(model, *words.split()).protocol == dataclasses.replace(OWN, **changes)


def test_how_it_is_run(model: Path) -> None:
    predictor = open_with(model)
    assert (predictor.batch, predictor.memory) == (1, None)
    predictor = open_with(model, "--batch", "3", "--memory", "8GB", "--precision", "bfloat16", device="cpu")
    assert (predictor.batch, predictor.memory, predictor.precision.name) == (3, 8 * 10**9, "bfloat16")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--overlap 1", "--overlap '1' must be a number from 0 to below 1, such as 0.5"),
        ("--overlap x", "--overlap 'x' must be a number from 0"),
        ("--crop 8x8", r"protocol: crop\[0\]: must be greater than or equal to 16, got 8"),
        ("--crop 512", "size '512' must read HxW"),
        ("--scales 0", "scale '0' must be a number above 0"),
    ],
)
def test_what_is_no_protocol(model: Path, words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_with(model, *words.split())


# Ground truth


def truth(*words: str) -> Truth:
    parser = Parser()
    add_truth(parser)
    return ground_truth(parser.parse_args(words), None)


def test_labels_of_the_named_split(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    images = sorted((root / "train").glob("*.png"))
    assert truth().labels(images[0]) is None
    assert truth("--dataset", "camvid", "--root", str(root)).labels(images[0]) is None
    labels = truth("--dataset", "camvid", "--root", str(root), "--split", "train").labels(images[0])
    assert labels is not None
    assert labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--root data", "--root data is the folder of a data set: say which with --dataset NAME"),
        ("--dataset camvid", "Pass --root DIR"),
        ("--dataset camvit --root data", "camvit"),
    ],
)
def test_incomplete_ground_truth(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        truth(*words.split())


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.jpg",
        "photos/c.png",
        "photos/[1].jpg",
        "photos/deep/d.jpg",
        "trip [2019]/e.jpg",
        ".hidden.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.jpg", ["photos/[1].jpg", "photos/a.jpg", "photos/b.jpg"]),
        ("photos/?.*", ["photos/a.jpg", "photos/b.jpg", "photos/c.png"]),
        ("photos/[ab].jpg", ["photos/a.jpg", "photos/b.jpg"]),
        ("**/d.jpg", ["photos/deep/d.jpg"]),
        ("trip [2019]/*.jpg", ["trip [2019]/e.jpg"]),  # no pattern of brackets matches
        ("trip [[]2019]/*", ["trip [2019]/e.jpg"]),
        ("photos/[1].jpg", ["photos/[1].jpg"]),  # exists: it is the name of a file
        ("photos/[2].jpg", ["photos/[2].jpg"]),  # may be the name of a sample
        ("photos", ["photos"]),
        ("none.jpg", ["none.jpg"]),
    ],
)
def test_patterns(pattern: str, found: list[str], photos: Path) -> None:
    assert expand_pattern(pattern) == found
    assert expand_pattern(photos / pattern) == [photos / name for name in found]


@pytest.mark.parametrize("pattern", ["*.jpg", "photos/*.JPEG", "none/*", "photos/?"])
def test_patterns_that_match_nothing(pattern: str, photos: Path) -> None:
    with pytest.raises(UserError, match=f"{re.escape(pattern)} matches no file or folder here"):
        expand_pattern(pattern)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "", "--out", "x"],
        ["predict", "a.jpg", "--out", ""],
        ["predict", "a.jpg", "--out="],
        ["gates", "a.jpg", "--out="],
        ["evaluate", "--model", "m", "--dataset", "camvid", "--root", ""],
        ["train", "camvid/gffnet_r18", "--out="],
        ["report", ""],
        ["export", "--out="],
    ],
)
def test_an_empty_path_is_not_the_current_folder(words: list[str], photos: Path) -> None:
    """As of a variable of the shell that is not set: results must not land among all else."""
    with pytest.raises(UserError, match=r"a path is empty: name the file or folder, or \. for the current one"):
        make_parser().parse_args(words)


def test_the_folder_of_a_pattern(photos: Path) -> None:
    assert folder("ph*") == Path("photos")
    assert folder("none") == Path("none")
    with pytest.raises(
        UserError, match=r"photos/\*\.jpg matches 3 folders and files, photos/\[1\]\.jpg, photos/a\.jpg"
    ):
        folder("photos/*.jpg")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["predict", "photos/*.jpg", "--out", "o"], "inputs"),
        (["gates", "photos/*.jpg", "--out", "o"], "images"),
        (["compare", "photos/*.jpg", "--models", "photos/*", "--out", "o"], "images"),
        (["compare", "--out", "o", "--models", "photos/*.jpg"], "models"),
        (["tables", "photos/*.jpg"], "runs"),
        (["cost", "photos/*.jpg"], "recipes"),
        (["ablation", "photos/*.jpg", "--root", "ph*", "--seeds", "1", "--out", "o"], "recipes"),
        (["explore", "--model", "photos/*.jpg"], "model"),
    ],
)
def test_commands_expand_patterns(words: list[str], key: str, photos: Path) -> None:
    found = vars(make_parser().parse_args(words))[key]
    assert list(map(str, found)) == ["photos/[1].jpg", "photos/a.jpg", "photos/b.jpg"]
