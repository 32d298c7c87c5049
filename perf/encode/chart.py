"""The chart of docs/encoders.md: milliseconds for a text by its tokens, and texts a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.beside import chart

PANELS = (
    ("16 p50 ms", "ms, 16 tokens (less is better)"),
    ("128 p50 ms", "ms, 128 tokens (less)"),
    ("8 reviews texts/s", "reviews a second (more)"),
)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the report's JSON: the fastest at 128 tokens on top, embedders left out."""
    keys = [key for key, _ in PANELS]
    tables = {
        name: [row for row in rows if all(key in row for key in keys)]
        for name, rows in report["details"].items()
        if name != "failures"
    }
    footnote = f"{report['machine']['cpu']}, {report['facts']['threads']} threads, ids in, logits out"
    chart.draw(tables, PANELS, lambda row: -row["128 p50 ms"], footnote, path)
