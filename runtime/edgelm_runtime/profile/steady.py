"""Answers one after the other, until the median is known or the time is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from . import report
from .subject import Deadline, Subject
from .summary import histogram, summarize

NARROW = 0.05  # of the median: an interval below this is known well enough
MIN_ROUNDS, WARM_UP = 10, 2  # of all values each


def measure(subject: Subject, deadline: Deadline) -> report.Steady:
    """Whole rounds over all values, so that every one counts the same: at least one, MIN_ROUNDS where time allows."""
    for _ in range(WARM_UP):
        for value in subject.values:
            subject.answer(value)
            if deadline.over():
                break
    totals: list[float] = []
    stages: list[Mapping[str, float]] = []
    rounds = 0
    while not rounds or not (deadline.over() or (rounds >= MIN_ROUNDS and summarize(totals).width < NARROW)):
        for value in subject.values:
            start = perf_counter()
            result = subject.answer(value)
            totals.append(1000 * (perf_counter() - start))
            stages.append(result.timings)
        rounds += 1
    return report.Steady(_by_stage(stages), summarize(totals), histogram(totals))


def _by_stage(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in timings[0] if name not in ("total", "time_to_first_token")]
    return {name: summarize([one.get(name, 0.0) for one in timings]) for name in names}
