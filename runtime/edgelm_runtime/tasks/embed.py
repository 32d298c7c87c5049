"""Embeddings: a text to a vector, whose direction says what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..results import EmbeddingResult
from ..timing import Stopwatch
from .encoder import Encoder
from .reading import Reading, Text
from .rows import Progress, Values


class Embed(Encoder[EmbeddingResult]):
    """A model of sentence vectors; how they are pooled from the tokens' is a part of its graph."""

    OUTPUT = "embedding"

    def __call__(self, text: Text, *, prompt_name: str | None = None) -> EmbeddingResult:
        """The vector of one text of any length up to `tokenizer.MAX_CHARACTERS`.

        `prompt_name` is one of `prompts`, by default the bundle's own, and stands before the text. A text over the
        context is cut, or read in overlapping windows, as the bundle says; the result's `notes` name it. Raises
        InputError for empty, blank or too long text and for a prompt that is not there.
        """
        return self._answer(self.reader.read(text, prompt_name))

    def batch(
        self, texts: Iterable[Text], *, prompt_name: str | None = None, progress: Progress | None = None
    ) -> list[EmbeddingResult]:
        """The vectors of many texts behind one prompt, on all threads; results in input order.

        `progress` is called with the number of texts done so far. Raises InputError, naming the first text by its
        number from 1, before anything is inferred.
        """
        return self._answers(self._all_read(texts, prompt_name), progress)

    def try_batch(
        self, texts: Iterable[Text], *, prompt_name: str | None = None, progress: Progress | None = None
    ) -> list[EmbeddingResult | InputError]:
        """Like `batch`, with the InputError in the place of the result for a text that cannot be accepted."""
        return self._tried(texts, progress, prompt_name)

    def vectors(
        self, texts: Iterable[Text], *, prompt_name: str | None = None, progress: Progress | None = None
    ) -> Values:
        """The embeddings of many texts, float32 [texts, width], to fill a search index with. Raises like `batch`."""
        found = [result.embedding for result in self.batch(texts, prompt_name=prompt_name, progress=progress)]
        return np.asarray(found, np.float32).reshape(len(found), self.rows.width)

    @property
    def prompts(self) -> Mapping[str, str]:
        """What may be put before a text, by name."""
        return self.reader.embedding.prompts

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
