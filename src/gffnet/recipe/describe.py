"""The keys of a recipe and its network, in words. All follows from the schema: types, ranges, docstrings.

python -m gffnet.recipe.describe > docs/recipes.md
"""

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple

from gffnet.recipe.loading import AUTO, recipe_json_schema
from gffnet.recipe.schema import ModelRecipe, Recipe

# The network

CONTEXT_NAMES = {"pyramid_pooling": "PSPNet", "dense_aspp": "DenseASPP", "none": "FCN"}
FUSION_NAMES = {"concat": "Concat", "addition": "Addition", "fpn": "FPN", "gated_fpn": "Gated FPN", "gff": "GFF"}
PYRAMID_NAMES = {"dense": "DFP", "literal": "literal DFP"}
"""The parts of a network as the paper names them, in its order."""


def method_name(model: ModelRecipe) -> str:
    """A network as the paper names it, `PSPNet + GFF + DFP`; parts that the paper lacks go by their own name."""
    parts = [CONTEXT_NAMES.get(model.context, model.context)]
    parts += [FUSION_NAMES.get(model.fusion, model.fusion)] if model.fusion != "none" else []
    parts += [PYRAMID_NAMES.get(model.dense_pyramid, model.dense_pyramid)] if model.dense_pyramid != "none" else []
    return " + ".join(parts)


# The keys


class Key(NamedTuple):
    """A key of the recipe, described by the schema."""

    name: str
    """With its sections: `training.loss.ohem`."""
    type: str
    """In words: `number or null`."""
    allowed: str
    """Range or choices in words, `above 0, at most 1`; empty where the type says all."""
    default: Any
    """As JSON has it."""
    meaning: str

    @property
    def values(self) -> str:
        """Type and range in words: `number or null; above 0, at most 1`."""
        return "; ".join(filter(None, (self.type, self.allowed)))


class Section(NamedTuple):
    """A section of the recipe."""

    name: str
    """Empty for the recipe itself."""
    meaning: str
    keys: tuple["Key | Section", ...]
    """In the order of the schema."""

    def find(self, name: str) -> "Key | Section | None":
        """The key or section of this dotted name, in this section or one of its own."""
        if name == self.name:
            return self
        inner = (each.find(name) if isinstance(each, Section) else each for each in self.keys)
        return next((each for each in inner if each is not None and each.name == name), None)

    def flat(self) -> Iterator[Key]:
        """All keys of this section and those in it."""
        for each in self.keys:
            if isinstance(each, Section):
                yield from each.flat()
            else:
                yield each


def recipe_keys() -> Section:
    """All keys, as a tree of sections, from the JSON schema. Its choices include the names that plug-ins registered."""
    schema = recipe_json_schema()
    del schema["properties"]["base"]  # of files, not of recipes
    return _section("", schema, schema["$defs"])


def _section(name: str, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Section:
    keys: list[Key | Section] = []
    for last, of in node["properties"].items():
        full = f"{name}.{last}" if name else last
        reference = of.get("$ref", "").rpartition("/")[2]
        if reference:
            keys.append(_section(full, definitions[reference], definitions))
        else:
            kind, allowed = _words(of)
            keys.append(Key(full, kind, allowed, value_of(Recipe(), full), " ".join(of["description"].split())))
    return Section(name, " ".join(node["description"].split()), tuple(keys))


def _words(node: Mapping[str, Any]) -> tuple[str, str]:
    """Type, and range or choices, of a node of the JSON schema."""
    if "anyOf" in node:
        found = [_words(each) for each in node["anyOf"]]
        kinds = _listed(", ".join(kind for kind, _ in found).replace(" or ", ", "))
        return kinds, "; ".join(filter(None, (allowed for _, allowed in found)))
    if "const" in node:
        return str(node["const"]), ""
    if "enum" in node:
        return _listed(", ".join(map(str, node["enum"]))), ""
    kind = {"string": "text", "boolean": "true or false", "null": "null"}.get(node["type"], node["type"])
    if kind == "array":
        items = node.get("prefixItems") or [node["items"]]
        kind, allowed = _words(items[0])
        number = f"{len(items)} " if "prefixItems" in node else ""
        least = "at least one" if node.get("minItems") == 1 and not number else ""
        order = "the smaller first" if node.get("ascending") else ""
        plural = kind if kind == "text" else f"{kind}s"
        return f"list of {number}{plural}", ", ".join(filter(None, (least, allowed and f"each {allowed}", order)))
    if kind == "object":
        value, allowed = _words(node["additionalProperties"])
        names = ", ".join(node.get("propertyNames", {}).get("enum", []))
        return f"`name: {value}` pairs", "; ".join(filter(None, (names and f"names {names}", allowed)))
    return kind, _interval(node)


def _listed(choices: str) -> str:
    """`8, 16, null` → `8, 16 or null`."""
    return " or ".join(choices.rsplit(", ", 1))


def _interval(node: Mapping[str, Any]) -> str:
    """`0 or more`, `0 to 1`, `above 0, at most 1`."""
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    parts = [
        "" if low is None else f"{low:g} or more",
        "" if above is None else f"above {above:g}",
        "" if high is None else f"at most {high:g}",
        "" if below is None else f"below {below:g}",
    ]
    return ", ".join(filter(None, parts))


def value_of(recipe: Recipe, key: str, auto: list[str] | None = None) -> Any:
    """The value of a dotted key as JSON has it; `auto` for the keys in `auto`."""
    if auto and key in auto:
        return AUTO
    return reduce(lambda section, part: section[part], key.split("."), recipe.to_mapping())


def yaml_text(value: Any) -> str:
    """A value as one line of YAML, which reads it back: `null`, `true`, `[512, 512]`, `1e-4`."""
    if isinstance(value, float):
        rounded = f"{value:.6g}"
        text = rounded if float(rounded) == value else repr(value)
        return text if any(mark in text for mark in ".e") else f"{text}.0"
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_text(each)}' for key, each in value.items())}}}"
    if isinstance(value, str) and value.replace("_", "").replace("/", "").isalnum() and value[0].isalpha():
        return value if value.lower() not in _YAML_WORDS else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}
"""Which YAML does not read as text."""


# The page of the documentation

_PAGE = """# Recipe keys

Every key of a recipe with its default, the values that it takes, and what it means. In a terminal:

```bash
gffnet recipes                                        # the recipes that ship
gffnet recipes camvid/gffnet_r18                      # one of them, every key with its value
gffnet recipes camvid/gffnet_r18 --keys training.loss # a section, or one key
gffnet recipes mine.yaml --set training.batch=4 > full.yaml   # the output is a recipe itself
```

Set a key in a file, or with `--set section.key=value` on the command line, the value as YAML:

```yaml
base: camvid/gffnet_r18   # a recipe to start from: a name, or a file beside this one
training: {iterations: 5000, loss: {ohem: 0.7}}
```

Names are read whatever their case: `optimizer: AdamW`. An unknown key, or a value that its key does not take, is an
error that names what is allowed. Editors complete keys from the JSON schema, `gffnet.recipe.recipe_json_schema()`. This
page is written from [the schema](../src/gffnet/recipe/schema.py):
`python -m gffnet.recipe.describe > docs/recipes.md`.
"""


def markdown_page() -> str:
    """`docs/recipes.md`: a table for every section."""
    root = recipe_keys()
    keys = tuple(each for each in root.keys if isinstance(each, Key))
    return "\n".join([_PAGE, *_tables(root), *_table(Section("At the top", "Keys outside every section.", keys))])


def _tables(section: Section) -> Iterator[str]:
    for each in section.keys:
        if isinstance(each, Section):
            yield from _table(each)
            yield from _tables(each)


def _table(section: Section) -> Iterator[str]:
    yield from (
        f"## {section.name}",
        "",
        section.meaning,
        "",
        "| key | default | values | meaning |",
        "|---|---|---|---|",
    )
    for key in section.keys:
        if isinstance(key, Key):
            cells = f"`{key.name}`", f"`{yaml_text(key.default)}`", key.values, key.meaning
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


if __name__ == "__main__":
    print(markdown_page().rstrip())
