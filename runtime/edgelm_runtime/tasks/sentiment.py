"""Sentiment: a text to the one label that is most probable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..results import SentimentResult
from ..timing import Stopwatch
from .classify import averaged
from .encoder import Encoder
from .probabilities import softmax
from .reading import Reading
from .rows import Values


class Sentiment(Encoder[SentimentResult]):
    """A classifier of texts into classes that exclude each other."""

    def logits(self, input_ids: Iterable[Sequence[int]]) -> Values:
        """The level below text: logits, float32 [batch, labels], of rows of token ids with their special tokens.

        Rows may have different lengths. Raises InputError like `infer`.
        """
        rows = self.outputs(input_ids)
        return np.stack(rows) if rows else np.empty((0, len(self.labels)), np.float32)

    def decode(self, values: Any) -> dict[str, float]:
        """Third stage: probabilities by label, from float32 logits [labels]."""
        return dict(zip(self.labels, map(float, softmax(np.asarray(values))), strict=True))

    def _result(self, reading: Reading, outputs: list[Values], watch: Stopwatch) -> SentimentResult:
        with watch("decode"):
            probabilities = averaged([softmax(values) for values in outputs], reading)
            best = int(probabilities.argmax())
        return SentimentResult(
            label=self.labels[best],
            score=float(probabilities[best]),
            scores=dict(zip(self.labels, map(float, probabilities), strict=True)),
            **self._facts(reading, watch),
        )
