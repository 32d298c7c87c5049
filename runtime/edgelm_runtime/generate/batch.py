"""Several answers that advance together: one run reads the weights once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .answer import Answer
from .cache import KVCache
from .constraints import Constraint
from .control import Control, Interrupted
from .encoder import Source
from .guides import Guide
from .loop import PREFILL_CHUNK, GeneratorSession, prefill
from .options import GenerationOptions
from .runs import Ids, Runs
from .sampling import Row

MAX_SEQUENCES = 8  # beyond that a run costs nearly as much for each as for one alone


@dataclass(frozen=True)
class Request:
    """One answer that is asked for, as `GeneratorSession.stream` takes it."""

    prompt: Sequence[int]
    options: GenerationOptions
    ends: Callable[[int], bool] | None = None
    guide: Guide | None = None
    constraint: Constraint | None = None


def generate_together(
    model: GeneratorSession, requests: Sequence[Request], control: Control | None = None
) -> list[Answer]:
    """The finished answers, each with the tokens that it would have alone; `ends` is given every token as it comes.

    Prompts are read one by one, tokens are made in step. A deadline leaves what is there. Raises InputError for a
    prompt that is not accepted or options that want context_shift, and Cancelled.
    """
    control = control or Control()
    if any(request.options.context_shift for request in requests):
        raise InputError("context_shift is for one answer at a time; leave it out for several in step")
    prompts = [model.checked(request.prompt) for request in requests]
    answers = [
        model.answer(model.begin(prompt), each.options, each.ends, each.guide, each.constraint)
        for prompt, each in zip(prompts, requests, strict=True)
    ]
    begun = [len(model.begin(prompt)) for prompt in prompts]
    capacity = max(read + answer.room for read, answer in zip(begun, answers, strict=True))
    cache = KVCache.empty(model.layout, capacity, len(requests))
    try:
        source = _read(model, cache, prompts, answers, control)
        _advance(model.runs(cache, control, source), begun, answers)
    except Interrupted:
        reason = control.finish()
        for answer in answers:
            answer.finish_reason = answer.finish_reason or reason
    return answers


def _read(
    model: GeneratorSession, cache: KVCache, prompts: Sequence[Ids], answers: Sequence[Answer], control: Control
) -> Source | None:
    """Read each prompt and choose the token after it; one that several answers have is read once.

    Returns what an encoder made of the prompts: one text where all are the same.
    """
    first: dict[bytes, tuple[int, Row]] = {}
    sources: dict[bytes, Source] = {}
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        own, key = cache.sequence(index), prompt.tobytes()
        if key not in first:
            begin, source = model.begin(prompt), model.source(prompt, control)
            known = model.prefixes.begin(begin, own)
            first[key] = index, prefill(model.runs(own, control, source), begin, PREFILL_CHUNK, known)
            if source is not None:
                sources[key] = source
        other, row = first[key]
        if other != index:
            own.copy_tokens(cache.sequence(other), len(model.begin(prompt)))
        answer.take(row.copy())
    together = [sources[prompt.tobytes()] for prompt in prompts] if len(sources) > 1 else list(sources.values())
    return Source.joined(together) if together else None


def _advance(runs: Runs, read: list[int], answers: Sequence[Answer]) -> None:
    """Make the tokens after the first, until every answer is at its end."""
    past = np.array(read, dtype=np.int64)
    tokens = np.zeros((len(answers), 1), dtype=np.int64)
    while running := [index for index, answer in enumerate(answers) if not answer.finish_reason]:
        for index in running:
            tokens[index] = answers[index].last
        # An answer that is over reads its last token again, at the same place: the others need the run.
        rows = runs.read(tokens, past)
        for index in running:
            past[index] += 1
            answers[index].take(rows[index, 0])
