"""How far a run is from what this machine could do: the roofline model (Williams, Waterman and Patterson, 2009)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ..generate.cache import KVCache
from ..generate.loop import PREFILL_CHUNK, prefill
from . import report
from .rates import int8_rate, read_bandwidth
from .subject import Deadline, NotMeasured, Subject
from .tracing import Run, model_of, recording, typical
from .work import multiply_adds, weight_bytes

LEAST_RUNS, MOST_RUNS = 5, 200
POINTS = 5
_LARGEST = 1 << 28  # no cache holds that, and a till has no gigabyte to spare


@dataclass(frozen=True)
class Work:
    """One run that can be had again and again: how many tokens it reads, and how many these attend to."""

    run: Callable[[], Any]
    tokens: int
    attended: int


def measure(subject: Subject, deadline: Deadline) -> report.Ceiling:
    """The ceiling of one run for the value of median length: of its first window, or of one token after its prompt.

    Raises NotMeasured off the CPU, whose memory and arithmetic are what is measured.
    """
    plan = subject.model.engine.plan
    if plan.device.name != "cpu":
        raise NotMeasured(f"the rates of {plan.device} are not known here, only those of the CPU")
    with recording(subject) as found:
        work = _work(found.model, typical(subject))
        work.run()
    traced = found.runs[-1]
    by_operator = weight_bytes(subject.bundle.read(plan.variant.file), work.tokens)
    size = sum(by_operator.values())
    operations = sum(multiply_adds(event, work.attended) for event in traced.events)
    took = _time(_work(model_of(subject), typical(subject)), deadline)
    bandwidth, rate = (
        read_bandwidth(plan.threads, min(size, _LARGEST)),
        int8_rate(plan.threads, max(0.05, deadline.left)),
    )
    reading, multiplying = 1000 * size / bandwidth, 1000 * operations / rate
    floor = max(reading, multiplying)
    return report.Ceiling(
        read_bandwidth=bandwidth,
        int8_rate=rate,
        bytes=size,
        operations=operations,
        floor=floor,
        run=took,
        share=floor / took,
        bound="memory" if reading >= multiplying else "arithmetic",
        points=_points(traced, by_operator, work.attended),
    )


def _work(model: Any, value: Any) -> Work:
    if not hasattr(model, "generator"):
        row = model.reader.read(value).rows[0]
        return Work(lambda: model.rows.one(row), len(row.ids), len(row.ids))
    generator = model.generator
    prompt = generator.checked(model.tokenize(value)[: generator.most // 2])
    begin = generator.begin(prompt)
    runs = generator.runs(KVCache.empty(generator.layout, len(begin) + 1), source=generator.source(prompt))
    prefill(runs, begin, PREFILL_CHUNK)
    token = begin[-1:].tolist()
    return Work(lambda: runs.read([token], [len(begin)]), 1, len(begin) + 1)


def _time(work: Work, deadline: Deadline) -> float:
    """Milliseconds of a run, the median of some after one."""
    work.run()
    end = Deadline(deadline.left / 2)
    samples: list[float] = []
    while len(samples) < LEAST_RUNS or (len(samples) < MOST_RUNS and not end.over()):
        start = perf_counter()
        work.run()
        samples.append(1000 * (perf_counter() - start))
    return median(samples)


def _points(run: Run, weights: dict[str, int], attended: int) -> tuple[report.Point, ...]:
    """The operators that take the longest of those that multiply by weights."""
    operations, taken = defaultdict[str, int](int), defaultdict[str, float](float)
    for event in run.events:
        operations[event.op_type] += multiply_adds(event, attended)
        taken[event.op_type] += event.ms
    kinds = sorted((kind for kind in taken if operations[kind] and weights.get(kind)), key=lambda kind: -taken[kind])
    return tuple(report.Point(kind, weights[kind], operations[kind], taken[kind]) for kind in kinds[:POINTS])
