"""Load a recipe: by name or from a file, with `base`, overrides and `auto` values.

`auto` in place of a number leaves it to the training images:

    training.iterations       100 epochs, rounded up to hundreds: at least 1000, at most 40,000
    training.crop             the median image, each side rounded up to a multiple of 32, at most training.max_crop
    training.validate_every   a tenth of the iterations
    evaluation.crop           training.crop: larger images are predicted in windows of this size

A `Recipe` holds numbers only, and so does the recipe.yaml of a run folder. What the network must know of the images,
the `INPUT_KEYS`, follows from the training images where it is not given; of RGB images of 8 bits, mean and standard
deviation are those of the ImageNet weights.
"""

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import TypeAdapter

from gffnet.errors import UserError, one_line
from gffnet.files import as_path, read_text
from gffnet.recipe.hints import nearest_recipes
from gffnet.recipe.schema import Recipe, from_mapping
from gffnet.registry import load_plugins
from gffnet.remote import is_url, local_folder

RECIPES = Path(__file__).parents[1] / "recipes"
AUTO = "auto"
AUTO_KEYS = ("training.iterations", "training.crop", "training.validate_every", "evaluation.crop")
"""The keys whose value may be `auto`."""
INPUT_KEYS = ("model.backbone.in_channels", "model.mean", "model.std", "model.white_level")
"""The keys of the images that the network takes."""
AUTO_EPOCHS = 100
MIN_ITERATIONS, MAX_ITERATIONS = 1000, 40_000
CROP_MULTIPLE = 32
"""Of a side of an `auto` crop, in pixels."""


class DataSize(NamedTuple):
    """Size of a training split, from which `auto` values are computed."""

    images: int
    height: int
    """Of the median image, in pixels."""
    width: int


STANDARD_SIZE = DataSize(1600, 512, 512)
"""Where there are no data, as in `cost`: 20,000 iterations of 8 crops of 512x512."""


@cache
def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that the package ships, such as `cityscapes/gffnet_r101`."""
    return tuple(sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml")))


def load_recipe(recipe: str | Path, overrides: Iterable[str] = (), size: DataSize = STANDARD_SIZE) -> Recipe:
    """Load a recipe.

    Args:
        recipe: the name of a shipped recipe (`camvid/gffnet_r18`) or a YAML file.
        overrides: `section.key=value` changes, the value as YAML: `training.iterations=2000`.
        size: of the training split, for `auto` values.

    Raises:
        UserError: the recipe or its base does not exist or is not valid YAML, and as `from_mapping`.
    """
    return resolve_auto(*load_unresolved(recipe, overrides), size)


def load_recorded(file: Path) -> Recipe:
    """Load the recipe.yaml of a run to read its values. The plug-ins that it names are not imported.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    try:
        mapping = yaml.load(read_text(file, "recipe"), StrictLoader)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"recipe {file} cannot be read: {one_line(error)}.") from None
    return recipe_from_mapping(mapping, str(file), record=True)


def validated_split(model: Any, dataset: str) -> str:
    """The split that the run of a model validated on, where the model lies in a run on this data set; else `val`."""
    if isinstance(model, str | Path):
        path = as_path(model)
        for folder in (path, *path.parents[: 2 if path.suffix == ".ckpt" else 1]):
            file = folder / "recipe.yaml"
            with suppress(UserError):  # a damaged record does not keep a model from being used
                file = local_folder(file) if is_url(folder) else file
                if file.is_file():
                    data = load_recorded(file).data
                    return data.val_split if data.name == dataset else "val"
    return "val"


def load_unresolved(
    recipe: Recipe | str | Path, overrides: Iterable[str] = (), record: bool = False, inputs: bool = False
) -> tuple[Recipe, list[str]]:
    """Load a recipe like `load_recipe`, with the keys whose value is `auto`; they hold their defaults.

    A `Recipe` is one as well: the overrides apply to it. With `record`, names of fusions and the like are not looked
    up, for which PyTorch would be imported. With `inputs`, the `INPUT_KEYS` that are not given are among the keys.
    """
    mapping = recipe.to_mapping() if isinstance(recipe, Recipe) else _read(recipe, {})
    for override in overrides:
        _set(mapping, override)
    if "plugins" in mapping:
        mapping["plugins"] = _load_plugins(mapping, f"recipe {recipe}")
    auto = []
    for key in AUTO_KEYS:
        section, last = key.split(".")
        values = mapping.get(section)
        if isinstance(values, dict) and values.get(last) == AUTO:
            del values[last]
            auto.append(key)
    if inputs:
        auto += [key for key in INPUT_KEYS if _given(mapping, key) is None]
    return recipe_from_mapping(mapping, "object" if isinstance(recipe, Recipe) else str(recipe), record), auto


def resolve_auto(recipe: Recipe, keys: Collection[str], source: DataSize | Recipe) -> Recipe:
    """Fill in the `auto` values of a recipe.

    Args:
        recipe: a recipe as `load_unresolved` returns it.
        keys: its `auto` keys.
        source: the size of the training split, from which they are computed; or the recipe of the run that is resumed,
            from which they are copied. The `INPUT_KEYS` do not follow from the size: see `with_inputs`.
    """
    if isinstance(source, Recipe) and not set(INPUT_KEYS).isdisjoint(keys):
        model, channels = source.model, source.model.backbone.in_channels
        same = INPUT_KEYS[0] in keys or recipe.model.backbone.in_channels == channels
        mean, std = (model.mean, model.std) if same else (None, None)
        recipe = with_inputs(recipe, keys, channels, mean, std, model.white_level)
    for key in AUTO_KEYS:  # a later value may follow from an earlier one
        if key not in keys:
            continue
        section, last = key.split(".")
        training = recipe.training
        if isinstance(source, Recipe):
            value = getattr(getattr(source, section), last)
        elif key == "training.iterations":
            hundreds = -(-AUTO_EPOCHS * source.images // (100 * training.batch))
            value = min(MAX_ITERATIONS, max(MIN_ITERATIONS, 100 * hundreds))
        elif key == "training.crop":
            value = tuple(min(training.max_crop, -(-side // CROP_MULTIPLE) * CROP_MULTIPLE) for side in source[1:])
        elif key == "training.validate_every":
            value = -(-training.iterations // 10)
        else:
            value = training.crop
        recipe = replace(recipe, **{section: replace(getattr(recipe, section), **{last: value})})
    return recipe


def with_inputs(
    recipe: Recipe,
    keys: Collection[str],
    in_channels: int,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    white_level: float | None = None,
) -> Recipe:
    """Fill in those of the `INPUT_KEYS` that are in `keys`; a mean or std of None is that of the ImageNet weights.

    Raises:
        RecipeError: the recipe gives mean or std of other channels.
    """
    model = recipe.model
    values: dict[str, Any] = {"mean": mean, "std": std, "white_level": white_level}
    values = {key: value for key, value in values.items() if f"model.{key}" in keys}
    if INPUT_KEYS[0] in keys:
        values["backbone"] = replace(model.backbone, in_channels=in_channels)
    return replace(recipe, model=replace(model, **values))


def recipe_from_mapping(mapping: object, source: str, record: bool = False) -> Recipe:
    """Validate the nested plain values of a recipe. Arguments and errors are those of `from_mapping`."""
    return from_mapping(Recipe, mapping, f"recipe {source}", record)


def recipe_json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files, for editors that complete keys and check values."""
    schema = TypeAdapter(Recipe).json_schema()
    base = {"type": "string", "description": "The recipe to start from: a name, or a .yaml file beside this one."}
    schema["properties"] = {"base": base, **schema["properties"]}
    for key in AUTO_KEYS:
        section, last = key.split(".")
        properties = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]["properties"]
        meta = {name: properties[last].pop(name) for name in ("default", "description", "title")}
        properties[last] = {"anyOf": [properties[last], {"const": AUTO}], **meta}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class StrictLoader(yaml.SafeLoader):
    """Read YAML with the numbers of version 1.2, and refuse a duplicate key, of which the last would win.

    In version 1.1, `1e-3` and `1.5e3` are text, `010` is 8 and `1:30` is 90; here they are 0.001, 1500, 10, and text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def _construct_int(loader: StrictLoader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    return int(text, 0 if text[:2] in {"0o", "0x"} else 10)


StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
for _kind, _pattern in {
    "int": r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})$"), list("-+.0123456789")
    )


class _Dumper(yaml.SafeDumper):
    """Write YAML that means the same by versions 1.1 and 1.2: text that is a number in either is quoted."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *resolvers]
    for first, resolvers in StrictLoader.yaml_implicit_resolvers.items()
}


def dump_yaml(mapping: dict[str, Any]) -> str:
    """A recipe as the content of a file, which `StrictLoader` reads back."""
    text: str = yaml.dump(mapping, Dumper=_Dumper, sort_keys=False)
    return text


def _read(recipe: str | Path, chain: dict[Path, str]) -> dict[Any, Any]:
    """The values of a recipe file, merged into those of its `base`; `chain` holds the files that led here."""
    path = as_path(recipe)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist. Shipped recipes go by name, without .yaml.")
    elif str(recipe) in recipe_names():
        path = RECIPES / f"{recipe}.yaml"
    else:
        near = nearest_recipes(str(recipe), recipe_names())
        nearest = f" Did you mean {near[0]!r}? Nearest: {', '.join(near)}." if near else ""
        raise UserError(f"recipe {str(recipe)!r} is unknown.{nearest} `gffnet recipes` lists all.")
    if path.resolve() in chain:
        raise UserError(f"recipe {recipe}: its bases form a cycle: {' -> '.join([*chain.values(), str(recipe)])}.")
    mapping = _parse(path)
    if not isinstance(mapping, dict):
        raise UserError(f"recipe {path}: the file must hold `key: value` lines, got {mapping!r}.")
    plugins = _load_plugins(mapping, f"recipe {path}", path.parent)
    if plugins:
        mapping["plugins"] = plugins
    if "base" not in mapping:
        return mapping
    base = mapping.pop("base")
    if not isinstance(base, str):
        raise UserError(f"recipe {path}: base: expected the name of a recipe or a .yaml file, got {base!r}.")
    is_file = base.endswith((".yaml", ".yml"))
    below = _read(path.parent / as_path(base) if is_file else base, {**chain, path.resolve(): str(recipe)})
    merged = _merge(below, mapping)
    return {**merged, "plugins": [*below["plugins"], *plugins]} if "plugins" in below else merged


def _parse(path: Path) -> Any:
    """The content of a recipe file."""
    try:
        return yaml.load(read_text(path, "recipe"), StrictLoader)
    except OSError as error:
        raise UserError(f"recipe {path} cannot be read ({error.strerror}): it must be a readable file.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-45
        raise UserError(f"recipe {path}: not valid YAML: {one_line(error)}.") from None


def _load_plugins(mapping: dict[Any, Any], source: str, folder: Path | None = None) -> list[str]:
    """Import the plug-ins that a recipe names, and return the names by which the current folder has them."""
    plugins = mapping.get("plugins", [])
    if not (isinstance(plugins, list | tuple) and all(isinstance(plugin, str) for plugin in plugins)):
        raise UserError(f"{source}: plugins must be a list of modules or Python files, got {plugins!r}.")
    if folder is not None and (folder / "run.json").is_file():  # a run may be of somebody else
        inside = [plugin for plugin in plugins if Path(plugin).resolve().is_relative_to(folder.resolve())]
        if inside:
            raise UserError(f"{source}: plug-in {inside[0]} is in the run folder, from which nothing is imported.")
        folder = None
    return load_plugins(plugins, folder)


def _merge(base: dict[Any, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    """`base` updated with the values of `over`, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _given(mapping: Any, key: str) -> Any:
    """The value of a dotted key; None if it is not given."""
    for part in key.split("."):
        mapping = mapping.get(part) if isinstance(mapping, dict) else None
    return mapping


def _set(mapping: dict[Any, Any], override: str) -> None:
    """Apply one `section.key=value` to `mapping`, in place."""
    keys, equals, text = override.partition("=")
    if not equals or not keys:
        raise UserError(f"--set {override!r} must have the form section.key=value, such as training.iterations=2000.")
    try:
        value = yaml.load(text, StrictLoader)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"--set {override!r}: the value {text!r} is not valid YAML.") from None
    *sections, last = keys.split(".")
    for section in sections:
        mapping = mapping.setdefault(section, {})
        if not isinstance(mapping, dict):
            raise UserError(f"--set {override!r}: {section!r} is a value, not a section.")
    mapping[last] = value
