"""What the rounds say: two tables a shape, the ratios to the best peer against their goals, one JSON line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median, quantiles
from typing import TYPE_CHECKING, Any

from perf.bench import Figure, Report, table
from perf.beside import harness
from perf.beside.report import add_engines, best_of_rounds, cell, finish
from perf.encode.peers import Peer
from perf.encode.protocol import Measured, Plan
from perf.encode.shapes import SHAPES, product_weights

if TYPE_CHECKING:
    from perf.encode.harness import Bench

LENGTHS = (16, 32, 128, 384)
BATCH, SAME_LENGTH = 8, 128
GOALS = {"bert-base": {16: 1.25, 32: 1.25, 128: 1.25, 384: 1.2}, "minilm-l6": dict.fromkeys(LENGTHS, 1.2)}
CEILED = ("bert-base", "smoke")  # the shapes that are held against the ceiling
WRONG = 0.6  # rounding to 8 bits misses 0.1 to 0.4 of random weights' logits; a lost mask or head misses all
REFERENCE = ("transformers", "fp32")
NAMES = ("engine", "precision")
ROWS = (*NAMES, *(f"{length} {which}" for length in LENGTHS for which in ("p50 ms", "p95")))
REST = (
    *NAMES, "load s", f"{BATCH} x {SAME_LENGTH} texts/s", f"{BATCH} reviews texts/s", "gives", "text p50 ms", "texts/s",
    "off by", "resident MB", "files MB",
)  # fmt: skip


@dataclass
class Ceilings:
    """What this machine can do at best: bytes a second read, int8 multiply-adds a second in each round."""

    bandwidth: float
    products: list[float]


@dataclass
class Row(harness.Row[Peer, Plan, Measured]):
    """One engine with one model, and what its rounds measured; `bundle` where it is a default bundle's."""

    bundle: str = ""

    @property
    def engine(self) -> str:
        """How it is called in the tables."""
        return f"{self.peer.title}, {self.bundle}" if self.bundle else self.peer.title

    def row_ms(self, length: int) -> list[float]:
        """Median milliseconds from one row's ids to its logits, one figure a round."""
        return [median(measured.row_ms[str(length)]) for measured in self.rounds]

    def batch_texts_s(self, name: str) -> list[float]:
        """Texts a second in batches, one figure a round."""
        return [median(measured.batch_texts_s[name]) for measured in self.rounds]

    def text_ms(self) -> list[float]:
        """Median milliseconds from one text to its label, one figure a round."""
        return [median(measured.text_ms) for measured in self.rounds]

    def has_logits(self) -> bool:
        """Whether it is a classifier of the shape, as all that is compared by ids."""
        return not self.bundle and bool(self.rounds[0].logits)

    def summed(self) -> dict[str, Any]:
        """The row of both tables, as numbers; what was not measured is not there."""
        line: dict[str, Any] = {"engine": self.engine, "precision": self.precision}
        for length in self.rounds[0].row_ms:
            times = [one for measured in self.rounds for one in measured.row_ms[length]]
            line |= {f"{length} p50 ms": median(times), f"{length} p95": quantiles(times, n=20)[-1]}
        for name in self.rounds[0].batch_texts_s:
            key = f"{BATCH} x {name} texts/s" if name.isdecimal() else f"{BATCH} {name} texts/s"
            line[key] = median(self.batch_texts_s(name))
        if self.rounds[0].text_ms:
            texts_s = median(median(measured.texts_s) for measured in self.rounds)
            line |= {"gives": self.peer.gives, "text p50 ms": median(self.text_ms()), "texts/s": texts_s}
        return line | {
            "load s": median(measured.load_s for measured in self.rounds),
            "resident MB": median(measured.resident_bytes for measured in self.rounds) / 1e6,
            "files MB": self.size / 1e6,
        }


def print_report(bench: Bench, by_shape: Mapping[str, Sequence[Row]], ceilings: Ceilings) -> Mapping[str, Any]:
    """Print everything; returns what the JSON line holds."""
    report = Report(
        "encode",
        bench.smoke,
        excludes="imports, one pass over the inputs of each cell; load is the model's alone",
        facts={
            "threads": bench.threads,
            "large reads": f"{ceilings.bandwidth / 1e9:.1f} GB/s",
            "int8 products": f"{median(ceilings.products) / 1e12:.2f} T multiply-adds/s",
        },
    )
    add_engines(report, bench)
    for shape, rows in by_shape.items():
        lines = _lines(rows)
        report.details[shape] = lines
        for row, line in zip(rows, lines, strict=True):
            if line.get("off by", 0.0) > WRONG:
                bench.fail(
                    f"{row.folder.name}: off by {line['off by']:.2f} of torch's logits; is it converted rightly?"
                )
        print(f"{shape}: {product_weights(SHAPES[shape]) / 1e6:.0f} million weights for each token")
        for header in (ROWS, REST):
            print(table([header, *([cell(line.get(name, "")) for name in header] for line in lines)]))
            print()
        report.add(*_figures(shape, rows, ceilings))
    return finish(report, bench)


def _lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of the tables, each with how far its logits are from torch's in float32."""
    exact = [row for row in rows if (row.peer.name, row.precision) == REFERENCE]
    lines = []
    for row in rows:
        line = row.summed()
        if exact and row.has_logits():
            line["off by"] = max(off_by(one.logits, exact[0].rounds[0].logits) for one in row.rounds)
        lines.append(line)
    return lines


def off_by(logits: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]) -> float:
    """The part of the reference's variation from row to row that is missed: 0 is the same, 1 as bad as its mean."""
    missed = varied = 0.0
    for mine, exact in zip(zip(*logits, strict=True), zip(*reference, strict=True), strict=True):
        mean = fmean(exact)
        missed += sum((one - other) ** 2 for one, other in zip(mine, exact, strict=True))
        varied += sum((other - mean) ** 2 for other in exact)
    return float((missed / varied) ** 0.5)


def _figures(shape: str, rows: Sequence[Row], ceilings: Ceilings) -> Iterator[Figure]:
    """What has goals: ratios to the best peer of the same round, whatever its precision, and to the ceiling."""
    ours = next((row for row in rows if row.peer.name == "edgelm" and row.precision == "int8" and not row.bundle), None)
    theirs = [row for row in rows if row.peer.name != "edgelm" and row.has_logits()]
    if ours and theirs:
        for length in LENGTHS:
            best = best_of_rounds(theirs, partial(Row.row_ms, length=length), min)
            samples = [other / mine for mine, other in zip(ours.row_ms(length), best, strict=True)]
            goal = GOALS.get(shape, {}).get(length)
            yield Figure(f"{shape}, int8, {length} tokens: best peer's ms / ours", "", samples, at_least=goal)
        best = best_of_rounds(theirs, partial(Row.batch_texts_s, name="reviews"), max)
        samples = [mine / other for mine, other in zip(ours.batch_texts_s("reviews"), best, strict=True)]
        yield Figure(f"{shape}, int8, {BATCH} reviews: texts/s / best peer", "", samples, at_least=1.5)
    if ours and shape in CEILED:
        products = SAME_LENGTH * product_weights(SHAPES[shape])
        pairs = zip(ours.row_ms(SAME_LENGTH), ceilings.products, strict=True)
        samples = [1000 * products / ms / ceiling for ms, ceiling in pairs]
        yield Figure(f"{shape}, int8, {SAME_LENGTH} tokens: of the int8 ceiling", "", samples, at_least=0.5)
    yield from _text_figures(rows)


def _text_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """The default bundle's text to label, to transformers' pipeline on a checkpoint of the same shape."""
    pipelines = [row for row in rows if (row.peer.name, row.precision) == REFERENCE]
    for row in rows:
        if row.bundle and pipelines:
            samples = [mine / other for mine, other in zip(row.text_ms(), pipelines[0].text_ms(), strict=True)]
            yield Figure(f"{row.bundle}: text to label / transformers pipeline", "", samples, at_most=0.1)
