"""Classes of a text: one of several, any number of several, or numbers (regression)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifest import MULTI_LABEL, REGRESSION
from ..results import ClassificationResult
from ..timing import Stopwatch
from .encoder import Encoder
from .probabilities import sigmoid, softmax
from .reading import Reading
from .rows import Values

THRESHOLD = 0.5  # of a label's probability where any number of labels may hold


class Classify(Encoder[ClassificationResult]):
    """A text classifier; the bundle's `problem_type` says what its logits mean, `activation` what the scores are."""

    def decode(self, values: Any) -> dict[str, float]:
        """Scores by label, from float32 logits [labels]: probabilities, or the numbers themselves."""
        scores = scores_of(np.asarray(values), self.bundle.manifest.activation)
        return dict(zip(self.labels, map(float, scores), strict=True))

    def _result(self, reading: Reading, outputs: list[Values], watch: Stopwatch) -> ClassificationResult:
        with watch("decode"):
            problem = self.bundle.manifest.problem_type
            function = self.bundle.manifest.activation
            scores = averaged([scores_of(values, function) for values in outputs], reading)
            best = int(scores.argmax())
            named = dict(zip(self.labels, map(float, scores), strict=True))
            if problem == MULTI_LABEL:
                least = 0.0 if function == "none" else THRESHOLD
                holding = tuple(label for label, score in named.items() if score >= least)
            else:
                holding = () if problem == REGRESSION else (self.labels[best],)
        return ClassificationResult(
            problem_type=problem,
            labels=holding,
            scores=named,
            **self._facts(reading, watch),
        )


def scores_of(logits: Values, function: str) -> NDArray[np.float64]:
    """The scores that logits [..., labels] stand for by one of `manifest.FUNCTIONS`."""
    if function == "none":
        return logits.astype(np.float64)
    return sigmoid(logits) if function == "sigmoid" else softmax(logits)


def averaged(scores: list[NDArray[np.float64]], reading: Reading) -> NDArray[np.float64]:
    """The mean over the windows of a text, each with the weight of its tokens."""
    weights = np.asarray([len(row.ids) for row in reading.rows], np.float64)
    mean: NDArray[np.float64] = np.average(scores, axis=0, weights=weights)
    return mean
