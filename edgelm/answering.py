"""Many inputs through one model: in groups, answered in order, with those that have no answer in their places."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from edgelm.inputs import Item, Problem
from edgelm.outputs import Result
from edgelm_runtime.errors import BundleError, DeviceError, EdgeLMError, InputError

# Large enough to keep every core busy, small enough that a progress bar moves: classified in 0.2 s, written in 2 s.
CLASSIFIED, WRITTEN = 512, 32
# A bundle or a device that fails for so many inputs, and never answered one, answers none.
GIVEN_UP = 8


@dataclass
class Model:
    """A loaded task, the generation options that each call gets, and how many inputs it is given at once.

    ``allowed`` are the options that a request may have.
    """

    task: Any
    options: Mapping[str, Any]
    group: int
    allowed: frozenset[str] = frozenset()
    _receipts: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _answered: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)

    def receipt(self, result: Result) -> dict[str, Any] | None:
        """How the bundle that gave the result was loaded; None from its second result on."""
        if result.bundle in self._receipts:
            return None
        model = self.task.for_language(result.language) if hasattr(self.task, "for_language") else self.task
        self._receipts[result.bundle] = model.receipt().to_dict()
        return self._receipts[result.bundle]

    def one(self, item: Item) -> Result:
        """Answer one input. Raises EdgeLMError for one that has no answer."""
        result: Result = self.task(item.value, **self._options(item))
        return result

    def stream(self, item: Item) -> Any:
        """The pieces of the answer to one input, as `stream` of the task gives them. Raises EdgeLMError."""
        return self.task.stream(item.value, **self._options(item))

    def many(self, items: Sequence[Item]) -> list[Result | Problem]:
        """Answer a group in order; what has no answer is a problem of its own, whatever went wrong with it.

        Raises:
            BundleError, DeviceError: the model has answered nothing, and fails again and again.
        """
        found: dict[int, Result | Problem] = {}
        alike: dict[str, list[int]] = {}
        for place, item in enumerate(items):
            alike.setdefault(json.dumps(item.options, sort_keys=True), []).append(place)
        for places in alike.values():
            found.update(zip(places, self._many_alike([items[place] for place in places]), strict=True))
        return [found[place] for place in range(len(items))]

    def _many_alike(self, items: Sequence[Item]) -> list[Result | Problem]:
        """Answer inputs with the same options: together, or one by one where something is wrong with one of them."""
        try:
            options = self._options(items[0])
            if self.group > 1 and len(items) > 1 and "variants" not in options:
                results = self.task.try_batch([item.value for item in items], **options)
                return [self._outcome(item, result) for item, result in zip(items, results, strict=True)]
        except Exception:
            _debug()
        return [self._one_or_problem(item) for item in items]

    def _one_or_problem(self, item: Item) -> Result | Problem:
        try:
            return self._outcome(item, self.one(item))
        except Exception as error:
            return self._outcome(item, error)

    def _outcome(self, item: Item, found: Result | Exception) -> Result | Problem:
        if not isinstance(found, Exception):
            self._answered += 1
            return found
        if isinstance(found, BundleError | DeviceError) and not self._answered:
            self._failed += 1
            if self._failed >= GIVEN_UP:
                raise found
        return problem_of(item, found)

    def _options(self, item: Item) -> dict[str, Any]:
        """The options of one call. Raises InputError for those that a request may not have."""
        if unknown := sorted(set(item.options) - self.allowed):
            accepted = ", ".join(sorted(self.allowed)) or "none, as this task generates no text"
            raise InputError(f"options has {', '.join(map(repr, unknown))}; accepted are {accepted}")
        return {**self.options, **item.options}


def problem_of(item: Item, error: Exception) -> Problem:
    """What is said of an input that has no answer."""
    if isinstance(error, EdgeLMError):
        return Problem(item.line, str(error), item.beside, type(error).__name__)
    _debug()
    message = f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (EDGELM_DEBUG=1 shows where)"
    return Problem(item.line, message, item.beside, EdgeLMError.__name__)


def _debug() -> None:
    if os.environ.get("EDGELM_DEBUG") == "1":
        traceback.print_exc()


def answers(model: Model, entries: Iterable[Item | Problem]) -> Iterator[tuple[Item | Problem, Result | Problem]]:
    """Each input with its answer, or with the reason why there is none, in the order of the inputs."""
    remaining = iter(entries)
    while group := list(islice(remaining, model.group)):
        found = iter(model.many([entry for entry in group if isinstance(entry, Item)]))
        for entry in group:
            yield entry, entry if isinstance(entry, Problem) else next(found)
