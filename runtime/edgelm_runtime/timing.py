"""Where the time of one answer went, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter


class Stopwatch:
    """Adds up wall-clock time by stage: `with watch("tokenize"): ...`, then `watch.timings()`.

    A stage entered again adds to its sum. `earlier` are milliseconds by stage that were spent before, by a stopwatch
    or a thread that is gone; they count towards the total. One stopwatch belongs to one thread.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        self._stages: dict[str, float] = dict(earlier or {})
        self._start = perf_counter() - sum(self._stages.values()) / 1000.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time inside the `with` block towards `stage`, also when the block raises."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(stage, (perf_counter() - start) * 1000.0)

    def add(self, stage: str, milliseconds: float) -> None:
        """Add time that was measured by other means since the stopwatch was made to `stage`."""
        self._stages[stage] = self._stages.get(stage, 0.0) + milliseconds

    def elapsed(self) -> float:
        """Milliseconds since the stopwatch was made."""
        return (perf_counter() - self._start) * 1000.0

    def timings(self) -> dict[str, float]:
        """Milliseconds by stage in the order of first use, and `total` since the stopwatch was made."""
        return {**self._stages, "total": self.elapsed()}
