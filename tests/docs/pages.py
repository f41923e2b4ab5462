"""The pages of the documentation, and the code in them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def read_page(page: str | Path) -> str:
    """`page`: its name, or a whole path."""
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code of a language in a page or a section of one, block by block."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for kind, block in fenced if kind == language]
