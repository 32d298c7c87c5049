"""What an engine's process does: convert a checkpoint, or load a model, time it, and print one JSON line.

Runs in the peers' environments, so it imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from perf.beside import process
from perf.beside.process import Convert, memory

PASSES = 2
Ids = Sequence[int]


@dataclass(frozen=True)
class About:
    """An engine's name, the precisions that it converts to, what to look for in a smoke run, what a text becomes."""

    title: str
    precisions: tuple[str, ...]
    module: str
    gives: str = "label"


class Engine(Protocol):
    """A loaded encoder: text in, a label or an embedding out. Making one imports its packages."""

    def load(self, model: Path, threads: int) -> None:
        """Load what `convert` wrote."""

    def answer(self, text: str) -> object:
        """The label of one text, or its embedding."""

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        """The same of many texts."""


@runtime_checkable
class Classifier(Engine, Protocol):
    """One that also takes token ids."""

    def logits(self, rows: Sequence[Ids]) -> Any:
        """Logits, [batch, labels], of rows of token ids with their special tokens; the rows may differ in length."""


@dataclass(frozen=True)
class Plan:
    """What to time: rows one by one, by length; batches of rows, by name; texts.

    A cell is repeated until both `seconds` and `repetitions` are reached.
    """

    threads: int
    rows: dict[str, list[list[int]]]
    batches: dict[str, list[list[list[int]]]]
    texts: list[str]
    seconds: float
    repetitions: int


@dataclass
class Measured:
    """What one process measured: seconds, milliseconds, texts a second, bytes, and the logits of all batches."""

    load_s: float = 0.0
    row_ms: dict[str, list[float]] = field(default_factory=dict)
    batch_texts_s: dict[str, list[float]] = field(default_factory=dict)
    text_ms: list[float] = field(default_factory=list)
    texts_s: list[float] = field(default_factory=list)
    logits: list[list[float]] = field(default_factory=list)
    resident_bytes: int = 0
    peak_bytes: int = 0


def measure(engine: Engine, model: Path, plan: Plan) -> Measured:
    """Load; then every cell, after one pass over its inputs that does not count."""
    measured = Measured()
    start = perf_counter()
    engine.load(model, plan.threads)
    measured.load_s = perf_counter() - start
    if isinstance(engine, Classifier):
        for length, rows in plan.rows.items():
            measured.row_ms[length] = _each(lambda row: engine.logits([row]), rows, plan)
        for name, batches in plan.batches.items():
            for batch in batches:
                measured.logits += [[float(value) for value in logits] for logits in engine.logits(batch)]
            measured.batch_texts_s[name] = _passes(engine.logits, batches, plan)
    measured.text_ms = _each(engine.answer, plan.texts, plan)
    engine.answers(plan.texts)
    measured.texts_s = _passes(engine.answers, [plan.texts], plan)
    measured.resident_bytes, measured.peak_bytes = memory("VmRSS"), memory("VmHWM")
    return measured


def _each(work: Callable[[Any], object], inputs: Sequence[Any], plan: Plan) -> list[float]:
    """Milliseconds of each call, one input after the other, after a pass that does not count."""
    for one in inputs:
        work(one)
    times: list[float] = []
    begin = perf_counter()
    while len(times) < plan.repetitions or perf_counter() - begin < plan.seconds:
        start = perf_counter()
        work(inputs[len(times) % len(inputs)])
        times.append(1000 * (perf_counter() - start))
    return times


def _passes(work: Callable[[Any], object], batches: Sequence[Sequence[Any]], plan: Plan) -> list[float]:
    """Texts a second of each pass over all batches, which have been read before."""
    count = sum(map(len, batches))
    speeds: list[float] = []
    begin = perf_counter()
    while len(speeds) < PASSES or perf_counter() - begin < plan.seconds:
        start = perf_counter()
        for batch in batches:
            work(batch)
        speeds.append(count / (perf_counter() - start))
    return speeds


def main(engine: type[Any], convert: Convert) -> None:
    """What a module of engines/ does when it is run."""
    process.main(convert, lambda model, plan: measure(engine(), model, Plan(**plan)))
