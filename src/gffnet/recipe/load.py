"""Recipes by name or from a file: YAML, `base`, overrides, and what they leave to the data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from gffnet.errors import UserError, unknown
from gffnet.recipe.auto import STANDARD, DataSize, fit, take_autos
from gffnet.recipe.checked import from_mapping
from gffnet.recipe.types import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that the package ships, such as `cityscapes/gffnet_r101`."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def load_recipe(recipe: str | Path, overrides: Iterable[str] = (), size: DataSize = STANDARD) -> Recipe:
    """Read a recipe.

    Args:
        recipe: the name of a shipped recipe (`camvid/gffnet_r18`) or a YAML file.
        overrides: `section.key=value` changes, the value as YAML: `training.iterations=2000`.
        size: of the data, for what the recipe leaves to them.

    Raises:
        UserError: the recipe or its base does not exist or is no valid YAML, and as `from_mapping`.
    """
    return fit(*load_open_recipe(recipe, overrides), size)


def load_open_recipe(recipe: str | Path, overrides: Iterable[str] = ()) -> tuple[Recipe, list[str]]:
    """A recipe as `load_recipe` reads it, and the keys that it leaves to the data, which have their defaults still."""
    mapping = _resolve(recipe, {})
    for override in overrides:
        _set(mapping, override)
    autos = take_autos(mapping)
    return recipe_from_mapping(mapping, str(recipe)), autos


def recipe_from_mapping(mapping: object, source: str) -> Recipe:
    """The recipe in nested plain values, checked; `source` names their origin in errors. Raises as `from_mapping`."""
    return from_mapping(Recipe, mapping, source)


class StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice, of which the last would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, if no key comes twice."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def _resolve(recipe: str | Path, chain: dict[Path, str]) -> dict[str, Any]:
    """The mapping of a recipe file, laid over that of its `base`; `chain` holds the files that led here."""
    path = _find(recipe)
    if path.resolve() in chain:
        raise UserError(f"recipe {recipe}: its bases go in a circle: {' -> '.join([*chain.values(), str(recipe)])}.")
    try:
        mapping = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(mapping, dict):
        raise UserError(f"recipe {path}: the file must hold `key: value` lines, got {mapping!r}.")
    if "base" not in mapping:
        return mapping
    base = mapping.pop("base")
    if not isinstance(base, str):
        raise UserError(f"recipe {path}: base: expected the name of a recipe or a .yaml file, got {base!r}.")
    is_file = base.endswith((".yaml", ".yml"))
    return _merge(_resolve(path.parent / base if is_file else base, {**chain, path.resolve(): str(recipe)}), mapping)


def _find(recipe: str | Path) -> Path:
    """The file of a recipe given by name or by path."""
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist. Shipped recipes go by name, without .yaml.")
        return path
    if str(recipe) not in recipe_names():
        raise unknown("recipe", str(recipe), recipe_names())
    return RECIPES / f"{recipe}.yaml"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in place of its own, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(mapping: dict[str, Any], override: str) -> None:
    """Apply one `section.key=value` to `mapping`, in place."""
    keys, equals, text = override.partition("=")
    if not equals or not keys:
        raise UserError(f"--set {override!r} must read section.key=value, such as training.iterations=2000.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value {text!r} is not valid YAML.") from None
    *sections, last = keys.split(".")
    for section in sections:
        mapping = mapping.setdefault(section, {})
        if not isinstance(mapping, dict):
            raise UserError(f"--set {override!r}: {section!r} is a value, not a section.")
    mapping[last] = value
