"""Add the files of the repository that a page links to, as pages of the site under `source/`.

In the repository, `[schema.py](../src/gffnet/recipe/schema.py)` opens the file itself. The site has only what is in
`docs`; there, the link opens a page that shows the file: Markdown as a page, anything else as text, without anchors.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
_HEADER = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside `docs` that a page links to."""
    texts = [(f"docs/{page.src_uri}", page.content_string) for page in files.documentation_pages()]
    while texts:
        origin, text = texts.pop()
        for link, _ in _LINK.findall(text):
            file = _target(origin, link)
            if file and not file.startswith("docs/") and files.get_file_from_path(_page_of(file)) is None:
                content = (ROOT / file).read_text(encoding="utf-8")
                files.append(File.generated(config, _page_of(file), content=_shown(file, content)))
                if file.endswith(".md"):
                    texts.append((file, content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to such files, and those of Markdown files outside `docs`, point to pages of the site."""
    here = page.file.src_uri
    origin = here.removeprefix("source/").removesuffix(".md") if here.startswith("source/") else f"docs/{here}"
    if not origin.endswith(".md"):
        return markdown

    def redirected(link: re.Match[str]) -> str:
        file = _target(origin, link[1])
        if file is None or (file.startswith("docs/") and origin.startswith("docs/")):
            return link[0]
        place = file.removeprefix("docs/") if file.startswith("docs/") else _page_of(file)
        anchor = link[2] or "" if file.endswith(".md") else ""
        return posixpath.relpath(place, posixpath.dirname(here)) + anchor

    return _LINK.sub(redirected, markdown)


def _target(origin: str, link: str) -> str | None:
    """The file that a link in the file `origin` leads to, both relative to the repository; None if there is none."""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return None if file.startswith("..") or not (ROOT / file).is_file() else file


def _page_of(file: str) -> str:
    return f"source/{file}.md"


def _shown(file: str, content: str) -> str:
    if file.endswith(".md"):
        return _HEADER + re.sub(r"\A---\n.*?\n---\n", "", content, flags=re.DOTALL)  # without metadata of its own
    language = _LANGUAGES.get(Path(file).suffix, "text")
    return f'{_HEADER}# {file}\n\n````{language} linenums="1"\n{content}````\n'
