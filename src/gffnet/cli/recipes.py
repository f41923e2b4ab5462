"""`gffnet recipes`: the recipes that ship, and the keys of one."""

import textwrap
from argparse import Namespace
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from gffnet.cli.arguments import Parser, print_json
from gffnet.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text

    from gffnet.recipe import Recipe
    from gffnet.recipe.describe import Key, Section

SUMMARY = "the recipes that ship; of one, every key with its value, default, meaning and range"

COMMENTS, NARROW = 34, 60
"""The column in which comments begin, and the width below which they stand above their keys."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a name such as camvid/gffnet_r18, or a YAML file: print it as YAML, with every key (default: list all)",
    )
    parser.add_argument(
        "--keys",
        metavar="PREFIX",
        help="only this section or key, such as training.loss; without RECIPE, with the default values",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of RECIPE first, as in train"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list instead")


def run(arguments: Namespace) -> None:
    """List the recipes, or print one of them."""
    from gffnet.recipe import Recipe, load_unresolved

    if arguments.recipe is None and arguments.set:
        raise UserError(f"--set {arguments.set[0]} changes a recipe: name it, gffnet recipes RECIPE --set KEY=VALUE.")
    if arguments.recipe is None and arguments.keys is None:
        _list(arguments.json)
        return
    recipe = Recipe()
    auto: list[str] = []
    if arguments.recipe is not None:
        recipe, auto = load_unresolved(arguments.recipe, arguments.set, inputs=True)
    _show(arguments.recipe, recipe, auto, arguments.keys or "", arguments.json)


# The list


def _list(as_json: bool) -> None:
    from gffnet.console import Results
    from gffnet.recipe import recipe_names

    rows = [_row(name) for name in recipe_names()]
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    results = Results()
    full = max(len(line) for group in _groups(rows) for line in _aligned(group, full=True))
    if not results.is_terminal:
        results.width = max(results.width, full)  # one line each, to be searched
    wide = full <= results.width
    for i, group in enumerate(_groups(rows)):
        folder = group[0].recipe.rpartition("/")[0]
        results.print(f"{chr(10) * bool(i)}{folder}/", style="bold")
        for line in _aligned(group, full=wide):
            results.print(line, highlight=False, soft_wrap=True)
    columns = f"Network{', backbone' * wide}; iterations and batch; crop"
    results.print(f"\n{columns}. All keys: gffnet recipes RECIPE", soft_wrap=True)


class _Row(NamedTuple):
    """A shipped recipe."""

    recipe: str
    dataset: str
    network: str
    """In words."""
    backbone: str
    iterations: int | str
    batch: int
    crop: list[int] | str
    """Height and width; as `iterations`, it may be `auto`."""


def _row(name: str) -> _Row:
    from gffnet.recipe import load_unresolved
    from gffnet.recipe.describe import method_name, value_of

    recipe, auto = load_unresolved(name, record=True)
    training = ("iterations", "batch", "crop")
    values = [value_of(recipe, f"training.{key}", auto) for key in training]
    return _Row(name, recipe.data.name, method_name(recipe.model), recipe.model.backbone.name, *values)


def _groups(rows: list[_Row]) -> list[list[_Row]]:
    """Recipes of one folder, those of a data set before its subfolders."""
    rows = sorted(rows, key=lambda row: row.recipe.rpartition("/")[0])
    return [list(group) for _, group in groupby(rows, key=lambda row: row.recipe.rpartition("/")[0])]


def _aligned(rows: list[_Row], full: bool) -> list[str]:
    """A line for every row, in columns; `full`: with the folder in the name, and the backbone."""
    cells = [
        (
            row.recipe if full else row.recipe.rpartition("/")[2],
            f"{row.network}, {row.backbone}" if full else row.network,
            f"{row.iterations} x {row.batch}",
            row.crop if isinstance(row.crop, str) else "x".join(map(str, row.crop)),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


# One recipe, as YAML: what is printed can be saved and trained


def _show(name: str | None, recipe: "Recipe", auto: list[str], prefix: str, as_json: bool) -> None:
    from gffnet.console import WIDEST, Results
    from gffnet.recipe import INPUT_KEYS
    from gffnet.recipe.describe import Key, Section, recipe_keys, value_of
    from gffnet.recipe.hints import key_hint
    from gffnet.recipe.schema import dotted_keys

    root = recipe_keys()
    found = root.find(prefix)
    if found is None:
        sections = ", ".join(each.name for each in root.keys)
        raise UserError(f"--keys {prefix} is unknown.{key_hint(prefix, dotted_keys())} At the top: {sections}.")
    keys = [found] if isinstance(found, Key) else list(found.flat())
    values = {key.name: value_of(recipe, key.name, auto) for key in keys}
    values |= dict.fromkeys(values.keys() & {*INPUT_KEYS} & {*auto})  # null: of the weights, or of the images
    if as_json:
        print_json([{"key": key.name, "value": values[key.name], **_described(key)} for key in keys])
        return
    results = Results()
    section = _pruned(root, found)
    assert isinstance(section, Section)
    for line in _yaml(section, values, min(results.width, WIDEST)):
        results.print(line, soft_wrap=True)


def _described(key: "Key") -> dict[str, Any]:
    return {field: value for field, value in key._asdict().items() if field != "name"}


def _pruned(section: "Section", wanted: "Key | Section") -> "Key | Section":
    """`section` with `wanted`, and the sections around it, alone."""
    from gffnet.recipe.describe import Section

    if section is wanted:
        return section
    for each in section.keys:
        if each is wanted or (isinstance(each, Section) and each.find(wanted.name)):
            inner = _pruned(each, wanted) if isinstance(each, Section) else each
            return section._replace(keys=(inner,))
    raise LookupError(wanted.name)


def _yaml(section: "Section", values: Mapping[str, Any], width: int, depth: int = 0) -> "Iterator[Text]":
    """The lines of a section: keys that differ from their defaults are bold."""
    from gffnet.recipe.describe import Section, yaml_text

    for each in section.keys:
        indent, last = "  " * depth, each.name.rpartition(".")[2]
        if isinstance(each, Section):
            yield from _commented(f"{indent}{last}:", each.meaning, width, "bold")
            yield from _yaml(each, values, width, depth + 1)
            continue
        value = values[each.name]
        if value is None and each.name == "model.backbone.in_channels":
            yield from _commented(
                f"{indent}# {last}: {yaml_text(each.default)}", f"{each.meaning} ({each.values})", width
            )
            continue
        changed = value != each.default
        note = f"{each.values}; default {yaml_text(each.default)}" if changed else each.values
        yield from _commented(
            f"{indent}{last}: {yaml_text(value)}", f"{each.meaning} ({note})", width, "bold" if changed else ""
        )


def _commented(text: str, comment: str, width: int, style: str = "") -> "Iterator[Text]":
    """A line of YAML with its comment beside it, or above it where there is no room beside it."""
    from rich.text import Text

    indent = text[: len(text) - len(text.lstrip())]
    below = f"{indent}  "
    lines = textwrap.wrap(text, width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
    beside = width >= NARROW
    comments = textwrap.wrap(comment, max(20, width - (COMMENTS if beside else len(indent)) - 2))
    if beside and len(text) < COMMENTS:
        for i, part in enumerate(comments):
            yield Text.assemble(
                (text if i == 0 else "", style), " " * (COMMENTS - len(text) * (i == 0)), (f"# {part}", "dim")
            )
        return
    start = COMMENTS if beside else len(indent)
    yield from (Text(f"{' ' * start}# {part}", style="dim") for part in comments)
    yield from (Text(line, style=style) for line in lines)
