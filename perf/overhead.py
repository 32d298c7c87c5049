"""What the times that every result has cost: answers with them, in turns with answers that read no clock."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from perf.bench import Figure, Report, arguments, bundle_for, in_turns, seconds_of
from perf.generation import PROMPTS
from perf.reviews import reviews

REVIEWS, SMOKE_REVIEWS = 24, 2
TOKENS, SMOKE_TOKENS = 64, 4
GOAL = 1.01


def main() -> None:
    given = arguments("Timings, the last answers' percentiles and a profile, against answers without.", rounds=401)
    report = Report("overhead", given.smoke, excludes="loading, one round of each; ratios are of neighbouring rounds")
    for task, answer in _works(given).items():
        timed, plain, profiled = in_turns(
            given.rounds, _seconds(answer), _seconds(answer, untimed), _seconds(answer, answer.model.profile)
        )
        report.add(
            Figure(f"{task}: timings / none", "", _ratios(timed, plain), at_most=GOAL),
            Figure(f"{task}: inside model.profile() / none", "", _ratios(profiled, plain), at_most=GOAL),
        )
    report.print()


class _Work:
    """Some answers of a model."""

    def __init__(self, model: Any, values: list[Any], options: dict[str, Any]) -> None:
        self.model = model
        self._values = values
        self._options = options

    def __call__(self) -> None:
        for value in self._values:
            self.model(value, **self._options)


def _works(given: argparse.Namespace) -> dict[str, _Work]:
    texts = reviews(SMOKE_REVIEWS if given.smoke else REVIEWS, seed=4)
    tokens = SMOKE_TOKENS if given.smoke else TOKENS
    prompts: list[Any] = [text for (task, _), text in PROMPTS.items() if task == "description"]
    written = {"max_new_tokens": tokens, "temperature": 0.0, "ignore_eos": True}
    return {
        "sentiment": _Work(_load("sentiment", given), list(texts), {}),
        "description": _Work(_load("description", given), prompts, written),
    }


def _load(task: str, given: argparse.Namespace) -> Any:
    import edgelm

    folder = bundle_for(task, given) if given.smoke else None
    return edgelm.load(task) if folder is None else edgelm.load(folder, task=task)


def _seconds(work: Callable[[], None], around: Callable[[], Any] = nullcontext) -> Callable[[], float]:
    def measured() -> float:
        with around():
            return seconds_of(work)

    return measured


@contextmanager
def untimed() -> Iterator[None]:
    """Answers that read no clock and are seen by nobody."""
    from edgelm_runtime.generate import runs
    from edgelm_runtime.tasks import generation, writing
    from edgelm_runtime.tasks.observed import Answers
    from edgelm_runtime.timing import Stopwatch

    with ExitStack() as stack:
        for module in (runs, generation, writing):
            stack.enter_context(patch.object(module, "perf_counter", float))
        stack.enter_context(patch.object(Stopwatch, "__call__", lambda watch, stage: nullcontext()))
        stack.enter_context(patch.object(Stopwatch, "add", lambda watch, stage, milliseconds: None))
        stack.enter_context(patch.object(Stopwatch, "timings", lambda watch: {"total": 0.0}))
        stack.enter_context(patch.object(Answers, "seen", lambda answers, result: None))
        yield


def _ratios(mine: list[float], other: list[float]) -> list[float]:
    return [one / two for one, two in zip(mine, other, strict=True)]


if __name__ == "__main__":
    main()
