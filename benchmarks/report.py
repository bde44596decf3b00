"""Samples as rows, rows as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.measure import Case, Sample

MEASURES = ("cpu_s", "wall_s", "others", "peak_mb")


@dataclass(frozen=True)
class Spread:
    """The middle and both ends of a few numbers."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one number."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        shown = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (self.median, self.least, self.most)]
        return shown[0] if self.least == self.most else f"{shown[0]} ({shown[1]}-{shown[2]})"


@dataclass(frozen=True)
class Row:
    """All samples of a case.

    Attributes:
        samples: In the order in which they were taken; none where the case failed.
        fault: Why there is no sample, else empty.
    """

    case: Case
    samples: tuple[Sample, ...]
    fault: str = ""

    def spreads(self) -> dict[str, Spread]:
        """Of every measure and fact; none where the case failed."""
        values = [{name: getattr(one, name) for name in MEASURES} | one.facts for one in self.samples]
        return {name: Spread.of([one[name] for one in values]) for name in (values[0] if values else ())}

    def verdicts(self) -> dict[str, bool]:
        """Whether the median keeps each limit; a failed case keeps none."""
        found = self.spreads()
        return {name: name in found and found[name].median <= most for name, most in self.case.limits.items()}


def table(rows: Sequence[Row]) -> str:
    """One line a row: medians, in brackets the least and the most, and the limits."""
    lines = [("case", "what", "CPU s", "wall s", "peak MB", "others' cores", "asked", "")]
    for row in rows:
        found = row.spreads()
        cells = [str(found[name]) if found else "-" for name in ("cpu_s", "wall_s", "peak_mb", "others")]
        verdicts = [f"{n} <= {row.case.limits[n]:g}: {'pass' if ok else 'FAIL'}" for n, ok in row.verdicts().items()]
        facts = [f"{name} {spread}" for name, spread in found.items() if name not in MEASURES]
        lines.append((row.case.name, row.case.title, *cells, "; ".join(verdicts) or "-", row.fault or ", ".join(facts)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [
        {
            "case": row.case.name,
            "what": row.case.title,
            "settings": dict(row.case.settings),
            "fault": row.fault,
            "spreads": {name: asdict(spread) for name, spread in row.spreads().items()},
            "limits": {name: {"most": row.case.limits[name], "pass": ok} for name, ok in row.verdicts().items()},
            "samples": [asdict(one) for one in row.samples],
        }
        for row in rows
    ]
