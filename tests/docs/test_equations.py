"""The page docs/equations.md: the lines it shows stand in the source, word for word."""

import re
import textwrap

import pytest

from tests.docs.pages import read_page

PAGE = read_page("equations.md")


def shown() -> list[tuple[str, str]]:
    """Each Python block, with the file that was linked to last before it."""
    found, file = [], ""
    for link, block in re.findall(r"\]\((\.\./[^)]+\.py)\)|^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        file = link or file
        if block:
            found.append((file, block))
    return found


def stands_in(block: str, source: str) -> bool:
    """Whether the lines of `block` follow one another in `source`, at any indentation; empty lines do not count."""
    lines, block = [line for line in source.splitlines() if line], re.sub(r"\n{2,}", "\n", block)
    count = len(block.splitlines())
    windows = ("\n".join(lines[i : i + count]) for i in range(len(lines) - count + 1))
    return any(textwrap.dedent(window).strip("\n") == block.strip("\n") for window in windows)


@pytest.mark.parametrize(("file", "block"), shown(), ids=lambda text: text.split("\n")[0][-40:])
def test_the_lines_stand_in_the_source(file: str, block: str) -> None:
    assert stands_in(block, read_page(file))


def test_every_equation_of_the_paper_is_there() -> None:
    assert re.findall(r"^## Eq\. \((\d)\)", PAGE, re.MULTILINE) == list("123456")
    assert len(shown()) >= 15


def test_the_comparison_tells_lines_apart() -> None:
    source = "def f():\n    a = 1\n    if a:\n        b = 2\n"
    assert stands_in("a = 1\nif a:\n    b = 2\n", source)
    assert not stands_in("a = 1\nif a:\n    b = 3\n", source)
    assert not stands_in("a = 1\nb = 2\n", source)
