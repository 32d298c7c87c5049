"""What an engine's process does: convert a checkpoint, or load a model, answer prompts, and print one JSON line.

Runs in the peers' environments, so it imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from perf.beside import process
from perf.beside.process import Convert, memory

WARM_TOKENS = 8
Seen = Callable[[int], None]


class Engine(Protocol):
    """A model that answers greedily, never ending before the count. Making one imports its packages."""

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        """Load what `convert` wrote; `lookup`: with prompt lookup, where the engine has it."""

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        """Give `count` token ids to `seen`, each as soon as it is known."""


@dataclass(frozen=True)
class Plan:
    """What to measure: prompts (token ids) for first tokens by name, and prompts that `count` tokens follow."""

    threads: int
    first: dict[str, list[list[int]]]
    decode: list[list[int]]
    count: int
    lookup: bool = False


@dataclass
class Measured:
    """What one process measured: seconds, milliseconds, bytes, and the answers' ids."""

    load_s: float = 0.0
    first_ms: dict[str, list[float]] = field(default_factory=dict)
    token_ms: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    resident_bytes: int = 0
    peak_bytes: int = 0


def measure(engine: Engine, model: Path, plan: Plan) -> Measured:
    """Load, answer once without counting it, then first tokens, then whole answers."""
    measured = Measured()
    start = perf_counter()
    engine.load(model, plan.threads, plan.lookup)
    measured.load_s = perf_counter() - start
    engine.answer(plan.decode[-1][::-1], WARM_TOKENS, lambda token: None)

    for name, prompts in plan.first.items():
        # The first of each length is for buffers and kernels of that length.
        measured.first_ms[name] = [_answer(engine, prompt, 1)[1][0] * 1000 for prompt in prompts][1:]
    for prompt in plan.decode:
        ids, times = _answer(engine, prompt, plan.count)
        measured.tokens.append(ids)
        measured.answer_s.append(times[-1])
        measured.token_ms += [1000 * (after - before) for before, after in pairwise(times)]
    measured.resident_bytes, measured.peak_bytes = memory("VmRSS"), memory("VmHWM")
    return measured


def _answer(engine: Engine, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """The ids, and the seconds after which each was there."""
    ids: list[int] = []
    times: list[float] = []

    def seen(token: int) -> None:
        times.append(perf_counter() - start)
        ids.append(int(token))

    start = perf_counter()
    engine.answer(prompt, count, seen)
    if len(ids) != count:
        raise SystemExit(f"{len(ids)} tokens came, {count} were asked for")
    return ids, times


def main(engine: type[Any], convert: Convert) -> None:
    """What a module of engines/ does when it is run."""
    process.main(convert, lambda model, plan: measure(engine(), model, Plan(**plan)))
