"""MLPerf's server scenario: the highest rate of arrivals at which answers still come in time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from math import inf
from threading import Event, Lock
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine import usable_cores
from . import report
from .rounds import pace
from .subject import Deadline, NotMeasured, Subject
from .summary import summarize

ENOUGH = 100  # arrivals, for a 99th percentile
MOST, FEWEST = 5000, 10
TRIES = 6  # in which the rate is known to 1/32 of the capacity
LOWEST = 1 / 64  # of the capacity
_NARROW = 0.03
_ABOVE = 1.25  # the capacity that was measured may be too low by this
_PROBE = 0.15  # of the time, for the number of workers
_SEED = 20


def measure(subject: Subject, deadline: Deadline, limit: float) -> report.Server:
    """Bisect the arrival rate within the time; `limit` is milliseconds.

    Raises what answering raises, and NotMeasured where the time is too short for FEWEST arrivals.
    """
    each, left = pace(subject, deadline), deadline.left
    if left < 3 * FEWEST * each:
        raise NotMeasured(
            f"server: an answer takes {1000 * each:.0f} ms, and {left:.1f} s are too short for arrivals; "
            "give more --seconds"
        )
    workers, capacity = _workers(subject, _PROBE * left / each)
    low, high = 0.0, _ABOVE * capacity
    tries: list[report.ServerTry] = []
    random = np.random.default_rng(_SEED)
    behind = 0  # arrivals behind the rate that was kept: fewer do not raise it
    while not tries or (high - low > _NARROW * high and high > LOWEST * capacity and not deadline.over()):
        rate = (low + high) / 2
        count = _arrivals(rate, deadline.left, TRIES - len(tries))
        if count < min(ENOUGH, behind):
            break
        due = np.cumsum(random.exponential(1 / rate, count))
        latencies, kept = _serve(subject, due, workers, limit)
        tries.append(report.ServerTry(rate, summarize(latencies), kept))
        low, high, behind = (rate, high, count) if kept else (low, rate, behind)
    return report.Server(limit, low, workers, tuple(tries), _note(behind, low, high, capacity))


def _note(behind: int, low: float, high: float, capacity: float) -> str:
    found = []
    if 0 < behind < ENOUGH:
        found.append(f"a try of {behind} arrivals: its p99 is the slowest of them, {ENOUGH} are wanted")
    if high - low > 2 * _NARROW * high and high > LOWEST * capacity:
        found.append(f"the time was over with the rate between {low:.3g} and {high:.3g}")
    return "; ".join(found)


def _arrivals(rate: float, left: float, tries: int) -> int:
    """How many arrivals a try has: as many as fit, ENOUGH where they do, FEWEST at the least."""
    planned = min(MOST, max(ENOUGH, int(rate * left / max(2, tries))))
    return max(FEWEST, min(planned, int(rate * left)))


def _workers(subject: Subject, texts: float) -> tuple[int, float]:
    """The number of threads that answers most, all texts being there at once, and how many it answers a second.

    `texts` is how many answers the time is for.
    """
    cores = usable_cores()
    counts = sorted({1, max(1, cores // int(subject.model.threads)), cores})
    rates = {}
    for count in counts:
        each = max(2 * count, min(MOST, int(texts / len(counts))))
        start = perf_counter()
        _serve(subject, np.zeros(each), count, inf)
        rates[count] = each / (perf_counter() - start)
    best = max(rates, key=lambda count: rates[count])
    return best, rates[best]


def _serve(subject: Subject, due: NDArray[np.float64], workers: int, limit: float) -> tuple[list[float], bool]:
    """Answer values that are due at so many seconds from now; milliseconds of each from then on, and whether p99 kept.

    A worker takes the next in line, and waits until it is due where that is later: first come, first served. What
    waits for a worker is late by that, too. Ends early once more are late than a 99th percentile allows.
    """
    stop, lock = Event(), Lock()
    line = iter(range(len(due)))
    late = 0
    allowed = len(due) // 100
    start = perf_counter()

    def work() -> list[float]:
        nonlocal late
        found: list[float] = []
        while not stop.is_set():
            with lock:
                index = next(line, None)
            if index is None or stop.wait(max(0.0, start + due[index] - perf_counter())):
                break
            _answer(subject, index)
            found.append(1000 * (perf_counter() - start - due[index]))
            if found[-1] > limit:
                with lock:
                    late += 1
                if late > allowed:
                    stop.set()
        return found

    pool = ThreadPoolExecutor(workers, "edgelm-profile")
    try:
        futures = [pool.submit(work) for _ in range(workers)]
        latencies = [ms for future in as_completed(futures) for ms in future.result()]
    finally:
        # After an error or Ctrl-C nobody waits for arrivals that are still to come.
        stop.set()
        pool.shutdown()
    return latencies, late <= allowed


def _answer(subject: Subject, index: int) -> Any:
    values: Sequence[Any] = subject.values
    if index % len(values) == 0:
        subject.forget()
    return subject.answer(values[index % len(values)])
