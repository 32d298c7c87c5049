"""What a process that does nothing but answer holds in memory, and whether that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import report
from .fresh import ask
from .subject import Deadline, NotMeasured, Subject

WARM_UP = 2  # rounds over the values, at least: buffers then have the size of the longest
MOST_VALUES = 64
# Of the line: to a thousand answers a shorter one is stretched too far.
LEAST_ANSWERS, LEAST_SECONDS = 50, 0.5
# Bytes that the allocator of a process takes bit by bit over its first thousands of answers, and then no more.
SETTLING = 1 << 19


def measure(subject: Subject, deadline: Deadline) -> report.Memory:
    """In a fresh process: what this one measured before does not count. The values go round until the time is over.

    Buffers settle for some thousand answers, so that much is noise: of a growth of minutes it is a small part.
    Raises what loading and answering raise, and NotMeasured where the system does not tell, or for the growth alone
    where the time was too short for it.
    """
    values = evenly(subject.values, MOST_VALUES)
    reply = ask(subject, values, deadline.left).reply
    if reply["peak"] is None:
        raise NotMeasured("this system does not tell how much memory a process holds")
    points = tuple(report.MemoryPoint(*point) for point in reply["points"] if point[2] is not None)
    settled = max([WARM_UP * len(values), *(point.answers // 2 for point in points[-1:])])
    line = [point for point in points if point.answers > settled]
    growth, noise = _growth(line) if _long(line) else (None, None)
    found = report.Memory(reply["imported"], reply["loaded"], reply["peak"], growth, noise, points)
    if points and growth is None:
        raise NotMeasured(
            f"its growth takes {LEAST_ANSWERS} answers and {LEAST_SECONDS:g} s once buffers have settled, which are "
            f"{settled} of {points[-1].answers} answers; give more --seconds",
            found,
        )
    return found


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the values, from everywhere among them, in their order."""
    count = min(len(values), most)
    return [values[index * len(values) // count] for index in range(count)]


def _long(points: Sequence[report.MemoryPoint]) -> bool:
    """Whether a line through these points says something of a thousand answers."""
    if len(points) < 3:
        return False
    first, last = points[0], points[-1]
    return last.answers - first.answers >= LEAST_ANSWERS and last.seconds - first.seconds >= LEAST_SECONDS


def _growth(points: Sequence[report.MemoryPoint]) -> tuple[float, float]:
    """Bytes per 1,000 answers by least squares through at least three points, and how far that may be off.

    That is the standard error of the slope, and SETTLING spread over the answers of the line.
    """
    answers = np.array([point.answers for point in points], np.float64)
    resident = np.array([point.resident for point in points], np.float64)
    apart = answers - answers.mean()
    square = float(apart @ apart)
    slope = float(apart @ (resident - resident.mean())) / square
    rest = resident - resident.mean() - slope * apart
    error = float(np.sqrt(rest @ rest / (len(points) - 2) / square))
    return 1000 * slope, 1000 * float(np.hypot(error, SETTLING / (answers[-1] - answers[0])))
