"""Texts a second by how many are in a call of `model.batch`, and by how many threads answer."""

from __future__ import annotations

from ..device import CPU
from ..tune import thread_counts
from . import report
from .rounds import pace
from .scenarios import rate, texts
from .subject import Deadline, NotMeasured, Subject
from .summary import summarize

SIZES = (1, 2, 4, 8, 16, 32)
_WAYS = 4  # that are to fit at least


def measure(subject: Subject, deadline: Deadline) -> tuple[report.Throughput, ...]:
    """One sample is a pass over the same texts, in calls of one size; each way is warmed up before.

    All sizes on the threads of the subject, the smallest and the largest on other numbers of them. Raises what
    answering raises, and NotMeasured, with what was found, where the time was too short for all.
    """
    own = int(subject.model.threads)
    values = texts(subject, max(1, min(SIZES[-1], int(deadline.left / pace(subject, deadline) / _WAYS))))
    loaded = subject
    found: dict[tuple[int, int], report.Throughput] = {}
    ways = _ways(subject, own, len(values))
    for number, (threads, size) in enumerate(ways):
        if found and deadline.over():
            break
        if threads != int(loaded.model.threads):
            loaded = subject if threads == own else subject.loaded(threads=threads)
        slot = Deadline(deadline.left / (len(ways) - number))
        loaded.batch(values[:1] if subject.generates else values)
        rates: list[float] = []
        while not rates or not slot.over():
            rates.append(rate(loaded, values, size))
        found[threads, size] = report.Throughput(size, threads, summarize(rates))
    measured = tuple(found[way] for way in sorted(found))
    if missing := [f"{size} in a call, threads {threads}" for threads, size in ways if (threads, size) not in found]:
        raise NotMeasured(f"the time was over before {', '.join(missing)}", measured)
    return measured


def _ways(subject: Subject, own: int, most: int) -> list[tuple[int, int]]:
    """(threads, size), what tells most first; sizes of at most `most` texts."""
    sizes = [size for size in SIZES if size <= most]
    ends = list(dict.fromkeys((sizes[0], sizes[-1])))
    others = [count for count in thread_counts() if count != own] if subject.model.engine.plan.device == CPU else []
    return [
        *((own, size) for size in ends),
        *((count, size) for count in others for size in ends),
        *((own, size) for size in sizes[1:-1]),
    ]
