"""All that a check has found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gffnet.data.check.findings import CODES, SEVERITIES, Finding, Severity
from gffnet.data.check.statistics import Statistics


@dataclass(frozen=True)
class Report:
    """What a data set holds and what is wrong with it."""

    dataset: str
    root: Path
    splits: dict[str, Statistics]
    findings: Sequence[Finding]
    seconds: float
    files: int
    """How many were read."""

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of a severity, by code and split."""
        order = list(CODES)
        found = [finding for finding in self.findings if finding.severity == severity]
        return sorted(found, key=lambda finding: order.index(finding.code))

    def verdict(self) -> str:
        """One line: how many findings, and what to do about them."""
        counts = {severity: len(self.of(severity)) for severity in SEVERITIES}
        said = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts.items() if count)
        advice = "" if self.ok else ": mend the errors, then check again"
        return f"data set {self.dataset!r} at {self.root}: {said or 'nothing wrong'}{advice}"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "ok": self.ok,
            "splits": {split: statistics.to_json() for split, statistics in self.splits.items()},
            "findings": [finding.to_json() for severity in SEVERITIES for finding in self.of(severity)],
            "seconds": round(self.seconds, 3),
            "files_per_second": round(self.files / self.seconds, 1) if self.seconds else 0.0,
        }
