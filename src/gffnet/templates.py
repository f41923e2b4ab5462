"""Pages of HTML from templates that lie beside the modules that fill them in."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def fill(
    folder: str, name: str, content: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None
) -> str:
    """The page of a template.

    Args:
        folder: where the template is in the package, such as `reports`.
        name: its file.
        content: its variables; text in them is escaped, and one that is missing is an error.
        filters: what it may pass values through.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gffnet", folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(content)
