"""From what engines answered to scores: right or wrong for a class, ROUGE-L for a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.metrics import rouge_l
from edgelm_export.reference import Reference
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.tokenizer import TextTokenizer
from perf.fidelity.cases import Labelled, Prompted
from perf.fidelity.harness import Row


def classified(row: Row, rows: Sequence[Labelled]) -> Row:
    """The row with its classes, and 100 for each that is right."""
    row.answers = [int(np.argmax(logits)) for logits in row.rounds[0].logits]
    row.scores = np.array([100.0 * (mine == one.label) for mine, one in zip(row.answers, rows, strict=True)])
    return row


class Texts:
    """Texts of a checkpoint's token ids, and torch's own greedy answers."""

    def __init__(self, checkpoint: Path, tokens: int) -> None:
        self._checkpoint, self._tokens = load_checkpoint(checkpoint), tokens
        self._tokenizer = TextTokenizer(self._checkpoint.tokenizer_json, self._checkpoint.tokenizer)
        self._ends = self._checkpoint.tokenizer.eos_ids

    def reference(self, rows: Sequence[Prompted]) -> list[str]:
        """Torch's answers."""
        model, options = Reference(self._checkpoint), GenerationOptions(max_new_tokens=self._tokens, temperature=0.0)
        return [self.text(model.greedy(row.ids, options, self._ends)) for row in rows]

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer, up to the first end token."""
        return self._tokenizer.decode(list(takewhile(lambda token: token not in self._ends, ids)))

    def scored(self, row: Row, rows: Sequence[Prompted]) -> Row:
        """The row with its texts, and their ROUGE-L."""
        row.answers = [self.text(ids) for ids in row.rounds[0].tokens]
        row.scores = rouge(rows, [str(answer) for answer in row.answers])
        return row


def rouge(rows: Sequence[Prompted], texts: Sequence[str]) -> np.ndarray:
    """ROUGE-L of each text, float64 [rows] in percent."""
    return np.array([100.0 * rouge_l(row.answer, text) for row, text in zip(rows, texts, strict=True)])
