"""The chart of docs/decoders.md: tokens a second and time to the first token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.beside import chart

PANELS = (
    ("tokens/s", "tokens a second (more is better)"),
    ("first of 512 ms", "ms to the first token after 512 (less)"),
)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the report's JSON: bars by precision and speed."""
    tables = {name: rows for name, rows in report["details"].items() if name != "failures"}
    footnote = f"{report['machine']['cpu']}, {report['facts']['threads']} threads, batch 1, greedy"
    chart.draw(tables, PANELS, lambda row: (row["precision"], row["tokens/s"]), footnote, path)
