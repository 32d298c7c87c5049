"""What a search found, for a person and for a file: the trade of size, time and metric, and why each layer is so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgelm_export.metrics import format_table
from edgelm_export.notes import note
from edgelm_export.search.layers import Layer
from edgelm_export.search.run import Found
from edgelm_export.search.trials import Point

CHART, TABLE_FILE = "trade.png", "trade.json"


def summary(found: Found) -> dict[str, Any]:
    """What the manifest keeps: every bundle that was measured, and the layers of the chosen one by their scheme."""
    by_scheme: dict[str, list[str]] = {}
    for layer in found.layers:
        by_scheme.setdefault(scheme_of(found.point, layer), []).append(layer.name)
    return {
        "chosen": found.point.name, "metric": found.metric, "rows": len(found.rows),
        "layers": by_scheme, "points": [_plain(point) for point in found.points],
        **({"unfinished": found.unfinished} if found.unfinished else {}),
    }  # fmt: skip


def table(found: Found) -> str:
    """The trade, and the layers with what each scheme would have cost."""
    trade: list[list[object]] = [
        [
            point.name + " (chosen)" * (point.name == found.point.name), f"{point.bytes / 1e6:.1f}", f"{point.ms:.2f}",
            f"{point.metric:.2f}", f"{point.drop:+.2f} [{point.interval[0]:+.2f}, {point.interval[1]:+.2f}]",
            "yes" if point.name in pareto(found.points) else "",
        ]
        for point in found.points
    ]  # fmt: skip
    header = ("bundle", "MB", "ms", found.metric, "drop in points", "on the front")
    layers: list[list[object]] = [
        [layer.name, scheme_of(found.point, layer), why(layer, found.harms.get(layer.name, {}), found.point)]
        for layer in found.layers
    ]
    parts = [format_table(trade, header), *([found.unfinished] if found.unfinished else [])]
    return "\n\n".join([*parts, *([format_table(layers, ("layer", "scheme", "why"))] if layers else [])])


def why(layer: Layer, harms: Mapping[str, float], point: Point) -> str:
    """Time and harm of the scheme that a layer has, and of float32."""
    used = scheme_of(point, layer)
    plain, cost = layer.costs["fp32"], layer.costs.get(used, layer.costs["fp32"])
    if used == "fp32":
        tried = min(harms.values(), default=None)
        moved = "was not measured" if tried is None else f"moves answers by {tried:.4f} at least in 8 bits"
        return f"{plain.ms:.3f} ms; {moved}"
    harm = f"moves answers by {harms[used]:.4f}" if used in harms else "not measured alone"
    return f"{cost.ms:.3f} ms, {plain.ms:.3f} in float32; {harm}"


def scheme_of(point: Point, layer: Layer) -> str:
    """The scheme of a layer in a bundle."""
    return point.layers.get(layer.name, "fp32")


def pareto(points: Sequence[Point]) -> set[str]:
    """Names of the bundles that none other beats in size, time and drop at once."""

    def beats(one: Point, other: Point) -> bool:
        mine, theirs = (one.bytes, one.ms, one.drop), (other.bytes, other.ms, other.drop)
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    return {point.name for point in points if not any(beats(other, point) for other in points)}


def write(found: Found, folder: Path) -> list[Path]:
    """The trade as JSON, and as a chart where matplotlib is installed; the files that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = [
        {
            "name": layer.name, "kind": layer.kind, "shape": layer.shape, "scheme": scheme_of(found.point, layer),
            "costs": {used: {"bytes": cost.bytes, "ms": cost.ms} for used, cost in layer.costs.items()},
            "harms": found.harms.get(layer.name, {}),
        }
        for layer in found.layers
    ]  # fmt: skip
    text = json.dumps({**summary(found), "layers": layers}, ensure_ascii=False, indent=1)
    (folder / TABLE_FILE).write_text(text, "utf-8")
    if find_spec("matplotlib") is None:
        note("report: no chart, matplotlib is not installed: pip install matplotlib")
        return [folder / TABLE_FILE]
    _chart(found, folder / CHART)
    return [folder / TABLE_FILE, folder / CHART]


def _chart(found: Found, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    front = pareto(found.points)
    for axes, (name, values) in zip(
        figure.subplots(1, 2, sharey=True),
        (("MB", [point.bytes / 1e6 for point in found.points]), ("ms", [point.ms for point in found.points])),
        strict=True,
    ):
        for point, value in zip(found.points, values, strict=True):
            below, above = point.drop - point.interval[0], point.interval[1] - point.drop
            colour = "tab:red" if point.name == found.point.name else "tab:blue" if point.name in front else "0.6"
            axes.errorbar(value, -point.drop, [[max(above, 0)], [max(below, 0)]], fmt="o", color=colour, capsize=3)
            axes.annotate(point.name, (value, -point.drop), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
    figure.axes[0].set_ylabel(f"{found.metric} against torch, points")
    figure.savefig(path, dpi=120)


def _plain(point: Point) -> dict[str, Any]:
    return {
        "name": point.name, "bytes": point.bytes, "ms": point.ms, "metric": point.metric, "drop": point.drop,
        "interval": list(point.interval), "parity": {"worst": point.parity.worst, "mean": point.parity.mean},
    }  # fmt: skip
