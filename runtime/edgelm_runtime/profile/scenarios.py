"""The scenarios of MLPerf: one text at a time, texts that arrive when they like, and all texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter
from typing import Any

from . import report, server
from .rounds import answered, pace, that_fit
from .subject import Deadline, NotMeasured, Subject
from .summary import summarize

SHARES = {"single-stream": 0.2, "server": 0.6, "offline": 0.2}
NAMES = tuple(SHARES)
# The server's limit where none is given: times the single stream's figure, and what nobody notices.
PATIENCE, UNNOTICED = 4.0, 10.0
LARGEST, SMALLEST = 256, 8  # texts in a call
_CALLS = 3


def measure(
    subject: Subject, deadline: Deadline, *, scenarios: Sequence[str], latency_limit: float | None
) -> report.Scenarios:
    """Those of NAMES that are asked for; `latency_limit` is the server's, milliseconds. Raises what answering raises.

    Without a limit the single stream is measured for it, too. Raises NotMeasured, with what was found, where the time
    is too short for the server.
    """
    wanted = {name: SHARES[name] for name in SHARES if name in scenarios}
    if "server" in wanted and latency_limit is None:
        wanted = {"single-stream": SHARES["single-stream"], **wanted}
    seconds = deadline.left / sum(wanted.values())
    found: dict[str, Any] = {}
    reason = None
    for name, share in wanted.items():
        own = Deadline(seconds * share)
        if name == "single-stream":
            found[name] = single_stream(subject, own)
        elif name == "offline":
            found[name] = offline(subject, own)
        else:
            limit = latency_limit or max(UNNOTICED, PATIENCE * found["single-stream"].latency.p90)
            try:
                found[name] = server.measure(subject, own, limit)
            except NotMeasured as missing:
                reason = missing
    result = report.Scenarios(
        single_stream=found.get("single-stream") if "single-stream" in scenarios else None,
        server=found.get("server"),
        offline=found.get("offline"),
    )
    if reason is not None:
        raise NotMeasured(str(reason), result)
    return result


def single_stream(subject: Subject, deadline: Deadline) -> report.SingleStream:
    """The next text comes with the answer to the one before."""
    values = that_fit(subject, deadline, 1)
    return report.SingleStream(summarize([ms for _, ms in answered(subject, values, deadline)]))


def offline(subject: Subject, deadline: Deadline) -> report.Offline:
    """Calls of `model.batch` with as many texts as fit _CALLS times into the time, or SMALLEST once."""
    each = pace(subject, deadline)
    fit = max(min(SMALLEST, int(deadline.left / each)), int(deadline.left / each / _CALLS), 1)
    values = texts(subject, min(LARGEST, fit))
    rates: list[float] = []
    while not rates or not deadline.over():
        rates.append(rate(subject, values, len(values)))
    return report.Offline(summarize(rates), len(values))


def texts(subject: Subject, count: int) -> list[Any]:
    """So many values, some again where there are fewer. A writer reads equal prompts once, so it gets none twice."""
    most = min(count, len(subject.values)) if subject.generates else count
    return list(islice(cycle(subject.values), most))


def rate(subject: Subject, values: Sequence[Any], size: int) -> float:
    """Texts a second, answered in calls of so many."""
    subject.forget()
    start = perf_counter()
    for begin in range(0, len(values), size):
        subject.batch(values[begin : begin + size])
    return len(values) / (perf_counter() - start)
