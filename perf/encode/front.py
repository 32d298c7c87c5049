"""What stands before an engine that takes arrays: padding, and for one without a tokenizer, text in and label out.

Runs in the peers' environments; numpy and tokenizers are imported where they are needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCH = 8
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def padded(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Rows of token ids as BERT's three inputs, int64 [batch, longest], padded with zeros on the right."""
    import numpy as np

    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def copy_texts(checkpoint: Path, out: Path) -> None:
    """Put the files beside a converted model that text needs."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (out / name).exists():
            shutil.copy(checkpoint / name, out / name)


class Front:
    """The `tokenizers` library before a function of logits, the names of the labels behind it."""

    def __init__(self, model: Path, logits: Callable[[Sequence[Sequence[int]]], Any]) -> None:
        from tokenizers import Tokenizer

        config = json.loads((model / "config.json").read_text("utf-8"))
        self._labels: dict[int, str] = {int(index): label for index, label in config["id2label"].items()}
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(config["max_position_embeddings"])
        self._logits = logits

    def answer(self, text: str) -> str:
        """The label of one text."""
        return self._label(self._logits([self._tokenizer.encode(text).ids])[0])

    def answers(self, texts: Sequence[str]) -> list[str]:
        """The labels of many, in eights of similar length."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        labels = [""] * len(rows)
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            for index, logits in zip(chosen, self._logits([rows[index] for index in chosen]), strict=True):
                labels[index] = self._label(logits)
        return labels

    def _label(self, logits: Any) -> str:
        return self._labels[int(logits.argmax())]


class FrontTexts:
    """The texts of an engine that has a `Front`."""

    _front: Front

    def answer(self, text: str) -> object:
        return self._front.answer(text)

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return self._front.answers(texts)


class PipelineTexts:
    """The texts of an engine that has a pipeline of transformers."""

    _pipeline: Any

    def answer(self, text: str) -> object:
        return self._pipeline(text, truncation=True)[0]["label"]

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return [found["label"] for found in self._pipeline(list(texts), truncation=True, batch_size=BATCH)]
