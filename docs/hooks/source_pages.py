"""Add the files of the repository that a page links to, as pages of the site under `source/`.

In the repository, `[schema.py](../src/gffnet/recipe/schema.py)` opens the file itself. The site has only what is in
`docs`; there, the link opens a page that shows the file as text, without anchors.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)(#[^)\s]*)?")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside `docs` that a page links to."""
    for page in list(files.documentation_pages()):
        for link, _ in _LINK.findall(page.content_string):
            file = _repository_file(page.src_uri, link)
            if file and files.get_file_from_path(_page_of(file)) is None:
                files.append(File.generated(config, _page_of(file), content=_shown(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to such files point to their pages."""
    here = page.file.src_uri

    def redirected(link: re.Match[str]) -> str:
        file = _repository_file(here, link[1])
        return posixpath.relpath(_page_of(file), posixpath.dirname(here)) if file else link[0]

    return _LINK.sub(redirected, markdown)


def _repository_file(page: str, link: str) -> str | None:
    """The file that a page links to, relative to the repository; None if it is in `docs` or does not exist."""
    file = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if file.startswith(("docs/", "..")) or not (ROOT / file).is_file() else file


def _page_of(file: str) -> str:
    return f"source/{file}.md"


def _shown(file: str) -> str:
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    language = _LANGUAGES.get(path.suffix, "text")
    return f'---\nsearch:\n  exclude: true\n---\n\n# {file}\n\n````{language} linenums="1"\n{text}````\n'
