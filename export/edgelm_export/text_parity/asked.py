"""What transformers answered to a raw text: asked once, while torch's model is loaded, for every bundle after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_runtime.tasks.reading import Reading, Text

NEW_TOKENS = 24  # of a generator's answer
KEPT_TOKENS = 1024  # of a distribution of the next token the most probable; the others count together

Values = NDArray[np.float32]


class LeftOut(Exception):
    """A text has no answer of transformers that a bundle's could be compared with; the message says why."""


@dataclass(frozen=True)
class Step:
    """The choice of a token in torch.

    ``ids`` are the most probable tokens, int64 [KEPT_TOKENS at most], ``probabilities`` theirs, float64, and ``ruled``
    those after the rules of generation, 0 for a token that may not come.
    """

    chosen: int
    ids: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    ruled: NDArray[np.float64]

    def lead(self, token: int) -> float:
        """By how much the chosen token is more probable than another one, after the rules; 1 over one that may not."""
        of = {int(index): float(value) for index, value in zip(self.ids, self.ruled, strict=True)}
        other = of.get(token, 0.0)
        return 1.0 if other == 0.0 else of.get(self.chosen, 0.0) - other

    def distance(self, probabilities: NDArray[np.float64]) -> float:
        """Total variation distance, in 0..1, to another distribution, float64 [vocabulary]."""
        others = probabilities[self.ids]
        rest = abs(float(self.probabilities.sum()) - float(others.sum()))
        return float(0.5 * (np.abs(self.probabilities - others).sum() + rest))


@dataclass(frozen=True)
class Asked:
    """A raw text, the token ids that transformers' own tokenizer reads it as, and the answer, which ``how`` gave.

    ``answer`` is by the kind of the task: scores by class, entities as (label, start, end, score), float32 [width],
    or a text, of which ``tokens`` are the ids without an end, ``steps`` the choices, with one for the end, and
    ``options`` what the bundle is to be given beside the defaults. Of an encoder ``reading`` are the rows, ``outputs``
    torch's for them; ``again`` makes an answer of other outputs as transformers does. Without an ``answer`` it is made
    of ``outputs`` by the runtime, which knows windows and schemes of labels that transformers does not.
    """

    task: str
    text: Text
    how: str
    ids: Sequence[int]
    answer: Any = None
    reading: Reading | None = None
    outputs: Sequence[Values] = ()
    again: Callable[[Values], Any] | None = None
    tokens: Sequence[int] = ()
    steps: Sequence[Step] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def answered(self, how: str, answer: Any) -> Asked:
        """The same text with an answer."""
        return replace(self, how=how, answer=answer)

    def with_outputs(self, outputs: Sequence[Values], again: Callable[[Values], Any] | None = None) -> Asked:
        """The same text with torch's outputs."""
        return replace(self, outputs=outputs, again=again)
