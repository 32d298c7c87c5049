"""docs/performance.png: how many times better edgelm is than each peer, losses as visible as wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perf.beside.chart import COLOURS, OTHERS
from perf.performance.peers import Comparison

AHEAD = COLOURS["edgelm"]
LEFT_OUT = ("32 p50 ms", "text p50 ms")


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write a PNG: a panel for each comparison, a bar from 1 for each metric and peer, on a logarithmic scale."""
    from matplotlib.figure import Figure

    if not comparisons:
        return
    columns = 2
    lines = -(-len(comparisons) // columns)
    figure = Figure(figsize=(11, 5.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for panel, one in zip(axes, comparisons, strict=False):
        bars = [
            (f"{metric.title}: {peer}", ratios[metric.key])
            for metric in one.metrics
            if metric.key not in LEFT_OUT
            for peer, ratios in one.ratios.items()
            if metric.key in ratios
        ][::-1]
        values = [value for _, value in bars]
        drawn = panel.barh(
            [name for name, _ in bars], [value - 1 for value in values], left=1,
            color=[AHEAD if value >= 1 else OTHERS for value in values],
        )  # fmt: skip
        panel.set_xscale("log")
        panel.set_xlim(min(0.4, *values) * 0.8, max(4.0, *values) * 1.5)
        panel.bar_label(drawn, [f"{value:.2f}" for value in values], padding=3, fontsize=7)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        panel.minorticks_off()
        panel.tick_params(axis="y", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(f"{one.title}, {one.precision}", fontsize=10, loc="left")
    for panel in list(axes)[len(comparisons) :]:
        panel.set_visible(False)
    figure.supxlabel("times better than the peer: right of 1 edgelm is ahead, left of 1 (grey) the peer is", fontsize=9)
    figure.savefig(path, dpi=100)
