"""From a label for every token to entities: tokens to words, words to entities, as transformers' pipeline does it.

Source: `TokenClassificationPipeline.aggregate` of transformers 5, and for the schemes that mark ends the rules of
conlleval and seqeval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..manifest import OUTSIDE
from ..results import Entity

Scores = NDArray[np.float64]  # probabilities [tokens or words, labels]


class Mark(NamedTuple):
    """What a label says: the place in an entity (B begins one, I goes on, E ends one, S is one), and its kind."""

    place: str
    kind: str


class Spans(NamedTuple):
    """Characters of a text that tokens, or words, stand for: from `starts` to `ends`."""

    starts: Sequence[int]
    ends: Sequence[int]


def marks_of(labels: Sequence[str], tags: Mapping[str, str]) -> tuple[Mark, ...]:
    """The mark of every label: by the manifest's `tags`, or where it has none B-KIND, I-KIND and else the kind itself.

    Without a place of its own a label goes on with an entity of its kind, as in transformers.
    """
    if tags:
        return tuple(Mark(tag[0], tag[2:] or OUTSIDE) for tag in (tags[label] for label in labels))
    return tuple(Mark(one[0], one[2:]) if one.startswith(("B-", "I-")) else Mark("I", one) for one in labels)


def words_of(scores: Scores, subwords: Sequence[bool], spans: Spans, aggregation: str) -> tuple[Scores, Spans]:
    """Tokens put together to words: a token that `subwords` marks belongs to the one before.

    A word has the scores of its first token, their average, or those of the token with the largest score ("max").
    """
    starts = [place for place in range(len(subwords)) if place == 0 or not subwords[place]]
    ends = [*starts[1:], len(subwords)]
    found = Spans([spans.starts[start] for start in starts], [spans.ends[end - 1] for end in ends])
    if aggregation == "first":
        return scores[starts], found
    parts = [scores[start:end] for start, end in zip(starts, ends, strict=True)]
    if aggregation == "average":
        return np.stack([part.mean(axis=0) for part in parts]), found
    return np.stack([part[part.max(axis=1).argmax()] for part in parts]), found


def entities_of(scores: Scores, spans: Spans, marks: Sequence[Mark], text: str) -> Iterator[Entity]:
    """Neighbours of one kind as one entity, whose score is the mean of theirs; what is outside is left out.

    A new one begins at B and S, and after E and S; also where a scheme has no such sequence, as in I after nothing.
    """
    best = scores.argmax(axis=1)
    chosen = scores[np.arange(len(best)), best]
    for kind, first, last in grouped([marks[index] for index in best.tolist()]):
        start, end = spans.starts[first], spans.ends[last - 1]
        yield Entity(kind, float(chosen[first:last].mean()), start, end, text[start:end])


def grouped(found: Sequence[Mark]) -> Iterator[tuple[str, int, int]]:
    """The entities of a sequence of marks: kind, the first of its marks, and the last of them plus one."""
    first = 0
    for place in range(1, len(found) + 1):
        if place < len(found) and _goes_on(found[place - 1], found[place]):
            continue
        if found[first].kind != OUTSIDE:
            yield found[first].kind, first, place
        first = place


def _goes_on(before: Mark, after: Mark) -> bool:
    return before.kind == after.kind and before.place not in "ES" and after.place not in "BS"


def tokens_of(scores: Scores, spans: Spans, labels: Sequence[str], text: str) -> Iterator[Entity]:
    """Every token that is not outside by itself, with its label as it is."""
    for row, start, end in zip(scores, spans.starts, spans.ends, strict=True):
        best = int(row.argmax())
        if labels[best] != OUTSIDE:
            yield Entity(labels[best], float(row[best]), start, end, text[start:end])
