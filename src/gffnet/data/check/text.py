"""A report as text for people."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gffnet.data.check.findings import SEVERITIES, Finding, Severity
from gffnet.data.check.pictures import size_text
from gffnet.data.check.report import Report

_STYLES: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "cyan"}


def print_report(report: Report, out: Console) -> None:
    """The splits, the findings, the classes, the verdict."""
    if report.splits:
        _print_splits(report, out)
    for severity in SEVERITIES:
        _print_findings(severity, report.of(severity), out)
    if report.splits:
        _print_classes(report, out)
    rate = f"; {report.files} files in {report.seconds:.1f} s" if report.files else ""
    out.print(
        f"{report.verdict()}{rate}", style="bold green" if report.ok else "bold red", highlight=False, soft_wrap=True
    )


def _print_findings(severity: Severity, findings: list[Finding], out: Console) -> None:
    if not findings:
        return
    style = _STYLES[severity]
    out.print(f"{len(findings)} {severity}{'s' if len(findings) > 1 else ''}", style=f"bold {style}", highlight=False)
    for finding in findings:
        where = f" {finding.split}" if finding.split else ""
        message = Text.assemble((finding.code, style), where, ": ", finding.message)
        out.print(Padding(message, (0, 0, 0, 2), expand=False))
        out.print(Padding(Text.assemble(("remedy: ", "dim"), finding.remedy), (0, 0, 0, 4), expand=False))
        for file in finding.files[1:3]:
            out.print(f"    {file}", style="dim", highlight=False, soft_wrap=True)
        if finding.count > 3 and finding.files:
            out.print(f"    and {finding.count - 3} more", style="dim", highlight=False)
    out.print()


def _print_splits(report: Report, out: Console) -> None:
    table = Table(title="images, height x width", title_justify="left")
    for heading in ("split", "samples", "official", "smallest", "median", "largest", "ignored %"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, numbers in report.splits.items():
        sizes = [size_text(size) for size in numbers.sizes or ()] or ["-"] * 3
        official = "-" if numbers.expected is None else str(numbers.expected)
        table.add_row(split, str(numbers.samples), official, *sizes, f"{100 * numbers.ignored_share:.1f}")
    out.print(table)
    out.print()


def _print_classes(report: Report, out: Console) -> None:
    """Every class: its share of the pixels of all classes, and how many images have it, in each split."""
    table = Table(title="share of labelled pixels", title_justify="left")
    table.add_column("class")
    for split in report.splits:
        table.add_column(f"{split} %", justify="right")
        table.add_column("images", justify="right")
    for label, name in enumerate(next(iter(report.splits.values())).names):
        cells = []
        for numbers in report.splits.values():
            there = numbers.images[label] > 0
            cells += [f"{100 * numbers.share(label):.2f}", str(numbers.images[label])] if there else ["never", "-"]
        table.add_row(name, *cells)
    out.print(table)
