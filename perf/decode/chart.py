"""The chart of docs/performance.md: tokens a second and time to the first token, an engine a bar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {"edgelm": "#c8501e"}
OTHERS = "#8a94a3"
PANELS = (
    ("tokens/s", "tokens a second (more is better)"),
    ("first of 512 ms", "ms to the first token after 512 (less)"),
)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the report's JSON: a row of panels a shape, bars by engine and precision."""
    from matplotlib.figure import Figure

    shapes = {name: rows for name, rows in report["details"].items() if name != "failures" and rows}
    figure = Figure(figsize=(11, 1.2 + 0.26 * sum(map(len, shapes.values()))), layout="constrained")
    heights = [len(rows) for rows in shapes.values()]
    axes = figure.subplots(len(shapes), len(PANELS), squeeze=False, height_ratios=heights)
    for line, (shape, rows) in zip(axes, shapes.items(), strict=True):
        ordered = sorted(rows, key=lambda row: (row["precision"], row["tokens/s"]))
        labels = [f"{row['engine']}  {row['precision']}" for row in ordered]
        for panel, (key, title) in zip(line, PANELS, strict=True):
            values = [row[key] for row in ordered]
            bars = panel.barh(labels, values, color=[COLOURS.get(row["engine"], OTHERS) for row in ordered])
            panel.bar_label(bars, fmt=lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}", padding=3)
            panel.set_title(f"{shape}: {title}", fontsize=10, loc="left")
            panel.spines[["top", "right"]].set_visible(False)
            panel.margins(x=0.12)
        line[1].set_yticklabels([])
    machine = report["machine"]
    figure.supxlabel(f"{machine['cpu']}, {report['facts']['threads']} threads, batch 1, greedy", fontsize=9)
    figure.savefig(path, dpi=110)
