"""A table for each model: the metric of every engine, its difference to torch, milliseconds and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.significance import bootstrap_interval
from edgelm_export.taskmetrics import difference
from perf.bench import Figure, Report, table
from perf.beside.report import add_engines, best_of_rounds, cell, finish
from perf.fidelity.harness import Bench, Row

NAMES = ("engine", "precision")
HEADER = (*NAMES, "metric", "difference", "95 % interval", "p", "same answer", "ms", "files MB")
MOST_LOST = 0.3  # points


@dataclass(frozen=True)
class Model:
    """A checkpoint's rows: how torch answered, how the engines did, and what the milliseconds are of."""

    name: str
    metric: str
    unit: str
    answers: Sequence[object]
    scores: NDArray[np.float64]
    rows: Sequence[Row]

    def lines(self) -> list[dict[str, Any]]:
        """The table's rows; torch first."""
        torch: dict[str, Any] = {"engine": "torch", "precision": "fp32", "metric": float(self.scores.mean())}
        for row in self.rows:
            if row.answers is self.answers:
                torch |= {"ms": median(row.ms()), "files MB": row.size / 1e6}
        return [torch, *(self._line(row) for row in self.rows if row.answers is not self.answers)]

    def _line(self, row: Row) -> dict[str, Any]:
        found = difference(self.metric, self.scores, row.scores)
        same = fmean(float(mine == other) for mine, other in zip(row.answers, self.answers, strict=True))
        return {
            "engine": row.peer.title, "precision": row.precision, "metric": found.after,
            "difference": found.difference, "95 % interval": list(found.interval), "p": found.p,
            "same answer": 100.0 * same, "ms": median(row.ms()), "files MB": row.size / 1e6,
        }  # fmt: skip


def print_report(bench: Bench, models: Sequence[Model]) -> Mapping[str, Any]:
    """Print everything; returns what the JSON line holds."""
    report = Report(
        "fidelity",
        bench.smoke,
        excludes="loading; one pass over the inputs",
        facts={"threads": bench.threads},
    )
    add_engines(report, bench)
    for model in models:
        lines = model.lines()
        title = f"{model.name}: {model.metric} of {len(model.scores)} rows, ms {model.unit}"
        report.details[model.name] = {"title": title, "lines": lines}
        print(f"{title}\n{table([HEADER, *(cells(line) for line in lines)])}\n")
        report.add(*_figures(model))
    return finish(report, bench)


def cells(line: Mapping[str, Any]) -> list[str]:
    """A line of the table as text; what it does not have stays empty."""
    return [_cell(name, line.get(name, "")) for name in HEADER]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:+.2f} .. {value[1]:+.2f}"
    if isinstance(value, float) and name == "difference":
        return f"{value:+.2f}"
    return f"{value:.2f}" if isinstance(value, float) and name in ("metric", "p", "same answer") else cell(value)


def _figures(model: Model) -> Iterator[Figure]:
    """Points lost, points behind the best peer, and the fastest peer's milliseconds over ours."""
    ours = next((row for row in model.rows if row.peer.name == "edgelm" and row.precision == "int8"), None)
    theirs = [row for row in model.rows if row.peer.name != "edgelm" and row.answers is not model.answers]
    if ours is None:
        return
    lost = float((model.scores - ours.scores).mean())
    yield Figure(f"{model.name}: points that edgelm int8 loses", "", [lost], at_most=MOST_LOST)
    if theirs:
        best = max(theirs, key=lambda row: float(row.scores.mean()))
        low, high = bootstrap_interval(best.scores - ours.scores)
        behind = 0.0 if low <= 0.0 <= high else float((best.scores - ours.scores).mean())
        yield Figure(f"{model.name}: points behind the best peer, chance aside", "", [behind], at_most=0.0)
        ratios = [other / mine for mine, other in zip(ours.ms(), best_of_rounds(theirs, Row.ms, min), strict=True)]
        yield Figure(f"{model.name}: fastest peer's ms / ours", "", ratios, at_least=1.0)
