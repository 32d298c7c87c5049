"""Many inputs through one model: in groups, answered in order, with the ones that are refused named and left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgelm.inputs import Item, Problem
from edgelm.outputs import Result
from edgelm_runtime.errors import InputError

GROUP = 512  # large enough to keep every core busy, small enough that a progress bar moves


@dataclass(frozen=True)
class Model:
    """A loaded task, the generation options that each call gets, and whether it gains from many inputs at once."""

    task: Any
    options: Mapping[str, Any]
    batched: bool

    def one(self, item: Item) -> Result:
        """Answer one input. Raises InputError for one that is refused."""
        result: Result = self.task(item.value, **self.options)
        return result

    def many(self, items: Sequence[Item]) -> list[Result | InputError]:
        """Answer a group in order, with the InputError in the place of an answer that is refused."""
        if self.batched:
            return list(self.task.try_batch([item.value for item in items]))
        return [self._one_or_error(item) for item in items]

    def _one_or_error(self, item: Item) -> Result | InputError:
        try:
            return self.one(item)
        except InputError as error:
            return error


def answers(model: Model, items: Iterable[Item]) -> Iterator[tuple[Item, Result | Problem]]:
    """Each input with its answer or with the reason why there is none, in the order of the inputs."""
    remaining = iter(items)
    while group := list(islice(remaining, GROUP if model.batched else 1)):
        for item, outcome in zip(group, model.many(group), strict=True):
            yield item, Problem(item.line, str(outcome)) if isinstance(outcome, InputError) else outcome
