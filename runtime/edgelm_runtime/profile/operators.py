"""Where the time of a run goes, operator by operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from . import report
from .subject import Deadline, NotMeasured, Subject
from .tracing import Event, Shape, answer, model_of, traced, typical

TOP = 10
ANSWERS, TEXTS = 20, 3
_MAX_SHAPES = 100

Key = tuple[str, str, str]


def measure(subject: Subject, deadline: Deadline) -> report.Operators:
    """The operators of an answer to the value of median length, which is asked for several times.

    An operator's time is the median of its runs: another program that comes between would make any of them the
    most expensive. For the same reason `overhead` compares the fastest answers with and without a profile. Raises
    NotMeasured where onnxruntime tells of no node.
    """
    plain: list[float] = []
    answers = traced(subject, _in_turns(subject, deadline, plain))
    runs = [run for one in answers for run in one.runs]
    found: dict[Key, list[Event]] = defaultdict(list)
    for run in runs:
        for event in run.events:
            found[event.op_type, event.provider, _shapes(event)].append(event)
    if not found:
        raise NotMeasured("onnxruntime's profile names no node of this device")
    operators = [_operator(key, events, len(answers)) for key, events in found.items()]
    total = sum(one.ms for one in operators)
    top = sorted(operators, key=lambda one: -one.ms)[:TOP]
    return report.Operators(
        top=tuple(replace(one, share=one.ms / (total or 1.0)) for one in top),
        others=len(operators) - len(top),
        measured=total,
        outside=median(run.outside for run in runs) * len(runs) / len(answers),
        overhead=min(_by_token(one.result) for one in answers) / min(plain) - 1,
    )


def _in_turns(subject: Subject, deadline: Deadline, plain: list[float]) -> Iterator[Any]:
    """The same value again and again; before each its answer without a profile is timed."""
    value, model = typical(subject), model_of(subject)
    answer(model, value)
    while not plain or (len(plain) < (TEXTS if subject.generates else ANSWERS) and not deadline.over()):
        plain.append(_by_token(answer(model, value)))
        yield value


def _by_token(result: Any) -> float:
    """Milliseconds by token: texts that are sampled have different lengths."""
    return float(result.timings["total"]) / max(1, int(result.tokens))


def _operator(key: Key, events: Sequence[Event], answers: int) -> report.Operator:
    """All nodes of a kind as one, which has no share yet."""
    op_type, provider, shapes = key
    names = sorted({event.name for event in events})
    calls = len(events) / answers
    name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it"
    return report.Operator(name, op_type, provider, shapes, calls, calls * median(event.ms for event in events), 0.0)


def _shapes(event: Event) -> str:
    return f"{_text(event.inputs)} -> {_text(event.outputs)}"[:_MAX_SHAPES]


def _text(shapes: tuple[Shape, ...]) -> str:
    """Scales and biases are left out where there is anything larger."""
    large = [shape for shape in shapes if len(shape) > 1]
    return ", ".join("x".join(map(str, shape)) or "1" for shape in large or shapes)
