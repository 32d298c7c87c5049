"""What the rounds say: a table a shape, the ratios to the best peer against their goals, one JSON line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from perf.bench import Figure, Report, table
from perf.beside import harness
from perf.beside.report import add_engines, best_of_rounds, cell, finish
from perf.decode.peers import Peer
from perf.decode.protocol import Measured, Plan
from perf.decode.shapes import product_weights

if TYPE_CHECKING:
    from perf.decode.harness import Bench

BITS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}
HEADER = (
    "engine", "precision", "load s", "first of 64 ms", "first of 512 ms", "token p50 ms", "p95 ms", "tokens/s",
    "of ceiling", "resident MB", "files MB",
)  # fmt: skip
OVERHEAD_BYTES = 60e6


@dataclass
class Row(harness.Row[Peer, Plan, Measured]):
    """One decoder with one model, and what its rounds measured."""

    @property
    def title(self) -> str:
        """The model, and whether it is asked with prompt lookup."""
        return f"{self.folder.name}{', lookup' if self.plan.lookup else ''}"

    @property
    def speeds(self) -> list[float]:
        """Tokens a second after the first, one figure a round."""
        return [1000 * len(measured.token_ms) / sum(measured.token_ms) for measured in self.rounds]

    def first(self, length: int) -> list[float]:
        """Milliseconds to the first token, one figure a round."""
        return [median(measured.first_ms[str(length)]) for measured in self.rounds]

    def summed(self, bandwidth: float, weights: int) -> dict[str, Any]:
        """The row of the table, as numbers."""
        token_ms = [one for measured in self.rounds for one in measured.token_ms]
        ceiling = bandwidth / (weights * BITS[self.precision] / 8)
        return {
            "engine": self.peer.title,
            "precision": self.precision,
            "load s": median(measured.load_s for measured in self.rounds),
            "first of 64 ms": median(self.first(64)),
            "first of 512 ms": median(self.first(512)),
            "token p50 ms": median(token_ms),
            "p95 ms": quantiles(token_ms, n=20)[-1],
            "tokens/s": median(self.speeds),
            "of ceiling": median(self.speeds) / ceiling,
            "resident MB": median(measured.resident_bytes for measured in self.rounds) / 1e6,
            "files MB": self.size / 1e6,
        }


def print_report(
    bench: Bench, by_shape: Mapping[str, Sequence[Row]], summaries: Sequence[Figure], bandwidth: float
) -> Mapping[str, Any]:
    """Print everything; returns what the JSON line holds."""
    report = Report(
        "decode",
        bench.smoke,
        excludes="imports, one short answer; load is the model's alone, no prompt begins like another",
        facts={"threads": bench.threads, "large reads": f"{bandwidth / 1e9:.1f} GB/s"},
    )
    add_engines(report, bench)
    for shape, rows in by_shape.items():
        weights = product_weights(bench.work / "checkpoints" / shape)
        lines = [row.summed(bandwidth, weights) for row in rows]
        report.details[shape] = lines
        print(f"{shape}: {weights / 1e6:.0f} million weights to read a token")
        print(table([HEADER, *([cell(line[name]) for name in HEADER] for line in lines)]))
        print(f"{_agreement(rows)}\n")
        report.add(*_figures(shape, rows, bandwidth, weights))
    report.add(*summaries)
    return finish(report, bench)


def _agreement(rows: Sequence[Row]) -> str:
    """How far the float32 engines write the same tokens. Where logits tie in the last bit they may part late."""
    exact = [row for row in rows if row.precision == "fp32"]
    if len(exact) < 2:
        return "float32: fewer than two engines, nothing to compare"
    first = exact[0]
    alike = []
    for row in exact[1:]:
        pairs = zip(first.rounds[0].tokens, row.rounds[0].tokens, strict=True)
        shared = [
            next((i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), len(pair[0])) for pair in pairs
        ]
        alike.append(f"{row.peer.title} {min(shared)}")
    count = len(first.rounds[0].tokens[0])
    return f"float32: of {count} tokens these are {first.peer.title}'s before the first other one: {', '.join(alike)}"


def _figures(shape: str, rows: Sequence[Row], bandwidth: float, weights: int) -> list[Figure]:
    """The ratios that have goals: to the best peer of the same round."""
    figures: list[Figure] = []

    def ratio(name: str, precision: str, value: Callable[[Row], Sequence[float]], best: Any, **goal: float) -> None:
        ours = [row for row in rows if row.peer.name == "edgelm" and row.precision == precision]
        theirs = [row for row in rows if row.peer.name != "edgelm" and row.precision == precision]
        if ours and theirs:
            peak = best_of_rounds(theirs, value, best)
            samples = [mine / other for mine, other in zip(value(ours[0]), peak, strict=True)]
            figures.append(Figure(f"{shape}, {precision}: {name}", "", samples, **goal))

    for precision, goal in (("int8", 2.0), ("int4", 1.6)):
        ratio("tokens/s / best peer", precision, lambda row: row.speeds, max, at_least=goal)
        for length in (64, 512):
            ratio(
                f"first token of {length} / best peer", precision, lambda row, n=length: row.first(n), min, at_most=1.0
            )
    for row in rows:
        if row.peer.name != "edgelm" or row.precision != "int8":
            continue
        ceiling = bandwidth / weights
        figures.append(
            Figure(f"{shape}, int8: of the ceiling", "", [one / ceiling for one in row.speeds], at_least=0.75)
        )
        memory = [measured.resident_bytes / (row.size + OVERHEAD_BYTES) for measured in row.rounds]
        figures.append(Figure(f"{shape}, int8: resident / (files + 60 MB)", "", memory, at_most=1.4))
        for other in rows:
            if other.peer.name == "llama_cpp" and other.precision == "int8":
                pairs = zip(row.rounds, other.rounds, strict=True)
                loads = [mine.load_s / theirs.load_s for mine, theirs in pairs]
                figures.append(Figure(f"{shape}, int8: load / llama.cpp", "", loads, at_most=1.5))
    return figures
