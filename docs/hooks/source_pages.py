"""Files of the repository that a page links to become pages of the site, under `source/`.

In the repository `[schema.py](../src/gffnet/recipe/schema.py)` opens the file itself. A site has only what lies in
`docs`: there the file is shown on a page of its own, and the link leads to it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()\.\./[^)#\s]+")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside `docs` that a page links to."""
    for page in list(files.documentation_pages()):
        for link in _LINK.findall(page.content_string):
            file = _repository_file(page.src_uri, link)
            if file and files.get_file_from_path(_page_of(file)) is None:
                files.append(File.generated(config, _page_of(file), content=_shown(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to such files to their pages."""
    here = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        file = _repository_file(here, link[0])
        return posixpath.relpath(_page_of(file), posixpath.dirname(here)) if file else link[0]

    return _LINK.sub(led, markdown)


def _repository_file(page: str, link: str) -> str | None:
    """The file that a link of a page leads to, from the root of the repository; None if it is in `docs`, or nowhere."""
    file = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if file.startswith(("docs/", "..")) or not (ROOT / file).is_file() else file


def _page_of(file: str) -> str:
    return f"source/{file}.md"


def _shown(file: str) -> str:
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    language = _LANGUAGES.get(path.suffix, "text")
    return f'---\nsearch:\n  exclude: true\n---\n\n# {file}\n\n````{language} linenums="1"\n{text}````\n'
