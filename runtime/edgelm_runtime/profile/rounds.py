"""Whole rounds of answers over the same values, as several parts of a profile need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from .memory import evenly
from .subject import Deadline, Subject

_PROBE = 0.1  # of the time, to see how many answers fit


def pace(subject: Subject, deadline: Deadline) -> float:
    """Seconds an answer, of values from everywhere among them, in a tenth of the time. Raises what answering raises."""
    start, left = perf_counter(), deadline.left
    answers = 0
    for value in evenly(subject.values, 1000):
        subject.answer(value)
        answers += 1
        if perf_counter() - start > _PROBE * left:
            break
    return (perf_counter() - start) / answers


def that_fit(subject: Subject, deadline: Deadline, times: int) -> Sequence[Any]:
    """The values of a round that fits so many times, as the first answers show; at least one."""
    each = pace(subject, deadline)
    return evenly(subject.values, max(1, int(deadline.left / each / times)))


def answered(subject: Subject, values: Sequence[Any], deadline: Deadline) -> Iterator[tuple[Any, float]]:
    """Each result with its milliseconds, one after the other: at least one round, whole ones until the time is over.

    Before every round the model forgets the prompts of the last. Raises what answering raises.
    """
    while True:
        subject.forget()
        for value in values:
            start = perf_counter()
            result = subject.answer(value)
            yield result, 1000 * (perf_counter() - start)
        if deadline.over():
            return
