"""Token classification: the spans of a text that have a label, such as brands, sizes and places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results import Entity, TaggingResult
from ..timing import Stopwatch
from .encoder import Encoder
from .probabilities import softmax
from .reading import Reading
from .rows import Values

OUTSIDE = "O"


class Tag(Encoder[TaggingResult]):
    """A token classifier, with labels like B-BRAND, I-BRAND and O, or names alone."""

    BY_TOKEN = True

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
            entities = tuple(spans_of(self.labels, merged(inside, reading.spans), reading))
        return TaggingResult(
            entities=entities,
            **self._facts(reading, watch),
        )


def merged(windows: list[NDArray[np.float64]], spans: list[tuple[int, int]]) -> NDArray[np.float64]:
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


def spans_of(labels: tuple[str, ...], probabilities: NDArray[np.float64], reading: Reading) -> Iterator[Entity]:
    """Neighbouring tokens of one kind as one entity, a new one at every B-; as `aggregation_strategy="simple"`.

    That is the token-classification pipeline's of transformers: the score is the mean of the tokens', and what has the
    label O is left out.
    """
    starts, ends = reading.parts.starts, reading.parts.ends
    best, start = probabilities.argmax(axis=1).tolist(), 0
    parted = [_parted(labels[index]) for index in best]
    for place in range(1, len(best) + 1):
        if place < len(best) and parted[place][1] == parted[start][1] and not parted[place][0]:
            continue
        kind = parted[start][1]
        if kind != OUTSIDE:
            score = float(np.mean([probabilities[token, best[token]] for token in range(start, place)]))
            yield Entity(kind, score, starts[start], ends[place - 1], reading.text[starts[start] : ends[place - 1]])
        start = place


def _parted(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its kind."""
    if label.startswith(("B-", "I-")):
        return label[0] == "B", label[2:]
    return False, label
