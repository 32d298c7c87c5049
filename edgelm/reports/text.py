"""A profile as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import Summary

HEADER = ("", "p50", "p90", "p95", "p99", "max", "n", "median, 95 %")


def table(report: Report) -> str:
    """The report for a person."""
    rows = [HEADER, *_rows(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    if report.steady is not None:
        for name, summary in report.steady.stages.items():
            yield _row(f"  {name}", summary)
        yield _row("answer", report.steady.total)


def _row(name: str, found: Summary) -> tuple[str, ...]:
    numbers = (found.p50, found.p90, found.p95, found.p99, found.max)
    interval = f"{found.low:.2f} .. {found.high:.2f}"
    return name, *(f"{number:.2f}" for number in numbers), str(found.count), interval
