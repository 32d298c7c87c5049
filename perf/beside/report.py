"""What the reports of all comparisons have: who took part, the best peer of each round, a number in a table's cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from perf.bench import Report
from perf.beside.harness import Bench, Row

R = TypeVar("R", bound=Row[Any, Any, Any])


def add_engines(report: Report, bench: Bench[Any]) -> None:
    """A fact for each engine: the packages that it was installed with."""
    for peer in bench.engines:
        report.facts[peer.title] = ", ".join(f"{name} {version}" for name, version in peer.versions().items()) or "here"
        for note in peer.notes:
            report.facts["note"] = note


def finish(report: Report, bench: Bench[Any]) -> Mapping[str, Any]:
    """Print what did not go, the figures and the JSON line; returns what the line holds."""
    report.details["failures"] = bench.failures
    for failure in bench.failures:
        print(f"failed: {failure}")
    report.print()
    return report.to_dict()


def best_of_rounds(
    rows: Sequence[R], value: Callable[[R], Sequence[float]], best: Callable[[Sequence[float]], float]
) -> list[float]:
    """The best of some rows in each round, whichever it was; `value` gives a row's figures, one a round."""
    return [best(samples) for samples in zip(*map(value, rows), strict=True)]


def cell(value: str | float) -> str:
    """A table's cell: a number with about three digits."""
    if isinstance(value, str):
        return value
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
