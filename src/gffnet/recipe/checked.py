"""From nested plain values to frozen dataclasses, every key, type and range checked on the way.

The dataclasses are made of `int`, `float`, `bool`, `str`, `Literal`, tuples of numbers, `X | None`, other such
dataclasses, and any of these `Annotated` with a `Rule`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gffnet.errors import UserError, nearest

T = TypeVar("T")
COUNTS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Rule:
    """What a value must hold beyond its type; `text` ends the phrase `expected an integer ...`."""

    text: str
    holds: Callable[[Any], bool]


def from_mapping(kind: type[T], mapping: object, source: str, prefix: str = "") -> T:
    """A dataclass such as `Recipe` or `ModelRecipe` from nested plain values, every key and value checked.

    Args:
        kind: the dataclass.
        mapping: its values, as a YAML or JSON file held them; a key that is left out keeps its default.
        source: names their origin in errors.
        prefix: stands before the keys in errors, such as `model.`.

    Raises:
        UserError: an unknown or a missing key, a value of another type or out of range, values that do not fit.
    """
    if not isinstance(mapping, Mapping):
        whole = prefix.rstrip(".") or "the file"
        raise UserError(f"recipe {source}: {whole} must hold `key: value` lines, got {mapping!r}.")
    hints, values = get_type_hints(kind, include_extras=True), {}
    for key, value in mapping.items():
        if key not in hints:
            allowed = f"{nearest(str(key), hints)} Allowed: {', '.join(hints)}."
            raise UserError(f"recipe {source}: {prefix}{key} is unknown.{allowed}")
        if dataclasses.is_dataclass(hints[key]):
            values[key] = from_mapping(hints[key], value, source, f"{prefix}{key}.")
            continue
        try:
            values[key] = _convert(hints[key], value)
        except (ValueError, OverflowError):
            expected = f"expected {_phrase(hints[key])}, got {value!r}."
            names = [name for name in get_args(hints[key]) if isinstance(name, str)]
            raise UserError(f"recipe {source}: {prefix}{key}: {expected}{nearest(str(value), names)}") from None
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"recipe {source}: {prefix}{field.name} is missing.")
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"recipe {source}: {error}") from None


def _convert(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`; a ValueError where it is none."""
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        value = _convert(parts[0], value)
        fits = hint.__metadata__[0].holds(value)
    elif get_origin(hint) in {Union, UnionType}:
        return None if value is None else _convert(parts[0], value)
    elif get_origin(hint) is Literal:
        fits = any(type(value) is type(choice) and value == choice for choice in parts)
    elif get_origin(hint) is tuple:
        fits = isinstance(value, list | tuple) and (parts[-1] is ... or len(value) == len(parts))
        value = tuple(_convert(parts[0], item) for item in value) if fits else value
    elif hint is float:
        fits = type(value) in {int, float, str} and math.isfinite(float(value))  # YAML reads 1e-3 as text
        value = float(value) if fits else value
    else:
        fits = type(value) is hint
    if not fits:
        raise ValueError
    return value


def _phrase(hint: Any) -> str:
    """The type `hint` in words, such as `two integers of at least 16 or null`."""
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return f"{_phrase(parts[0])} {hint.__metadata__[0].text}"
    if get_origin(hint) in {Union, UnionType}:
        return f"{_phrase(parts[0])} or null"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if get_origin(hint) is tuple:
        many = {int: "integers", float: "numbers", str: "texts"}.get(parts[0], "lists")
        return f"a list of {many}" if parts[-1] is ... else f"a list of {COUNTS[len(parts)]} {many}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}[hint]
