"""Answers with onnxruntime's own profile of every node: what ran, when, and with which shapes.

The model is one more of the same class with the same options; only its sessions are its own, since onnxruntime decides
at their creation whether it writes down what they run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from ..session import Session
from ..tasks import task_class
from ..timing import Span, spans
from .memory import evenly
from .subject import NotMeasured, Subject

MAX_NEW_TOKENS = 64
MAX_EVENTS = 200_000
_MAX_LINE = 100_000
_LOOKED_AT = 101
_SUFFIX = "_kernel_time"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """One run of one node: `at` and `ms` are milliseconds, `at` from the beginning of the graph's run.

    Of constant inputs that onnxruntime has packed there is no shape.
    """

    name: str
    op_type: str
    provider: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    at: float
    ms: float


@dataclass(frozen=True)
class Run:
    """One run of a graph ("model" or "encoder"): `start` and `end` are seconds of perf_counter around the call, `ms` is
    what onnxruntime says of it."""

    graph: str
    start: float
    end: float
    ms: float
    events: tuple[Event, ...]

    @property
    def outside(self) -> float:
        """Milliseconds of the call that no node took."""
        return max(0.0, 1000 * (self.end - self.start) - sum(event.ms for event in self.events))


@dataclass(frozen=True)
class Answer:
    """One answer, its stages, and all runs of graphs that it took; `start` and `end` are seconds of perf_counter."""

    start: float
    end: float
    result: Any
    stages: tuple[Span, ...]
    runs: tuple[Run, ...]


def model_of(subject: Subject, trace: str = "") -> Any:
    """A model like the subject's, which reads every prompt whole; `trace` is SessionOptions'."""
    plan = subject.model.engine.plan
    options = replace(
        subject.options, device=str(plan.device), variant=plan.variant.name, threads=plan.threads, trace=trace
    )
    model = task_class(subject.task)(subject.bundle, options)
    if subject.generates:
        model.generator.prefixes.limit_bytes = 0
    return model


def answer(model: Any, value: Any) -> Any:
    """The answer of `model_of`; a text ends after MAX_NEW_TOKENS: what follows costs the same by token."""
    if not hasattr(model, "generator"):
        return model(value)
    return model(value, max_new_tokens=min(MAX_NEW_TOKENS, model.options().max_new_tokens))


def typical(subject: Subject) -> Any:
    """The value of median length; of very many, that of some from everywhere among them."""
    some = sorted(evenly(subject.values, _LOOKED_AT), key=subject.tokens)
    return some[len(some) // 2]


class Recording:
    """A model whose runs are written down; `runs` are there at the end, in their order."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.runs: tuple[Run, ...] = ()


@contextmanager
def recording(subject: Subject) -> Iterator[Recording]:
    """A model like the subject's while its runs are written down.

    Raises what loading raises, and NotMeasured where there is no temporary folder, or, at the end, where onnxruntime's
    profile does not tell of every run.
    """
    try:
        temporary = TemporaryDirectory(prefix="edgelm-", ignore_cleanup_errors=True)
    except OSError as error:
        raise NotMeasured(f"onnxruntime's profile needs a temporary folder ({error})") from error
    with temporary as folder:
        found = Recording(model_of(subject, folder))
        engine = found.model.engine
        sessions = {"model": engine.session} | ({} if engine.encoder is None else {"encoder": engine.encoder})
        try:
            yield found
        finally:
            files = {graph: session.end_trace() for graph, session in sessions.items()}
        runs = [run for graph, path in files.items() for run in _runs(graph, sessions[graph], path)]
        found.runs = tuple(sorted(runs, key=lambda run: run.start))


def traced(subject: Subject, values: Iterable[Any]) -> tuple[Answer, ...]:
    """The answers to `values`, after one to the first of them that does not count. Raises like `recording`."""
    answers: list[Answer] = []
    with recording(subject) as found:
        for value in values:
            if not answers:
                answer(found.model, value)
            with spans() as stages:
                start = perf_counter()
                result = answer(found.model, value)
                answers.append(Answer(start, perf_counter(), result, tuple(stages), ()))
    return tuple(
        replace(one, runs=tuple(run for run in found.runs if one.start <= run.start and run.end <= one.end))
        for one in answers
    )


def _runs(graph: str, session: Session, path: Path) -> Iterator[Run]:
    """The runs of a session in their order, which is all that its profile and its calls need to have in common."""
    found = list(_read(path))
    if len(found) != len(session.calls):
        raise NotMeasured(f"onnxruntime's profile tells of {len(found)} of {len(session.calls)} runs")
    for (start, end), (ms, events) in zip(session.calls, found, strict=True):
        yield Run(graph, start, end, ms, events)


def _read(path: Path) -> Iterator[tuple[float, tuple[Event, ...]]]:
    """Milliseconds and events of each run of a profile: onnxruntime writes a node when it ends, then the run.

    Raises NotMeasured for more than MAX_EVENTS.
    """
    events: list[tuple[float, Event]] = []
    with path.open("rb") as lines:
        for count, line in enumerate(iter(lambda: lines.readline(_MAX_LINE), b"")):
            if count > MAX_EVENTS:
                raise NotMeasured(f"onnxruntime's profile has more than {MAX_EVENTS:,} events")
            try:
                entry = json.loads(line.rstrip(b",\r\n"))
            except ValueError:  # the brackets around all, or a node whose name nobody escaped
                continue
            if not isinstance(entry, dict):
                continue
            if entry.get("cat") == "Node" and str(entry.get("name")).endswith(_SUFFIX):
                events.append((float(entry["ts"]), _event(entry)))
            elif entry.get("name") == "model_run":
                begin = float(entry["ts"])
                yield (
                    entry["dur"] / 1000,
                    tuple(replace(event, at=(ts - begin) / 1000) for ts, event in events if ts >= begin),
                )
                events = []


def _event(entry: dict[str, Any]) -> Event:
    found = entry["args"]
    return Event(
        name=str(entry["name"]).removesuffix(_SUFFIX),
        op_type=str(found.get("op_name", "")),
        provider=str(found.get("provider", "")),
        inputs=_shapes(found.get("input_type_shape", ())),
        outputs=_shapes(found.get("output_type_shape", ())),
        at=0.0,
        ms=float(entry["dur"]) / 1000,
    )


def _shapes(listed: Sequence[dict[str, list[int]]]) -> tuple[Shape, ...]:
    """The shapes of [{"float": [1, 14, 384]}, ...]."""
    return tuple(tuple(shape) for one in listed for shape in one.values())
