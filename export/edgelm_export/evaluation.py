"""What a model answered on the rows of an evaluation file, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from edgelm_export.class_report import ClassReport

Metrics = dict[str, float]
Each = Callable[[], None]  # called before every row; what it raises ends the work


def nothing() -> None:
    """Done before every row where nothing is asked for."""


@dataclass(frozen=True)
class Example:
    """A row that was evaluated: what the model read, the right answer, the metric it counts for.

    ``text_pair`` is the second text of a model that reads two, ``place`` the row's file and line.
    """

    task: str
    text: str
    expected: str
    metric: str
    text_pair: str = ""
    place: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Metrics in percent, and of each row its answer (a label or a text) and its score, float64 [rows] in percent.

    A metric that examples name is the mean of their scores. ``classes`` are the figures of each class, where there are
    such; ``worth`` orders the rows, the worst answers first, where scores are only right and wrong.
    """

    metrics: Metrics
    examples: Sequence[Example]
    answers: Sequence[str]
    scores: NDArray[np.float64]
    classes: ClassReport | None = None
    worth: NDArray[np.float64] | None = None

    def against(self, reference: Evaluation) -> Metrics:
        """The metrics with the share of answers that are exactly the reference's."""
        same = [mine == other for mine, other in zip(self.answers, reference.answers, strict=True)]
        return {**self.metrics, "same answer as torch": 100.0 * fmean(map(float, same))}

    def shared(self, other: Evaluation) -> Evaluation:
        """The rows that the other evaluation has as well: a model with a shorter context leaves long ones out."""
        theirs = set(other.examples)
        kept = [index for index, example in enumerate(self.examples) if example in theirs]
        return replace(
            self, examples=[self.examples[index] for index in kept], answers=[self.answers[index] for index in kept],
            scores=self.scores[kept],
        )  # fmt: skip
