"""Arguments: what they read, and that all else is one clear error."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.cli.arguments import Parser, levels, print_json, scale, shard, size
from gffnet.errors import UserError


@given(st.integers(1, 99_999), st.integers(1, 99_999))
def test_sizes(height: int, width: int) -> None:
    assert size(f"{height}x{width}") == (height, width)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6))
def test_levels(wanted: list[int]) -> None:
    assert levels(",".join(map(str, wanted))) == wanted
    assert levels(", ".join(map(str, wanted))) == wanted


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_shards(index: int, more: int) -> None:
    assert shard(f"{index}/{index + more}") == (index, index + more)


@given(st.floats(1e-6, 10))
def test_scales(factor: float) -> None:
    assert scale(repr(factor)) == factor


BAD: dict[Callable[[str], Any], list[str]] = {
    size: [
        "512",
        "512x",
        "x512",
        "0x5",
        "5x0",
        "-5x5",
        "5.0x5",
        "5X5",
        "5x5x5",
        " 5x5",
        "²x²",
        "1" * 30 + "x5",
        "1x5\n",
    ],
    levels: ["", "1,", ",1", "one", "1;2", "-1", "1.0", "²", "1" * 5000],
    shard: ["", "1", "1/", "/2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "²/³", "1/" + "9" * 5000],
    scale: ["", "x", "0", "-1", "nan", "inf", "-inf", "10.5", "1e400", "1,5", "0x1"],
}


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, texts in BAD.items() for text in texts])
def test_what_they_refuse(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(UserError, match="must"):
        read(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in BAD:
        answer: Any = None
        with contextlib.suppress(UserError):
            answer = read(text)
        assert answer != 0  # 0 is no size, share or scale


@pytest.mark.parametrize(("read", "example"), [(size, "512x1024"), (levels, "1,2"), (shard, "2/8"), (scale, "0.75")])
def test_a_refusal_gives_an_example_that_is_taken(read: Callable[[str], Any], example: str) -> None:
    assert read(example)
    with pytest.raises(UserError, match=f"such as {example}"):
        read("?")


# The parser


def parser() -> Parser:
    top = Parser(prog="tool")
    top.add_argument("--version", action="store_true")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    paint = commands.add_parser("paint")
    paint.add_argument("--colour", choices=["red", "green"])
    paint.add_argument("--width", type=int, default=1)
    commands.add_parser("print").add_argument("--colourless", action="store_true")
    return top


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        parser().parse_args(words)
    return str(caught.value)


def test_what_is_right_is_read() -> None:
    arguments = parser().parse_args(["paint", "--colour", "red"])
    assert (arguments.colour, arguments.width) == ("red", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("paint --color red", "--color red. Did you mean '--colour'? See tool paint --help."),
        ("print --colour", "--colour. Did you mean '--colourless'? See tool print --help."),  # no abbreviations
        ("paint --zzz", "--zzz. See tool paint --help."),
        ("paint width", "width. See tool paint --help."),  # no option
        ("--versoin paint", "--versoin. Did you mean '--version'? See tool --help."),
    ],
)
def test_an_unknown_option_is_answered_by_the_command_it_was_given_to(words: str, message: str) -> None:
    assert refusal(*words.split()) == f"unrecognized arguments: {message}"


def test_an_unknown_command_or_choice() -> None:
    assert "Did you mean 'paint'? See tool --help." in refusal("pain")
    assert "Did you mean 'green'? See tool paint --help." in refusal("paint", "--colour", "grene")


def test_values_that_are_missing_or_of_another_type() -> None:
    assert refusal() == "the following arguments are required: COMMAND. See tool --help."
    assert refusal("paint", "--width") == "argument --width: expected one argument. See tool paint --help."
    assert "invalid int value: 'wide'. See tool paint --help." in refusal("paint", "--width", "wide")


def test_json_is_whole_and_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"ä": [1, None, 0.1], "b": "\n"}
    print_json(value)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == value
