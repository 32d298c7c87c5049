"""How many times better edgelm is than each peer, from the reports of perf.encode, perf.decode and perf.fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]
Reports = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Metric:
    """A column of a report's lines, and whether more of it is better."""

    key: str
    title: str
    more: bool = False


@dataclass(frozen=True)
class Comparison:
    """`ratios[peer][metric]`: above 1 edgelm is ahead. Peers in `precision`, or in their best where they have none."""

    title: str
    precision: str
    metrics: Sequence[Metric]
    ratios: Mapping[str, Mapping[str, float]]


FILES, RESIDENT, LOAD = Metric("files MB", "size"), Metric("resident MB", "resident memory"), Metric("load s", "load")
ENCODE = (
    Metric("16 p50 ms", "time, 16 tokens"),
    Metric("32 p50 ms", "time, 32 tokens"),
    Metric("128 p50 ms", "time, 128 tokens"),
    Metric("384 p50 ms", "time, 384 tokens"),
    Metric("8 reviews texts/s", "reviews a second", more=True),
    Metric("text p50 ms", "text to label"),
    LOAD,
    RESIDENT,
    FILES,
)
DECODE = (
    Metric("tokens/s", "tokens a second", more=True),
    Metric("first of 64 ms", "first token of 64"),
    Metric("first of 512 ms", "first token of 512"),
    LOAD,
    RESIDENT,
    FILES,
)
FIDELITY = (Metric("ms", "time"), FILES)


def comparisons(reports: Reports) -> list[Comparison]:
    """One for each model and precision that edgelm has."""
    found = []
    for benchmark, metrics, precisions in (("encode", ENCODE, ["int8"]), ("decode", DECODE, ["int8", "int4"])):
        for model, lines in reports.get(benchmark, {}).get("details", {}).items():
            if model != "failures":
                found += [_compared(model, precision, metrics, lines) for precision in precisions]
    return [one for one in found if one.ratios]


def _compared(model: str, precision: str, metrics: Sequence[Metric], lines: Sequence[Line]) -> Comparison:
    ours = next((line for line in lines if line["engine"] == "edgelm" and line["precision"] == precision), None)
    names = dict.fromkeys(line["engine"] for line in lines if not line["engine"].startswith("edgelm"))
    ratios = {} if ours is None else {name: _ratios(ours, _of(name, precision, lines), metrics) for name in names}
    return Comparison(model, precision, metrics, {name: found for name, found in ratios.items() if found})


def _of(peer: str, precision: str, lines: Sequence[Line]) -> list[Line]:
    """A peer's lines in a precision; all of them where it has none in that."""
    every = [line for line in lines if line["engine"] == peer]
    return [line for line in every if line["precision"] == precision] or every


def _ratios(ours: Line, theirs: Sequence[Line], metrics: Sequence[Metric]) -> dict[str, float]:
    found = {}
    for metric in metrics:
        values = [line[metric.key] for line in theirs if metric.key in line]
        if values and metric.key in ours:
            mine = ours[metric.key]
            found[metric.key] = mine / max(values) if metric.more else min(values) / mine
    return found
