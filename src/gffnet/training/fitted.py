"""A recipe whose `auto` values are those of the data that it is about to train on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median_low

from gffnet.data.base import Dataset
from gffnet.data.build import open_files
from gffnet.data.images import read_header
from gffnet.recipe import DataSize, Recipe, load_recipe, load_unresolved, recipe_from_mapping, resolve_auto

LOOKED_AT = 100
"""Images whose size is read."""


def fitted_recipe(
    recipe: str | Path, overrides: Iterable[str], root: Path | None, stored: Path | None = None
) -> tuple[Recipe, str]:
    """A recipe as `load_recipe` reads it, fitted to its training split.

    Args:
        recipe: a name or a YAML file.
        overrides: `section.key=value` changes.
        root: folder of the data set; None: fitted to data of a standard size.
        stored: the recipe of a run that goes on: its values stay, whatever images have come since.

    Returns:
        The recipe, and a line that says what was fitted to what; empty if nothing was.

    Raises:
        UserError: as `load_recipe` and `open_files`.
    """
    found, autos = load_unresolved(recipe, overrides)
    if not autos:
        return found, ""
    if stored is not None and stored.is_file():
        return _copied(found, autos, load_recipe(stored)), ""
    if root is None:
        return load_recipe(recipe, overrides), ""
    size = data_size(open_files(found.data.name, root, found.data.train_split))
    fitted = resolve_auto(found, autos, size)
    values = ", ".join(f"{key} {_text(fitted, key)}" for key in autos)
    return fitted, f"fitted to {size.images} images of {size.height}x{size.width}: {values}"


def data_size(dataset: Dataset) -> DataSize:
    """How many images a data set has, and the height and the width that half of them do not exceed.

    Of many images, some are looked at, evenly spread; those that cannot be read are left out.

    Raises:
        UserError: none of them can be read.
    """
    count = len(dataset)
    places = range(0, count, max(1, count // LOOKED_AT))
    headers = [read_header(dataset.files[place][0]) for place in places]
    sizes = [header.size[::-1] if header.orientation > 4 else header.size for header in headers if header is not None]
    heights, widths = zip(*(sizes or [dataset.open(0).size]), strict=True)  # which says what is wrong with it
    return DataSize(count, median_low(heights), median_low(widths))


def _copied(recipe: Recipe, keys: Sequence[str], source: Recipe) -> Recipe:
    """`recipe` with the values that `source` has of some keys."""
    mapping, other = recipe.to_mapping(), source.to_mapping()
    for key in keys:
        section, _, last = key.partition(".")
        mapping[section][last] = other[section][last]
    return recipe_from_mapping(mapping, "of the run")


def _text(recipe: Recipe, key: str) -> str:
    """A value of a recipe; of a crop, height x width."""
    section, _, last = key.partition(".")
    value = getattr(getattr(recipe, section), last)
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
