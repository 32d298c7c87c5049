"""The table of docs/fidelity.md: what stands between its two marks is written from a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.beside import chart
from perf.beside import page as beside
from perf.fidelity.report import HEADER, cells

BEGIN, END = "<!-- written by make perf-fidelity -->", "<!-- end of peers -->"
PANELS = (("difference", "points from torch"), ("ms", "ms (less is better)"), ("files MB", "MB (less)"))


def write(report: Mapping[str, Any], folder: Path) -> None:
    """Write the table into the page, or a page of its own where there is none, and the chart."""
    beside.fill(folder / "fidelity.md", BEGIN, END, section(report))
    tables = {
        name: [line for line in model["lines"] if "difference" in line] for name, model in _models(report).items()
    }
    if not any(tables.values()):
        return  # no engine came through
    footnote = f"{report['machine']['cpu']}, {report['facts']['threads']} threads"
    chart.draw(tables, PANELS, lambda line: line["difference"], footnote, folder / "fidelity.png")


def section(report: Mapping[str, Any]) -> str:
    """The tables, the goals and the machine."""
    tables = [
        f"### {model['title']}\n\n{beside.table(HEADER, [cells(line) for line in model['lines']])}\n"
        for model in _models(report).values()
    ]
    return "\n" + "\n".join([*tables, beside.goals(report), beside.machine(report, ()), *beside.failures(report)])


def _models(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: model for name, model in report["details"].items() if name != "failures"}


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
