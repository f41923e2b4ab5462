"""Tables as files: Markdown, CSV, LaTeX, HTML.

CSV has a line for every score of every row of every table, in full precision, for programs to read; the others have the
tables as they are read.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gffnet.analysis.tables.layout import DASH, MINUS, Cell, TextTable, laid_out
from gffnet.analysis.tables.section import Line, Section
from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.templates import fill

COLUMNS = (
    *("table", "group", "method", "recipe", "protocol", "score", "paper", "ours", "deviation", "runs", "seeds"),
    *("ours_minus_paper", "paper_gain", "ours_gain", "gain_error", "notes"),
)
TITLE = "The tables of Gated Fully Fusion, and ours"
LEGEND = (
    "Scores in percent. Ours: mean over runs, ± sample standard deviation, where there are several. In brackets: the "
    "gain over the baseline of the same table, ± its standard error. A dash: nobody has run it, or it was run "
    "otherwise, as a note says."
)
_SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
_MOST_COLUMNS = 7
"""That a table has in one column of a page."""
_NOT_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "{}$&#%"},
    "_": r"\_\allowbreak{}",
    "/": r"/\allowbreak{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    DASH: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
}


def write_sections(path: Path, sections: Sequence[Section]) -> None:
    """Write sections as a file of the kind that its ending says, whole or not at all.

    Raises:
        UserError: the ending is none of `FORMATS`.
        CannotWrite: the file cannot be written.
    """
    write_whole(path, form_of(path)(sections).encode())


def form_of(path: Path) -> Callable[[Sequence[Section]], str]:
    """How a file is written.

    Raises:
        UserError: the ending is none of `FORMATS`.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise UserError(f"--out {path} must end in {', '.join(FORMATS)}: the ending says what is written.")
    return form


def records(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """A plain mapping with the keys `COLUMNS` for every score of every line; None where there is nothing."""
    for section in sections:
        for line in section.lines:
            for score in section.scores:
                yield _record(section.name, line, score.key)


def markdown(sections: Sequence[Section]) -> str:
    """The tables in Markdown."""
    parts = [f"# {TITLE}", LEGEND]
    for table in map(laid_out, sections):
        parts.append(f"## {_markdown_text(table.title)}")
        lines = [list(map(_markdown_text, table.headings))]
        lines.append(["---", *["---:"] * (len(table.headings) - 1)])
        for group, rows in groupby(table.rows, key=lambda row: row[0]):
            if group:
                lines.append([f"*{_markdown_text(group)}*", *[""] * (len(table.headings) - 1)])
            lines += [[_markdown_text(cell.text) + marks(cell) for cell in cells] for _, cells in rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        if table.remark:
            parts.append(_markdown_text(table.remark))
        parts += [f"{_raised(number)} {_markdown_text(note)}" for number, note in enumerate(table.notes, start=1)]
    return "\n\n".join(parts) + "\n"


def comma_separated(sections: Sequence[Section]) -> str:
    """All numbers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(sections))
    return text.getvalue()


def latex(sections: Sequence[Section]) -> str:
    r"""The tables in LaTeX, to be taken in by `\input`."""
    parts = [f"% {TITLE}\n% In the preamble: \\usepackage{{booktabs,graphicx}}\n% {LEGEND}"]
    parts += [_latex_table(laid_out(section, seeds=False)) for section in sections]
    return "\n\n".join(parts) + "\n"


def html(sections: Sequence[Section]) -> str:
    """The tables as a page that is whole in itself."""
    content = {"title": TITLE, "legend": LEGEND, "tables": [laid_out(section) for section in sections]}
    return fill("analysis/tables", "formats.html.jinja", content)


def marks(cell: Cell) -> str:
    """The numbers of a cell's notes, raised."""
    return _raised(",".join(map(str, cell.notes)))


FORMATS: Mapping[str, Callable[[Sequence[Section]], str]] = {
    ".md": markdown,
    ".csv": comma_separated,
    ".tex": latex,
    ".html": html,
}
"""How a file is written, by its ending."""


def _record(table: str, line: Line, key: str) -> dict[str, Any]:
    """One score of one line."""
    ours, paper = line.ours.get(key), line.paper.get(key)
    return {
        "table": table,
        "group": line.group or None,
        "method": line.method,
        "recipe": line.recipe,
        "protocol": line.protocol or None,
        "score": key,
        "paper": paper,
        "ours": ours.mean if ours else None,
        "deviation": ours.deviation if ours else None,
        "runs": len(ours.values) if ours else None,
        "seeds": " ".join("?" if seed is None else str(seed) for seed in line.seeds) or None,
        "ours_minus_paper": ours.mean - paper if ours and paper is not None else None,
        "paper_gain": line.paper_gain.get(key),
        "ours_gain": line.ours_gain.get(key),
        "gain_error": line.gain_error.get(key),
        "notes": "; ".join(line.notes) or None,
    }


def _raised(number: object) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _markdown_text(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text


def _latex_table(table: TextTable) -> str:
    """One table, over two columns of a page if it has many of its own."""
    columns = len(table.headings)
    rows = [" & ".join(map(_latex_heading, table.headings)) + r" \\", r"\midrule"]
    for number, (group, members) in enumerate(groupby(table.rows, key=lambda row: row[0])):
        if group:
            rows += [r"\midrule"] * bool(number)
            rows.append(rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_latex_text(group)}}}}} \\")
        rows += [" & ".join(map(_latex_cell, cells)) + r" \\" for _, cells in members]
    notes = [rf"\textsuperscript{{{number}}} {_latex_text(note)}" for number, note in enumerate(table.notes, start=1)]
    place = "table*" if columns > _MOST_COLUMNS else "table"
    lines = [
        rf"\begin{{{place}}}",
        r"\centering\footnotesize",
        rf"\caption{{{_latex_text(re.sub(r'^Table [0-9]+[.] ', '', table.title))}}}",
        rf"\label{{tab:{table.name}}}",
        *[r"\setlength{\tabcolsep}{3pt}"] * (columns > _MOST_COLUMNS),
        _NOT_WIDER,
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *[rf"\par\smallskip {note}" for note in [*[_latex_text(table.remark)] * bool(table.remark), *notes]],
        rf"\end{{{place}}}",
    ]
    return "\n".join(lines)


def _latex_heading(text: str) -> str:
    """A heading in lines, broken where its parts are joined."""
    parts = [_latex_text(part) for part in re.split(r", | (?=at )", text)]
    lines = r" \\ ".join(parts)
    return lines if len(parts) == 1 else rf"\shortstack[r]{{{lines}}}"


def _latex_cell(cell: Cell) -> str:
    raised = rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else ""
    return _latex_text(cell.text) + raised


def _latex_text(text: str) -> str:
    """Text that LaTeX takes for nothing else."""
    return "".join(_LATEX.get(mark, mark) for mark in text)
