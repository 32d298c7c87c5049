"""Embeddings: a text to a vector, whose direction says what it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results import EmbeddingResult
from ..timing import Stopwatch
from .encoder import Encoder
from .reading import Reading
from .rows import Progress, Values


class Embed(Encoder[EmbeddingResult]):
    """A model of sentence vectors; how they are pooled from the tokens' is a part of its graph."""

    OUTPUT = "embedding"

    def vectors(self, texts: Iterable[str], *, progress: Progress | None = None) -> Values:
        """The embeddings of many texts, float32 [texts, width], to fill a search index with. Raises like `batch`."""
        found = [result.embedding for result in self.batch(texts, progress=progress)]
        return np.asarray(found, np.float32).reshape(len(found), self.rows.width)

    def decode(self, values: Any) -> tuple[float, ...]:
        """Third stage: the vector of float32 [width] as plain numbers."""
        return tuple(np.asarray(values, np.float32).tolist())

    def _result(self, reading: Reading, outputs: list[Values], watch: Stopwatch) -> EmbeddingResult:
        with watch("decode"):
            embedding = self.decode(joined(outputs, [len(row.ids) for row in reading.rows]))
        return EmbeddingResult(
            embedding=embedding,
            **self._facts(reading, watch),
        )


def joined(vectors: list[Values], weights: list[int]) -> NDArray[np.float32]:
    """The mean of the windows' vectors [width], as long as they are on average: of vectors of length 1 it is one."""
    if len(vectors) == 1:
        return vectors[0]
    mean = np.average(vectors, axis=0, weights=weights)
    length = float(np.linalg.norm(mean))
    wanted = float(np.average(np.linalg.norm(vectors, axis=1), weights=weights))
    return np.asarray(mean * (wanted / length if length else 0.0), np.float32)
