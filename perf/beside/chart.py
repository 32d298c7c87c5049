"""A chart of a report: a row of panels a model, an engine a bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"edgelm": "#c8501e"}
OTHERS = "#8a94a3"


def draw(
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    panels: Sequence[tuple[str, str]],
    order: Callable[[Mapping[str, Any]], Any],
    footnote: str,
    path: Path,
) -> None:
    """Write a PNG: for each table a line of panels (a field, a title), its rows as bars in this order, upwards."""
    from matplotlib.figure import Figure

    shapes = {name: rows for name, rows in tables.items() if rows}
    figure = Figure(figsize=(11, 1.2 + 0.26 * sum(map(len, shapes.values()))), layout="constrained")
    heights = [len(rows) for rows in shapes.values()]
    axes = figure.subplots(len(shapes), len(panels), squeeze=False, height_ratios=heights)
    for line, (shape, rows) in zip(axes, shapes.items(), strict=True):
        ordered = sorted(rows, key=order)
        labels = [f"{row['engine']}  {row['precision']}" for row in ordered]
        for panel, (key, title) in zip(line, panels, strict=True):
            values = [row[key] for row in ordered]
            bars = panel.barh(
                labels, values, color=[COLOURS.get(row["engine"].split(",")[0], OTHERS) for row in ordered]
            )
            panel.bar_label(bars, fmt=lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}", padding=3)
            panel.set_title(f"{shape}: {title}", fontsize=10, loc="left")
            panel.spines[["top", "right"]].set_visible(False)
            panel.margins(x=0.12)
        for panel in line[1:]:
            panel.set_yticklabels([])
    figure.supxlabel(footnote, fontsize=9)
    figure.savefig(path, dpi=110)
