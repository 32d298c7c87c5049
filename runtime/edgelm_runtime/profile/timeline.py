"""A few answers on one time line: our stages, and the operators that onnxruntime ran within them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod

from .memory import evenly
from .subject import Subject
from .tracing import Answer, Event, Run, traced, typical

ANSWERS = 5  # one, where they are texts
MAX_SLICES = 50_000
_LOOK_UPS = ("Gather", "GatherBlockQuantized")
_SIDE_BY_SIDE = ("answer", "run", "operator")


@dataclass(frozen=True)
class Slice:
    """Something that took from `start` to `end`, whole nanoseconds since the first answer began.

    `kind` is "answer", "stage", "run" or "operator". Two slices lie within each other, or do not meet.
    """

    name: str
    kind: str
    start: int
    end: int
    args: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timeline:
    """Slices by their beginning, outer ones before inner ones; `left_out` operators were too many."""

    slices: tuple[Slice, ...]
    answers: int
    left_out: int


def measure(subject: Subject) -> Timeline:
    """The time line of ANSWERS values, taken evenly, or of one text of up to 64 tokens.

    onnxruntime's clock is not the program's, and which one it is depends on the system: each of its runs is put into
    the middle of the call that it belongs to, which the order of both tells. Raises what answering raises, and
    NotMeasured.
    """
    values = [typical(subject)] if subject.generates else evenly(subject.values, ANSWERS)
    answers = traced(subject, values)
    begin = answers[0].start
    slices = [one for number, each in enumerate(answers, start=1) for one in _of_answer(each, number, begin)]
    operators = [one for run in (run for each in answers for run in each.runs) for one in _operators(run, begin)]
    kept = operators[: max(0, MAX_SLICES - len(slices))]
    return Timeline(tuple(nested([*slices, *kept])), len(answers), len(operators) - len(kept))


def nested(slices: Iterable[Slice]) -> Iterator[Slice]:
    """The slices in order, each cut to what the one around it and the one before it leave: clocks are rounded."""
    around: list[Slice] = []
    free = 0  # where the next one may begin
    for one in sorted(slices, key=lambda one: (one.start, -one.end)):
        start = max(one.start, free)
        while around and (around[-1].end <= start or around[-1].kind == one.kind in _SIDE_BY_SIDE):
            start = max(start, around.pop().end)
        end = max(start, min(one.end, around[-1].end) if around else one.end)
        placed = replace(one, start=start, end=end)
        free = start
        around.append(placed)
        yield placed


def _of_answer(answer: Answer, number: int, begin: float) -> Iterator[Slice]:
    args = {
        name: value for name in ("tokens", "prompt_tokens") if (value := getattr(answer.result, name, None)) is not None
    }
    yield _slice(f"answer {number}", "answer", answer.start, answer.end, begin, args)
    stages = [*answer.stages, *_by_token(answer), *_choices(answer)]
    for name, start, end in stages:
        yield _slice(name, "stage", start, end, begin)
    for run in answer.runs:
        tokens = _tokens_read(run)
        name = "encode" if run.graph == "encoder" else "infer"
        yield _slice(
            name if tokens is None else f"{name} {tokens} token{'s' * (tokens != 1)}", "run", run.start, run.end, begin
        )


def _by_token(answer: Answer) -> Iterator[tuple[str, float, float]]:
    """A stage for each token of a text, up to when its text is there; the prompt is read for the first.

    None where beams were searched: their tokens become text together, at the end of the stage "decode".
    """
    if not answer.runs or any(name == "decode" for name, _, _ in answer.stages):
        return
    start = answer.runs[0].start
    for number, end in enumerate((end for name, _, end in answer.stages if name == "detokenize"), start=1):
        yield "prefill, token 1" if number == 1 else f"token {number}", start, end
        start = end


def _choices(answer: Answer) -> Iterator[tuple[str, float, float]]:
    """A token is chosen from the end of a run until it becomes text, or the next run begins."""
    texts = [(start, "") for name, start, _ in answer.stages if name == "detokenize"]
    ends = [(run.end, "run") for run in answer.runs if run.graph == "model"]
    begins = [(run.start, "") for run in answer.runs]
    if texts:
        events = sorted((*texts, *ends, *begins))
        for (start, kind), (end, _) in pairwise(events):
            if kind:
                yield "sample", start, end


def _operators(run: Run, begin: float) -> Iterator[Slice]:
    """The nodes of a run, in the middle of its call."""
    start = run.start + max(0.0, (run.end - run.start) - run.ms / 1000) / 2
    for event in run.events:
        at = min(start + event.at / 1000, run.end)
        yield _slice(
            event.op_type or event.name, "operator", at, min(at + event.ms / 1000, run.end), begin, _shown(event)
        )


def _shown(event: Event) -> dict[str, str]:
    return {
        "node": event.name,
        "provider": event.provider,
        "inputs": str([list(shape) for shape in event.inputs]),
        "outputs": str([list(shape) for shape in event.outputs]),
    }


def _tokens_read(run: Run) -> int | None:
    """How many rows the first table gives; None where there is no table."""
    for event in run.events:
        if event.op_type in _LOOK_UPS and len(event.inputs) > 1:
            return prod(event.inputs[1])
    return None


def _slice(
    name: str, kind: str, start: float, end: float, begin: float, args: Mapping[str, str | int | float] | None = None
) -> Slice:
    return Slice(name, kind, round(1e9 * (start - begin)), round(1e9 * (end - begin)), args or {})
