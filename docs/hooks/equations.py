"""Show blocks of TeX, ```math, as MathML, which browsers draw without a script."""

import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_BLOCK = re.compile(r"^```math\n(.+?)\n```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert the blocks of a page."""
    return _BLOCK.sub(lambda block: f'<div class="equation">{convert(block[1], display="block")}</div>', markdown)
