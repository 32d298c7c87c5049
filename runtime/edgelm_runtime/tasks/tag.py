"""Token classification: the spans of a text that have a label, such as brands, sizes and places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import InputError
from ..manifest import AGGREGATIONS
from ..placement import DEFAULTS, LoadOptions
from ..results import Entity, TaggingResult
from ..timing import Stopwatch
from .encoder import Encoder
from .entities import Scores, Spans, entities_of, marks_of, tokens_of, words_of
from .probabilities import softmax
from .reading import Reading
from .rows import Values


class Tag(Encoder[TaggingResult]):
    """A token classifier. The bundle's `aggregation` decides how its labels of tokens become entities.

    It takes a text, or one that is split already: a list of words or characters, or
    `{"tokens": [...], "delimiter": ""}`.
    """

    BY_TOKEN = True

    def __init__(self, bundle: Bundle, options: LoadOptions = DEFAULTS) -> None:
        super().__init__(bundle, options)
        self._aggregation = bundle.manifest.aggregation
        self._marks = marks_of(self.labels, bundle.manifest.tags)

    @property
    def aggregation(self) -> str:
        """How tokens become entities: transformers' `aggregation_strategy`."""
        return self._aggregation

    def aggregate(self, aggregation: str) -> None:
        """Answer with another strategy from now on, in all threads. Raises InputError for an unknown one."""
        if aggregation not in AGGREGATIONS:
            raise InputError(f"aggregation is {aggregation!r}; accepted are {', '.join(AGGREGATIONS)}")
        self._aggregation = aggregation

    def decode(self, values: Any) -> list[dict[str, float]]:
        """Third stage: probabilities by label for every token, from float32 logits [tokens, labels]."""
        return [dict(zip(self.labels, row, strict=True)) for row in softmax(np.asarray(values)).tolist()]

    def _result(self, reading: Reading, outputs: list[Values], watch: Stopwatch) -> TaggingResult:
        with watch("decode"):
            before = len(reading.parts.prefix)
            inside = [
                softmax(values[before : before + last - first])
                for (first, last), values in zip(reading.spans, outputs, strict=True)
            ]
            entities = self._entities(merged(inside, reading.spans), reading)
        return TaggingResult(
            entities=entities,
            **self._facts(reading, watch),
        )

    def _entities(self, scores: Scores, reading: Reading) -> tuple[Entity, ...]:
        parts = reading.parts
        read = len(scores)  # of a text over all windows the beginning
        spans = Spans(parts.starts[:read], parts.ends[:read])
        if self._aggregation == "none":
            return tuple(tokens_of(scores, spans, self.labels, reading.text))
        if self._aggregation != "simple":
            subwords = self.tokenizer.subwords(parts, reading.text)[:read]
            scores, spans = words_of(scores, subwords, spans, self._aggregation)
        return tuple(entities_of(scores, spans, self._marks, reading.text))


def merged(windows: list[NDArray[np.float64]], spans: list[tuple[int, int]]) -> Scores:
    """Probabilities [tokens, labels] of a text from those of its windows: a token's where it stands furthest inside."""
    if len(windows) == 1:
        return windows[0]
    whole = np.zeros((spans[-1][1], windows[0].shape[1]))
    depth = np.full(spans[-1][1], -1)
    for (first, last), found in zip(spans, windows, strict=True):
        places = np.arange(first, last)
        inside = np.minimum(places - first, last - 1 - places)
        better = inside > depth[first:last]
        whole[places[better]] = found[better]
        depth[places[better]] = inside[better]
    return whole
