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
from .guides import Guide
from .loop import PREFILL_CHUNK, GeneratorSession, prefill
from .options import GenerationOptions
from .runs import Ids
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
        model.answer(len(prompt), each.options, each.ends, each.guide, each.constraint)
        for prompt, each in zip(prompts, requests, strict=True)
    ]
    capacity = max(len(prompt) + answer.room for prompt, answer in zip(prompts, answers, strict=True))
    cache = KVCache.empty(model.layout, capacity, len(requests))
    try:
        _read(model, cache, prompts, answers, control)
        _advance(model, cache, [len(prompt) for prompt in prompts], answers, control)
    except Interrupted:
        reason = control.finish()
        for answer in answers:
            answer.finish_reason = answer.finish_reason or reason
    return answers


def _read(
    model: GeneratorSession, cache: KVCache, prompts: Sequence[Ids], answers: Sequence[Answer], control: Control
) -> None:
    """Read each prompt and choose the token after it; one that several answers have is read once."""
    first: dict[bytes, tuple[int, Row]] = {}
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        own, key = cache.sequence(index), prompt.tobytes()
        if key not in first:
            known = model.prefixes.begin(prompt, own)
            first[key] = index, prefill(model.runs(own, control), prompt, PREFILL_CHUNK, known)
        other, row = first[key]
        if other != index:
            own.copy_tokens(cache.sequence(other), len(prompt))
        answer.take(row.copy())


def _advance(
    model: GeneratorSession, cache: KVCache, read: list[int], answers: Sequence[Answer], control: Control
) -> None:
    """Make the tokens after the first, until every answer is at its end."""
    runs = model.runs(cache, control)
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
