"""The documentation as a site: links are valid, all pages are in the navigation, nothing loads from elsewhere."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

import gffnet

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
PAGES = [path.relative_to(ROOT / "docs") for path in sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; warnings are errors."""
    build = pytest.importorskip("mkdocs.commands.build", reason="pip install 'gffnet[docs]'")
    config = pytest.importorskip("mkdocs.config")
    patch = pytest.MonkeyPatch()
    patch.setenv("NO_MKDOCS_2_WARNING", "1")
    folder = tmp_path_factory.mktemp("site")
    loaded = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    assert loaded.strict
    loaded.plugins.run_event("startup", command="build", dirty=False)
    build.build(loaded)
    patch.undo()
    return folder


class Links(HTMLParser):
    """Links of a page, files that it loads, and its anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value for key, value in attrs if value is not None}
        self.places |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in {"next", "prev", "canonical"} and "href" in given:
            self.loaded.append(given["href"])
        self.loaded += [given[key] for key in ("src", "poster", "data") if key in given]


def pages(site: Path) -> Iterator[tuple[Path, Links]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Links(path.read_text(encoding="utf-8"))


def nav_pages() -> set[str]:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return set(re.findall(r"([\w/]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE))


def test_every_page_is_in_the_navigation() -> None:
    assert nav_pages() == {page.as_posix() for page in PAGES}


def test_every_public_name_has_its_directive() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    described = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    public = [getattr(gffnet, name) for name in gffnet.__all__ if name != "__version__"]
    assert {f"{value.__module__}.{value.__qualname__}" for value in public} - described == set()


@pytest.mark.slow
def test_every_page_is_built(site: Path) -> None:
    missing = [page for page in PAGES if not (site / page.with_suffix(".html")).is_file()]
    assert missing == []


@pytest.mark.slow
def test_links_within_the_site_are_valid(site: Path) -> None:
    found = dict(pages(site))
    broken, followed = [], 0
    for path, page in found.items():
        for link in page.links + page.loaded:
            target = urlsplit(link)
            if target.scheme or path.name == "404.html":
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            file = file / "index.html" if file.is_dir() else file
            place = unquote(target.fragment)
            if not file.is_file() or (place and file in found and place not in found[file].places):
                broken.append(f"{path.relative_to(site)}: {link}")
            followed += 1
    assert broken == []
    assert followed > 1000


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    elsewhere = [url for _, page in pages(site) for url in page.loaded if urlsplit(url).scheme not in {"", "data"}]
    assert elsewhere == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [match for style in styles for match in re.findall(r"(?:url\(|@import\s+)['\"]?(?:https?:)?//", style)]


@pytest.mark.slow
def test_files_that_pages_link_to_are_shown(site: Path) -> None:
    """A link to a file of the repository opens a page with its content."""
    equations = Links((site / "equations.html").read_text(encoding="utf-8"))
    assert "source/src/gffnet/models/fusion.py.html" in equations.links
    shown = (site / "source/src/gffnet/models/fusion.py.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", shown)
    assert "class GatedFullyFusion(" in text
    assert "def mix(" in text


@pytest.mark.slow
def test_the_reference_has_every_public_name(site: Path) -> None:
    reference = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    documented = set(re.findall(r'id="(gffnet[\w.]+)"', reference))
    for name in gffnet.__all__:
        if name != "__version__":
            home = getattr(gffnet, name)
            assert f"{home.__module__}.{home.__qualname__}" in documented, f"docs/api has no gffnet.{name}"


@pytest.mark.slow
def test_the_search_finds_things(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    words = " ".join(entry["text"] + entry["title"] for entry in index["docs"])
    assert "DenseFeaturePyramid" in words
    assert not [entry for entry in index["docs"] if entry["location"].startswith("source/")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.slow
def test_a_browser_loads_only_local_files_and_does_not_scroll_sideways(
    site: Path, browser: "Browser", width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    for name in ("index", "equations", "training", "api/export"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.body.dataset.mdColorScheme") == ("slate" if scheme == "dark" else "default")
    context.close()
    assert failed == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len(asked) > 4


@pytest.mark.slow
def test_equations_are_mathml(site: Path) -> None:
    source = (Path(__file__).parents[2] / "docs/equations.md").read_text(encoding="utf-8")
    page = (site / "equations.html").read_text(encoding="utf-8")
    assert page.count("<math ") == source.count("```math\n") > 10
    assert "\\tilde" not in page
    assert "<munder><mo>&#x02211;</mo>" in page  # the sum of Eq. (5)


@pytest.mark.slow
def test_the_search_works_from_the_disk(site: Path, browser: "Browser") -> None:
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.click("input.md-search__input")
    page.type("input.md-search__input", "DenseFeaturePyramid")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    found = [link.get_attribute("href") or "" for link in page.query_selector_all("a.md-search-result__link")]
    page.close()
    assert any("api/models.html" in link for link in found)
