"""Where the time of one answer went, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

Span = tuple[str, float, float]  # a stage, and seconds of perf_counter at its beginning and its end

_spans: ContextVar[list[Span] | None] = ContextVar("spans", default=None)


@contextmanager
def spans() -> Iterator[list[Span]]:
    """Every time that this thread enters a stage within the `with` block, in the order in which they end."""
    found: list[Span] = []
    token = _spans.set(found)
    try:
        yield found
    finally:
        _spans.reset(token)


def ended(stage: str, start: float) -> float:
    """Milliseconds since `start` of perf_counter, when a stage began that ends now."""
    end = perf_counter()
    found = _spans.get()
    if found is not None:
        found.append((stage, start, end))
    return (end - start) * 1000.0


class Stopwatch:
    """Adds up wall-clock time by stage: `with watch("tokenize"): ...`, then `watch.timings()`.

    A stage entered again adds to its sum. `earlier` are milliseconds by stage that were spent before, by a stopwatch
    or a thread that is gone; they count towards the total. One stopwatch belongs to one thread.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        self._stages: dict[str, float] = dict(earlier or {})
        self._start = perf_counter() - sum(self._stages.values()) / 1000.0

    def __call__(self, stage: str) -> _Stage:
        """Count the time inside the `with` block towards `stage`, also when the block raises."""
        return _Stage(self, stage)

    def add(self, stage: str, milliseconds: float) -> None:
        """Add time that was measured by other means since the stopwatch was made to `stage`."""
        self._stages[stage] = self._stages.get(stage, 0.0) + milliseconds

    def elapsed(self) -> float:
        """Milliseconds since the stopwatch was made."""
        return (perf_counter() - self._start) * 1000.0

    def timings(self) -> dict[str, float]:
        """Milliseconds by stage in the order of first use, and `total` since the stopwatch was made."""
        return {**self._stages, "total": self.elapsed()}


class _Stage:
    """A `with` block that is timed. Not a generator of contextlib: that costs several times as much."""

    __slots__ = ("_stage", "_start", "_watch")

    def __init__(self, watch: Stopwatch, stage: str) -> None:
        self._watch = watch
        self._stage = stage

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *raised: object) -> None:
        self._watch.add(self._stage, ended(self._stage, self._start))
