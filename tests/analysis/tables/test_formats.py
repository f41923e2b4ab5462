"""Every format is read again by a reader of its own."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gffnet.errors import UserError
from gffnet.reports.tables import (
    COLUMNS,
    FORMATS,
    Line,
    Score,
    Section,
    Spread,
    comma_separated,
    find_scores,
    form_of,
    html,
    laid_out,
    latex,
    markdown,
    own_sections,
    paper_sections,
    records,
    write_sections,
)
from tests.analysis.scored import COST, save_run

NASTY = r"a|b_c \d {e} $f$ & 50% #1 ~^ <i>g</i> `h` *j* [k](l) " + '"m"'
HARD = Section(
    "hard",
    f"T {NASTY}",
    [Score("x", f"X {NASTY}")],
    [
        Line(
            NASTY,
            f"group {NASTY}",
            "r",
            "p",
            {"x": 1.0},
            {"x": Spread((0.5, 1.5))},
            seeds=(0, 1),
            notes=(f"n {NASTY}",),
        )
    ],
    f"remark {NASTY}",
)


@pytest.fixture
def sections(tmp_path):
    for seed, miou in enumerate((0.5, 0.6)):
        save_run(tmp_path / f"a{seed}", "camvid/gffnet_r18", miou, f"seed={seed}")
        save_run(tmp_path / f"b{seed}", "cityscapes/pspnet_r101_gff", miou, f"seed={seed}")
    save_run(tmp_path / "c", "cityscapes/pspnet_r18", 0.5, flip=True)
    scored = find_scores([tmp_path])
    return [*paper_sections(scored, COST), *own_sections(scored), HARD]


class Reader(HTMLParser):
    """The cells of tables, and all that a page would load."""

    def __init__(self):
        super().__init__()
        self.tables, self.text, self.loaded = [], [], []
        self.raised = self.within = False

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for key, value in attributes if key in {"src", "href"}]
        self.raised |= tag == "sup"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
            self.within = True

    def handle_endtag(self, tag):
        self.raised &= tag != "sup"
        self.within &= tag not in {"td", "th"}

    def handle_data(self, data):
        self.text.append(data)
        if self.within and not self.raised:
            self.tables[-1][-1][-1] += data


def cells(section):
    """The text of a table, without its groups."""
    table = laid_out(section)
    return [list(table.headings), *[[cell.text for cell in row] for _, row in table.rows]]


def test_html(sections):
    page = html(sections)
    reader = Reader()
    reader.feed(page)
    assert reader.loaded == []
    assert "<script" not in page
    read = [[[text.strip() for text in row] for row in table if len(row) > 1] for table in reader.tables]
    assert read == [cells(section) for section in sections]
    assert page.count('class="group"') == 2 + 1
    assert NASTY in "".join(reader.text)


def test_markdown(sections):
    text = markdown(sections)
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == len(sections)
    for table, section in zip(tables, sections, strict=True):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        assert {len(row) for row in rows} == {len(cells(section)[0])}
        plain = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for row in rows]
        bare = [[re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹˒]+$", "", cell) for cell in row] for row in plain if row[1]]
        assert [bare[0], *bare[2:]] == cells(section)
    assert "—¹" in text


def test_csv(sections):
    lines = list(csv.DictReader(comma_separated(sections).splitlines()))
    assert list(lines[0]) == list(COLUMNS)
    told = list(records(sections))
    assert len(lines) == len(told)
    for line, of in zip(lines, told, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in of.items()}
    (row,) = [line for line in lines if line["table"] == "table1" and line["recipe"] == "cityscapes/pspnet_r101_gff"]
    assert float(row["paper"]) == 80.4
    assert float(row["ours"]) == pytest.approx(55)
    assert float(row["deviation"]) == pytest.approx(50**0.5)
    assert float(row["ours_minus_paper"]) == pytest.approx(55 - 80.4)
    assert (row["runs"], row["seeds"]) == ("2", "0 1")


def test_latex(sections):
    text = latex(sections)
    assert text.isascii() or "±" in text.split("\n\n")[0]
    assert len(re.findall(r"\\begin\{table\*?\}", text)) == len(re.findall(r"\\end\{table\*?\}", text)) == len(sections)
    for table, section in zip(text.split("\n\n")[1:], sections, strict=True):
        bare = re.sub(r"\\[{}$&#%_]", "", table)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        body = [line for line in bare.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {line.count("&") + 1 for line in body} == {len(cells(section)[0])}
        assert len(body) == len(cells(section))


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="LaTeX is not installed: apt-get install texlive-latex-base"
)
def test_latex_compiles(sections, tmp_path):
    (tmp_path / "tables.tex").write_text(latex(sections))
    packages = r"\usepackage{booktabs,graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{tables}}\end{{document}}"
    (tmp_path / "main.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Missing character" not in (tmp_path / "main.log").read_text()


def test_the_ending_says_what_is_written(sections, tmp_path):
    for ending, form in FORMATS.items():
        path = tmp_path / "deep" / f"tables{ending.upper()}"
        write_sections(path, sections)
        assert path.read_text() == form(sections)
    with pytest.raises(UserError, match=r"tables\.pdf must end in \.md, \.csv, \.tex, \.html"):
        form_of(Path("tables.pdf"))


def test_a_page_fits_a_phone(sections, tmp_path, browser):
    write_sections(tmp_path / "tables.html", sections)
    page = browser.new_page(viewport={"width": 360, "height": 700})
    page.goto((tmp_path / "tables.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()
